// SPDX-License-Identifier: Apache-2.0
/*
 * Ingests: their files
 *
 *   ingest/HASH/data        the bytes so far
 *   ingest/HASH/ref         NAMESPACE/REF, of which HASH is the SHA-256
 *   ingest/HASH/startedat   ns since the epoch, as decimal text
 *   ingest/HASH/updatedat   the same, written when a writer leaves
 *   ingest/HASH/total       bytes, when known
 *   ingest/HASH/expected    a digest, when known
 *
 * `ref` is written last. A folder whose ref does not give its name, or without data, is one that was
 * being made or removed when the daemon was killed: it goes at the next start, and so does whatever
 * else is in this folder. What cannot be read or removed is left, and never keeps a daemon from
 * starting. Nothing here is synced: after a power cut an ingest may be gone, or shorter.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/ingest_internal.h"
#include "util/cleanup.h"
#include "util/fd.h"
#include "util/limits.h"

#define REF_BYTES (LIMIT_ID_BYTES + 1 + LIMIT_REF_BYTES)
#define PATH_BYTES (DIGEST_HEX + 16)

int ingest_files_name(const char *ns, const char *ref, char name[DIGEST_HEX + 1])
{
	CLEANUP_FREE char *text = NULL;
	struct digest digest;
	int r, n = asprintf(&text, "%s/%s", ns, ref);

	if (n < 0) {
		text = NULL;
		return -ENOMEM;
	}
	r = digest_of(text, (size_t)n, &digest);
	if (!r)
		memcpy(name, digest_hex(&digest), DIGEST_HEX + 1);
	return r;
}

static void path_of(const struct ingest *i, const char *file, char path[PATH_BYTES])
{
	snprintf(path, PATH_BYTES, "%s/%s", i->name, file);
}

/* For the user: where it is. Returns r. */
static int failed(struct ingest *i, const char *step, const char *file, int r, struct fault *f)
{
	char path[PATH_BYTES + 16];

	snprintf(path, sizeof(path), "content/ingest/%s/%s", i->name, file);
	return fault_sys(f, -r, step, path);
}

static int write_text(struct ingest *i, const char *file, const char *text)
{
	CLEANUP_CLOSE int fd = -1;
	char path[PATH_BYTES];

	path_of(i, file, path);
	fd = openat(i->s->ingest_fd, path,
		    O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? -errno : fd_write_all(fd, text, strlen(text));
}

static int write_number(struct ingest *i, const char *file, int64_t v)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRId64, v);
	return write_text(i, file, text);
}

static int remove_file(struct ingest *i, const char *file)
{
	char path[PATH_BYTES];

	path_of(i, file, path);
	return unlinkat(i->s->ingest_fd, path, 0) < 0 && errno != ENOENT ? -errno : 0;
}

int ingest_files_note(struct ingest *i, struct fault *f)
{
	int r = i->total >= 0 ? write_number(i, "total", i->total) : remove_file(i, "total");

	if (r < 0)
		return failed(i, "write", "total", r, f);
	r = i->expected.text[0] ? write_text(i, "expected", i->expected.text)
				: remove_file(i, "expected");
	return r < 0 ? failed(i, "write", "expected", r, f) : 0;
}

void ingest_files_touch(struct ingest *i)
{
	/* should it fail, the next start takes the time of the data instead */
	if (write_number(i, "updatedat", i->updated_at) < 0)
		remove_file(i, "updatedat");
}

static int open_data(struct ingest *i, int flags, struct fault *f)
{
	char path[PATH_BYTES];

	path_of(i, "data", path);
	i->fd = openat(i->s->ingest_fd, path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW | flags,
		       0600);
	return i->fd < 0 ? failed(i, "open", "data", -errno, f) : 0;
}

int ingest_files_open(struct ingest *i, struct fault *f)
{
	struct stat st;
	int r = open_data(i, 0, f);

	if (r < 0)
		return r;
	if (fstat(i->fd, &st) < 0)
		return failed(i, "open", "data", -errno, f);
	if (!S_ISREG(st.st_mode))
		return fault_set(f, FAULT_FAILED_PRECONDITION, 0,
				 "content/ingest/%s/data is no regular file: abort the ref %.256s",
				 i->name, i->ref);
	if ((uint64_t)st.st_size != i->offset) {
		/* changed by somebody else: what is there counts */
		hasher_free(TAKE_PTR(i->hasher));
		i->offset = (uint64_t)st.st_size;
	}
	return 0;
}

int ingest_files_look(struct store *s, const char *name)
{
	char path[PATH_BYTES];

	snprintf(path, sizeof(path), "%s/data", name);
	return fd_open_regular(s->ingest_fd, path, O_NOFOLLOW);
}

int ingest_files_create(struct ingest *i, struct fault *f)
{
	CLEANUP_FREE char *ref = NULL;
	int r;

	if (asprintf(&ref, "%s/%s", i->ns, i->ref) < 0) {
		ref = NULL;
		return fault_sys(f, ENOMEM, "write", "ref");
	}
	if (mkdirat(i->s->ingest_fd, i->name, 0700) < 0) {
		/* one that could not be removed earlier */
		r = errno == EEXIST ? ingest_files_remove(i) : -errno;
		if (!r && mkdirat(i->s->ingest_fd, i->name, 0700) < 0)
			r = -errno;
		if (r < 0)
			return failed(i, "make", "", r, f);
	}
	r = open_data(i, O_CREAT | O_EXCL, f);
	if (!r) {
		r = write_number(i, "startedat", i->started_at);
		if (r < 0)
			failed(i, "write", "startedat", r, f);
	}
	if (!r && (i->total >= 0 || i->expected.text[0]))
		r = ingest_files_note(i, f);
	if (!r) {
		r = write_text(i, "ref", ref);
		if (r < 0)
			failed(i, "write", "ref", r, f);
	}
	if (r < 0) {
		fd_close(&i->fd);
		ingest_files_remove(i);
	}
	return r;
}

int ingest_files_remove(struct ingest *i)
{
	return tree_remove(i->s->ingest_fd, i->name, NULL);
}

/* ---- what there is at the start */

static int read_number(int folder, const char *file, int64_t *v)
{
	CLEANUP_FREE char *text = NULL;
	char *end;
	int r = fd_read_file(folder, file, 32, &text, NULL);

	if (r < 0)
		return r;
	errno = 0;
	*v = strtoll(text, &end, 10);
	return errno || end == text || *end || *v < 0 ? -EINVAL : 0;
}

static int read_folder(struct store *s, const char *name,
		       int (*fn)(struct store *s, const struct ingest_found *found))
{
	CLEANUP_CLOSE int folder = openat(s->ingest_fd, name,
					  O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	CLEANUP_FREE char *ref = NULL, *expected = NULL;
	struct ingest_found found = { .name = name };
	char right[DIGEST_HEX + 1], *slash;
	struct stat st;
	size_t size;
	int64_t written;
	int r;

	if (folder < 0)
		return -errno;
	r = fd_read_file(folder, "ref", REF_BYTES, &ref, &size);
	if (r < 0)
		return r;
	slash = strchr(ref, '/');
	if (!slash || strlen(ref) != size)
		return -EINVAL;
	*slash = '\0';
	found.ns = ref;
	found.ref = slash + 1;
	r = ingest_files_name(found.ns, found.ref, right);
	if (r < 0)
		return r;
	if (strcmp(right, name) || fstatat(folder, "data", &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    !S_ISREG(st.st_mode))
		return -EINVAL;
	written = (int64_t)st.st_mtim.tv_sec * CLOCK_NS_PER_SEC + st.st_mtim.tv_nsec;
	found.status.offset = (uint64_t)st.st_size;
	if (read_number(folder, "total", &found.status.total) < 0)
		found.status.total = -1;
	if (read_number(folder, "startedat", &found.status.started_at) < 0)
		found.status.started_at = written;
	if (read_number(folder, "updatedat", &found.status.updated_at) < 0 ||
	    found.status.updated_at < written)
		found.status.updated_at = written;
	r = fd_read_file(folder, "expected", DIGEST_TEXT, &expected, NULL);
	if (r == -ENOMEM)
		return r;
	found.status.expected = digest_valid(expected) ? expected : "";
	return fn(s, &found);
}

/* No ingest, or what is left of one. Another failure may be of a whole one. */
static bool is_rest(int r)
{
	return r == -EINVAL || r == -ENOENT || r == -EFBIG || r == -ENOTDIR || r == -ELOOP ||
	       r == -EISDIR || r == -ENXIO;
}

int ingest_files_scan(struct store *s, int (*fn)(struct store *s, const struct ingest_found *found),
		      struct fault *f)
{
	int copy = openat(s->ingest_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
	size_t n_removed = 0;
	struct dirent *e;

	if (!dir) {
		r = fault_sys(f, errno, "open the folder", "content/ingest");
		fd_close(&copy);
		return r;
	}
	while (!r && (errno = 0, e = readdir(dir))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		r = read_folder(s, e->d_name, fn);
		if (is_rest(r)) {
			r = tree_remove(s->ingest_fd, e->d_name, NULL);
			n_removed += !r;
		}
		if (r == -ENOMEM)
			fault_sys(f, ENOMEM, "read the folder below content/ingest", e->d_name);
		else if (r < 0)
			snprintf(s->notice, sizeof(s->notice),
				 "content/ingest/%.200s can neither be read nor removed: %s",
				 e->d_name, strerrordesc_np(-r));
		r = r == -ENOMEM ? r : 0;
	}
	if (n_removed && !*s->notice)
		snprintf(s->notice, sizeof(s->notice),
			 "content/ingest: %zu entries that were no whole ingests were removed",
			 n_removed);
	if (!r && errno)
		r = fault_sys(f, errno, "read the folder", "content/ingest");
	closedir(dir);
	return r;
}
