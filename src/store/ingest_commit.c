// SPDX-License-Identifier: Apache-2.0
/*
 * Ingests: a blob out
 *
 * The data is synced first. Then the file is renamed, the folder synced, and the rows committed, each
 * durable before the next begins. The database's lock is held for the rename and for the rows, so
 * that a collection, which takes blobs away under it, knows what is on its way; it is not held for
 * the syncs of file and folder, so that nobody else waits for a slow disk. In between, a digest is its
 * committer's alone: others who have the same wait for the end, and a collection that has taken the
 * digest's rows earlier leaves the file, which is a new one (ingest_places).
 *
 * When the rows cannot be committed, the file is renamed back, and the ingest is what it was. When
 * there is such a blob already, its file is compared first; one that is damaged, or gone, is replaced.
 * That is done in one go under the lock: its rows are there, and who takes them takes the file.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/ingest_internal.h"
#include "store/lease.h"
#include "util/cleanup.h"

static int check(struct store_call *c, struct ingest *i, int64_t size, const char *expected,
		 struct digest *out)
{
	int r = hasher_digest(i->hasher, out);

	if (r < 0)
		return ingest_failed(i, r, "hash", c->f);
	if (expected && content_check_digest(c, expected) < 0) {
		fault_arg(c->f, "expected");
		return -EINVAL;
	}
	if (size >= 0 && (uint64_t)size != i->offset) {
		fault_set(c->f, FAULT_FAILED_PRECONDITION, 0,
			  "ref %.256s has the size %" PRIu64 ", expected was %" PRId64, i->ref,
			  i->offset, size);
		fault_arg(c->f, "total");
		return -EINVAL;
	}
	if (expected && strcmp(expected, out->text)) {
		fault_set(c->f, FAULT_FAILED_PRECONDITION, 0,
			  "ref %.256s has the digest %s, expected was %s", i->ref, out->text,
			  expected);
		fault_arg(c->f, "expected");
		return -EINVAL;
	}
	return 0;
}

static int sync_data(struct ingest *i)
{
	int r = ingest_cut(i);

	if (!r && (fchmod(i->fd, 0444) < 0 || fsync(i->fd) < 0))
		r = -errno;
	return r;
}

struct ingest_commit {
	LIST_ENTRY(ingest_commit) link; /* of ingests->commits */
	struct digest digest;
	const struct db_label *labels;
	size_t n;
	bool synced;
	bool moved; /* the file is in its place now; changed with the database's and the table's lock */
	bool replaces; /* a file of that size, which is damaged */
	enum content_owner owner;
};

/* From here on nobody else commits this digest. */
static void enter(struct ingests *t, struct ingest_commit *k)
{
	struct ingest_commit *other;

	pthread_mutex_lock(&t->lock);
	do {
		LIST_FOREACH (other, &t->commits, link)
			if (!strcmp(other->digest.text, k->digest.text))
				break;
		if (other)
			pthread_cond_wait(&t->committed, &t->lock);
	} while (other);
	LIST_INSERT_HEAD(&t->commits, k, link);
	pthread_mutex_unlock(&t->lock);
}

static void leave(struct ingests *t, struct ingest_commit *k)
{
	pthread_mutex_lock(&t->lock);
	LIST_REMOVE(k, link);
	pthread_cond_broadcast(&t->committed);
	pthread_mutex_unlock(&t->lock);
}

bool ingest_places(struct store *s, const char *digest)
{
	struct ingests *t = s->ingests;
	struct ingest_commit *k;

	pthread_mutex_lock(&t->lock);
	LIST_FOREACH (k, &t->commits, link)
		if (k->moved && !strcmp(k->digest.text, digest))
			break;
	pthread_mutex_unlock(&t->lock);
	return k;
}

static void set_moved(struct ingest *i, struct ingest_commit *k, bool moved)
{
	struct ingests *t = i->s->ingests;

	pthread_mutex_lock(&t->lock);
	k->moved = moved;
	pthread_mutex_unlock(&t->lock);
}

static void data_path(const struct ingest *i, char path[DIGEST_HEX + 8])
{
	snprintf(path, DIGEST_HEX + 8, "%s/data", i->name);
}

/* With the database's lock. */
static int move(struct ingest *i, struct ingest_commit *k, struct fault *f)
{
	const char *to = digest_hex(&k->digest);
	char path[DIGEST_HEX + 8];
	int r;

	data_path(i, path);
	r = renameat(i->s->ingest_fd, path, i->s->blobs_fd, to) < 0 ? -errno : 0;
	/* a folder, which nothing of davit's puts there */
	if (r == -EISDIR && store_trash(i->s, i->s->blobs_fd, to) == 0)
		r = renameat(i->s->ingest_fd, path, i->s->blobs_fd, to) < 0 ? -errno : 0;
	if (r < 0)
		return ingest_failed(i, r, "rename", f);
	set_moved(i, k, true);
	return 0;
}

/* With the database's lock. What cannot be moved is a file without a record: the next start's. */
static void move_back(struct ingest *i, struct ingest_commit *k)
{
	char path[DIGEST_HEX + 8];

	data_path(i, path);
	renameat(i->s->blobs_fd, digest_hex(&k->digest), i->s->ingest_fd, path);
	set_moved(i, k, false);
}

static int sync_folder(struct ingest *i, struct fault *f)
{
	return fsync(i->s->blobs_fd) < 0
		       ? fault_sys(f, errno, "sync the folder", "content/blobs/sha256")
		       : 0;
}

/* Of a blob that nobody has: the file comes into its place, before anybody waits for the rows. */
static int place(struct store_call *c, struct ingest *i, struct ingest_commit *k)
{
	struct db *db = c->store->db;
	uint64_t size;
	int r;

	{
		DB_LOCKED(db);

		r = content_owner(c, k->digest.text, &k->owner, &size);
		if (!r && k->owner == CONTENT_NOBODY)
			r = move(i, k, c->f);
	}
	if (r < 0 || !k->moved)
		return r;
	return sync_folder(i, c->f);
}

/* In the transaction. 1: the data has to be synced first. */
static int commit_rows(struct store_call *c, struct ingest *i, struct ingest_commit *k)
{
	uint64_t size;
	int r = content_owner(c, k->digest.text, &k->owner, &size);

	if (r < 0)
		return r;
	/* one that somebody has removed or changed, beside its record, is put right by the way */
	if (!k->moved && (k->owner == CONTENT_NOBODY || k->replaces ||
			  !ingest_file_is_there(c->store, k->digest.text, i->offset))) {
		if (!k->synced)
			return 1;
		r = move(i, k, c->f);
		if (!r)
			r = sync_folder(i, c->f);
		if (r < 0)
			return r;
	}
	r = k->owner == CONTENT_OWN
		    ? content_join(c, k->digest.text)
		    : content_insert(c, k->digest.text, i->offset, k->owner, k->labels, k->n);
	if (!r && i->leased && c->lease && c->lease[0])
		r = lease_remove(c, c->lease, LEASE_INGESTS, i->ref);
	return r;
}

/* 1 or 0: whether this file will be the blob's. */
static int needs_sync(struct store_call *c, struct ingest *i, struct ingest_commit *k)
{
	struct db *db = c->store->db;
	uint64_t size;
	int r;

	{
		DB_LOCKED(db);

		r = content_owner(c, k->digest.text, &k->owner, &size);
	}
	if (r < 0 || k->owner == CONTENT_NOBODY)
		return r < 0 ? r : 1;
	r = content_same(c, k->digest.text, i->fd, i->offset);
	if (r < 0)
		return r == -ECANCELED ? r : ingest_failed(i, r, "compare", c->f);
	k->replaces = !r;
	return k->replaces;
}

static int commit_try(struct store_call *c, struct ingest *i, struct ingest_commit *k)
{
	struct db *db = c->store->db;
	DB_LOCKED(db);
	int r = db_begin(db, c->durable_later ? DB_NORMAL : DB_FULL, c->f);

	if (!r)
		r = db_end(db, commit_rows(c, i, k), c->f);
	if (r && k->moved)
		move_back(i, k);
	return r;
}

static int commit_alone(struct store_call *c, struct ingest *i, struct ingest_commit *k)
{
	struct db *db = c->store->db;
	int r = needs_sync(c, i, k);

	if (!r)
		r = commit_try(c, i, k);
	while (r > 0) {
		r = sync_data(i);
		if (r < 0)
			return ingest_failed(i, r, "sync", c->f);
		k->synced = true;
		r = place(c, i, k);
		if (r < 0) {
			DB_LOCKED(db);

			if (k->moved)
				move_back(i, k);
			return r;
		}
		/* what was there at the look before may be gone */
		r = commit_try(c, i, k);
	}
	return r;
}

int ingest_commit(struct store_call *c, struct ingest *i, int64_t size, const char *expected,
		  const struct db_label *labels, size_t n, struct digest *out)
{
	struct ingest_commit k = { .labels = labels, .n = n };
	struct ingests *t = c->store->ingests;
	struct store_events e;
	int r = check(c, i, size, expected, &k.digest);

	*out = k.digest;
	if (!r)
		r = content_event(c, &e, "/content/create", k.digest.text, i->offset);
	if (r < 0)
		return r;
	enter(t, &k);
	r = commit_alone(c, i, &k);
	leave(t, &k);
	if (!r && k.owner != CONTENT_OWN)
		content_event_send(c, &e);
	store_events_clear(&e);
	if (r < 0)
		return r;
	ingest_discard(i);
	return k.owner == CONTENT_OWN ? ingest_is_there(c, k.digest.text) : 0;
}

/* Whether the file of one that is there is what it has to be: 1 or 0. */
static int is_good(struct store_call *c, const char *digest, size_t size)
{
	struct fault why = { 0 };
	struct store_call quiet = *c;
	char *there;
	int r;

	quiet.f = &why;
	r = content_read_all(&quiet, digest, size, &there, &size);
	if (!r)
		free(there);
	if (!r || why.code == FAULT_FAILED_PRECONDITION || why.code == FAULT_NOT_FOUND)
		return !r;
	*c->f = why;
	return r;
}

int content_put(struct store_call *c, const void *data, size_t size, const struct db_label *labels,
		size_t n, struct digest *out)
{
	struct ingests *t = c->store->ingests;
	/* the ref lives shorter than anybody could need it: only the blob joins the lease */
	struct store_call quiet = *c;
	struct ingest *i = NULL;
	char ref[DIGEST_TEXT + 40];
	int r = digest_of(data, size, out);

	if (r < 0)
		return fault_sys(c->f, -r, "hash", NULL);
	r = content_has(c, out->text);
	if (r > 0)
		r = is_good(c, out->text, size);
	if (r < 0)
		return r;
	if (r)
		return content_merge_labels(c, out->text, labels, n);
	snprintf(ref, sizeof(ref), "davit.put/%s/%" PRIuLEAST64, digest_hex(out),
		 atomic_fetch_add(&t->serial, 1));
	quiet.lease = NULL;
	r = ingest_open(&quiet, ref, NULL, (int64_t)size, &i);
	/* a killed daemon, which counted from 0 as well, may have left one of this name */
	if (!r && ingest_offset(i))
		r = ingest_restart(i, (int64_t)size, c->f);
	if (!r)
		r = ingest_write(i, data, size, c->f);
	if (!r)
		r = ingest_commit(c, i, (int64_t)size, out->text, labels, n, out);
	if (r == -EEXIST)
		return content_merge_labels(c, out->text, labels, n);
	if (r < 0)
		ingest_discard(i);
	return r;
}
