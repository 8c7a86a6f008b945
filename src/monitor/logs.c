// SPDX-License-Identifier: Apache-2.0
/*
 * Container logs
 *
 * The reactor's half hands over: pipes, pieces of terminal output, and orders to end, by a queue
 * under a lock and an eventfd; back come the ends of pipes by another queue and eventfd. Everything
 * else (files, the epoll, partial lines) belongs to the thread alone.
 *
 * A source is a pipe or a terminal. Its bytes are cut into lines in the one read buffer that all
 * pipes share; only the rest after the last newline is copied, to a buffer of just that size. A
 * rest that has waited for PARTIAL_MS is written as a part (P), so that prompts show and a daemon
 * that is killed takes little with it. One read makes one write to the file, as long as it fits the
 * batch.
 *
 * The thread sleeps when there is nothing. Its two large buffers are given back to the system after
 * a moment without work.
 */
#include "monitor/logs.h"

#include <bsd/sys/queue.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "monitor/logs_file.h"
#include "util/clock.h"
#include "util/fd.h"

#define READ_SIZE (64u << 10)
#define PARTIAL_MS 250
#define IDLE_MS 2000
#define STACK (128u << 10)
/* What one pipe can hold at most without root's help (fs.pipe-max-size): more than that is new. */
#define DRAIN_MAX (1u << 20)

struct source {
	LIST_ENTRY(source) link; /* thread: all of them */
	TAILQ_ENTRY(source) waiting; /* thread: those with a partial line, oldest first */
	LIST_ENTRY(source) tty_link; /* reactor: terminals */
	int fd; /* -1: a terminal */
	bool registered;
	char stream[8];
	char *path;
	int64_t max_size;
	struct log_file *file;
	char *partial;
	size_t partial_size;
	int64_t partial_since; /* monotonic, ns */
	void (*ended)(void *user, int err);
	void *user;
	int err;
	atomic_size_t queued; /* terminal: bytes on their way */
	atomic_size_t dropped;
	STAILQ_ENTRY(source) done;
};

enum order_kind { ORDER_ADD, ORDER_DATA, ORDER_END };

struct order {
	STAILQ_ENTRY(order) link;
	enum order_kind kind;
	struct source *source;
	size_t size;
	char data[];
};

STAILQ_HEAD(orders, order);
STAILQ_HEAD(dones, source);

struct logs {
	pthread_t thread;
	int wake, done_fd; /* eventfds: to the thread, and back */
	struct event *done_event;
	LIST_HEAD(, source) ttys;

	pthread_mutex_t lock;
	struct orders orders;
	struct dones dones;
	bool stop;

	/* the thread's */
	int epoll;
	LIST_HEAD(, source) sources;
	TAILQ_HEAD(, source) partials;
	struct log_files files;
	struct log_batch batch;
	char *buffers; /* READ_SIZE, then LOG_OUT_SIZE; NULL while idle */
};

/* ---- the thread */

static void partial_drop(struct logs *l, struct source *s)
{
	if (!s->partial)
		return;
	TAILQ_REMOVE(&l->partials, s, waiting);
	free(s->partial);
	s->partial = NULL;
	s->partial_size = 0;
}

/* Keeps the rest of a line. Without memory it becomes a part at once. */
static void partial_add(struct logs *l, struct source *s, const char *data, size_t size)
{
	char *p = realloc(s->partial, s->partial_size + size);

	if (!p) {
		log_batch_line(&l->batch, s->stream, 'P', s->partial, s->partial_size, data, size);
		partial_drop(l, s);
		return;
	}
	if (!s->partial) {
		s->partial_since = clock_mono();
		TAILQ_INSERT_TAIL(&l->partials, s, waiting);
	}
	memcpy(p + s->partial_size, data, size);
	s->partial = p;
	s->partial_size += size;
}

static void take_lines(struct logs *l, struct source *s, const char *data, size_t size)
{
	while (size) {
		const char *end = memchr(data, '\n', size);
		size_t line = end ? (size_t)(end - data) : size;

		if (s->partial_size + line > LIMIT_LOG_LINE) {
			line = LIMIT_LOG_LINE - s->partial_size;
			log_batch_line(&l->batch, s->stream, 'P', s->partial, s->partial_size, data,
				       line);
			partial_drop(l, s);
		} else if (end) {
			log_batch_line(&l->batch, s->stream, 'F', s->partial, s->partial_size, data,
				       line);
			partial_drop(l, s);
			line++;
		} else {
			partial_add(l, s, data, size);
		}
		data += line;
		size -= line;
	}
}

static bool buffers_get(struct logs *l)
{
	void *p;

	if (l->buffers)
		return true;
	p = mmap(NULL, READ_SIZE + LOG_OUT_SIZE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return false;
	l->buffers = p;
	l->batch.out = l->buffers + READ_SIZE;
	return true;
}

static void buffers_put(struct logs *l)
{
	if (l->buffers)
		munmap(l->buffers, READ_SIZE + LOG_OUT_SIZE);
	l->buffers = NULL;
	l->batch.out = NULL;
}

static void partial_flush(struct logs *l, struct source *s, char tag)
{
	if (!s->partial)
		return;
	log_batch_begin(&l->batch, s->file);
	log_batch_line(&l->batch, s->stream, tag, s->partial, s->partial_size, NULL, 0);
	log_batch_end(&l->batch);
	partial_drop(l, s);
}

static void source_free(struct source *s)
{
	fd_close(&s->fd);
	free(s->path);
	free(s);
}

/* Its last bytes are in the file when the reactor hears of it. */
static void source_end(struct logs *l, struct source *s, int err)
{
	partial_flush(l, s, 'F');
	if (s->registered)
		epoll_ctl(l->epoll, EPOLL_CTL_DEL, s->fd, NULL);
	fd_close(&s->fd);
	if (s->dropped && s->file)
		s->file->lost += atomic_exchange(&s->dropped, 0);
	log_file_put(&l->files, s->file, &l->batch);
	s->file = NULL;
	s->err = err;
	LIST_REMOVE(s, link);
	if (!s->ended) {
		source_free(s);
		return;
	}
	pthread_mutex_lock(&l->lock);
	STAILQ_INSERT_TAIL(&l->dones, s, done);
	pthread_mutex_unlock(&l->lock);
	eventfd_write(l->done_fd, 1);
}

/* One read. False when there was nothing, or no more. */
static bool source_read(struct logs *l, struct source *s)
{
	ssize_t n = read(s->fd, l->buffers, READ_SIZE);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		source_end(l, s, n ? errno : 0);
		return false;
	}
	log_batch_begin(&l->batch, s->file);
	take_lines(l, s, l->buffers, (size_t)n);
	log_batch_end(&l->batch);
	return true;
}

static void source_data(struct logs *l, struct source *s, const char *data, size_t size)
{
	uint64_t dropped;

	atomic_fetch_sub(&s->queued, size);
	if (!s->file)
		s->file = log_file_get(&l->files, s->path, s->max_size);
	if (!s->file) {
		atomic_fetch_add(&s->dropped, size);
		return;
	}
	dropped = atomic_exchange(&s->dropped, 0);
	if (dropped && !s->file->lost)
		s->file->lost_why = 0;
	s->file->lost += dropped;
	log_batch_begin(&l->batch, s->file);
	take_lines(l, s, data, size);
	log_batch_end(&l->batch);
}

static void source_begin(struct logs *l, struct source *s)
{
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = s };

	LIST_INSERT_HEAD(&l->sources, s, link);
	s->file = log_file_get(&l->files, s->path, s->max_size);
	/* a terminal tries again with its first data */
	if (s->fd < 0)
		return;
	if (!s->file)
		source_end(l, s, ENOMEM);
	else if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, s->fd, &e) < 0)
		source_end(l, s, errno);
	else
		s->registered = true;
}

static void obey(struct logs *l, struct order *o)
{
	struct source *s = o->source;

	switch (o->kind) {
	case ORDER_ADD:
		source_begin(l, s);
		break;
	case ORDER_DATA:
		source_data(l, s, o->data, o->size);
		break;
	case ORDER_END:
		source_end(l, s, 0);
		break;
	}
	free(o);
}

/* Answers whether the thread is to stop. */
static bool take_orders(struct logs *l)
{
	struct orders orders = STAILQ_HEAD_INITIALIZER(orders);
	struct order *o;
	eventfd_t n;
	bool stop;

	eventfd_read(l->wake, &n);
	pthread_mutex_lock(&l->lock);
	STAILQ_CONCAT(&orders, &l->orders);
	stop = l->stop;
	pthread_mutex_unlock(&l->lock);
	while ((o = STAILQ_FIRST(&orders))) {
		STAILQ_REMOVE_HEAD(&orders, link);
		obey(l, o);
	}
	return stop;
}

static int flush_old_partials(struct logs *l)
{
	int64_t now = clock_mono();
	struct source *s;

	while ((s = TAILQ_FIRST(&l->partials))) {
		int64_t left = s->partial_since + PARTIAL_MS * 1000000ll - now;

		if (left > 0)
			return (int)(left / 1000000) + 1;
		partial_flush(l, s, 'P');
	}
	return -1;
}

static void drain_all(struct logs *l)
{
	struct source *s, *next;

	for (s = LIST_FIRST(&l->sources); s; s = next) {
		size_t most = DRAIN_MAX / READ_SIZE;

		next = LIST_NEXT(s, link);
		while (s->fd >= 0 && most-- && source_read(l, s))
			;
	}
	/* of those whose pipe goes on, a part; in any case nothing stays in memory */
	while ((s = LIST_FIRST(&l->sources))) {
		partial_flush(l, s, s->fd >= 0 ? 'P' : 'F');
		source_end(l, s, 0);
	}
}

static void *run(void *arg)
{
	struct logs *l = arg;
	struct epoll_event events[64];
	bool stop = false;

	while (!stop) {
		int timeout = l->buffers ? flush_old_partials(l) : -1, n;
		bool idle = timeout < 0 && l->buffers;

		n = epoll_wait(l->epoll, events, 64, idle ? IDLE_MS : timeout);
		if (n == 0 && idle)
			buffers_put(l);
		if (n > 0 && !buffers_get(l)) {
			/* no memory at all: the pipes hold what they hold */
			usleep(50000);
			continue;
		}
		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr)
				source_read(l, events[i].data.ptr);
		}
		/*
		 * after the reads: an order can end a terminal, never a pipe that `events` still
		 * names
		 */
		for (int i = 0; i < n; i++) {
			if (!events[i].data.ptr)
				stop = take_orders(l);
		}
	}
	drain_all(l);
	buffers_put(l);
	return NULL;
}

/* ---- the reactor */

static void give(struct logs *l, struct order *o)
{
	bool first;

	pthread_mutex_lock(&l->lock);
	first = STAILQ_EMPTY(&l->orders);
	STAILQ_INSERT_TAIL(&l->orders, o, link);
	pthread_mutex_unlock(&l->lock);
	if (first)
		eventfd_write(l->wake, 1);
}

static struct order *order_new(enum order_kind kind, struct source *s, const void *data,
			       size_t size)
{
	struct order *o = malloc(sizeof(*o) + size);

	if (!o)
		return NULL;
	o->kind = kind;
	o->source = s;
	o->size = size;
	if (size)
		memcpy(o->data, data, size);
	return o;
}

static void on_done(evutil_socket_t fd, short what, void *user)
{
	struct dones dones = STAILQ_HEAD_INITIALIZER(dones);
	struct logs *l = user;
	struct source *s;
	eventfd_t n;

	(void)what;
	eventfd_read(fd, &n);
	pthread_mutex_lock(&l->lock);
	STAILQ_CONCAT(&dones, &l->dones);
	pthread_mutex_unlock(&l->lock);
	while ((s = STAILQ_FIRST(&dones))) {
		void (*ended)(void *user, int err) = s->ended;
		void *ended_user = s->user;
		int err = s->err;

		STAILQ_REMOVE_HEAD(&dones, done);
		source_free(s);
		ended(ended_user, err);
	}
}

static int start_thread(struct logs *l)
{
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = NULL };
	pthread_attr_t attr;
	sigset_t all, old;
	int r;

	if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->wake, &e) < 0)
		return -errno;
	r = pthread_attr_init(&attr);
	if (r)
		return -r;
	pthread_attr_setstacksize(&attr, STACK);
	/* signals are the reactor's */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&l->thread, &attr, run, l);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (!r)
		pthread_setname_np(l->thread, "davit-logs");
	return -r;
}

static void logs_release(struct logs *l)
{
	struct source *s;
	struct order *o;

	while ((o = STAILQ_FIRST(&l->orders))) {
		STAILQ_REMOVE_HEAD(&l->orders, link);
		if (o->kind == ORDER_ADD)
			source_free(o->source);
		free(o);
	}
	while ((s = STAILQ_FIRST(&l->dones))) {
		STAILQ_REMOVE_HEAD(&l->dones, done);
		source_free(s);
	}
	if (l->done_event)
		event_free(l->done_event);
	fd_close(&l->epoll);
	fd_close(&l->wake);
	fd_close(&l->done_fd);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

int logs_new(struct logs **out, struct event_base *base)
{
	struct logs *l = calloc(1, sizeof(*l));
	int r = -ENOMEM;

	*out = NULL;
	if (!l)
		return -ENOMEM;
	pthread_mutex_init(&l->lock, NULL);
	STAILQ_INIT(&l->orders);
	STAILQ_INIT(&l->dones);
	LIST_INIT(&l->ttys);
	LIST_INIT(&l->sources);
	TAILQ_INIT(&l->partials);
	RB_INIT(&l->files);
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	l->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	l->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->epoll < 0 || l->wake < 0 || l->done_fd < 0) {
		r = -errno;
		logs_release(l);
		return r;
	}
	l->done_event = event_new(base, l->done_fd, EV_READ | EV_PERSIST, on_done, l);
	if (l->done_event && event_add(l->done_event, NULL) == 0)
		r = start_thread(l);
	if (r < 0) {
		logs_release(l);
		return r;
	}
	*out = l;
	return 0;
}

void logs_free(struct logs *l)
{
	if (!l)
		return;
	pthread_mutex_lock(&l->lock);
	l->stop = true;
	pthread_mutex_unlock(&l->lock);
	eventfd_write(l->wake, 1);
	pthread_join(l->thread, NULL);
	logs_release(l);
}

static struct source *source_new(int fd, const char *path, const char *stream, int64_t max_size)
{
	struct source *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->path = strdup(path);
	if (!s->path) {
		free(s);
		return NULL;
	}
	s->fd = fd;
	strncpy(s->stream, stream, sizeof(s->stream) - 1);
	s->max_size = max_size;
	return s;
}

int logs_add(struct logs *l, int fd, const char *path, const char *stream, int64_t max_size,
	     void (*ended)(void *user, int err), void *user)
{
	struct source *s;
	struct order *o;
	int r = fd_nonblock(fd, 1);

	s = r < 0 ? NULL : source_new(fd, path, stream, max_size);
	o = s ? order_new(ORDER_ADD, s, NULL, 0) : NULL;
	if (!o) {
		if (s)
			source_free(s);
		else
			close(fd);
		return r < 0 ? r : -ENOMEM;
	}
	s->ended = ended;
	s->user = user;
	give(l, o);
	return 0;
}

static struct source *tty_find(struct logs *l, const char *path)
{
	struct source *s;

	LIST_FOREACH (s, &l->ttys, tty_link) {
		if (!strcmp(s->path, path))
			return s;
	}
	return NULL;
}

int logs_write(struct logs *l, const char *path, const char *stream, int64_t max_size,
	       const void *data, size_t size)
{
	struct source *s = tty_find(l, path);
	struct order *o;

	if (!s) {
		s = source_new(-1, path, stream, max_size);
		o = s ? order_new(ORDER_ADD, s, NULL, 0) : NULL;
		if (!o) {
			if (s)
				source_free(s);
			return -ENOMEM;
		}
		LIST_INSERT_HEAD(&l->ttys, s, tty_link);
		give(l, o);
	}
	o = atomic_load(&s->queued) + size > LIMIT_LOG_QUEUE ? NULL
							     : order_new(ORDER_DATA, s, data, size);
	if (!o) {
		atomic_fetch_add(&s->dropped, size);
		return 0;
	}
	atomic_fetch_add(&s->queued, size);
	give(l, o);
	return 0;
}

void logs_end(struct logs *l, const char *path)
{
	struct source *s = tty_find(l, path);
	struct order *o;

	if (!s)
		return;
	/* without memory it stays, and is ended with all others */
	o = order_new(ORDER_END, s, NULL, 0);
	if (!o)
		return;
	LIST_REMOVE(s, tty_link);
	give(l, o);
}
