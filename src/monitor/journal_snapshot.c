// SPDX-License-Identifier: Apache-2.0
/*
 * Snapshots of the state, and which segments stay
 *
 * Snapshot N holds the state as of the beginning of segment N, or of some moment later in it:
 * replaying segment N and those after it over either gives the same. It is gathered in memory on
 * the reactor, and a job, which owns all that it uses, writes it to a temporary file and renames
 * it. Only when that is done do segments before N become superfluous for the state; they stay for
 * the sake of their events until the limit is passed.
 *
 * There is one job at a time. One that fails is repeated with the next segment; meanwhile nothing
 * is removed. A job may outlive the journal: it then only cleans up after itself.
 */
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
#include "util/crc32c.h"
#include "util/fd.h"

struct journal_job {
	struct journal *journal; /* NULL once it is closed; not touched by run */
	int dirfd;
	struct journal_head head;
	struct journal_bytes body;
	uint64_t old; /* the snapshot that this one replaces, 0 for none */
	uint64_t *drop; /* segments to remove, when it is that kind of job */
	size_t n_drop;
	int result;
};

void journal_snapshot_name(char *name, uint64_t index)
{
	snprintf(name, JOURNAL_NAME_MAX, "snapshot-%08" PRIu64, index);
}

static void job_free(struct journal_job *job)
{
	if (!job)
		return;
	fd_close(&job->dirfd);
	journal_bytes_clear(&job->body);
	free(job->drop);
	free(job);
}

DEFINE_CLEANUP(struct journal_job *, job_free)

static struct journal_job *job_new(struct journal *j)
{
	struct journal_job *job = calloc(1, sizeof(*job));

	if (!job)
		return NULL;
	job->dirfd = fcntl(j->dirfd, F_DUPFD_CLOEXEC, 0);
	if (job->dirfd < 0) {
		free(job);
		return NULL;
	}
	job->journal = j;
	return job;
}

static int write_snapshot(const struct journal_job *job)
{
	char name[JOURNAL_NAME_MAX], temp[JOURNAL_NAME_MAX + 8];
	CLEANUP_CLOSE int fd = -1;
	int r;

	journal_snapshot_name(name, job->head.index);
	snprintf(temp, sizeof(temp), "%s.tmp", name);
	fd = openat(job->dirfd, temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = fd_write_all(fd, &job->head, sizeof(job->head));
	if (!r)
		r = fd_write_all(fd, job->body.data, job->body.size);
	if (!r && renameat(job->dirfd, temp, job->dirfd, name) < 0)
		r = -errno;
	if (r < 0)
		unlinkat(job->dirfd, temp, 0);
	return r;
}

static void snapshot_run(void *arg)
{
	struct journal_job *job = arg;
	char name[JOURNAL_NAME_MAX];

	job->result = write_snapshot(job);
	if (!job->result && job->old) {
		journal_snapshot_name(name, job->old);
		unlinkat(job->dirfd, name, 0);
	}
}

static void snapshot_done(void *arg)
{
	CLEANUP(job_freep) struct journal_job *job = arg;
	struct journal *j = job->journal;

	if (!j)
		return;
	j->job = NULL;
	if (job->result < 0)
		return;
	j->snap_index = job->head.index;
	journal_retain(j);
}

static void drop_run(void *arg)
{
	struct journal_job *job = arg;
	char name[JOURNAL_NAME_MAX];

	/* what cannot be removed is removed at the next open */
	for (size_t i = 0; i < job->n_drop; i++) {
		journal_segment_name(name, job->drop[i]);
		unlinkat(job->dirfd, name, 0);
	}
}

static void drop_done(void *arg)
{
	job_free(arg);
}

static void submit(struct journal *j, void (*run)(void *arg), void (*done)(void *arg),
		   struct journal_job *job)
{
	if (j->submit) {
		j->submit(j->submit_user, run, done, job);
		return;
	}
	run(job);
	done(job);
}

void journal_snapshot_forget(struct journal *j)
{
	if (j->job)
		j->job->journal = NULL;
	j->job = NULL;
}

void journal_snapshot_gather(struct journal *j)
{
	j->snap.size = 0;
	j->snap_failed = false;
	/* a state without any pair has a snapshot too */
	if (journal_bytes_room(&j->snap, 1) < 0)
		return;
	j->snapping = true;
	if (j->snapshot)
		j->snapshot(j->user, j);
	j->snapping = false;
}

void journal_snapshot_put(struct journal *j, const char *key, const void *value, size_t size)
{
	if (!j->snapping || j->snap_failed)
		return;
	if (journal_bytes_record(&j->snap, JOURNAL_PUT, 0, key, NULL, value, size) < 0)
		j->snap_failed = true;
}

void journal_snapshot_begin(struct journal *j)
{
	const struct journal_segment *s = &j->segments[j->n_segments - 1];
	struct journal_job *job;

	if (!j->snap_wanted || j->job || !j->snap.data)
		return;
	job = j->snap_failed ? NULL : job_new(j);
	if (!job) {
		/* the next commit tries again */
		journal_bytes_clear(&j->snap);
		return;
	}
	journal_head_init(&job->head, j, journal_snapshot_magic, s->index, s->first_seq);
	job->head.body_size = j->snap.size;
	job->head.seed = crc32c(0, j->snap.data, j->snap.size);
	job->head.crc = crc32c(0, &job->head, offsetof(struct journal_head, crc));
	job->body = j->snap;
	job->old = j->snap_index;
	memset(&j->snap, 0, sizeof(j->snap));
	j->snap_wanted = false;
	j->job = job;
	submit(j, snapshot_run, snapshot_done, job);
}

/*
 * Removes the oldest segments, as far as a snapshot covers them, until the rest is within the
 * limit.
 */
void journal_retain(struct journal *j)
{
	uint64_t bytes = j->bytes;
	struct journal_job *job;
	size_t n = 0;

	while (n + 1 < j->n_segments && j->segments[n].index < j->snap_index && bytes > j->limit)
		bytes -= j->segments[n++].size;
	if (!n)
		return;
	job = job_new(j);
	if (!job)
		return;
	job->drop = malloc(n * sizeof(*job->drop));
	if (!job->drop) {
		job_free(job);
		return;
	}
	for (size_t i = 0; i < n; i++)
		job->drop[i] = j->segments[i].index;
	job->n_drop = n;
	journal_segment_drop(j, n);
	submit(j, drop_run, drop_done, job);
}

int journal_snapshot_read(struct journal *j, uint64_t index, struct journal_bytes *body,
			  struct journal_head *h)
{
	CLEANUP_CLOSE int fd = -1;
	char name[JOURNAL_NAME_MAX];
	struct stat st;
	int r;

	journal_snapshot_name(name, index);
	fd = openat(j->dirfd, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	r = journal_head_read(fd, journal_snapshot_magic, j->boot, h);
	if (r < 0)
		return r;
	if (h->index != index || h->body_size != (uint64_t)st.st_size - sizeof(*h))
		return -EBADMSG;
	r = journal_bytes_room(body, (size_t)h->body_size + 1);
	if (r < 0)
		return r;
	if (lseek(fd, sizeof(*h), SEEK_SET) < 0)
		return -errno;
	r = fd_read_all(fd, body->data, (size_t)h->body_size);
	if (r < 0)
		return r;
	body->size = (size_t)h->body_size;
	return crc32c(0, body->data, body->size) == h->seed ? 0 : -EBADMSG;
}
