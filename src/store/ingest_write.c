// SPDX-License-Identifier: Apache-2.0
/*
 * Ingests: bytes in, a blob out
 *
 * What is written is hashed on the way, piece by piece while it is in the processor's cache. Hash,
 * file and offset always agree: a piece counts when it is in the file and in the hash, and after a
 * failed write the file is cut back to what counts.
 *
 * A commit syncs the data before it takes the database's lock. Under the lock come the rename, the
 * sync of the folder and the rows, so that a collection, which takes blobs away under the same lock,
 * sees all of it or nothing. When the rows cannot be committed, the file is renamed back, and the
 * ingest is what it was. When there is such a blob already, its file is compared first: one that is
 * damaged is replaced.
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
#include "util/fd.h"

#define PIECE (256u << 10)
/* The kernel is asked to begin writing each time so much has come, so that the sync has less to do. */
#define PUSH (8u << 20)

static void set_offset(struct ingest *i, uint64_t offset)
{
	struct ingests *t = i->s->ingests;

	pthread_mutex_lock(&t->lock);
	i->offset = offset;
	i->updated_at = clock_now();
	pthread_mutex_unlock(&t->lock);
}

static int failed(struct ingest *i, int r, const char *step, struct fault *f)
{
	char path[DIGEST_HEX + 32];

	fault_sys(f, -r, step, i->ref);
	snprintf(path, sizeof(path), "content/ingest/%s/data", i->name);
	fault_at(f, step, path);
	return r;
}

/* ---- writing */

uint64_t ingest_offset(const struct ingest *i)
{
	return i->offset; /* only its writer changes it */
}

static int write_piece(int fd, const char *data, size_t size, uint64_t at)
{
	while (size) {
		ssize_t n = pwrite(fd, data, size, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		data += n;
		size -= (size_t)n;
		at += (uint64_t)n;
	}
	return 0;
}

/*
 * The file gets the length that counts. When that fails now, the next write lands in the right place
 * all the same, and a commit tries again.
 */
static int cut(struct ingest *i)
{
	struct stat st;

	if (fstat(i->fd, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size != i->offset && ftruncate(i->fd, (off_t)i->offset) < 0)
		return -errno;
	return 0;
}

int ingest_write(struct ingest *i, const void *data, size_t size, struct fault *f)
{
	const char *p = data;
	uint64_t at = i->offset;
	int r = 0;

	if (i->total >= 0 && size > (uint64_t)i->total - i->offset) {
		fault_set(f, FAULT_OUT_OF_RANGE, 0,
			  "ref %.256s: %zu bytes at %" PRIu64
			  " are more than its total of %" PRId64,
			  i->ref, size, i->offset, i->total);
		return -ERANGE;
	}
	if (size > (uint64_t)INT64_MAX - at) {
		fault_set(f, FAULT_OUT_OF_RANGE, 0, "ref %.256s: too large for a file", i->ref);
		return -EFBIG;
	}
	while (size && !r) {
		size_t n = size < PIECE ? size : PIECE;

		r = write_piece(i->fd, p, n, at);
		if (r < 0)
			break;
		hasher_add(i->hasher, p, n);
		p += n;
		size -= n;
		at += n;
	}
	if (at - i->pushed >= PUSH) {
		/* a hint: whether it is taken is seen by the sync */
		sync_file_range(i->fd, (off_t)i->pushed, (off_t)(at - i->pushed),
				SYNC_FILE_RANGE_WRITE);
		i->pushed = at;
	}
	if (at > i->offset)
		set_offset(i, at);
	if (!r)
		return 0;
	cut(i);
	return failed(i, r, "write", f);
}

int ingest_reset(struct ingest *i, int64_t total, struct fault *f)
{
	struct ingests *t = i->s->ingests;

	if (ftruncate(i->fd, 0) < 0)
		return failed(i, -errno, "cut back", f);
	i->pushed = 0;
	if (i->hasher)
		hasher_reset(i->hasher);
	pthread_mutex_lock(&t->lock);
	i->offset = 0;
	i->total = total;
	i->updated_at = clock_now();
	pthread_mutex_unlock(&t->lock);
	return ingest_files_note(i, f);
}

int ingest_restart(struct ingest *i, int64_t total, struct fault *f)
{
	return ingest_reset(i, total, f);
}

int ingest_same(struct ingest *i, uint64_t at, const void *data, size_t size, struct fault *f)
{
	const char *p = data;
	char buf[16384];

	while (size) {
		size_t n = size < sizeof(buf) ? size : sizeof(buf);
		int r = fd_pread_all(i->fd, buf, n, at);

		if (r < 0)
			return failed(i, r, "read", f);
		if (memcmp(buf, p, n))
			return 0;
		p += n;
		size -= n;
		at += n;
	}
	return 1;
}

/* Its hash is of more than is there then, and goes. */
static int cut_back(struct ingest *i, uint64_t size)
{
	if (ftruncate(i->fd, (off_t)size) < 0)
		return -errno;
	if (i->pushed > size)
		i->pushed = size;
	hasher_free(TAKE_PTR(i->hasher));
	set_offset(i, size);
	return 0;
}

int ingest_shorten(struct store_call *c, struct ingest *i, uint64_t size)
{
	int r = cut_back(i, size);

	return r < 0 ? failed(i, r, "cut back", c->f) : ingest_rehash(c, i);
}

void ingest_give_back(struct ingest *i, uint64_t bytes)
{
	if (i->offset > bytes && cut_back(i, i->offset - bytes) == 0)
		ingest_close(i);
	else
		ingest_discard(i);
}

int ingest_digest(struct ingest *i, struct digest *out)
{
	return hasher_digest(i->hasher, out);
}

int ingest_rehash(struct store_call *c, struct ingest *i)
{
	int r;

	if (i->hasher)
		return 0;
	r = hasher_new(&i->hasher);
	if (!r && i->offset) {
		store_progress_phase(c->progress, "hash", i->offset);
		r = content_hash(c, i->fd, i->offset, i->hasher);
	}
	if (!r)
		return 0;
	hasher_free(TAKE_PTR(i->hasher));
	return r == -ECANCELED ? r : failed(i, r, "read", c->f);
}

/* ---- what is there already */

static int is_there(struct store_call *c, const char *digest)
{
	fault_set(c->f, FAULT_ALREADY_EXISTS, 0, "the content %s is there already", digest);
	return -EEXIST;
}

static bool file_is_there(struct store *s, const char *digest, uint64_t size)
{
	struct stat st;

	return fstatat(s->blobs_fd, digest + 7, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       S_ISREG(st.st_mode) && (uint64_t)st.st_size == size;
}

/* An ingest of something that is there is of no use, unless somebody writes to it just now. */
static void forget_ref(struct store_call *c, const char *ref)
{
	struct fault ignored = { 0 };
	struct store_call quiet = *c;

	quiet.f = &ignored;
	ingest_abort(&quiet, ref);
}

int ingest_known(struct store_call *c, const char *ref, const char *expected)
{
	struct db *db = c->store->db;
	enum content_owner owner;
	struct store_events e;
	uint64_t size;
	int r;

	{
		DB_LOCKED(db);

		/* a look first: a durable transaction costs more */
		r = content_owner(c, expected, &owner, &size);
	}
	if (r < 0 || owner == CONTENT_NOBODY)
		return r;
	r = content_event(c, &e, "/content/create", expected, size);
	if (!r)
		r = db_begin(db, DB_FULL, c->f);
	if (r < 0) {
		store_events_clear(&e);
		return r;
	}
	r = content_owner(c, expected, &owner, &size);
	if (!r && owner != CONTENT_NOBODY && !file_is_there(c->store, expected, size))
		owner = CONTENT_NOBODY; /* to be written again */
	if (!r && owner == CONTENT_OTHERS)
		r = content_insert(c, expected, size, owner, NULL, 0);
	else if (!r && owner == CONTENT_OWN)
		r = content_join(c, expected);
	r = db_end(db, r, c->f);
	if (!r && owner == CONTENT_OTHERS)
		content_event_send(c, &e);
	store_events_clear(&e);
	if (r < 0 || owner == CONTENT_NOBODY)
		return r;
	forget_ref(c, ref);
	return is_there(c, expected);
}

/* ---- commit */

static int check(struct store_call *c, struct ingest *i, int64_t size, const char *expected,
		 struct digest *out)
{
	int r = hasher_digest(i->hasher, out);

	if (r < 0)
		return failed(i, r, "hash", c->f);
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
	int r = cut(i);

	if (!r && (fchmod(i->fd, 0444) < 0 || fsync(i->fd) < 0))
		r = -errno;
	return r;
}

struct commit {
	struct digest digest;
	const struct db_label *labels;
	size_t n;
	bool synced;
	bool moved; /* the file is in its place now */
	bool replaces; /* a file of that size, which is damaged */
	enum content_owner owner;
};

static void data_path(const struct ingest *i, char path[DIGEST_HEX + 8])
{
	snprintf(path, DIGEST_HEX + 8, "%s/data", i->name);
}

/* In the transaction. 1: the data has to be synced first. */
static int commit_rows(struct store_call *c, struct ingest *i, struct commit *k)
{
	const char *hex = digest_hex(&k->digest);
	char path[DIGEST_HEX + 8];
	uint64_t size;
	int r = content_owner(c, k->digest.text, &k->owner, &size);

	if (r < 0)
		return r;
	/* one that somebody has removed or changed, beside its record, is put right by the way */
	if (k->owner == CONTENT_NOBODY || k->replaces ||
	    !file_is_there(c->store, k->digest.text, i->offset)) {
		if (!k->synced)
			return 1;
		data_path(i, path);
		if (renameat(c->store->ingest_fd, path, c->store->blobs_fd, hex) < 0)
			return failed(i, -errno, "rename", c->f);
		k->moved = true;
		if (fsync(c->store->blobs_fd) < 0)
			return fault_sys(c->f, errno, "sync the folder", "content/blobs/sha256");
	}
	r = k->owner == CONTENT_OWN
		    ? content_join(c, k->digest.text)
		    : content_insert(c, k->digest.text, i->offset, k->owner, k->labels, k->n);
	if (!r && i->leased && c->lease && c->lease[0])
		r = lease_remove(c, c->lease, LEASE_INGESTS, i->ref);
	return r;
}

/* 1 or 0: whether this file will be the blob's. */
static int needs_sync(struct store_call *c, struct ingest *i, struct commit *k)
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
		return r == -ECANCELED ? r : failed(i, r, "compare", c->f);
	k->replaces = !r;
	return k->replaces;
}

static int commit_try(struct store_call *c, struct ingest *i, struct commit *k)
{
	struct db *db = c->store->db;
	DB_LOCKED(db);
	char path[DIGEST_HEX + 8];
	int r = db_begin(db, c->durable_later ? DB_NORMAL : DB_FULL, c->f);

	if (r < 0)
		return r;
	r = db_end(db, commit_rows(c, i, k), c->f);
	if (r && k->moved) {
		/* a file that stays without a record goes at the next start */
		data_path(i, path);
		renameat(c->store->blobs_fd, digest_hex(&k->digest), c->store->ingest_fd, path);
		k->moved = false;
	}
	return r;
}

int ingest_commit(struct store_call *c, struct ingest *i, int64_t size, const char *expected,
		  const struct db_label *labels, size_t n, struct digest *out)
{
	struct commit k = { .labels = labels, .n = n };
	struct store_events e;
	int r = check(c, i, size, expected, &k.digest);

	*out = k.digest;
	if (!r)
		r = content_event(c, &e, "/content/create", k.digest.text, i->offset);
	if (r < 0)
		return r;
	r = needs_sync(c, i, &k);
	do {
		if (r > 0) {
			r = sync_data(i);
			if (r < 0) {
				failed(i, r, "sync", c->f);
				break;
			}
			k.synced = true;
		}
		/* what was there at the look before may be gone */
		r = r < 0 ? r : commit_try(c, i, &k);
	} while (r > 0);
	if (!r && k.owner != CONTENT_OWN)
		content_event_send(c, &e);
	store_events_clear(&e);
	if (r < 0)
		return r;
	ingest_discard(i);
	return k.owner == CONTENT_OWN ? is_there(c, k.digest.text) : 0;
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
