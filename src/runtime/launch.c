// SPDX-License-Identifier: Apache-2.0
/*
 * Launching: the owner's side
 *
 * A launch owns its plan until it is spawned, the parent's end of the socket, and the pidfd. launch_read turns one message of the child into one event and never waits; the end
 * of the socket means the exec, when the start was given, since the child's end is closed by nothing else but its death. A child that dies in
 * between is told as a failure; its exit status is the reaper's.
 *
 * After a restart of the daemon there is no plan any more, so failures carry their texts themselves.
 */
#include "runtime/launch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "runtime/launch_internal.h"
#include "runtime/plan.h"
#include "util/cleanup.h"
#include "util/fd.h"

struct launch {
	struct plan *plan; /* NULL once spawned */
	int sock, pidfd;
	int fd; /* came with the last message */
	pid_t pid;
	bool started, failed;
};

int launch_wire_fault(const struct wire_failed *msg, struct fault *f)
{
	struct wire_failed m = *msg;
	int err = m.err, r;

	/* it comes from a process that has touched the container's files: nothing is taken on trust */
	m.step[sizeof(m.step) - 1] = m.path[sizeof(m.path) - 1] = m.text[sizeof(m.text) - 1] =
		m.log[sizeof(m.log) - 1] = 0;
	if (err < 0 || err > 4095)
		err = EIO;
	if (m.text[0]) {
		bool named = !m.path[0] || strstr(m.text, m.path);
		/* EPROTO stands for a reason that is no errno; "not found" says what ENOENT would */
		bool plain = err == EPROTO || (err == ENOENT && m.exit_code == 127);

		r = fault_set(f,
			      m.code > 0 && m.code < FAULT_CODES ? (enum fault_code)m.code
								 : fault_code_of_errno(err),
			      plain ? 0 : err, "%s%s%s", m.text, named ? "" : ": ",
			      named ? "" : m.path);
		if (f && err != EPROTO)
			f->err = err;
		if (err != EPROTO)
			r = -err;
		fault_at(f, m.step, m.path);
	} else {
		r = fault_sys(f, err, m.step, m.path[0] ? m.path : NULL);
		if (f && m.code > 0 && m.code < FAULT_CODES)
			f->code = (enum fault_code)m.code;
	}
	if (f) {
		f->exit_code = m.exit_code == 126 || m.exit_code == 127 ? m.exit_code : 0;
		snprintf(f->log, sizeof(f->log), "%s", m.log);
	}
	return r;
}

int launch_new(struct launch **out, const struct launch_request *r, struct fault *f)
{
	struct launch *l = calloc(1, sizeof(*l));
	int e;

	if (!l)
		return plan_no_memory(f);
	l->sock = l->pidfd = l->fd = -1;
	if (plan_new(&l->plan) < 0) {
		free(l);
		return plan_no_memory(f);
	}
	l->plan->id = plan_strdup(l->plan, r->id ? r->id : "");
	l->plan->bundle = plan_strdup(l->plan, r->bundle ? r->bundle : "");
	if (!l->plan->id || !l->plan->bundle)
		e = plan_no_memory(f);
	else
		e = r->join_pid > 0 ? plan_join(l->plan, r, f) : plan_compile(l->plan, r, f);
	if (e < 0) {
		launch_free(l);
		return e;
	}
	*out = l;
	return 0;
}

int launch_spawn(struct launch *l, struct fault *f)
{
	int r = plan_spawn(l->plan, &l->sock, &l->pid, &l->pidfd, f);

	/* the child has its own copy; a created container may wait for long */
	plan_free(TAKE_PTR(l->plan));
	return r;
}

pid_t launch_pid(const struct launch *l)
{
	return l->pid;
}

int launch_pidfd(const struct launch *l)
{
	return l->pidfd;
}

int launch_take_pidfd(struct launch *l)
{
	return TAKE_FD(l->pidfd);
}

int launch_fd(const struct launch *l)
{
	return l->sock;
}

static enum launch_event gone(struct launch *l, struct fault *f)
{
	if (l->started && !l->failed)
		return LAUNCH_STARTED;
	if (!l->failed)
		fault_set(f, FAULT_ABORTED, 0, "the container's init ended before it was started");
	l->failed = true;
	return LAUNCH_FAILED;
}

enum launch_event launch_read(struct launch *l, struct fault *f)
{
	struct wire_failed msg;
	size_t n = 1;
	int fd = -1;
	ssize_t size = fd_recv(l->sock, &msg, sizeof(msg), &fd, &n, MSG_DONTWAIT);

	if (size == -EAGAIN)
		return LAUNCH_AGAIN;
	if (!size || size == -ECONNRESET)
		return gone(l, f);
	if (size < 0) {
		fault_sys(f, (int)-size, "read from the container's init", NULL);
		l->failed = true;
		return LAUNCH_FAILED;
	}
	fd_close(&l->fd);
	if (n)
		l->fd = fd;
	if (size >= (ssize_t)sizeof(msg.head)) {
		switch (msg.head.kind) {
		case WIRE_TTY:
			return LAUNCH_TTY;
		case WIRE_LISTENER:
			return LAUNCH_LISTENER;
		case WIRE_HOOKS:
			return LAUNCH_HOOKS;
		case WIRE_READY:
			return LAUNCH_READY;
		case WIRE_FAILED:
			if (size != (ssize_t)sizeof(msg))
				break;
			(void)launch_wire_fault(&msg, f);
			l->failed = true;
			return LAUNCH_FAILED;
		default:
			break;
		}
	}
	fault_set(f, FAULT_INTERNAL, EPROTO, "message of %zd bytes from the container's init",
		  size);
	l->failed = true;
	return LAUNCH_FAILED;
}

int launch_take_fd(struct launch *l)
{
	return TAKE_FD(l->fd);
}

static int say(struct launch *l, enum wire_kind kind)
{
	char byte = (char)kind;
	ssize_t r = fd_send(l->sock, &byte, 1, NULL, 0, MSG_DONTWAIT);

	return r < 0 ? (int)r : 0;
}

int launch_continue(struct launch *l)
{
	return say(l, WIRE_CONTINUE);
}

int launch_start(struct launch *l)
{
	int r = say(l, WIRE_START);

	if (!r)
		l->started = true;
	return r;
}

void launch_restart(struct launch *l)
{
	/* the one that has exec'd already does not listen any more */
	(void)say(l, WIRE_START);
	l->started = true;
}

void launch_free(struct launch *l)
{
	if (!l)
		return;
	fd_close(&l->sock);
	fd_close(&l->pidfd);
	fd_close(&l->fd);
	plan_free(l->plan);
	free(l);
}

int launch_resume(struct launch **out, int sock, pid_t pid, int pidfd)
{
	struct launch *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->sock = sock;
	l->pid = pid;
	l->pidfd = pidfd;
	l->fd = -1;
	*out = l;
	return 0;
}
