// SPDX-License-Identifier: Apache-2.0
/*
 * Long requests: how far they are, on a terminal, and their end by ctrl-C
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cli/cli.h"
#include "util/fault.h"

struct progress_call {
	const char *method;
	json_object *params; /* taken over */
	const int *fds; /* passed with the request, borrowed */
	size_t n_fds;
	const char *what; /* as "Importing box.tar" */
	bool events; /* the method takes `progress` and sends events while it works */
	/*
	 * An fd (-1 for none) that is passed along: its offset, which the daemon moves, tells how
	 * far it is. watch_size: the end, 0 when that is not known.
	 */
	int watch;
	uint64_t watch_size;
};

/*
 * The request and its answer. While it is awaited one line of stderr shows how far it is, when that
 * is a terminal; the line is gone afterwards, in every case. A signal that would end the program
 * cancels the request: -ECANCELED then, and cli->interrupted is set, so that main ends by it once
 * the caller has tidied up. result may be NULL.
 */
int progress_run(struct cli *cli, const struct progress_call *call, json_object **result,
		 struct fault *f);

/* The line, without control sequences: what is drawn for a terminal of so many columns. */
struct progress_view {
	const char *what, *phase; /* phase "" for none */
	uint64_t done, total; /* bytes; total 0: not known */
	double rate; /* bytes a second, negative: not known yet */
};
void progress_line(const struct progress_view *v, unsigned columns, char *buf, size_t size);
