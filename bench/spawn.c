// SPDX-License-Identifier: Apache-2.0
/*
 * Times a command from its spawn to its end, again and again
 *
 *   spawn [-n RUNS] [-j SIDE_BY_SIDE] NAME COMMAND ARG…
 *
 * `{}` in an argument becomes an id that differs with each run. This is how runtimes that are
 * programs (crun, runc, ctr) are measured; a shell or a script around them would add its own
 * start. Their output is dropped unless one fails.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

extern char **environ;

struct row {
	pthread_t thread;
	char **argv;
	int argc, output;
	unsigned index, n;
	double *ms;
};

static _Noreturn void die(const char *what, int err)
{
	fprintf(stderr, "spawn: %s: %s\n", what, strerror(err));
	exit(1);
}

/*
 * argv with the id in it; the strings with an id are malloc'ed and live until the end of the
 * bench.
 */
static char **with_id(const struct row *row, const char *id)
{
	char **argv = calloc((size_t)row->argc + 1, sizeof(*argv));

	if (!argv)
		die("memory", ENOMEM);
	for (int i = 0; i < row->argc; i++) {
		const char *at = strstr(row->argv[i], "{}");

		argv[i] = row->argv[i];
		if (at && asprintf(&argv[i], "%.*s%s%s", (int)(at - row->argv[i]), row->argv[i], id,
				   at + 2) < 0)
			die("memory", ENOMEM);
	}
	return argv;
}

static void *run_row(void *arg)
{
	struct row *row = arg;
	posix_spawn_file_actions_t actions;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, row->output, 1);
	posix_spawn_file_actions_adddup2(&actions, row->output, 2);
	for (unsigned i = 0; i < row->n; i++) {
		char id[64], **argv;
		int64_t begin;
		int r, status;
		pid_t pid;

		snprintf(id, sizeof(id), "spawn-%d-%u-%u", (int)getpid(), row->index, i);
		argv = with_id(row, id);
		begin = bench_now();
		r = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
		if (r)
			die(argv[0], r);
		if (waitpid(pid, &status, 0) < 0)
			die("waitpid", errno);
		row->ms[i] = (double)(bench_now() - begin) / 1e6;
		if (!WIFEXITED(status) || WEXITSTATUS(status)) {
			char text[4096];
			ssize_t size = pread(row->output, text, sizeof(text), 0);

			fprintf(stderr, "spawn: %s ended with status %#x: %.*s\n", argv[0],
				(unsigned)status, size > 0 ? (int)size : 0, text);
			exit(1);
		}
		free(argv);
	}
	posix_spawn_file_actions_destroy(&actions);
	return NULL;
}

int main(int argc, char **argv)
{
	unsigned n = 20, j = 1;
	struct row *rows;
	int64_t begin;
	double *ms;
	int opt, output;

	while ((opt = getopt(argc, argv, "+n:j:")) != -1) {
		if (opt == 'n' && atoi(optarg) > 0)
			n = (unsigned)atoi(optarg);
		else if (opt == 'j' && atoi(optarg) > 0)
			j = (unsigned)atoi(optarg);
		else
			return 2;
	}
	if (argc - optind < 2) {
		fprintf(stderr, "usage: spawn [-n RUNS] [-j SIDE_BY_SIDE] NAME COMMAND ARG...\n");
		return 2;
	}
	output = open("/tmp", O_TMPFILE | O_RDWR | O_APPEND | O_CLOEXEC, 0600);
	rows = calloc(j, sizeof(*rows));
	ms = calloc((size_t)n * j, sizeof(*ms));
	if (output < 0 || !rows || !ms)
		die("start", errno);
	begin = bench_now();
	for (unsigned k = 0; k < j; k++) {
		rows[k] = (struct row){ .argv = argv + optind + 1,
					.argc = argc - optind - 1,
					.output = output,
					.index = k,
					.n = n,
					.ms = ms + (size_t)k * n };
		if (pthread_create(&rows[k].thread, NULL, run_row, &rows[k]))
			die("thread", EAGAIN);
	}
	for (unsigned k = 0; k < j; k++)
		pthread_join(rows[k].thread, NULL);
	if (j > 1)
		bench_print(argv[optind], "side_by_side", "lives/s",
			    (double)n * j / ((double)(bench_now() - begin) / 1e9));
	bench_print_spread(argv[optind], j > 1 ? "life_side_by_side" : "life", "ms", ms,
			   (size_t)n * j);
	return 0;
}
