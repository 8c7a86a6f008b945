// SPDX-License-Identifier: Apache-2.0
/*
 * One binary: `davit serve` is the daemon, everything else a command of the client
 *
 * The daemon first executes itself again from a sealed copy in memory (core/memfd.h); the guardian
 * then runs in this process and the reactor in a fork of it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/gzip_store.h"
#include "checkpoint/hook.h"
#include "cli/cli.h"
#include "core/config.h"
#include "core/guardian.h"
#include "core/memfd.h"
#include "core/reactor.h"

/*
 * What is wrong before there is a log: one line, also to who waits for the daemon to become ready.
 */
static int refuse(const struct fault *f)
{
	const char *fd = getenv("DAVIT_READY_FD");

	fprintf(stderr, "davit: %s\n", f->message);
	if (fd && atoi(fd) > 2)
		dprintf(atoi(fd), "%s\n", f->message);
	return 1;
}

static int serve(int argc, char **argv, int index)
{
	struct config_start start;
	struct guardian_options options = { .config = &start.config, .reactor = reactor_main };
	struct fault f = { 0 };
	int r = config_parse(&start, argc, argv, index, &f);

	if (r < 0) {
		config_clear(&start);
		return refuse(&f);
	}
	if (start.help) {
		fputs(config_usage(), stdout);
		config_clear(&start);
		return 0;
	}
	if (!memfd_sealed() && memfd_reexec(argv, environ, &f) < 0) {
		config_clear(&start);
		return refuse(&f);
	}
	options.log_level = start.log_level;
	r = guardian_run(&options);
	config_clear(&start);
	return r;
}

int main(int argc, char **argv)
{
	int index;

	if (gzip_store_is(argv[0]))
		return gzip_store_main(argc);
	if (argc == 3 && !strcmp(argv[1], "criu-hook"))
		return hook_main(argv[2]);
	if (config_is_serve(argc, argv, &index))
		return serve(argc, argv, index);
	return cli_main(argc, argv);
}
