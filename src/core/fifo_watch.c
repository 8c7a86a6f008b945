// SPDX-License-Identifier: Apache-2.0
/*
 * FIFOs that wait for their client
 *
 * One inotify instance for all (instances are few: fs.inotify.max_user_instances is 128). A worker begins the watch right after it has
 * opened the container's ends; the reactor says later what to do about it. An open seen in between is remembered by its watch
 * number. The kernel's watch is removed after the first open that somebody waited for.
 */
#include "core/fifo_watch.h"

#include <bsd/sys/queue.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "util/fd.h"

#define EARLY_MAX 256 /* opens that came before their add; the oldest is forgotten */

struct fifo_watch {
	TAILQ_ENTRY(fifo_watch) link;
	int wd;
	void (*opened)(void *user, const char *key);
	void *user;
	struct event *early;
	struct fifo_watches *all;
	char key[];
};

struct fifo_watches {
	struct event_base *base;
	int fd;
	struct event *event;
	TAILQ_HEAD(, fifo_watch) list;
	int early[EARLY_MAX];
	size_t n_early;
};

static void watch_free(struct fifo_watch *f)
{
	TAILQ_REMOVE(&f->all->list, f, link);
	if (f->early)
		event_free(f->early);
	free(f);
}

static void watch_fire(struct fifo_watch *f)
{
	f->opened(f->user, f->key);
	watch_free(f);
}

static void watches_seen(struct fifo_watches *w, int wd)
{
	struct fifo_watch *f, *next;
	bool found = false;

	TAILQ_FOREACH_SAFE (f, &w->list, link, next) {
		if (f->wd != wd)
			continue;
		found = true;
		watch_fire(f);
	}
	if (found) {
		inotify_rm_watch(w->fd, wd);
		return;
	}
	for (size_t i = 0; i < w->n_early; i++)
		if (w->early[i] == wd)
			return;
	if (w->n_early == EARLY_MAX)
		memmove(w->early, w->early + 1, --w->n_early * sizeof(int));
	w->early[w->n_early++] = wd;
}

static void watches_readable(evutil_socket_t fd, short what, void *arg)
{
	struct fifo_watches *w = arg;
	char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t n;

	(void)what;
	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		for (char *p = buf; p < buf + n;) {
			struct inotify_event *e = (struct inotify_event *)p;

			if (e->mask & IN_OPEN)
				watches_seen(w, e->wd);
			p += sizeof(*e) + e->len;
		}
	}
}

int fifo_watches_new(struct fifo_watches **out, struct event_base *base)
{
	struct fifo_watches *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	TAILQ_INIT(&w->list);
	w->base = base;
	w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (w->fd < 0) {
		int r = -errno;

		free(w);
		return r;
	}
	w->event = event_new(base, w->fd, EV_READ | EV_PERSIST, watches_readable, w);
	if (!w->event || event_add(w->event, NULL) < 0) {
		fifo_watches_free(w);
		return -ENOMEM;
	}
	*out = w;
	return 0;
}

void fifo_watches_free(struct fifo_watches *w)
{
	struct fifo_watch *f;

	if (!w)
		return;
	while ((f = TAILQ_FIRST(&w->list)))
		watch_free(f);
	if (w->event)
		event_free(w->event);
	fd_close(&w->fd);
	free(w);
}

int fifo_watch_begin(struct fifo_watches *w, const char *path)
{
	return inotify_add_watch(w->fd, path, IN_OPEN) < 0 ? -errno : 0;
}

static void watch_early(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	watches_seen(((struct fifo_watch *)arg)->all, ((struct fifo_watch *)arg)->wd);
}

int fifo_watch_add(struct fifo_watches *w, const char *path, const char *key,
		   void (*opened)(void *user, const char *key), void *user)
{
	struct timeval now = { 0, 0 };
	size_t size = strlen(key) + 1;
	struct fifo_watch *f = calloc(1, sizeof(*f) + size);
	int wd;

	if (!f)
		return -ENOMEM;
	/* adding the same path again answers the number it has */
	wd = inotify_add_watch(w->fd, path, IN_OPEN);
	if (wd < 0) {
		int r = -errno;

		free(f);
		return r;
	}
	f->wd = wd;
	f->all = w;
	f->opened = opened;
	f->user = user;
	memcpy(f->key, key, size);
	TAILQ_INSERT_TAIL(&w->list, f, link);
	for (size_t i = 0; i < w->n_early; i++) {
		if (w->early[i] != wd)
			continue;
		memmove(w->early + i, w->early + i + 1, (--w->n_early - i) * sizeof(int));
		f->early = evtimer_new(w->base, watch_early, f);
		if (!f->early || event_add(f->early, &now) < 0) {
			watch_free(f);
			return -ENOMEM;
		}
		break;
	}
	return 0;
}

/* The kernel's watch goes with the last who has it, and with it what was seen early: its number never comes again. */
static void watch_release(struct fifo_watches *w, int wd)
{
	struct fifo_watch *f;

	TAILQ_FOREACH (f, &w->list, link)
		if (f->wd == wd)
			return;
	inotify_rm_watch(w->fd, wd);
}

void fifo_watch_cancel(struct fifo_watches *w, const char *path)
{
	int wd = inotify_add_watch(w->fd, path, IN_OPEN);

	if (wd >= 0)
		watch_release(w, wd);
}

void fifo_watch_remove(struct fifo_watches *w, const char *key)
{
	struct fifo_watch *f, *next;

	TAILQ_FOREACH_SAFE (f, &w->list, link, next) {
		int wd = f->wd;

		if (strcmp(f->key, key))
			continue;
		watch_free(f);
		watch_release(w, wd);
	}
}
