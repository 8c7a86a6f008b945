// SPDX-License-Identifier: Apache-2.0
/*
 * A damaged database: noticed, set aside, and made anew
 *
 * Noticed at the start. A small file is looked at as a whole, its trees and its rows; a larger one
 * only when something that was read from it was damaged (db_suspect leaves the file CHECK), since
 * that takes long. The log is always looked at before SQLite opens it: SQLite takes damage in it for
 * its end, forgets the commits behind, and writes over them (db_salvage_wal.c).
 *
 * The new file is made beside the old one (NEW), from its rows (db_salvage_rows.c) and from the disk
 * (db_salvage_disk.c), and synced. Only then names change: first SWITCH is written, with the time in
 * the names of what is set aside; then the log, its index and the file get those names, and the new
 * file its own. A start that finds SWITCH goes on with that; one that finds NEW alone begins again.
 * Of the folders that were moved aside before that, the next attempt finds the rows gone and says
 * so.
 *
 * Whether somebody else has the file open is asked before (F_GETLK on the bytes that SQLite locks):
 * by hand one reads without locks.
 */
#include "store/db_salvage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "store/db_salvage_internal.h"
#include "util/cleanup.h"
#include "util/fd.h"

#define NAME "meta.db"
#define NEW "meta.db.new"
#define SWITCH "meta.db.switch"
#define CHECK "meta.db.check"
#define PAGE_MIN 512
#define CHECK_ALWAYS (4 << 20) /* bytes: takes some milliseconds */

void db_suspect(const char *path)
{
	CLEANUP_FREE char *name = NULL;
	CLEANUP_CLOSE int fd = -1;

	if (asprintf(&name, "%s.check", path) < 0) {
		name = NULL;
		return;
	}
	fd = open(name, O_WRONLY | O_CREAT | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return; /* found again by who reads it again */
}

static bool exists(int root_fd, const char *name)
{
	return faccessat(root_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* ---- others */

static bool locked(int root_fd, const char *name, off_t from, off_t n)
{
	CLEANUP_CLOSE int fd = openat(root_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	struct flock lock = {
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = from, .l_len = n
	};

	return fd >= 0 && fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/* https://www.sqlite.org/src/file/src/os.h: PENDING_BYTE and on; walformat.html: the index's locks */
static int check_unused(int root_fd, const char *root, struct fault *f)
{
	if (!locked(root_fd, NAME, 0x40000000, 512) && !locked(root_fd, NAME "-shm", 120, 9))
		return 0;
	fault_set(f, FAULT_UNAVAILABLE, 0, "the database %s/" NAME " is locked by another program",
		  root);
	return -EBUSY;
}

/* ---- names */

static int move_aside(int root_fd, const char *stamp, const char *suffix)
{
	char from[64], to[128];

	snprintf(from, sizeof(from), NAME "%s", suffix);
	snprintf(to, sizeof(to), NAME ".damaged-%s%s", stamp, suffix);
	if (renameat2(root_fd, from, root_fd, to, RENAME_NOREPLACE) < 0 && errno != ENOENT)
		return -errno;
	return 0;
}

static void remove_new(int root_fd)
{
	unlinkat(root_fd, NEW, 0);
	unlinkat(root_fd, NEW "-wal", 0);
	unlinkat(root_fd, NEW "-shm", 0);
}

/* From SWITCH on; may be done again. */
static int finish_switch(int root_fd, const char *stamp, struct fault *f)
{
	int r = 0;

	if (exists(root_fd, NEW)) {
		r = move_aside(root_fd, stamp, "-wal");
		if (!r)
			r = move_aside(root_fd, stamp, "-shm");
		if (!r)
			r = move_aside(root_fd, stamp, "");
		if (!r && (fsync(root_fd) < 0 || renameat(root_fd, NEW, root_fd, NAME) < 0))
			r = -errno;
	}
	if (!r && (fsync(root_fd) < 0 || (unlinkat(root_fd, SWITCH, 0) < 0 && errno != ENOENT) ||
		   fsync(root_fd) < 0))
		r = -errno;
	return r < 0 ? fault_sys(f, -r, "replace the damaged database", NAME) : 0;
}

static int switch_files(int root_fd, const char *stamp, struct fault *f)
{
	CLEANUP_CLOSE int fd = -1;
	int r = 0;

	fd = openat(root_fd, NEW, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fsync(fd) < 0)
		return fault_sys(f, errno, "sync the new database", NEW);
	fd_close(&fd);
	fd = openat(root_fd, SWITCH ".new",
		    O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW, 0600);
	r = fd < 0 ? -errno : fd_write_all(fd, stamp, strlen(stamp));
	if (!r && (fsync(fd) < 0 || renameat(root_fd, SWITCH ".new", root_fd, SWITCH) < 0 ||
		   fsync(root_fd) < 0))
		r = -errno;
	return r < 0 ? fault_sys(f, -r, "write", SWITCH) : finish_switch(root_fd, stamp, f);
}

/* What a former start did not come to the end of. */
static int go_on(int root_fd, struct fault *f)
{
	CLEANUP_FREE char *stamp = NULL;
	int r = fd_read_file(root_fd, SWITCH, 63, &stamp, NULL);

	if (r == -ENOENT) {
		remove_new(root_fd);
		return 0;
	}
	if (r < 0)
		return fault_sys(f, -r, "read", SWITCH);
	if (!*stamp || strspn(stamp, "0123456789TZ-") != strlen(stamp))
		return fault_set(f, FAULT_INTERNAL, EINVAL, "the file %s does not say a time",
				 SWITCH);
	return finish_switch(root_fd, stamp, f);
}

/* A time that no name has yet. */
static void make_stamp(int root_fd, char *to, size_t size)
{
	time_t now = time(NULL);
	char name[128];
	struct tm tm;

	gmtime_r(&now, &tm);
	for (unsigned n = 1; n < 1000; n++) {
		size_t at = strftime(to, size, "%Y%m%dT%H%M%SZ", &tm);

		if (n > 1)
			snprintf(to + at, size - at, "-%u", n);
		snprintf(name, sizeof(name), NAME ".damaged-%s", to);
		if (!exists(root_fd, name))
			return;
	}
}

/* ---- the report */

static int report_text(const struct salvage *s, const struct salvage_pages *p, const char *reason,
		       char **out)
{
	size_t size;
	FILE *t = open_memstream(out, &size);

	if (!t)
		return -ENOMEM;
	fprintf(t,
		"%s\nthe damaged file is now %s/" NAME ".damaged-%s; a new one was made of what "
		"could be read",
		reason, s->root, s->stamp);
	fprintf(t,
		"\nrows: %llu namespaces, %llu containers, %llu images, %llu contents, %llu "
		"snapshots, %llu leases",
		(unsigned long long)s->namespaces, (unsigned long long)s->containers,
		(unsigned long long)s->images, (unsigned long long)s->content,
		(unsigned long long)s->snapshots, (unsigned long long)s->leases);
	fprintf(t,
		"\nfrom the disk: %llu images by content/index.json, %llu blobs without a row, %llu "
		"contents by their images, %llu that nothing names (now in the namespace default)",
		(unsigned long long)s->images_found, (unsigned long long)s->blobs_found,
		(unsigned long long)s->content_found, (unsigned long long)s->content_unclaimed);
	fprintf(t,
		"\nlost: %llu rows and entries that are not whole, %llu images, %llu contents, %llu "
		"snapshots; pages that could not be read at all may have had more",
		(unsigned long long)p->unreadable + s->spoilt, (unsigned long long)s->images_lost,
		(unsigned long long)s->content_lost, (unsigned long long)s->snapshots_lost);
	if (s->folders_kept)
		fprintf(t, "\n%llu folders of snapshots without a row are now in %s/damaged-%s",
			(unsigned long long)s->folders_kept, s->root, s->stamp);
	fprintf(t,
		"\nfor a week nothing of it is collected: leases salvaged-%s hold it in each namespace",
		s->stamp);
	if (s->n_lines)
		fputs(s->named, t);
	if (s->n_lines > SALVAGE_LINES)
		fprintf(t, "\n  and %u more", s->n_lines - SALVAGE_LINES);
	if (fclose(t)) {
		free(*out);
		*out = NULL;
		return -ENOMEM;
	}
	return 0;
}

/* ---- making the new one */

static int fill(struct salvage *s, struct salvage_pages *p)
{
	int r = db_begin(s->db, DB_FULL, s->f);

	if (r < 0)
		return r;
	r = salvage_rows(s, p);
	if (!r)
		r = salvage_disk(s);
	return db_end(s->db, r, s->f);
}

static int make_new(struct salvage *s, struct salvage_pages *p)
{
	CLEANUP_FREE char *path = NULL;
	int r;

	remove_new(s->root_fd);
	if (asprintf(&path, "%s/" NEW, s->root) < 0) {
		path = NULL;
		return db_no_memory(s->f);
	}
	r = db_open_path(&s->db, TAKE_PTR(path), s->f);
	if (r < 0)
		return r;
	s->lines = open_memstream(&s->named, &s->named_size);
	r = s->lines ? fill(s, p) : db_no_memory(s->f);
	if (s->lines && fclose(s->lines) && !r)
		r = db_no_memory(s->f);
	/* the log is folded and gone when the last connection is closed */
	db_close(s->db);
	if (!r && exists(s->root_fd, NEW "-wal"))
		r = fault_set(s->f, FAULT_INTERNAL, EIO, "the new database %s was not written",
			      NEW);
	return r;
}

static int rebuild(int root_fd, const char *root, struct salvage_wal *wal, const char *reason,
		   char **report, struct fault *f)
{
	struct salvage s = { .root_fd = root_fd, .root = root, .f = f };
	CLEANUP_CLOSE int fd = fd_open_regular(root_fd, NAME, O_NOFOLLOW);
	struct salvage_pages pages = { 0 };
	int r;

	if (fd < 0 && fd != -ENOENT)
		return fault_sys(f, -fd, "open the database", NAME);
	make_stamp(root_fd, s.stamp, sizeof(s.stamp));
	r = salvage_pages_open(&pages, fd, wal);
	if (r < 0)
		fault_sys(f, -r, "read the damaged database", NAME);
	if (!r)
		r = make_new(&s, &pages);
	if (!r && report_text(&s, &pages, reason, report) < 0)
		r = db_no_memory(f);
	if (!r)
		r = switch_files(root_fd, s.stamp, f);
	if (!r)
		unlinkat(root_fd, CHECK, 0);
	if (r < 0) {
		if (!exists(root_fd, SWITCH))
			remove_new(root_fd);
		fault_prefix(f, "%s; it cannot be repaired", reason);
		free(*report);
		*report = NULL;
	}
	salvage_pages_close(&pages);
	free(s.named);
	return r;
}

/* ---- noticing */

/* Ours, and not too new, as far as its first page can be read; else SQLite is to judge. */
static int is_ours(int root_fd, struct salvage_wal *wal)
{
	CLEANUP_CLOSE int fd = fd_open_regular(root_fd, NAME, O_NOFOLLOW);
	struct salvage_pages pages = { 0 };
	uint32_t application, version;
	int r = salvage_pages_open(&pages, fd, wal);

	if (!r)
		r = !salvage_header(&pages, &application, &version) ||
		    (application == DB_APPLICATION_ID && version <= db_schema_version());
	salvage_pages_close(&pages);
	return r;
}

static int quick_check(struct db *db, struct fault *f)
{
	sqlite3_stmt *q = NULL;
	int r = 0;

	if (sqlite3_prepare_v2(db->sql, "PRAGMA quick_check(1)", -1, &q, NULL) != SQLITE_OK)
		return db_fault(db, "check", f);
	if (sqlite3_step(q) != SQLITE_ROW) {
		r = db_fault(db, "check", f);
	} else if (strcmp(db_column_text(q, 0), "ok")) {
		fault_set(f, FAULT_FAILED_PRECONDITION, 0, "%.500s", db_column_text(q, 0));
		r = -EUCLEAN;
	}
	sqlite3_finalize(q);
	return r;
}

static int pass_namespace(void *user, const struct db_namespace *ns)
{
	(void)user;
	(void)ns;
	return 0;
}

static int pass_container(void *user, const struct db_container *c)
{
	(void)user;
	(void)c;
	return 0;
}

/* The whole of it, or of a large one what the start reads anyway. */
static int look(struct db *db, int root_fd, struct fault *f)
{
	struct stat st;
	int r;

	if (fstatat(root_fd, NAME, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return fault_sys(f, errno, "look at the database", NAME);
	if (st.st_size > CHECK_ALWAYS && !exists(root_fd, CHECK)) {
		r = db_namespace_each(db, pass_namespace, NULL, f);
		return r ? r : db_container_each(db, pass_container, NULL, f);
	}
	r = quick_check(db, f);
	if (!r)
		r = salvage_check_rows(db, f);
	sqlite3_db_release_memory(db->sql);
	if (!r)
		unlinkat(root_fd, CHECK, 0);
	return r;
}

static bool has_entries(int root_fd, const char *name)
{
	int fd = openat(root_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *e;

	if (!dir) {
		fd_close(&fd);
		return false;
	}
	do
		e = readdir(dir);
	while (e && e->d_name[0] == '.');
	closedir(dir);
	return e;
}

/* An empty file is as good as none, and SQLite would throw its log away. So is one without a page. */
static bool is_lost(int root_fd, const struct salvage_wal *wal)
{
	struct stat st;

	if (fstatat(root_fd, NAME, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_size >= PAGE_MIN)
		return false;
	return wal->frames || has_entries(root_fd, "content/blobs/sha256") ||
	       has_entries(root_fd, "snapshots/overlayfs") ||
	       has_entries(root_fd, "snapshots/native");
}

/* Fills reason when the log alone says it, before SQLite has seen it. */
static int check_log(int root_fd, const char *root, struct salvage_wal *wal, char *reason,
		     size_t size, struct fault *f)
{
	int r = salvage_wal_open(wal, root_fd, NAME "-wal");

	if (!r && is_lost(root_fd, wal)) {
		snprintf(reason, size, "the database %s/" NAME " is empty, the store is not", root);
	} else if (!r && wal->damaged) {
		r = is_ours(root_fd, wal);
		if (r > 0)
			snprintf(reason, size,
				 "the database %s/" NAME " is damaged: %u parts of its log are not "
				 "as they were written",
				 root, wal->damaged);
	}
	return r < 0 ? fault_sys(f, -r, "read the database's log", NAME "-wal") : 0;
}

/* 0: it is open, 1: reason says why it has to be made anew */
static int open_checked(struct db **out, int root_fd, const char *root, char *reason, size_t size,
			struct fault *f)
{
	struct fault why = { 0 };
	int r = db_open(out, root, &why);

	if (!r)
		r = look(*out, root_fd, &why);
	if (!r)
		return 0;
	if (*out) {
		/* nothing more is to be written into it, not even the log's pages */
		sqlite3_db_config((*out)->sql, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
		db_close(*out);
		*out = NULL;
	}
	if (r != -EUCLEAN) {
		if (f)
			*f = why;
		return r;
	}
	/* as db_fault says it, without its advice; or what a check has found */
	if (!strncmp(why.message, "the database", strlen("the database")))
		snprintf(reason, size, "%.*s", (int)strcspn(why.message, ";"), why.message);
	else
		snprintf(reason, size, "the database %s/" NAME " is damaged: %s", root,
			 why.message);
	for (char *p = reason; *p; p++)
		if (*p == '\n')
			*p = ' ';
	return 1;
}

int db_open_or_rebuild(struct db **out, int root_fd, const char *root, char **report,
		       struct fault *f)
{
	struct salvage_wal wal = { .fd = -1 };
	char reason[1600] = "";
	int r = check_unused(root_fd, root, f), wal_error;

	*out = NULL;
	*report = NULL;
	if (!r)
		r = go_on(root_fd, f);
	if (!r)
		r = check_log(root_fd, root, &wal, reason, sizeof(reason), f);
	if (!r && !*reason) {
		r = open_checked(out, root_fd, root, reason, sizeof(reason), f);
		/* opening it may have changed the log */
		salvage_wal_close(&wal);
		wal_error = r > 0 ? salvage_wal_open(&wal, root_fd, NAME "-wal") : 0;
		if (wal_error < 0)
			r = fault_sys(f, -wal_error, "read the database's log", NAME "-wal");
	}
	if (r >= 0 && *reason) {
		r = rebuild(root_fd, root, &wal, reason, report, f);
		if (!r)
			r = db_open(out, root, f);
	}
	salvage_wal_close(&wal);
	return r;
}
