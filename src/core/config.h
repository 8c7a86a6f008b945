// SPDX-License-Identifier: Apache-2.0
/*
 * What `davit serve` is told: options and their DAVIT_… environment twins
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "core/davit.h"
#include "util/fault.h"
#include "util/log.h"

#define CONFIG_ROOT "/var/lib/davit"
#define CONFIG_STATE "/run/davit"
#define CONFIG_SOCKET_NAME "davit.sock"

struct config_start {
	struct davit_config config;
	enum log_level log_level;
	bool help; /* --help was given: print config_usage() and leave */
};

/*
 * Whether the command of this command line is `serve`; *index is where it stands. Options that
 * stand before a command (--socket, --namespace, --log-level) are stepped over.
 */
bool config_is_serve(int argc, char **argv, int *index);
/*
 * Reads options before and after `serve` (argv[index]), the environment where an option is not
 * given, and defaults. Paths are made absolute. config_clear frees what is in it, also after a
 * failure.
 */
int config_parse(struct config_start *out, int argc, char **argv, int index, struct fault *f);
void config_clear(struct config_start *c);
const char *config_usage(void);
/*
 * "64m" and the like to bytes: a number with k, m, g or t (of 1,024), an optional "ib" or "b"
 * behind it. 0 or -EINVAL.
 */
int config_size(const char *text, uint64_t *bytes);
