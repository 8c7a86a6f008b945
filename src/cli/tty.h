// SPDX-License-Identifier: Apache-2.0
/*
 * The user's terminal: raw mode and its size
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Raw mode on fd (with output_only: output passes unchanged, input stays as it is), undone by tty_restore, at exit, and when the program crashes. 0 or -errno. */
int tty_raw(int fd, bool output_only);
void tty_restore(void); /* also when it never was raw */
bool tty_is_raw(void);
/* Size of the first of stdout, stdin, stderr that is a terminal; false when none is. */
bool tty_size(uint16_t *width, uint16_t *height);

/*
 * Detach keys (ctrl-p ctrl-q): takes the n bytes of input and leaves in out (room for n + 1) what
 * goes to the container; *held is the state between calls, false at first. Returns true when the
 * keys were pressed: what follows them is dropped.
 */
bool tty_detach_keys(bool *held, const char *in, unsigned n, char *out, unsigned *out_n);
