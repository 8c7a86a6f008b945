// SPDX-License-Identifier: Apache-2.0
/*
 * Room for the database on a full disk
 *
 * Whatever makes room (deleting an image, a collection, even the start of the daemon) is written down
 * in the database first, which takes a little room itself. So a file of a megabyte lies beside it,
 * really allocated, for nothing else. A transaction that begins on a disk with next to nothing left
 * gives a part of that file back; when there is room again it is made whole. This is looked at
 * beforehand, because SQLite has given a transaction up when its commit finds the disk full. In parts,
 * because others may take what was given back.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "store/db_internal.h"
#include "util/cleanup.h"

#define RESERVE_BYTES (1 << 20)
/* Made when there is so much: others are left some of it. */
#define RESERVE_FREE (2ull * RESERVE_BYTES)
#define RESERVE_PART (256 << 10)
/* With less, the log or its index may not find room to grow. */
#define ROOM_BYTES (64u << 10)

/* "ROOT/meta.db" is "ROOT/reserve". */
static char *reserve_path(const struct db *db)
{
	const char *slash = strrchr(db->path, '/');
	char *path;

	return asprintf(&path, "%.*s/reserve", (int)(slash - db->path), db->path) < 0 ? NULL : path;
}

bool db_make_room(struct db *db)
{
	CLEANUP_FREE char *path = reserve_path(db);
	CLEANUP_CLOSE int fd = path ? open(path, O_WRONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC)
				    : -1;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || !st.st_size)
		return false;
	return ftruncate(fd, st.st_size > RESERVE_PART ? st.st_size - RESERVE_PART : 0) == 0;
}

void db_need_room(struct db *db)
{
	CLEANUP_FREE char *root = strndup(db->path, (size_t)(strrchr(db->path, '/') - db->path));
	struct statvfs vfs;

	/* what is kept back for root is there for us */
	if (root && !statvfs(root, &vfs) && (uint64_t)vfs.f_bfree * vfs.f_frsize < ROOM_BYTES)
		db_make_room(db);
}

void db_reserve(struct db *db)
{
	CLEANUP_FREE char *path = reserve_path(db);
	CLEANUP_CLOSE int fd = -1;
	struct statvfs vfs;
	struct stat st;

	if (!path || (stat(path, &st) == 0 && st.st_size >= RESERVE_BYTES))
		return;
	if (statvfs(db->path, &vfs) < 0 || (uint64_t)vfs.f_bavail * vfs.f_frsize < RESERVE_FREE)
		return;
	fd = open(path, O_WRONLY | O_CREAT | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC, 0600);
	/* a file system that cannot has no such reserve */
	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		(void)!fallocate(fd, 0, 0, RESERVE_BYTES);
}
