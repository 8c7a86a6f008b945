// SPDX-License-Identifier: Apache-2.0
/*
 * The record of a checkpoint: from JSON
 *
 * It may have been written by anybody. The JSON is strict (util/json.h: no NUL, no duplicate key,
 * bounded depth); here every member is checked for its type, its size and what it may say, since
 * texts of it become arguments of criu, keys, and paths below the container's root. The spec is
 * taken as any object: it is shown and compared, never run.
 *
 * What an older or smaller writer may leave out is "", false or empty; what a restore cannot do
 * without must be there. A fault names the member by its path ("mounts[3].path").
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/record_internal.h"
#include "util/cleanup.h"
#include "util/json.h"
#include "util/limits.h"

#define PIECE 96 /* of an untrusted text, at most, in a fault */

static int wrong(struct fault *f, const char *member, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int wrong(struct fault *f, const char *member, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fault_setv(f, FAULT_FAILED_PRECONDITION, 0, fmt, ap);
	va_end(ap);
	fault_prefix(f, "the checkpoint's record: %s", member);
	return -EINVAL;
}
#define wrong(...) FAULT_NEGATIVE(wrong(__VA_ARGS__))

static int no_memory(struct fault *f)
{
	return fault_sys(f, ENOMEM, "read", "the checkpoint's record");
}

/* ---- members by type; an absent one or null is NULL */

static int get(json_object *from, const char *path, const char *key, json_type type, bool needed,
	       json_object **out, struct fault *f)
{
	char member[PIECE + 64];

	*out = json_object_object_get(from, key);
	snprintf(member, sizeof(member), "%s%s%s", path, *path ? "." : "", key);
	if (!*out)
		return needed ? wrong(f, member, "is missing") : 0;
	if (!json_object_is_type(*out, type))
		return wrong(f, member, "is no %s, but a %s", json_type_to_name(type),
			     json_type_to_name(json_object_get_type(*out)));
	return 0;
}

static int get_bool(json_object *from, const char *path, const char *key, bool needed, bool *out,
		    struct fault *f)
{
	json_object *j;
	int r = get(from, path, key, json_type_boolean, needed, &j, f);

	*out = j && json_object_get_boolean(j);
	return r;
}

enum form {
	FORM_TEXT, /* printable */
	FORM_ID,
	FORM_PATH, /* absolute, plain */
	FORM_ROOT, /* of a mount: a path or "net:[123]" */
	FORM_ANY_ROOT, /* of a cgroup: above its namespace's root it has ".." */
	FORM_CONTROLLERS,
	FORM_STDIO,
	FORM_TTY,
	FORM_CGROUPS_MODE,
	FORM_NAMESPACE,
	FORM_KEY, /* of criu's, within brackets */
	FORM_NET_KEY, /* "" or a word */
};

/* Alphanumeric groups joined by single '.', '_' and '-'. */
static bool good_id(const char *s)
{
	bool joined = true;

	if (strlen(s) > LIMIT_ID_BYTES)
		return false;
	for (; *s; s++) {
		bool joint = *s == '.' || *s == '_' || *s == '-';

		if (joint && joined)
			return false;
		if (!joint && !((*s >= '0' && *s <= '9') || (*s >= 'a' && *s <= 'z') ||
				(*s >= 'A' && *s <= 'Z')))
			return false;
		joined = joint;
	}
	return !joined;
}

static bool printable(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < ' ' || *s == 0x7f)
			return false;
	return true;
}

static bool climbs(const char *s)
{
	for (const char *p = s; (p = strstr(p, "..")); p += 2)
		if ((p == s || p[-1] == '/') && (!p[2] || p[2] == '/'))
			return true;
	return false;
}

/* "/a/b": no "", ".", ".." between slashes, none at the end. */
static bool plain_path(const char *s)
{
	if (*s != '/' || !s[1])
		return false;
	while (*s) {
		size_t n = strcspn(s + 1, "/");

		if (!n || n > 255 || (n == 1 && s[1] == '.') ||
		    (n == 2 && !strncmp(s + 1, "..", 2)))
			return false;
		s += 1 + n;
	}
	return true;
}

static bool skip_set(const char **s, const char *set)
{
	size_t n = strspn(*s, set);

	*s += n;
	return n > 0 && n <= 20;
}

#define DEC "0123456789"
#define HEX DEC "abcdef"

static bool skip_text(const char **s, const char *text)
{
	size_t n = strlen(text);

	if (strncmp(*s, text, n) != 0)
		return false;
	*s += n;
	return true;
}

/* criu's keys for a descriptor that is handed in */
static bool good_stdio(const char *s)
{
	if (!*s)
		return true;
	if (skip_text(&s, "pipe:["))
		return skip_set(&s, DEC) && !strcmp(s, "]");
	return skip_text(&s, "file[") && skip_set(&s, HEX) && skip_text(&s, ":") &&
	       skip_set(&s, HEX) && !strcmp(s, "]");
}

static bool good_tty(const char *s)
{
	return !*s || (skip_set(&s, HEX) && skip_text(&s, ":") && skip_set(&s, HEX) && !*s);
}

/* Becomes the name of a folder. */
static bool good_controllers(const char *s)
{
	return strlen(s) <= 255 && printable(s) && !strchr(s, '/') && strcmp(s, ".") != 0 &&
	       strcmp(s, "..") != 0;
}

/* Keys that begin with CRIU: are orders to criu itself. */
static bool good_key(const char *s)
{
	return *s && strlen(s) <= LIMIT_PATH_BYTES && printable(s) && !strpbrk(s, "[]") &&
	       strncmp(s, "CRIU:", 5) != 0;
}

static bool good_net_key(const char *s)
{
	size_t n = strspn(s, DEC "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-.");

	return !s[n] && n <= 64;
}

static bool one_of(const char *s, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(s, list[i]))
			return true;
	return false;
}

static bool good(const char *s, enum form form)
{
	static const char *const modes[] = {
		"", "none", "props", "soft", "full", "strict", "ignore"
	};
	static const char *const namespaces[] = { "net", "mnt",	 "ipc",	   "pid",
						  "uts", "user", "cgroup", "time" };

	switch (form) {
	case FORM_TEXT:
		return strlen(s) <= LIMIT_NAME_BYTES && printable(s);
	case FORM_ID:
		return good_id(s);
	case FORM_PATH:
		return strlen(s) <= LIMIT_PATH_BYTES && plain_path(s);
	case FORM_ROOT:
		return strlen(s) <= LIMIT_PATH_BYTES && !climbs(s);
	case FORM_ANY_ROOT:
		return strlen(s) <= LIMIT_PATH_BYTES;
	case FORM_CONTROLLERS:
		return good_controllers(s);
	case FORM_STDIO:
		return good_stdio(s);
	case FORM_TTY:
		return good_tty(s);
	case FORM_CGROUPS_MODE:
		return one_of(s, modes, ARRAY_SIZE(modes));
	case FORM_NAMESPACE:
		return one_of(s, namespaces, ARRAY_SIZE(namespaces));
	case FORM_KEY:
		return good_key(s);
	case FORM_NET_KEY:
		return good_net_key(s);
	}
	return false;
}

/* Of a value that is known to be a text. */
static int take_text(json_object *j, const char *member, enum form form, char **out,
		     struct fault *f)
{
	const char *s = json_object_get_string(j);

	if (strlen(s) != (size_t)json_object_get_string_len(j) || !good(s, form))
		return wrong(f, member, "cannot be '%.*s'", PIECE, s);
	*out = strdup(s);
	return *out ? 0 : no_memory(f);
}

static int get_text(json_object *from, const char *path, const char *key, bool needed,
		    enum form form, char **out, struct fault *f)
{
	char member[PIECE + 64];
	json_object *j;
	int r = get(from, path, key, json_type_string, needed, &j, f);

	if (r < 0)
		return r;
	if (!j) {
		*out = strdup("");
		return *out ? 0 : no_memory(f);
	}
	snprintf(member, sizeof(member), "%s%s%s", path, *path ? "." : "", key);
	return take_text(j, member, form, out, f);
}

/* *n is 0 and *out NULL when it is absent. */
static int get_list(json_object *from, const char *key, bool needed, size_t most, json_object **out,
		    size_t *n, struct fault *f)
{
	int r = get(from, "", key, json_type_array, needed, out, f);

	*n = *out && !r ? json_object_array_length(*out) : 0;
	if (*n > most)
		return wrong(f, key, "has %zu entries; at most %zu are taken", *n, most);
	return r;
}

static int entry(json_object *list, const char *key, size_t i, json_object **out, char *path,
		 size_t room, struct fault *f)
{
	snprintf(path, room, "%s[%zu]", key, i);
	*out = json_object_array_get_idx(list, i);
	return json_object_is_type(*out, json_type_object) ? 0 : wrong(f, path, "is no object");
}

/* ---- the container */

static int read_labels(struct ckpt_record *r, json_object *container, struct fault *f)
{
	json_object *from;
	size_t n = 0;
	int ret = get(container, "container", "labels", json_type_object, false, &from, f);

	if (ret < 0)
		return ret;
	r->labels = json_object_new_object();
	if (!r->labels)
		return no_memory(f);
	if (!from)
		return 0;
	json_object_object_foreach (from, key, value) {
		size_t length;

		if (!*key || !json_object_is_type(value, json_type_string))
			return wrong(f, "container.labels", "'%.*s' is no label", PIECE, key);
		length = (size_t)json_object_get_string_len(value);
		if (strlen(key) + length > LIMIT_LABEL_BYTES ||
		    strlen(json_object_get_string(value)) != length)
			return wrong(f, "container.labels", "'%.*s' is longer than a label may be",
				     PIECE, key);
		if (ckpt_label_reserved(key) || !length)
			continue;
		if (++n > LIMIT_LABELS)
			return wrong(f, "container.labels", "has more than %u", LIMIT_LABELS);
		if (json_object_object_add(r->labels, key, json_object_get(value)) < 0) {
			json_object_put(value);
			return no_memory(f);
		}
	}
	return 0;
}

static int read_container(struct ckpt_record *r, json_object *from, struct fault *f)
{
	json_object *j, *spec;
	int ret = get(from, "", "container", json_type_object, true, &j, f);

	if (ret < 0)
		return ret;
	ret = get_text(j, "container", "id", true, FORM_ID, &r->id, f);
	if (!ret)
		ret = get_text(j, "container", "namespace", true, FORM_ID, &r->ns, f);
	for (size_t i = 0; !ret && i < CKPT_TEXTS; i++)
		if (ckpt_texts[i].of_container)
			ret = get_text(j, "container", ckpt_texts[i].name, false, FORM_TEXT,
				       ckpt_text_of(r, i), f);
	if (!ret)
		ret = read_labels(r, j, f);
	if (!ret)
		ret = get(j, "container", "spec", json_type_object, true, &spec, f);
	if (!ret)
		r->spec = json_object_get(spec);
	return ret;
}

/* ---- how it was taken */

static int read_empty(struct ckpt_record *r, json_object *options, struct fault *f)
{
	json_object *list;
	size_t n;
	int ret = get_list(options, "empty_namespaces", false, 8, &list, &n, f);

	if (ret < 0 || !n)
		return ret;
	r->empty_namespaces = calloc(n, sizeof(*r->empty_namespaces));
	if (!r->empty_namespaces)
		return no_memory(f);
	for (size_t i = 0; i < n; i++) {
		json_object *j = json_object_array_get_idx(list, i);

		if (!json_object_is_type(j, json_type_string))
			return wrong(f, "options.empty_namespaces", "has what is no text");
		ret = take_text(j, "options.empty_namespaces", FORM_NAMESPACE,
				&r->empty_namespaces[i], f);
		if (ret < 0)
			return ret;
		r->n_empty++;
		for (size_t k = 0; k < i; k++)
			if (!strcmp(r->empty_namespaces[k], r->empty_namespaces[i]))
				return wrong(f, "options.empty_namespaces", "has '%s' twice",
					     r->empty_namespaces[i]);
	}
	return 0;
}

static int read_options(struct ckpt_record *r, json_object *from, struct fault *f)
{
	json_object *j;
	int ret = get(from, "", "options", json_type_object, true, &j, f);

	for (size_t i = 0; !ret && i < CKPT_OPTIONS; i++)
		ret = get_bool(j, "options", ckpt_options[i].name, false, ckpt_option_of(r, i), f);
	if (!ret)
		ret = get_text(j, "options", "cgroups_mode", false, FORM_CGROUPS_MODE,
			       &r->cgroups_mode, f);
	return ret < 0 ? ret : read_empty(r, j, f);
}

/* ---- what was outside */

/* "m0", "m1", …: rising, and so unique. *after: the smallest number that may come. */
static int read_mount_name(struct criu_mount *m, json_object *j, const char *path,
			   unsigned long *after, struct fault *f)
{
	CLEANUP_FREE char *name = NULL;
	char *end, again[sizeof(m->name)];
	unsigned long number;
	int r = get_text(j, path, "name", true, FORM_TEXT, &name, f);

	if (r < 0)
		return r;
	number = strtoul(name + (*name == 'm'), &end, 10);
	snprintf(again, sizeof(again), "m%lu", number % 1000000000);
	if (strcmp(again, name) != 0)
		return wrong(f, path, "its name cannot be '%.*s'", PIECE, name);
	if (number < *after)
		return wrong(f, path, "its name '%s' is out of order", again);
	*after = number + 1;
	memcpy(m->name, again, sizeof(m->name));
	return 0;
}

static int read_mount(struct criu_mount *m, json_object *j, const char *path, unsigned long *after,
		      struct fault *f)
{
	CLEANUP_FREE char *kind = NULL;
	int r = read_mount_name(m, j, path, after, f), k;

	if (!r && json_object_object_get(j, "key"))
		r = get_text(j, path, "key", true, FORM_KEY, &m->key, f);
	if (!r)
		r = get_text(j, path, "path", true, FORM_PATH, &m->path, f);
	if (!r)
		r = get_text(j, path, "kind", true, FORM_TEXT, &kind, f);
	if (r < 0)
		return r;
	k = criu_mount_kind_of(kind);
	if (k < 0)
		return wrong(f, path, "the kind '%.*s' is unknown", PIECE, kind);
	m->kind = (enum criu_mount_kind)k;
	r = get_text(j, path, "root", false, k == CRIU_MOUNT_CGROUP ? FORM_ANY_ROOT : FORM_ROOT,
		     &m->root, f);
	if (!r)
		r = get_text(j, path, "controllers", false, FORM_CONTROLLERS, &m->controllers, f);
	return r < 0 ? r : get_bool(j, path, "read_only", false, &m->read_only, f);
}

static int by_key(const void *a, const void *b)
{
	return strcmp(criu_mount_key(*(const struct criu_mount *const *)a),
		      criu_mount_key(*(const struct criu_mount *const *)b));
}

/* A source belongs to one place, but for the null device, which is the same everywhere. */
static int check_keys(const struct criu_mounts *m, struct fault *f)
{
	CLEANUP_FREE const struct criu_mount **v = calloc(m->n + 1, sizeof(struct criu_mount *));

	if (!v)
		return no_memory(f);
	for (size_t i = 0; i < m->n; i++)
		v[i] = &m->v[i];
	qsort(v, m->n, sizeof(struct criu_mount *), by_key);
	for (size_t i = 1; i < m->n; i++)
		if (!by_key(&v[i - 1], &v[i]) &&
		    (v[i - 1]->kind != CRIU_MOUNT_NULL || v[i]->kind != CRIU_MOUNT_NULL))
			return wrong(f, "mounts", "has the key '%.*s' twice", PIECE,
				     criu_mount_key(v[i]));
	return 0;
}

static int read_mounts(struct ckpt_record *r, json_object *from, struct fault *f)
{
	unsigned long after = 0;
	json_object *list, *j;
	char path[64];
	size_t n;
	int ret = get_list(from, "mounts", true, LIMIT_CHECKPOINT_MOUNTS, &list, &n, f);

	if (ret < 0 || !n)
		return ret;
	r->mounts.v = calloc(n, sizeof(*r->mounts.v));
	if (!r->mounts.v)
		return no_memory(f);
	while (!ret && r->mounts.n < n) {
		ret = entry(list, "mounts", r->mounts.n, &j, path, sizeof(path), f);
		if (!ret)
			ret = read_mount(&r->mounts.v[r->mounts.n++], j, path, &after, f);
	}
	return ret < 0 ? ret : check_keys(&r->mounts, f);
}

static int read_mountpoints(struct ckpt_record *r, json_object *from, struct fault *f)
{
	json_object *list, *j;
	char path[64];
	size_t n;
	int ret = get_list(from, "mountpoints", true, LIMIT_CHECKPOINT_MOUNTS, &list, &n, f);

	if (ret < 0 || !n)
		return ret;
	r->mountpoints = calloc(n, sizeof(*r->mountpoints));
	if (!r->mountpoints)
		return no_memory(f);
	while (!ret && r->n_mountpoints < n) {
		struct ckpt_mountpoint *m = &r->mountpoints[r->n_mountpoints];

		ret = entry(list, "mountpoints", r->n_mountpoints++, &j, path, sizeof(path), f);
		if (!ret)
			ret = get_text(j, path, "path", true, FORM_PATH, &m->path, f);
		if (!ret)
			ret = get_bool(j, path, "folder", true, &m->folder, f);
	}
	return ret;
}

static int read_network(struct ckpt_record *r, json_object *from, struct fault *f)
{
	CLEANUP_FREE char *name = NULL;
	int ret = get_text(from, "", "network", true, FORM_TEXT, &name, f);

	if (!ret)
		ret = get_text(from, "", "network_key", false, FORM_NET_KEY, &r->net_key, f);

	if (ret < 0)
		return ret;
	for (int i = 0; i < CKPT_NETS; i++)
		if (!strcmp(ckpt_net_names[i], name)) {
			r->net = (enum ckpt_net)i;
			return 0;
		}
	return wrong(f, "network", "cannot be '%.*s'", PIECE, name);
}

static int read_stdio(struct ckpt_record *r, json_object *from, struct fault *f)
{
	json_object *list;
	size_t n;
	int ret = get_list(from, "stdio", true, 3, &list, &n, f);

	if (!ret && n != 3)
		return wrong(f, "stdio", "has %zu entries, not 3", n);
	for (size_t i = 0; !ret && i < 3; i++) {
		json_object *j = json_object_array_get_idx(list, i);

		if (!json_object_is_type(j, json_type_string))
			return wrong(f, "stdio", "has what is no text");
		ret = take_text(j, "stdio", FORM_STDIO, &r->stdio[i], f);
	}
	return ret;
}

/* Numbers, and objects and lists of them. The depth is bounded by the JSON reader. */
static bool numbers(json_object *j)
{
	switch (json_object_get_type(j)) {
	case json_type_int:
	case json_type_double:
		return true;
	case json_type_array:
		for (size_t i = 0; i < json_object_array_length(j); i++)
			if (!numbers(json_object_array_get_idx(j, i)))
				return false;
		return true;
	case json_type_object: {
		json_object_object_foreach (j, key, value) {
			(void)key;
			if (!numbers(value))
				return false;
		}
		return true;
	}
	default:
		return false;
	}
}

static int read_rest(struct ckpt_record *r, json_object *from, struct fault *f)
{
	json_object *j;
	int ret = read_network(r, from, f);

	if (!ret)
		ret = read_stdio(r, from, f);
	if (!ret)
		ret = get_bool(from, "", "terminal", false, &r->terminal, f);
	if (!ret)
		ret = get_text(from, "", "tty", false, FORM_TTY, &r->tty, f);
	if (!ret)
		ret = get_bool(from, "", "user_namespace", false, &r->user_ns, f);
	if (!ret)
		ret = get_bool(from, "", "network_rules", false, &r->net_rules, f);
	if (!ret)
		ret = get(from, "", "stats", json_type_object, false, &j, f);
	if (ret)
		return ret;
	if (j && !numbers(j))
		return wrong(f, "stats", "has what is no number");
	r->stats = j ? json_object_get(j) : json_object_new_object();
	return r->stats ? 0 : no_memory(f);
}

static int read_head(struct ckpt_record *r, json_object *from, struct fault *f)
{
	json_object *j;
	int ret = get(from, "", "version", json_type_int, true, &j, f);

	if (ret < 0)
		return ret;
	if (json_object_get_int64(j) != CKPT_RECORD_VERSION)
		return wrong(f, "version", "is %lld; this davit knows %d",
			     (long long)json_object_get_int64(j), CKPT_RECORD_VERSION);
	ret = get(from, "", "created_at", json_type_int, true, &j, f);
	if (ret < 0)
		return ret;
	r->created_at = json_object_get_int64(j);
	if (r->created_at < 0)
		return wrong(f, "created_at", "cannot be negative");
	for (size_t i = 0; !ret && i < CKPT_TEXTS; i++)
		if (!ckpt_texts[i].of_container)
			ret = get_text(from, "", ckpt_texts[i].name, false, FORM_TEXT,
				       ckpt_text_of(r, i), f);
	return ret;
}

int ckpt_record_read(struct ckpt_record *r, const char *text, size_t size, struct fault *f)
{
	json_object *from = NULL;
	int ret;

	ckpt_record_init(r);
	if (size > LIMIT_CHECKPOINT_RECORD_BYTES) {
		fault_set(f, FAULT_FAILED_PRECONDITION, 0,
			  "the checkpoint's record has %zu bytes; at most %u are taken", size,
			  LIMIT_CHECKPOINT_RECORD_BYTES);
		return -EFBIG;
	}
	ret = json_parse(text, size, &from, f);
	if (ret == -ENOMEM)
		return no_memory(f);
	if (ret < 0) {
		char why[sizeof(f->message)];

		snprintf(why, sizeof(why), "%s", f ? f->message : "");
		return wrong(f, "not a JSON text", "%s", why);
	}
	if (!json_object_is_type(from, json_type_object))
		ret = wrong(f, "JSON", "is no object");
	if (!ret)
		ret = read_head(r, from, f);
	if (!ret)
		ret = read_container(r, from, f);
	if (!ret)
		ret = read_options(r, from, f);
	if (!ret)
		ret = read_mounts(r, from, f);
	if (!ret)
		ret = read_mountpoints(r, from, f);
	if (!ret)
		ret = read_rest(r, from, f);
	json_object_put(from);
	if (ret < 0)
		ckpt_record_clear(r);
	return ret;
}
