// SPDX-License-Identifier: Apache-2.0
/*
 * Log files: lines in, one write a batch out, rotation, and an account of what could not be written
 */
#pragma once

#include <bsd/sys/tree.h>
#include <stddef.h>
#include <stdint.h>

#include "util/limits.h"

#define LOG_OUT_SIZE (256u << 10)

struct log_file {
	RB_ENTRY(log_file) tree;
	unsigned refs;
	int fd; /* -1: it could not be opened, or not yet */
	int64_t size, max_size;
	uint64_t lost; /* bytes of output, not told yet */
	int lost_why; /* errno of the last failure; 0: they came too fast */
	char path[];
};

RB_HEAD(log_files, log_file);

/* The batch under way: lines for one file at a time. Zeroed, out is LOG_OUT_SIZE bytes. */
struct log_batch {
	struct log_file *file;
	char *out;
	size_t used;
	uint64_t notice; /* the file's lost bytes that the first line tells about, 0 for none */
	int64_t second; /* which `stamp` shows */
	char stamp[32]; /* 2026-01-02T03:04:05.000000000Z and a space */
};

#define LOG_STAMP_SIZE 31u

/* One more reference; made when there is none. NULL without memory. Nothing is opened yet. */
struct log_file *log_file_get(struct log_files *files, const char *path, int64_t max_size);
/* Tells what was lost, if it can, and closes with the last reference. */
void log_file_put(struct log_files *files, struct log_file *f, struct log_batch *b);

/* Begins a batch: the time of all its lines. */
void log_batch_begin(struct log_batch *b, struct log_file *f);
/* One line (head and data are joined) of at most LIMIT_LOG_LINE bytes. tag: 'F' or 'P'. */
void log_batch_line(struct log_batch *b, const char *stream, char tag, const char *head,
		    size_t head_size, const char *data, size_t size);
void log_batch_end(struct log_batch *b); /* writes */
