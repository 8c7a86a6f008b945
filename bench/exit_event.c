// SPDX-License-Identifier: Apache-2.0
/*
 * From the exit of a task to its event at a subscriber
 *
 *   exit_event -b BUNDLE [-s SOCKET] [-n EXITS]
 *
 * BUNDLE's process has to wait for ever. A thread of the bench polls the process's pidfd, as
 * davit does, and takes the time when the kernel says that it is dead; the event's arrival is set
 * against that. So the time that a process takes to die is not counted, and the waking of the
 * bench itself is on both sides.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "rpc.h"
#include "util/fd.h"

struct watch {
	int pidfd;
	int64_t died;
};

static void *watch_death(void *arg)
{
	struct watch *w = arg;
	struct pollfd p = { .fd = w->pidfd, .events = POLLIN };

	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
	w->died = bench_now();
	return NULL;
}

static double one(struct rig *rig, const char *bundle, unsigned i)
{
	struct watch w = { .pidfd = -1 };
	struct client_msg msg;
	pthread_t thread;
	int64_t seen;
	char id[64];
	int r;

	snprintf(id, sizeof(id), "exit-%u", i);
	rig_call(rig, "containers.create", "id", id, "bundle", bundle);
	rig_call(rig, "tasks.create", "container_id", id, NULL, NULL);
	rig_await(rig, id);
	rig_params(rig, "container_id", id, NULL, NULL);
	rig_ask(rig, "tasks.start", &msg);
	w.pidfd = fd_pidfd_open((pid_t)rig_int(&msg, "pid"));
	client_msg_clear(&msg);
	if (w.pidfd < 0)
		rig_die("pidfd_open", NULL, w.pidfd);
	if (pthread_create(&thread, NULL, watch_death, &w))
		rig_die("thread", NULL, -EAGAIN);
	/* both watchers asleep */
	usleep(3000);
	r = fd_pidfd_send_signal(w.pidfd, SIGKILL);
	if (r < 0)
		rig_die("kill", NULL, r);
	seen = rig_exit(rig);
	pthread_join(thread, NULL);
	close(w.pidfd);
	rig_call(rig, "tasks.delete", "container_id", id, NULL, NULL);
	rig_call(rig, "containers.delete", "id", id, NULL, NULL);
	return (double)(seen - w.died) / 1e3;
}

int main(int argc, char **argv)
{
	const char *socket = NULL, *bundle = NULL;
	unsigned n = 100;
	struct rig rig;
	double *us;
	int opt;

	while ((opt = getopt(argc, argv, "s:b:n:")) != -1) {
		if (opt == 's')
			socket = optarg;
		else if (opt == 'b')
			bundle = optarg;
		else if (opt == 'n' && atoi(optarg) > 0)
			n = (unsigned)atoi(optarg);
		else
			return 2;
	}
	us = calloc(n, sizeof(*us));
	if (!bundle || !us) {
		fprintf(stderr, "usage: exit_event -b BUNDLE [-s SOCKET] [-n EXITS]\n");
		return 2;
	}
	rig_open(&rig, socket, "bench-exit");
	rig_subscribe(&rig);
	for (unsigned i = 0; i < n; i++)
		us[i] = one(&rig, bundle, i);
	rig_close(&rig);
	bench_print_spread("davit", "exit_to_event", "us", us, n);
	return 0;
}
