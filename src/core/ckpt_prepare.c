// SPDX-License-Identifier: Apache-2.0
/*
 * tasks.checkpoint, before criu: what the container is made of
 *
 * On a worker. Everything is read from the kernel, not from the spec: which mounts there are, which
 * network namespace, what the standard streams are connected to. The findings go into the record that
 * a restore will read, and into criu's command line.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "core/ckpt_internal.h"
#include "core/container.h"
#include "core/labels.h"
#include "runtime/spec.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/fd.h"
#include "util/json.h"

DEFINE_CLEANUP(struct spec *, spec_free)

#define MOUNTINFO_MOST (16u << 20)
#define TMPFS_MUCH (256u << 10)

/* ---- namespaces */

static uint64_t ns_inode(pid_t pid, const char *name)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, name);
	return stat(path, &st) == 0 ? st.st_ino : 0;
}

/*
 * criu saves a namespace that is shared with others like one's own, so what is restored has one of its own. A
 * task that runs on loses nothing by that; one that is to end would.
 */
static int check_shared(const struct ckpt *ck, const struct spec *spec, struct fault *f)
{
	static const struct {
		enum spec_ns_kind kind;
		const char *name;
	} kinds[] = { { SPEC_NS_IPC, "ipc" }, { SPEC_NS_UTS, "uts" } };

	for (size_t i = 0; ck->o.exit && i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (spec->ns[kinds[i].kind].given && spec->ns[kinds[i].kind].path)
			return fault_set(
				f, FAULT_FAILED_PRECONDITION, 0,
				"the container shares the %s namespace of another (%s), which a restore cannot give it again; a checkpoint can only be taken without options.exit",
				kinds[i].name, spec->ns[kinds[i].kind].path);
	return 0;
}

static int find_net(struct ckpt *ck, const struct spec *spec, uint64_t *outside, struct fault *f)
{
	uint64_t inode = ns_inode(ck->pid, "net");
	bool empty = false, nft = false;
	int r;

	*outside = 0;
	if (inode == ns_inode(getpid(), "net")) {
		ck->record.net = CKPT_NET_HOST;
		return 0;
	}
	if (spec->ns[SPEC_NS_NETWORK].given && spec->ns[SPEC_NS_NETWORK].path) {
		ck->record.net = CKPT_NET_SHARED;
		*outside = inode;
		return 0;
	}
	r = ckpt_net_is_empty(ck->pid, &empty, &nft, f);
	if (r < 0)
		return r;
	/* one that is handed in would not belong to the container's user namespace */
	ck->record.net = empty && !ck->o.n_empty && !ck->record.user_ns ? CKPT_NET_EMPTY
									: CKPT_NET_DUMPED;
	ck->record.net_rules = nft && !ck->o.n_empty;
	if (ck->record.net == CKPT_NET_EMPTY)
		*outside = inode;
	return 0;
}

/* ---- mounts */

static int find_mounts(struct ckpt *ck, char **container, struct fault *f)
{
	CLEANUP_FREE char *host = NULL;
	char path[64];
	int r;

	snprintf(path, sizeof(path), "/proc/%d/mountinfo", (int)ck->pid);
	r = fd_read_file(AT_FDCWD, path, MOUNTINFO_MOST, container, NULL);
	if (!r)
		r = fd_read_file(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MOST, &host, NULL);
	if (r < 0)
		return fault_sys(f, -r, "read", path);
	return criu_mounts_read(&ck->record.mounts, *container, host, f);
}

/*
 * Whether a mount is a tmpfs with so much in it that packing it takes longer than starting a program. One
 * that is not limited does not tell.
 */
static bool holds_much(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC &&
	       (!fs.f_blocks ||
		(uint64_t)(fs.f_blocks - fs.f_bfree) * (uint64_t)fs.f_bsize > TMPFS_MUCH);
}

/* All of them, so that a restore can make those that are not in its root. */
static int find_mountpoints(struct ckpt *ck, const char *mountinfo, struct fault *f)
{
	CLEANUP_CLOSE int root = -1;
	struct ckpt_record *r = &ck->record;
	char **paths, path[64];
	size_t n;
	int e = 0;

	snprintf(path, sizeof(path), "/proc/%d/root", (int)ck->pid);
	root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return fault_sys(f, errno, "open", path);
	if (criu_mount_paths(mountinfo, &paths, &n) < 0)
		return fault_sys(f, ENOMEM, "read the mounts of", "the container");
	r->mountpoints = calloc(n + 1, sizeof(r->mountpoints[0]));
	if (!r->mountpoints)
		e = fault_sys(f, ENOMEM, "read the mounts of", "the container");
	for (size_t i = 0; i < n; i++) {
		struct stat st = { .st_mode = S_IFDIR };
		int fd = e ? -1 : fd_open_in_root(root, paths[i], O_PATH, 0);

		if (fd >= 0) {
			(void)fstat(fd, &st);
			ck->run->store_gzip |= holds_much(fd);
			close(fd);
		}
		if (!e)
			r->mountpoints[r->n_mountpoints++] =
				(struct ckpt_mountpoint){ TAKE_PTR(paths[i]), S_ISDIR(st.st_mode) };
		free(paths[i]);
	}
	free(paths);
	return e;
}

/* ---- streams */

/* Whether a mount id of an fd is one of the container's. */
static bool has_mount(const char *mountinfo, long id)
{
	char word[32];
	size_t n = (size_t)snprintf(word, sizeof(word), "%ld ", id);

	for (const char *p = mountinfo; p && *p; p = strchr(p, '\n')) {
		p += *p == '\n';
		if (!strncmp(p, word, n))
			return true;
	}
	return false;
}

static long mount_of_fd(pid_t pid, int fd)
{
	CLEANUP_FREE char *text = NULL;
	char path[64];
	const char *at;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", (int)pid, fd);
	if (fd_read_file(AT_FDCWD, path, 4096, &text, NULL) < 0)
		return -1;
	at = strstr(text, "mnt_id:");
	return at ? strtol(at + 7, NULL, 10) : -1;
}

/*
 * What a standard stream is connected to, when that is outside: a pipe by its inode, a file that no
 * mount of the container leads to by mount and inode. The terminal is told apart by `tty`.
 */
static int find_stream(struct ckpt *ck, int n, const char *mountinfo, struct fault *f)
{
	char path[64], link[128];
	struct stat st;
	ssize_t size;
	long mount;
	char *key = NULL;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)ck->pid, n);
	size = readlink(path, link, sizeof(link) - 1);
	if (size < 0 || stat(path, &st) < 0)
		return 0; /* it has closed it */
	link[size] = '\0';
	if (ck->has_terminal && S_ISCHR(st.st_mode) && major(st.st_rdev) == 136) {
		if (*ck->record.tty)
			return 0;
		free(ck->record.tty);
		if (asprintf(&ck->record.tty, "%llx:%llx", (unsigned long long)st.st_rdev,
			     (unsigned long long)st.st_dev) < 0)
			ck->record.tty = NULL;
		return ck->record.tty ? 0 : fault_sys(f, ENOMEM, "look at", path);
	}
	/* what it was given: a shell has another file there while it runs its own commands with "> file" */
	if (ck->stdio_pipes[n] && !ck->has_terminal) {
		if (asprintf(&key, "pipe:[%llu]", (unsigned long long)ck->stdio_pipes[n]) < 0)
			key = NULL;
	} else if (!strncmp(link, "pipe:[", 6)) {
		/* without a stream of ours it is one that the container has made itself */
		key = ck->stdio_kinds[n] == STDIO_NONE ? strdup("") : strdup(link);
	} else if (link[0] == '/') {
		mount = mount_of_fd(ck->pid, n);
		if (mount < 0 || has_mount(mountinfo, mount))
			key = strdup("");
		else if (asprintf(&key, "file[%lx:%llx]", (unsigned long)mount,
				  (unsigned long long)st.st_ino) < 0)
			key = NULL;
	} else {
		key = strdup("");
	}
	if (!key)
		return fault_sys(f, ENOMEM, "look at", path);
	free(ck->record.stdio[n]);
	ck->record.stdio[n] = key;
	return 0;
}

/* ---- the record */

static int set(char **to, const char *text)
{
	free(*to);
	*to = strdup(text ? text : "");
	return *to ? 0 : -ENOMEM;
}

static int fill_record(struct ckpt *ck, const char *spec_text, size_t spec_size, struct fault *f)
{
	struct ckpt_record *r = &ck->record;
	struct utsname u;
	int e;

	uname(&u);
	e = set(&r->id, ck->id);
	e |= set(&r->ns, ck->ns);
	e |= set(&r->image, ck->image);
	e |= set(&r->runtime, ck->container_runtime);
	e |= set(&r->snapshotter, ck->snapshotter);
	e |= set(&r->kernel, u.release);
	e |= set(&r->criu_version, "");
	e |= set(&r->davit_version, DAVIT_VERSION);
	e |= set(&r->tty, "");
	for (int n = 0; n < 3; n++)
		e |= set(&r->stdio[n], "");
	e |= set(&r->cgroups_mode, ck->o.cgroups_mode ? ck->o.cgroups_mode : "ignore");
	r->empty_namespaces = calloc(ck->o.n_empty + 1, sizeof(char *));
	for (size_t i = 0; r->empty_namespaces && i < ck->o.n_empty; i++) {
		r->empty_namespaces[i] = strdup(ck->o.empty_namespaces[i]);
		r->n_empty = i + 1;
		e |= r->empty_namespaces[i] ? 0 : -ENOMEM;
	}
	r->labels = json_object_new_object();
	if (e || !r->empty_namespaces || !r->labels)
		return fault_sys(f, ENOMEM, "write the record of", ck->id);
	for (size_t i = 0; i < ck->labels->n; i++)
		json_object_object_add(r->labels, ck->labels->v[i].key,
				       json_object_new_string(ck->labels->v[i].value));
	r->created_at = clock_now();
	r->open_tcp = ck->o.open_tcp;
	r->external_unix_sockets = ck->o.external_unix_sockets;
	r->shell_job = ck->o.terminal;
	r->file_locks = ck->o.file_locks;
	r->link_remap = ck->o.link_remap;
	r->left_running = !ck->o.exit;
	r->terminal = ck->has_terminal;
	return json_parse(spec_text, spec_size, &r->spec, f);
}

/* ---- criu's command line */

static int write_args(struct ckpt *ck, uint64_t net_outside, struct fault *f)
{
	const char *files[3];
	struct criu_run *run = ck->run;
	struct criu_dump d = {
		.c = {
			.program = run->program,
			.images_dir = ck->o.image_path ? ck->o.image_path : run->dir,
			.work_dir = ck->o.work_path ? ck->o.work_path : run->dir,
			.stream = !ck->o.image_path,
			.open_tcp = ck->o.open_tcp,
			.external_unix_sockets = ck->o.external_unix_sockets,
			.shell_job = ck->o.terminal || ck->has_terminal,
			.file_locks = ck->o.file_locks,
			.link_remap = ck->o.link_remap,
			.cgroups_mode = ck->o.cgroups_mode,
			.network_lock = ck->o.network_lock,
			.empty_namespaces = (const char *const *)ck->o.empty_namespaces,
			.n_empty = ck->o.n_empty,
			.log_level = 2,
		},
		.pid = ck->pid,
		.leave_running = !ck->o.exit,
		.mounts = &ck->record.mounts,
		.net_inode = net_outside,
		.freeze_cgroup = ck->paused ? ck->freezer : NULL,
	};
	CLEANUP_FREE char *script = NULL;

	/*
	 * a frozen process sends nothing: only where peers might must the network be kept still; with
	 * one table of nftables, which goes with the lock, where iptables leaves its own behind
	 */
	if (!d.c.network_lock)
		d.c.network_lock = ck->o.open_tcp ? "nftables" : "skip";
	for (int n = 0; n < 3; n++)
		if (!strncmp(ck->record.stdio[n], "file[", 5))
			d.files = files, files[d.n_files++] = ck->record.stdio[n];
	if (ck->wants_hook) {
		char davit[64];
		int r;

		/* the daemon's own sealed copy */
		snprintf(davit, sizeof(davit), "/proc/%d/exe", (int)getpid());
		r = hook_script_write(run->dir, davit, "post-dump", f);
		if (r < 0)
			return r;
		if (asprintf(&script, "%s/" HOOK_SCRIPT, run->dir) < 0) {
			script = NULL;
			return fault_sys(f, ENOMEM, "write", HOOK_SCRIPT);
		}
		d.c.action_script = script;
	}
	if (ck->o.image_path && !(run->image_dir = strdup(ck->o.image_path)))
		return fault_sys(f, ENOMEM, "write", "criu's command line");
	if (ck->o.work_path && !(run->work_dir = strdup(ck->o.work_path)))
		return fault_sys(f, ENOMEM, "write", "criu's command line");
	criu_args_dump(&run->args, &d);
	return run->args.failed ? fault_sys(f, ENOMEM, "write", "criu's command line") : 0;
}

/*
 * criu gives a file that was deleted under the name by which it is open another one in its folder,
 * and takes that away again when the task goes on.
 */
static int check_links(struct ckpt *ck, struct fault *f)
{
	bool kept = ck->o.exit || !ck->o.link_remap;
	int r = kept ? 0 : ckpt_diff_wanted(ck, &kept, f);

	if (r < 0 || kept)
		return r;
	fault_set(
		f, FAULT_FAILED_PRECONDITION, 0,
		"with link_remap the names that criu gives to deleted files have to be kept: the task has to end (option exit), "
		"or to be on a snapshot of overlayfs that goes into the checkpoint's image");
	fault_arg(f, "options");
	return -EINVAL;
}

static int ignore_image(void *user, const struct image_info *info)
{
	(void)user;
	(void)info;
	return 0;
}

/* A name that cannot be had is told before the task is frozen for it; in the end it is looked at again. */
static int check_name(struct ckpt *ck, struct fault *f)
{
	struct store_call c = ck->call;
	int r;

	if (!ck->name || ck->o.image_path)
		return 0;
	c.f = f;
	r = image_check_name(&c, ck->name);
	if (r < 0)
		return r;
	r = image_get(&c, ck->name, ignore_image, NULL);
	if (r == -ENOENT && f->code == FAULT_NOT_FOUND) {
		memset(f, 0, sizeof(*f));
		return 0;
	}
	if (r < 0)
		return r;
	fault_set(f, FAULT_ALREADY_EXISTS, 0, "the image '%.512s' exists in the namespace '%s'",
		  ck->name, ck->ns);
	fault_arg(f, "name");
	return -EEXIST;
}

/* Those of an earlier dump into the same folder: criu writes its own when all is over. */
static int forget_stats(struct ckpt *ck, struct fault *f)
{
	CLEANUP_FREE char *path = NULL;

	if (!ck->o.work_path)
		return 0;
	if (asprintf(&path, "%s/" STATS_DUMP_FILE, ck->o.work_path) < 0) {
		path = NULL;
		return fault_sys(f, ENOMEM, "look into", ck->o.work_path);
	}
	return unlink(path) < 0 && errno != ENOENT ? fault_sys(f, errno, "remove", path) : 0;
}

int ckpt_prepare(struct ckpt *ck)
{
	CLEANUP_FREE char *text = NULL, *mountinfo = NULL;
	CLEANUP(spec_freep) struct spec *spec = NULL;
	struct fault *f = &ck->job_fault;
	uint64_t outside = 0;
	size_t size;
	int r;

	ck->phase_at[CKPT_PREPARE] = clock_mono();
	r = check_links(ck, f);
	if (!r)
		r = check_name(ck, f);
	if (!r && ck->o.image_path)
		r = ckpt_folder_open(ck, f);
	if (!r)
		r = forget_stats(ck, f);
	if (!r)
		r = criu_run_open(ck->run, ck->d, f);
	if (r < 0)
		return r;
	if (!ck->o.image_path) {
		r = ckpt_check_limits(ck, f);
		if (r < 0)
			return r;
	}
	r = lease_hold(&ck->call, &ck->hold);
	if (r < 0)
		return r;
	ck->held = true;
	r = spec_blob_text(ck->blob, &text, &size);
	if (r < 0)
		return fault_sys(f, -r, "unpack the spec of", ck->id);
	r = spec_parse_text(text, size, &spec, f);
	if (!r)
		r = check_shared(ck, spec, f);
	if (!r)
		r = fill_record(ck, text, size, f);
	if (!r)
		r = find_mounts(ck, &mountinfo, f);
	if (!r)
		r = find_mountpoints(ck, mountinfo, f);
	ck->record.user_ns = ns_inode(ck->pid, "user") != ns_inode(getpid(), "user");
	if (!r)
		r = find_net(ck, spec, &outside, f);
	for (int n = 0; !r && n < 3; n++)
		r = find_stream(ck, n, mountinfo, f);
	if (r < 0)
		return r;
	return write_args(ck, outside, f);
}
