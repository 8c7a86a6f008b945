// SPDX-License-Identifier: Apache-2.0
/*
 * davit restore: from the recorded spec to the live one
 *
 * A restored container is what it was: most of the spec only says so, since criu makes the processes
 * with all that they had. What counts is what lies outside of the checkpoint and has to be there
 * again: sources of bind mounts, devices, namespaces of others. Each is as recorded, or as an option
 * says; one that cannot be there any more is an error here, with the option that helps, before
 * anything is made.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/args.h"
#include "cli/device.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/output.h"
#include "cli/restore.h"
#include "cli/spec.h"
#include "cli/volume.h"
#include "util/json.h"

/* ---- what was given */

struct given {
	json_object *mounts, *devices; /* devices: a "linux" with devices and resources.devices */
};

static void given_clear(struct given *g)
{
	json_object_put(g->mounts);
	json_object_put(g->devices);
}

static int given_read(struct cli *cli, struct given *g, struct fault *f)
{
	const char *value;
	size_t at = 0;
	int r = 0;

	g->mounts = js_array();
	g->devices = js_object();
	while (r == 0 && (value = args_each(cli, "volume", &at)))
		r = volume_bind(g->mounts, value, f);
	at = 0;
	while (r == 0 && (value = args_each(cli, "device", &at)))
		r = device_option(g->devices, value, f);
	return r;
}

static json_object *find(json_object *list, const char *key, const char *value)
{
	for (size_t i = 0; i < js_len(list); i++) {
		if (strcmp(js_str(js_at(list, i), key), value) == 0)
			return js_at(list, i);
	}
	return NULL;
}

/* ---- mounts */

static bool is_bind(json_object *m)
{
	json_object *options = js_get(m, "options");

	for (size_t i = 0; i < js_len(options); i++) {
		const char *text = json_object_get_string(js_at(options, i));

		if (text && (strcmp(text, "bind") == 0 || strcmp(text, "rbind") == 0))
			return true;
	}
	return strcmp(js_str(m, "type"), "bind") == 0;
}

/* One that criu wants a source for, although the spec does not name it. */
static bool is_outside(json_object *record, const char *path)
{
	json_object *m = find(js_get(record, "mounts"), "path", path);

	return m && strcmp(js_str(m, "kind"), "bind") == 0;
}

static int give_mounts(struct restore *r, json_object *given, struct fault *f)
{
	for (size_t i = 0; i < js_len(given); i++) {
		json_object *new = js_at(given, i), *mounts = js_get(r->spec, "mounts");
		const char *at = js_str(new, "destination"), *source = js_str(new, "source");
		json_object *old = find(mounts, "destination", at);

		if (old) {
			/* the options stay the recorded ones, which the processes know */
			js_set_str(old, "source", source);
			if (!is_bind(old)) {
				js_set_str(old, "type", "bind");
				js_set(old, "options", json_object_get(js_get(new, "options")));
			}
		} else if (is_outside(r->c.record, at)) {
			if (!r->external)
				r->external = js_object();
			js_set_str(r->external, at, source);
		} else {
			return fault_set(
				f, FAULT_INVALID_ARGUMENT, 0,
				"-v: the checkpoint's container had nothing mounted at %s, and nothing can be added",
				at);
		}
	}
	return 0;
}

static bool is_below(const char *path, const char *folder)
{
	size_t n = strlen(folder);

	return n && strncmp(path, folder, n) == 0 && path[n] == '/' && !strstr(path, "/../");
}

/* Sources that were not given: those of the old container have to be there still. */
static int check_sources(struct restore *r, json_object *given, const char *snapshots,
			 struct fault *f)
{
	json_object *mounts = js_get(r->spec, "mounts");

	r->volumes = js_array();
	for (size_t i = 0; i < js_len(mounts); i++) {
		json_object *m = js_at(mounts, i);
		const char *at = js_str(m, "destination"), *source = js_str(m, "source");

		if (!is_bind(m) || volume_has(given, at))
			continue;
		if (*source != '/')
			return fault_set(
				f, FAULT_FAILED_PRECONDITION, 0,
				"the source of %s, \"%s\", is relative to a bundle; give it with -v SOURCE:%s",
				at, source, at);
		if (access(source, F_OK) < 0 && (errno == ENOENT || errno == ENOTDIR))
			return fault_set(
				f, FAULT_FAILED_PRECONDITION, 0,
				is_below(source, snapshots)
					? "the volume at %s went with the old container, and %s with it; give what is to be there with -v SOURCE:%s"
					: "what was mounted at %s, %s, is not there any more; give what is to be there with -v SOURCE:%s",
				at, source, at);
		if (is_below(source, snapshots))
			js_push(r->volumes, json_object_get(m));
	}
	return 0;
}

/* ---- devices */

static int give_devices(struct restore *r, json_object *given, struct fault *f)
{
	json_object *devices = js_get(given, "devices"),
		    *rules = js_get(given, "resources.devices"),
		    *lin = js_object_at(r->spec, "linux"),
		    *own_rules = js_array_at(js_object_at(lin, "resources"), "devices");

	for (size_t i = 0; i < js_len(devices); i++) {
		json_object *new = js_at(devices, i), *own = js_get(lin, "devices");
		const char *path = js_str(new, "path");
		json_object *old = find(own, "path", path);

		if (!old)
			return fault_set(
				f, FAULT_INVALID_ARGUMENT, 0,
				"--device: the checkpoint's container had no device %s, and none can be added",
				path);
		if (js_int(old, "major", -1) != js_int(new, "major", -1) ||
		    js_int(old, "minor", -1) != js_int(new, "minor", -1) ||
		    strcmp(js_str(old, "type"), js_str(new, "type")) != 0)
			return fault_set(
				f, FAULT_FAILED_PRECONDITION, 0,
				"--device: %s was %s %lld:%lld in the checkpoint, and the device that is given is another",
				path, js_str(old, "type"), (long long)js_int(old, "major", -1),
				(long long)js_int(old, "minor", -1));
	}
	for (size_t i = 0; i < js_len(rules); i++)
		js_push(own_rules, json_object_get(js_at(rules, i)));
	return 0;
}

/* ---- namespaces */

/*
 * A process's namespace is not found again by its number: that may be another process by now. Where
 * the option has said which network, the spec has another path already.
 */
static int check_namespaces(struct restore *r, struct fault *f)
{
	json_object *list = js_get(r->spec, "linux.namespaces");
	bool network_given = args_get(r->cli, "network") != NULL;

	for (size_t i = 0; i < js_len(list); i++) {
		const char *type = js_str(js_at(list, i), "type"),
			   *path = js_str(js_at(list, i), "path");
		bool network = strcmp(type, "network") == 0;

		if (strncmp(path, "/proc/", 6) != 0 || (network && network_given))
			continue;
		return fault_set(
			f, FAULT_FAILED_PRECONDITION, 0,
			network ? "the container shared the %s namespace of another (%s); say which one it is to have now with --network"
				: "the container shared the %s namespace of another (%s), which cannot be found again",
			type, path);
	}
	return 0;
}

static int give_network(struct restore *r, struct fault *f)
{
	const char *value = args_get(r->cli, "network"), *was = js_str(r->c.record, "network");
	struct spec_build b = { .cli = r->cli, .spec = r->spec, .rootfs = -1, .from_bundle = true };
	bool host = value && strcmp(value, "host") == 0;

	if (!value)
		return 0;
	if (strcmp(was, "host") == 0 && !host)
		return fault_set(
			f, FAULT_FAILED_PRECONDITION, 0,
			"--network: the container was in the host's network and can be restored there only");
	if (strcmp(was, "dumped") == 0 && host)
		return fault_set(
			f, FAULT_FAILED_PRECONDITION, 0,
			"--network: the checkpoint has a network of its own, which cannot become the host's");
	return spec_build_namespaces(&b, f);
}

/* ---- all of it */

static int copy_spec(struct restore *r, struct fault *f)
{
	const char *text = json_object_to_json_string_ext(js_get(r->c.record, "container.spec"),
							  JSON_C_TO_STRING_PLAIN);

	mem_need((void *)text);
	return json_parse(text, strlen(text), &r->spec, f);
}

int cli_restore_spec(struct restore *r, const char *snapshots, struct fault *f)
{
	struct given given CLEANUP(given_clear) = { 0 };
	bool trusted = r->c.local || args_flag(r->cli, "trust");
	int e = copy_spec(r, f);

	if (e == 0)
		e = given_read(r->cli, &given, f);
	/* first: a path of another network is none that is asked for */
	if (e == 0)
		e = give_network(r, f);
	if (e == 0 && !trusted) {
		if (js_get(r->spec, "hooks"))
			cli_warn(
				"the hooks of the checkpoint's container are left out: it was not made by this daemon");
		e = cli_restore_foreign(r->spec, given.mounts, js_get(given.devices, "devices"),
					js_get(given.devices, "resources.devices"),
					args_get(r->cli, "network") != NULL, f);
	}
	if (e == 0)
		e = check_namespaces(r, f);
	if (e == 0)
		e = check_sources(r, given.mounts, snapshots, f);
	if (e == 0)
		e = give_mounts(r, given.mounts, f);
	if (e == 0)
		e = give_devices(r, given.devices, f);
	/* Two containers cannot have one group. */
	if (e == 0 && strcmp(js_str(r->c.record, "container.id"), r->id) != 0 &&
	    js_get(r->spec, "linux.cgroupsPath"))
		json_object_object_del(js_get(r->spec, "linux"), "cgroupsPath");
	return e;
}
