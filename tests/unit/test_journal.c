// SPDX-License-Identifier: Apache-2.0
/*
 * The journal against a model: random commits, restarts, torn and damaged files, a full disk, a
 * writer that is killed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "monitor/journal_internal.h"
#include "util/clock.h"
#include "util/crc32c.h"
#include "util/fd.h"
#include "util/limits.h"

#define KEYS 24
#define EVENTS_MAX 200000

/* What the journal should hold. Values and payloads are made from a number. */
struct model {
	uint32_t values[KEYS]; /* 0: not there */
	uint32_t *events; /* by seq - 1 */
	uint64_t n_events;
};

struct fixture {
	char path[64];
	int dirfd;
	struct model model, committed;
	struct journal *journal;
	struct {
		void (*run)(void *arg), (*done)(void *arg);
		void *arg;
	} jobs[8];
	size_t n_jobs;
	uint32_t found[KEYS]; /* while opening */
	unsigned rand;
};

static unsigned draw(struct fixture *x, unsigned below)
{
	x->rand = x->rand * 1103515245u + 12345u;
	return (x->rand >> 8) % below;
}

/* A text of a size that the number decides, and that begins with it. */
static size_t make_value(uint32_t n, char *out)
{
	size_t size = n % 97 == 0 ? 9000 : n % 300;

	memset(out, 'a' + (int)(n % 26), size);
	return size + (size_t)sprintf(out + size, "#%u", n);
}

static uint32_t read_value(const void *value, size_t size)
{
	static char text[16384], again[16384];
	const char *mark;
	uint32_t n;

	assert_true(size < sizeof(text));
	memcpy(text, value, size);
	text[size] = '\0';
	mark = strchr(text, '#');
	assert_non_null(mark);
	n = (uint32_t)strtoul(mark + 1, NULL, 10);
	assert_int_equal(make_value(n, again), size);
	assert_memory_equal(again, value, size);
	return n;
}

static int on_state(void *user, const char *key, const void *value, size_t size)
{
	struct fixture *x = user;
	int k = atoi(key + 4);

	assert_memory_equal(key, "key/", 4);
	assert_true(k >= 0 && k < KEYS);
	assert_int_equal(x->found[k], 0);
	x->found[k] = read_value(value, size);
	return 0;
}

static void on_snapshot(void *user, struct journal *j)
{
	static char value[16384];
	struct fixture *x = user;
	char key[16];

	/* as an owner may: the state with this commit's changes in it already */
	for (int k = 0; k < KEYS; k++) {
		if (!x->model.values[k])
			continue;
		sprintf(key, "key/%d", k);
		journal_snapshot_put(j, key, value, make_value(x->model.values[k], value));
	}
}

static void submit(void *user, void (*run)(void *arg), void (*done)(void *arg), void *arg)
{
	struct fixture *x = user;

	assert_true(x->n_jobs < 8);
	x->jobs[x->n_jobs].run = run;
	x->jobs[x->n_jobs].done = done;
	x->jobs[x->n_jobs++].arg = arg;
}

static void run_jobs(struct fixture *x)
{
	for (size_t i = 0; i < x->n_jobs; i++) {
		x->jobs[i].run(x->jobs[i].arg);
		x->jobs[i].done(x->jobs[i].arg);
	}
	x->n_jobs = 0;
}

static void open_journal(struct fixture *x)
{
	struct fault f = { 0 };

	memset(x->found, 0, sizeof(x->found));
	if (journal_open(&x->journal, x->dirfd, 0, on_state, on_snapshot, x, &f) < 0)
		fail_msg("%s", f.message);
}

static void close_journal(struct fixture *x)
{
	journal_close(x->journal);
	x->journal = NULL;
	/* a job outlives it */
	run_jobs(x);
}

static void check_event(struct fixture *x, const struct journal_event *e)
{
	char topic[32];

	assert_true(e->seq >= 1 && e->seq <= x->committed.n_events);
	assert_int_equal(read_value(e->payload, e->payload_size), x->committed.events[e->seq - 1]);
	sprintf(topic, "/topic/%u", x->committed.events[e->seq - 1] % 5);
	assert_string_equal(e->topic, topic);
	assert_string_equal(e->ns, x->committed.events[e->seq - 1] % 2 ? "default" : "other");
	assert_true(e->timestamp > 0);
}

/* Everything from `after` on; returns how many were lost. */
static uint64_t check_events(struct fixture *x, uint64_t after)
{
	struct journal_cursor *c;
	struct journal_event e;
	uint64_t expected = after + 1, from, to, lost = 0;
	int r;

	assert_int_equal(journal_last(x->journal), x->committed.n_events);
	assert_int_equal(journal_cursor_new(x->journal, after, &c), 0);
	while ((r = journal_read(c, &e, &from, &to)) != JOURNAL_E_END) {
		if (r == JOURNAL_E_GAP) {
			assert_int_equal(from, expected);
			assert_true(to >= from);
			expected = to + 1;
			lost += to - from + 1;
		} else {
			assert_int_equal(r, 0);
			assert_int_equal(e.seq, expected);
			check_event(x, &e);
			expected++;
		}
		assert_int_equal(journal_cursor_seq(c), expected);
	}
	assert_int_equal(expected, x->committed.n_events + 1);
	journal_cursor_free(c);
	return lost;
}

static void check_state(struct fixture *x)
{
	for (int k = 0; k < KEYS; k++)
		assert_int_equal(x->found[k], x->committed.values[k]);
}

static void model_put(struct fixture *x, int k, uint32_t n)
{
	char key[16], value[16384];

	sprintf(key, "key/%d", k);
	x->model.values[k] = n;
	if (n)
		journal_put(x->journal, key, value, make_value(n, value));
	else
		journal_del(x->journal, key);
}

static void model_event(struct fixture *x, uint32_t n)
{
	char topic[32], value[16384];
	size_t size = make_value(n, value);

	sprintf(topic, "/topic/%u", n % 5);
	assert_true(x->model.n_events < EVENTS_MAX);
	x->model.events[x->model.n_events++] = n;
	assert_int_equal(journal_event(x->journal, n % 2 ? "default" : "other", topic, value, size),
			 x->model.n_events);
}

static int model_commit(struct fixture *x)
{
	int r = journal_commit(x->journal);

	if (r < 0) {
		memcpy(x->model.values, x->committed.values, sizeof(x->model.values));
		x->model.n_events = x->committed.n_events;
		return r;
	}
	memcpy(x->committed.values, x->model.values, sizeof(x->model.values));
	x->committed.n_events = x->model.n_events;
	return 0;
}

static int random_commit(struct fixture *x)
{
	for (unsigned n = 1 + draw(x, 3); n; n--) {
		if (draw(x, 3))
			model_event(x, 1 + draw(x, 1000000));
		else
			model_put(x, (int)draw(x, KEYS), draw(x, 4) ? 1 + draw(x, 1000000) : 0);
	}
	return model_commit(x);
}

static int setup(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));

	assert_non_null(x);
	strcpy(x->path, access("/dev/shm", W_OK) ? "/tmp/test_journal.XXXXXX"
						 : "/dev/shm/test_journal.XXXXXX");
	assert_non_null(mkdtemp(x->path));
	x->dirfd = open(x->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	x->model.events = x->committed.events = calloc(EVENTS_MAX, sizeof(uint32_t));
	assert_non_null(x->model.events);
	x->rand = 7;
	*state = x;
	return 0;
}

static void clear(struct fixture *x)
{
	struct dirent *e;
	DIR *d = opendir(x->path);

	while ((e = readdir(d))) {
		if (e->d_name[0] != '.')
			unlinkat(x->dirfd, e->d_name, 0);
	}
	closedir(d);
}

static int teardown(void **state)
{
	struct fixture *x = *state;

	if (x->journal)
		close_journal(x);
	clear(x);
	close(x->dirfd);
	rmdir(x->path);
	free(x->model.events);
	free(x);
	return 0;
}

static void test_basics(void **state)
{
	struct fixture *x = *state;
	char id[33];

	open_journal(x);
	assert_int_equal(strlen(journal_id(x->journal)), 32);
	strcpy(id, journal_id(x->journal));
	assert_int_equal(journal_last(x->journal), 0);
	assert_int_equal(journal_first(x->journal), 1);
	assert_int_equal(journal_commit(x->journal), 0);
	model_put(x, 1, 97);
	model_put(x, 2, 5);
	model_event(x, 11);
	model_event(x, 12);
	/* nothing is there before the commit */
	assert_int_equal(journal_last(x->journal), 0);
	assert_int_equal(model_commit(x), 0);
	assert_int_equal(journal_last(x->journal), 2);
	model_put(x, 2, 0);
	model_put(x, 3, 6);
	assert_int_equal(model_commit(x), 0);
	assert_int_equal(check_events(x, 0), 0);
	assert_int_equal(check_events(x, 1), 0);
	assert_int_equal(check_events(x, 2), 0);
	close_journal(x);
	open_journal(x);
	assert_string_equal(journal_id(x->journal), id);
	check_state(x);
	model_event(x, 13);
	assert_int_equal(model_commit(x), 0);
	assert_int_equal(journal_last(x->journal), 3);
	assert_int_equal(check_events(x, 0), 0);
	assert_int_equal(journal_damaged(x->journal), 0);
}

static void test_refused(void **state)
{
	struct fixture *x = *state;
	char *big = calloc(1, LIMIT_EVENT_BYTES + 1), *key = malloc(70000);
	uint64_t bytes;

	assert_true(big && key);
	memset(key, 'k', 69999);
	key[69999] = '\0';
	open_journal(x);
	model_put(x, 1, 5);
	assert_int_equal(model_commit(x), 0);
	bytes = journal_bytes(x->journal);
	model_put(x, 1, 6);
	journal_event(x->journal, "default", "/x", big, LIMIT_EVENT_BYTES + 1);
	assert_int_equal(model_commit(x), -EMSGSIZE);
	model_put(x, 1, 6);
	assert_int_equal(journal_put(x->journal, key, "", 0), -EMSGSIZE);
	assert_int_equal(model_commit(x), -EMSGSIZE);
	assert_int_equal(journal_bytes(x->journal), bytes);
	/* the largest is taken; and nothing of the failures is left */
	assert_int_equal(journal_event(x->journal, "default", "/x", big, LIMIT_EVENT_BYTES), 1);
	assert_int_equal(journal_commit(x->journal), 0);
	close_journal(x);
	open_journal(x);
	assert_int_equal(journal_last(x->journal), 1);
	check_state(x);
	free(big);
	free(key);
}

static size_t read_segment(struct fixture *x, const char *name, char **data)
{
	size_t size;

	assert_int_equal(fd_read_file(x->dirfd, name, 64 << 20, data, &size), 0);
	return size;
}

static void write_segment(struct fixture *x, const char *name, const char *data, size_t size)
{
	int fd = openat(x->dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, data, size), 0);
	close(fd);
}

/* Cut or damaged at every byte: a commit is there as a whole or not at all. */
static void test_every_byte(void **state)
{
	struct fixture *x = *state;
	struct model two, three;
	uint64_t one_end, two_end;
	char *data;
	size_t size;

	open_journal(x);
	model_put(x, 1, 5);
	model_event(x, 11);
	assert_int_equal(model_commit(x), 0);
	one_end = journal_bytes(x->journal);
	model_put(x, 2, 6);
	model_event(x, 12);
	assert_int_equal(model_commit(x), 0);
	two = x->committed;
	two_end = journal_bytes(x->journal);
	model_put(x, 1, 0);
	model_put(x, 2, 7);
	model_event(x, 13);
	model_event(x, 14);
	assert_int_equal(model_commit(x), 0);
	three = x->committed;
	close_journal(x);
	size = read_segment(x, "journal-00000001.log", &data);
	for (size_t cut = two_end; cut <= size; cut++) {
		bool whole;

		write_segment(x, "journal-00000001.log", data, cut);
		/* up to 7 bytes at the end are padding */
		x->model = x->committed = two;
		x->committed.events[2] = 13;
		x->committed.events[3] = 14;
		open_journal(x);
		whole = journal_last(x->journal) == 4;
		if (cut < size - 7)
			assert_false(whole);
		if (cut == size)
			assert_true(whole);
		if (whole)
			x->model = x->committed = three;
		check_state(x);
		assert_int_equal(check_events(x, 0), 0);
		assert_int_equal(journal_damaged(x->journal), 0);
		/* and it goes on from there */
		model_event(x, 15);
		model_put(x, 3, 8);
		assert_int_equal(model_commit(x), 0);
		close_journal(x);
		open_journal(x);
		check_state(x);
		assert_int_equal(check_events(x, 0), 0);
		close_journal(x);
	}
	for (size_t at = one_end; at < two_end; at++) {
		data[at] ^= 0x40;
		write_segment(x, "journal-00000001.log", data, size);
		data[at] ^= 0x40;
		x->model = x->committed = three;
		x->committed.events[2] = 13;
		x->committed.events[3] = 14;
		open_journal(x);
		check_state(x);
		assert_int_equal(check_events(x, 0), journal_damaged(x->journal) ? 1 : 0);
		/* nothing but the padding may be harmless */
		if (at < two_end - 7)
			assert_true(journal_damaged(x->journal));
		close_journal(x);
	}
	free(data);
}

static void append_garbage(struct fixture *x)
{
	char name[JOURNAL_NAME_MAX], garbage[200];
	int fd;

	journal_segment_name(name, x->journal->segments[x->journal->n_segments - 1].index);
	for (size_t i = 0; i < sizeof(garbage); i++)
		garbage[i] = (char)draw(x, 256);
	fd = openat(x->dirfd, name, O_WRONLY | O_APPEND | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, garbage, draw(x, sizeof(garbage))), 0);
	close(fd);
}

/* Random commits with restarts, torn ends, and jobs that run late or after a restart only. */
static void test_random(void **state)
{
	struct fixture *x = *state;
	uint64_t lost = 0;

	for (unsigned round = 0; round < 40; round++) {
		unsigned mode = draw(x, 3);
		uint64_t before = lost;

		open_journal(x);
		check_state(x);
		lost = check_events(x, 0);
		assert_true(lost >= before);
		if (mode)
			journal_offload(x->journal, submit, x);
		for (unsigned i = 200 + draw(x, 500); i; i--) {
			assert_int_equal(random_commit(x), 0);
			if (mode == 1 && !draw(x, 50))
				run_jobs(x);
			if (!draw(x, 100))
				check_events(x, x->committed.n_events > 50
							? x->committed.n_events - 50
							: 0);
		}
		check_events(x, 0);
		if (draw(x, 2))
			append_garbage(x);
		close_journal(x);
	}
	open_journal(x);
	check_state(x);
	lost = check_events(x, 0);
	assert_true(lost > 0);
	assert_int_equal(lost + 1, journal_first(x->journal));
	assert_true(journal_bytes(x->journal) <= LIMIT_JOURNAL_BYTES_MIN + JOURNAL_SEGMENT_MIN);
	assert_true(journal_bytes(x->journal) >= LIMIT_JOURNAL_BYTES_MIN / 2);
	assert_int_equal(journal_damaged(x->journal), 0);
}

/* Some cursors that stop and go, on their ways through memory and files. */
static void test_cursors(void **state)
{
	struct fixture *x = *state;
	struct {
		struct journal_cursor *c;
		uint64_t expected, gaps;
	} readers[12] = { 0 };

	open_journal(x);
	for (size_t i = 0; i < 12; i++) {
		assert_int_equal(journal_cursor_new(x->journal, 0, &readers[i].c), 0);
		readers[i].expected = 1;
	}
	for (unsigned n = 0; n < 12000; n++) {
		assert_int_equal(random_commit(x), 0);
		for (size_t i = 0; i < 12; i++) {
			/* the first keep up, the next now and then, the last one hardly */
			unsigned most = i < 4	 ? 100
					: i < 11 ? (n / 64 % i ? 0 : 40)
						 : (n % 500 ? 0 : 3);
			struct journal_event e;
			uint64_t from, to;
			int r = 0;

			while (most-- && r != JOURNAL_E_END) {
				r = journal_read(readers[i].c, &e, &from, &to);
				if (r == JOURNAL_E_GAP) {
					assert_int_equal(from, readers[i].expected);
					readers[i].expected = to + 1;
					readers[i].gaps++;
					assert_int_equal(to + 1, journal_first(x->journal));
				} else if (r != JOURNAL_E_END) {
					assert_int_equal(r, 0);
					assert_int_equal(e.seq, readers[i].expected++);
					check_event(x, &e);
				}
			}
			if (i < 4) {
				assert_int_equal(r, JOURNAL_E_END);
				/* who keeps up needs no file */
				assert_int_equal(readers[i].gaps, 0);
			}
		}
	}
	assert_true(readers[11].gaps > 0);
	for (size_t i = 0; i < 12; i++)
		journal_cursor_free(readers[i].c);
	/* from the future: only what is still to come */
	assert_int_equal(journal_cursor_new(x->journal, UINT64_MAX, &readers[0].c), 0);
	assert_int_equal(journal_cursor_seq(readers[0].c), journal_last(x->journal) + 1);
	journal_cursor_free(readers[0].c);
}

/* Who keeps up is served from memory: the files may be gone. */
static void test_tail_in_memory(void **state)
{
	struct fixture *x = *state;
	struct journal_cursor *c;
	struct journal_event e;

	open_journal(x);
	assert_int_equal(journal_cursor_new(x->journal, 0, &c), 0);
	for (unsigned i = 1; i < 100; i++) {
		model_event(x, i);
		model_event(x, 1000 + i);
		assert_int_equal(model_commit(x), 0);
		assert_int_equal(journal_read(c, &e, NULL, NULL), 0);
		check_event(x, &e);
		assert_int_equal(journal_read(c, &e, NULL, NULL), 0);
		check_event(x, &e);
		assert_int_equal(journal_read(c, &e, NULL, NULL), JOURNAL_E_END);
		assert_null(x->journal->window.data);
	}
	journal_cursor_free(c);
}

static void test_full_disk(void **state)
{
	struct fixture *x = *state;
	unsigned failures = 0;
	char *ballast;
	int fd;

	if (mount("tmpfs", x->path, "tmpfs", 0, "size=600k") < 0)
		skip();
	close(x->dirfd);
	x->dirfd = open(x->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ballast = calloc(1, 200 << 10);
	write_segment(x, "ballast", ballast, 200 << 10);
	free(ballast);
	open_journal(x);
	for (unsigned i = 0; i < 4000; i++) {
		int r = random_commit(x);

		if (r < 0) {
			assert_int_equal(r, -ENOSPC);
			failures++;
		}
		if (failures == 50) {
			assert_int_equal(unlinkat(x->dirfd, "ballast", 0), 0);
			failures++;
			assert_int_equal(random_commit(x), 0);
		}
	}
	assert_true(failures > 50);
	assert_int_equal(check_events(x, 0), 0);
	close_journal(x);
	open_journal(x);
	check_state(x);
	assert_int_equal(check_events(x, 0), 0);
	close_journal(x);
	fd = x->dirfd;
	x->dirfd = -1;
	close(fd);
	assert_int_equal(umount(x->path), 0);
	x->dirfd = open(x->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void change_head(struct fixture *x, const char *name, void (*change)(struct journal_head *h))
{
	struct journal_head h;
	char *data;
	size_t size = read_segment(x, name, &data);

	memcpy(&h, data, sizeof(h));
	change(&h);
	h.crc = crc32c(0, &h, offsetof(struct journal_head, crc));
	memcpy(data, &h, sizeof(h));
	write_segment(x, name, data, size);
	free(data);
}

static void other_boot(struct journal_head *h)
{
	h->boot[3] ^= 1;
}

static void test_other_boot(void **state)
{
	struct fixture *x = *state;
	char id[33], name[JOURNAL_NAME_MAX];

	open_journal(x);
	for (unsigned i = 0; i < 3000; i++)
		assert_int_equal(random_commit(x), 0);
	strcpy(id, journal_id(x->journal));
	journal_segment_name(name, x->journal->segments[0].index);
	close_journal(x);
	change_head(x, name, other_boot);
	open_journal(x);
	assert_string_not_equal(journal_id(x->journal), id);
	assert_int_equal(journal_last(x->journal), 0);
	assert_int_equal(journal_first(x->journal), 1);
	for (int k = 0; k < KEYS; k++)
		assert_int_equal(x->found[k], 0);
	memset(&x->model.values, 0, sizeof(x->model.values));
	x->model.n_events = 0;
	model_event(x, 5);
	assert_int_equal(model_commit(x), 0);
	assert_int_equal(check_events(x, 0), 0);
}

/* A snapshot that cannot be read: the older one, or the segments, stand in for it. */
static void test_bad_snapshot(void **state)
{
	struct fixture *x = *state;
	char name[JOURNAL_NAME_MAX], *data;
	size_t size;

	open_journal(x);
	while (x->journal->snap_index < 2)
		assert_int_equal(random_commit(x), 0);
	journal_snapshot_name(name, x->journal->snap_index);
	assert_int_equal(x->journal->segments[0].index, 1);
	close_journal(x);
	size = read_segment(x, name, &data);
	data[size / 2] ^= 1;
	write_segment(x, name, data, size);
	write_segment(x, "snapshot-00000007.tmp", data, size);
	free(data);
	open_journal(x);
	check_state(x);
	assert_true(journal_damaged(x->journal) > 0);
	assert_int_equal(check_events(x, 0), 0);
	assert_int_equal(faccessat(x->dirfd, name, F_OK, 0), -1);
	assert_int_equal(faccessat(x->dirfd, "snapshot-00000007.tmp", F_OK, 0), -1);
}

/* The newest segment's head is gone: seqs are left out, none is given twice, older events stay. */
static void test_bad_head(void **state)
{
	struct fixture *x = *state;
	char name[JOURNAL_NAME_MAX], *data;
	struct journal_cursor *c;
	struct journal_event e;
	uint64_t last, from, to, n = 0;
	size_t size;
	int r;

	open_journal(x);
	while (x->journal->n_segments < 3 || x->journal->segments[2].size < 100000)
		assert_int_equal(random_commit(x), 0);
	last = journal_last(x->journal);
	journal_segment_name(name, x->journal->segments[2].index);
	close_journal(x);
	size = read_segment(x, name, &data);
	data[20] ^= 1;
	write_segment(x, name, data, size);
	free(data);
	open_journal(x);
	assert_true(journal_last(x->journal) >= last);
	assert_true(journal_damaged(x->journal) >= size);
	assert_int_equal(journal_event(x->journal, "default", "/x", "y", 1),
			 journal_last(x->journal) + 1);
	assert_int_equal(journal_commit(x->journal), 0);
	assert_int_equal(journal_cursor_new(x->journal, 0, &c), 0);
	while ((r = journal_read(c, &e, &from, &to)) == 0)
		n++;
	assert_int_equal(r, JOURNAL_E_GAP);
	assert_int_equal(from, n + 1);
	assert_int_equal(to, journal_last(x->journal) - 1);
	assert_int_equal(journal_read(c, &e, &from, &to), 0);
	assert_string_equal(e.topic, "/x");
	journal_cursor_free(c);
	close_journal(x);
	/* a last file that was only just created */
	write_segment(x, "journal-00000099.log", "davit", 5);
	open_journal(x);
	assert_int_equal(faccessat(x->dirfd, "journal-00000099.log", F_OK, 0), -1);
	assert_int_equal(journal_commit(x->journal), 0);
}

/* A segment's file that somebody removed while the daemon runs is one gap. */
static void test_missing_file(void **state)
{
	struct fixture *x = *state;
	uint64_t lost;

	open_journal(x);
	while (x->journal->n_segments < 3)
		assert_int_equal(random_commit(x), 0);
	assert_int_equal(unlinkat(x->dirfd, "journal-00000002.log", 0), 0);
	lost = check_events(x, 0);
	assert_true(lost == x->journal->segments[2].first_seq - x->journal->segments[1].first_seq);
}

/* A payload that looks like a frame must not become one when what is around it is damaged. */
static void test_frame_in_payload(void **state)
{
	struct fixture *x = *state;
	char *data, *copy;
	uint64_t end;
	size_t size;

	open_journal(x);
	model_put(x, 1, 5);
	assert_int_equal(model_commit(x), 0);
	end = journal_bytes(x->journal);
	close_journal(x);
	size = read_segment(x, "journal-00000001.log", &copy);
	/* the frame of the first commit, as it is, of another journal */
	clear(x);
	open_journal(x);
	journal_event(x->journal, "default", "/topic", copy + sizeof(struct journal_head),
		      size - sizeof(struct journal_head));
	assert_int_equal(journal_commit(x->journal), 0);
	close_journal(x);
	size = read_segment(x, "journal-00000001.log", &data);
	data[sizeof(struct journal_head) + 8] ^= 1;
	write_segment(x, "journal-00000001.log", data, size);
	open_journal(x);
	assert_true(end > 0);
	assert_int_equal(x->found[1], 0);
	free(data);
	free(copy);
}

static int refuse_state(void *user, const char *key, const void *value, size_t size)
{
	(void)user;
	(void)key;
	(void)value;
	(void)size;
	return -EPROTO;
}

static void test_state_refused(void **state)
{
	struct fixture *x = *state;
	struct journal *j;
	struct fault f = { 0 };

	open_journal(x);
	model_put(x, 1, 5);
	assert_int_equal(model_commit(x), 0);
	close_journal(x);
	assert_int_equal(journal_open(&j, x->dirfd, 0, refuse_state, NULL, NULL, &f), -EPROTO);
	assert_null(j);
	assert_non_null(strstr(f.message, "key/1"));
}

/* kill -9 at any moment: what was answered is there. */
static void test_killed_writer(void **state)
{
	struct fixture *x = *state;
	volatile uint64_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
					 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal((void *)shared, MAP_FAILED);
	for (unsigned round = 0; round < 12; round++) {
		uint64_t known = 0;
		pid_t pid = fork();

		if (pid == 0) {
			struct journal *j;

			if (journal_open(&j, x->dirfd, 0, NULL, NULL, NULL, NULL) < 0)
				_exit(1);
			for (;;) {
				char value[2048];
				uint64_t n = journal_last(j) + 1;

				memset(value, (int)n, sizeof(value));
				journal_put(j, "last", &n, sizeof(n));
				journal_event(j, "default", "/x", value, n * 7 % sizeof(value));
				if (journal_commit(j) < 0)
					_exit(2);
				*shared = n;
			}
		}
		usleep(3000 + round * 1700);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		known = *shared;
		assert_int_equal(journal_open(&x->journal, x->dirfd, 0, NULL, NULL, NULL, NULL), 0);
		assert_true(journal_last(x->journal) >= known &&
			    journal_last(x->journal) <= known + 1);
		assert_int_equal(journal_damaged(x->journal), 0);
		close_journal(x);
	}
	assert_true(*shared > 100);
	munmap((void *)shared, 4096);
}

static void test_speed(void **state)
{
	struct fixture *x = *state;
	static char payload[180];
	int64_t begin, spent;
	unsigned n = 50000;

	open_journal(x);
	begin = clock_mono();
	for (unsigned i = 0; i < n; i++) {
		journal_put(x->journal, "task/default/some-container", payload, sizeof(payload));
		journal_event(x->journal, "default", "/tasks/start", payload, 60);
		assert_int_equal(journal_commit(x->journal), 0);
	}
	spent = clock_mono() - begin;
	print_message("%lld ns a commit of one state record and one event\n",
		      (long long)(spent / n));
	close_journal(x);
	begin = clock_mono();
	assert_int_equal(journal_open(&x->journal, x->dirfd, 0, NULL, NULL, NULL, NULL), 0);
	print_message("%lld us to open\n", (long long)(clock_mono() - begin) / 1000);
	/* generous: shared machines */
	assert_true(spent / n < 200000);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_basics),	      T(test_refused),		T(test_every_byte),
		T(test_random),	      T(test_cursors),		T(test_tail_in_memory),
		T(test_full_disk),    T(test_other_boot),	T(test_bad_snapshot),
		T(test_bad_head),     T(test_frame_in_payload), T(test_state_refused),
		T(test_missing_file), T(test_killed_writer),	T(test_speed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
