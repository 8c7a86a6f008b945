// SPDX-License-Identifier: Apache-2.0
/*
 * Where a dump's blobs go: ingests of the content store
 *
 * Called by the write pool's threads, several blobs at a time. Each blob has an ingest under a ref of
 * its own; what is finished is noted in the checkpoint's list, under its lock.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/ckpt_internal.h"
#include "store/content.h"
#include "util/cleanup.h"

struct sink_blob {
	struct ckpt *ck;
	struct ingest *ingest;
	enum capture_kind kind;
	char *file;
};

static int sink_open(void *user, enum capture_kind kind, const char *file, void **out,
		     struct fault *f)
{
	struct ckpt *ck = user;
	struct sink_blob *b = calloc(1, sizeof(*b));
	CLEANUP_FREE char *ref = NULL;
	struct store_call c = ck->call;
	int r;

	if (b)
		b->file = strdup(file);
	/* never one of an earlier dump, which would be gone on with */
	if (!b || !b->file ||
	    asprintf(&ref, CRIU_INGEST "%s-%llx-%s", ck->id,
		     (unsigned long long)ck->record.created_at, *file ? file : "files") < 0) {
		ref = NULL;
		r = fault_sys(f, ENOMEM, "write", file);
	} else {
		c.f = f;
		c.events = NULL;
		c.durable_later = true;
		r = ingest_open(&c, ref, NULL, -1, &b->ingest);
	}
	if (r < 0) {
		if (b)
			free(b->file);
		free(b);
		return r;
	}
	b->ck = ck;
	b->kind = kind;
	*out = b;
	return 0;
}

static int sink_write(void *blob, const void *data, size_t size, struct fault *f)
{
	return ingest_write(((struct sink_blob *)blob)->ingest, data, size, f);
}

static void blob_free(struct sink_blob *b)
{
	ingest_discard(b->ingest);
	free(b->file);
	free(b);
}

static void sink_discard(void *blob)
{
	blob_free(blob);
}

int ckpt_blob_add(struct ckpt *ck, const struct ckpt_blob *blob, struct fault *f)
{
	struct ckpt_blob *grown;

	pthread_mutex_lock(&ck->lock);
	grown = reallocarray(ck->blobs, ck->n_blobs + 1, sizeof(*grown));
	if (grown) {
		ck->blobs = grown;
		grown[ck->n_blobs++] = *blob;
	}
	pthread_mutex_unlock(&ck->lock);
	return grown ? 0 : fault_sys(f, ENOMEM, "keep", "a blob");
}

/* Events of several threads, one after the other. */
static void join_events(struct ckpt *ck, struct store_events *e)
{
	if (!e->first)
		return;
	pthread_mutex_lock(&ck->lock);
	*ck->events.last = e->first;
	ck->events.last = e->last;
	pthread_mutex_unlock(&ck->lock);
	store_events_init(e);
}

static int sink_finish(void *blob, uint64_t size, struct fault *f)
{
	struct sink_blob *b = blob;
	struct ckpt_blob done = { .kind = b->kind, .file_size = size };
	struct store_call c = b->ck->call;
	struct store_events events;
	int r;

	store_events_init(&events);
	c.events = &events;
	c.f = f;
	c.durable_later = true; /* with the image's record */
	done.size = ingest_offset(b->ingest);
	r = ingest_commit(&c, b->ingest, -1, NULL, NULL, 0, &done.digest);
	if (r < 0 && r != -EEXIST) {
		store_events_clear(&events);
		return r; /* discard follows */
	}
	b->ingest = NULL;
	join_events(b->ck, &events);
	done.file = b->file;
	r = ckpt_blob_add(b->ck, &done, f);
	if (r < 0)
		return r;
	b->file = NULL;
	blob_free(b);
	return 0;
}

struct capture_sink ckpt_sink(struct ckpt *ck)
{
	return (struct capture_sink){
		.user = ck,
		.open = sink_open,
		.write = sink_write,
		.finish = sink_finish,
		.discard = sink_discard,
	};
}
