// SPDX-License-Identifier: Apache-2.0
/*
 * The one reaper
 *
 * It owns the signalfd and two sets, both keyed by source and pid: watches, and early statuses,
 * that is those which came before anybody asked. Keys hold the source because a pid can be in two
 * of them at once: the guardian's message about a process may still be under way when the kernel
 * gives its pid to a new child of ours.
 *
 * A watch leaves its set before its function is called and is freed then, so a callback may add and
 * remove any watch, this pid's too. The child itself is still a zombie meanwhile: it is looked at
 * with WNOWAIT, and reaped after the callback, so that whoever kills the reactor in between leaves
 * the status to the guardian.
 *
 * A kept status may be stale: nobody asked, and the pid came round again. For own children the
 * kernel knows: a status is of the past only if there is no such child now. The guardian's statuses
 * are told apart by start time before they get here (keep.h).
 *
 * Children that were made with an exit signal other than SIGCHLD are not seen here (waitid without
 * __WALL): who makes such a child waits for it.
 */
#include "monitor/reaper.h"

#include <bsd/sys/queue.h>
#include <bsd/sys/tree.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "monitor/pidfd_status.h"
#include "util/clock.h"
#include "util/fd.h"

#define EARLY_MAX 4096u
/* Children handled in one turn of the loop, so that others get theirs. */
#define TURN_MAX 128u
/*
 * A zombie whose status cannot be read yet is looked at again so often, and given up after so long.
 */
#define ZOMBIE_RETRY_USEC 50000
#define ZOMBIE_GIVE_UP_NS (5 * CLOCK_NS_PER_SEC)

struct reaper_watch {
	RB_ENTRY(reaper_watch) tree;
	TAILQ_ENTRY(reaper_watch) ready;
	struct reaper *reaper;
	enum reaper_source source;
	pid_t pid;
	reaper_fn fn;
	void *user;
	bool has_status; /* and is in the list `ready` */
	struct reaper_status status;
	struct event *event; /* of REAPER_ADOPTED: its pidfd */
	int pidfd;
	int64_t dead_since;
};

struct early {
	RB_ENTRY(early) tree;
	TAILQ_ENTRY(early) age;
	enum reaper_source source;
	struct reaper_status status;
};

RB_HEAD(watches, reaper_watch);
RB_HEAD(earlies, early);
TAILQ_HEAD(early_ages, early);
TAILQ_HEAD(ready_watches, reaper_watch);

struct reaper {
	struct event_base *base;
	struct event *signal_event, *ready_event;
	int signalfd;
	struct watches watches;
	struct ready_watches ready; /* with an early status, to be called */
	struct earlies earlies;
	struct early_ages ages; /* oldest first */
	unsigned n_earlies;
	bool polling;
	uint64_t count;
};

static int key_compare(enum reaper_source as, pid_t ap, enum reaper_source bs, pid_t bp)
{
	if (as != bs)
		return as < bs ? -1 : 1;
	return ap < bp ? -1 : ap > bp;
}

static int watch_compare(const struct reaper_watch *a, const struct reaper_watch *b)
{
	return key_compare(a->source, a->pid, b->source, b->pid);
}

static int early_compare(const struct early *a, const struct early *b)
{
	return key_compare(a->source, a->status.pid, b->source, b->status.pid);
}

RB_GENERATE_INTERNAL(watches, reaper_watch, tree, watch_compare, static __attribute__((unused)))
RB_GENERATE_INTERNAL(earlies, early, tree, early_compare, static __attribute__((unused)))

static struct reaper_watch *watch_find(struct reaper *r, enum reaper_source source, pid_t pid)
{
	struct reaper_watch key = { .source = source, .pid = pid };

	return RB_FIND(watches, &r->watches, &key);
}

static struct early *early_find(struct reaper *r, enum reaper_source source, pid_t pid)
{
	struct early key = { .source = source, .status.pid = pid };

	return RB_FIND(earlies, &r->earlies, &key);
}

static void early_unlink(struct reaper *r, struct early *e)
{
	RB_REMOVE(earlies, &r->earlies, e);
	TAILQ_REMOVE(&r->ages, e, age);
	r->n_earlies--;
}

static void early_keep(struct reaper *r, enum reaper_source source,
		       const struct reaper_status *status)
{
	struct early *e = early_find(r, source, status->pid);

	if (e) {
		early_unlink(r, e);
	} else {
		if (r->n_earlies < EARLY_MAX)
			e = malloc(sizeof(*e));
		/* full, or out of memory: the oldest makes room */
		if (!e) {
			e = TAILQ_FIRST(&r->ages);
			if (!e)
				return;
			early_unlink(r, e);
		}
	}
	e->source = source;
	e->status = *status;
	RB_INSERT(earlies, &r->earlies, e);
	TAILQ_INSERT_TAIL(&r->ages, e, age);
	r->n_earlies++;
}

/* Whether pid is a child of ours that was not reaped yet. */
static bool is_child(pid_t pid)
{
	siginfo_t info = { 0 };

	return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

static void watch_unlink(struct reaper_watch *w)
{
	struct reaper *r = w->reaper;

	RB_REMOVE(watches, &r->watches, w);
	if (w->has_status)
		TAILQ_REMOVE(&r->ready, w, ready);
	if (w->event)
		event_free(w->event);
}

/* The watch is gone when its function runs. */
static void watch_call(struct reaper_watch *w, const struct reaper_status *status)
{
	struct reaper_status copy = *status;
	reaper_fn fn = w->fn;
	void *user = w->user;

	watch_unlink(w);
	free(w);
	fn(user, &copy);
}

static void poll_children(struct reaper *r, unsigned max)
{
	/* a callback that polls again would see the zombie that it is called for */
	if (r->polling)
		return;
	r->polling = true;
	for (unsigned n = 0;; n++) {
		struct reaper_status status = { .known = true };
		struct reaper_watch *w;
		siginfo_t info = { 0 };

		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0) {
			if (errno == EINTR)
				continue;
			break; /* ECHILD */
		}
		if (!info.si_pid)
			break;
		if (n == max) {
			event_active(r->signal_event, EV_READ, 0);
			break;
		}
		status.pid = info.si_pid;
		status.exited_at = clock_now();
		if (info.si_code == CLD_EXITED) {
			status.exit_code = info.si_status & 0xff;
		} else {
			status.signal = info.si_status;
			status.core_dumped = info.si_code == CLD_DUMPED;
		}
		r->count++;
		w = watch_find(r, REAPER_CHILD, status.pid);
		if (w)
			watch_call(w, &status);
		else
			early_keep(r, REAPER_CHILD, &status);
		while (waitid(P_PID, (id_t)status.pid, &info, WEXITED | WNOHANG) < 0 &&
		       errno == EINTR)
			;
	}
	r->polling = false;
}

static void on_signal(evutil_socket_t fd, short what, void *user)
{
	struct signalfd_siginfo info[16];
	struct reaper *r = user;

	(void)what;
	/* how many they are means nothing: signals of one kind coalesce */
	while (read(fd, info, sizeof(info)) == (ssize_t)sizeof(info))
		;
	poll_children(r, TURN_MAX);
}

static void on_ready(evutil_socket_t fd, short what, void *user)
{
	struct reaper *r = user;
	struct reaper_watch *last = TAILQ_LAST(&r->ready, ready_watches), *w;
	bool was_last = false;

	(void)fd;
	(void)what;
	/* those that callbacks add have to wait for the next turn */
	while (!was_last && (w = TAILQ_FIRST(&r->ready))) {
		struct reaper_status status = w->status;

		was_last = w == last;
		watch_call(w, &status);
	}
	if (TAILQ_FIRST(&r->ready))
		event_active(r->ready_event, EV_TIMEOUT, 0);
}

static void on_pidfd(evutil_socket_t fd, short what, void *user)
{
	struct timeval again = { .tv_usec = ZOMBIE_RETRY_USEC };
	struct reaper_status status = { 0 };
	struct reaper_watch *w = user;
	int wait_status = 0, r;

	(void)fd;
	(void)what;
	status.pid = w->pid;
	status.exited_at = clock_now();
	r = pidfd_status(w->pidfd, w->pid, &wait_status);
	if (r == -EAGAIN) {
		if (!w->dead_since) {
			/* from here on by time: its pidfd stays readable */
			event_del(w->event);
			event_assign(w->event, w->reaper->base, -1, EV_PERSIST, on_pidfd, w);
			if (event_add(w->event, &again) == 0) {
				w->dead_since = clock_mono();
				return;
			}
		} else if (clock_mono() - w->dead_since < ZOMBIE_GIVE_UP_NS) {
			return;
		}
	}
	if (r == 0) {
		status.known = true;
		if (WIFSIGNALED(wait_status)) {
			status.signal = WTERMSIG(wait_status);
			status.core_dumped = WCOREDUMP(wait_status);
		} else {
			status.exit_code = WEXITSTATUS(wait_status);
		}
	}
	w->reaper->count++;
	watch_call(w, &status);
}

int reaper_new(struct reaper **out, struct event_base *base)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	struct reaper *r = calloc(1, sizeof(*r));
	sigset_t set;
	int err;

	*out = NULL;
	if (!r)
		return -ENOMEM;
	r->base = base;
	r->signalfd = -1;
	RB_INIT(&r->watches);
	RB_INIT(&r->earlies);
	TAILQ_INIT(&r->ages);
	TAILQ_INIT(&r->ready);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	/* an inherited SIG_IGN would have the kernel reap, and throw the statuses away */
	if (sigaction(SIGCHLD, &dfl, NULL) < 0)
		goto fail_errno;
	err = pthread_sigmask(SIG_BLOCK, &set, NULL);
	if (err)
		goto fail;
	r->signalfd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (r->signalfd < 0)
		goto fail_errno;
	err = ENOMEM;
	r->signal_event = event_new(base, r->signalfd, EV_READ | EV_PERSIST, on_signal, r);
	r->ready_event = event_new(base, -1, 0, on_ready, r);
	if (!r->signal_event || !r->ready_event || event_add(r->signal_event, NULL) < 0)
		goto fail;
	/* children may have ended before SIGCHLD was blocked */
	event_active(r->signal_event, EV_READ, 0);
	*out = r;
	return 0;
fail_errno:
	err = errno;
fail:
	reaper_free(r);
	return -err;
}

void reaper_free(struct reaper *r)
{
	struct reaper_watch *w;
	struct early *e;

	if (!r)
		return;
	while ((w = RB_ROOT(&r->watches))) {
		watch_unlink(w);
		free(w);
	}
	while ((e = TAILQ_FIRST(&r->ages))) {
		early_unlink(r, e);
		free(e);
	}
	if (r->signal_event)
		event_free(r->signal_event);
	if (r->ready_event)
		event_free(r->ready_event);
	fd_close(&r->signalfd);
	free(r);
}

static void watch_ready(struct reaper_watch *w, const struct reaper_status *status)
{
	w->status = *status;
	w->has_status = true;
	TAILQ_INSERT_TAIL(&w->reaper->ready, w, ready);
	event_active(w->reaper->ready_event, EV_TIMEOUT, 0);
}

int reaper_add(struct reaper *r, enum reaper_source source, pid_t pid, int pidfd, reaper_fn fn,
	       void *user, struct reaper_watch **watch)
{
	struct reaper_watch *w;
	struct early *e;

	*watch = NULL;
	if (watch_find(r, source, pid))
		return -EEXIST;
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->reaper = r;
	w->source = source;
	w->pid = pid;
	w->pidfd = pidfd;
	w->fn = fn;
	w->user = user;
	if (source == REAPER_ADOPTED) {
		w->event = event_new(r->base, pidfd, EV_READ | EV_PERSIST, on_pidfd, w);
		if (!w->event || event_add(w->event, NULL) < 0) {
			if (w->event)
				event_free(w->event);
			free(w);
			return -ENOMEM;
		}
	}
	RB_INSERT(watches, &r->watches, w);
	e = early_find(r, source, pid);
	if (e) {
		if (source != REAPER_CHILD || !is_child(pid))
			watch_ready(w, &e->status);
		early_unlink(r, e);
		free(e);
	}
	*watch = w;
	return 0;
}

void reaper_remove(struct reaper_watch *watch)
{
	if (!watch)
		return;
	/* it was not handed over, so the next one to ask gets it */
	if (watch->has_status)
		early_keep(watch->reaper, watch->source, &watch->status);
	watch_unlink(watch);
	free(watch);
}

void reaper_deliver(struct reaper *r, const struct reaper_status *status)
{
	struct reaper_watch *w = watch_find(r, REAPER_GUARDIAN, status->pid);

	r->count++;
	if (w && w->has_status)
		return; /* said twice */
	if (w)
		watch_call(w, status);
	else
		early_keep(r, REAPER_GUARDIAN, status);
}

void reaper_poll(struct reaper *r)
{
	poll_children(r, (unsigned)-1);
}

uint64_t reaper_count(const struct reaper *r)
{
	return r->count;
}
