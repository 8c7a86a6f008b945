// SPDX-License-Identifier: Apache-2.0
/*
 * The guardian
 *
 * A process of one thread and one poll() loop that outlives its reactors. It owns the lock on
 * --state, the listening socket, duplicates of the fds that containers need (fd_store.h) and the
 * exit log (exit_log.h). As a child subreaper it becomes the parent of every container whose
 * reactor died, and of processes that containers orphan into the host's pid namespace.
 *
 * It starts the reactor by fork without exec, so that the two share what memory they do not change;
 * no library is initialised before that. When the reactor dies unexpectedly it is started again at
 * once, with a growing delay once it has died five times in ten seconds. Each start hands over, in
 * this order: the listening socket (inherited), the fds, the exits that no journal has yet.
 *
 * An exit, in order: seen without reaping; appended to the exit log; sent; reaped; acknowledged by
 * the reactor when it is in the journal; forgotten. So whichever process dies in between, somebody
 * still has it.
 *
 * Nothing here waits for the reactor: what its socket does not take is sent when poll() says so. A
 * message of the reactor is read before its death is handled, since the last fds it stored are
 * there.
 *
 * The end: SIGTERM and SIGINT are passed on. The reactor says STOPPING, finishes and exits; then
 * the guardian removes the socket and exits. Containers run on with the next subreaper as parent.
 * Should the guardian itself die, the reactor sees its socket close and ends in the same orderly
 * way; the next start adopts. (That is the place for succession: the reactor's keep_handlers.lost.)
 */
#include "core/guardian.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/exit_log.h"
#include "core/fd_store.h"
#include "core/keep_proto.h"
#include "core/notify.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/fd.h"

#define DEATHS 5
#define DEATHS_WINDOW (10 * CLOCK_NS_PER_SEC)
#define DELAY_FIRST_MS 1000
#define DELAY_MAX_MS 30000

struct guardian {
	const struct guardian_options *o;
	struct places places;
	struct fd_store store;
	struct exit_log exits;
	int signal_fd, timer_fd, ready_fd;

	/* the reactor of now */
	pid_t reactor; /* 0 when none runs */
	int sock; /* -1 when none runs */
	enum { SEND_HELLO, SEND_ITEMS, SEND_EXITS, SEND_END, SEND_LIVE } phase;
	char last_key[KEEP_KEY_BYTES + 1]; /* sent last in SEND_ITEMS */

	int64_t deaths[DEATHS]; /* a ring, oldest at death_next */
	unsigned death_next, delay_ms;

	bool ready; /* some reactor has said READY */
	bool stopping; /* the end was asked for, by a signal or by the reactor */
	bool done;
	int exit_code;
	char failure[KEEP_TEXT_BYTES]; /* why a reactor could not start, in its words */
};

/* ---- telling who started us */

static void tell_ready(struct guardian *g)
{
	char lines[64];

	snprintf(lines, sizeof(lines), "READY=1\nMAINPID=%d", (int)getpid());
	if (notify_send(lines) < 0)
		log_warn("systemd could not be told READY: %s", strerror(errno));
	if (g->ready_fd >= 0 && fd_write_all(g->ready_fd, "R", 1) < 0)
		log_debug("who started the daemon has not waited for it");
	fd_close(&g->ready_fd);
}

static void tell_failure(struct guardian *g, const char *why)
{
	if (g->ready_fd < 0)
		return;
	if (fd_write_all(g->ready_fd, why, strlen(why)) < 0 ||
	    fd_write_all(g->ready_fd, "\n", 1) < 0)
		log_debug("who started the daemon has not waited for it");
	fd_close(&g->ready_fd);
}

/* ---- to the reactor */

/* 1 sent, 0 later, -errno the reactor is gone. */
static int send_msg(struct guardian *g, const struct keep_msg *m, size_t size, int fd)
{
	ssize_t n = fd_send(g->sock, m, size, &fd, fd >= 0, MSG_DONTWAIT);

	if (n == -EAGAIN || n == -ENOBUFS || n == -ENOMEM)
		return 0;
	return n < 0 ? (int)n : 1;
}

static int send_item(struct guardian *g, const struct fd_item *it)
{
	struct keep_msg m = { .kind = KEEP_ITEM };
	size_t n = strlen(it->key);

	memcpy(m.text, it->key, n);
	return send_msg(g, &m, KEEP_HEAD + n, it->fd);
}

static int send_status(struct guardian *g, const struct keep_status *s)
{
	struct keep_msg m = { .kind = KEEP_STATUS, .status = *s };

	return send_msg(g, &m, KEEP_HEAD + sizeof(*s), -1);
}

static struct exit_entry *exit_unsent(struct guardian *g)
{
	struct exit_entry *e;

	TAILQ_FOREACH (e, &g->exits.entries, link)
		if (!e->sent)
			return e;
	return NULL;
}

/* Sends what is due, as far as the socket takes it. Returns 1 when there is more. */
static int send_due(struct guardian *g)
{
	struct keep_msg m = { 0 };
	struct exit_entry *e;
	struct fd_item *it;
	int r = 1;

	while (g->sock >= 0 && r > 0) {
		switch (g->phase) {
		case SEND_HELLO:
			m.kind = KEEP_HELLO;
			m.number = KEEP_VERSION;
			m.pid = (int32_t)getpid();
			r = send_msg(g, &m, KEEP_HEAD, -1);
			if (r > 0)
				g->phase = SEND_ITEMS;
			break;
		case SEND_ITEMS:
			it = fd_store_after(&g->store, g->last_key);
			if (!it) {
				g->phase = SEND_EXITS;
				break;
			}
			r = send_item(g, it);
			if (r > 0)
				strcpy(g->last_key, it->key);
			break;
		case SEND_END:
			m.kind = KEEP_END;
			r = send_msg(g, &m, KEEP_HEAD, -1);
			if (r > 0)
				g->phase = SEND_LIVE;
			break;
		case SEND_EXITS:
		case SEND_LIVE:
			e = exit_unsent(g);
			if (!e && g->phase == SEND_LIVE)
				return 0;
			if (!e) {
				g->phase = SEND_END;
				break;
			}
			r = send_status(g, &e->status);
			if (r > 0)
				e->sent = true;
			break;
		}
	}
	/* its death is handled when it is reaped */
	return r == 0;
}

/* ---- from the reactor */

static void take_msg(struct guardian *g, struct keep_msg *m, size_t size, int *fd)
{
	size_t n = size - KEEP_HEAD;
	char key[KEEP_TEXT_BYTES + 1];

	memcpy(key, m->text, n);
	key[n] = 0;
	switch (m->kind) {
	case KEEP_PUT:
		if (*fd < 0 || n > KEEP_KEY_BYTES)
			log_error(
				"the reactor stored '%.64s' without an fd, or under too long a key",
				key);
		else if (fd_store_put(&g->store, key, TAKE_FD(*fd)) < 0)
			log_error("no memory to keep '%s'", key);
		break;
	case KEEP_DROP:
		fd_store_drop(&g->store, key);
		break;
	case KEEP_DROP_PREFIX:
		if (n)
			fd_store_drop_prefix(&g->store, key);
		break;
	case KEEP_ACK:
		exit_log_ack(&g->exits, m->pid);
		break;
	case KEEP_READY:
		if (!g->ready) {
			g->ready = true;
			tell_ready(g);
		}
		log_info("reactor %d serves %s", (int)g->reactor, g->o->config->socket);
		break;
	case KEEP_STOPPING:
		g->stopping = true;
		notify_send("STOPPING=1");
		break;
	case KEEP_FAILED:
		memcpy(g->failure, key, n < sizeof(g->failure) ? n + 1 : sizeof(g->failure));
		g->failure[sizeof(g->failure) - 1] = 0;
		break;
	default:
		log_error("the reactor sent a message of the unknown kind %u", m->kind);
	}
}

/*
 * Reads all that is there, and closes the socket at its end: its owner's death is told by SIGCHLD.
 */
static void take_due(struct guardian *g)
{
	while (g->sock >= 0) {
		struct keep_msg m;
		int fds[1] = { -1 };
		size_t n_fds = 1;
		ssize_t n = fd_recv(g->sock, &m, sizeof(m), fds, &n_fds, MSG_DONTWAIT);

		/* the peer closed with our messages unread; its own are still there */
		if (n == -ECONNRESET)
			continue;
		if (n == -EMSGSIZE) {
			log_error(
				"an fd to keep was lost: the limit of open files (RLIMIT_NOFILE) is reached");
			continue;
		}
		if (n == -EAGAIN)
			return;
		if (n <= 0) {
			fd_close(&g->sock);
			return;
		}
		if ((size_t)n >= KEEP_HEAD)
			take_msg(g, &m, (size_t)n, &fds[0]);
		fd_close(&fds[0]);
	}
}

/* ---- children */

static void reactor_start(struct guardian *g)
{
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		log_error("socketpair: %s", strerror(errno));
		pid = -1;
	} else {
		pid = fork();
		if (pid < 0) {
			log_error("fork: %s", strerror(errno));
			close(pair[0]);
			close(pair[1]);
		}
	}
	if (pid < 0) {
		struct itimerspec soon = { .it_value.tv_sec = 1 };

		timerfd_settime(g->timer_fd, 0, &soon, NULL);
		return;
	}
	if (pid == 0) {
		struct guardian_child child = {
			.config = g->o->config,
			.places = &g->places,
			.log_level = g->o->log_level,
			.keep_sock = pair[1],
			.guardian_pid = getppid(),
		};

		close(pair[0]);
		close(g->signal_fd);
		close(g->timer_fd);
		fd_close(&g->ready_fd);
		fd_store_clear(&g->store);
		exit_log_close(&g->exits);
		exit(g->o->reactor(&child, g->o->user));
	}
	close(pair[1]);
	g->sock = pair[0];
	g->reactor = pid;
	g->phase = SEND_HELLO;
	g->last_key[0] = 0;
	exit_log_rewind(&g->exits);
	log_debug("reactor %d started", (int)pid);
}

/*
 * How long to wait before the next start, in ms: 0 unless it has died DEATHS times within the
 * window.
 */
static unsigned reactor_delay(struct guardian *g)
{
	int64_t now = clock_mono(), oldest = g->deaths[g->death_next];

	g->deaths[g->death_next] = now;
	g->death_next = (g->death_next + 1) % DEATHS;
	/* the window grows with the delay, or waiting would look like getting better */
	if (!oldest || now - oldest > DEATHS_WINDOW + DEATHS * (int64_t)g->delay_ms * 1000000) {
		g->delay_ms = 0;
		return 0;
	}
	g->delay_ms = g->delay_ms ? g->delay_ms * 2 : DELAY_FIRST_MS;
	if (g->delay_ms > DELAY_MAX_MS)
		g->delay_ms = DELAY_MAX_MS;
	return g->delay_ms;
}

static void reactor_ended(struct guardian *g, const siginfo_t *si)
{
	bool orderly = si->si_code == CLD_EXITED && si->si_status == 0;
	struct itimerspec wait = { 0 };
	char how[64];
	unsigned delay;

	take_due(g);
	fd_close(&g->sock);
	g->reactor = 0;
	if (si->si_code == CLD_EXITED)
		snprintf(how, sizeof(how), "exited with %d", si->si_status);
	else
		snprintf(how, sizeof(how), "was ended by signal %d (%s)", si->si_status,
			 strsignal(si->si_status));
	if (g->stopping) {
		if (!orderly)
			log_error("the reactor %s while it was stopping", how);
		g->exit_code = !orderly;
		g->done = true;
		return;
	}
	if (!g->ready && si->si_code == CLD_EXITED) {
		/* it said why in the log; a second try would fail the same way */
		if (!g->failure[0])
			snprintf(g->failure, sizeof(g->failure), "the daemon's reactor %s", how);
		tell_failure(g, g->failure);
		g->exit_code = 1;
		g->done = true;
		return;
	}
	delay = reactor_delay(g);
	log_error("the reactor %s; %zu fds and %zu exits are kept; the next one starts %s", how,
		  g->store.count, g->exits.count, delay ? "after a delay" : "now");
	if (!delay) {
		reactor_start(g);
		return;
	}
	wait.it_value.tv_sec = delay / 1000;
	wait.it_value.tv_nsec = delay % 1000 * 1000000l;
	timerfd_settime(g->timer_fd, 0, &wait, NULL);
	log_warn("the reactor dies too often: waiting %u ms", delay);
}

static void child_ended(struct guardian *g, const siginfo_t *si)
{
	struct keep_status s = {
		.pid = (int32_t)si->si_pid,
		.code = si->si_code,
		.status = si->si_status,
		.exited_at = clock_now(),
		.starttime = fd_pid_starttime(si->si_pid),
	};
	int r = exit_log_add(&g->exits, &s, NULL);

	if (r < 0)
		log_error("the exit of process %d is not in the exit log: %s", (int)si->si_pid,
			  strerror(-r));
}

/* Handles each child that has ended; in the log before it is reaped. */
static void children_reap(struct guardian *g)
{
	for (;;) {
		siginfo_t si = { 0 };
		bool reactor;

		if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) < 0) {
			if (errno == EINTR)
				continue;
			return;
		}
		if (!si.si_pid)
			return;
		reactor = si.si_pid == g->reactor;
		if (!reactor) {
			child_ended(g, &si);
			/* before the pid is free: who finds it gone has its status in the socket */
			send_due(g);
		}
		waitid(P_PID, (id_t)si.si_pid, &(siginfo_t){ 0 }, WEXITED | WNOHANG);
		if (reactor)
			reactor_ended(g, &si);
	}
}

/* ---- signals and set-up */

enum log_level guardian_log_level(int state_fd, enum log_level dflt)
{
	CLEANUP_FREE char *text = NULL;
	enum log_level level = dflt;
	int r = fd_read_file(state_fd, "log-level", 64, &text, NULL);

	if (r < 0) {
		if (r != -ENOENT)
			log_warn("STATE/log-level cannot be read: %s", strerror(-r));
		return dflt;
	}
	text[strcspn(text, " \t\r\n")] = 0;
	if (log_level_parse(text, &level) < 0)
		log_warn("STATE/log-level says '%s': error, warn, info or debug is needed", text);
	return level;
}

static void on_signal(struct guardian *g, const struct signalfd_siginfo *si)
{
	int sig = (int)si->ssi_signo;

	if (sig == SIGCHLD)
		return;
	if (sig == SIGHUP) {
		log_set_level(guardian_log_level(g->places.state_fd, g->o->log_level));
		log_info("SIGHUP: the log level was read again");
	} else {
		log_info("%s from process %u: the daemon ends, containers run on", strsignal(sig),
			 si->ssi_pid);
		g->stopping = true;
		if (!g->reactor)
			g->done = true;
	}
	if (g->reactor)
		kill(g->reactor, sig);
}

static void signals_read(struct guardian *g)
{
	struct signalfd_siginfo si;

	while (read(g->signal_fd, &si, sizeof(si)) == (ssize_t)sizeof(si))
		on_signal(g, &si);
	/* one SIGCHLD may stand for many, and one may come with another signal: so always look */
	children_reap(g);
}

static int signals_open(struct guardian *g)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	/*
	 * the reactor inherits the mask, and so misses nothing before it has a signalfd of its own
	 */
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	signal(SIGPIPE, SIG_IGN);
	/* an ignored SIGCHLD, which exec hands down, would make every status vanish */
	signal(SIGCHLD, SIG_DFL);
	g->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return g->signal_fd < 0 ? -errno : 0;
}

/* Closes what the starter left open, and gives 0, 1 and 2 a place to go. */
static int process_tidy(struct guardian *g)
{
	const char *text = getenv("DAVIT_READY_FD"), *fds = getenv("LISTEN_FDS"),
		   *pid = getenv("LISTEN_PID");
	unsigned first = 3;
	struct rlimit files;
	int null;

	if (pid && fds && atol(pid) == (long)getpid() && atoi(fds) > 0 && atoi(fds) < 1024)
		first += (unsigned)atoi(fds);
	if (text && atoi(text) >= (int)first && fcntl(atoi(text), F_GETFD) >= 0) {
		g->ready_fd = fcntl(atoi(text), F_DUPFD_CLOEXEC, (int)first);
		if (g->ready_fd < 0)
			return -errno;
	}
	unsetenv("DAVIT_READY_FD");
	if (g->ready_fd > (int)first)
		close_range(first, (unsigned)g->ready_fd - 1, 0);
	close_range(g->ready_fd >= 0 ? (unsigned)g->ready_fd + 1 : first, ~0u, 0);

	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0)
		return -errno;
	for (int fd = 0; fd <= 2; fd++)
		if ((fd == 0 || fcntl(fd, F_GETFD) < 0) && dup2(null, fd) < 0)
			return -errno;
	if (null > 2)
		close(null);
	umask(022);
	if (chdir("/") < 0)
		return -errno;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	prctl(PR_SET_NAME, "davit");
	return prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 ? -errno : 0;
}

static int guardian_open(struct guardian *g, struct fault *f)
{
	int r = process_tidy(g);

	if (r < 0)
		return fault_sys(f, -r, "set up the process", NULL);
	r = signals_open(g);
	if (r < 0)
		return fault_sys(f, -r, "signalfd", NULL);
	g->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (g->timer_fd < 0)
		return fault_sys(f, errno, "timerfd_create", NULL);
	r = places_open(&g->places, g->o->config, f);
	if (r < 0)
		return r;
	log_set_level(guardian_log_level(g->places.state_fd, g->o->log_level));
	return exit_log_open(&g->exits, g->places.state_fd, f);
}

static void guardian_loop(struct guardian *g)
{
	while (!g->done) {
		bool more = send_due(g);
		struct pollfd p[] = {
			{ .fd = g->signal_fd, .events = POLLIN },
			{ .fd = g->timer_fd, .events = POLLIN },
			{ .fd = g->sock, .events = (short)(POLLIN | (more ? POLLOUT : 0)) },
		};
		uint64_t expired;

		if (poll(p, ARRAY_SIZE(p), -1) < 0) {
			if (errno == EINTR)
				continue;
			log_error("poll: %s", strerror(errno));
			usleep(100000);
			continue;
		}
		if (p[2].revents)
			take_due(g);
		if (p[0].revents)
			signals_read(g);
		if (p[1].revents && read(g->timer_fd, &expired, sizeof(expired)) > 0 &&
		    !g->reactor && !g->done)
			reactor_start(g);
	}
}

int guardian_run(const struct guardian_options *o)
{
	struct guardian g = { .o = o, .signal_fd = -1, .timer_fd = -1, .ready_fd = -1, .sock = -1 };
	struct fault f = { 0 };

	log_set_level(o->log_level);
	log_set_tag("guardian");
	places_init(&g.places);
	fd_store_init(&g.store);
	TAILQ_INIT(&g.exits.entries);
	g.exits.fd = -1;
	if (guardian_open(&g, &f) < 0) {
		log_error("%s", f.message);
		tell_failure(&g, f.message);
		g.exit_code = 1;
	} else {
		reactor_start(&g);
		guardian_loop(&g);
		/*
		 * what the reactor left behind and ended since: the next start finds it in the log
		 */
		children_reap(&g);
		places_remove_socket(&g.places, o->config);
		log_info("ended");
	}
	fd_store_clear(&g.store);
	exit_log_close(&g.exits);
	fd_close(&g.sock);
	fd_close(&g.signal_fd);
	fd_close(&g.timer_fd);
	fd_close(&g.ready_fd);
	places_close(&g.places);
	return g.exit_code;
}
