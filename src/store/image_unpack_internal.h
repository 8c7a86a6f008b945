// SPDX-License-Identifier: Apache-2.0
/*
 * Unpacking, inside: layers on their way into snapshots
 */
#pragma once

#include "store/image_internal.h"
#include "store/snapshot.h"

struct unpack_layer {
	const struct oci_descriptor *d; /* borrowed */
	enum layer_compression compression;
	struct digest diff_id, chain;
	char key[160]; /* of the active snapshot; "" for none */
	int folder; /* its files, or the committed one's; -1 */
	struct layer_result result;
	/* of the thread that applies it */
	bool done;
	int r;
	struct fault fault;
};

struct unpack {
	struct store_call *c;
	const char *snapshotter;
	struct unpack_layer *v;
	size_t n;
	size_t first; /* those before it are committed */
	bool refill; /* and those from it on too, but without files */
};

/* The layers from first on: all committed, or those made for it are removed again. */
int unpack_one_by_one(struct unpack *u);
int unpack_side_by_side(struct unpack *u);

/* ---- image_unpack.c */
/* An active snapshot for one layer. parent: "" for none. */
int unpack_prepare(struct unpack *u, struct unpack_layer *l, const char *parent);
/* Reads the layer into its folder and compares its diff_id. On any thread. */
int unpack_apply(struct store_call *c, struct unpack_layer *l, enum layer_target target);
/*
 * Makes it the committed one of its chain id, or takes the one that somebody else has made; or gives
 * it its files again.
 */
int unpack_commit(struct unpack *u, struct unpack_layer *l);
/* What is still active goes. */
void unpack_discard(struct unpack *u);
