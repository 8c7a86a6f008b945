// SPDX-License-Identifier: Apache-2.0
/*
 * Terminals: the daemon's end of a pty, its clients, its sink
 */
#pragma once

#include <stdint.h>

#include "core/davit.h"
#include "util/fault.h"

struct tty;

struct tty_config { /* fds are taken over, -1 for none; strings are copied, NULL for none */
	int input; /* FIFO that is typed into the terminal */
	int fifo; /* where the output goes as well: a FIFO, ... */
	int file; /* ... a file, ... */
	const char *log; /* ... or a log */
	int64_t log_max_size;
};

/* master is taken over (also on failure). Starts to read at once. */
int tty_new(struct tty **out, struct davit *d, int master, const struct tty_config *config);
void tty_free(
	struct
	/* NULL is fine; what clients have not read yet is sent as far as it goes without waiting */
	tty *t);
/* One end of a socketpair (taken over): it gets the replay, then what comes. A hangup detaches. */
int tty_attach(struct tty *t, int stream);
int tty_resize(struct tty *t, uint16_t width, uint16_t height);
void tty_close_stdin(
	struct tty *t); /* end of file for the program: the terminal's VEOF character */
/* The process has ended: what is still in the pty is read, then clients are closed. */
void tty_ended(struct tty *t);
