// SPDX-License-Identifier: Apache-2.0
/*
 * Options of tasks.checkpoint
 *
 * A table says which member takes which type and where it goes; what it does not know is refused, so
 * that no option is ever read and ignored.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/ckpt_internal.h"
#include "util/cleanup.h"
#include "util/mp.h"

enum option {
	OPT_EXIT,
	OPT_LEAVE_RUNNING,
	OPT_OPEN_TCP,
	OPT_UNIX,
	OPT_TERMINAL,
	OPT_LOCKS,
	OPT_REMAP,
	OPT_EMPTY,
	OPT_CGROUPS,
	OPT_NETWORK_LOCK,
	OPT_IMAGE_PATH,
	OPT_WORK_PATH,
	OPT_COMPRESSION,
	OPT_LEVEL,
	OPT_STALL,
	OPTIONS,
};
static const char *const names[OPTIONS] = {
	[OPT_EXIT] = "exit",
	[OPT_LEAVE_RUNNING] = "leave_running",
	[OPT_OPEN_TCP] = "open_tcp",
	[OPT_UNIX] = "external_unix_sockets",
	[OPT_TERMINAL] = "terminal",
	[OPT_LOCKS] = "file_locks",
	[OPT_REMAP] = "link_remap",
	[OPT_EMPTY] = "empty_namespaces",
	[OPT_CGROUPS] = "cgroups_mode",
	[OPT_NETWORK_LOCK] = "network_lock",
	[OPT_IMAGE_PATH] = "image_path",
	[OPT_WORK_PATH] = "work_path",
	[OPT_COMPRESSION] = "compression",
	[OPT_LEVEL] = "level",
	[OPT_STALL] = "stall_timeout",
};

static const char *const cgroups_modes[] = { "ignore", "none", "props", "soft", "full", "strict" };
static const char *const network_locks[] = { "iptables", "nftables", "skip" };
/* criu's words for what the runtime-spec calls them */
static const struct {
	const char *name, *criu;
} namespaces[] = {
	{ "network", "net" },
	{ "net", "net" },
};

void ckpt_options_clear(struct ckpt_options *o)
{
	for (size_t i = 0; i < o->n_empty; i++)
		free(o->empty_namespaces[i]);
	free(o->empty_namespaces);
	free(o->cgroups_mode);
	free(o->network_lock);
	free(o->image_path);
	free(o->work_path);
	memset(o, 0, sizeof(*o));
}

static int wrong(struct fault *f, const char *name, const char *what)
{
	fault_set(f, FAULT_INVALID_ARGUMENT, 0, "options.%s %s", name, what);
	fault_arg(f, "options");
	return -EINVAL;
}

static int take_bool(const msgpack_object *v, const char *name, bool *to, struct fault *f)
{
	if (v->type != MSGPACK_OBJECT_BOOLEAN)
		return wrong(f, name, "must be a bool");
	*to = v->via.boolean;
	return 0;
}

static int take_str(const msgpack_object *v, const char *name, char **to, struct fault *f)
{
	free(*to);
	*to = mp_strdup(v);
	if (*to)
		return 0;
	return errno == ENOMEM ? fault_sys(f, ENOMEM, "read", name)
			       : wrong(f, name, "must be a str");
}

static int take_path(const msgpack_object *v, const char *name, char **to, struct fault *f)
{
	int r = take_str(v, name, to, f);

	return !r && **to != '/' ? wrong(f, name, "must be an absolute path") : r;
}

static int take_word(const msgpack_object *v, const char *name, char **to, const char *const *words,
		     size_t n, struct fault *f)
{
	int r = take_str(v, name, to, f);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		if (!strcmp(*to, words[i]))
			return 0;
	return wrong(f, name, "has an unknown value");
}

static int take_empty(struct ckpt_options *o, const msgpack_object *v, struct fault *f)
{
	const char *name = names[OPT_EMPTY];

	if (v->type != MSGPACK_OBJECT_ARRAY)
		return wrong(f, name, "must be a list of str");
	o->empty_namespaces = calloc(v->via.array.size + 1, sizeof(char *));
	if (!o->empty_namespaces)
		return fault_sys(f, ENOMEM, "read", name);
	for (uint32_t i = 0; i < v->via.array.size; i++) {
		const char *criu = NULL;

		for (size_t k = 0; k < ARRAY_SIZE(namespaces); k++)
			if (mp_eq(&v->via.array.ptr[i], namespaces[k].name))
				criu = namespaces[k].criu;
		if (!criu)
			return wrong(f, name, "can have \"network\" only");
		o->empty_namespaces[o->n_empty] = strdup(criu);
		if (!o->empty_namespaces[o->n_empty++])
			return fault_sys(f, ENOMEM, "read", name);
	}
	return 0;
}

static int take_compression(struct ckpt_options *o, const msgpack_object *v, struct fault *f)
{
	if (mp_eq(v, "zstd"))
		o->compress = true;
	else if (mp_eq(v, "none"))
		o->compress = false;
	else
		return wrong(f, names[OPT_COMPRESSION], "must be \"zstd\" or \"none\"");
	return 0;
}

static int take(struct ckpt_options *o, enum option option, const msgpack_object *v, bool *running,
		struct fault *f)
{
	const char *name = names[option];
	int64_t n;

	switch (option) {
	case OPT_EXIT:
		return take_bool(v, name, &o->exit, f);
	case OPT_LEAVE_RUNNING:
		return take_bool(v, name, running, f);
	case OPT_OPEN_TCP:
		return take_bool(v, name, &o->open_tcp, f);
	case OPT_UNIX:
		return take_bool(v, name, &o->external_unix_sockets, f);
	case OPT_TERMINAL:
		return take_bool(v, name, &o->terminal, f);
	case OPT_LOCKS:
		return take_bool(v, name, &o->file_locks, f);
	case OPT_REMAP:
		return take_bool(v, name, &o->link_remap, f);
	case OPT_EMPTY:
		return take_empty(o, v, f);
	case OPT_CGROUPS:
		return take_word(v, name, &o->cgroups_mode, cgroups_modes,
				 ARRAY_SIZE(cgroups_modes), f);
	case OPT_NETWORK_LOCK:
		return take_word(v, name, &o->network_lock, network_locks,
				 ARRAY_SIZE(network_locks), f);
	case OPT_IMAGE_PATH:
		return take_path(v, name, &o->image_path, f);
	case OPT_WORK_PATH:
		return take_path(v, name, &o->work_path, f);
	case OPT_COMPRESSION:
		return take_compression(o, v, f);
	case OPT_LEVEL:
		if (!mp_int(v, &n) || n < -7 || n > 19)
			return wrong(f, name, "must be a number from -7 to 19");
		o->level = (int)n;
		return 0;
	case OPT_STALL:
		if (!mp_int(v, &n) || n < 0)
			return wrong(f, name, "must be a number of nanoseconds");
		o->stall_ns = n;
		return 0;
	case OPTIONS:
		break;
	}
	return wrong(f, name, "is unknown");
}

int ckpt_options_read(struct ckpt_options *o, const msgpack_object *map, struct fault *f)
{
	bool running = true, running_given = false;

	*o = (struct ckpt_options){
		.compress = true,
		.level = CKPT_LEVEL_DEFAULT,
		.stall_ns = CKPT_STALL_DEFAULT,
	};
	for (uint32_t i = 0; map && map->type == MSGPACK_OBJECT_MAP && i < map->via.map.size; i++) {
		const msgpack_object_kv *kv = &map->via.map.ptr[i];
		enum option option = OPTIONS;
		int r;

		for (int k = 0; k < OPTIONS; k++)
			if (mp_eq(&kv->key, names[k]))
				option = (enum option)k;
		if (option == OPTIONS) {
			CLEANUP_FREE char *key = mp_strdup(&kv->key);

			return wrong(f, key ? key : "?", "is unknown");
		}
		if (kv->val.type == MSGPACK_OBJECT_NIL)
			continue;
		running_given |= option == OPT_LEAVE_RUNNING;
		r = take(o, option, &kv->val, &running, f);
		if (r < 0)
			return r;
	}
	/* containerd's word is exit; with both, they have to say the same */
	if (running_given && running && o->exit)
		return wrong(f, "leave_running", "and exit exclude each other");
	if (running_given && !running)
		o->exit = true;
	return 0;
}
