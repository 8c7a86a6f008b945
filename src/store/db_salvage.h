// SPDX-License-Identifier: Apache-2.0
/*
 * A damaged database: noticed, set aside, and made anew of what can be read
 */
#pragma once

#include "store/db.h"

/*
 * db_open, and what it takes to start all the same when the database is damaged. Then the damaged
 * file and its log become meta.db.damaged-TIME and meta.db.damaged-TIME-wal, and a new meta.db has
 * every row that could be read and what the disk tells: the blobs of content/blobs, images of
 * content/index.json. What was found in this way is held for a week by a lease "salvaged-TIME" in
 * each namespace, whether it is in use or not; folders of snapshots whose rows are lost are moved to
 * damaged-TIME.
 *
 * *report is NULL, or the text for the log (several lines; to be freed): what was damaged, found
 * and lost. A killed daemon goes on where it was, or begins again; the originals are not touched
 * before the new file is on the disk.
 *
 * A file of a newer version, of another program, or in use by another process is left as it is
 * (-EPROTO, -EEXIST, -EBUSY), as by db_open. root_fd is ROOT's.
 */
int db_open_or_rebuild(struct db **out, int root_fd, const char *root, char **report,
		       struct fault *f);
/*
 * Something that was read was damaged: the next start looks at the whole file, however large it is.
 * Called by db_fault; any thread.
 */
void db_suspect(const char *path);
