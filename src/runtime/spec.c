// SPDX-License-Identifier: Apache-2.0
/*
 * The OCI runtime-spec: config.md, all but process and linux
 *
 * A spec is read in one pass and checked for all that the text alone tells, so that a container that could
 * never run is refused when its record is made. What depends on the host (programs, mount sources, modules,
 * controllers) is for who uses it.
 *
 * struct spec is the first allocation of its own arena: one chain of chunks holds it with every string and array.
 * The spec keeps a reference on its JSON, because resources and seccomp are read from it later; json-c's counts are not
 * atomic, so a tree and its spec belong to one thread at a time.
 */
#include "runtime/spec.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "runtime/spec_internal.h"
#include "util/cleanup.h"
#include "util/json.h"
#include "util/limits.h"

#define VERSION_MAJOR 1
#define VERSION_MINOR 3

struct spec_box {
	struct spec spec; /* first: spec_free gets its address */
	struct spec_arena arena;
};

/* semver.org: 1.0.2, 1.0.2-dev, 1.2.0-rc.1+build */
static bool version_split(const char *text, unsigned long *major, unsigned long *minor)
{
	unsigned long parts[3];
	char *end;

	for (int i = 0; i < 3; i++) {
		if (!isdigit((unsigned char)*text))
			return false;
		errno = 0;
		parts[i] = strtoul(text, &end, 10);
		if (errno || *end != (i < 2 ? '.' : *end))
			return false;
		text = end + (i < 2);
	}
	if (*text && *text != '-' && *text != '+')
		return false;
	for (; *text; text++)
		if (!isalnum((unsigned char)*text) && !strchr("-+.", *text))
			return false;
	*major = parts[0];
	*minor = parts[1];
	return true;
}

static void read_version(struct spec_reader *r, const struct spec_node *at, struct spec *s)
{
	unsigned long major, minor;

	spec_require(r, at, "ociVersion", spec_text(r, at, "ociVersion", &s->oci_version));
	if (r->err)
		return;
	if (!version_split(s->oci_version, &major, &minor))
		spec_fail(r, at, "ociVersion", "\"%.64s\" is no version", s->oci_version);
	else if (major != VERSION_MAJOR || minor > VERSION_MINOR)
		spec_fail(r, at, "ociVersion", "%.64s is not known here, 1.0.0 to 1.%d.x are",
			  s->oci_version, VERSION_MINOR);
}

static void read_root(struct spec_reader *r, const struct spec_node *at, struct spec *s)
{
	struct spec_node node;

	if (!spec_object(r, at, "root", &node))
		return;
	spec_require(r, &node, "path", spec_text(r, &node, "path", &s->root_path));
	spec_bool(r, &node, "readonly", &s->root_readonly);
}

/* Absolute since 1.0; older files have relative ones, which runtimes take as relative to the root. */
static void read_destination(struct spec_reader *r, const struct spec_node *at,
			     struct spec_mount *m)
{
	const char *text;
	size_t n;

	if (!spec_peek(r, at, "destination", &text)) {
		spec_fail(r, at, "destination", "is missing");
		return;
	}
	n = strlen(text);
	if (n >= PATH_MAX - 1)
		spec_fail(r, at, "destination", "is longer than %d bytes", PATH_MAX - 2);
	m->destination = spec_alloc(r, n + 2, 1);
	if (m->destination) {
		m->destination[0] = '/';
		memcpy(m->destination + (text[0] != '/'), text, n);
	}
}

static void read_mounts(struct spec_reader *r, const struct spec_node *at, struct spec *s)
{
	struct spec_node array, item;
	size_t n = spec_array(r, at, "mounts", &array);

	if (n > LIMIT_SPEC_MOUNTS)
		spec_fail(r, &array, NULL, "more than %u mounts", LIMIT_SPEC_MOUNTS);
	if (!n)
		return;
	s->mounts = spec_alloc(r, n, sizeof(*s->mounts));
	for (size_t i = 0; i < n && spec_item(r, &array, i, &item); i++) {
		struct spec_mount *m = &s->mounts[i];

		read_destination(r, &item, m);
		spec_text(r, &item, "type", &m->type);
		spec_text(r, &item, "source", &m->source);
		spec_texts(r, &item, "options", &m->options);
		spec_read_idmaps(r, &item, "uidMappings", &m->uid_mappings);
		spec_read_idmaps(r, &item, "gidMappings", &m->gid_mappings);
		if (!m->uid_mappings.n != !m->gid_mappings.n)
			spec_fail(r, &item, m->uid_mappings.n ? "gidMappings" : "uidMappings",
				  "uidMappings and gidMappings go together");
	}
	if (!r->err)
		s->n_mounts = n;
}

static void read_hooks_of_kind(struct spec_reader *r, const struct spec_node *at, const char *kind,
			       struct spec_hooks *out)
{
	struct spec_node array, item;
	size_t n = spec_array(r, at, kind, &array);

	if (!n)
		return;
	out->v = spec_alloc(r, n, sizeof(*out->v));
	for (size_t i = 0; i < n && spec_item(r, &array, i, &item); i++) {
		struct spec_hook *h = &out->v[i];

		h->timeout = SPEC_ABSENT;
		spec_require(r, &item, "path", spec_path(r, &item, "path", &h->path));
		spec_texts(r, &item, "args", &h->args);
		spec_texts(r, &item, "env", &h->env);
		spec_int(r, &item, "timeout", 1, INT32_MAX, &h->timeout);
	}
	if (!r->err)
		out->n = n;
}

static void read_hooks(struct spec_reader *r, const struct spec_node *at, struct spec *s)
{
	struct spec_node node;

	if (!spec_object(r, at, "hooks", &node))
		return;
	for (int i = 0; i < SPEC_HOOK_KINDS; i++)
		read_hooks_of_kind(r, &node, spec_hook_name((enum spec_hook_kind)i), &s->hooks[i]);
}

static void read_annotations(struct spec_reader *r, const struct spec_node *at, struct spec *s)
{
	struct spec_node map, entry;
	struct lh_entry *e = NULL;
	const char *value;
	size_t n = 0;

	if (!spec_object(r, at, "annotations", &map))
		return;
	s->annotations.v = spec_alloc(r, 2 * (size_t)json_object_object_length(map.json) + 1,
				      sizeof(*s->annotations.v));
	while (!r->err && spec_entry(&map, &e, &entry) && spec_entry_text(r, &entry, &value)) {
		if (!entry.name[0])
			spec_fail(r, &map, NULL, "a key is empty");
		s->annotations.v[n++] = spec_copy(r, entry.name, strlen(entry.name));
		s->annotations.v[n++] = spec_copy(r, value, strlen(value));
	}
	s->annotations.n = n;
}

/* config.md "Platform-specific configuration": sections of other platforms must not be set. */
static void refuse_platforms(struct spec_reader *r, const struct spec_node *at)
{
	static const char *const sections[] = { "windows", "solaris", "vm", "zos", "freebsd" };
	json_object *j;

	for (size_t i = 0; i < ARRAY_SIZE(sections); i++)
		if (json_object_object_get_ex(at->json, sections[i], &j) && j)
			spec_fail(r, at, sections[i],
				  "this section is for another platform than Linux");
}

static void read_spec(struct spec_reader *r, const struct spec_node *at, struct spec *s)
{
	struct spec_node node;

	read_version(r, at, s);
	refuse_platforms(r, at);
	if (spec_object(r, at, "process", &node)) {
		s->has_process = true;
		spec_read_process(r, &node, &s->process);
	}
	read_root(r, at, s);
	spec_text(r, at, "hostname", &s->hostname);
	spec_text(r, at, "domainname", &s->domainname);
	read_mounts(r, at, s);
	read_hooks(r, at, s);
	read_annotations(r, at, s);
	if (spec_object(r, at, "linux", &node))
		spec_read_linux(r, &node, s);
	if (s->hostname && !s->ns[SPEC_NS_UTS].given)
		spec_fail(r, at, "hostname", "needs a uts namespace");
	if (s->domainname && !s->ns[SPEC_NS_UTS].given)
		spec_fail(r, at, "domainname", "needs a uts namespace");
}

static void set_absent(struct spec *s)
{
	s->process.umask = s->process.oom_score_adj = s->process.io_priority = SPEC_ABSENT;
	s->personality = SPEC_ABSENT;
}

/* top: its name is NULL for a whole spec, "process" for a process alone. */
static int parse(const struct spec_node *top, struct spec **out, struct fault *f)
{
	struct spec_arena arena = { 0 };
	struct spec_reader r = { .arena = &arena, .f = f };
	struct spec_box *box;

	*out = NULL;
	box = spec_alloc(&r, 1, sizeof(*box));
	if (!box)
		return r.err;
	set_absent(&box->spec);
	if (!json_object_is_type(top->json, json_type_object)) {
		spec_fail(&r, top, NULL, "%s",
			  top->name ? "must be an object" : "the spec must be an object");
	} else if (top->name) {
		box->spec.has_process = true;
		spec_read_process(&r, top, &box->spec.process);
	} else {
		read_spec(&r, top, &box->spec);
	}
	if (r.err) {
		spec_arena_free(&arena);
		return r.err;
	}
	box->arena = arena;
	box->spec.json = json_object_get(top->json);
	*out = &box->spec;
	return 0;
}

int spec_parse(json_object *json, struct spec **out, struct fault *f)
{
	struct spec_node top = { .json = json };

	return parse(&top, out, f);
}

int spec_parse_process(json_object *json, struct spec **out, struct fault *f)
{
	struct spec_node top = { .name = "process", .json = json };

	return parse(&top, out, f);
}

int spec_parse_text(const char *text, size_t size, struct spec **out, struct fault *f)
{
	json_object *json;
	int r;

	*out = NULL;
	if (size > LIMIT_SPEC_BYTES)
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				 "the spec has %zu bytes, more than %u", size, LIMIT_SPEC_BYTES);
	r = json_parse(text, size, &json, f);
	if (r)
		return r;
	r = spec_parse(json, out, f);
	json_object_put(json);
	return r;
}

void spec_free(struct spec *s)
{
	struct spec_box *box = (struct spec_box *)s;

	if (!s)
		return;
	json_object_put(s->json);
	spec_arena_free(&box->arena);
}
