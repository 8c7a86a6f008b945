// SPDX-License-Identifier: Apache-2.0
/*
 * Content: the files of blobs
 *
 * Reading and checking them, and what a start finds of them. A file whose record is there but which
 * is not, or has another size, was changed by somebody else: that is said to who asks for it, and
 * nothing is repaired behind the user's back.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/content_internal.h"
#include "util/cleanup.h"
#include "util/fd.h"

#define HASH_BYTES (256u << 10) /* read at a time: stays in the processor's cache */

DEFINE_CLEANUP(struct hasher *, hasher_free)

static void fault_file(struct store_call *c, const char *step, const char *digest)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/content/blobs/sha256/%s", c->store->root, digest + 7);
	fault_at(c->f, step, path);
}

/* A folder, link, FIFO, socket or device, which nothing of davit's puts there. */
static bool is_other(int r)
{
	return r == -EISDIR || r == -ELOOP || r == -ENXIO;
}

/* The database's lock keeps row and file together until the file is open. */
static int blob_open(struct store_call *c, const char *digest, int *fd, uint64_t *size)
{
	struct db *db = c->store->db;
	DB_LOCKED(db);
	enum content_owner owner;
	int r = content_owner(c, digest, &owner, size);

	if (r < 0)
		return r;
	if (owner != CONTENT_OWN)
		return content_not_found(c, digest);
	r = fd_open_regular(c->store->blobs_fd, digest + 7, O_NOFOLLOW);
	if (r >= 0) {
		*fd = r;
		return 0;
	}
	if (is_other(r)) {
		fault_set(c->f, FAULT_FAILED_PRECONDITION, 0,
			  "what is in the place of the content %s is no regular file: import its "
			  "image again, or write it again without saying the digest beforehand",
			  digest);
		r = -EUCLEAN;
	} else if (r == -ENOENT) {
		fault_set(c->f, FAULT_FAILED_PRECONDITION, 0,
			  "the file of the content %s is not there any more: somebody has removed "
			  "it; delete the content, or write it again",
			  digest);
		r = -EUCLEAN;
	} else {
		fault_sys(c->f, -r, "open the content", digest);
	}
	fault_file(c, "open", digest);
	return r;
}

int content_open(struct store_call *c, const char *digest, int *fd, uint64_t *size)
{
	uint64_t expected = 0;
	struct stat st;
	int r = content_check_digest(c, digest);

	*fd = -1;
	if (!r)
		r = blob_open(c, digest, fd, &expected);
	if (r < 0)
		return r;
	if (fstat(*fd, &st) < 0) {
		r = fault_sys(c->f, errno, "open the content", digest);
	} else if ((uint64_t)st.st_size != expected) {
		fault_set(c->f, FAULT_FAILED_PRECONDITION, 0,
			  "the file of the content %s is damaged: %llu bytes instead of %llu",
			  digest, (unsigned long long)st.st_size, (unsigned long long)expected);
		fault_file(c, "open", digest);
		r = -EUCLEAN;
	}
	if (r < 0)
		fd_close(fd);
	else if (size)
		*size = expected;
	return r;
}

static int is_damaged(struct store_call *c, const char *digest, const char *found)
{
	fault_set(c->f, FAULT_FAILED_PRECONDITION, 0,
		  "the content %s is damaged: its file has the digest %s; import its image again, "
		  "or write it again without saying the digest beforehand",
		  digest, found);
	fault_file(c, "verify", digest);
	return -EUCLEAN;
}

int content_read_all(struct store_call *c, const char *digest, size_t most, char **data,
		     size_t *size)
{
	CLEANUP_CLOSE int fd = -1;
	CLEANUP_FREE char *buf = NULL;
	struct digest found;
	uint64_t bytes;
	int r = content_open(c, digest, &fd, &bytes);

	if (r < 0)
		return r;
	if (bytes > most)
		return fault_set(c->f, FAULT_FAILED_PRECONDITION, 0,
				 "the content %s has %llu bytes, %zu is the most for its kind",
				 digest, (unsigned long long)bytes, most);
	buf = malloc((size_t)bytes + 1);
	r = buf ? fd_read_all(fd, buf, (size_t)bytes) : -ENOMEM;
	if (!r)
		r = digest_of(buf, (size_t)bytes, &found);
	if (r < 0)
		return fault_sys(c->f, -r, "read the content", digest);
	if (strcmp(found.text, digest))
		return is_damaged(c, digest, found.text);
	buf[bytes] = '\0';
	*data = TAKE_PTR(buf);
	*size = (size_t)bytes;
	return 0;
}

int content_hash(struct store_call *c, int fd, uint64_t size, struct hasher *h)
{
	CLEANUP_FREE char *buf = size ? malloc(HASH_BYTES) : NULL;
	uint64_t at = 0;

	if (size && !buf)
		return -ENOMEM;
	while (at < size) {
		size_t want = size - at < HASH_BYTES ? (size_t)(size - at) : HASH_BYTES;
		ssize_t n;

		if (store_cancelled(c))
			return -ECANCELED;
		n = pread(fd, buf, want, (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		hasher_add(h, buf, (size_t)n);
		at += (uint64_t)n;
		store_progress_add(c->progress, (uint64_t)n);
	}
	return 0;
}

/* 1 when both have the same there; what was cut in the meantime is not the same. */
static int same_piece(int a, int b, char *buf, uint64_t at, size_t size)
{
	int r = fd_pread_all(a, buf, size, at);

	if (!r)
		r = fd_pread_all(b, buf + size, size, at);
	if (r < 0)
		return r == -EPIPE ? 0 : r;
	return !memcmp(buf, buf + size, size);
}

int content_same(struct store_call *c, const char *digest, int fd, uint64_t size)
{
	CLEANUP_CLOSE int there = fd_open_regular(c->store->blobs_fd, digest + 7, O_NOFOLLOW);
	CLEANUP_FREE char *buf = malloc(2 * HASH_BYTES);
	struct stat st;
	int r = 1;

	if (!buf)
		return -ENOMEM;
	if (there < 0)
		return there == -ENOENT || is_other(there) ? 0 : there;
	if (fstat(there, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size != size)
		return 0;
	for (uint64_t at = 0; r > 0 && at < size; at += HASH_BYTES) {
		size_t n = size - at < HASH_BYTES ? (size_t)(size - at) : HASH_BYTES;

		r = store_cancelled(c);
		if (!r)
			r = same_piece(fd, there, buf, at, n);
	}
	return r;
}

int content_verify(struct store_call *c, const char *digest)
{
	CLEANUP_CLOSE int fd = -1;
	CLEANUP(hasher_freep) struct hasher *h = NULL;
	struct digest found;
	uint64_t size;
	int r = content_open(c, digest, &fd, &size);

	if (r < 0)
		return r;
	store_progress_phase(c->progress, "verify", size);
	r = hasher_new(&h);
	if (!r)
		r = content_hash(c, fd, size, h);
	if (!r)
		r = hasher_digest(h, &found);
	if (r == -ECANCELED)
		return r;
	if (r < 0)
		return fault_sys(c->f, -r, "read the content", digest);
	return strcmp(found.text, digest) ? is_damaged(c, digest, found.text) : 0;
}

/*
 * Removing is the name alone; the space is given back by the close of the last fd, which takes long
 * for a large file.
 */
int content_unlink(struct store *s, const char *digest, int *fd)
{
	const char *hex = digest + 7;

	*fd = openat(s->blobs_fd, hex, O_PATH | O_CLOEXEC | O_NOFOLLOW);
	if (unlinkat(s->blobs_fd, hex, 0) == 0 || errno == ENOENT)
		return 0;
	/* a folder, which is not davit's */
	return errno == EISDIR ? store_trash(s, s->blobs_fd, hex) : -errno;
}

/* ---- the start */

int content_write_file(int folder, const char *name, const void *data, size_t size)
{
	CLEANUP_CLOSE int fd = -1;
	char temp[80];
	int r;

	snprintf(temp, sizeof(temp), ".%s.new", name);
	tree_remove(folder, temp, NULL);
	fd = openat(folder, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return -errno;
	r = fd_write_all(fd, data, size);
	if (!r && (fchmod(fd, 0644) < 0 || fsync(fd) < 0))
		r = -errno;
	if (!r && renameat(folder, temp, folder, name) < 0) {
		r = -errno;
		/* a folder has come to be in its place */
		if (r == -EISDIR)
			r = tree_remove(folder, name, NULL);
		if (!r && renameat(folder, temp, folder, name) < 0)
			r = -errno;
	}
	if (!r && fsync(folder) < 0)
		r = -errno;
	if (r < 0)
		unlinkat(folder, temp, 0);
	return r;
}

/* Files that no row names: of a daemon that was killed in between. */
static int remove_orphans(struct store *s, struct fault *f)
{
	struct store_call c = { .store = s, .ns = "", .f = f };
	int copy = openat(s->blobs_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
	struct dirent *e;

	if (!dir) {
		r = fault_sys(f, errno, "open the folder", "content/blobs/sha256");
		fd_close(&copy);
		return r;
	}
	while (!r && (errno = 0, e = readdir(dir))) {
		enum content_owner owner;
		char digest[DIGEST_TEXT + 256];
		uint64_t size;
		int fd;

		snprintf(digest, sizeof(digest), "sha256:%s", e->d_name);
		if (!digest_valid(digest))
			continue; /* not davit's */
		r = content_owner(&c, digest, &owner, &size);
		if (!r && owner == CONTENT_NOBODY) {
			r = content_unlink(s, digest, &fd);
			fd_close(&fd);
			if (r < 0)
				fault_sys(f, -r, "remove the file without a record", e->d_name);
		}
	}
	if (!r && errno)
		r = fault_sys(f, errno, "read the folder", "content/blobs/sha256");
	closedir(dir);
	return r;
}

/*
 * Whether a daemon has been here with this database. One without any blobs beside files of blobs was
 * emptied by that daemon, or else it has replaced one that was lost, and then nothing is taken away.
 */
static int is_known(struct store *s, struct fault *f)
{
	int64_t known;
	int r = db_pragma_int(s->db,
			      "SELECT EXISTS (SELECT 1 FROM meta WHERE key = 'content') "
			      "OR EXISTS (SELECT 1 FROM blobs)",
			      &known, f);

	return r < 0 ? r : known != 0;
}

/* 1 or 0: whether there is anything that a lost database would have known of. */
static int has_files(struct store *s, struct fault *f)
{
	int copy = openat(s->blobs_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
	int found = faccessat(s->content_fd, "index.json", F_OK, 0) == 0;
	struct dirent *e;

	if (!dir) {
		found = fault_sys(f, errno, "open the folder", "content/blobs/sha256");
		fd_close(&copy);
		return found;
	}
	while (!found && (e = readdir(dir)))
		found = e->d_name[0] != '.';
	closedir(dir);
	return found;
}

int content_start(struct store *s, struct fault *f)
{
	static const char layout[] = "{\"imageLayoutVersion\":\"1.0.0\"}";
	struct db *db = s->db;
	DB_LOCKED(db);
	int r;

	/* of a daemon that was killed */
	tree_remove(s->content_fd, ".oci-layout.new", NULL);
	tree_remove(s->content_fd, ".index.json.new", NULL);
	if (faccessat(s->content_fd, "oci-layout", F_OK, 0) < 0) {
		r = content_write_file(s->content_fd, "oci-layout", layout, sizeof(layout) - 1);
		/* a full disk is no reason not to start */
		if (r < 0 && r != -ENOSPC && r != -EDQUOT)
			return fault_sys(f, -r, "write", "content/oci-layout");
	}
	r = is_known(s, f);
	if (!r) {
		r = has_files(s, f);
		if (r)
			return r < 0 ? r : 0;
	}
	if (r >= 0)
		r = remove_orphans(s, f);
	return r < 0 ? r
		     : db_exec(db,
			       "INSERT OR IGNORE INTO meta (key, value) VALUES ('content', '1')",
			       "write", f);
}
