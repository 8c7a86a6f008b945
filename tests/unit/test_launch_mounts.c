// SPDX-License-Identifier: Apache-2.0
/* Launches: rootfs, mounts with their options, links that try to leave the root, masked and read-only paths. */
#include "launch_kit.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>

static void test_readonly_root(void **state)
{
	struct kit_run *k = kit_new();

	kit_run(k, *state,
		&(struct kit_parts){ .root_ro = true,
				     .sh = "touch /x 2>&1; touch /dev/shm/y && echo shm" });
	kit_ok(k);
	kit_has(k, "Read-only file system");
	kit_has(k, "shm");
	kit_done(k);
}

static void test_masked(void **state)
{
	struct kit_run *k = kit_new();

	kit_run(k, *state,
		&(struct kit_parts){
			.lin = ",\"maskedPaths\":[\"/proc/version\",\"/proc/acpi\",\"/proc/irq\",\"/proc/fs\",\"/proc/none\",\"/etc/passwd\"],"
			       "\"readonlyPaths\":[\"/proc/sys\",\"/proc/none\",\"/proc/bus\"]",
			.sh = "stat -c '%n %F %t:%T' /proc/version /etc/passwd; ls /proc/irq /proc/fs; touch /proc/irq/x 2>&1; "
			      "echo 1 2>&1 >/proc/sys/kernel/panic; echo end",
		});
	kit_ok(k);
	kit_has(k, "/proc/version character special file 1:3");
	kit_has(k, "/etc/passwd character special file 1:3");
	kit_has(k, "/proc/fs:\n\n/proc/irq:\n");
	kit_has(k, "Read-only file system");
	kit_has(k, "can't create /proc/sys/kernel/panic: Read-only");
	kit_done(k);
}

/* An image that is out to have things done outside of it. */
static void test_links_stay_inside(void **state)
{
	const struct kit *kit = *state;
	struct kit_run *k;
	char evil[128], json[2048];
	struct stat st;

	snprintf(evil, sizeof(evil), "%s/evil", kit->dir);
	kit_system(
		"rm -rf %s && cp -a %s %s && cd %s && rm -rf etc dev tmp && ln -s / etc && ln -s ../../../../../.. up && ln -s /opt/davit-evil tmp && "
		"ln -s ../../../../opt/davit-evil2 dangling && ln -s loop2 loop1 && ln -s loop1 loop2 && mkdir sub && ln -s ../../../../../etc "
		"sub/etc && ln -s /proc/self/root/tmp magic",
		evil, kit->rootfs, evil, evil);
	snprintf(
		json, sizeof(json),
		",{\"destination\":\"/etc/through\",\"type\":\"tmpfs\"},{\"destination\":\"/up/opt/davit-evil3/x\",\"type\":\"tmpfs\"},"
		"{\"destination\":\"/tmp/sub\",\"type\":\"tmpfs\"},{\"destination\":\"/dangling\",\"type\":\"tmpfs\"},"
		"{\"destination\":\"/sub/etc/deep\",\"type\":\"tmpfs\"},"
		"{\"destination\":\"/sub/../../../../../y\",\"type\":\"bind\",\"source\":\"/bin/busybox\",\"options\":[\"bind\"]}");
	k = kit_new();
	kit_run(k, kit,
		&(struct kit_parts){
			.root = evil,
			.mounts = json,
			.sh = "cut -d' ' -f2 /proc/mounts; test -s /y && echo file-y; ls -d /opt/davit-evil /opt/davit-evil2" });
	kit_ok(k);
	kit_has(k, "\n/through\n");
	kit_has(k, "\n/opt/davit-evil3/x\n");
	kit_has(k, "\n/opt/davit-evil/sub\n");
	kit_has(k, "\n/opt/davit-evil2\n");
	kit_has(k, "\n/deep\n");
	kit_has(k, "file-y");
	kit_done(k);
	assert_int_equal(stat("/opt/davit-evil", &st), -1);
	assert_int_equal(stat("/opt/davit-evil2", &st), -1);
	assert_int_equal(stat("/opt/davit-evil3", &st), -1);
	assert_int_equal(stat("/through", &st), -1);
	assert_int_equal(stat("/deep", &st), -1);
	assert_int_equal(stat("/y", &st), -1);
	k = kit_new();
	kit_run(k, kit,
		&(struct kit_parts){
			.root = evil,
			.mounts = ",{\"destination\":\"/loop1/x\",\"type\":\"tmpfs\"}" });
	assert_true(k->failed);
	assert_int_equal(k->fault.err, ELOOP);
	kit_done(k);
	k = kit_new();
	kit_run(k, kit,
		&(struct kit_parts){
			.root = evil,
			.mounts = ",{\"destination\":\"/magic/x\",\"type\":\"tmpfs\"}" });
	assert_true(k->failed);
	kit_done(k);
	assert_int_equal(stat("/tmp/x", &st), -1);
}

static void test_proc_must_be_proc(void **state)
{
	const struct kit *kit = *state;
	struct kit_run *k = kit_new();
	char evil[128];

	/* /proc/sysrq-trigger leads to an ordinary file: masking it would mask nothing */
	snprintf(evil, sizeof(evil), "%s/evil-proc", kit->dir);
	kit_system(
		"rm -rf %s && cp -a %s %s && rmdir %s/proc && mkdir %s/elsewhere && ln -s elsewhere %s/proc && touch %s/elsewhere/version",
		evil, kit->rootfs, evil, evil, evil, evil, evil);
	kit_run(k, kit,
		&(struct kit_parts){
			.root = evil,
			.lin = ",\"maskedPaths\":[\"/proc/version\"]",
			.sh = "stat -c '%F %t:%T' /proc/version; cut -d' ' -f1,2 /proc/mounts" });
	kit_ok(k);
	/* the link is resolved inside, by mount and mask alike */
	kit_has(k, "character special file 1:3");
	kit_has(k, "proc /elsewhere\n");
	kit_done(k);
}

static void test_bind_options(void **state)
{
	const struct kit *kit = *state;
	struct kit_run *k = kit_new();
	char mounts[2048];

	kit_system("mkdir -p %s/src/sub && echo data >%s/src/file && echo one >%s/one", kit->dir,
		   kit->dir, kit->dir);
	snprintf(
		mounts, sizeof(mounts),
		",{\"destination\":\"/b/ro\",\"type\":\"bind\",\"source\":\"%s/src\",\"options\":[\"rbind\",\"ro\",\"nosuid\",\"nodev\","
		"\"noexec\",\"rprivate\"]},"
		"{\"destination\":\"/b/rw\",\"type\":\"none\",\"source\":\"%s/src\",\"options\":[\"bind\",\"noatime\",\"nosymfollow\"]},"
		"{\"destination\":\"/b/file\",\"source\":\"%s/one\",\"options\":[\"bind\",\"ro\"]},"
		"{\"destination\":\"/b/rslave\",\"type\":\"bind\",\"source\":\"%s/src\",\"options\":[\"rbind\",\"rslave\"]},"
		"{\"destination\":\"/b/rshared\",\"type\":\"bind\",\"source\":\"%s/src\",\"options\":[\"rbind\",\"rshared\"]},"
		"{\"destination\":\"/b/unbindable\",\"type\":\"bind\",\"source\":\"%s/src\",\"options\":[\"unbindable\"]}",
		kit->dir, kit->dir, kit->dir, kit->dir, kit->dir, kit->dir);
	kit_run(k, kit,
		&(struct kit_parts){
			.mounts = mounts,
			.sh = "grep /b/ /proc/self/mountinfo; cat /b/ro/file /b/file; touch /b/ro/x 2>&1; "
			      "touch /b/rw/made && ls /b/ro; echo x 2>&1 >/b/file; rm /b/rw/made 2>/dev/null; true" });
	kit_ok(k);
	kit_has(k, " /b/ro ro,nosuid,nodev,noexec,relatime");
	kit_has(k, " /b/rw rw,noatime,nosymfollow");
	kit_has(k, " /b/file ro,");
	kit_has(k, "unbindable");
	kit_has(k, " shared:");
	kit_has(k, "data\none\n");
	kit_has(k, "Read-only");
	kit_has(k, "made");
	kit_done(k);
}

static void test_recursive_attributes(void **state)
{
	const struct kit *kit = *state;
	struct kit_run *k;
	char mounts[1024], path[160];

	kit_system("mkdir -p %s/tree/sub", kit->dir);
	snprintf(path, sizeof(path), "%s/tree/sub", kit->dir);
	assert_int_equal(mount("tmpfs", path, "tmpfs", MS_NOSUID, NULL), 0);
	snprintf(
		mounts, sizeof(mounts),
		",{\"destination\":\"/ro\",\"type\":\"bind\",\"source\":\"%s/tree\",\"options\":[\"rbind\",\"ro\"]},"
		"{\"destination\":\"/rro\",\"type\":\"bind\",\"source\":\"%s/tree\",\"options\":[\"rbind\",\"rro\",\"rnoexec\",\"rsuid\"]},"
		"{\"destination\":\"/one\",\"type\":\"bind\",\"source\":\"%s/tree\",\"options\":[\"bind\"]},"
		"{\"destination\":\"/tm\",\"type\":\"tmpfs\",\"options\":[\"rro\",\"nosuid\",\"strictatime\",\"size=1m\",\"nr_inodes=10\"]}",
		kit->dir, kit->dir, kit->dir);
	k = kit_new();
	kit_run(k, kit,
		&(struct kit_parts){
			.mounts = mounts,
			.sh = "touch /ro/sub/x && echo sub-writable; touch /rro/sub/y 2>&1; grep -E ' /(r|tm|one)' /proc/self/mountinfo" });
	umount2(path, MNT_DETACH);
	kit_ok(k);
	kit_has(k, "sub-writable");
	kit_has(k, "Read-only");
	kit_has(k, " /ro ro,");
	kit_has(k, " /ro/sub rw,nosuid");
	kit_has(k, " /rro/sub ro,noexec");
	kit_has(k, " /tm ro,nosuid - tmpfs tmpfs rw,size=1024k,nr_inodes=10");
	assert_null(strstr(k->out, " /one/sub"));
	kit_done(k);
}

static void test_bad_mounts(void **state)
{
	static const struct {
		const char *mount, *says;
		bool at_new;
	} rows[] = {
		{ ",{\"destination\":\"/x\",\"type\":\"bind\",\"source\":\"/no/such\"}", "/no/such",
		  true },
		{ ",{\"destination\":\"/x\",\"type\":\"bind\",\"source\":\"rel\"}", "bundle",
		  true },
		{ ",{\"destination\":\"/x\",\"type\":\"bind\",\"source\":\"/tmp\",\"options\":[\"rbnid\"]}",
		  "rbnid", true },
		{ ",{\"destination\":\"/\",\"type\":\"tmpfs\"}", "root", true },
		{ ",{\"destination\":\"/x\"}", "mounts", true },
		{ ",{\"destination\":\"/x\",\"type\":\"tmpfs\",\"options\":[\"nonsense=1\"]}",
		  "mount tmpfs to /x", false },
		{ ",{\"destination\":\"/bin/sh/x\",\"type\":\"tmpfs\"}", "/bin/sh/x", false },
		{ ",{\"destination\":\"/x\",\"type\":\"tmpfs\",\"options\":[\"idmap\"]}",
		  "id-mapped", true },
		{ ",{\"destination\":\"/sys/fs/cgroup\",\"type\":\"cgroup\"}", "no cgroup", true },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct kit_run *k = kit_new();

		kit_run(k, *state, &(struct kit_parts){ .mounts = rows[i].mount });
		if (k->at_new != rows[i].at_new || (!k->at_new && !k->failed) ||
		    !strstr(k->fault.message, rows[i].says)) {
			kit_show(k);
			fail_msg("%s", rows[i].mount);
		}
		kit_done(k);
	}
}

static void test_tmpfs(void **state)
{
	const struct kit *kit = *state;
	struct kit_run *k = kit_new();

	kit_system(
		"mkdir -p %s/full/sub/deep && cd %s/full && echo text >sub/deep/file && chmod 640 sub/deep/file && ln -s sub link && "
		"chmod 2750 sub && chown 12:34 sub && mkfifo pipe && chmod 1711 . && ln -s x dangling",
		kit->rootfs, kit->rootfs);
	kit_run(k, kit,
		&(struct kit_parts){
			.mounts =
				",{\"destination\":\"/full\",\"type\":\"tmpfs\",\"options\":[\"tmpcopyup\",\"size=1m\"]},"
				"{\"destination\":\"/new/one\",\"type\":\"tmpfs\"},"
				"{\"destination\":\"/root\",\"type\":\"tmpfs\",\"options\":[\"mode=0700\",\"ro\"]}",
			.sh = "stat -c '%n %a %u:%g %F' /full /full/sub /full/sub/deep/file /full/pipe /new/one /root; "
			      "cat /full/link/deep/file; readlink /full/dangling; echo x >/full/sub/deep/file; touch /root/x 2>&1" });
	assert_int_equal(k->r, 0);
	kit_has(k, "/full 1711 0:0 directory");
	kit_has(k, "/full/sub 2750 12:34 directory");
	kit_has(k, "/full/sub/deep/file 640 0:0");
	kit_has(k, "/full/pipe 644 0:0 fifo");
	kit_has(k, "/new/one 1777 ");
	kit_has(k, "/root 700 ");
	kit_has(k, "text\nx\n");
	kit_has(k, "Read-only");
	kit_done(k);
	/* the image is as it was */
	kit_system("grep -q text %s/full/sub/deep/file && rm -r %s/full", kit->rootfs, kit->rootfs);
}

static void test_readonly_dev(void **state)
{
	struct kit_run *k = kit_new();

	/* devices, and the target of another mount, are made before it is closed */
	kit_run(k, *state,
		&(struct kit_parts){
			.all_mounts = "{\"destination\":\"/proc\",\"type\":\"proc\"},"
				      "{\"destination\":\"/dev\",\"type\":\"tmpfs\",\"options\":["
				      "\"ro\",\"nosuid\",\"mode=755\"]},"
				      "{\"destination\":\"/dev/shm\",\"type\":\"tmpfs\"}",
			.sh = "echo x >/dev/null; touch /dev/shm/y && echo shm; touch /dev/z 2>&1; "
			      "grep ' /dev ' /proc/mounts" });
	kit_ok(k);
	kit_has(k, "shm\n");
	kit_has(k, "Read-only");
	kit_has(k, "tmpfs /dev tmpfs ro,nosuid");
	kit_done(k);
}

static void test_symlink_options(void **state)
{
	const struct kit *kit = *state;
	struct kit_run *k = kit_new();
	char mounts[1024];

	kit_system(
		"rm -f %s/lnk %s/target; echo t >%s/target; ln -s target %s/lnk; mkdir -p %s/real; ln -sfn real %s/tolink",
		kit->dir, kit->dir, kit->dir, kit->dir, kit->rootfs, kit->rootfs);
	snprintf(
		mounts, sizeof(mounts),
		",{\"destination\":\"/copied\",\"type\":\"bind\",\"source\":\"%s/lnk\",\"options\":[\"bind\",\"copy-symlink\"]},"
		"{\"destination\":\"/followed\",\"type\":\"bind\",\"source\":\"%s/lnk\",\"options\":[\"bind\"]},"
		"{\"destination\":\"/tolink\",\"type\":\"tmpfs\"}",
		kit->dir, kit->dir);
	kit_run(k, kit,
		&(struct kit_parts){
			.mounts = mounts,
			.sh = "readlink /copied; cat /followed; grep -c ' /real ' /proc/mounts" });
	kit_ok(k);
	assert_string_equal(k->out, "target\nt\n1\n");
	kit_done(k);
	k = kit_new();
	snprintf(
		mounts, sizeof(mounts),
		",{\"destination\":\"/tolink\",\"type\":\"bind\",\"source\":\"%s/target\",\"options\":[\"bind\",\"dest-nofollow\"]}",
		kit->dir);
	kit_run(k, kit, &(struct kit_parts){ .mounts = mounts, .sh = "cat /tolink" });
	kit_ok(k);
	assert_string_equal(k->out, "t\n");
	kit_done(k);
}

static void test_remount(void **state)
{
	struct kit_run *k = kit_new();

	kit_run(k, *state,
		&(struct kit_parts){
			.mounts =
				",{\"destination\":\"/tm\",\"type\":\"tmpfs\"},"
				"{\"destination\":\"/tm\",\"type\":\"tmpfs\",\"options\":[\"remount\",\"ro\",\"nosuid\"]},"
				"{\"destination\":\"/dev/shm\",\"type\":\"bind\",\"options\":[\"bind\",\"remount\",\"ro\"]}",
			.sh = "grep -E ' /(tm|dev/shm) ' /proc/mounts" });
	kit_ok(k);
	kit_has(k, "tmpfs /tm tmpfs ro,nosuid,relatime");
	kit_has(k, "shm /dev/shm tmpfs ro,nosuid,nodev,noexec");
	kit_done(k);
}

static void test_existing_nodes(void **state)
{
	const struct kit *kit = *state;
	struct kit_run *k = kit_new();
	char root[128];

	/* /dev of the image itself, with an ordinary file where a device should be */
	snprintf(root, sizeof(root), "%s/olddev", kit->dir);
	kit_system("rm -rf %s && cp -a %s %s && touch %s/dev/null && mknod %s/dev/zero c 1 5", root,
		   kit->rootfs, root, root, root);
	kit_run(k, kit,
		&(struct kit_parts){
			.root = root,
			.all_mounts = "{\"destination\":\"/proc\",\"type\":\"proc\"}",
			.sh = "stat -c '%n %t:%T' /dev/null /dev/zero /dev/full",
		});
	kit_ok(k);
	kit_has(k, "/dev/null 1:3\n/dev/zero 1:5\n/dev/full 1:7\n");
	kit_done(k);
	kit_system("rm %s/dev/null && ln -s /etc/passwd %s/dev/null", root, root);
	k = kit_new();
	kit_run(k, kit,
		&(struct kit_parts){
			.root = root,
			.all_mounts = "{\"destination\":\"/proc\",\"type\":\"proc\"}" });
	assert_true(k->failed);
	assert_string_equal(k->fault.path, "/dev/null");
	kit_done(k);
}

static void test_no_pivot(void **state)
{
	struct kit_run *k = kit_new();

	k->no_pivot = true;
	kit_run(k, *state,
		&(struct kit_parts){
			.root_ro = true,
			.sh = "ls /; cd ..; cd ../..; pwd; test -f /bin/busybox; touch /x 2>&1; true" });
	kit_ok(k);
	kit_has(k, "bin\n");
	kit_has(k, "/\n");
	kit_has(k, "Read-only");
	kit_done(k);
}

static void test_propagation(void **state)
{
	const struct kit *kit = *state;
	static const char *const kinds[] = { "shared",	"rslave",   "slave",
					     "private", "rprivate", "unbindable" };
	unsigned before = kit_lines("/proc/self/mountinfo", ((struct kit *)*state)->dir);

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct kit_run *k = kit_new();
		char lin[128];

		snprintf(lin, sizeof(lin), ",\"rootfsPropagation\":\"%s\"", kinds[i]);
		kit_run(k, kit,
			&(struct kit_parts){
				.lin = lin,
				.sh = "grep ' / / ' /proc/self/mountinfo; cat /proc/self/mountinfo | head -1" });
		kit_ok(k);
		if (!strcmp(kinds[i], "shared"))
			kit_has(k, "shared:");
		if (!strcmp(kinds[i], "unbindable"))
			kit_has(k, "unbindable");
		kit_done(k);
	}
	/* nothing of it reached the host */
	assert_int_equal(kit_lines("/proc/self/mountinfo", ((struct kit *)*state)->dir), before);
}

/* On a host whose mounts are shared, as systemd has them, a container with shared propagation takes none of them away. */
static void test_shared_host(void **state)
{
	pid_t pid = fork();
	int st;

	if (!pid) {
		struct kit_run *k = kit_new();
		unsigned before, after;

		if (unshare(CLONE_NEWNS) < 0 ||
		    mount(NULL, "/", NULL, MS_SHARED | MS_REC, NULL) < 0)
			_exit(2);
		before = kit_lines("/proc/self/mountinfo", NULL);
		kit_run(k, *state,
			&(struct kit_parts){ .lin = ",\"rootfsPropagation\":\"rshared\"",
					     .sh = "head -1 /proc/self/mountinfo" });
		after = kit_lines("/proc/self/mountinfo", NULL);
		_exit(k->r || k->status		   ? 3
		      : before != after		   ? 4
		      : !strstr(k->out, "shared:") ? 5
						   : 0);
	}
	assert_int_equal(waitpid(pid, &st, 0), pid);
	assert_int_equal(st, 0);
}

static void test_rootfs_list(void **state)
{
	const struct kit *kit = *state;
	char lower[256], upper[160], work[160], point[128];
	const char *overlay[3] = { lower, upper, work };
	static const char *const ro[] = { "rbind", "ro" };
	struct launch_mount mounts[2] = {
		{ .type = "overlay", .source = "overlay", .options = overlay, .n_options = 3 },
		{ .type = "tmpfs", .source = "tmpfs", .target = "/scratch" }
	};
	struct launch_mount bind = {
		.type = "bind", .source = kit->rootfs, .options = ro, .n_options = 2
	};
	struct kit_run *k = kit_new();

	kit_system("cd %s && mkdir -p l1 up wk mp && echo one >l1/layer", kit->dir);
	snprintf(lower, sizeof(lower), "lowerdir=%s/l1:%s", kit->dir, kit->rootfs);
	snprintf(upper, sizeof(upper), "upperdir=%s/up", kit->dir);
	snprintf(work, sizeof(work), "workdir=%s/wk", kit->dir);
	snprintf(point, sizeof(point), "%s/mp", kit->dir);
	k->mounts = mounts;
	k->n_mounts = 2;
	k->rootfs_dir = point;
	kit_run(k, kit,
		&(struct kit_parts){
			.root = "/does/not/exist",
			.sh = "cat /layer; echo new >/made; grep -E ' (/|/scratch) ' /proc/mounts" });
	kit_ok(k);
	kit_has(k, "one\n");
	kit_has(k, "overlay / overlay");
	kit_has(k, "tmpfs /scratch tmpfs");
	kit_done(k);
	kit_system("grep -q new %s/up/made && test ! -e %s/mp/bin", kit->dir, kit->dir);

	/* the rootfs is looked at by the child alone */
	k = kit_new();
	k->mounts = mounts;
	k->n_mounts = 1;
	k->rootfs_dir = point;
	kit_run(k, kit, &(struct kit_parts){ .root = "/does/not/exist", .args = "[\"nope\"]" });
	assert_false(k->at_new);
	assert_false(k->ready);
	assert_true(k->failed);
	assert_int_equal(k->fault.exit_code, 127);
	assert_int_equal(k->fault.code, FAULT_NOT_FOUND);
	kit_done(k);
	k = kit_new();
	k->mounts = mounts;
	k->n_mounts = 1;
	k->rootfs_dir = point;
	kit_run(k, kit,
		&(struct kit_parts){ .root = "/does/not/exist", .args = "[\"/etc/passwd\"]" });
	assert_true(k->failed);
	assert_int_equal(k->fault.exit_code, 126);
	kit_done(k);

	k = kit_new();
	k->mounts = &bind;
	k->n_mounts = 1;
	k->rootfs_dir = point;
	kit_run(k, kit,
		&(struct kit_parts){
			.root = "/does/not/exist",
			.args = "[\"sh\",\"-c\",\"touch /x 2>&1; ls /bin/busybox\"]" });
	kit_ok(k);
	kit_has(k, "Read-only");
	kit_done(k);

	k = kit_new();
	mounts[0].type = "overlay";
	overlay[0] = "lowerdir=/no/such/layer";
	k->mounts = mounts;
	k->n_mounts = 1;
	k->rootfs_dir = point;
	kit_run(k, kit, &(struct kit_parts){ .root = "/does/not/exist" });
	assert_true(k->failed);
	assert_string_equal(k->fault.step, "mount rootfs");
	kit_done(k);
}

static void test_long_overlay(void **state)
{
	const struct kit *kit = *state;
	char *lower = calloc(1, 16384), point[128], deep[256];
	const char *options[1] = { lower };
	struct launch_mount mount = {
		.type = "overlay", .source = "overlay", .options = options, .n_options = 1
	};
	struct kit_run *k = kit_new();
	size_t at = 0;

	/* forty layers of a hundred and fifty bytes are more than a page */
	snprintf(
		deep, sizeof(deep),
		"%s/a-rather-long-folder-name-as-a-store-of-layers-would-have-it/io.containerd.snapshotter.v1.overlayfs/snapshots",
		kit->dir);
	kit_system(
		"mkdir -p %s %s/mp && cd %s && for i in $(seq 10 49); do mkdir -p $i/fs && echo $i >$i/fs/layer$i; done && cp -a %s/. 49/fs/",
		deep, kit->dir, deep, kit->rootfs);
	at += (size_t)sprintf(lower, "lowerdir=");
	for (int i = 10; i < 50; i++)
		at += (size_t)sprintf(lower + at, "%s%s/%d/fs", i > 10 ? ":" : "", deep, i);
	assert_true(at > 4096);
	snprintf(point, sizeof(point), "%s/mp", kit->dir);
	k->mounts = &mount;
	k->n_mounts = 1;
	k->rootfs_dir = point;
	kit_run(k, kit,
		&(struct kit_parts){ .root = "/does/not/exist",
				     .sh = "cat /layer10 /layer31 /layer49" });
	kit_ok(k);
	assert_string_equal(k->out, "10\n31\n49\n");
	kit_done(k);
	free(lower);
}

static void test_cgroup_mount(void **state)
{
	static const char *const mount =
		",{\"destination\":\"/sys\",\"type\":\"sysfs\",\"options\":[\"ro\"]},"
		"{\"destination\":\"/sys/fs/cgroup\",\"type\":\"cgroup\",\"options\":[\"nosuid\",\"noexec\",\"ro\"]}";
	char parent[64], own_path[80];
	struct cgroup_host *host = kit_cgroups(parent, sizeof(parent));

	snprintf(own_path, sizeof(own_path), ":%s/a\n", parent);
	for (int own = 0; own < 2; own++) {
		struct kit_run *k = kit_new();

		k->cgroup = kit_cgroup(host, parent);
		kit_run(k, *state,
			&(struct kit_parts){
				.ns = own ? KIT_NS ",{\"type\":\"network\"},{\"type\":\"cgroup\"}"
					  : KIT_NS ",{\"type\":\"network\"}",
				.mounts = mount,
				.sh = "cat /proc/self/cgroup; ls /sys/fs/cgroup; grep cgroup /proc/self/mountinfo; "
				      "cat /sys/fs/cgroup/pids/cgroup.procs; touch /sys/fs/cgroup/x 2>&1; "
				      "mkdir /sys/fs/cgroup/pids/x 2>&1; true" });
		kit_ok(k);
		kit_has(k, own ? ":/\n" : own_path);
		kit_has(k, "Read-only");
		if (cgroup_host_layout(host) != CGROUP_V2) {
			kit_has(k, "pids\n");
			kit_has(k, " /sys/fs/cgroup ro,nosuid,noexec,relatime");
			/* init itself is in it, and nothing outside of the container */
			kit_has(k, "\n1\n");
		}
		assert_null(strstr(k->out, own ? "davit-launch-" : "process_api"));
		kit_cgroup_end(k->cgroup);
		kit_done(k);
	}
	kit_cgroups_end(host, parent);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_readonly_root),
		cmocka_unit_test(test_masked),
		cmocka_unit_test(test_links_stay_inside),
		cmocka_unit_test(test_proc_must_be_proc),
		cmocka_unit_test(test_bind_options),
		cmocka_unit_test(test_recursive_attributes),
		cmocka_unit_test(test_bad_mounts),
		cmocka_unit_test(test_tmpfs),
		cmocka_unit_test(test_readonly_dev),
		cmocka_unit_test(test_symlink_options),
		cmocka_unit_test(test_remount),
		cmocka_unit_test(test_existing_nodes),
		cmocka_unit_test(test_no_pivot),
		cmocka_unit_test(test_propagation),
		cmocka_unit_test(test_shared_host),
		cmocka_unit_test(test_rootfs_list),
		cmocka_unit_test(test_long_overlay),
		cmocka_unit_test(test_cgroup_mount),
	};

	return cmocka_run_group_tests(tests, kit_setup, kit_teardown);
}
