// SPDX-License-Identifier: Apache-2.0
/*
 * The daemon's own log
 *
 * One line to stderr an entry, with systemd's <N> priority prefix when stderr is the journal
 * (JOURNAL_STREAM is set), else with time and level. Library rooms log nothing above debug.
 */
#pragma once

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Process-wide, set once before threads start. Default LOG_INFO. */
void log_set_level(enum log_level level);
/* Tag put before each line, as "guardian" or "reactor"; a static string. */
void log_set_tag(const char *tag);
/* "error", "warn", "info", "debug"; returns 0 or -EINVAL. */
int log_level_parse(const char *name, enum log_level *level);

void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_write(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_write(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_DEBUG, __VA_ARGS__)
