// SPDX-License-Identifier: Apache-2.0
/*
 * Memory for the command line
 *
 * Owns nothing: all results are the caller's, to be given to free().
 */
#include "cli/mem.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

void *mem_need(void *p)
{
	if (!p) {
		fputs("davit: out of memory\n", stderr);
		exit(CLI_EXIT_DAVIT);
	}
	return p;
}

void *mem_alloc(size_t size)
{
	return mem_need(calloc(1, size ? size : 1));
}

void *mem_grow(void *array, size_t *n, size_t size)
{
	char *a;

	memcpy(&a, array, sizeof(a));
	/* Sizes are 0 or a power of two: full when the count is one. */
	if ((*n & (*n - 1)) == 0) {
		a = mem_need(reallocarray(a, *n ? *n * 2 : 1, size));
		memcpy(array, &a, sizeof(a));
	}
	a += (*n)++ * size;
	memset(a, 0, size);
	return a;
}

char *mem_strdup(const char *text)
{
	return text ? mem_need(strdup(text)) : NULL;
}

char *mem_strndup(const char *text, size_t n)
{
	return mem_need(strndup(text, n));
}

char *mem_vprintf(const char *fmt, va_list ap)
{
	char *text;

	return mem_need(vasprintf(&text, fmt, ap) < 0 ? NULL : text);
}

char *mem_printf(const char *fmt, ...)
{
	va_list ap;
	char *text;

	va_start(ap, fmt);
	text = mem_vprintf(fmt, ap);
	va_end(ap);
	return text;
}
