// SPDX-License-Identifier: Apache-2.0
/*
 * What a user reads: errors, tables, times
 *
 * Whatever comes from a container (its command, a log line in an error) may hold escape sequences;
 * in tables and errors control characters are replaced, so that a container cannot drive the
 * terminal of who lists it.
 */
#include "cli/output.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/args.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "util/clock.h"

static void clean(char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
	}
}

static const char *usual_hint(const struct fault *f)
{
	switch (f->code) {
	case FAULT_NOT_FOUND:
		return strstr(f->message, "container")
			       ? "'davit ps -a' lists the containers there are"
			       : NULL;
	case FAULT_ALREADY_EXISTS:
		return "choose another name, or remove it first";
	case FAULT_UNIMPLEMENTED:
		return "the daemon does not support this; see 'davit version'";
	case FAULT_PERMISSION_DENIED:
		return geteuid() == 0 ? NULL : "be root or a member of the daemon's group";
	case FAULT_INTERNAL:
		return "this is a bug in davit; please report it with the daemon's log";
	default:
		return NULL;
	}
}

int cli_fail(const struct fault *f, const char *hint, const char *what, ...)
{
	char *text CLEANUP_FREE = NULL;
	char *log CLEANUP_FREE = NULL;
	char *line, *save = NULL;
	va_list ap;

	va_start(ap, what);
	text = mem_vprintf(what, ap);
	va_end(ap);
	/* A message that tells what to do already needs no second advice. */
	if (!hint && !strchr(f->message, ';'))
		hint = usual_hint(f);
	line = mem_printf("%s: %s%s%s", text, f->message, hint ? "; " : "", hint ? hint : "");
	clean(line);
	fflush(stdout);
	fprintf(stderr, "davit: %s\n", line);
	free(line);
	log = mem_strdup(f->log);
	for (line = strtok_r(log, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		clean(line);
		fprintf(stderr, "  %s\n", line);
	}
	return f->exit_code ? f->exit_code : CLI_EXIT_DAVIT;
}

void cli_warn(const char *fmt, ...)
{
	char *text CLEANUP_FREE = NULL;
	va_list ap;

	va_start(ap, fmt);
	text = mem_vprintf(fmt, ap);
	va_end(ap);
	clean(text);
	fprintf(stderr, "davit: warning: %s\n", text);
}

struct table {
	char **cells; /* titles first */
	size_t n_cells, columns;
};

struct table *table_new(const char *const *titles)
{
	struct table *t = mem_alloc(sizeof(*t));

	for (; *titles; titles++) {
		table_cell(t, *titles);
		t->columns++;
	}
	return t;
}

void table_cell(struct table *t, const char *text)
{
	char *copy = mem_strdup(text ? text : "");

	clean(copy);
	*(char **)mem_grow(&t->cells, &t->n_cells, sizeof(*t->cells)) = copy;
}

void table_cellf(struct table *t, const char *fmt, ...)
{
	char *text CLEANUP_FREE = NULL;
	va_list ap;

	va_start(ap, fmt);
	text = mem_vprintf(fmt, ap);
	va_end(ap);
	table_cell(t, text);
}

/* Columns on the terminal: UTF-8 continuation bytes take none. */
static size_t width(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

void table_print(struct table *t)
{
	size_t *widths CLEANUP_FREE = mem_alloc(t->columns * sizeof(*widths));

	for (size_t i = 0; i < t->n_cells; i++) {
		size_t w = width(t->cells[i]);

		if (w > widths[i % t->columns])
			widths[i % t->columns] = w;
	}
	for (size_t i = 0; i < t->n_cells; i++) {
		size_t column = i % t->columns;

		fputs(t->cells[i], stdout);
		if (column + 1 == t->columns)
			putchar('\n');
		else
			printf("%*s", (int)(widths[column] - width(t->cells[i]) + 2), "");
	}
}

void table_free(struct table *t)
{
	for (size_t i = 0; i < t->n_cells; i++)
		free(t->cells[i]);
	free(t->cells);
	free(t);
}

int output_format(const struct cli *cli, struct fault *f)
{
	const char *text = args_get(cli, "format");

	if (!text || strcmp(text, "table") == 0)
		return 0;
	if (strcmp(text, "json") == 0)
		return 1;
	return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "--format takes table or json, not \"%s\"",
			 text);
}

void output_json(json_object *o)
{
	puts(mem_need((void *)json_object_to_json_string_ext(
		o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
			   JSON_C_TO_STRING_NOSLASHESCAPE)));
}

void output_json_line(json_object *o)
{
	puts(mem_need((void *)json_object_to_json_string_ext(
		o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)));
}

void output_duration(int64_t ns, char *buf, size_t size)
{
	int64_t s = ns > 0 ? ns / CLOCK_NS_PER_SEC : 0, m = s / 60, h = (m + 30) / 60;

	if (s < 1)
		snprintf(buf, size, "Less than a second");
	else if (s < 60)
		snprintf(buf, size, "%d second%s", (int)s, s == 1 ? "" : "s");
	else if (m < 2)
		snprintf(buf, size, "About a minute");
	else if (m < 60)
		snprintf(buf, size, "%d minutes", (int)m);
	else if (h < 2)
		snprintf(buf, size, "About an hour");
	else if (h < 48)
		snprintf(buf, size, "%d hours", (int)h);
	else if (h < 24 * 14)
		snprintf(buf, size, "%d days", (int)(h / 24));
	else if (h < 24 * 60)
		snprintf(buf, size, "%d weeks", (int)(h / 24 / 7));
	else if (h < 24 * 365 * 2)
		snprintf(buf, size, "%d months", (int)(h / 24 / 30));
	else
		snprintf(buf, size, "%lld years", (long long)(h / 24 / 365));
}

void output_size(uint64_t bytes, char *buf, size_t size)
{
	static const char units[][3] = { "kB", "MB", "GB", "TB", "PB", "EB" };
	double v = (double)bytes / 1000;
	size_t i = 0;

	if (bytes < 1000) {
		snprintf(buf, size, "%u B", (unsigned)bytes);
		return;
	}
	/* What would be rounded to 1000 belongs to the next unit. */
	for (; v >= 999.5 && i + 1 < ARRAY_SIZE(units); i++)
		v /= 1000;
	snprintf(buf, size, "%.*f %s", v < 9.995 ? 2 : v < 99.95 ? 1 : 0, v, units[i]);
}

void output_time(int64_t ns, char *buf, size_t size)
{
	time_t s = ns / CLOCK_NS_PER_SEC;
	struct tm tm;
	char day[32] = "", zone[16] = "";

	if (localtime_r(&s, &tm)) {
		strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm);
		strftime(zone, sizeof(zone), "%z", &tm);
	}
	if (strlen(zone) == 5) /* +0100 to +01:00 */
		snprintf(buf, size, "%s.%09lld%.3s:%s", day, (long long)(ns % CLOCK_NS_PER_SEC),
			 zone, zone + 3);
	else
		snprintf(buf, size, "%s.%09lldZ", day, (long long)(ns % CLOCK_NS_PER_SEC));
}

char *output_command(json_object *args, size_t max)
{
	char *text = mem_strdup("");
	size_t n;

	for (size_t i = 0; i < js_len(args); i++) {
		json_object *arg = js_at(args, i);
		const char *word = json_object_is_type(arg, json_type_string)
					   ? json_object_get_string(arg)
					   : "?";
		bool quote = !*word || strpbrk(word, " \t\n'\"");
		char *longer = mem_printf("%s%s%s%s%s", text, i ? " " : "", quote ? "\"" : "", word,
					  quote ? "\"" : "");

		free(text);
		text = longer;
		if (max && strlen(text) > max)
			break;
	}
	n = strlen(text);
	if (max && n > max) {
		n = max - 3;
		while (n && ((unsigned char)text[n] & 0xc0) == 0x80)
			n--;
		strcpy(text + n, "...");
	}
	return text;
}
