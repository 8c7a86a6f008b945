// SPDX-License-Identifier: Apache-2.0
/*
 * The process: command, environment, user, folder, capabilities, resource limits
 */
#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include "cli/args.h"
#include "cli/caps.h"
#include "cli/envlist.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/spec.h"
#include "cli/units.h"
#include "cli/user.h"
#include "cli/volume.h"
#include "util/json.h"

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

int spec_words(const char *option, const char *text, json_object **out, struct fault *f)
{
	json_object *words CLEANUP_JSON = NULL;
	int r;

	if (*text != '[') {
		words = js_array();
		if (*text)
			js_push_str(words, text);
		*out = TAKE_PTR(words);
		return 0;
	}
	r = json_parse(text, strlen(text), &words, f);
	for (size_t i = 0; r == 0 && i < js_len(words); i++) {
		if (!json_object_is_type(js_at(words, i), json_type_string))
			r = fault_set(f, FAULT_INVALID_ARGUMENT, 0, "word %zu is no text", i);
	}
	if (r < 0) {
		fault_prefix(f, "%s", option);
		return r;
	}
	*out = TAKE_PTR(words);
	return 0;
}

static void add_words(json_object *args, json_object *words)
{
	for (size_t i = 0; i < js_len(words); i++)
		js_push(args, json_object_get(js_at(words, i)));
}

/*
 * The rules of docker and podman: what follows the image replaces its Cmd, --entrypoint replaces its
 * Entrypoint and drops its Cmd.
 */
static int words(struct spec_build *b, json_object **out, struct fault *f)
{
	const char *entry = args_get(b->cli, "entrypoint");
	json_object *args CLEANUP_JSON = NULL;
	int r;

	if (entry) {
		r = spec_words("--entrypoint", entry, &args, f);
		if (r < 0)
			return r;
	} else {
		args = js_array();
		add_words(args, js_get(b->image, "Entrypoint"));
	}
	for (char **p = b->args; *p; p++)
		js_push_str(args, *p);
	if (!*b->args && !entry)
		add_words(args, js_get(b->image, "Cmd"));
	*out = TAKE_PTR(args);
	return 0;
}

static int command(struct spec_build *b, json_object *process, struct fault *f)
{
	json_object *args CLEANUP_JSON = NULL;
	int r;

	r = words(b, &args, f);
	if (r < 0)
		return r;
	if (js_len(args))
		js_set(process, "args", TAKE_PTR(args));
	else if (!js_len(js_get(process, "args")))
		return fault_set(
			f, FAULT_INVALID_ARGUMENT, 0,
			"no command was given%s; name a program of the container, as /bin/sh",
			b->image ? " and the image has none" : "");
	if (args_flag(b->cli, "init")) {
		static const char *const options[] = { "bind",	 "rprivate", "ro",
						       "nosuid", "nodev",    NULL };
		json_object *with_init = js_array(), *old = js_get(process, "args"),
			    *added CLEANUP_JSON = js_array();
		char *path CLEANUP_FREE = NULL;

		js_push_str(with_init, SPEC_INIT_TARGET);
		js_push_str(with_init, "--");
		for (size_t i = 0; i < js_len(old); i++)
			js_push(with_init, json_object_get(js_at(old, i)));
		js_set(process, "args", with_init);
		r = spec_find_init(&path, f);
		if (r < 0)
			return r;
		js_push(added, volume_mount(SPEC_INIT_TARGET, "bind", path, options));
		volume_merge(js_array_at(b->spec, "mounts"), added);
	}
	return 0;
}

/* The image's own, before all that anybody asks for. */
static void image_environment(struct spec_build *b, json_object *env)
{
	json_object *list = js_get(b->image, "Env");

	for (size_t i = 0; i < js_len(list); i++) {
		const char *text = json_object_get_string(js_at(list, i));

		/* Without a name, or without a value, it is no variable. */
		if (*text != '=' && strchr(text, '='))
			envlist_set(env, text);
	}
}

static int environment(struct spec_build *b, json_object *process, const char *home,
		       struct fault *f)
{
	json_object *env = js_array_at(process, "env");
	const char *value;
	size_t at = 0;
	int r = 0;

	image_environment(b, env);
	if (!b->from_bundle) {
		envlist_default(env, "PATH", DEFAULT_PATH);
		envlist_default(env, "container", "davit");
		if (*js_str(b->spec, "hostname"))
			envlist_default(env, "HOSTNAME", js_str(b->spec, "hostname"));
	}
	if (b->tty)
		envlist_default(env, "TERM", "xterm");
	while (r == 0 && (value = args_each(b->cli, "env-file", &at)))
		r = envlist_file(env, value, f);
	at = 0;
	while (r == 0 && (value = args_each(b->cli, "env", &at)))
		r = envlist_option(env, value, f);
	if (home)
		envlist_default(env, "HOME", home);
	return r;
}

static int capabilities(struct spec_build *b, json_object *process, bool root, struct fault *f)
{
	uint64_t set, one, added = 0, dropped = 0;
	bool all_added = false, all_dropped = false, privileged = args_flag(b->cli, "privileged");
	const char *value;
	size_t at = 0;
	int r;

	set = privileged       ? caps_all()
	      : b->from_bundle ? caps_bits(js_get(process, "capabilities.bounding"))
			       : caps_default;
	b->caps = set;
	while ((value = args_each(b->cli, "cap-add", &at))) {
		r = caps_parse(value, &one, f);
		if (r < 0)
			return r;
		if (strcasecmp(value, "all") == 0)
			all_added = true;
		else
			added |= one;
	}
	at = 0;
	while ((value = args_each(b->cli, "cap-drop", &at))) {
		r = caps_parse(value, &one, f);
		if (r < 0)
			return r;
		if (strcasecmp(value, "all") == 0)
			all_dropped = true;
		else
			dropped |= one;
	}
	if (b->from_bundle && !privileged && !added && !dropped && !all_added && !all_dropped)
		return 0;
	r = caps_change(&set, added, all_added, dropped, all_dropped, f);
	if (r < 0)
		return r;
	/*
	 * "All" are those that the daemon has itself; one that was named and cannot be given is the
	 * daemon's to refuse.
	 */
	if ((privileged || all_added) && b->available)
		set &= b->available | added;
	b->caps = set;
	/*
	 * A privileged container keeps its capabilities under another user only by name as well;
	 * its bounding set is full.
	 */
	js_set(process, "capabilities", caps_json(set, all_added ? set : added, root));
	return 0;
}

static void rlimit_set(json_object *process, const char *name, uint64_t soft, uint64_t hard)
{
	json_object *list = js_array_at(process, "rlimits"), *o = NULL;

	for (size_t i = 0; i < js_len(list) && !o; i++) {
		if (strcmp(js_str(js_at(list, i), "type"), name) == 0)
			o = js_at(list, i);
	}
	if (!o) {
		o = js_object();
		js_set_str(o, "type", name);
		js_push(list, o);
	}
	js_set(o, "soft", mem_need(json_object_new_uint64(soft)));
	js_set(o, "hard", mem_need(json_object_new_uint64(hard)));
}

static int ulimits(struct spec_build *b, json_object *process, struct fault *f)
{
	const char *value, *name;
	uint64_t soft, hard;
	size_t at = 0;
	int r;

	while ((value = args_each(b->cli, "ulimit", &at))) {
		if (strcmp(value, "host") == 0) {
			struct rlimit now;
			int resource;

			for (unsigned i = 0; units_rlimit_at(i, &name, &resource); i++) {
				if (getrlimit((__rlimit_resource_t)resource, &now) == 0)
					rlimit_set(process, name, now.rlim_cur, now.rlim_max);
			}
			continue;
		}
		r = units_ulimit(value, &name, &soft, &hard, f);
		if (r < 0)
			return r;
		rlimit_set(process, name, soft, hard);
	}
	return 0;
}

int spec_build_process(struct spec_build *b, struct fault *f)
{
	json_object *process = js_object_at(b->spec, "process");
	const char *user = args_get(b->cli, "user"), *folder = args_get(b->cli, "workdir"),
		   *own = js_str(b->image, "WorkingDir");
	struct user who = { 0 };
	int r;

	if (!user && *js_str(b->image, "User"))
		user = js_str(b->image, "User");

	r = command(b, process, f);
	if (r < 0)
		return r;
	if (b->tty)
		js_set_bool(process, "terminal", true);
	if (user || !b->from_bundle) {
		r = user_lookup(b->rootfs, user ? user : "", &who, f);
		if (r < 0)
			return r;
		js_set(process, "user", user_json(&who));
	}
	r = environment(b, process, who.home, f);
	user_clear(&who);
	if (r < 0)
		return r;
	if (folder) {
		if (*folder != '/')
			return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
					 "--workdir \"%s\" does not begin with '/'", folder);
		js_set_str(process, "cwd", folder);
	} else if (*own) {
		char *path CLEANUP_FREE = mem_printf("%s%s", *own == '/' ? "" : "/", own);

		js_set_str(process, "cwd", path);
	}
	r = capabilities(b, process, js_int(process, "user.uid", 0) == 0, f);
	return r < 0 ? r : ulimits(b, process, f);
}
