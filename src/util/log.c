// SPDX-License-Identifier: Apache-2.0
#include "util/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const names[] = { "error", "warn", "info", "debug" };
static const char priorities[] = { '3', '4', '6', '7' };

/* The log is the one thing that every room may reach without a context. */
static struct {
	enum log_level level;
	const char *tag;
} log_state = { LOG_INFO, "davit" };

void log_set_level(enum log_level level)
{
	log_state.level = level;
}

void log_set_tag(const char *tag)
{
	log_state.tag = tag;
}

int log_level_parse(const char *name, enum log_level *level)
{
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!strcmp(name, names[i])) {
			*level = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	char line[2048];
	int saved = errno, n;
	size_t used;
	va_list ap;

	if (level > log_state.level)
		return;
	if (getenv("JOURNAL_STREAM")) {
		n = snprintf(line, sizeof(line), "<%c>%s: ", priorities[level], log_state.tag);
	} else {
		struct timespec ts;
		struct tm tm;

		clock_gettime(CLOCK_REALTIME, &ts);
		gmtime_r(&ts.tv_sec, &tm);
		n = snprintf(line, sizeof(line),
			     "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ %s %s: ", tm.tm_year + 1900,
			     tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
			     ts.tv_nsec / 1000000, names[level], log_state.tag);
	}
	used = (size_t)n;
	va_start(ap, fmt);
	vsnprintf(line + used, sizeof(line) - used - 1, fmt, ap);
	va_end(ap);
	used = strnlen(line, sizeof(line) - 2);
	/* names from outside must not look like further entries */
	for (char *p = line; p < line + used; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = ' ';
	line[used++] = '\n';
	/* a log that cannot be written has nowhere to say so */
	if (write(STDERR_FILENO, line, used) < 0)
		errno = saved;
	errno = saved;
}
