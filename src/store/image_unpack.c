// SPDX-License-Identifier: Apache-2.0
/*
 * Unpacking an image: the snapshots of its layers
 *
 * A committed snapshot is named by its layer's chain id, so images share what they have in common,
 * and whatever is there already is used. One layer goes through an active snapshot with a key of its
 * own ("extract-…"), which is removed when something fails; a killed daemon leaves it to garbage
 * collection, since the lease that holds it is transient. Only whole layers are ever committed.
 *
 * Two who unpack the same image at the same time take turns. The second finds everything done. Different images with common layers
 * may do the same work twice; who commits last takes the other's snapshot.
 *
 * A snapshot whose files somebody has removed is filled again from its layer (snapshot_refill.c), if that
 * is there still.
 *
 * The snapshot of the last layer is kept by the label containerd.io/gc.ref.snapshot.SNAPSHOTTER of
 * the config, and its parents by being that.
 */
#include "store/image.h"

#include <bsd/sys/queue.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "store/image_unpack_internal.h"
#include "util/fd.h"
#include "util/limits.h"

/* ---- one layer */

int unpack_prepare(struct unpack *u, struct unpack_layer *l, const char *parent)
{
	struct db_label label = { IMAGE_SNAPSHOT_REF, l->chain.text };
	unsigned long long random;
	int r;

	if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return fault_sys(u->c->f, errno, "getrandom", NULL);
	snprintf(l->key, sizeof(l->key), "extract-%016llx %s", random, l->chain.text);
	r = snapshot_prepare(u->c, u->snapshotter, l->key, parent, &label, 1, NULL);
	if (r < 0) {
		*l->key = '\0';
		return r;
	}
	return snapshot_folder(u->c, u->snapshotter, l->key, &l->folder);
}

int unpack_apply(struct store_call *c, struct unpack_layer *l, enum layer_target target)
{
	CLEANUP_CLOSE int fd = -1;
	int r = content_open(c, l->d->digest.text, &fd, NULL);

	if (!r)
		r = layer_apply(c, fd, l->compression, l->folder, target, NULL, &l->result);
	if (r < 0) {
		fault_prefix(c->f, "the layer %s", l->d->digest.text);
		return r;
	}
	if (!strcmp(l->result.diff_id.text, l->diff_id.text))
		return 0;
	fault_set(c->f, FAULT_FAILED_PRECONDITION, 0,
		  "the layer %s unpacks to %s, but the config says %s", l->d->digest.text,
		  l->result.diff_id.text, l->diff_id.text);
	return -EBADMSG;
}

/* Removes the active one. */
static void drop(struct unpack *u, struct unpack_layer *l)
{
	struct store_call c = *u->c;
	struct fault f;

	if (!*l->key)
		return;
	/* whatever has gone wrong, this is still to be done; what is left is collected */
	c.cancel = NULL;
	c.f = &f;
	/* on a full disk only this makes room for what writes the removal down */
	if (l->folder >= 0)
		tree_empty(l->folder, NULL);
	snapshot_remove(&c, u->snapshotter, l->key);
	*l->key = '\0';
	fd_close(&l->folder);
}

static int refill(struct unpack *u, struct unpack_layer *l)
{
	int r = snapshot_refill(u->c, u->snapshotter, l->chain.text, l->key);

	if (r < 0)
		return r;
	/* not to be emptied: it may be the other's now */
	fd_close(&l->folder);
	drop(u, l);
	return 0;
}

int unpack_commit(struct unpack *u, struct unpack_layer *l)
{
	struct db_label label = { IMAGE_SNAPSHOT_REF, l->chain.text };
	int r;

	if (u->refill)
		return refill(u, l);
	r = snapshot_commit(u->c, u->snapshotter, l->chain.text, l->key, &label, 1);
	if (!r) {
		*l->key = '\0';
		return 0;
	}
	if (u->c->f->code != FAULT_ALREADY_EXISTS)
		return r;
	drop(u, l);
	return snapshot_folder(u->c, u->snapshotter, l->chain.text, &l->folder);
}

void unpack_discard(struct unpack *u)
{
	/* the last first: an active one may have become the child of another */
	for (size_t i = u->n; i-- > 0;)
		drop(u, &u->v[i]);
}

/* Each over a copy, or the folders, of those before it. */
int unpack_one_by_one(struct unpack *u)
{
	int r = 0;

	for (size_t i = u->first; !r && i < u->n; i++) {
		struct unpack_layer *l = &u->v[i];

		r = unpack_prepare(u, l, i ? u->v[i - 1].chain.text : "");
		if (!r)
			r = unpack_apply(u->c, l, LAYER_MERGE);
		if (!r)
			r = unpack_commit(u, l);
		fd_close(&l->folder);
	}
	unpack_discard(u);
	return r;
}

/* ---- what there is to do */

static int ignore(void *user, const struct snapshot_info *info)
{
	*(bool *)user = !strcmp(info->kind, "committed");
	return 0;
}

/* Whether a chain's snapshot is there; then the lease holds it. 1, 0 or negative. */
static int have(struct unpack *u, const struct digest *chain)
{
	struct store_call *c = u->c;
	CLEANUP_FREE char *type = NULL;
	bool committed = false;
	int r;

	if (asprintf(&type, LEASE_SNAPSHOTS "%s", u->snapshotter) < 0) {
		type = NULL;
		return image_no_memory(c->f);
	}
	r = db_begin(c->store->db, DB_FULL, c->f);
	if (r < 0)
		return r;
	r = snapshot_stat(c, u->snapshotter, chain->text, ignore, &committed);
	if (r == -ENOENT)
		r = 0;
	if (!r && committed)
		r = lease_join(c, type, chain->text);
	r = db_end(c->store->db, r, c->f);
	return r < 0 ? r : committed;
}

static int add_layers(struct unpack *u, const struct oci_document *doc,
		      const struct oci_config *config)
{
	int r = 0;

	u->v = calloc(config->n + 1, sizeof(*u->v));
	if (!u->v)
		return image_no_memory(u->c->f);
	for (; !r && u->n < config->n; u->n++) {
		struct unpack_layer *l = &u->v[u->n];

		l->d = &doc->children[u->n];
		l->folder = -1;
		l->diff_id = config->diff_ids[u->n];
		r = layer_media_type(l->d->media_type, &l->compression, u->c->f);
		if (!r &&
		    oci_chain_id(u->n ? &u->v[u->n - 1].chain : NULL, &l->diff_id, &l->chain) < 0)
			r = image_no_memory(u->c->f);
	}
	return r;
}

/* All that will be read has to be there before the first layer is. */
static int check_blobs(struct unpack *u, uint64_t *total)
{
	*total = 0;
	for (size_t i = u->first; i < u->n; i++) {
		const struct oci_descriptor *d = u->v[i].d;
		int r = content_has(u->c, d->digest.text);

		if (r < 0)
			return r;
		if (!r) {
			fault_set(u->c->f, FAULT_FAILED_PRECONDITION, 0,
				  "the layer %s is missing in the namespace '%s'", d->digest.text,
				  u->c->ns);
			return -ENOENT;
		}
		*total += d->size;
	}
	return 0;
}

static int unpack_range(struct unpack *u)
{
	uint64_t total;
	int r = check_blobs(u, &total);

	if (r < 0)
		return r;
	store_progress_phase(u->c->progress, "unpack", total);
	return snapshotter_is_overlay(u->snapshotter) ? unpack_side_by_side(u)
						      : unpack_one_by_one(u);
}

/* Of those before u->first, the ones that have lost their files; the lowest first. */
static int refill_lost(struct unpack *u)
{
	int r = snapshot_is_whole(u->c, u->snapshotter, u->v[u->first - 1].chain.text, true);

	if (r)
		return r < 0 ? r : 0;
	for (size_t i = 0; r >= 0 && i < u->first; i++) {
		struct unpack one = *u;

		one.first = i;
		one.n = i + 1;
		one.refill = true;
		r = snapshot_is_whole(u->c, u->snapshotter, u->v[i].chain.text, false);
		if (!r)
			r = unpack_range(&one);
		if (r < 0)
			fault_prefix(u->c->f, "the files of the snapshot %s are gone",
				     u->v[i].chain.text);
	}
	return r < 0 ? r : 0;
}

static int unpack_layers(struct unpack *u)
{
	int r = 0;

	/* the last that is there has all before it as parents */
	for (u->first = u->n; u->first; u->first--) {
		r = have(u, &u->v[u->first - 1].chain);
		if (r)
			break;
	}
	if (r > 0)
		r = refill_lost(u);
	if (r < 0 || u->first == u->n)
		return r < 0 ? r : 0;
	return unpack_range(u);
}

/* ---- one image at a time */

/*
 * Threads of this process alone unpack, so a list that the store keeps is enough: who finds its config
 * there waits until somebody takes one out.
 */
struct unpacking {
	LIST_ENTRY(unpacking) link;
	const char *ns, *digest, *snapshotter;
};

struct unpackings {
	pthread_mutex_t lock;
	pthread_cond_t left;
	LIST_HEAD(, unpacking) list;
};

int unpackings_open(struct store *s, struct fault *f)
{
	s->unpackings = calloc(1, sizeof(*s->unpackings));
	if (!s->unpackings)
		return image_no_memory(f);
	pthread_mutex_init(&s->unpackings->lock, NULL);
	pthread_cond_init(&s->unpackings->left, NULL);
	LIST_INIT(&s->unpackings->list);
	return 0;
}

void unpackings_close(struct store *s)
{
	pthread_mutex_destroy(&s->unpackings->lock);
	pthread_cond_destroy(&s->unpackings->left);
	free(s->unpackings);
	s->unpackings = NULL;
}

static bool is_unpacking(const struct unpackings *all, const struct unpacking *one)
{
	struct unpacking *other;

	LIST_FOREACH (other, &all->list, link)
		if (!strcmp(other->ns, one->ns) && !strcmp(other->digest, one->digest) &&
		    !strcmp(other->snapshotter, one->snapshotter))
			return true;
	return false;
}

/* Waits for its turn; a second now and then to see whether anybody still wants it. */
static int enter(struct store_call *c, struct unpacking *one)
{
	struct unpackings *all = c->store->unpackings;
	struct timespec until;
	int r = 0;

	pthread_mutex_lock(&all->lock);
	while (!r && is_unpacking(all, one)) {
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec++;
		pthread_cond_timedwait(&all->left, &all->lock, &until);
		r = store_cancelled(c);
	}
	if (!r)
		LIST_INSERT_HEAD(&all->list, one, link);
	pthread_mutex_unlock(&all->lock);
	return r;
}

static void leave(struct store_call *c, struct unpacking *one)
{
	struct unpackings *all = c->store->unpackings;

	pthread_mutex_lock(&all->lock);
	LIST_REMOVE(one, link);
	pthread_cond_broadcast(&all->left);
	pthread_mutex_unlock(&all->lock);
}

static int set_labels(struct unpack *u, const char *config)
{
	struct store_call *c = u->c;
	CLEANUP_FREE char *key = NULL;
	int r;

	if (asprintf(&key, IMAGE_GC_SNAPSHOT "%s", u->snapshotter) < 0) {
		key = NULL;
		return image_no_memory(c->f);
	}
	r = db_begin(c->store->db, DB_FULL, c->f);
	if (r < 0)
		return r;
	r = content_set_label(c, config, key, u->v[u->n - 1].chain.text);
	for (size_t i = u->first; !r && i < u->n; i++)
		r = content_set_label(c, u->v[i].d->digest.text, IMAGE_UNCOMPRESSED,
				      u->v[i].diff_id.text);
	return db_end(c->store->db, r, c->f);
}

static void unpack_clear(struct unpack *u)
{
	for (size_t i = 0; i < u->n; i++) {
		fd_close(&u->v[i].folder);
		layer_result_clear(&u->v[i].result);
	}
	free(u->v);
}

static int unpack_manifest(struct unpack *u, const struct oci_descriptor *manifest,
			   const struct oci_document *doc, struct digest *chain)
{
	struct unpacking one = { .ns = u->c->ns,
				 .digest = doc->config.digest.text,
				 .snapshotter = u->snapshotter };
	struct oci_config config;
	int r = image_config(u->c, manifest, doc, &config);

	if (r < 0)
		return r;
	r = enter(u->c, &one);
	if (r < 0) {
		oci_config_clear(&config);
		return r;
	}
	r = add_layers(u, doc, &config);
	if (!r)
		r = unpack_layers(u);
	if (!r && u->n) {
		r = set_labels(u, doc->config.digest.text);
		*chain = u->v[u->n - 1].chain;
	}
	unpack_clear(u);
	leave(u->c, &one);
	oci_config_clear(&config);
	return r;
}

static int unpack_target(struct unpack *u, const struct oci_descriptor *target, const char *wanted,
			 struct digest *chain)
{
	struct oci_platform platform;
	struct oci_descriptor manifest;
	struct oci_document doc;
	int r = oci_platform_parse(&platform, wanted, u->c->f);

	if (r < 0)
		return r;
	r = image_manifest(u->c, target, &platform, &manifest, &doc);
	if (!r && wanted && *wanted)
		r = image_is_for(u->c, &manifest, &doc, &platform, NULL, NULL);
	oci_platform_clear(&platform);
	if (!r)
		r = unpack_manifest(u, &manifest, &doc, chain);
	oci_document_clear(&doc);
	oci_descriptor_clear(&manifest);
	return r;
}

int image_unpack(struct store_call *c, const char *name, const char *platform,
		 const char *snapshotter, struct digest *chain)
{
	struct unpack u = { .c = c };
	struct oci_descriptor target;
	struct lease_hold hold;
	int r = snapshotter_name(c->store, snapshotter, &u.snapshotter, c->f);

	*chain->text = '\0';
	if (!r)
		r = lease_hold(c, &hold);
	if (r < 0)
		return r;
	r = image_target(c, name, &target);
	if (!r) {
		r = unpack_target(&u, &target, platform, chain);
		oci_descriptor_clear(&target);
	}
	if (r < 0)
		fault_prefix(c->f, "%.512s", name);
	lease_release(c, &hold);
	return r;
}
