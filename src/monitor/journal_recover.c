// SPDX-License-Identifier: Apache-2.0
/*
 * Bringing the journal back at open
 *
 * The state is the newest snapshot that can be read, and over it every segment from that number on.
 * Those segments are walked frame by frame; of older ones, which are there for their events alone,
 * only the head is read, so that the time of a start does not grow with the events that are kept.
 *
 * What a dying writer leaves is expected: a torn frame at the very end is cut off, a last segment
 * without a head is removed, temporary files go. What is damaged otherwise is skipped and counted;
 * if the newest segment's head is unreadable, the seqs that it may have held are left out, so that
 * none is ever given twice. Files of another boot are removed, all of them: their processes are
 * gone.
 */
#include <bsd/sys/tree.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "monitor/journal_internal.h"
#include "util/cleanup.h"
#include "util/fd.h"

struct numbers {
	uint64_t *values;
	size_t n;
};

struct files {
	struct numbers segments, snapshots;
};

struct pair {
	RB_ENTRY(pair) tree;
	size_t size;
	char *value;
	char key[];
};

RB_HEAD(pairs, pair);

static int pair_compare(const struct pair *a, const struct pair *b)
{
	return strcmp(a->key, b->key);
}

RB_GENERATE_INTERNAL(pairs, pair, tree, pair_compare, static __attribute__((unused)))

static int numbers_add(struct numbers *n, uint64_t value)
{
	uint64_t *values = realloc(n->values, (n->n + 1) * sizeof(*values));

	if (!values)
		return -ENOMEM;
	n->values = values;
	values[n->n++] = value;
	return 0;
}

static int compare_numbers(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* The number between prefix and suffix, written as we write it; 0 when the name is another's. */
static uint64_t name_number(const char *name, void (*print)(char *name, uint64_t index),
			    const char *prefix)
{
	char again[JOURNAL_NAME_MAX];
	size_t skip = strlen(prefix);
	uint64_t index;

	if (strncmp(name, prefix, skip))
		return 0;
	index = strtoull(name + skip, NULL, 10);
	print(again, index);
	return strcmp(again, name) ? 0 : index;
}

static int list_files(struct journal *j, struct files *files)
{
	struct dirent *entry;
	int r = 0, fd;
	DIR *dir;

	fd = openat(j->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	dir = fdopendir(fd);
	if (!dir) {
		r = -errno;
		close(fd);
		return r;
	}
	while (!r && (errno = 0, entry = readdir(dir))) {
		uint64_t index = name_number(entry->d_name, journal_segment_name, "journal-");
		size_t size = strlen(entry->d_name);

		if (index)
			r = numbers_add(&files->segments, index);
		else if ((index = name_number(entry->d_name, journal_snapshot_name, "snapshot-")))
			r = numbers_add(&files->snapshots, index);
		else if (!strncmp(entry->d_name, "snapshot-", 9) && size > 4 &&
			 !strcmp(entry->d_name + size - 4, ".tmp"))
			unlinkat(j->dirfd, entry->d_name, 0);
	}
	if (!r && errno)
		r = -errno;
	closedir(dir);
	if (files->segments.n)
		qsort(files->segments.values, files->segments.n, sizeof(uint64_t), compare_numbers);
	if (files->snapshots.n)
		qsort(files->snapshots.values, files->snapshots.n, sizeof(uint64_t),
		      compare_numbers);
	return r;
}

static int remove_all(struct journal *j, struct files *files)
{
	char name[JOURNAL_NAME_MAX];
	int r = 0;

	for (size_t i = 0; i < files->segments.n; i++) {
		journal_segment_name(name, files->segments.values[i]);
		if (unlinkat(j->dirfd, name, 0) < 0)
			r = -errno;
	}
	for (size_t i = 0; i < files->snapshots.n; i++) {
		journal_snapshot_name(name, files->snapshots.values[i]);
		if (unlinkat(j->dirfd, name, 0) < 0)
			r = -errno;
	}
	return r;
}

/*
 * The head of one segment file. 0 also when the file was found useless and put away; if it was the
 * newest, *lost is how many events it may have held.
 */
static int load_segment(struct journal *j, uint64_t index, bool newest, uint64_t *lost)
{
	char name[JOURNAL_NAME_MAX], aside[JOURNAL_NAME_MAX + 8];
	CLEANUP_CLOSE int fd = -1;
	struct journal_head h;
	struct stat st;
	int r;

	journal_segment_name(name, index);
	fd = openat(j->dirfd, name, O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	r = journal_head_read(fd, journal_segment_magic, j->boot, &h);
	if (!r && (h.index != index || (j->id[0] && memcmp(j->id, h.id, sizeof(h.id)))))
		r = -EBADMSG;
	if (!r) {
		memcpy(j->id, h.id, sizeof(h.id));
		r = journal_segment_add(j, &h, (uint64_t)st.st_size);
		if (!r && newest)
			j->fd = TAKE_FD(fd);
		if (!r && h.first_seq > j->last)
			j->last = h.first_seq - 1;
		return r;
	}
	if (r != -EBADMSG)
		return r;
	if ((size_t)st.st_size <= sizeof(h)) {
		/* its writer died before it held anything */
		return unlinkat(j->dirfd, name, 0) < 0 ? -errno : 0;
	}
	j->damaged += (uint64_t)st.st_size;
	/* no event is smaller than this */
	if (newest)
		*lost = (uint64_t)st.st_size / sizeof(struct journal_record_head) + 1;
	snprintf(aside, sizeof(aside), "%s.damaged", name);
	return renameat(j->dirfd, name, j->dirfd, aside) < 0 ? -errno : 0;
}

static void pairs_del(struct pairs *pairs, struct pair *p)
{
	if (!p)
		return;
	RB_REMOVE(pairs, pairs, p);
	free(p->value);
	free(p);
}

static struct pair *pairs_find(struct pairs *pairs, const char *key, struct pair **made)
{
	size_t size = strlen(key) + 1;
	struct pair *p = malloc(sizeof(*p) + size), *found;

	*made = NULL;
	if (!p)
		return NULL;
	memcpy(p->key, key, size);
	p->value = NULL;
	p->size = 0;
	found = RB_INSERT(pairs, pairs, p);
	if (found) {
		free(p);
		return found;
	}
	*made = p;
	return p;
}

static int replay_record(struct pairs *pairs, const struct journal_record *r)
{
	struct pair *p, *made;
	char *value;

	if (r->kind == JOURNAL_EVENT)
		return 0;
	p = pairs_find(pairs, r->name, &made);
	if (!p)
		return -ENOMEM;
	if (r->kind == JOURNAL_DEL) {
		pairs_del(pairs, p);
		return 0;
	}
	value = malloc(r->size ? r->size : 1);
	if (!value) {
		pairs_del(pairs, made);
		return -ENOMEM;
	}
	memcpy(value, r->data, r->size);
	free(p->value);
	p->value = value;
	p->size = r->size;
	return 0;
}

static int replay_body(struct pairs *pairs, const uint8_t *body, size_t size)
{
	struct journal_record record;
	size_t at = 0;
	int r = 0;

	while (!r && journal_record_next(body, size, &at, &record))
		r = replay_record(pairs, &record);
	return r;
}

static int replay_segment(struct journal *j, struct journal_segment *s, bool newest,
			  struct pairs *pairs)
{
	uint64_t offset = sizeof(struct journal_head);
	struct journal_frame f;
	int r;

	while ((r = journal_frame_next(j, s, offset, &f)) == 0) {
		/* what was skipped lies before something that can be read: it was no torn end */
		j->damaged += f.offset - offset;
		r = replay_body(pairs, f.body, f.size);
		if (r < 0)
			return r;
		if (f.n_events && f.first_seq + f.n_events - 1 > j->last)
			j->last = f.first_seq + f.n_events - 1;
		offset = f.next;
	}
	if (r < 0 || !newest)
		return r < 0 ? r : 0;
	j->bytes = j->bytes - s->size + offset;
	if (s->size != offset && ftruncate(j->fd, (off_t)offset) < 0)
		return -errno;
	s->size = offset;
	return 0;
}

/* The newest good snapshot that belongs to the segments; others are removed. */
static int load_snapshot(struct journal *j, struct files *files, struct pairs *pairs)
{
	char name[JOURNAL_NAME_MAX];

	for (size_t i = files->snapshots.n; i-- > 0;) {
		uint64_t index = files->snapshots.values[i];
		struct journal_bytes body = { 0 };
		struct journal_head h;
		int r = -EBADMSG;

		if (!j->snap_index) {
			r = journal_snapshot_read(j, index, &body, &h);
			if (!r &&
			    (memcmp(h.id, j->id, sizeof(h.id)) || !journal_segment_find(j, index)))
				r = -EBADMSG;
			if (!r)
				r = replay_body(pairs, body.data, body.size);
			else if (r == -EBADMSG)
				j->damaged += sizeof(h);
			journal_bytes_clear(&body);
		}
		if (!r) {
			j->snap_index = index;
			if (h.first_seq > j->last)
				j->last = h.first_seq - 1;
			continue;
		}
		if (r == -ENOMEM)
			return r;
		journal_snapshot_name(name, index);
		if (unlinkat(j->dirfd, name, 0) < 0)
			return -errno;
	}
	return 0;
}

static int load(struct journal *j, struct files *files, struct pairs *pairs)
{
	uint64_t lost = 0, newest = 0;
	int r = 0;

	for (size_t i = 0; !r && i < files->segments.n; i++) {
		newest = files->segments.values[i];
		r = load_segment(j, newest, i + 1 == files->segments.n, &lost);
	}
	if (r == -ESTALE) {
		/* of another boot */
		journal_segment_drop(j, j->n_segments);
		memset(j->id, 0, sizeof(j->id));
		j->last = 0;
		fd_close(&j->fd);
		return remove_all(j, files);
	}
	if (r < 0)
		return r;
	if (!j->n_segments) {
		/* snapshots without the segments that follow them say nothing about now */
		j->last = 0;
		return remove_all(j, &(struct files){ .snapshots = files->snapshots });
	}
	r = load_snapshot(j, files, pairs);
	/* the first segments go only when a snapshot stands for them */
	if (!r && !j->snap_index && j->segments[0].index > 1)
		j->damaged += j->limit;
	for (size_t i = 0; !r && i < j->n_segments; i++) {
		struct journal_segment *s = &j->segments[i];

		if (s->index >= j->snap_index)
			r = replay_segment(j, s, i + 1 == j->n_segments && j->fd >= 0, pairs);
	}
	j->last += lost;
	/* the newest one had to be put aside */
	if (!r && j->fd < 0)
		r = journal_segment_begin(j, newest + 1);
	return r;
}

static int tell(struct pairs *pairs, journal_state_fn state, void *user, struct fault *f)
{
	struct pair *p;
	int r;

	RB_FOREACH (p, pairs, pairs) {
		r = state(user, p->key, p->value, p->size);
		if (r) {
			fault_set(f, FAULT_INTERNAL, 0,
				  "the state log's record \"%.200s\" cannot be used", p->key);
			return r;
		}
	}
	return 0;
}

int journal_recover(struct journal *j, journal_state_fn state, struct fault *f)
{
	struct pairs pairs = RB_INITIALIZER(&pairs);
	struct files files = { 0 };
	int r = list_files(j, &files);

	if (!r)
		r = load(j, &files, &pairs);
	free(files.segments.values);
	free(files.snapshots.values);
	if (r < 0)
		fault_sys(f, -r, "read the state log", NULL);
	else if (state)
		r = tell(&pairs, state, j->user, f);
	while (RB_ROOT(&pairs))
		pairs_del(&pairs, RB_ROOT(&pairs));
	return r;
}
