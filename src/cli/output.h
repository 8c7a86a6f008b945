// SPDX-License-Identifier: Apache-2.0
/*
 * What a user reads: errors, tables, times
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cli/cli.h"
#include "util/fault.h"

/*
 * One line on stderr: "davit: WHAT: WHY; HINT", then the fault's log lines, indented. hint NULL:
 * what usually helps with such a fault. Returns CLI_EXIT_DAVIT, or the fault's exit code when it
 * has one.
 */
int cli_fail(const struct fault *f, const char *hint, const char *what, ...)
	__attribute__((format(printf, 3, 4)));
void cli_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/*
 * A table whose columns are as wide as their widest cell. Cells are copied; control characters are
 * shown as '?'.
 */
struct table;
struct table *table_new(const char *const *titles); /* NULL-terminated */
void table_cell(struct table *t, const char *text); /* row by row */
void table_cellf(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void table_print(struct table *t); /* to stdout */
void table_free(struct table *t);

/* "table" is 0, "json" is 1, anything else -EINVAL with a fault. */
int output_format(const struct cli *cli, struct fault *f);
void output_json(json_object *o); /* to stdout, indented, with a line end */
void output_json_line(json_object *o); /* on one line */

/* "3 seconds", "About a minute", as podman says it. ns may be negative: then as 0. */
void output_duration(int64_t ns, char *buf, size_t size);
/* "123 B", "1.23 kB", "45.6 MB": powers of 1000, three digits, as podman says it. buf of 16 bytes. */
void output_size(uint64_t bytes, char *buf, size_t size);
/* ns since the epoch as local time, "2026-01-02T03:04:05.678901234+01:00". */
void output_time(int64_t ns, char *buf, size_t size);
/*
 * Words joined by blanks, those with blanks or quotes in them quoted; at most max bytes (0: any),
 * then "...". malloc'ed.
 */
char *output_command(json_object *args, size_t max);
