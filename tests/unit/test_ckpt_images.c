// SPDX-License-Identifier: Apache-2.0
/*
 * criu's images as data: what those of a real dump say, and what hostile ones are refused for
 *
 * tests/data/criu: of a dump of a davit container by criu 4.1.1, with its record
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/frames.h"
#include "checkpoint/images_check.h"
#include "checkpoint/record.h"
#include "checkpoint/stats_dump.h"
#include "ckpt_kit.h"
#include "util/cleanup.h"
#include "util/fd.h"
#include "util/limits.h"
#include "util/tree.h"

#define DATA "tests/data/criu/"

/* ---- a real dump */

static const char *const real[] = { "core-1.img",    "core-2.img",	   "ids-1.img", "ids-2.img",
				    "inventory.img", "mountpoints-13.img", "pstree.img" };

static char *read_data(const char *name, size_t *size)
{
	char path[256], *data;

	snprintf(path, sizeof(path), DATA "%s", name);
	if (fd_read_file(AT_FDCWD, path, 1 << 20, &data, size) < 0)
		fail_msg("%s cannot be read: run the test in the checkout's folder", path);
	return data;
}

static void load_real(struct serve_files *files)
{
	memset(files, 0, sizeof(*files));
	for (size_t i = 0; i < ARRAY_SIZE(real); i++) {
		size_t size;
		char *data = read_data(real[i], &size);

		assert_int_equal(ckpt_files_add_data(files, real[i], data, size), 0);
	}
	assert_null(ckpt_files_sort(files));
}

static void load_record(struct ckpt_record *r)
{
	struct fault f = { 0 };
	size_t size;
	char *text = read_data("davit-checkpoint.json", &size);

	if (ckpt_record_read(r, text, size, &f) < 0)
		fail_msg("%s", f.message);
	free(text);
}

static void refused(int r, const struct fault *f, const char *says)
{
	assert_true(r < 0);
	if (f->code != FAULT_FAILED_PRECONDITION || !strstr(f->message, says))
		fail_msg("%s: %s, not %s", fault_code_name(f->code), f->message, says);
}

static void test_real(void **state)
{
	struct ckpt_record record;
	struct serve_files files;
	struct ckpt_tasks tasks;
	struct fault f = { 0 };

	(void)state;
	load_record(&record);
	load_real(&files);
	assert_int_equal(record.mounts.n, 18);
	if (ckpt_images_check(&files, &record.mounts, &f) < 0)
		fail_msg("%s", f.message);
	assert_int_equal(ckpt_images_check(&files, NULL, &f), 0);
	if (ckpt_images_tasks(&files, &tasks, &f) < 0)
		fail_msg("%s", f.message);
	assert_int_equal(tasks.n, 2);
	assert_false(tasks.without_seccomp);
	assert_true(tasks.without_no_new_privs);
	/* docker's usual ones but for mknod, net_raw and audit_write */
	assert_true(tasks.caps == 0x800405fb);
	assert_true(tasks.namespaces == (CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS |
					 CLONE_NEWNS | CLONE_NEWCGROUP));
	/* the record's mounts are what is allowed */
	free(record.mounts.v[11].path);
	record.mounts.v[11].path = strdup("/elsewhere");
	refused(ckpt_images_check(&files, &record.mounts, &f), &f, "at another place");
	record.mounts.n = 17;
	refused(ckpt_images_check(&files, &record.mounts, &f), &f,
		"/sys/dev/block is refused: the checkpoint's record does not know it");
	record.mounts.n = 18;
	serve_files_clear(&files);
	ckpt_record_clear(&record);
}

/* However a file of it is damaged, it is refused or taken, and nothing worse happens. */
static void test_damage(void **state)
{
	struct serve_files files;
	struct ckpt_tasks tasks;
	struct fault f;

	(void)state;
	load_real(&files);
	for (size_t i = 0; i < files.n; i++) {
		struct serve_part *part = &files.v[i].parts[0];
		uint64_t size = part->size;
		unsigned char *data = part->data;

		/* cut off: seen anywhere but between two entries */
		for (part->size = 0; part->size < size; part->size++) {
			int r = ckpt_images_check(&files, NULL, &f);

			if (!r)
				r = ckpt_images_tasks(&files, &tasks, &f);
			if (r < 0)
				refused(r, &f, "");
			else if (!strstr(files.v[i].name, "mountpoints") &&
				 !strstr(files.v[i].name, "pstree"))
				fail_msg("%s of %llu bytes is taken", files.v[i].name,
					 (unsigned long long)part->size);
		}
		for (uint64_t at = 0; at < size; at++) {
			data[at] ^= 0xff;
			if (ckpt_images_check(&files, NULL, &f) < 0)
				refused(-1, &f, "");
			if (ckpt_images_tasks(&files, &tasks, &f) < 0)
				refused(-1, &f, "");
			data[at] ^= 0xff;
		}
	}
	serve_files_clear(&files);
}

/* A file that is not in memory: plain, packed, in parts, damaged. */
static void test_parts(void **state)
{
	struct serve_file *file;
	struct serve_files files;
	struct frame_codec *codec;
	struct fault f = { 0 };
	unsigned char *packed = malloc(FRAME_PACKED_MOST), *data;
	uint64_t size;
	ssize_t n;

	(void)state;
	load_real(&files);
	file = (struct serve_file *)ckpt_files_find(&files, "mountpoints-13.img");
	data = file->parts[0].data;
	size = file->parts[0].size;
	free(file->parts);
	file->parts = calloc(3, sizeof(*file->parts));
	file->n_parts = 3;
	/* 100 bytes in memory, 200 in a file, the rest packed in two frames */
	file->parts[0] = (struct serve_part){ .fd = -1, .size = 100, .data = malloc(100) };
	memcpy(file->parts[0].data, data, 100);
	file->parts[1] = (struct serve_part){ .fd = memfd_create("p", MFD_CLOEXEC), .size = 200 };
	assert_int_equal(fd_write_all(file->parts[1].fd, data + 100, 200), 0);
	file->parts[2] = (struct serve_part){ .fd = memfd_create("p", MFD_CLOEXEC),
					      .packed = true,
					      .size = size - 300 };
	assert_int_equal(frame_codec_new(&codec, 1), 0);
	n = frame_pack(codec, data + 300, 500, packed);
	assert_int_equal(frame_table_add(&file->parts[2].table, (uint32_t)n, 500), 0);
	assert_int_equal(fd_write_all(file->parts[2].fd, packed, (size_t)n), 0);
	n = frame_pack(codec, data + 800, size - 800, packed);
	assert_int_equal(frame_table_add(&file->parts[2].table, (uint32_t)n, (uint32_t)size - 800),
			 0);
	assert_int_equal(fd_write_all(file->parts[2].fd, packed, (size_t)n), 0);
	frame_codec_free(codec);
	if (ckpt_images_check(&files, NULL, &f) < 0)
		fail_msg("%s", f.message);
	/* a byte of a frame */
	assert_int_equal(pwrite(file->parts[2].fd, "x", 1, 20), 1);
	refused(ckpt_images_check(&files, NULL, &f), &f, "mountpoints-13.img is damaged");
	assert_int_equal(ftruncate(file->parts[1].fd, 10), 0);
	refused(ckpt_images_check(&files, NULL, &f), &f, "shorter than it was");
	file->parts[1].size = LIMIT_CHECKPOINT_FILES_BYTES;
	refused(ckpt_images_check(&files, NULL, &f), &f, "larger than such a file may be");
	file->parts[1].size = 200;
	free(data);
	free(packed);
	serve_files_clear(&files);
}

/* ---- mounts, one by one */

struct mount_case {
	unsigned type;
	const char *root, *mountpoint, *source, *options;
	unsigned dev, flags, sb_flags;
	const char *key, *fsname;
	bool old_external, plugin;
};

static void put_mount(struct bytes *file, const struct mount_case *c)
{
	struct bytes m = { .n = 0 };

	put_number(&m, 1, c->type);
	put_number(&m, 2, 100);
	put_number(&m, 3, c->dev);
	put_number(&m, 4, 1);
	put_number(&m, 5, c->flags);
	put_string(&m, 6, c->root);
	put_string(&m, 7, c->mountpoint);
	put_string(&m, 8, c->source ? c->source : "none");
	put_string(&m, 9, c->options ? c->options : "");
	if (c->plugin)
		put_number(&m, 12, 1);
	if (c->old_external)
		put_number(&m, 13, 1);
	if (c->fsname)
		put_string(&m, 14, c->fsname);
	put_number(&m, 17, c->sb_flags);
	if (c->key)
		put_string(&m, 18, c->key);
	put_entry(file, &m);
}

static const struct mount_case root_case = {
	.type = 0,
	.root = "/images/7/fs",
	.mountpoint = "/",
	.source = "/dev/sda1",
	.options = "discard",
	.dev = 8,
};
#define ROOTS_FILE_SYSTEM .type = 0, .source = "/dev/sda1", .options = "discard", .dev = 8

static struct criu_mount handed_in[] = {
	{ .name = "m0",
	  .path = (char *)"/data",
	  .kind = CRIU_MOUNT_BIND,
	  .root = (char *)"/srv",
	  .controllers = (char *)"",
	  .read_only = true },
	{ .name = "m2",
	  .path = (char *)"/cache",
	  .kind = CRIU_MOUNT_BIND,
	  .root = (char *)"/srv",
	  .controllers = (char *)"" },
	{ .name = "m10",
	  .path = (char *)"/sys/fs/cgroup",
	  .kind = CRIU_MOUNT_CGROUP_ROOT,
	  .root = (char *)"/",
	  .controllers = (char *)"",
	  .read_only = true },
};
static const struct criu_mounts known = { handed_in, 3 };

/* The root and these. */
static int check_mounts(const struct mount_case *v, size_t n, const struct criu_mounts *mounts,
			struct fault *f)
{
	struct serve_files files = { 0 };
	struct bytes file;
	int r;

	memset(f, 0, sizeof(*f));
	add_inventory(&files);
	put_magic(&file, IMG_MOUNTS);
	for (size_t i = 0; i < n; i++)
		put_mount(&file, &v[i]);
	put_mount(&file, &root_case);
	add_file(&files, "mountpoints-13.img", &file);
	assert_null(ckpt_files_sort(&files));
	r = ckpt_images_check(&files, mounts, f);
	serve_files_clear(&files);
	return r;
}

static void test_good_mounts(void **state)
{
	static const struct mount_case good[] = {
		{ .type = 1, .root = "/", .mountpoint = "/proc", .dev = 40 },
		{ .type = 1,
		  .root = "/sys",
		  .mountpoint = "/proc/sys",
		  .dev = 40,
		  .flags = MS_RDONLY },
		{ .type = 1, .root = "/bus/pci", .mountpoint = "/proc/bus/pci", .dev = 40 },
		{ .type = 2, .root = "/", .mountpoint = "/sys", .dev = 41, .sb_flags = MS_RDONLY },
		{ .type = 5,
		  .root = "/",
		  .mountpoint = "/dev",
		  .dev = 42,
		  .flags = MS_NOSUID | MS_STRICTATIME },
		{ .type = 6, .root = "/", .mountpoint = "/dev/pts", .dev = 43 },
		{ .type = 6, .root = "/0", .mountpoint = "/dev/console2", .dev = 43 },
		{ .type = 14, .root = "/", .mountpoint = "/dev/mqueue", .dev = 44 },
		{ .type = 0,
		  .root = "/srv",
		  .mountpoint = "/data",
		  .dev = 8,
		  .key = "m0",
		  .flags = MS_RDONLY },
		{ .type = 5,
		  .root = "m2",
		  .mountpoint = "/cache",
		  .dev = 50,
		  .old_external = true },
		{ .type = 12, .root = "/..", .mountpoint = "/x", .dev = 50, .key = "m99" },
		{ ROOTS_FILE_SYSTEM, .root = "/images/7/fs/usr", .mountpoint = "/mnt" },
		{ ROOTS_FILE_SYSTEM, .root = "/images/7/fs", .mountpoint = "/mnt" },
	};
	struct fault f;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		bool other = good[i].key && !strcmp(good[i].key, "m99");
		int r = check_mounts(&good[i], 1, other ? NULL : &known, &f);

		if (other)
			refused(r, &f, "leads out");
		else if (r < 0)
			fail_msg("%s", f.message);
	}
	assert_int_equal(check_mounts(good, 10, &known, &f), 0);
}

static void test_bad_mounts(void **state)
{
	static const struct {
		struct mount_case m;
		const char *says;
	} bad[] = {
		/* the host's disks and file systems */
		{ { .type = 16,
		    .fsname = "ext4",
		    .root = "/",
		    .mountpoint = "/mnt",
		    .source = "/dev/sda1",
		    .dev = 9 },
		  "type auto at /mnt is refused: its file system is none" },
		{ { .type = 0, .root = "/", .mountpoint = "/mnt", .source = "/dev/sda1", .dev = 9 },
		  "type unsupported at /mnt" },
		{ { .type = 17,
		    .root = "/",
		    .mountpoint = "/mnt",
		    .options = "lowerdir=/etc:/usr" },
		  "type overlay" },
		{ { .type = 3, .root = "/", .mountpoint = "/mnt" }, "type devtmpfs" },
		{ { .type = 4, .root = "/", .mountpoint = "/mnt" }, "type binfmt_misc" },
		{ { .type = 9, .root = "/", .mountpoint = "/mnt" }, "type securityfs" },
		{ { .type = 11, .root = "/", .mountpoint = "/mnt" }, "type debugfs" },
		{ { .type = 12, .root = "/", .mountpoint = "/mnt" }, "type cgroup" },
		{ { .type = 15, .root = "/", .mountpoint = "/mnt" }, "type fuse" },
		{ { .type = 18, .root = "/", .mountpoint = "/mnt" }, "type autofs" },
		{ { .type = 19, .root = "/", .mountpoint = "/mnt" }, "type tracefs" },
		{ { .type = 23, .root = "/", .mountpoint = "/mnt" }, "type cgroup2" },
		{ { .type = 24, .root = "/", .mountpoint = "/mnt" }, "type unknown" },
		{ { .type = 4000000000, .root = "/", .mountpoint = "/mnt" }, "type unknown" },
		{ { .type = 5, .root = "/", .mountpoint = "/mnt", .fsname = "ext4" },
		  "names another type" },
		/* a bind of the host, by flags */
		{ { .type = 5,
		    .root = "/",
		    .mountpoint = "/mnt",
		    .source = "/etc",
		    .flags = MS_BIND },
		  "flags" },
		{ { .type = 5,
		    .root = "/",
		    .mountpoint = "/mnt",
		    .source = "/etc",
		    .sb_flags = MS_BIND },
		  "flags" },
		{ { .type = 5, .root = "/", .mountpoint = "/mnt", .sb_flags = MS_MOVE }, "flags" },
		{ { .type = 5, .root = "/", .mountpoint = "/mnt", .sb_flags = MS_REMOUNT },
		  "flags" },
		{ { .type = 5, .root = "/", .mountpoint = "/mnt", .flags = MS_REC }, "flags" },
		{ { .type = 5, .root = "/", .mountpoint = "/mnt", .flags = 1u << 31 }, "flags" },
		/* by criu's own keys */
		{ { .type = 5,
		    .root = "/",
		    .mountpoint = "/data",
		    .source = "/etc",
		    .key = "CRIU:AUTOGENERATED" },
		  "a path or a device of the host" },
		{ { .type = 5,
		    .root = "/",
		    .mountpoint = "/data",
		    .source = "/dev/sda",
		    .key = "CRIU:EXTERNAL_DEV" },
		  "a path or a device of the host" },
		{ { .type = 5,
		    .root = "CRIU:AUTOGENERATED",
		    .mountpoint = "/data",
		    .old_external = true },
		  "a path or a device of the host" },
		/* what is handed in, elsewhere or otherwise */
		{ { .type = 0, .root = "/srv", .mountpoint = "/data", .key = "m1" },
		  "does not know it" },
		{ { .type = 0, .root = "/srv", .mountpoint = "/data", .key = "m" },
		  "does not know it" },
		{ { .type = 0, .root = "/srv", .mountpoint = "/data", .key = "" },
		  "does not know it" },
		{ { .type = 0, .root = "/srv", .mountpoint = "/data", .key = "extNet" },
		  "does not know it" },
		{ { .type = 0,
		    .root = "/srv",
		    .mountpoint = "/data",
		    .key = "m00000000000000000000000000000000000" },
		  "does not know it" },
		{ { .type = 0,
		    .root = "/srv",
		    .mountpoint = "/etc",
		    .key = "m0",
		    .flags = MS_RDONLY },
		  "at another place" },
		{ { .type = 0, .root = "/srv", .mountpoint = "/data", .key = "m0" }, "read-only" },
		{ { .type = 0,
		    .root = "/srv",
		    .mountpoint = "/data",
		    .key = "m0",
		    .sb_flags = MS_RDONLY },
		  "read-only" },
		{ { .type = 5, .root = "/", .mountpoint = "/", .dev = 9, .key = "m0" },
		  "root is not handed in" },
		/* out of the root */
		{ { ROOTS_FILE_SYSTEM, .root = "/etc", .mountpoint = "/mnt" },
		  "outside of the container's root" },
		{ { ROOTS_FILE_SYSTEM, .root = "/", .mountpoint = "/mnt" },
		  "outside of the container's root" },
		{ { ROOTS_FILE_SYSTEM, .root = "/images/7/fs2", .mountpoint = "/mnt" },
		  "outside of the container's root" },
		{ { ROOTS_FILE_SYSTEM, .root = "/images/7/fs/../../8/fs", .mountpoint = "/mnt" },
		  "leads out" },
		{ { .type = 5, .root = "/..", .mountpoint = "/mnt" }, "leads out" },
		{ { .type = 5, .root = "", .mountpoint = "/mnt" }, "no root" },
		{ { .type = 5, .root = "/", .mountpoint = "/mnt/../../etc" }, "no absolute path" },
		{ { .type = 5, .root = "/", .mountpoint = "mnt" }, "no absolute path" },
		{ { .type = 5, .root = "/", .mountpoint = "" }, "no absolute path" },
		{ { .type = 5, .root = "/", .mountpoint = "/mnt", .plugin = true }, "plugin" },
		{ { .type = 5, .root = "/", .mountpoint = "/" }, "two roots" },
		/* links inside of what criu makes */
		{ { .type = 1, .root = "/self/root/etc", .mountpoint = "/mnt" }, "safely" },
		{ { .type = 1, .root = "/thread-self", .mountpoint = "/mnt" }, "safely" },
		{ { .type = 1, .root = "/1/root", .mountpoint = "/mnt" }, "safely" },
		{ { .type = 1, .root = "/net", .mountpoint = "/mnt" }, "safely" },
		{ { .type = 1, .root = "/mounts", .mountpoint = "/mnt" }, "safely" },
		{ { .type = 1, .root = "//self", .mountpoint = "/mnt" }, "safely" },
		{ { .type = 5, .root = "/link", .mountpoint = "/mnt" }, "safely" },
	};
	struct fault f;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		refused(check_mounts(&bad[i].m, 1, &known, &f), &f, bad[i].says);
	/* a part of what is handed in */
	struct mount_case parts[] = {
		{ .type = 2,
		  .root = "/srv",
		  .mountpoint = "/data",
		  .dev = 77,
		  .key = "m0",
		  .flags = MS_RDONLY },
		{ .type = 2, .root = "/srv/link", .mountpoint = "/mnt", .dev = 77 },
	};

	refused(check_mounts(parts, 2, &known, &f), &f,
		"a part of a mount that comes from outside");
	parts[1].root = "/";
	assert_int_equal(check_mounts(parts, 2, &known, &f), 0);
}

/* Messages that two readers would read apart. */
static void test_ambiguous(void **state)
{
	static const uint8_t overlong_tag[] = { 0xa0, 0x81, 0x80, 0x80, 0x80, 0x00, 0x01 };
	static const uint8_t wide_tag[] = { 0x88, 0x80, 0x80, 0x80, 0x10, 0x01 };
	struct serve_files files = { 0 };
	struct bytes m, file;
	struct fault f;

	(void)state;
	for (int i = 0; i < 9; i++) {
		const char *says = "";

		add_inventory(&files);
		put_magic(&file, IMG_MOUNTS);
		put_mount(&file, &root_case);
		m.n = 0;
		put_number(&m, 1, i == 0 ? 5ull | 1ull << 32 : 5);
		put_number(&m, 3, 9);
		put_number(&m, 5, 0);
		put_string(&m, 6, "/");
		if (i == 1)
			put_bytes(&m, 7, "/mnt\0x", 6);
		else if (i == 2)
			put_number(&m, 7, 1);
		else
			put_string(&m, 7, "/mnt");
		put_string(&m, 8, "none");
		if (i != 3)
			put_string(&m, 9, "");
		if (i == 4)
			put_number(&m, 1, 16);
		if (i == 5)
			put_raw(&m, overlong_tag, sizeof(overlong_tag));
		if (i == 6)
			put_raw(&m, wide_tag, sizeof(wide_tag));
		if (i == 7) {
			put_varint(&m, 20 << 3 | 3); /* a group */
			put_varint(&m, 20 << 3 | 4);
		}
		if (i == 8) { /* unknown ones of all kinds are fine */
			put_number(&m, 2000, UINT64_MAX);
			put_varint(&m, 2001 << 3 | 1);
			put_raw(&m, "12345678", 8);
			put_varint(&m, 2002 << 3 | 5);
			put_raw(&m, "1234", 4);
			put_string(&m, 2003, "x");
		}
		put_entry(&file, &m);
		add_file(&files, "mountpoints-13.img", &file);
		ckpt_files_sort(&files);
		if (i < 8)
			refused(ckpt_images_check(&files, NULL, &f), &f, says);
		else if (ckpt_images_check(&files, NULL, &f) < 0)
			fail_msg("%s", f.message);
		serve_files_clear(&files);
	}
}

static void test_namespaces_of_mounts(void **state)
{
	struct mount_case other = root_case;
	struct serve_files files = { 0 };
	struct bytes file;
	struct fault f;
	char name[32];

	(void)state;
	add_inventory(&files);
	refused(ckpt_images_check(&files, NULL, &f), &f, "no mount namespace of their own");
	/* one that has no root */
	put_magic(&file, IMG_MOUNTS);
	add_file(&files, "mountpoints-1.img", &file);
	ckpt_files_sort(&files);
	refused(ckpt_images_check(&files, NULL, &f), &f,
		"mountpoints-1.img is damaged: it has no root");
	serve_files_clear(&files);
	/* two with the same root, two with different ones */
	for (int i = 0; i < 2; i++) {
		add_inventory(&files);
		put_magic(&file, IMG_MOUNTS);
		put_mount(&file, &root_case);
		add_file(&files, "mountpoints-1.img", &file);
		put_magic(&file, IMG_MOUNTS);
		other.root = i ? "/" : root_case.root;
		put_mount(&file, &other);
		add_file(&files, "mountpoints-2.img", &file);
		ckpt_files_sort(&files);
		if (i)
			refused(ckpt_images_check(&files, NULL, &f), &f, "another root");
		else
			assert_int_equal(ckpt_images_check(&files, NULL, &f), 0);
		serve_files_clear(&files);
	}
	add_inventory(&files);
	put_magic(&file, IMG_MOUNTS);
	put_mount(&file, &root_case);
	for (int i = 0; i < 17; i++) {
		snprintf(name, sizeof(name), "mountpoints-%d.img", i);
		add_file(&files, name, &file);
	}
	ckpt_files_sort(&files);
	refused(ckpt_images_check(&files, NULL, &f), &f, "more than 16 mount namespaces");
	serve_files_clear(&files);
}

static void test_inventory(void **state)
{
	struct serve_files files = { 0 };
	struct bytes m, file;
	struct fault f;

	(void)state;
	refused(ckpt_images_check(&files, NULL, &f), &f, "no inventory.img");
	for (int i = 0; i < 4; i++) {
		static const char *const says[] = { "version 1", "version 0", "no message",
						    "more than one entry" };

		m.n = 0;
		if (i != 1)
			put_number(&m, 1, i == 0 ? 1 : 2);
		if (i == 2)
			put_number(&m, 1, 2);
		put_magic(&file, IMG_INVENTORY);
		put_entry(&file, &m);
		if (i == 3)
			put_entry(&file, &m);
		add_file(&files, "inventory.img", &file);
		refused(ckpt_images_check(&files, NULL, &f), &f, says[i]);
		serve_files_clear(&files);
	}
	add_one(&files, "inventory.img", IMG_CORE, &m);
	refused(ckpt_images_check(&files, NULL, &f), &f, "something else than its name says");
	serve_files_clear(&files);
}

static void test_many_mounts(void **state)
{
	struct mount_case c = { .type = 5, .root = "/", .mountpoint = "/m", .dev = 9 };
	struct serve_files files = { 0 };
	struct bytes one = { .n = 0 }, root = { .n = 0 };
	struct fault f;
	char *data;
	size_t n;

	(void)state;
	put_mount(&one, &c);
	put_magic(&root, IMG_MOUNTS);
	put_mount(&root, &root_case);
	for (unsigned many = LIMIT_CHECKPOINT_MOUNTS; many <= LIMIT_CHECKPOINT_MOUNTS + 1; many++) {
		data = malloc(root.n + one.n * many);
		assert_non_null(data);
		memcpy(data, root.v, n = root.n);
		for (unsigned i = 1; i < many; i++, n += one.n)
			memcpy(data + n, one.v, one.n);
		assert_int_equal(ckpt_files_add_data(&files, "mountpoints-1.img", data, n), 0);
		add_inventory(&files);
		ckpt_files_sort(&files);
		if (many > LIMIT_CHECKPOINT_MOUNTS)
			refused(ckpt_images_check(&files, NULL, &f), &f,
				"more mounts than are taken");
		else if (ckpt_images_check(&files, NULL, &f) < 0)
			fail_msg("%s", f.message);
		serve_files_clear(&files);
	}
}

/* ---- binds below the root */

static int check_binds(const char *root, int rootfs, struct fault *f)
{
	struct mount_case c = { ROOTS_FILE_SYSTEM, .mountpoint = "/mnt" };
	struct serve_files files = { 0 };
	struct bytes file;
	int r;

	c.root = root;
	memset(f, 0, sizeof(*f));
	put_magic(&file, IMG_MOUNTS);
	put_mount(&file, &root_case);
	put_mount(&file, &c);
	add_file(&files, "mountpoints-1.img", &file);
	r = ckpt_images_binds(&files, rootfs, f);
	serve_files_clear(&files);
	return r;
}

static void test_binds(void **state)
{
	char path[] = "/tmp/test_binds.XXXXXX";
	struct fault f;
	int fd;

	(void)state;
	assert_non_null(mkdtemp(path));
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(mkdirat(fd, "usr", 0755), 0);
	assert_int_equal(mkdirat(fd, "usr/lib", 0755), 0);
	assert_int_equal(symlinkat("/etc", fd, "host"), 0);
	assert_int_equal(symlinkat("lib", fd, "usr/lib64"), 0);
	assert_int_equal(check_binds("/images/7/fs/usr/lib", fd, &f), 0);
	assert_int_equal(check_binds("/images/7/fs", fd, &f), 0);
	assert_int_equal(check_binds("/images/7/fs/", fd, &f), 0);
	refused(check_binds("/images/7/fs/host", fd, &f), &f, "symbolic link");
	refused(check_binds("/images/7/fs/host/passwd", fd, &f), &f, "symbolic link");
	refused(check_binds("/images/7/fs/usr/lib64", fd, &f), &f, "symbolic link");
	refused(check_binds("/images/7/fs/../x", fd, &f), &f, "outside");
	refused(check_binds("/etc", fd, &f), &f, "outside");
	assert_int_equal(check_binds("/images/7/fs/none", fd, &f), -ENOENT);
	assert_int_equal(f.code, FAULT_NOT_FOUND);
	close(fd);
	assert_int_equal(tree_remove(AT_FDCWD, path, NULL), 0);
}

/* ---- tasks */

struct task_case {
	unsigned state; /* 0: a thread, which has none */
	int seccomp; /* -1: not said */
	unsigned filter; /* the last one */
	bool no_new_privs, no_creds, packed;
	uint64_t inherited, permitted, effective, bounding, ambient;
	unsigned mnt; /* 0: no ids in core */
};

static void put_caps(struct bytes *b, unsigned field, uint64_t caps, bool packed)
{
	struct bytes words = { .n = 0 };

	if (!packed) {
		put_number(b, field, caps & UINT32_MAX);
		put_number(b, field, caps >> 32);
		return;
	}
	put_varint(&words, caps & UINT32_MAX);
	put_varint(&words, caps >> 32);
	put_bytes(b, field, words.v, words.n);
}

static void add_task(struct serve_files *files, const char *name, const struct task_case *c)
{
	struct bytes core = { .n = 0 }, task = { .n = 0 }, thread = { .n = 0 }, creds = { .n = 0 },
		     ids = { .n = 0 };

	put_number(&core, 1, 1);
	if (c->state) {
		put_number(&task, 1, c->state);
		put_number(&task, 2, 0);
		put_bytes(&core, 3, task.v, task.n);
	}
	if (c->mnt) {
		put_ids(&ids, 9, 10, c->mnt);
		put_bytes(&core, 4, ids.v, ids.n);
	}
	put_number(&thread, 1, 0);
	put_caps(&creds, 9, c->inherited, c->packed);
	put_caps(&creds, 10, c->permitted, c->packed);
	put_caps(&creds, 11, c->effective, c->packed);
	put_caps(&creds, 12, c->bounding, c->packed);
	put_caps(&creds, 19, c->ambient, c->packed);
	if (c->no_new_privs)
		put_number(&creds, 18, 1);
	if (!c->no_creds)
		put_bytes(&thread, 10, creds.v, creds.n);
	if (c->seccomp >= 0)
		put_number(&thread, 11, (unsigned)c->seccomp);
	if (c->seccomp > 0)
		put_number(&thread, 12, c->filter);
	put_bytes(&core, 5, thread.v, thread.n);
	add_one(files, name, IMG_CORE, &core);
}

static void add_tree(struct serve_files *files, unsigned pid, unsigned parent)
{
	struct bytes m = { .n = 0 };

	put_number(&m, 1, pid);
	put_number(&m, 2, parent);
	add_one(files, "pstree.img", IMG_PSTREE, &m);
}

/* Two tasks; the first has two threads. */
static void add_threads(struct serve_files *files, bool packed)
{
	static const uint8_t both[] = { 1, 2 };
	struct bytes m = { .n = 0 }, other = { .n = 0 }, file = { .n = 0 };

	put_number(&m, 1, 1);
	put_number(&m, 2, 0);
	if (packed) {
		put_bytes(&m, 5, both, sizeof(both));
	} else {
		put_number(&m, 5, 1);
		put_number(&m, 5, 2);
	}
	put_number(&other, 1, 7);
	put_number(&other, 2, 1);
	put_number(&other, 5, 7);
	put_magic(&file, IMG_PSTREE);
	put_entry(&file, &m);
	put_entry(&file, &other);
	add_file(files, "pstree.img", &file);
}

/* Each filter's flags; each has the one before it as its own before. */
static void add_filters(struct serve_files *files, const int *flags, size_t n)
{
	struct bytes m = { .n = 0 };

	for (size_t i = 0; i < n; i++) {
		struct bytes filter = { .n = 0 };

		put_bytes(&filter, 1, "12345678", 8);
		if (i)
			put_number(&filter, 2, (unsigned)i - 1);
		if (flags[i] >= 0)
			put_number(&filter, 3, (unsigned)flags[i]);
		put_bytes(&m, 1, filter.v, filter.n);
	}
	add_one(files, "seccomp.img", IMG_SECCOMP, &m);
}

static void add_ids(struct serve_files *files, const char *name, unsigned pid, unsigned net,
		    unsigned mnt)
{
	struct bytes m = { .n = 0 };

	put_ids(&m, pid, net, mnt);
	add_one(files, name, IMG_IDS, &m);
}

static const struct task_case plain_task = {
	.state = 1, .seccomp = 2, .no_new_privs = true, .permitted = 0x5
};

static void good_tasks(struct serve_files *files)
{
	memset(files, 0, sizeof(*files));
	add_inventory(files);
	add_tree(files, 1, 0);
	add_ids(files, "ids-1.img", 9, 10, 13);
	add_task(files, "core-1.img", &plain_task);
	add_filters(files, (const int[]){ 0 }, 1);
}

static int tasks_of(struct serve_files *files, struct ckpt_tasks *out, struct fault *f)
{
	int r;

	memset(f, 0, sizeof(*f));
	assert_null(ckpt_files_sort(files));
	r = ckpt_images_tasks(files, out, f);
	serve_files_clear(files);
	return r;
}

static void test_tasks(void **state)
{
	struct serve_files files;
	struct ckpt_tasks t;
	struct task_case c;
	struct fault f;

	(void)state;
	good_tasks(&files);
	assert_int_equal(tasks_of(&files, &t, &f), 0);
	assert_int_equal(t.n, 1);
	assert_true(t.caps == 5 && !t.without_seccomp && !t.without_no_new_privs);
	assert_true(t.namespaces == (CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWNS));
	/* the least of all threads counts; every set of capabilities does */
	for (int i = 0; i < 10; i++) {
		c = plain_task;
		c.packed = i & 1;
		if (i / 2 == 0)
			c.inherited = 1ull << 40;
		if (i / 2 == 1)
			c.permitted = 1ull << 40;
		if (i / 2 == 2)
			c.effective = 1ull << 40;
		if (i / 2 == 3)
			c.bounding = 1ull << 40;
		if (i / 2 == 4)
			c.ambient = 1ull << 40;
		c.state = 0;
		good_tasks(&files);
		add_task(&files, "core-2.img", &c);
		assert_int_equal(tasks_of(&files, &t, &f), 0);
		assert_true(t.caps == (5 | 1ull << 40));
		assert_int_equal(t.n, 2);
	}
	c = plain_task;
	c.no_new_privs = false;
	good_tasks(&files);
	add_task(&files, "core-7.img", &c);
	assert_int_equal(tasks_of(&files, &t, &f), 0);
	assert_true(t.without_no_new_privs && !t.without_seccomp);
	/* a dead one has nothing, and need not say so */
	c = (struct task_case){ .state = 2, .no_creds = true, .seccomp = -1 };
	good_tasks(&files);
	add_task(&files, "core-7.img", &c);
	assert_int_equal(tasks_of(&files, &t, &f), 0);
	assert_true(!t.without_no_new_privs && !t.without_seccomp && t.n == 2);
}

/* A namespace counts when every task has one of its own. */
/* Without one of them in the tree it is not restored, and counts for nothing. */
static void test_seccomp(void **state)
{
	static const struct {
		int first, thread, other; /* modes */
		int flags[3];
		bool without;
	} cases[] = {
		{ 2, 2, 2, { 0, 0, 0 }, false },
		{ 2, -1, 2, { 1, 1, 1 }, false },
		{ 2, -1, 2, { 5, 3, 1 }, false },
		{ 2, -1, 2, { 1, 0, 1 }, true }, /* a thread that is not meant */
		{ 2, -1, 2, { -1, 1, 1 }, true },
		{ 2, -1, 2, { 1, 1, -1 }, true },
		{ 2, 2, -1, { 1, 1, 1 }, true },
		{ 2, 2, 0, { 1, 1, 1 }, true },
		{ 2, 2, 1, { 1, 1, 1 }, true },
		{ -1, 2, 2, { 1, 1, 1 }, true },
		{ 0, 2, 2, { 1, 1, 1 }, true },
	};
	struct serve_files files;
	struct task_case c;
	struct ckpt_tasks t;
	struct fault f;

	(void)state;
	for (size_t i = 0; i < 2 * ARRAY_SIZE(cases); i++) {
		memset(&files, 0, sizeof(files));
		add_inventory(&files);
		add_threads(&files, i & 1);
		add_ids(&files, "ids-1.img", 9, 10, 13);
		c = plain_task;
		c.filter = 2;
		c.seccomp = cases[i / 2].first;
		add_task(&files, "core-1.img", &c);
		c.seccomp = cases[i / 2].other;
		add_task(&files, "core-7.img", &c);
		c.state = 0;
		c.seccomp = cases[i / 2].thread;
		add_task(&files, "core-2.img", &c);
		add_filters(&files, cases[i / 2].flags, 3);
		assert_int_equal(tasks_of(&files, &t, &f), 0);
		assert_int_equal(t.without_seccomp, cases[i / 2].without);
	}
	/* a dead task needs none */
	good_tasks(&files);
	c = (struct task_case){ .state = 2, .no_creds = true, .seccomp = -1 };
	add_task(&files, "core-7.img", &c);
	assert_int_equal(tasks_of(&files, &t, &f), 0);
	assert_true(!t.without_seccomp);
	/* filters that are not there, and one that would be its own */
	for (int i = 0; i < 2; i++) {
		struct bytes m = { .n = 0 }, filter = { .n = 0 };

		memset(&files, 0, sizeof(files));
		add_inventory(&files);
		add_threads(&files, false);
		add_ids(&files, "ids-1.img", 9, 10, 13);
		c = plain_task;
		c.filter = 9;
		add_task(&files, "core-1.img", &c);
		add_task(&files, "core-7.img", &c);
		c.state = 0;
		c.seccomp = -1;
		add_task(&files, "core-2.img", &c);
		put_bytes(&filter, 1, "12345678", 8);
		put_number(&filter, 3, 1);
		if (i)
			put_number(&filter, 2, 0);
		put_bytes(&m, 1, filter.v, filter.n);
		add_one(&files, "seccomp.img", IMG_SECCOMP, &m);
		if (i) {
			assert_true(tasks_of(&files, &t, &f) < 0);
			assert_non_null(strstr(f.message, "follows a later one"));
		} else {
			assert_int_equal(tasks_of(&files, &t, &f), 0);
			assert_true(t.without_seccomp);
		}
	}
}

static void test_tasks_namespaces(void **state)
{
	struct serve_files files;
	struct ckpt_tasks t;
	struct task_case c = plain_task;
	struct fault f;

	(void)state;
	good_tasks(&files);
	add_ids(&files, "ids-7.img", 1, 10, 13);
	assert_int_equal(tasks_of(&files, &t, &f), 0);
	assert_true(t.namespaces == (CLONE_NEWNET | CLONE_NEWNS));
	good_tasks(&files);
	c.mnt = 6; /* as the inventory says of who dumped */
	add_task(&files, "core-7.img", &c);
	assert_int_equal(tasks_of(&files, &t, &f), 0);
	assert_true(t.namespaces == (CLONE_NEWPID | CLONE_NEWNET));
	good_tasks(&files);
	c.mnt = 14;
	add_task(&files, "core-7.img", &c);
	assert_int_equal(tasks_of(&files, &t, &f), 0);
	assert_true(t.namespaces == (CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWNS));
}

static void test_bad_tasks(void **state)
{
	static const char *const says[] = {
		"core-1.img is damaged: it does not say what the task may do",
		"no inventory.img",
		"which namespaces were outside",
		"no pstree.img",
		"its first task has no ids-PID.img",
		"a task of it has no core-PID.img",
		"it has not one first task",
		"it has not one first task",
		"core-1.img is damaged: it is no message",
		"core-1.img is damaged: it is no message",
		"core-1.img is damaged: it is no message",
		"ids-1.img is damaged: it is no message",
		"core-1.img is damaged: it has more than one entry",
		"inventory.img is damaged: it is no message",
	};
	struct serve_files files;
	struct ckpt_tasks t;
	struct fault f;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(says); i++) {
		struct bytes m = { .n = 0 }, inner = { .n = 0 }, file;
		struct task_case c = plain_task;

		memset(&files, 0, sizeof(files));
		if (i == 2) {
			put_number(&m, 1, 2);
			add_one(&files, "inventory.img", IMG_INVENTORY, &m);
		} else if (i == 13) {
			put_number(&m, 1, 2);
			put_ids(&inner, 1, 2, 6);
			put_bytes(&m, 3, inner.v, inner.n);
			put_bytes(&m, 3, inner.v, inner.n);
			add_one(&files, "inventory.img", IMG_INVENTORY, &m);
		} else if (i != 1) {
			add_inventory(&files);
		}
		if (i == 7) {
			put_magic(&file, IMG_PSTREE);
			put_number(&m, 1, 1);
			put_number(&m, 2, 0);
			put_entry(&file, &m);
			put_entry(&file, &m);
			add_file(&files, "pstree.img", &file);
		} else if (i != 3) {
			add_tree(&files, i == 5 ? 2 : 1, i == 6);
		}
		if (i == 11) {
			put_number(&m, 9, 13);
			put_number(&m, 9, 14);
			add_one(&files, "ids-1.img", IMG_IDS, &m);
		} else if (i != 4) {
			add_ids(&files, i == 5 ? "ids-2.img" : "ids-1.img", 9, 10, 13);
		}
		c.no_creds = i == 0;
		if (i >= 8 && i <= 10) { /* a third word of a set; two threads; two sets of creds */
			for (int k = 0; k < 3; k++)
				put_number(&inner, 10, 1);
			put_bytes(&m, 10, inner.v, i == 8 ? inner.n : 0);
			if (i == 10)
				put_bytes(&m, 10, inner.v, 0);
			file.n = 0;
			put_bytes(&file, 5, m.v, m.n);
			if (i == 9)
				put_bytes(&file, 5, m.v, m.n);
			add_one(&files, "core-1.img", IMG_CORE, &file);
		} else if (i == 12) {
			put_magic(&file, IMG_CORE);
			put_entry(&file, &m);
			put_entry(&file, &m);
			add_file(&files, "core-1.img", &file);
		} else {
			add_task(&files, "core-1.img", &c);
		}
		refused(tasks_of(&files, &t, &f), &f, says[i]);
	}
}

/* ---- user namespaces */

static void put_map(struct bytes *b, unsigned field, uint32_t inside, uint32_t outside,
		    uint32_t count)
{
	struct bytes m = { .n = 0 };

	put_number(&m, 1, inside);
	put_number(&m, 2, outside);
	put_number(&m, 3, count);
	put_bytes(b, field, m.v, m.n);
}

static void test_user_maps(void **state)
{
	static const struct ckpt_id_map uids[] = { { 0, 100000, 65536 }, { 70000, 5, 1 } };
	static const struct ckpt_id_map gids[] = { { 0, 200000, 10 } };
	static const struct {
		struct ckpt_id_map uid, gid;
		const char *says; /* NULL: fine */
	} v[] = {
		{ { 0, 100000, 65536 }, { 0, 200000, 10 }, NULL },
		{ { 70000, 5, 1 }, { 3, 200003, 7 }, NULL },
		{ { 1, 100001, 65535 }, { 0, 200000, 1 }, NULL },
		{ { 0, 0, 1 }, { 0, 200000, 10 }, "maps user 0 and on to 0" },
		{ { 0, 100000, 65537 }, { 0, 200000, 10 }, "maps user 0 and on to 100000" },
		{ { 1, 100000, 1 }, { 0, 200000, 10 }, "maps user 1 and on to 100000" },
		{ { 0, 100000, 4294967295 }, { 0, 200000, 10 }, "maps user" },
		{ { 4294967295, 99999, 1 }, { 0, 200000, 10 }, "maps user" },
		{ { 0, 100000, 1 }, { 0, 100000, 1 }, "maps group 0 and on to 100000" },
		{ { 0, 100000, 1 }, { 0, 0, 1 }, "maps group 0 and on to 0" },
	};
	struct serve_files files = { 0 };
	struct bytes m, twice = { .n = 0 };
	struct fault f;

	(void)state;
	assert_int_equal(ckpt_images_user_maps(&files, NULL, 0, NULL, 0, &f), 0);
	for (size_t i = 0; i < ARRAY_SIZE(v); i++) {
		int r;

		m.n = 0;
		put_map(&m, 1, v[i].uid.inside, v[i].uid.outside, v[i].uid.count);
		put_map(&m, 2, v[i].gid.inside, v[i].gid.outside, v[i].gid.count);
		add_one(&files, "userns-9.img", IMG_USER_NS, &m);
		memset(&f, 0, sizeof(f));
		r = ckpt_images_user_maps(&files, uids, 2, gids, 1, &f);
		if (v[i].says)
			refused(r, &f, v[i].says);
		else if (r < 0)
			fail_msg("%s", f.message);
		refused(ckpt_images_user_maps(&files, NULL, 0, NULL, 0, &f), &f, "spec has none");
		serve_files_clear(&files);
	}
	/* a number twice, one that is missing, what is no message */
	put_number(&twice, 1, 5);
	put_number(&twice, 1, 0);
	put_number(&twice, 2, 100000);
	for (int i = 0; i < 3; i++) {
		if (i == 1)
			memmove(twice.v, twice.v + 2, twice.n -= 2);
		m.n = 0;
		if (i == 2)
			put_number(&m, 1, 0);
		else
			put_bytes(&m, 1, twice.v, twice.n);
		add_one(&files, "userns-9.img", IMG_USER_NS, &m);
		refused(ckpt_images_user_maps(&files, uids, 2, gids, 1, &f), &f, "no message");
		serve_files_clear(&files);
	}
}

/* ---- statistics */

static void test_stats(void **state)
{
	struct stats_dump s;
	struct fault f = { 0 };
	struct bytes m = { .n = 0 }, inner = { .n = 0 }, file;
	size_t size;
	char *data = read_data("stats-dump", &size);

	(void)state;
	assert_int_equal(stats_dump_read(&s, data, size, &f), 0);
	assert_int_equal(s.freezing_time, 257);
	assert_int_equal(s.frozen_time, 62452);
	assert_int_equal(s.memdump_time, 2400);
	assert_int_equal(s.memwrite_time, 250);
	assert_int_equal(s.pages_scanned, 48);
	assert_int_equal(s.pages_skipped_parent, 0);
	assert_int_equal(s.pages_written, 34);
	assert_int_equal(s.page_pipes, 8);
	assert_int_equal(s.page_pipe_bufs, 8);
	for (size_t i = 0; i < size; i++)
		refused(stats_dump_read(&s, data, i, &f), &f, "stats-dump is damaged");
	assert_true(stats_dump_read(&s, data, 1, NULL) < 0);
	free(data);
	/* of a restore; with a member of the wrong kind; with what is not known yet */
	put_bytes(&m, 2, "", 0);
	put_magic(&file, IMG_STATS);
	put_entry(&file, &m);
	refused(stats_dump_read(&s, file.v, file.n, &f), &f, "says nothing of a dump");
	m.n = 0;
	put_string(&inner, 1, "x");
	put_bytes(&m, 1, inner.v, inner.n);
	put_magic(&file, IMG_STATS);
	put_entry(&file, &m);
	refused(stats_dump_read(&s, file.v, file.n, &f), &f, "no message");
	m.n = inner.n = 0;
	put_number(&inner, 7, 1ull << 40);
	put_number(&inner, 99, 1);
	put_bytes(&m, 1, inner.v, inner.n);
	put_magic(&file, IMG_STATS);
	put_entry(&file, &m);
	assert_int_equal(stats_dump_read(&s, file.v, file.n, &f), 0);
	assert_true(s.pages_written == 1ull << 40 && !s.frozen_time);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_real),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_good_mounts),
		cmocka_unit_test(test_bad_mounts),
		cmocka_unit_test(test_ambiguous),
		cmocka_unit_test(test_namespaces_of_mounts),
		cmocka_unit_test(test_inventory),
		cmocka_unit_test(test_many_mounts),
		cmocka_unit_test(test_binds),
		cmocka_unit_test(test_tasks),
		cmocka_unit_test(test_seccomp),
		cmocka_unit_test(test_tasks_namespaces),
		cmocka_unit_test(test_bad_tasks),
		cmocka_unit_test(test_user_maps),
		cmocka_unit_test(test_stats),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
