// SPDX-License-Identifier: Apache-2.0
/*
 * Labels of containers and namespaces: a small map of text to text
 */
#pragma once

#include <msgpack.h>
#include <stdbool.h>
#include <stddef.h>

#include "ipc/request.h"
#include "store/db.h"

struct labels {
	struct db_label *v; /* in the order they were set */
	size_t n;
};

void labels_clear(struct labels *l);
int labels_copy(struct labels *to, const struct db_label *v, size_t n);
/*
 * An empty value removes the label, as containerd has it. 0, -ENOMEM, -E2BIG when there would be
 * more than LIMIT_LABELS.
 */
int labels_set(struct labels *l, const char *key, size_t key_size, const char *value,
	       size_t value_size);
/* Sets each of a msgpack map, which the dispatcher has checked (IPC_LABELS). */
int labels_set_mp(struct labels *l, const msgpack_object *map);
/*
 * What an update's mask says about `labels`: without a mask, or with "labels" in it, all are
 * replaced by those of `given`; with "labels.KEY" that one is taken from `given`, or removed when
 * it is not there. given may be NULL.
 */
int labels_update(struct labels *l, const msgpack_object *given, const char *const *mask,
		  size_t n_mask);
/* The same with the arguments `mask` and `labels` of the request, to a copy of these. */
struct labels_change {
	struct ipc_request *req;
	struct labels labels; /* to be cleared */
	int result; /* 0, or as above */
};
void labels_change(struct labels_change *c, const struct db_label *v, size_t n);
/* The fault of a negative result of the above; returns r. */
int labels_fault(int r, struct fault *f);
/* Answers what a negative result of the above means. */
void labels_refuse(struct ipc_request *req, int r);
const char *labels_get(const struct db_label *v, size_t n, const char *key); /* NULL for none */
void labels_pack(msgpack_packer *pk, const struct db_label *v, size_t n); /* the map */
/* A filter's field path behind "labels": path[0..n) joined by dots is the key. */
bool labels_field(const struct db_label *v, size_t n_labels, const char *const *path, size_t n,
		  const char **value);
