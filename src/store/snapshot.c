// SPDX-License-Identifier: Apache-2.0
/*
 * Snapshots: how they come, change and go
 *
 * A new one's folder is made beside the others under a name that no row has (SNAPSHOT_NEW), without
 * any lock, since a full copy takes long. Then one transaction inserts the row and renames the
 * folder to the row's id. Whatever was looked at before, the key and the parent, is looked at
 * again in there: the parent by its id, for a copy of what was removed meanwhile is no copy.
 *
 * A commit syncs the files first and then, in one durable transaction, gives the row its name. A
 * removal deletes the row durably and moves the folder away under the same lock. A daemon that is
 * killed in between leaves a folder without a row at most, and the next start moves that away.
 *
 * Active ones and views are not durable at once: what is written into them is not either. A power
 * cut may lose the last moment's, as it does their containers'.
 *
 * Events are added within the transaction and taken out again should it fail.
 */
#include "store/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/lease.h"
#include "store/snapshot_internal.h"
#include "util/cleanup.h"
#include "util/fd.h"
#include "util/limits.h"
#include "util/mp.h"

static const struct snapshot_driver *const drivers[] = {
	[SNAPSHOT_OVERLAY] = &snapshot_overlay,
	[SNAPSHOT_NATIVE] = &snapshot_native,
};

/* ---- snapshotters */

const struct snapshot_driver *snapshot_driver(const char *name, struct fault *f)
{
	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++)
		if (!strcmp(name, drivers[i]->name))
			return drivers[i];
	fault_set(f, FAULT_NOT_FOUND, 0,
		  "there is no snapshotter '%s'; there are " SNAPSHOTTER_OVERLAYFS
		  " and " SNAPSHOTTER_NATIVE,
		  name);
	fault_arg(f, "snapshotter");
	return NULL;
}

int snapshotter_name(struct store *s, const char *wanted, const char **out, struct fault *f)
{
	const struct snapshot_driver *d;

	if (!wanted || !*wanted) {
		*out = snapshotter_no_overlay(s) ? SNAPSHOTTER_NATIVE : SNAPSHOTTER_OVERLAYFS;
		return 0;
	}
	d = snapshot_driver(wanted, f);
	if (!d)
		return -ENOENT;
	*out = d->name;
	return 0;
}

const char *snapshotter_no_overlay(const struct store *s)
{
	return *s->snapshots->no_overlay ? s->snapshots->no_overlay : NULL;
}

bool snapshotter_is_overlay(const char *snapshotter)
{
	return !strcmp(snapshotter, SNAPSHOTTER_OVERLAYFS);
}

static int check_name(struct store_call *c, const char *argument, const char *name)
{
	size_t n = name ? strnlen(name, LIMIT_NAME_BYTES + 1) : 0;

	if (n && n <= LIMIT_NAME_BYTES)
		return 0;
	fault_set(c->f, FAULT_INVALID_ARGUMENT, 0, "%s: a snapshot's name has 1 to %u bytes",
		  argument, LIMIT_NAME_BYTES);
	fault_arg(c->f, argument);
	return -EINVAL;
}

/* ---- events */

struct pair {
	const char *key, *value;
};

static int add_event(struct store_call *c, const char *topic, const struct pair *pairs, uint32_t n)
{
	struct store_event *ev;
	msgpack_packer pk;

	if (!c->events)
		return 0;
	ev = store_event_add(c->events, c->ns, topic);
	if (!ev)
		return fault_sys(c->f, ENOMEM, "keep the event", topic);
	mp_packer_init(&pk, &ev->payload);
	msgpack_pack_map(&pk, n);
	for (uint32_t i = 0; i < n; i++)
		mp_pack_key_str(&pk, pairs[i].key, pairs[i].value);
	return 0;
}

/* Takes out what came behind a mark: the transaction that it tells of has failed. */
static void cut_events(struct store_call *c, struct store_event **mark)
{
	struct store_events tail;

	if (!mark)
		return;
	tail.first = *mark;
	tail.last = c->events->last;
	*mark = NULL;
	c->events->last = mark;
	store_events_clear(&tail);
}

static struct store_event **mark_events(struct store_call *c)
{
	return c->events ? c->events->last : NULL;
}

/* ---- folders */

static int folder_of(const struct store_call *c, const struct snapshot_driver *d)
{
	return c->store->snapshots->folders[d->index];
}

int snapshot_bind(struct store *s, const struct snapshot_driver *d, int64_t id, bool read_only,
		  struct store_mounts *out)
{
	CLEANUP_FREE char *path = NULL;
	struct store_mount *m;
	int r;

	if (asprintf(&path, "%s/snapshots/%s/%lld/fs", s->root, d->name, (long long)id) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	m = store_mounts_add(out, "bind", path, "");
	if (!m)
		return -ENOMEM;
	r = store_mount_option(m, "%s", read_only ? "ro" : "rw");
	return r ? r : store_mount_option(m, "rbind");
}

/*
 * What was made in vain goes the way of all folders: a tree can be large. Should the rename fail
 * too, the next start has it.
 */
static void drop_folder(struct store_call *c, const struct snapshot_driver *d, const char *name)
{
	(void)store_trash(c->store, folder_of(c, d), name);
}

static int make_folder(struct store_call *c, const struct snapshot_driver *d,
		       enum snapshot_kind kind, const struct snapshot_row *parent, char *name,
		       size_t size)
{
	CLEANUP_CLOSE int at = -1, parent_fs = -1;
	int folder = folder_of(c, d), r = 0;

	do {
		snprintf(name, size, SNAPSHOT_NEW "%llx",
			 (unsigned long long)atomic_fetch_add(&c->store->snapshots->serial, 1));
	} while (mkdirat(folder, name, 0700) < 0 && errno == EEXIST);
	at = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (at < 0)
		r = fault_sys(c->f, errno, "make a snapshot's folder in", d->name);
	if (!r && parent->id)
		r = snapshot_open_fs(c->store, d, parent->id, O_RDONLY, &parent_fs, c->f);
	if (!r)
		r = d->make(c, at, parent_fs, kind);
	if (r < 0)
		drop_folder(c, d, name);
	return r;
}

/* ---- prepare and view */

struct making {
	struct store_call *c;
	const struct snapshot_driver *d;
	enum snapshot_kind kind;
	const char *key, *parent;
	const struct db_label *labels;
	size_t n_labels;
	struct snapshot_row parent_row;
	char folder[40];
	bool named; /* the folder has its id as name */
	int64_t id;
	struct store_mounts *mounts;
};

/* All that makes it impossible; again within the transaction. */
static int look(struct making *m, struct snapshot_row *parent, int64_t **parents, size_t *n)
{
	int r = snapshot_row_vacant(m->c, m->d, m->key);

	if (!r)
		r = snapshot_row_parent(m->c, m->d, m->parent, parent);
	if (!r)
		r = snapshot_row_chain(m->c, m->d, m->parent, parents, n);
	return r;
}

static int insert(struct making *m)
{
	CLEANUP(snapshot_row_clear) struct snapshot_row parent = { 0 };
	CLEANUP_FREE int64_t *parents = NULL;
	struct store_call *c = m->c;
	int folder = folder_of(c, m->d), r;
	char id[24];
	size_t n = 0;

	r = look(m, &parent, &parents, &n);
	if (!r && parent.id != m->parent_row.id) {
		fault_set(c->f, FAULT_ABORTED, 0, "parent '%s' was replaced meanwhile", m->parent);
		r = -EAGAIN;
	}
	if (!r)
		r = snapshot_row_insert(c, m->d, m->key, m->parent, m->kind, m->labels, m->n_labels,
					&m->id);
	if (r < 0)
		return r;
	snprintf(id, sizeof(id), "%lld", (long long)m->id);
	if (renameat2(folder, m->folder, folder, id, RENAME_NOREPLACE) < 0)
		return fault_sys(c->f, errno, "name a snapshot's folder", id);
	strcpy(m->folder, id);
	r = lease_join(c, m->d->lease_type, m->key);
	if (!r && m->mounts && m->d->mounts(c->store, m->kind, m->id, parents, n, m->mounts) < 0)
		r = fault_sys(c->f, ENOMEM, "list the mounts of", m->key);
	if (!r && m->kind == SNAPSHOT_ACTIVE)
		r = add_event(c, "/snapshot/prepare",
			      (struct pair[]){ { "key", m->key },
					       { "parent", m->parent },
					       { "snapshotter", m->d->name } },
			      3);
	return r;
}

static int make(struct making *m)
{
	struct store_call *c = m->c;
	struct store_event **mark = mark_events(c);
	CLEANUP_FREE int64_t *parents = NULL;
	size_t n = 0;
	int r;

	r = check_name(c, "key", m->key);
	if (!r && m->d == &snapshot_overlay && snapshotter_no_overlay(c->store)) {
		fault_set(c->f, FAULT_FAILED_PRECONDITION, 0,
			  "the snapshotter overlayfs cannot be used here: %s",
			  snapshotter_no_overlay(c->store));
		fault_arg(c->f, "snapshotter");
		r = -EINVAL;
	}
	if (r < 0)
		return r;
	db_lock(c->store->db);
	r = look(m, &m->parent_row, &parents, &n);
	db_unlock(c->store->db);
	if (!r)
		r = make_folder(c, m->d, m->kind, &m->parent_row, m->folder, sizeof(m->folder));
	if (r < 0)
		return r;
	r = db_begin(c->store->db, DB_NORMAL, c->f);
	if (!r)
		r = db_end(c->store->db, insert(m), c->f);
	if (r < 0) {
		drop_folder(c, m->d, m->folder);
		cut_events(c, mark);
		if (m->mounts)
			store_mounts_clear(m->mounts);
	}
	return r;
}

static int prepare(struct store_call *c, const char *snapshotter, struct making *m)
{
	int r;

	m->c = c;
	m->d = snapshot_driver(snapshotter, c->f);
	if (!m->d)
		return -ENOENT;
	if (!m->parent)
		m->parent = "";
	r = make(m);
	snapshot_row_clear(&m->parent_row);
	return r;
}

int snapshot_prepare(struct store_call *c, const char *snapshotter, const char *key,
		     const char *parent, const struct db_label *labels, size_t n_labels,
		     struct store_mounts *mounts)
{
	return prepare(c, snapshotter,
		       &(struct making){ .kind = SNAPSHOT_ACTIVE,
					 .key = key,
					 .parent = parent,
					 .labels = labels,
					 .n_labels = n_labels,
					 .mounts = mounts });
}

int snapshot_view(struct store_call *c, const char *snapshotter, const char *key,
		  const char *parent, const struct db_label *labels, size_t n_labels,
		  struct store_mounts *mounts)
{
	return prepare(c, snapshotter,
		       &(struct making){ .kind = SNAPSHOT_VIEW,
					 .key = key,
					 .parent = parent,
					 .labels = labels,
					 .n_labels = n_labels,
					 .mounts = mounts });
}

/* ---- commit */

static int active_row(struct store_call *c, const struct snapshot_driver *d, const char *key,
		      struct snapshot_row *row)
{
	int r = snapshot_row_get(c, d, key, row);

	if (!r && row->kind != SNAPSHOT_ACTIVE) {
		fault_set(c->f, FAULT_FAILED_PRECONDITION, 0,
			  "snapshot '%s' is %s: only an active one can be committed", key,
			  row->kind == SNAPSHOT_VIEW ? "a view" : "committed already");
		r = -EINVAL;
	}
	return r;
}

/* Counts and syncs, in this order and without the lock: both may take long. */
static int settle(struct store_call *c, const struct snapshot_driver *d, int64_t id,
		  struct snapshot_usage *usage)
{
	CLEANUP_CLOSE int fs = -1;
	int r = snapshot_open_fs(c->store, d, id, O_RDONLY, &fs, c->f);

	if (!r)
		r = snapshot_tree_usage(c, fs, usage);
	if (!r)
		r = store_cancelled(c);
	if (!r && syncfs(fs) < 0)
		r = fault_sys(c->f, errno, "sync the files of", d->name);
	return r;
}

static int commit_row(struct store_call *c, const struct snapshot_driver *d, const char *name,
		      const char *key, int64_t id, const struct snapshot_usage *usage,
		      const struct db_label *labels, size_t n_labels)
{
	CLEANUP(snapshot_row_clear) struct snapshot_row row = { 0 };
	int r = active_row(c, d, key, &row);

	if (!r && row.id != id) {
		fault_set(c->f, FAULT_ABORTED, 0, "snapshot '%s' was replaced meanwhile", key);
		r = -EAGAIN;
	}
	if (!r)
		r = snapshot_row_vacant(c, d, name);
	if (!r)
		r = snapshot_row_commit(c, d, &row, key, name, usage, labels, n_labels);
	if (!r)
		r = lease_join(c, d->lease_type, name);
	if (!r)
		r = add_event(c, "/snapshot/commit",
			      (struct pair[]){ { "key", key },
					       { "name", name },
					       { "snapshotter", d->name } },
			      3);
	return r;
}

int snapshot_commit(struct store_call *c, const char *snapshotter, const char *name,
		    const char *key, const struct db_label *labels, size_t n_labels)
{
	const struct snapshot_driver *d = snapshot_driver(snapshotter, c->f);
	CLEANUP(snapshot_row_clear) struct snapshot_row row = { 0 };
	struct store_event **mark = mark_events(c);
	struct snapshot_usage usage;
	int r;

	if (!d)
		return -ENOENT;
	r = check_name(c, "key", key);
	if (!r)
		r = check_name(c, "name", name);
	if (!r)
		r = active_row(c, d, key, &row);
	if (!r)
		r = snapshot_row_vacant(c, d, name);
	if (!r)
		r = settle(c, d, row.id, &usage);
	if (r < 0)
		return r;
	r = db_begin(c->store->db, DB_FULL, c->f);
	if (!r)
		r = db_end(c->store->db,
			   commit_row(c, d, name, key, row.id, &usage, labels, n_labels), c->f);
	if (r < 0)
		cut_events(c, mark);
	return r;
}

/* ---- remove */

static int remove_row(struct store_call *c, const struct snapshot_driver *d, const char *key,
		      int64_t *id)
{
	CLEANUP(snapshot_row_clear) struct snapshot_row row = { 0 };
	int r = snapshot_row_get(c, d, key, &row);

	if (!r)
		r = snapshot_row_childless(c, d, key);
	if (!r)
		r = snapshot_row_delete(c, row.id);
	if (!r)
		r = add_event(c, "/snapshot/remove",
			      (struct pair[]){ { "key", key }, { "snapshotter", d->name } }, 2);
	*id = row.id;
	return r;
}

int snapshot_remove(struct store_call *c, const char *snapshotter, const char *key)
{
	const struct snapshot_driver *d = snapshot_driver(snapshotter, c->f);
	struct store_event **mark = mark_events(c);
	int64_t id = 0;
	char name[24];
	int r;

	if (!d)
		return -ENOENT;
	r = check_name(c, "key", key);
	if (r < 0)
		return r;
	{
		struct db *db = c->store->db;
		DB_LOCKED(db);

		r = db_begin(c->store->db, DB_FULL, c->f);
		if (!r)
			r = db_end(c->store->db, remove_row(c, d, key, &id), c->f);
		if (!r) {
			snprintf(name, sizeof(name), "%lld", (long long)id);
			/* it is removed: a folder that cannot be moved is one without a row, for cleanup */
			drop_folder(c, d, name);
		}
	}
	if (r < 0)
		cut_events(c, mark);
	return r;
}

/* ---- start and end */

static int open_driver(struct store *s, const struct snapshot_driver *d, struct fault *f)
{
	int *fd = &s->snapshots->folders[d->index];
	char path[64];

	snprintf(path, sizeof(path), "snapshots/%s", d->name);
	if (mkdirat(s->root_fd, path, 0700) < 0 && errno != EEXIST)
		return fault_sys(f, errno, "make the folder", path);
	*fd = openat(s->root_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (*fd < 0)
		return fault_sys(f, errno, "open the folder", path);
	return snapshot_sweep_folder(s, d, true, f);
}

void snapshots_close(struct store *s)
{
	for (size_t i = 0; s->snapshots && i < SNAPSHOT_DRIVERS; i++)
		fd_close(&s->snapshots->folders[i]);
	free(TAKE_PTR(s->snapshots));
}

int snapshots_open(struct store *s, struct fault *f)
{
	int r = 0;

	s->snapshots = calloc(1, sizeof(*s->snapshots));
	if (!s->snapshots)
		return fault_sys(f, ENOMEM, "open the snapshots", NULL);
	for (size_t i = 0; i < SNAPSHOT_DRIVERS; i++)
		s->snapshots->folders[i] = -1;
	for (size_t i = 0; !r && i < ARRAY_SIZE(drivers); i++)
		r = open_driver(s, drivers[i], f);
	if (!r) {
		r = snapshot_overlay_probe(s, s->snapshots->folders[SNAPSHOT_OVERLAY],
					   s->snapshots->no_overlay,
					   sizeof(s->snapshots->no_overlay));
		if (r < 0)
			fault_sys(f, -r, "try overlayfs in the folder", "snapshots");
	}
	if (r < 0)
		snapshots_close(s);
	return r;
}
