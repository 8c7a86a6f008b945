// SPDX-License-Identifier: Apache-2.0
/*
 * stats-dump: criu's images/stats.proto, stats_entry {1: dump, 2: restore}
 */
#include "checkpoint/stats_dump.h"

#include <errno.h>
#include <string.h>

#include "checkpoint/image_file.h"
#include "util/cleanup.h"

/* Where field N of dump_stats_entry goes. */
static const size_t members[] = {
	[1] = offsetof(struct stats_dump, freezing_time),
	[2] = offsetof(struct stats_dump, frozen_time),
	[3] = offsetof(struct stats_dump, memdump_time),
	[4] = offsetof(struct stats_dump, memwrite_time),
	[5] = offsetof(struct stats_dump, pages_scanned),
	[6] = offsetof(struct stats_dump, pages_skipped_parent),
	[7] = offsetof(struct stats_dump, pages_written),
	[8] = offsetof(struct stats_dump, irmap_resolve),
	[9] = offsetof(struct stats_dump, pages_lazy),
	[10] = offsetof(struct stats_dump, page_pipes),
	[11] = offsetof(struct stats_dump, page_pipe_bufs),
	[12] = offsetof(struct stats_dump, shpages_scanned),
	[13] = offsetof(struct stats_dump, shpages_skipped_parent),
	[14] = offsetof(struct stats_dump, shpages_written),
};

static int read_dump(struct stats_dump *out, struct pb m)
{
	struct pb_field field;
	int r;

	while ((r = pb_next(&m, &field)) > 0) {
		if (field.number >= ARRAY_SIZE(members))
			continue;
		if (field.is_bytes)
			return -EBADMSG;
		memcpy((char *)out + members[field.number], &field.value, sizeof(field.value));
	}
	return r;
}

int stats_dump_read(struct stats_dump *out, const void *data, size_t size, struct fault *f)
{
	struct pb_field field;
	struct pb entry;
	struct img img;
	int r;
	bool found = false;

	memset(out, 0, sizeof(*out));
	r = img_open_data(&img, STATS_DUMP_FILE, data, size, IMG_SERVICE_MAGIC, IMG_STATS, f);
	if (!r)
		r = img_one(&img, &entry);
	if (r < 0)
		return r;
	while ((r = pb_next(&entry, &field)) > 0) {
		if (field.number != 1)
			continue;
		r = field.is_bytes ? read_dump(out, pb_message(&field)) : -EBADMSG;
		if (r < 0)
			break;
		found = true;
	}
	if (!r && !found)
		return img_damaged(&img, "it says nothing of a dump");
	return r < 0 ? img_damaged(&img, "it is no message") : 0;
}
