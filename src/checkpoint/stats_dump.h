// SPDX-License-Identifier: Apache-2.0
/*
 * criu's statistics of a dump: the file stats-dump in its work folder
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "util/fault.h"

#define STATS_DUMP_FILE "stats-dump"

struct stats_dump { /* times in µs; 0 for what an older criu does not say */
	uint64_t freezing_time, frozen_time, memdump_time, memwrite_time, irmap_resolve;
	uint64_t pages_scanned, pages_skipped_parent, pages_written, pages_lazy;
	uint64_t page_pipes, page_pipe_bufs;
	uint64_t shpages_scanned, shpages_skipped_parent, shpages_written;
};
/* FAULT_FAILED_PRECONDITION: it is none. */
int stats_dump_read(struct stats_dump *out, const void *data, size_t size, struct fault *f);
