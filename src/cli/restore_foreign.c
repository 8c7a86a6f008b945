// SPDX-License-Identifier: Apache-2.0
/*
 * davit restore: the spec of a checkpoint that somebody else has made
 *
 * An archive says itself what its container may do, and whoever has written it would like it to do
 * everything: hooks run as root on the host, a bind mount shows the host's files, a device is the
 * host's disk. The yardstick is the default spec, what `davit run` gives without options. What goes
 * beyond it is refused by name, so that the user can give it (-v, --device, --network), or trust the
 * checkpoint as a whole. What a restored container does without is dropped: it cannot tell.
 *
 * Memory and code of the processes are the checkpoint's own in any case. The daemon looks at criu's
 * images and refuses what a live spec does not allow (capabilities, seccomp, mounts); the spec that it
 * goes by is the one from here.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/caps.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/restore.h"
#include "cli/spec.h"
#include "cli/volume.h"

#define ADVICE "or --trust the whole checkpoint if you know where it comes from"

static int refuse(struct fault *f, const char *what, const char *which, const char *advice)
{
	return fault_set(
		f, FAULT_PERMISSION_DENIED, 0,
		"the checkpoint was not made by this daemon, and its container wants %s%s%s; %s" ADVICE,
		what, *which ? " " : "", which, advice);
}

static bool has_option(json_object *mount, const char *option)
{
	json_object *list = js_get(mount, "options");

	for (size_t i = 0; i < js_len(list); i++) {
		const char *text = json_object_get_string(js_at(list, i));

		if (text && strcmp(text, option) == 0)
			return true;
	}
	return false;
}

/* ---- mounts */

/* What shows nothing of the host. */
static bool is_harmless(json_object *m)
{
	static const struct {
		const char *type;
		bool read_only; /* it has to be */
	} types[] = { { "proc", false },   { "tmpfs", false }, { "devpts", false },
		      { "mqueue", false }, { "sysfs", true },  { "cgroup", true },
		      { "cgroup2", true } };
	const char *type = js_str(m, "type");

	if (has_option(m, "bind") || has_option(m, "rbind"))
		return false;
	/* elsewhere it would be without the masked and read-only paths */
	if (strcmp(type, "proc") == 0 && strcmp(js_str(m, "destination"), "/proc") != 0)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		if (strcmp(types[i].type, type) == 0)
			return !types[i].read_only || has_option(m, "ro");
	}
	return false;
}

static int check_mounts(json_object *spec, json_object *given, struct fault *f)
{
	json_object *mounts = js_get(spec, "mounts");

	for (size_t i = 0; i < js_len(mounts); i++) {
		json_object *m = js_at(mounts, i);
		const char *at = js_str(m, "destination");
		char *what CLEANUP_FREE = NULL, *advice CLEANUP_FREE = NULL;

		if (is_harmless(m) || volume_has(given, at))
			continue;
		what = mem_printf("%s mounted at %s",
				  *js_str(m, "source") ? js_str(m, "source") : js_str(m, "type"),
				  at);
		advice = mem_printf("give what is to be there with -v SOURCE:%s, ", at);
		return refuse(f, what, "", advice);
	}
	return 0;
}

/* ---- devices */

static bool has_device(json_object *given, const char *path)
{
	for (size_t i = 0; i < js_len(given); i++) {
		if (strcmp(js_str(js_at(given, i), "path"), path) == 0)
			return true;
	}
	return false;
}

/* Whether `rule` allows no more than `by`. */
static bool is_within(json_object *rule, json_object *by)
{
	const char *access_text = js_str(rule, "access"), *type = js_str(by, "type");
	int64_t major = js_int(by, "major", -1), minor = js_int(by, "minor", -1);

	if (!js_bool(by, "allow") || strcmp(js_str(rule, "type"), type) != 0 || !*type ||
	    !*access_text || strspn(access_text, js_str(by, "access")) != strlen(access_text))
		return false;
	return (major < 0 || js_int(rule, "major", -1) == major) &&
	       (minor < 0 || js_int(rule, "minor", -1) == minor);
}

static bool is_within_any(json_object *rule, json_object *list)
{
	for (size_t i = 0; i < js_len(list); i++) {
		if (is_within(rule, js_at(list, i)))
			return true;
	}
	return false;
}

static int check_devices(json_object *spec, json_object *defaults, json_object *given,
			 json_object *given_rules, struct fault *f)
{
	json_object *devices = js_get(spec, "linux.devices"),
		    *rules = js_get(spec, "linux.resources.devices"),
		    *allowed = js_get(defaults, "linux.resources.devices"), *list;

	for (size_t i = 0; i < js_len(devices); i++) {
		const char *path = js_str(js_at(devices, i), "path");
		char *advice CLEANUP_FREE = mem_printf("give it with --device %s, ", path);

		if (!has_device(given, path))
			return refuse(f, "the device", path, advice);
	}
	for (size_t i = 0; i < js_len(rules); i++) {
		json_object *rule = js_at(rules, i);
		char which[64];

		if (!js_bool(rule, "allow") || is_within_any(rule, allowed) ||
		    is_within_any(rule, given_rules))
			continue;
		snprintf(which, sizeof(which), "%.1s %lld:%lld",
			 *js_str(rule, "type") ? js_str(rule, "type") : "a",
			 (long long)js_int(rule, "major", -1),
			 (long long)js_int(rule, "minor", -1));
		return refuse(f, "access to the device", which, "give it with --device, ");
	}
	/* However they were ordered: from nothing, what every container may, and what was given. */
	list = js_array();
	for (size_t i = 0; i < js_len(allowed); i++)
		js_push(list, json_object_get(js_at(allowed, i)));
	for (size_t i = 0; i < js_len(given_rules); i++)
		js_push(list, json_object_get(js_at(given_rules, i)));
	js_set(js_object_at(js_object_at(spec, "linux"), "resources"), "devices", list);
	return 0;
}

/* ---- namespaces */

static int check_namespaces(json_object *spec, bool network_given, struct fault *f)
{
	static const char *const wanted[] = { "pid", "ipc", "uts", "mount", "network" };
	json_object *list = js_get(spec, "linux.namespaces");

	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
		bool network = strcmp(wanted[i], "network") == 0;

		if (!spec_ns_has(spec, wanted[i]) && !(network && network_given))
			return refuse(f, "the host's namespace of the kind", wanted[i],
				      network ? "say which network it is to have with --network, "
					      : "");
	}
	for (size_t i = 0; i < js_len(list); i++) {
		const char *type = js_str(js_at(list, i), "type"),
			   *path = js_str(js_at(list, i), "path");
		bool network = strcmp(type, "network") == 0;

		if (*path && !(network && network_given))
			return refuse(f, "the namespace", path,
				      network ? "say which network it is to have with --network, "
					      : "");
	}
	return 0;
}

/* ---- privileges */

static int check_capabilities(json_object *spec, struct fault *f)
{
	static const char *const sets[] = { "bounding", "effective", "permitted", "inheritable",
					    "ambient" };
	json_object *process = js_object_at(spec, "process"),
		    *caps = js_object_at(process, "capabilities");

	for (size_t i = 0; i < ARRAY_SIZE(sets); i++) {
		/* A set that is not said may be any: then it is none. */
		json_object *set = js_array_at(caps, sets[i]);
		uint64_t beyond = caps_bits(set) & ~caps_default;
		json_object *names CLEANUP_JSON = NULL;

		if (!beyond)
			continue;
		names = caps_names(beyond);
		return refuse(f, "the capability", json_object_get_string(js_at(names, 0)), "");
	}
	return 0;
}

static int check_seccomp(json_object *spec, struct fault *f)
{
	static const char *const lax[] = { "", "SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE",
					   "SCMP_ACT_NOTIFY" };
	const char *action = js_str(spec, "linux.seccomp.defaultAction");

	for (size_t i = 0; i < ARRAY_SIZE(lax); i++) {
		if (strcmp(action, lax[i]) == 0)
			return refuse(f, "all system calls, without a seccomp profile", "", "");
	}
	return 0;
}

/* ---- all of it */

/* What has done its work when the container was made, or would do it on the host. */
static void drop(json_object *spec)
{
	json_object *lin = js_object_at(spec, "linux");

	json_object_object_del(spec, "hooks");
	json_object_object_del(lin, "cgroupsPath");
	json_object_object_del(lin, "netDevices");
	json_object_object_del(lin, "intelRdt");
	json_object_object_del(lin, "rootfsPropagation");
}

int cli_restore_foreign(json_object *spec, json_object *mounts, json_object *devices,
			json_object *rules, bool network_given, struct fault *f)
{
	json_object *defaults CLEANUP_JSON = spec_default("/", getpid());
	int r;

	drop(spec);
	r = check_namespaces(spec, network_given, f);
	if (r == 0)
		r = check_capabilities(spec, f);
	if (r == 0)
		r = check_seccomp(spec, f);
	if (r == 0)
		r = check_mounts(spec, mounts, f);
	if (r == 0)
		r = check_devices(spec, defaults, devices, rules, f);
	return r;
}
