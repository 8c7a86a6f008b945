// SPDX-License-Identifier: Apache-2.0
/*
 * A store in a temporary folder, and calls on it
 */
#pragma once

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/content.h"
#include "store/store_internal.h"
#include "util/fd.h"
#include "util/tree.h"

struct kit {
	char path[64];
	int root_fd;
	struct db *db;
	struct store *s;
	struct store_call c; /* of the namespace `default` */
	struct store_events events;
	struct fault f;
};

static inline void kit_open(struct kit *k)
{
	struct fault f = { 0 };

	k->root_fd = open(k->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(k->root_fd >= 0);
	if (db_open(&k->db, k->path, &f) < 0 ||
	    store_open(&k->s, k->root_fd, k->path, k->db, &f) < 0)
		fail_msg("%s", f.message);
	store_events_init(&k->events);
	k->c = (struct store_call){
		.store = k->s,
		.ns = "default",
		.events = &k->events,
		.f = &k->f,
	};
}

static inline void kit_close(struct kit *k)
{
	store_events_clear(&k->events);
	store_close(k->s);
	db_close(k->db);
	fd_close(&k->root_fd);
	k->s = NULL;
	k->db = NULL;
}

static inline int kit_setup(void **state)
{
	struct kit *k = calloc(1, sizeof(*k));

	assert_non_null(k);
	strcpy(k->path, "/tmp/test_store.XXXXXX");
	assert_non_null(mkdtemp(k->path));
	kit_open(k);
	*state = k;
	return 0;
}

static inline int kit_teardown(void **state)
{
	struct kit *k = *state;

	if (k->s)
		kit_close(k);
	assert_int_equal(tree_remove(AT_FDCWD, k->path, NULL), 0);
	free(k);
	return 0;
}

static inline struct store_call kit_call(struct kit *k, const char *ns)
{
	struct store_call c = k->c;

	c.ns = ns;
	return c;
}

/* A path below the store's root. */
static inline const char *kit_path(struct kit *k, char *to, size_t size, const char *name)
{
	snprintf(to, size, "%s/%s", k->path, name);
	return to;
}

#define OK(call)                                                                                   \
	do {                                                                                       \
		k->f = (struct fault){ 0 };                                                        \
		if ((call) < 0)                                                                    \
			fail_msg("%s:%d: %s: %s", __FILE__, __LINE__, #call, k->f.message);        \
	} while (0)

/* Fails with this errno, this code and this in its message. */
#define FAILS(call, err, with, part)                                                               \
	do {                                                                                       \
		k->f = (struct fault){ 0 };                                                        \
		assert_int_equal((call), err);                                                     \
		assert_string_equal(fault_code_name(k->f.code), fault_code_name(with));            \
		if (!strstr(k->f.message, part))                                                   \
			fail_msg("%s:%d: %s", __FILE__, __LINE__, k->f.message);                   \
	} while (0)

static inline size_t kit_events(struct kit *k, const char *topic)
{
	size_t n = 0;

	for (struct store_event *e = k->events.first; e; e = e->next)
		n += !strcmp(e->topic, topic);
	return n;
}

/* Text as a blob. */
static inline struct digest kit_put(struct kit *k, struct store_call *c, const char *text)
{
	struct digest d;

	OK(content_put(c, text, strlen(text), NULL, 0, &d));
	return d;
}
