// SPDX-License-Identifier: Apache-2.0
/*
 * Memory for the command line
 *
 * A client command that finds no memory can do nothing but say so and end; the daemon, which must
 * not, never includes this. Ending goes through exit(), so that a terminal in raw mode is put back.
 */
#pragma once

#include <stdarg.h>
#include <stddef.h>

void *mem_alloc(size_t size); /* zeroed */
/*
 * Room for one more of `size` bytes in an array of *n, grown by doubling. Returns the new place,
 * zeroed, and counts it.
 */
void *mem_grow(void *array /* pointer to the array's pointer */, size_t *n, size_t size);
char *mem_strdup(const char *text); /* NULL stays NULL */
char *mem_strndup(const char *text, size_t n);
char *mem_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
char *mem_vprintf(const char *fmt, va_list ap) __attribute__((format(printf, 1, 0)));
/* For results of libraries: ends the program when p is NULL. */
void *mem_need(void *p);
