// SPDX-License-Identifier: Apache-2.0
/*
 * The whole life of a container over RPC: record, create, start, exit event, delete, record gone
 *
 *   lifecycle -b BUNDLE [-s SOCKET] [-n LIVES] [-j SIDE_BY_SIDE]
 *
 * BUNDLE's process has to end by itself. With -j each row of lives has a thread, a connection and
 * a namespace of its own.
 */
#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "rpc.h"

enum step { RECORD, CREATE, START, EXIT, DELETE, FORGET, STEPS };
static const char *const steps[STEPS] = {
	"containers_create", "tasks_create", "tasks_start",
	"exit_event",	     "tasks_delete", "containers_delete"
};

struct row {
	pthread_t thread;
	const char *socket, *bundle;
	unsigned index, n;
	double *ms; /* n whole lives */
	double *tasks; /* n lives of the task alone */
	double *parts[STEPS];
};

static double *room(unsigned n)
{
	double *v = calloc(n, sizeof(*v));

	if (!v)
		rig_die("memory", NULL, -ENOMEM);
	return v;
}

static void life(struct rig *rig, struct row *row, unsigned i)
{
	int64_t t[STEPS + 1];
	char id[64];

	snprintf(id, sizeof(id), "life-%u-%u", row->index, i);
	t[RECORD] = bench_now();
	rig_call(rig, "containers.create", "id", id, "bundle", row->bundle);
	t[CREATE] = bench_now();
	rig_call(rig, "tasks.create", "container_id", id, NULL, NULL);
	t[START] = bench_now();
	/* it may end before its start is answered */
	rig_await(rig, id);
	rig_call(rig, "tasks.start", "container_id", id, NULL, NULL);
	t[EXIT] = bench_now();
	rig_exit(rig);
	t[DELETE] = bench_now();
	rig_call(rig, "tasks.delete", "container_id", id, NULL, NULL);
	t[FORGET] = bench_now();
	rig_call(rig, "containers.delete", "id", id, NULL, NULL);
	t[STEPS] = bench_now();
	row->ms[i] = (double)(t[STEPS] - t[RECORD]) / 1e6;
	row->tasks[i] = (double)(t[FORGET] - t[CREATE]) / 1e6;
	for (int k = 0; k < STEPS; k++)
		row->parts[k][i] = (double)(t[k + 1] - t[k]) / 1e6;
}

static void *run_row(void *arg)
{
	struct row *row = arg;
	struct rig rig;
	char ns[32];

	snprintf(ns, sizeof(ns), "bench-%u", row->index);
	rig_open(&rig, row->socket, ns);
	rig_subscribe(&rig);
	for (unsigned i = 0; i < row->n; i++)
		life(&rig, row, i);
	rig_close(&rig);
	return NULL;
}

int main(int argc, char **argv)
{
	const char *socket = NULL, *bundle = NULL;
	unsigned n = 100, j = 1;
	struct row *rows;
	int64_t begin;
	double *all;
	int opt;

	while ((opt = getopt(argc, argv, "s:b:n:j:")) != -1) {
		if (opt == 's')
			socket = optarg;
		else if (opt == 'b')
			bundle = optarg;
		else if (opt == 'n' && atoi(optarg) > 0)
			n = (unsigned)atoi(optarg);
		else if (opt == 'j' && atoi(optarg) > 0)
			j = (unsigned)atoi(optarg);
		else
			return 2;
	}
	if (!bundle) {
		fprintf(stderr,
			"usage: lifecycle -b BUNDLE [-s SOCKET] [-n LIVES] [-j SIDE_BY_SIDE]\n");
		return 2;
	}
	rows = calloc(j, sizeof(*rows));
	if (!rows)
		rig_die("memory", NULL, -ENOMEM);
	for (unsigned k = 0; k < j; k++) {
		rows[k] = (struct row){ .socket = socket,
					.bundle = bundle,
					.index = k,
					.n = n,
					.ms = room(n),
					.tasks = room(n) };
		for (int s = 0; s < STEPS; s++)
			rows[k].parts[s] = room(n);
	}
	if (j == 1) {
		run_row(&rows[0]);
		bench_print_spread("davit", "life", "ms", rows[0].ms, n);
		bench_print_spread("davit", "task_life", "ms", rows[0].tasks, n);
		for (int s = 0; s < STEPS; s++)
			bench_print_spread("davit", steps[s], "ms", rows[0].parts[s], n);
		return 0;
	}
	begin = bench_now();
	for (unsigned k = 0; k < j; k++)
		if (pthread_create(&rows[k].thread, NULL, run_row, &rows[k]))
			rig_die("thread", NULL, -EAGAIN);
	for (unsigned k = 0; k < j; k++)
		pthread_join(rows[k].thread, NULL);
	bench_print("davit", "side_by_side", "lives/s",
		    (double)j * n / ((double)(bench_now() - begin) / 1e9));
	all = room(n * j);
	for (unsigned k = 0; k < j; k++)
		memcpy(all + (size_t)k * n, rows[k].ms, n * sizeof(*all));
	bench_print_spread("davit", "life_side_by_side", "ms", all, (size_t)n * j);
	return 0;
}
