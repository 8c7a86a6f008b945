// SPDX-License-Identifier: Apache-2.0
/*
 * RPC: tasks.get at a steady, moderate rate, while something else goes on
 *
 *   latency -b BUNDLE [-s SOCKET] [-r CALLS_PER_SECOND]
 *
 * BUNDLE's process has to wait for ever. Each line on standard input is a name and begins a window; the
 * line "-" ends it without another, end of file ends the program. A window ends in a line of JSON
 * with the order statistics of its calls. "ready" is printed once the task runs.
 *
 * A call is due at its time whatever became of the one before: what comes late because the last
 * answer came late counts from when it was due. The program runs with real-time priority where it
 * may, so that it measures the daemon's waiting for a processor and not its own.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "rpc.h"

struct window {
	char name[64];
	double *us;
	size_t n, room;
};

static struct rig rig;

static void window_end(struct window *w)
{
	if (w->n)
		bench_print_spread("latency", w->name, "us", w->us, w->n);
	w->n = 0;
	w->name[0] = '\0';
}

static void window_add(struct window *w, double us)
{
	if (!w->name[0])
		return;
	if (w->n == w->room) {
		size_t room = w->room ? w->room * 2 : 65536;
		double *grown = reallocarray(w->us, room, sizeof(*grown));

		if (!grown)
			rig_die("memory", NULL, -ENOMEM);
		w->us = grown;
		w->room = room;
	}
	w->us[w->n++] = us;
}

/* False: nothing more will be said. */
static bool take_line(struct window *w)
{
	char text[128];

	if (!fgets(text, sizeof(text), stdin))
		return false;
	text[strcspn(text, "\n")] = '\0';
	window_end(w);
	if (strcmp(text, "-") != 0)
		snprintf(w->name, sizeof(w->name), "%.60s", text);
	return true;
}

static int64_t call(const char *id)
{
	struct client_msg msg;
	int64_t begin = bench_now();

	rig_params(&rig, "container_id", id, NULL, NULL);
	rig_ask(&rig, "tasks.get", &msg);
	client_msg_clear(&msg);
	return begin;
}

static void run(const char *id, unsigned rate)
{
	int64_t step = 1000000000 / rate, due = bench_now() + step, last = 0;
	int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	struct window w = { 0 };

	if (timer < 0)
		rig_die("timerfd", NULL, -errno);
	while (true) {
		struct itimerspec at = { .it_value = { due / 1000000000, due % 1000000000 } };
		struct pollfd fds[2] = { { .fd = 0, .events = POLLIN },
					 { .fd = timer, .events = POLLIN } };
		int64_t begin, end;

		if (timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL) < 0 ||
		    poll(fds, 2, -1) < 0)
			rig_die("wait", NULL, -errno);
		if (fds[0].revents && !take_line(&w))
			break;
		if (!fds[1].revents)
			continue;
		begin = call(id);
		end = bench_now();
		if (last > due)
			begin = due;
		last = end;
		window_add(&w, (double)(end - begin) / 1e3);
		due += step;
	}
	window_end(&w);
	close(timer);
	free(w.us);
}

int main(int argc, char **argv)
{
	const char *socket = NULL, *bundle = NULL, *id = "latency";
	struct sched_param p = { .sched_priority = 1 };
	struct client_msg msg;
	unsigned rate = 1000;
	int opt;

	while ((opt = getopt(argc, argv, "s:b:r:")) != -1) {
		if (opt == 's')
			socket = optarg;
		else if (opt == 'b')
			bundle = optarg;
		else if (opt == 'r' && atoi(optarg) > 0 && atoi(optarg) <= 100000)
			rate = (unsigned)atoi(optarg);
		else
			return 2;
	}
	if (!bundle) {
		fprintf(stderr, "usage: latency -b BUNDLE [-s SOCKET] [-r CALLS_PER_SECOND]\n");
		return 2;
	}
	setvbuf(stdin, NULL, _IONBF, 0); /* poll must see what there is */
	rig_open(&rig, socket, "bench-latency");
	rig_call(&rig, "containers.create", "id", id, "bundle", bundle);
	rig_call(&rig, "tasks.create", "container_id", id, NULL, NULL);
	rig_call(&rig, "tasks.start", "container_id", id, NULL, NULL);
	if (sched_setscheduler(0, SCHED_FIFO, &p) < 0)
		fprintf(stderr, "latency: no real-time priority: %s\n", strerror(errno));
	(void)mlockall(MCL_CURRENT | MCL_FUTURE);
	bench_print("latency", "ready", "", 1);
	run(id, rate);

	rig.sb.size = 0;
	msgpack_pack_map(&rig.pk, 3);
	mp_pack_key_str(&rig.pk, "namespace", rig.ns);
	mp_pack_key_str(&rig.pk, "container_id", id);
	mp_pack_key_bool(&rig.pk, "kill", true);
	rig_ask(&rig, "tasks.delete", &msg);
	client_msg_clear(&msg);
	rig_call(&rig, "containers.delete", "id", id, NULL, NULL);
	rig_close(&rig);
	return 0;
}
