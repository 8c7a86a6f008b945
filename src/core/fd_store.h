// SPDX-License-Identifier: Apache-2.0
/*
 * The guardian's store of fds by key
 */
#pragma once

#include <bsd/sys/tree.h>
#include <stddef.h>

struct fd_item {
	RB_ENTRY(fd_item) node;
	int fd;
	char key[];
};
RB_HEAD(fd_tree, fd_item);

struct fd_store {
	struct fd_tree tree;
	size_t count;
};

void fd_store_init(struct fd_store *s);
void fd_store_clear(struct fd_store *s);
/* Takes fd over, also when it fails (-ENOMEM). A key that exists is replaced. */
int fd_store_put(struct fd_store *s, const char *key, int fd);
void fd_store_drop(struct fd_store *s, const char *key);
void fd_store_drop_prefix(struct fd_store *s, const char *prefix);
/* The first item behind this key in order; "" for the first of all. NULL at the end. */
struct fd_item *fd_store_after(struct fd_store *s, const char *key);
