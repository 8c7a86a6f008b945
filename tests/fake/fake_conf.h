// SPDX-License-Identifier: Apache-2.0
/*
 * The fake criu: what it is told to do, what it says it did
 *
 * davit starts criu with a clean environment, so orders come in a file, "fake_criu.conf", in the
 * images folder or else beside the program. A line is a word and what belongs to it; without the
 * file all goes well. Beside the file that was found, "fake_criu.trace" gets a line for whatever a
 * test may want to know: the command line, each stage and what its script said, the end.
 *
 *   image NAME [SIZE]          an image file, in the order of the dump; replaces the default set;
 *                              without a size: as criu would write it (see fake_images.h)
 *   fault NAME [IMAGE [BYTES]] where in the stream: at this image, behind so many bytes of it
 *   log TEXT                   "Error (criu/fake.c:1): TEXT" in the log; as often as wanted
 *   log_bytes N                so much chatter in the log before that
 *   log_garbage                and bytes of all values, without a line's end
 *   exit N                     what a fault ends with (default 1)
 *   slow_us N                  a pause before each transfer
 *   ignore_term                SIGTERM does nothing
 *   child exit N | dies        the restored task: ends at once when let go; before the hook
 *   child_says TEXT            written to the pipes that it inherits
 *   version TEXT   check N     what these two verbs answer
 */
#pragma once

#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fake_images.h"

#define FAKE_IMAGES 2048

struct fake {
	/* the command line */
	const char *verb, *images_dir, *work_dir, *log_file, *action_script, *pidfile, *freezer;
	bool stream, leave_running, detached, sibling;
	pid_t tree;
	int inherit[64];
	size_t n_inherit;
	/* the orders */
	struct fake_image images[FAKE_IMAGES];
	size_t n_images;
	char fault[64], at[256];
	size_t bytes;
	char *errors[64];
	size_t n_errors, log_bytes;
	bool log_garbage, ignore_term, child_dies;
	int exit_code, check, child_exit;
	unsigned slow_us;
	char version[64], child_says[256];
	/* the work */
	FILE *log;
	int trace, images_fd, sock;
	pid_t init;
	struct timespec begin;
};

static const struct {
	const char *name;
	size_t size;
} fake_defaults[] = {
	{ "seccomp.img", FAKE_REAL },
	{ "files.img", 1500 },
	{ "ids-1.img", FAKE_REAL },
	{ "fdinfo-2.img", 90 },
	{ "pagemap-1.img", 240 },
	{ "pages-1.img", (9u << 20) + 4096 },
	{ "core-1.img", FAKE_REAL },
	{ "mm-1.img", 900 },
	{ "fs-1.img", 46 },
	{ "mountpoints-12.img", FAKE_REAL },
	{ "pstree.img", FAKE_REAL },
	{ "timens-0.img", 32 },
	{ "inventory.img", FAKE_REAL },
};

__attribute__((format(printf, 2, 3))) static void fake_trace(struct fake *k, const char *fmt, ...)
{
	char line[4096];
	va_list ap;
	int n;

	if (k->trace < 0)
		return;
	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line) - 1, fmt, ap);
	va_end(ap);
	if (n > (int)sizeof(line) - 2)
		n = sizeof(line) - 2;
	line[n++] = '\n';
	if (write(k->trace, line, (size_t)n) < 0)
		k->trace = -1;
}

__attribute__((format(printf, 2, 3))) static void fake_log(struct fake *k, const char *fmt, ...)
{
	struct timespec now;
	double s;
	va_list ap;

	if (!k->log)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	s = (double)(now.tv_sec - k->begin.tv_sec) + (double)(now.tv_nsec - k->begin.tv_nsec) / 1e9;
	fprintf(k->log, "(%09.6f) ", s);
	va_start(ap, fmt);
	vfprintf(k->log, fmt, ap);
	va_end(ap);
	fputc('\n', k->log);
	fflush(k->log);
}

static void fake_conf_line(struct fake *k, char *line)
{
	char *rest = line + strcspn(line, " \n"), word[64];

	snprintf(word, sizeof(word), "%.*s", (int)(rest - line), line);
	rest += strspn(rest, " ");
	rest[strcspn(rest, "\n")] = '\0';
	if (!strcmp(word, "image")) {
		struct fake_image *i = &k->images[k->n_images++ % FAKE_IMAGES];

		switch (sscanf(rest, "%255s %zu", i->name, &i->size)) {
		case 1:
			fake_make_real(i);
			break;
		case 2:
			break;
		default:
			exit(99);
		}
	} else if (!strcmp(word, "fault")) {
		if (sscanf(rest, "%63s %255s %zu", k->fault, k->at, &k->bytes) < 1)
			exit(99);
	} else if (!strcmp(word, "log")) {
		k->errors[k->n_errors++ % 64] = strdup(rest);
	} else if (!strcmp(word, "log_bytes")) {
		k->log_bytes = strtoul(rest, NULL, 10);
	} else if (!strcmp(word, "log_garbage")) {
		k->log_garbage = true;
	} else if (!strcmp(word, "exit")) {
		k->exit_code = atoi(rest);
	} else if (!strcmp(word, "slow_us")) {
		k->slow_us = (unsigned)atoi(rest);
	} else if (!strcmp(word, "ignore_term")) {
		k->ignore_term = true;
	} else if (!strcmp(word, "child") && !strcmp(rest, "dies")) {
		k->child_dies = true;
	} else if (!strcmp(word, "child") && !strncmp(rest, "exit ", 5)) {
		k->child_exit = atoi(rest + 5);
	} else if (!strcmp(word, "child_says")) {
		snprintf(k->child_says, sizeof(k->child_says), "%s\n", rest);
	} else if (!strcmp(word, "version")) {
		snprintf(k->version, sizeof(k->version), "%s", rest);
	} else if (!strcmp(word, "check")) {
		k->check = atoi(rest);
	} else if (*word && *word != '#') {
		fprintf(stderr, "fake_criu.conf: what is %s?\n", word);
		exit(99);
	}
}

static bool fake_conf_read(struct fake *k, const char *folder)
{
	char path[PATH_MAX + 32], line[1024];
	FILE *f;

	snprintf(path, sizeof(path), "%s/fake_criu.conf", folder);
	f = fopen(path, "re");
	if (!f)
		return false;
	while (fgets(line, sizeof(line), f))
		fake_conf_line(k, line);
	fclose(f);
	snprintf(path, sizeof(path), "%s/fake_criu.trace", folder);
	k->trace = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	return true;
}

static void fake_conf(struct fake *k)
{
	char path[PATH_MAX], *slash;
	ssize_t n;

	if (!k->images_dir || !fake_conf_read(k, k->images_dir)) {
		n = readlink("/proc/self/exe", path, sizeof(path) - 1);
		if (n > 0) {
			path[n] = '\0';
			slash = strrchr(path, '/');
			*slash = '\0';
			fake_conf_read(k, path);
		}
	}
	if (k->n_images)
		return;
	for (; k->n_images < sizeof(fake_defaults) / sizeof(fake_defaults[0]); k->n_images++) {
		struct fake_image *i = &k->images[k->n_images];

		snprintf(i->name, sizeof(i->name), "%s", fake_defaults[k->n_images].name);
		i->size = fake_defaults[k->n_images].size;
		if (i->size == FAKE_REAL)
			fake_make_real(i);
	}
}

static inline bool fake_is(const struct fake *k, const char *fault)
{
	return !strcmp(k->fault, fault);
}

/* Is this the image where the fault is to be? Without a name: the first pages file. */
static inline bool fake_at(const struct fake *k, const char *image)
{
	return *k->at ? !strcmp(k->at, image) : !strncmp(image, "pages-", 6);
}
