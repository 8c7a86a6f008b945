// SPDX-License-Identifier: Apache-2.0
/*
 * The store: its folders, and what all its parts need
 *
 * Owns the fds of the folders and the parts' own state. Files that have no row any more are first
 * renamed into the trash, which is quick and cannot half succeed, and removed from there without
 * any lock; what a killed daemon has left there goes after the next start (store_empty_trash).
 */
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/content_internal.h"
#include "store/gc_internal.h"
#include "store/lease.h"
#include "store/store_internal.h"
#include "util/cleanup.h"
#include "util/fd.h"
#include "util/tree.h"

/* ---- calls */

void store_events_init(struct store_events *e)
{
	e->first = NULL;
	e->last = &e->first;
}

void store_events_clear(struct store_events *e)
{
	struct store_event *ev;

	while ((ev = e->first)) {
		e->first = ev->next;
		msgpack_sbuffer_destroy(&ev->payload);
		free(ev->ns);
		free(ev);
	}
	e->last = &e->first;
}

struct store_event *store_event_add(struct store_events *e, const char *ns, const char *topic)
{
	struct store_event *ev = e ? calloc(1, sizeof(*ev)) : NULL;

	if (!ev)
		return NULL;
	ev->ns = strdup(ns);
	if (!ev->ns) {
		free(ev);
		return NULL;
	}
	ev->topic = topic;
	msgpack_sbuffer_init(&ev->payload);
	*e->last = ev;
	e->last = &ev->next;
	return ev;
}

void store_progress_phase(struct store_progress *p, const char *phase, uint64_t total)
{
	if (!p)
		return;
	atomic_store(&p->done, 0);
	atomic_store(&p->total, total);
	atomic_store(&p->phase, phase);
}

void store_progress_add(struct store_progress *p, uint64_t bytes)
{
	if (p)
		atomic_fetch_add_explicit(&p->done, bytes, memory_order_relaxed);
}

int store_cancelled(const struct store_call *c)
{
	if (!cancelled(c->cancel))
		return 0;
	fault_set(c->f, FAULT_CANCELLED, 0, "nobody waits for it any more");
	return -ECANCELED;
}

/* ---- trash */

int store_trash(struct store *s, int folder, const char *name)
{
	char to[64];

	/* another daemon's names may be there still */
	for (;;) {
		snprintf(to, sizeof(to), "%llx.%llx", (unsigned long long)clock_now(),
			 (unsigned long long)atomic_fetch_add(&s->trash_serial, 1));
		if (renameat2(folder, name, s->trash_fd, to, RENAME_NOREPLACE) == 0) {
			atomic_store(&s->trashed, true);
			return 0;
		}
		if (errno == EEXIST)
			continue;
		return errno == ENOENT ? 0 : -errno;
	}
}

int store_empty_trash(struct store *s, const struct cancel *cancel)
{
	int r = tree_empty(s->trash_fd, cancel);

	db_reserve(s->db);
	return r;
}

bool store_has_trash(struct store *s)
{
	return atomic_exchange(&s->trashed, false);
}

/* ---- start and end */

/*
 * What a part keeps in struct store, and what it does at the start: opened in this order, closed in
 * the reverse one. An open that fails has cleaned up after itself.
 */
static const struct store_part {
	int (*open)(struct store *s, struct fault *f);
	void (*close)(struct store *s); /* may be NULL */
} parts[] = {
	{ content_start, NULL },
	{ ingests_open, ingests_close },
	{ content_index_open, content_index_close },
	{ snapshots_open, snapshots_close },
	{ unpackings_open, unpackings_close },
	{ gc_open, gc_close },
	{ lease_expire_transient, NULL },
	{ 0 },
};

static int open_folder(int parent, const char *name, mode_t mode, int *fd, struct fault *f)
{
	if (mkdirat(parent, name, mode) < 0 && errno != EEXIST)
		return fault_sys(f, errno, "make the folder", name);
	*fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return *fd < 0 ? fault_sys(f, errno, "open the folder", name) : 0;
}

/* Renames are durable only when the folders that hold them are. */
static int open_folders(struct store *s, struct fault *f)
{
	CLEANUP_CLOSE int blobs = -1, snapshots = -1;
	int r = open_folder(s->root_fd, "content", 0755, &s->content_fd, f);

	if (!r)
		r = open_folder(s->content_fd, "blobs", 0755, &blobs, f);
	if (!r)
		r = open_folder(blobs, "sha256", 0755, &s->blobs_fd, f);
	if (!r)
		r = open_folder(s->content_fd, "ingest", 0700, &s->ingest_fd, f);
	if (!r)
		r = open_folder(s->root_fd, "snapshots", 0700, &snapshots, f);
	if (!r)
		r = open_folder(s->root_fd, "trash", 0700, &s->trash_fd, f);
	if (!r && (fsync(blobs) < 0 || fsync(s->content_fd) < 0 || fsync(s->root_fd) < 0))
		r = fault_sys(f, errno, "sync the folders of", s->root);
	return r;
}

int store_open(struct store **out, int root_fd, const char *root, struct db *db, struct fault *f)
{
	struct store *s = calloc(1, sizeof(*s));
	int r;

	*out = NULL;
	if (!s)
		return fault_sys(f, ENOMEM, "open the store", root);
	s->db = db;
	s->root_fd = root_fd;
	atomic_store(&s->trashed, true);
	s->content_fd = s->blobs_fd = s->ingest_fd = s->trash_fd = -1;
	s->root = strdup(root);
	r = s->root ? open_folders(s, f) : fault_sys(f, ENOMEM, "open the store", root);
	for (size_t i = 0; !r && parts[i].open; i++) {
		r = parts[i].open(s, f);
		s->n_parts += !r;
	}
	if (r < 0) {
		store_close(s);
		return r;
	}
	*out = s;
	return 0;
}

const char *store_notice(const struct store *s)
{
	return s->notice;
}

void store_close(struct store *s)
{
	if (!s)
		return;
	while (s->n_parts)
		if (parts[--s->n_parts].close)
			parts[s->n_parts].close(s);
	fd_close(&s->content_fd);
	fd_close(&s->blobs_fd);
	fd_close(&s->ingest_fd);
	fd_close(&s->trash_fd);
	free(s->root);
	free(s);
}
