// SPDX-License-Identifier: Apache-2.0
/*
 * Long requests: how far they are, on a terminal, and their end by ctrl-C
 *
 * Two things tell how far the daemon is. The offset of a passed file moves while the daemon reads or
 * writes it, since both of us have the same open file; and events carry what the daemon counts
 * itself, for whoever asked by the argument `progress`. The file goes first as long as its end is
 * not reached: what comes after that is another phase (unpacking), of which only events know.
 *
 * Nothing is drawn where stderr is no terminal, or one that cannot erase a line. A frame is one
 * write that begins at the line's start and erases what is right of its end, so nothing flickers;
 * one that would look like the last is not written.
 *
 * The signals that end a program are blocked while a request is under way and read from a signalfd.
 * The first cancels the request and waits for the daemon to agree, a second one waits no longer;
 * the closed connection then says the same to the daemon.
 */
#include "cli/progress.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "cli/conn.h"
#include "cli/create.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/output.h"
#include "util/clock.h"
#include "util/fd.h"

#define FRAME_MS 100
#define SAMPLE_NS (CLOCK_NS_PER_SEC / 5) /* between two measurements of the rate */
#define CANCEL_MS 5000 /* for the daemon to answer a cancelled request */
#define COLUMNS_MAX 512u
#define BAR_MIN 10u
#define BAR_MAX 40u

struct progress {
	struct cli *cli;
	const struct progress_call *call;
	bool drawing;
	int signal_fd;
	sigset_t old_mask;
	char tag[16];
	int64_t subscription; /* -1 for none */
	struct progress_view view;
	char phase[32]; /* what view.phase points to */
	uint64_t sampled; /* bytes at the last measurement */
	int64_t sampled_at;
	char last[COLUMNS_MAX + 1]; /* the line on the terminal; "" for none */
};

/* ---- the line */

static void left_text(const struct progress_view *v, char *buf, size_t size)
{
	double left = v->rate > 0 && v->total > v->done ? (double)(v->total - v->done) / v->rate
							: -1;
	unsigned s;

	*buf = '\0';
	if (left < 0 || left > 359999)
		return;
	s = (unsigned)(left + 0.5);
	if (s >= 3600)
		snprintf(buf, size, "  %u:%02u:%02u left", s / 3600, s / 60 % 60, s % 60);
	else
		snprintf(buf, size, "  %u:%02u left", s / 60, s % 60);
}

static unsigned bar(char *at, unsigned n, double part)
{
	unsigned filled = (unsigned)(part * (n - 2));

	at[0] = '[';
	for (unsigned i = 0; i < n - 2; i++)
		at[1 + i] = i < filled ? '=' : i == filled ? '>' : ' ';
	at[n - 1] = ']';
	at[n] = '\0';
	return n;
}

void progress_line(const struct progress_view *v, unsigned columns, char *buf, size_t size)
{
	char done[16], total[16], rate[16], left[32], numbers[128];
	double part = 0;
	size_t room, n;

	/* The last column stays free: some terminals break the line when it is written. */
	room = columns ? columns - 1 : 0;
	if (room > size - 1)
		room = size - 1;
	output_size(v->done, done, sizeof(done));
	output_size(v->total, total, sizeof(total));
	output_size(v->rate > 0 ? (uint64_t)v->rate : 0, rate, sizeof(rate));
	left_text(v, left, sizeof(left));
	n = 0;
	if (v->total) {
		part = v->done >= v->total ? 1 : (double)v->done / (double)v->total;
		n = (size_t)snprintf(numbers, sizeof(numbers), "  %3u%%  %s / %s",
				     (unsigned)(part * 100), done, total);
	} else if (v->done) {
		n = (size_t)snprintf(numbers, sizeof(numbers), "  %s", done);
	}
	if (n && v->rate >= 0)
		n += (size_t)snprintf(numbers + n, sizeof(numbers) - n, "  %s/s%s", rate, left);
	numbers[n] = '\0';
	if (n > room) /* narrow: the share alone, or nothing */
		n = room >= 4 && v->total ? (size_t)snprintf(numbers, sizeof(numbers), "%3u%%",
							     (unsigned)(part * 100))
					  : 0;
	numbers[n] = '\0';
	room -= n;
	n = (size_t)snprintf(buf, room + 1, "%s%s%s", v->what, *v->phase ? ": " : "", v->phase);
	for (char *p = buf; *p; p++) { /* a file's name may hold anything */
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	}
	if (n > room)
		n = room;
	/* no half of a character at the cut */
	while (n && n == room && ((unsigned char)buf[n - 1] & 0xc0) == 0x80)
		n--;
	if (n && n == room && (unsigned char)buf[n - 1] >= 0xc0)
		n--;
	buf[n] = '\0';
	room -= n;
	if (v->total && room >= BAR_MIN + 2) {
		buf[n++] = ' ';
		buf[n++] = ' ';
		n += bar(buf + n, room - 2 > BAR_MAX ? BAR_MAX : (unsigned)room - 2, part);
	}
	strcpy(buf + n, numbers);
}

static unsigned columns(void)
{
	struct winsize ws;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &ws) < 0 || !ws.ws_col)
		return 80;
	return ws.ws_col < COLUMNS_MAX ? ws.ws_col : COLUMNS_MAX;
}

static void put(const char *before, const char *line)
{
	char frame[COLUMNS_MAX + 32];
	int n = snprintf(frame, sizeof(frame), "%s%s\x1b[K", before, line);

	/* A terminal that is gone is told by the signal it sends. */
	(void)fd_write_all(STDERR_FILENO, frame, (size_t)n);
}

static void erase(struct progress *p)
{
	if (*p->last)
		put("\r", "");
	*p->last = '\0';
}

static void measure(struct progress *p)
{
	int64_t now = clock_mono(), spent = now - p->sampled_at;
	double rate;

	if (p->view.done < p->sampled) {
		/* another phase */
		p->view.rate = -1;
	} else if (spent < SAMPLE_NS) {
		return;
	} else {
		rate = (double)(p->view.done - p->sampled) * (double)CLOCK_NS_PER_SEC /
		       (double)spent;
		p->view.rate = p->view.rate < 0 ? rate : 0.7 * p->view.rate + 0.3 * rate;
	}
	p->sampled = p->view.done;
	p->sampled_at = now;
}

static void draw(struct progress *p)
{
	const struct progress_call *c = p->call;
	char line[COLUMNS_MAX + 1];
	off_t at;

	if (!p->drawing)
		return;
	at = c->watch >= 0 ? lseek(c->watch, 0, SEEK_CUR) : -1;
	if (at >= 0 && (!c->watch_size || (uint64_t)at < c->watch_size)) {
		p->view.done = (uint64_t)at;
		p->view.total = c->watch_size;
		p->view.phase = "";
	}
	measure(p);
	progress_line(&p->view, columns(), line, sizeof(line));
	if (strcmp(line, p->last) == 0)
		return;
	strcpy(p->last, line);
	put("\r", line);
}

/* ---- what the daemon says */

static void event_came(struct progress *p, const struct cli_reply *reply)
{
	json_object *e = js_at(reply->result, js_len(reply->result) - 1), *payload;
	const char *phase;

	payload = js_get(e, "event");
	if (strcmp(js_str(payload, "progress"), p->tag) != 0)
		return;
	phase = js_str(payload, "phase");
	if (strcmp(phase, p->phase) != 0) {
		snprintf(p->phase, sizeof(p->phase), "%s", phase);
		p->view.rate = -1;
		p->sampled = 0;
		p->sampled_at = clock_mono();
	}
	p->view.phase = p->phase;
	p->view.done = (uint64_t)js_int(payload, "done", 0);
	p->view.total = (uint64_t)js_int(payload, "total", 0);
}

/* Without events the request is as good: what fails here is only not drawn. */
static void subscribe(struct progress *p, json_object *params)
{
	json_object *q = js_object(), *answer CLEANUP_JSON = NULL;
	char *filter CLEANUP_FREE = NULL;
	struct fault ignored;

	create_random_id(p->tag, sizeof(p->tag));
	filter = mem_printf("event.progress==\"%s\"", p->tag);
	js_push_str(js_array_at(q, "filters"), filter);
	js_set_str(q, "namespace", p->cli->ns);
	if (cli_call(p->cli, "events.subscribe", q, &answer, &ignored) < 0)
		return;
	p->subscription = js_int(answer, "subscription", -1);
	js_set_str(params, "progress", p->tag);
}

static void unsubscribe(struct progress *p)
{
	json_object *q;
	struct fault ignored;

	if (p->subscription < 0)
		return;
	q = js_object();
	js_set_int(q, "subscription", p->subscription);
	(void)cli_call(p->cli, "events.unsubscribe", q, NULL, &ignored);
	/* What came meanwhile and was kept is nobody's: who waits for events next has others in mind. */
	for (struct cli_reply **at = &p->cli->stash; *at;) {
		struct cli_reply *r = *at;

		if (!r->notification) {
			at = &r->next;
			continue;
		}
		*at = r->next;
		cli_reply_free(r);
	}
}

/* ---- the request */

static int take_signal(struct progress *p)
{
	struct signalfd_siginfo info;

	if (read(p->signal_fd, &info, sizeof(info)) != sizeof(info))
		return 0;
	return (int)info.ssi_signo;
}

/* The answer, once it is there: 1; 0 for none yet. Negative: the connection broke. */
static int answered(struct progress *p, uint32_t msgid, struct cli_reply **out, struct fault *f)
{
	struct cli_reply *reply;
	int r;

	for (;;) {
		r = cli_recv(p->cli, 0, &reply, f);
		if (r < 0)
			return r == -EAGAIN ? 0 : r;
		if (!reply->notification && reply->msgid == msgid) {
			*out = reply;
			return 1;
		}
		if (reply->notification)
			event_came(p, reply);
		cli_reply_free(reply);
	}
}

/* Until the answer, a signal (its number in *sig) or the time: 1 with the answer, else 0. */
static int await(struct progress *p, uint32_t msgid, int64_t deadline, struct cli_reply **reply,
		 int *sig, struct fault *f)
{
	for (;;) {
		struct pollfd fds[2] = { { .events = POLLIN }, { .events = POLLIN } };
		int r = answered(p, msgid, reply, f);
		int64_t ms = deadline < 0 ? FRAME_MS : (deadline - clock_mono()) / 1000000;

		if (r)
			return r;
		draw(p);
		if (deadline >= 0 && ms <= 0)
			return 0;
		fds[0].fd = cli_fd(p->cli);
		fds[1].fd = p->signal_fd;
		if (poll(fds, 2, p->drawing || deadline >= 0 ? (int)ms : -1) < 0 && errno != EINTR)
			return fault_sys(f, errno, "waiting for the daemon", NULL);
		*sig = fds[1].revents ? take_signal(p) : 0;
		if (*sig)
			return 0;
	}
}

static int cancel(struct progress *p, uint32_t msgid, int sig, struct fault *f)
{
	struct cli_reply *reply = NULL;
	json_object *q = js_object();
	int again = 0;

	p->cli->interrupted = sig;
	erase(p);
	p->drawing = false;
	js_set_int(q, "msgid", msgid);
	if (cli_send(p->cli, "rpc.cancel", q, NULL, 0, NULL, f) == 0 &&
	    await(p, msgid, clock_mono() + CANCEL_MS * 1000000ll, &reply, &again, f) > 0)
		cli_reply_free(reply);
	else
		cli_disconnect(p->cli);
	p->subscription = -1;
	fault_set(f, FAULT_CANCELLED, 0, "interrupted");
	return -ECANCELED;
}

static int request(struct progress *p, json_object *params, json_object **result, struct fault *f)
{
	const struct progress_call *c = p->call;
	struct cli_reply *reply = NULL;
	uint32_t msgid;
	int sig = 0, r;

	r = cli_send(p->cli, c->method, params, c->fds, c->n_fds, &msgid, f);
	if (r < 0)
		return r;
	r = await(p, msgid, -1, &reply, &sig, f);
	erase(p);
	if (!reply)
		return r < 0 ? r : cancel(p, msgid, sig, f);
	r = 0;
	if (reply->failed) {
		*f = reply->fault;
		r = f->err ? -f->err : -EREMOTEIO;
	} else if (result) {
		*result = TAKE_PTR(reply->result);
	}
	cli_reply_free(reply);
	return r;
}

static bool can_draw(void)
{
	const char *term = getenv("TERM");

	return isatty(STDERR_FILENO) && term && *term && strcmp(term, "dumb") != 0;
}

int progress_run(struct cli *cli, const struct progress_call *call, json_object **result,
		 struct fault *f)
{
	static const int ends[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	json_object *params = call->params ? call->params : js_object();
	struct progress p = { .cli = cli,
			      .call = call,
			      .drawing = can_draw(),
			      .signal_fd = -1,
			      .subscription = -1,
			      .view = { .what = call->what, .phase = "", .rate = -1 },
			      .sampled_at = clock_mono() };
	sigset_t mask;
	int r;

	/* first: a daemon that is started here inherits no blocked signals */
	r = cli_connect(cli, f);
	if (r < 0) {
		json_object_put(params);
		return r;
	}
	sigemptyset(&mask);
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		struct sigaction old;

		/* What the caller has us ignore (nohup) stays ignored. */
		if (sigaction(ends[i], NULL, &old) < 0 || old.sa_handler != SIG_IGN)
			sigaddset(&mask, ends[i]);
	}
	sigprocmask(SIG_BLOCK, &mask, &p.old_mask);
	p.signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (p.signal_fd < 0) {
		json_object_put(params);
		r = fault_sys(f, errno, "making a signalfd", NULL);
	} else {
		draw(&p);
		if (p.drawing && call->events)
			subscribe(&p, params);
		r = request(&p, params, result, f);
		erase(&p);
		if (r == 0) /* else the connection may be gone, and the command ends anyway */
			unsubscribe(&p);
	}
	fd_close(&p.signal_fd);
	sigprocmask(SIG_SETMASK, &p.old_mask, NULL);
	return r;
}
