// SPDX-License-Identifier: Apache-2.0
/*
 * Namespaces
 *
 * A namespace is a name with labels, under which everything else is filed. The table here is the
 * truth for readers; the store thread writes it down. There are two ways to make one:
 * namespaces.create, which answers when it is written down and is not seen before; and the first
 * request that names it, which must not wait: it is there at once and is written down behind the
 * caller's back. Should that fail it is logged and no more, since a container's record names its
 * namespace, and loading it makes the namespace again.
 *
 * Changes of one namespace come one after the other (change.h). One that cannot be followed by its
 * event, because the journal cannot be written, is undone in the database and answers the error.
 */
#include "core/namespace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/change.h"
#include "core/container.h"
#include "core/events.h"
#include "core/labels.h"
#include "core/reactor.h"
#include "ipc/request.h"
#include "runtime/cgroup.h"
#include "store/store.h"
#include "util/container_of.h"
#include "util/limits.h"
#include "util/log.h"
#include "util/mp.h"
#include "util/worker.h"

struct namespace
{
	RB_ENTRY(namespace) node;
	struct labels labels;
	size_t users;
	struct change_queue changes;
	bool live; /* seen by readers */
	bool deleting;
	bool gone; /* out of the table; freed with its last change */
	char name[];
};
RB_HEAD(namespace_tree, namespace);

struct namespaces {
	struct namespace_tree tree;
	size_t count;
};

enum ns_kind { NS_TOUCH, NS_CREATE, NS_UPDATE, NS_DELETE };

struct ns_change {
	struct change change;
	struct worker_job job;
	struct davit *d;
	struct namespace *ns;
	struct ipc_request *req; /* NULL for NS_TOUCH */
	enum ns_kind kind;
	bool undo;
	struct labels labels; /* as they shall be */
	int result;
	struct fault fault;
};

static int namespace_cmp(const struct namespace *a, const struct namespace *b)
{
	return strcmp(a->name, b->name);
}

RB_GENERATE_INTERNAL(namespace_tree, namespace, node, namespace_cmp, static __attribute__((unused)))

/* ---- the table */

struct namespace *namespace_find(struct davit *d, const char *name)
{
	struct namespace *ns = RB_ROOT(&d->namespaces->tree);

	while (ns) {
		int c = strcmp(name, ns->name);

		if (!c)
			return ns;
		ns = c < 0 ? RB_LEFT(ns, node) : RB_RIGHT(ns, node);
	}
	return NULL;
}

static struct namespace *namespace_add(struct davit *d, const char *name)
{
	size_t n = strlen(name) + 1;
	struct namespace *ns = calloc(1, sizeof(*ns) + n);

	if (!ns)
		return NULL;
	memcpy(ns->name, name, n);
	STAILQ_INIT(&ns->changes);
	RB_INSERT(namespace_tree, &d->namespaces->tree, ns);
	d->namespaces->count++;
	return ns;
}

static void namespace_free(struct namespace *ns)
{
	labels_clear(&ns->labels);
	free(ns);
}

static void namespace_remove(struct davit *d, struct namespace *ns)
{
	RB_REMOVE(namespace_tree, &d->namespaces->tree, ns);
	d->namespaces->count--;
	ns->live = false;
	ns->gone = true;
}

struct namespace *namespace_load(struct davit *d, const char *name)
{
	struct namespace *ns = namespace_find(d, name);

	if (!ns)
		ns = namespace_add(d, name);
	if (ns)
		ns->live = true;
	return ns;
}

const char *namespace_name(const struct namespace *ns)
{
	return ns->name;
}

void namespace_use(struct namespace *ns)
{
	ns->users++;
}

void namespace_unuse(struct namespace *ns)
{
	ns->users--;
}

bool namespace_empty(struct davit *d, const char *name)
{
	struct namespace *ns = namespace_find(d, name);

	return !ns || !ns->users;
}

size_t namespaces_count(const struct davit *d)
{
	return d->namespaces->count;
}

void namespaces_each(struct davit *d, void (*fn)(void *user, const char *name), void *user)
{
	struct namespace *ns;

	RB_FOREACH (ns, namespace_tree, &d->namespaces->tree)
		fn(user, ns->name);
}

static int load_one(void *user, const struct db_namespace *row)
{
	struct namespace *ns = namespace_load(user, row->name);

	return ns ? labels_copy(&ns->labels, row->labels, row->n_labels) : -ENOMEM;
}

int namespaces_new(struct davit *d)
{
	struct fault f = { 0 };
	int r;

	d->namespaces = calloc(1, sizeof(*d->namespaces));
	if (!d->namespaces)
		return -ENOMEM;
	RB_INIT(&d->namespaces->tree);
	r = db_namespace_each(d->db, load_one, d, &f);
	if (r < 0)
		log_error("the namespaces cannot be read: %s", f.message);
	return r;
}

void namespaces_free(struct davit *d)
{
	struct namespace *ns;

	if (!d->namespaces)
		return;
	while ((ns = RB_ROOT(&d->namespaces->tree))) {
		namespace_remove(d, ns);
		namespace_free(ns);
	}
	free(d->namespaces);
	d->namespaces = NULL;
}

/* ---- changes */

static int emit(struct davit *d, const char *name, const char *topic, const struct labels *labels)
{
	msgpack_sbuffer sb;
	msgpack_packer pk;
	int r;

	msgpack_sbuffer_init(&sb);
	mp_packer_init(&pk, &sb);
	msgpack_pack_map(&pk, labels ? 2 : 1);
	mp_pack_key_str(&pk, "name", name);
	if (labels) {
		mp_pack_key(&pk, "labels");
		labels_pack(&pk, labels->v, labels->n);
	}
	r = mp_failed(&sb) ? -ENOMEM : event_emit(d, name, topic, &sb);
	msgpack_sbuffer_destroy(&sb);
	return r;
}

static int change_emit(struct ns_change *c)
{
	switch (c->kind) {
	case NS_CREATE:
		return emit(c->d, c->ns->name, "/namespaces/create", &c->labels);
	case NS_UPDATE:
		return emit(c->d, c->ns->name, "/namespaces/update", &c->labels);
	case NS_DELETE:
		return emit(c->d, c->ns->name, "/namespaces/delete", NULL);
	case NS_TOUCH:
		break;
	}
	return 0;
}

/* With all that could be in it looked for in the same transaction. */
static int delete_row(struct ns_change *c)
{
	struct store_call call = { .store = c->d->store, .ns = c->ns->name, .f = &c->fault };
	int r = db_begin(c->d->db, DB_NORMAL, &c->fault);

	if (r < 0)
		return r;
	r = store_namespace_used(&call);
	if (r > 0) {
		fault_arg(&c->fault, "name");
		r = -ENOTEMPTY;
	} else if (!r) {
		r = db_namespace_delete(c->d->db, c->ns->name, &c->fault);
	}
	return db_end(c->d->db, r, &c->fault);
}

static void change_run(struct worker_job *job)
{
	struct ns_change *c = container_of(job, struct ns_change, job);
	bool undo = c->undo;
	/*
	 * ns->labels are safe to read here: only the change at the head of the queue, this one,
	 * would change them
	 */
	const struct labels *l = undo && c->kind != NS_CREATE ? &c->ns->labels : &c->labels;
	struct db_namespace row = { .name = c->ns->name, .labels = l->v, .n_labels = l->n };

	if (c->kind == NS_DELETE && !undo)
		c->result = delete_row(c);
	else if (undo && c->kind == NS_CREATE)
		c->result = db_namespace_delete(c->d->db, row.name, NULL);
	else
		c->result = db_namespace_put(c->d->db, &row, undo ? NULL : &c->fault);
}

static void namespace_pack(msgpack_packer *pk, const struct namespace *ns)
{
	msgpack_pack_map(pk, 2);
	mp_pack_key_str(pk, "name", ns->name);
	mp_pack_key(pk, "labels");
	labels_pack(pk, ns->labels.v, ns->labels.n);
}

static void reply_namespace(struct ipc_request *req, const struct namespace *ns)
{
	msgpack_packer *pk = ipc_reply_begin(req);

	msgpack_pack_map(pk, 1);
	mp_pack_key(pk, "namespace");
	namespace_pack(pk, ns);
	ipc_reply_end(req);
}

struct ns_prune {
	struct worker_job job;
	struct cgroup_host *host;
	char name[];
};

static void prune_run(struct worker_job *job)
{
	struct ns_prune *p = container_of(job, struct ns_prune, job);

	cgroup_prune(p->host, p->name);
}

static void prune_done(struct worker_job *job)
{
	free(container_of(job, struct ns_prune, job));
}

/* The folders of its cgroups go as well; should that fail they are only in the way of nobody. */
static void namespace_prune(struct davit *d, const char *name)
{
	size_t n = strlen(name) + 1;
	struct ns_prune *p = malloc(sizeof(*p) + n);

	if (!p)
		return;
	p->job = (struct worker_job){ .run = prune_run, .done = prune_done };
	p->host = d->cgroups;
	memcpy(p->name, name, n);
	worker_submit(d->workers, &p->job);
}

/* Applies what is committed, or takes back what failed, and answers. */
static void change_settle(struct ns_change *c)
{
	struct namespace *ns = c->ns;
	bool ok = c->result >= 0;

	switch (c->kind) {
	case NS_TOUCH:
		if (!ok)
			log_error("the namespace %s is not in the database: %s", ns->name,
				  c->fault.message);
		return;
	case NS_CREATE:
	case NS_UPDATE:
		if (ok) {
			struct labels old = ns->labels;

			ns->labels = c->labels;
			c->labels = old;
			ns->live = true;
			reply_namespace(c->req, ns);
			return;
		}
		if (c->kind == NS_CREATE) {
			if (ns->users)
				ns->live = true; /* something has moved in meanwhile */
			else
				namespace_remove(c->d, ns);
		}
		break;
	case NS_DELETE:
		ns->deleting = false;
		if (ok) {
			namespace_prune(c->d, ns->name);
			namespace_remove(c->d, ns);
			ipc_reply_empty(c->req);
			return;
		}
		break;
	}
	ipc_reply_fault(c->req, &c->fault);
}

static void change_finish(struct ns_change *c)
{
	struct namespace *ns = c->ns;

	change_remove(&ns->changes);
	labels_clear(&c->labels);
	free(c);
	if (!STAILQ_EMPTY(&ns->changes))
		change_next(&ns->changes);
	else if (ns->gone)
		namespace_free(ns);
}

static void change_done(struct worker_job *job)
{
	struct ns_change *c = container_of(job, struct ns_change, job);

	reactor_stored(c->d);
	if (c->undo) {
		/* the fault is that of the journal; that the undoing failed too is for the log */
		if (c->result < 0)
			log_error("the namespace %s: a change could not be undone in the database",
				  c->ns->name);
		c->result = -EIO;
	} else if (c->result >= 0) {
		int r = change_emit(c);

		if (r < 0) {
			fault_sys(&c->fault, -r, "write the event", "journal");
			c->undo = true;
			worker_submit(c->d->store_pool, &c->job);
			return;
		}
	}
	change_settle(c);
	change_finish(c);
}

static void change_start(struct change *change)
{
	struct ns_change *c = container_of(change, struct ns_change, change);
	struct namespace *ns = c->ns;
	int r = 0;

	if (ns->gone) {
		if (c->req)
			ipc_reply_error(c->req, FAULT_NOT_FOUND, "name",
					"there is no namespace '%s'", ns->name);
		change_finish(c);
		return;
	}
	if (c->kind == NS_DELETE) {
		if (ns->users) {
			ipc_reply_error(c->req, FAULT_FAILED_PRECONDITION, "name",
					"the namespace '%s' is not empty: it has %zu containers",
					ns->name, ns->users);
			change_finish(c);
			return;
		}
		ns->deleting = true;
	} else if (c->kind == NS_UPDATE) {
		size_t n;
		const char *const *mask = ipc_arg_strs(c->req, "mask", &n);

		r = labels_copy(&c->labels, ns->labels.v, ns->labels.n);
		if (r >= 0)
			r = labels_update(&c->labels, ipc_arg(c->req, "labels"), mask, n);
	}
	if (r < 0) {
		labels_refuse(c->req, r);
		change_finish(c);
		return;
	}
	worker_submit(c->d->store_pool, &c->job);
}

/* Takes its turn after the changes of ns that are under way. */
static int change_new(struct davit *d, struct namespace *ns, enum ns_kind kind,
		      struct ipc_request *req, struct ns_change **out)
{
	struct ns_change *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->change.start = change_start;
	c->job = (struct worker_job){ .run = change_run, .done = change_done };
	c->d = d;
	c->ns = ns;
	c->kind = kind;
	c->req = req;
	*out = c;
	return 0;
}

int namespace_touch(struct davit *d, const char *name)
{
	struct namespace *ns = namespace_find(d, name);
	struct ns_change *c;
	int r;

	if (ns)
		return ns->deleting ? -EBUSY : 0;
	if (d->namespaces->count >= LIMIT_NAMESPACES)
		return -E2BIG;
	ns = namespace_add(d, name);
	if (!ns)
		return -ENOMEM;
	ns->live = true;
	r = change_new(d, ns, NS_TOUCH, NULL, &c);
	if (r >= 0) {
		r = emit(d, name, "/namespaces/create", &ns->labels);
		if (r < 0)
			free(c);
	}
	if (r < 0) {
		namespace_remove(d, ns);
		namespace_free(ns);
		return r;
	}
	change_add(&ns->changes, &c->change);
	return 0;
}

/* ---- methods */

static void namespaces_create(struct ipc_request *req, void *user)
{
	struct davit *d = user;
	const char *name = ipc_arg_str(req, "name");
	struct namespace *ns;
	struct ns_change *c;
	int r;

	if (namespace_find(d, name)) {
		ipc_reply_error(req, FAULT_ALREADY_EXISTS, "name", "the namespace '%s' exists",
				name);
		return;
	}
	if (d->namespaces->count >= LIMIT_NAMESPACES) {
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, "name",
				"there are %u namespaces, the most there can be", LIMIT_NAMESPACES);
		return;
	}
	ns = namespace_add(d, name);
	r = ns ? change_new(d, ns, NS_CREATE, req, &c) : -ENOMEM;
	if (r >= 0) {
		r = labels_set_mp(&c->labels, ipc_arg(req, "labels"));
		if (r < 0) {
			labels_clear(&c->labels);
			free(c);
		}
	}
	if (r < 0) {
		if (ns) {
			namespace_remove(d, ns);
			namespace_free(ns);
		}
		labels_refuse(req, r);
		return;
	}
	change_add(&ns->changes, &c->change);
}

static struct namespace *find_live(struct davit *d, struct ipc_request *req)
{
	const char *name = ipc_arg_str(req, "name");
	struct namespace *ns = namespace_find(d, name);

	if (ns && ns->live && !ns->deleting)
		return ns;
	ipc_reply_error(req, FAULT_NOT_FOUND, "name", "there is no namespace '%s'", name);
	return NULL;
}

static void namespaces_get(struct ipc_request *req, void *user)
{
	struct namespace *ns = find_live(user, req);

	if (ns)
		reply_namespace(req, ns);
}

static void change_request(struct davit *d, struct ipc_request *req, enum ns_kind kind)
{
	struct namespace *ns = find_live(d, req);
	struct ns_change *c;

	if (!ns)
		return;
	if (change_new(d, ns, kind, req, &c) < 0) {
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL, "no memory");
		return;
	}
	change_add(&ns->changes, &c->change);
}

static void namespaces_update(struct ipc_request *req, void *user)
{
	size_t n;
	const char *const *mask = ipc_arg_strs(req, "mask", &n);

	for (size_t i = 0; i < n; i++) {
		if (strcmp(mask[i], "labels") && (strncmp(mask[i], "labels.", 7) || !mask[i][7])) {
			ipc_reply_error(
				req, FAULT_INVALID_ARGUMENT, "mask",
				"namespaces.update cannot change '%s', only labels and labels.KEY",
				mask[i]);
			return;
		}
	}
	change_request(user, req, NS_UPDATE);
}

static void namespaces_delete(struct ipc_request *req, void *user)
{
	change_request(user, req, NS_DELETE);
}

static bool namespace_field(void *user, const char *const *path, size_t n, const char **value)
{
	const struct namespace *ns = user;

	if (n == 1 && !strcmp(path[0], "name")) {
		*value = ns->name;
		return true;
	}
	if (n > 1 && !strcmp(path[0], "labels"))
		return labels_field(ns->labels.v, ns->labels.n, path + 1, n - 1, value);
	return false;
}

static void namespaces_list(struct ipc_request *req, void *user)
{
	struct davit *d = user;
	struct namespace *ns;
	struct ipc_list it;

	if (!ipc_list_begin(req, "namespaces", &it))
		return;
	RB_FOREACH (ns, namespace_tree, &d->namespaces->tree) {
		if (!ns->live || strcmp(ns->name, it.after) <= 0)
			continue;
		if (ipc_list_want(&it, ns->name, namespace_field, ns))
			namespace_pack(it.pk, ns);
		else if (it.full)
			break;
	}
	ipc_list_end(&it);
}

static const struct ipc_param name_params[] = {
	{ .name = "name", .type = IPC_ID, .flags = IPC_REQUIRED, .doc = "its name" },
	{ 0 },
};
static const struct ipc_param label_params[] = {
	{ .name = "name", .type = IPC_ID, .flags = IPC_REQUIRED, .doc = "its name" },
	{ .name = "labels",
	  .type = IPC_LABELS,
	  .doc = "labels; one with an empty value is left out, or removed" },
	{ 0 },
};
static const struct ipc_field namespace_result[] = {
	{ "namespace", "map", "name, labels" },
	{ 0 },
};
static const struct ipc_field list_result[] = {
	{ "namespaces", "list", "of maps: name, labels" },
	{ "next", "str", "what to give as `after` for those that follow, when there are more" },
	{ 0 },
};

const struct ipc_method namespace_methods[] = {
	{ "namespaces.create", "Makes a namespace", IPC_NO_NAMESPACE, label_params,
	  namespace_result, "already_exists", namespaces_create },
	{ "namespaces.get", "A namespace and its labels", IPC_NO_NAMESPACE, name_params,
	  namespace_result, "not_found", namespaces_get },
	{ "namespaces.update", "Changes labels", IPC_NO_NAMESPACE | IPC_UPDATES, label_params,
	  namespace_result, "not_found", namespaces_update },
	{ "namespaces.delete", "Removes a namespace that nothing is in", IPC_NO_NAMESPACE,
	  name_params, NULL, "not_found failed_precondition", namespaces_delete },
	{ "namespaces.list", "All namespaces in the order of their names",
	  IPC_NO_NAMESPACE | IPC_LISTS, NULL, list_result, NULL, namespaces_list },
	{ 0 },
};
