// SPDX-License-Identifier: Apache-2.0
/*
 * Salvaging a database: what the disk tells
 *
 * Rows and files are brought together before the store is opened, since the store removes files
 * without rows. A blob's file is all that its row says. What nothing claims goes to the namespace
 * `default`, where it can be seen. A snapshot without its folder, or without its parent, is nothing;
 * a folder without its row may be all that somebody has written in a container: it is moved to
 * damaged-TIME, beside the database that was set aside.
 *
 * Rows that were lost may have been the only reference to something that was found. So all of it is
 * held by a lease in each namespace, for a week in which one can look after it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/db_salvage_internal.h"
#include "store/snapshot.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/digest.h"
#include "util/fd.h"

#define HOLD_NS (7 * 24 * 3600 * CLOCK_NS_PER_SEC)

static const char SQL_FOUND[] = "CREATE TEMP TABLE found (digest TEXT PRIMARY KEY) WITHOUT ROWID;"
				"CREATE TEMP TABLE folders (snapshotter TEXT, id INTEGER, "
				"PRIMARY KEY (snapshotter, id)) WITHOUT ROWID;";
static const char SQL_FOUND_ADD[] = "INSERT OR IGNORE INTO temp.found VALUES (?1)";
static const char SQL_BLOB[] = "INSERT OR IGNORE INTO blobs VALUES (?1, ?2, ?3)";
static const char SQL_BLOB_SIZE[] = "UPDATE blobs SET size = ?2 WHERE digest = ?1";
static const char SQL_BLOBS_GONE[] =
	"DELETE FROM blobs WHERE digest NOT IN (SELECT digest FROM temp.found)";
static const char SQL_IMAGES_GONE[] =
	"SELECT namespace, name FROM images WHERE digest NOT IN (SELECT digest FROM blobs)";
static const char SQL_IMAGES_DELETE[] =
	"DELETE FROM images WHERE digest NOT IN (SELECT digest FROM blobs)";
static const char SQL_CONTENT_GONE[] =
	"SELECT namespace, digest FROM content WHERE digest NOT IN (SELECT digest FROM blobs)";
static const char SQL_CONTENT_DELETE[] =
	"DELETE FROM content WHERE digest NOT IN (SELECT digest FROM blobs)";
static const char SQL_UNCLAIMED[] =
	"INSERT INTO content SELECT 'default', digest, '{}', created_at, created_at FROM blobs "
	"WHERE digest NOT IN (SELECT digest FROM content)";
static const char SQL_FOLDER[] = "INSERT OR IGNORE INTO temp.folders VALUES (?1, ?2)";
#define ORPHANS                                                                                    \
	"FROM snapshots AS s WHERE NOT EXISTS (SELECT 1 FROM temp.folders AS f "                   \
	"WHERE f.snapshotter = s.snapshotter AND f.id = s.id) OR (s.parent <> '' AND NOT EXISTS "  \
	"(SELECT 1 FROM snapshots AS p WHERE p.namespace = s.namespace "                           \
	"AND p.snapshotter = s.snapshotter AND p.name = s.parent AND p.kind = 'committed'))"
static const char SQL_SNAPSHOTS_GONE[] = "SELECT namespace, name " ORPHANS;
static const char SQL_SNAPSHOTS_DELETE[] = "DELETE FROM snapshots WHERE id IN (SELECT s.id " ORPHANS
					   ")";
static const char SQL_FOLDERS_LEFT[] =
	"SELECT snapshotter, id FROM temp.folders AS f WHERE NOT EXISTS (SELECT 1 FROM snapshots "
	"AS s WHERE s.snapshotter = f.snapshotter AND s.id = f.id)";
static const char SQL_SEQUENCE[] = "DELETE FROM sqlite_sequence WHERE name = 'snapshots';"
				   "INSERT INTO sqlite_sequence SELECT 'snapshots', "
				   "max((SELECT coalesce(max(id), 0) FROM snapshots), "
				   "(SELECT coalesce(max(id), 0) FROM temp.folders));";
static const char SQL_CONTAINERS_BROKEN[] =
	"SELECT namespace, id FROM containers AS c WHERE snapshot_key <> '' AND NOT EXISTS "
	"(SELECT 1 FROM snapshots AS s WHERE s.namespace = c.namespace AND s.name = c.snapshot_key)";
static const char SQL_RESOURCES[] = "DELETE FROM lease_resources WHERE (namespace, lease) NOT IN "
				    "(SELECT namespace, id FROM leases)";
static const char SQL_NAMESPACES[] =
	"INSERT OR IGNORE INTO namespaces SELECT namespace, '{}' FROM ("
	"SELECT namespace FROM containers UNION SELECT namespace FROM images "
	"UNION SELECT namespace FROM content UNION SELECT namespace FROM snapshots "
	"UNION SELECT namespace FROM leases)";
static const char SQL_LEASE[] = "INSERT OR IGNORE INTO leases SELECT namespace, ?1, '{}', ?2, ?3 "
				"FROM (SELECT namespace FROM content "
				"UNION SELECT namespace FROM snapshots)";
static const char SQL_HELD[] =
	"INSERT OR IGNORE INTO lease_resources "
	"SELECT namespace, ?1, 'content', digest FROM content "
	"UNION ALL SELECT namespace, ?1, 'snapshots/' || snapshotter, name FROM snapshots";

static const char *const snapshotters[] = { SNAPSHOTTER_OVERLAYFS, SNAPSHOTTER_NATIVE };

/* ---- statements */

/* Rows changed, or negative. Texts a, b may be NULL. */
static int change(struct salvage *s, const char *text, const char *a)
{
	sqlite3_stmt *q = db_statement(s->db, text, s->f);
	int r;

	if (!q)
		return -EINVAL;
	if (a)
		db_bind_text(q, 1, a);
	r = db_run(s->db, q, "write", s->f);
	return r < 0 ? r : sqlite3_changes(s->db->sql);
}

/* Tells of each row of a statement that answers a namespace and a name. */
static int tell(struct salvage *s, const char *text, const char *what, const char *why)
{
	CLEANUP(db_donep) sqlite3_stmt *q = db_statement(s->db, text, s->f);
	int step;

	if (!q)
		return -EINVAL;
	while ((step = sqlite3_step(q)) == SQLITE_ROW)
		salvage_note(s, "%s %s (namespace %s): %s", what, db_column_text(q, 1),
			     db_column_text(q, 0), why);
	return step == SQLITE_DONE ? 0 : db_fault(s->db, "read", s->f);
}

/* Removes rows, told of first; how many is added to *n. */
static int drop(struct salvage *s, const char *select, const char *delete, const char *what,
		const char *why, uint64_t *n)
{
	int r = tell(s, select, what, why);

	if (!r)
		r = change(s, delete, NULL);
	if (r > 0)
		*n += (uint64_t)r;
	return r;
}

/* ---- blobs */

static int open_dir(struct salvage *s, const char *name, DIR **dir)
{
	int fd = openat(s->root_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	*dir = NULL;
	if (fd < 0)
		return errno == ENOENT ? 0 : fault_sys(s->f, errno, "open the folder", name);
	*dir = fdopendir(fd);
	if (*dir)
		return 0;
	close(fd);
	return fault_sys(s->f, ENOMEM, "open the folder", name);
}

static int add_blob(struct salvage *s, const char *digest, const struct stat *st)
{
	sqlite3_stmt *q;
	int r = change(s, SQL_FOUND_ADD, digest);

	if (r < 0)
		return r;
	q = db_statement(s->db, SQL_BLOB, s->f);
	if (!q)
		return -EINVAL;
	db_bind_text(q, 1, digest);
	sqlite3_bind_int64(q, 2, st->st_size);
	sqlite3_bind_int64(q, 3,
			   (int64_t)st->st_mtim.tv_sec * CLOCK_NS_PER_SEC + st->st_mtim.tv_nsec);
	r = db_run(s->db, q, "write", s->f);
	if (r < 0)
		return r;
	if (sqlite3_changes(s->db->sql)) {
		s->blobs_found++;
		return 0;
	}
	q = db_statement(s->db, SQL_BLOB_SIZE, s->f);
	if (!q)
		return -EINVAL;
	db_bind_text(q, 1, digest);
	sqlite3_bind_int64(q, 2, st->st_size);
	return db_run(s->db, q, "write", s->f);
}

static int add_blobs(struct salvage *s)
{
	struct dirent *e;
	DIR *dir;
	int r = open_dir(s, "content/blobs/sha256", &dir);

	while (!r && dir && (errno = 0, e = readdir(dir))) {
		char digest[DIGEST_TEXT];
		struct stat st;

		if (strlen(e->d_name) != DIGEST_HEX)
			continue;
		snprintf(digest, sizeof(digest), "sha256:%.64s", e->d_name);
		if (digest_valid(digest) &&
		    fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode))
			r = add_blob(s, digest, &st);
	}
	if (!r && dir && errno)
		r = fault_sys(s->f, errno, "read the folder", "content/blobs/sha256");
	if (dir)
		closedir(dir);
	if (!r)
		r = change(s, SQL_BLOBS_GONE, NULL);
	return r < 0 ? r : 0;
}

/* ---- snapshots */

static int add_folders(struct salvage *s, const char *snapshotter)
{
	char name[64];
	struct dirent *e;
	DIR *dir;
	int r;

	snprintf(name, sizeof(name), "snapshots/%s", snapshotter);
	r = open_dir(s, name, &dir);
	while (!r && dir && (errno = 0, e = readdir(dir))) {
		size_t digits = strspn(e->d_name, "0123456789");
		sqlite3_stmt *q;

		if (!digits || e->d_name[digits] || digits > 18 || e->d_name[0] == '0')
			continue;
		q = db_statement(s->db, SQL_FOLDER, s->f);
		if (!q) {
			r = -EINVAL;
			break;
		}
		db_bind_text(q, 1, snapshotter);
		sqlite3_bind_int64(q, 2, atoll(e->d_name));
		r = db_run(s->db, q, "write", s->f);
	}
	if (!r && dir && errno)
		r = fault_sys(s->f, errno, "read the folder", name);
	if (dir)
		closedir(dir);
	return r;
}

static int make_folder(struct salvage *s, int parent, const char *name, int *fd)
{
	if (mkdirat(parent, name, 0700) < 0 && errno != EEXIST)
		return fault_sys(s->f, errno, "make the folder", name);
	*fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return *fd < 0 ? fault_sys(s->f, errno, "open the folder", name) : 0;
}

/* To damaged-TIME/snapshots/SNAPSHOTTER/ID */
static int keep_folder(struct salvage *s, const char *snapshotter, const char *id)
{
	CLEANUP_CLOSE int aside = -1;
	CLEANUP_CLOSE int snapshots = -1;
	CLEANUP_CLOSE int to = -1;
	char name[64], from[128];
	int r;

	snprintf(name, sizeof(name), "damaged-%s", s->stamp);
	r = make_folder(s, s->root_fd, name, &aside);
	if (!r)
		r = make_folder(s, aside, "snapshots", &snapshots);
	if (!r)
		r = make_folder(s, snapshots, snapshotter, &to);
	if (r < 0)
		return r;
	snprintf(from, sizeof(from), "snapshots/%s/%s", snapshotter, id);
	if (renameat(s->root_fd, from, to, id) < 0)
		return fault_sys(s->f, errno, "move away the folder", from);
	s->folders_kept++;
	return 0;
}

static int keep_folders(struct salvage *s)
{
	CLEANUP(db_donep) sqlite3_stmt *q = db_statement(s->db, SQL_FOLDERS_LEFT, s->f);
	int r = q ? 0 : -EINVAL, step = SQLITE_DONE;

	while (!r && (step = sqlite3_step(q)) == SQLITE_ROW)
		r = keep_folder(s, db_column_text(q, 0), db_column_text(q, 1));
	return r < 0 || step == SQLITE_DONE ? r : db_fault(s->db, "read", s->f);
}

static int match_snapshots(struct salvage *s)
{
	int r = 0;

	for (size_t i = 0; !r && i < ARRAY_SIZE(snapshotters); i++)
		r = add_folders(s, snapshotters[i]);
	/* those whose parent has gone follow it */
	do {
		if (r >= 0)
			r = drop(s, SQL_SNAPSHOTS_GONE, SQL_SNAPSHOTS_DELETE, "snapshot",
				 "its folder or its parent is not there", &s->snapshots_lost);
	} while (r > 0);
	if (!r)
		r = keep_folders(s);
	/* a number that was used is never used again */
	if (!r)
		r = db_exec(s->db, SQL_SEQUENCE, "write", s->f);
	return r ? r : tell(s, SQL_CONTAINERS_BROKEN, "container", "its snapshot is lost");
}

/* ---- leases, and all of it */

static int hold(struct salvage *s)
{
	char id[64];
	int64_t now = clock_now();
	sqlite3_stmt *q = db_statement(s->db, SQL_LEASE, s->f);
	int r;

	if (!q)
		return -EINVAL;
	snprintf(id, sizeof(id), "salvaged-%s", s->stamp);
	db_bind_text(q, 1, id);
	sqlite3_bind_int64(q, 2, now);
	sqlite3_bind_int64(q, 3, now + HOLD_NS);
	r = db_run(s->db, q, "write", s->f);
	return r ? r : change(s, SQL_HELD, id);
}

int salvage_disk(struct salvage *s)
{
	int r = db_exec(s->db, SQL_FOUND, "write", s->f);

	if (!r)
		r = add_blobs(s);
	if (!r)
		r = salvage_index(s);
	if (!r)
		r = drop(s, SQL_IMAGES_GONE, SQL_IMAGES_DELETE, "image", "its content is not there",
			 &s->images_lost);
	if (r >= 0)
		r = drop(s, SQL_CONTENT_GONE, SQL_CONTENT_DELETE, "content",
			 "its file is not there", &s->content_lost);
	if (r >= 0)
		r = salvage_images(s);
	if (!r) {
		r = change(s, SQL_UNCLAIMED, NULL);
		s->content_unclaimed = r > 0 ? (uint64_t)r : 0;
	}
	if (r >= 0)
		r = match_snapshots(s);
	if (!r)
		r = change(s, SQL_RESOURCES, NULL);
	if (r >= 0)
		r = hold(s);
	if (r >= 0)
		r = change(s, SQL_NAMESPACES, NULL);
	return r < 0 ? r : 0;
}
