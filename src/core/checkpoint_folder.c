// SPDX-License-Identifier: Apache-2.0
/*
 * Checkpoints: a folder with criu's images
 *
 * What criu itself, or another tool, has written (criu dump --images-dir). The folder's name is the
 * client's word and taken as it is; what lies in it may come from elsewhere, so every file is opened
 * beneath the folder, without following links, and must be a regular one. Small files are read into
 * memory, large ones stay open and are served from where they are.
 *
 * Only *.img count, and the record when there is one; logs and statistics of criu are beside them.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "checkpoint/files_tar.h"
#include "checkpoint/wire.h"
#include "core/checkpoint_internal.h"
#include "util/cleanup.h"
#include "util/fd.h"
#include "util/limits.h"

#define SMALL_BYTES (1u << 20) /* larger ones stay in their files */

struct folder {
	int fd;
	const char *path;
	struct checkpoint_read *out;
	struct fault *f;
	size_t n_large;
	uint64_t small, total; /* bytes so far */
};

static int refuse(struct folder *d, const char *name, const char *why)
{
	fault_set(d->f, FAULT_FAILED_PRECONDITION, 0, "%.256s in %.512s %s", name, d->path, why);
	fault_at(d->f, NULL, d->path);
	return -EINVAL;
}

/* A regular file beneath the folder; -ENOENT without a fault. */
static int open_file(struct folder *d, const char *name, int *fd, uint64_t *size)
{
	struct open_how how = {
		.flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS |
			   RESOLVE_NO_XDEV,
	};
	struct stat st;
	long r = syscall(SYS_openat2, d->fd, name, &how, sizeof(how));

	if (r < 0 && errno == ENOENT)
		return -ENOENT;
	if (r < 0 && (errno == ELOOP || errno == EXDEV || errno == ENXIO))
		return refuse(d, name, "is no regular file");
	if (r < 0)
		return fault_sys(d->f, errno, "open", name);
	*fd = (int)r;
	if (fstat(*fd, &st) < 0)
		return fault_sys(d->f, errno, "stat", name);
	if (!S_ISREG(st.st_mode))
		return refuse(d, name, "is no regular file");
	*size = (uint64_t)st.st_size;
	return 0;
}

static int add_large(struct folder *d, const char *name, int *fd, uint64_t size)
{
	struct serve_file *file;

	if (++d->n_large > LIMIT_CHECKPOINT_BLOBS)
		return refuse(d, name, "is one large file more than are taken");
	file = ckpt_files_add(&d->out->files, name, 1);
	if (!file)
		return checkpoint_no_memory(d->f);
	file->parts[0] = (struct serve_part){ .fd = TAKE_FD(*fd), .size = size, .digest = "" };
	file->n_parts = 1;
	return 0;
}

static int add_file(struct folder *d, const char *name)
{
	CLEANUP_FREE char *data = NULL;
	CLEANUP_CLOSE int fd = -1;
	uint64_t size = 0;
	int r;

	if (!wire_name_valid(name, strlen(name)))
		return refuse(d, name, "has a name that no image file has");
	r = open_file(d, name, &fd, &size);
	if (r < 0)
		return r == -ENOENT && !d->f->code ? fault_sys(d->f, ENOENT, "open", name) : r;
	if (d->out->files.n >= LIMIT_CHECKPOINT_FILES)
		return refuse(d, name, "is one file more than are taken");
	if (size > LIMIT_CHECKPOINT_BYTES - d->total)
		return refuse(d, name, "is larger than a checkpoint may be");
	d->total += size;
	if (size > SMALL_BYTES)
		return add_large(d, name, &fd, size);
	if (size > LIMIT_CHECKPOINT_FILES_BYTES - d->small)
		return refuse(d, name, "is one small file more than are kept in memory");
	d->small += size;
	data = malloc(size + 1);
	if (!data)
		return checkpoint_no_memory(d->f);
	r = fd_read_all(fd, data, size);
	if (r < 0)
		return fault_sys(d->f, -r, "read", name);
	if (ckpt_files_add_data(&d->out->files, name, TAKE_PTR(data), size) < 0)
		return checkpoint_no_memory(d->f);
	return 0;
}

static bool is_image(const char *name)
{
	size_t n = strlen(name);

	return n > 4 && !strcmp(name + n - 4, ".img");
}

static int read_entries(struct folder *d)
{
	int own = fcntl(d->fd, F_DUPFD_CLOEXEC, 0), r = 0;
	DIR *dir = own < 0 ? NULL : fdopendir(own);
	struct dirent *e;

	if (!dir) {
		r = fault_sys(d->f, errno, "list", d->path);
		fd_close(&own);
		return r;
	}
	while (!r) {
		errno = 0;
		e = readdir(dir);
		if (!e) {
			r = errno ? fault_sys(d->f, errno, "list", d->path) : 0;
			break;
		}
		if (!strcmp(e->d_name, "parent"))
			r = refuse(d, e->d_name,
				   "says that the images are changes to others, which cannot be "
				   "restored; dump without a parent");
		else if (is_image(e->d_name))
			r = add_file(d, e->d_name);
	}
	closedir(dir);
	return r;
}

static int read_record(struct folder *d)
{
	CLEANUP_FREE char *text = NULL;
	CLEANUP_CLOSE int fd = -1;
	uint64_t size = 0;
	int r = open_file(d, CHECKPOINT_RECORD_FILE, &fd, &size);

	if (r == -ENOENT && !d->f->code)
		return 0;
	if (r < 0)
		return r;
	if (size > LIMIT_CHECKPOINT_RECORD_BYTES)
		return refuse(d, CHECKPOINT_RECORD_FILE, "is larger than any record may be");
	text = malloc(size + 1);
	if (!text)
		return checkpoint_no_memory(d->f);
	r = fd_read_all(fd, text, size);
	if (r < 0)
		return fault_sys(d->f, -r, "read", CHECKPOINT_RECORD_FILE);
	r = ckpt_record_read(&d->out->record, text, size, d->f);
	d->out->has_record = !r;
	return r;
}

int checkpoint_folder_read(const char *path, struct checkpoint_read *out, struct fault *f)
{
	struct folder d = { .path = path, .out = out, .f = f };
	int r = 0;

	memset(out, 0, sizeof(*out));
	memset(f, 0, sizeof(*f));
	ckpt_record_init(&out->record);
	d.fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d.fd < 0)
		return fault_sys(f, errno, "open", path);
	r = read_entries(&d);
	if (!r)
		r = read_record(&d);
	if (!r)
		r = checkpoint_files_ready(&out->files, path, f);
	if (!r) {
		out->base_image = strdup(out->has_record ? out->record.image : "");
		if (!out->base_image)
			r = checkpoint_no_memory(f);
	}
	fd_close(&d.fd);
	if (r < 0)
		checkpoint_read_clear(out);
	return r;
}
