// SPDX-License-Identifier: Apache-2.0
/*
 * The guardian: the process that outlives a reactor
 *
 * See guardian.c. It does little on purpose: what does not run cannot crash.
 */
#pragma once

#include <sys/types.h>

#include "core/davit.h"
#include "core/places.h"
#include "util/log.h"

/* What a reactor is started with. Everything is inherited by fork and belongs to the reactor. */
struct guardian_child {
	const struct davit_config *config;
	const struct places *places;
	enum log_level log_level;
	int keep_sock; /* for keep_new */
	pid_t guardian_pid;
};

struct guardian_options {
	const struct davit_config *config;
	enum log_level log_level;
	/* The reactor's main: runs in the child, returns its exit code. */
	int (*reactor)(const struct guardian_child *child, void *user);
	void *user;
};

/*
 * Runs the daemon until it ends; returns its exit code. Takes over the process: descriptors above 2
 * but for a passed socket are closed, stdin becomes /dev/null, the folder "/", signals are blocked.
 * Failures are logged and told to who started it.
 */
int guardian_run(const struct guardian_options *options);

/*
 * The log level of STATE/log-level, or `dflt` where there is none: what SIGHUP reads, in both
 * processes.
 */
enum log_level guardian_log_level(int state_fd, enum log_level dflt);
