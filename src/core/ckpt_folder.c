// SPDX-License-Identifier: Apache-2.0
/*
 * tasks.checkpoint into a folder (image_path)
 *
 * criu writes its files itself, by the folder's path; what comes before and after is done through one fd,
 * so that it is this folder which has them. It has to be empty but for logs: files of an earlier dump would
 * be taken for images of this one. When all is there it is made durable, file by file, and the
 * record comes last, as with an image: with it the folder is a checkpoint, without it it is none. What a
 * failed dump has left in it goes.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/ckpt_formats.h"
#include "core/ckpt_internal.h"
#include "util/cleanup.h"
#include "util/fd.h"
#include "util/log.h"

#define INVENTORY "inventory.img"

/* Each name in the folder but "." and "..": below 0 ends it. */
static int each(struct ckpt *ck, int (*fn)(struct ckpt *ck, const char *name, struct fault *f),
		struct fault *f)
{
	int own = openat(ck->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *dir = own < 0 ? NULL : fdopendir(own);

	if (!dir) {
		r = fault_sys(f, errno, "list", ck->o.image_path);
		fd_close(&own);
		return r;
	}
	while (!r) {
		struct dirent *e;

		errno = 0;
		e = readdir(dir);
		if (!e) {
			r = errno ? fault_sys(f, errno, "list", ck->o.image_path) : 0;
			break;
		}
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			r = fn(ck, e->d_name, f);
	}
	closedir(dir);
	return r;
}

/* A log and statistics are no images: the work folder may be the same. */
static bool is_beside(const char *name)
{
	return !strcmp(name, CRIU_LOG) || !strcmp(name, STATS_DUMP_FILE);
}

static int refuse(struct ckpt *ck, const char *name, struct fault *f)
{
	if (is_beside(name))
		return 0;
	fault_set(f, FAULT_ALREADY_EXISTS, 0, "the folder %s is not empty: it has %.256s",
		  ck->o.image_path, name);
	fault_arg(f, "options");
	return -EEXIST;
}

int ckpt_folder_open(struct ckpt *ck, struct fault *f)
{
	int r;

	ck->folder_made = mkdir(ck->o.image_path, 0700) == 0;
	if (!ck->folder_made && errno != EEXIST)
		return fault_sys(f, errno, "make the folder", ck->o.image_path);
	ck->folder = open(ck->o.image_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (ck->folder < 0)
		return fault_sys(f, errno, "open the folder", ck->o.image_path);
	r = each(ck, refuse, f);
	/* what is in there is somebody's */
	if (r < 0)
		fd_close(&ck->folder);
	return r;
}

static int sync_file(struct ckpt *ck, const char *name, struct fault *f)
{
	CLEANUP_CLOSE int fd = openat(ck->folder, name,
				      O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return fault_sys(f, errno, "open", name);
	if (S_ISREG(st.st_mode) && fsync(fd) < 0)
		return fault_sys(f, errno, "sync", name);
	return store_cancelled(&ck->call);
}

static int write_record(struct ckpt *ck, struct fault *f)
{
	CLEANUP_FREE char *text = NULL;
	CLEANUP_CLOSE int fd = -1;
	size_t size;
	int r = ckpt_record_write(&ck->record, &text, &size);

	if (r < 0)
		return fault_sys(f, -r, "write the record into", ck->o.image_path);
	fd = openat(ck->folder, CHECKPOINT_RECORD_FILE,
		    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	r = fd < 0 ? -errno : fd_write_all(fd, text, size);
	if (!r && fsync(fd) < 0)
		r = -errno;
	return r < 0 ? fault_sys(f, -r, "write " CHECKPOINT_RECORD_FILE " into", ck->o.image_path)
		     : 0;
}

/* The folder's own name. */
static int sync_parent(struct ckpt *ck, struct fault *f)
{
	CLEANUP_CLOSE int fd = openat(ck->folder, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) < 0)
		return fault_sys(f, errno, "sync the folder of", ck->o.image_path);
	return 0;
}

int ckpt_folder_commit(struct ckpt *ck, struct fault *f)
{
	int r;

	if (faccessat(ck->folder, INVENTORY, R_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return fault_set(f, FAULT_FAILED_PRECONDITION, errno,
				 "criu has written no " INVENTORY " into %s", ck->o.image_path);
	r = each(ck, sync_file, f);
	if (!r)
		r = write_record(ck, f);
	if (!r && fsync(ck->folder) < 0)
		r = fault_sys(f, errno, "sync", ck->o.image_path);
	if (!r && ck->folder_made)
		r = sync_parent(ck, f);
	return r;
}

static int drop_file(struct ckpt *ck, const char *name, struct fault *f)
{
	size_t n = strlen(name);

	(void)f;
	if ((n > 4 && !strcmp(name + n - 4, ".img")) || !strcmp(name, CHECKPOINT_RECORD_FILE))
		(void)unlinkat(ck->folder, name, 0);
	return 0;
}

void ckpt_folder_drop(struct ckpt *ck)
{
	struct fault f;

	if (ck->folder < 0)
		return;
	/* the record first: without it what is left is no checkpoint */
	(void)unlinkat(ck->folder, CHECKPOINT_RECORD_FILE, 0);
	if (each(ck, drop_file, &f) < 0)
		log_warn("what a failed checkpoint has left: %s", f.message);
	/* a log may be in it still */
	if (ck->folder_made)
		(void)rmdir(ck->o.image_path);
}
