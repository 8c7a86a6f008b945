// SPDX-License-Identifier: Apache-2.0
/*
 * Checkpoints in the formats of others: out
 *
 * The checkpoint is read as for a restore, so that a damaged one is not passed on. What is written is a tar
 * to the client's fd, or criu's files in a folder of their own. That folder is made by us or empty:
 * after a failure all in it is ours and goes again.
 */
#include "core/ckpt_export.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/ckpt_formats.h"
#include "store/lease.h"
#include "util/cleanup.h"
#include "util/fd.h"

static const char *const names[CKPT_FORMATS] = {
	[CKPT_PODMAN] = "podman",
	[CKPT_CONTAINERD] = "containerd",
	[CKPT_CRIU_DIR] = "criu-dir",
};

const char *ckpt_format_name(enum ckpt_format format)
{
	return names[format];
}

int ckpt_format_of(const char *name)
{
	for (int i = 0; i < CKPT_FORMATS; i++)
		if (!strcmp(names[i], name))
			return i;
	return -EINVAL;
}

/* ---- criu's files, in a tar or a folder */

struct target {
	struct store_call *c;
	struct ckpt_tar *tar; /* or: */
	int folder, fd;
	const char *path; /* of the folder */
	const char *name; /* of the file that is being written */
	uint64_t written;
};

static int put(void *user, const void *data, size_t size, struct fault *f)
{
	struct target *t = user;
	int r;

	if (t->tar)
		return ckpt_tar_data(t->tar, data, size, f);
	r = fd_write_all(t->fd, data, size);
	t->written += size;
	return r < 0 ? fault_sys(f, -r, "write", t->name) : 0;
}

static int begin(struct target *t, const char *name, uint64_t size)
{
	t->name = name;
	if (t->tar)
		return ckpt_tar_header(t->tar, name, size);
	t->fd = openat(t->folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	return t->fd < 0 ? fault_sys(t->c->f, errno, "make the file", name) : 0;
}

static int end(struct target *t, int r)
{
	if (t->fd < 0)
		return r;
	if (!r && fsync(t->fd) < 0)
		r = fault_sys(t->c->f, errno, "sync", t->name);
	fd_close(&t->fd);
	return r;
}

static int put_bytes(struct target *t, const char *name, const void *data, size_t size)
{
	int r = begin(t, name, size);

	if (!r)
		r = put(t, data, size, t->c->f);
	return end(t, r);
}

static int put_image(struct target *t, const struct serve_file *file)
{
	int r = begin(t, file->name, ckpt_file_size(file));

	if (!r)
		r = ckpt_file_copy(t->c, file, put, t);
	return end(t, r);
}

static int put_layer(struct target *t, const struct oci_descriptor *layer)
{
	uint64_t size = 0;
	int r = ckpt_layer_copy(t->c, layer, NULL, NULL, &size);

	if (!r)
		r = begin(t, CRIU_DIFF, size);
	if (!r)
		r = ckpt_layer_copy(t->c, layer, put, t, &size);
	return end(t, r);
}

static int put_all(struct target *t, const struct checkpoint_read *read)
{
	CLEANUP_FREE char *record = NULL;
	uint8_t stats[CKPT_STATS_ROOM];
	size_t size;
	int r = 0;

	if (ckpt_record_write(&read->record, &record, &size) < 0)
		return checkpoint_no_memory(t->c->f);
	for (size_t i = 0; !r && i < read->files.n; i++)
		r = put_image(t, &read->files.v[i]);
	if (!r)
		r = put_bytes(t, PODMAN_STATS, stats, ckpt_stats_image(&read->record, stats));
	if (!r && read->has_diff)
		r = put_layer(t, &read->diff);
	if (!r)
		r = put_bytes(t, CHECKPOINT_RECORD_FILE, record, size);
	return r;
}

/* ---- the folder */

static int open_folder(const char *path, bool *made, int *fd, struct fault *f)
{
	struct dirent *e;
	DIR *dir;
	int own;

	*made = mkdir(path, 0700) == 0;
	if (!*made && errno != EEXIST) {
		fault_sys(f, errno, "make the folder", path);
		fault_arg(f, "path");
		return -EIO;
	}
	*fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (*fd < 0) {
		fault_sys(f, errno, "open the folder", path);
		fault_arg(f, "path");
		return -EIO;
	}
	own = openat(*fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = own < 0 ? NULL : fdopendir(own);
	if (!dir) {
		fault_sys(f, errno, "list", path);
		fd_close(&own);
		return -EIO;
	}
	do
		e = readdir(dir);
	while (e && (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")));
	closedir(dir);
	if (!e)
		return 0;
	fault_set(f, FAULT_ALREADY_EXISTS, 0, "the folder %s is not empty", path);
	fault_arg(f, "path");
	return -EEXIST;
}

static void undo_folder(struct target *t, const struct checkpoint_read *read, bool made)
{
	for (size_t i = 0; i < read->files.n; i++)
		unlinkat(t->folder, read->files.v[i].name, 0);
	unlinkat(t->folder, PODMAN_STATS, 0);
	unlinkat(t->folder, CRIU_DIFF, 0);
	unlinkat(t->folder, CHECKPOINT_RECORD_FILE, 0);
	if (made)
		rmdir(t->path);
}

static int to_folder(struct store_call *c, const struct checkpoint_read *read, const char *path,
		     uint64_t *size)
{
	struct target t = { .c = c, .folder = -1, .fd = -1, .path = path };
	bool made = false;
	int r = open_folder(path, &made, &t.folder, c->f);

	if (!r) {
		r = put_all(&t, read);
		if (!r && fsync(t.folder) < 0)
			r = fault_sys(c->f, errno, "sync", path);
		if (r < 0)
			undo_folder(&t, read, made);
	} else if (made) {
		rmdir(path);
	}
	fd_close(&t.folder);
	*size = t.written;
	return r;
}

/* ---- an archive */

static int to_tar(struct store_call *c, const struct checkpoint_read *read,
		  const struct ckpt_export *e, uint64_t *size)
{
	struct target t = { .c = c, .folder = -1, .fd = -1 };
	struct ckpt_locale locale;
	int r = ckpt_tar_new(&t.tar, c, e->fd, e->compression);

	if (r < 0)
		return r;
	ckpt_locale_enter(&locale);
	switch (e->format) {
	case CKPT_PODMAN:
		r = ckpt_export_podman(c, read, t.tar);
		break;
	case CKPT_CONTAINERD:
		r = ckpt_export_containerd(c, read, e->name, t.tar);
		break;
	case CKPT_CRIU_DIR:
	case CKPT_FORMATS:
		r = put_all(&t, read);
		break;
	}
	if (!r)
		r = ckpt_tar_close(t.tar, size);
	ckpt_tar_free(t.tar);
	ckpt_locale_leave(&locale);
	return r;
}

static uint64_t images_bytes(const struct checkpoint_read *read)
{
	uint64_t n = 0;

	for (size_t i = 0; i < read->files.n; i++)
		n += ckpt_file_size(&read->files.v[i]);
	return n;
}

int ckpt_export(struct store_call *c, const struct ckpt_export *e, uint64_t *size)
{
	struct checkpoint_read read;
	struct lease_hold hold;
	int r = lease_hold(c, &hold);

	*size = 0;
	if (r < 0)
		return r;
	store_progress_phase(c->progress, "verify", 0);
	r = checkpoint_image_read(c, e->name, NULL, &read);
	if (!r) {
		r = ckpt_verify_pages(c, &read);
		if (!r && e->format != CKPT_CRIU_DIR)
			r = ckpt_runc_images(c, &read);
		store_progress_phase(c->progress, "write", images_bytes(&read));
		if (!r)
			r = e->fd < 0 ? to_folder(c, &read, e->folder, size)
				      : to_tar(c, &read, e, size);
		checkpoint_read_clear(&read);
	}
	lease_release(c, &hold);
	return r;
}
