// SPDX-License-Identifier: Apache-2.0
/*
 * What run and create share: their options, the source of the root file system, the container
 * record
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "cli/cli.h"
#include "util/fault.h"

extern const struct cli_option create_options[];
extern const char create_usage[];
extern const char create_details[];

/* Labels by which a container remembers how it was asked for. */
#define LABEL_AUTO_REMOVE "davit.auto-remove" /* "true": the daemon removes it after its end */
#define LABEL_INTERACTIVE "davit.interactive" /* "true": start -a passes stdin on */
#define LABEL_LOG_MAX_SIZE "davit.log-max-size" /* bytes */

struct created { /* a container made by create_container */
	char *id;
	bool tty, interactive;
	int64_t log_max_size; /* 0: the daemon's default */
	char *cidfile; /* NULL when none was asked for */
	char *snapshotter, *snapshot_key; /* of an image's container, else NULL */
};

/*
 * Reads the options, builds the spec, makes the record, writes the cidfile. Nothing is left after a
 * failure.
 */
int create_container(struct cli *cli, struct created *out, struct fault *f);
void created_clear(struct created *c);

/* "brave_otter"; buf of 32 bytes. */
void create_random_name(char *buf, size_t size);
/* 12 hex digits for an exec; buf of 13 bytes at least. */
void create_random_id(char *buf, size_t size);
