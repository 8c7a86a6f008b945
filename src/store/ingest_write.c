// SPDX-License-Identifier: Apache-2.0
/*
 * Ingests: bytes in
 *
 * What is written is hashed on the way, piece by piece while it is in the processor's cache. Hash,
 * file and offset always agree: a piece counts when it is in the file and in the hash, and after a
 * failed write the file is cut back to what counts.
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

int ingest_failed(struct ingest *i, int r, const char *step, struct fault *f)
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

int ingest_cut(struct ingest *i)
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
	ingest_cut(i);
	return ingest_failed(i, r, "write", f);
}

int ingest_reset(struct ingest *i, int64_t total, struct fault *f)
{
	struct ingests *t = i->s->ingests;

	if (ftruncate(i->fd, 0) < 0)
		return ingest_failed(i, -errno, "cut back", f);
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
			return ingest_failed(i, r, "read", f);
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

	return r < 0 ? ingest_failed(i, r, "cut back", c->f) : ingest_rehash(c, i);
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
	return r == -ECANCELED ? r : ingest_failed(i, r, "read", c->f);
}

/* ---- what is there already */

int ingest_is_there(struct store_call *c, const char *digest)
{
	fault_set(c->f, FAULT_ALREADY_EXISTS, 0, "the content %s is there already", digest);
	return -EEXIST;
}

bool ingest_file_is_there(struct store *s, const char *digest, uint64_t size)
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
	if (!r && owner != CONTENT_NOBODY && !ingest_file_is_there(c->store, expected, size))
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
	return ingest_is_there(c, expected);
}
