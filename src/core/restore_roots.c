// SPDX-License-Identifier: Apache-2.0
/*
 * Restores: deleted files that are open, and who else is being restored into the same root
 *
 * criu makes a file that had no name any more under one that is always the same, in the folder where it
 * had been, and takes it away again before it ends, which is after tasks.start. Two restores with such
 * files into one root folder would meet there, and one of them would open what is the other's. So there is
 * one at a time. Those on snapshots each have a root of their own.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#include "core/restore_internal.h"
#include "util/cleanup.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static LIST_HEAD(, restore) restoring = LIST_HEAD_INITIALIZER(restoring);

static bool has_deleted(const struct serve_files *files)
{
	static const char *const names[] = { "remap-fpath.img", "ghost-file-" };

	for (size_t i = 0; i < files->n; i++)
		for (size_t k = 0; k < ARRAY_SIZE(names); k++)
			if (!strncmp(files->v[i].name, names[k], strlen(names[k])))
				return true;
	return false;
}

int restore_root_take(struct restore *r, const struct restore_start *s, int root, struct fault *f)
{
	const struct restore *other;
	struct stat st;
	int e = 0;

	if (!has_deleted(&r->read.files))
		return 0;
	if (fstat(root, &st) < 0)
		return fault_sys(f, errno, "look at", "the root");
	r->who = restore_text(r, "%s/%s", s->ns, s->id);
	if (!r->who)
		return restore_no_memory(f);
	pthread_mutex_lock(&lock);
	LIST_FOREACH (other, &restoring, same_root)
		if (other->root_dev == st.st_dev && other->root_ino == st.st_ino)
			break;
	if (other) {
		e = fault_set(
			f, FAULT_FAILED_PRECONDITION, EBUSY,
			"the checkpoint has deleted files that are open, and container %s is being restored into the same root; "
			"start or delete its task first",
			other->who);
	} else {
		r->root_dev = st.st_dev;
		r->root_ino = st.st_ino;
		r->root_taken = true;
		LIST_INSERT_HEAD(&restoring, r, same_root);
	}
	pthread_mutex_unlock(&lock);
	return e;
}

void restore_root_drop(struct restore *r)
{
	if (!r->root_taken)
		return;
	pthread_mutex_lock(&lock);
	LIST_REMOVE(r, same_root);
	pthread_mutex_unlock(&lock);
	r->root_taken = false;
}
