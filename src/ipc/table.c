// SPDX-License-Identifier: Apache-2.0
/*
 * Method tables made ready for lookup
 *
 * Rows are borrowed and never copied. For each there is an entry with the whole list of its
 * parameters: its own first, then those that its flags add. An argument's place in that list is
 * where a request keeps it. Names are found by a hash table that grows with what is added.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/internal.h"
#include "util/cleanup.h"
#include "util/limits.h"

static const struct ipc_param common_params[] = {
	{ "namespace", IPC_ID, 0, 0, 0, "default", "namespace of the objects; made on first use" },
	{ "lease", IPC_ID, 0, 0, 0, NULL,
	  "lease that keeps what the call makes from being collected" },
	{ "timeout", IPC_INT, 0, 0, INT64_MAX, NULL,
	  "nanoseconds after which the call answers deadline_exceeded; 0 for none" },
	{ NULL, IPC_ANY, 0, 0, 0, NULL, NULL },
};

static const struct ipc_param open_params[] = {
	{ "namespace", IPC_ID, 0, 0, 0, NULL, "namespace; all when it is left out" },
	{ "lease", IPC_ID, 0, 0, 0, NULL,
	  "lease that keeps what the call makes from being collected" },
	{ "timeout", IPC_INT, 0, 0, INT64_MAX, NULL,
	  "nanoseconds after which the call answers deadline_exceeded; 0 for none" },
	{ NULL, IPC_ANY, 0, 0, 0, NULL, NULL },
};

static const struct ipc_param list_params[] = {
	{ "filters", IPC_STRS, 0, 0, 0, NULL, "an entry that matches any of them is listed" },
	{ "limit", IPC_INT, 0, 0, INT64_MAX, NULL,
	  "most entries to answer; 0 or more than a full page: a full page" },
	{ "after", IPC_STR, 0, 0, 0, NULL,
	  "only entries behind this key: `next` of the page before" },
	{ "fields", IPC_STRS, 0, 0, 0, NULL, "only these fields of each entry" },
	{ NULL, IPC_ANY, 0, 0, 0, NULL, NULL },
};

static const struct ipc_param update_params[] = {
	{ "mask", IPC_STRS, 0, 0, 0, NULL,
	  "field paths to set; without it every given field is set" },
	{ NULL, IPC_ANY, 0, 0, 0, NULL, NULL },
};

static uint32_t hash_name(const char *p, size_t n)
{
	uint32_t h = 2166136261u; /* FNV-1a */

	for (size_t i = 0; i < n; i++)
		h = (h ^ (uint8_t)p[i]) * 16777619u;
	return h;
}

struct ipc_entry *ipc_table_find(const struct ipc_table *t, const char *name, size_t size)
{
	uint32_t hash;

	if (!t->n_buckets)
		return NULL;
	hash = hash_name(name, size);
	for (struct ipc_entry *e = t->buckets[hash & (t->n_buckets - 1)]; e; e = e->next)
		if (e->hash == hash && e->name_size == size && !memcmp(e->method->name, name, size))
			return e;
	return NULL;
}

int ipc_entry_param(const struct ipc_entry *e, const char *name, size_t size)
{
	for (uint32_t i = 0; i < e->n_params; i++) {
		const char *have = e->params[i]->name;

		/* the name given may have NUL bytes in it */
		if (strnlen(have, size + 1) == size && !memcmp(have, name, size))
			return (int)i;
	}
	return -1;
}

static bool has(const struct ipc_param *rows, const char *name)
{
	for (; rows && rows->name; rows++)
		if (!strcmp(rows->name, name))
			return true;
	return false;
}

/* A method's own parameter stands in place of a common one of that name. */
static void append(struct ipc_entry *e, const struct ipc_param *rows)
{
	for (; rows->name; rows++)
		if (!has(e->method->params, rows->name))
			e->params[e->n_params++] = rows;
}

static size_t count(const struct ipc_param *rows)
{
	size_t n = 0;

	while (rows && rows[n].name)
		n++;
	return n;
}

static int gather(struct ipc_entry *e)
{
	const struct ipc_method *m = e->method;

	for (const struct ipc_param *p = m->params; p && p->name; p++) {
		if (has(p + 1, p->name))
			return -EEXIST;
		e->params[e->n_params++] = p;
	}
	e->n_own = e->n_params;
	if (m->flags & IPC_UPDATES)
		append(e, update_params);
	if (m->flags & IPC_LISTS)
		append(e, list_params);
	append(e, m->flags & IPC_NO_NAMESPACE ? open_params : common_params);
	return 0;
}

static int grow(struct ipc_table *t)
{
	size_t n = t->n_buckets ? t->n_buckets * 2 : 64;
	struct ipc_entry **buckets = calloc(n, sizeof(struct ipc_entry *));

	if (!buckets)
		return -ENOMEM;
	for (size_t i = 0; i < t->n_buckets; i++) {
		struct ipc_entry *e, *next;

		for (e = t->buckets[i]; e; e = next) {
			next = e->next;
			e->next = buckets[e->hash & (n - 1)];
			buckets[e->hash & (n - 1)] = e;
		}
	}
	free(t->buckets);
	t->buckets = buckets;
	t->n_buckets = n;
	return 0;
}

static int add_row(struct ipc_table *t, const struct ipc_method *m, void *user, bool exempt)
{
	CLEANUP_FREE struct ipc_entry *e = NULL;
	size_t size = strlen(m->name), most;
	int r;

	if (ipc_table_find(t, m->name, size))
		return -EEXIST;
	if (t->n >= t->n_buckets && (r = grow(t)))
		return r;
	most = count(m->params) + count(update_params) + count(list_params) + count(common_params);
	e = calloc(1, sizeof(*e) + most * sizeof(void *));
	if (!e)
		return -ENOMEM;
	e->params = (const struct ipc_param **)(e + 1);
	e->method = m;
	e->user = user;
	r = gather(e);
	if (r)
		return r;
	e->at_namespace = ipc_entry_param(e, "namespace", strlen("namespace"));
	e->at_timeout = ipc_entry_param(e, "timeout", strlen("timeout"));
	e->exempt = exempt;
	e->name_size = (uint32_t)size;
	e->hash = hash_name(m->name, size);
	e->next = t->buckets[e->hash & (t->n_buckets - 1)];
	t->buckets[e->hash & (t->n_buckets - 1)] = e;
	t->n++;
	e = NULL; /* the table's */
	return 0;
}

int ipc_table_add(struct ipc_table *t, const struct ipc_method *rows, void *user, bool exempt)
{
	for (; rows->name; rows++) {
		int r = add_row(t, rows, user, exempt);

		if (r)
			return r;
	}
	return 0;
}

void ipc_table_clear(struct ipc_table *t)
{
	for (size_t i = 0; i < t->n_buckets; i++) {
		struct ipc_entry *e;

		while ((e = t->buckets[i])) {
			t->buckets[i] = e->next;
			free(e);
		}
	}
	free(t->buckets);
	memset(t, 0, sizeof(*t));
}
