// SPDX-License-Identifier: Apache-2.0
/*
 * -v and --tmpfs
 *
 * Options are checked here against what an OCI runtime takes, so that a mistyped one is an error of
 * this command and not data for a file system. What podman offers and davit does not (volumes by
 * name, overlay, ownership changes) is refused by name.
 */
#include "cli/volume.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/js.h"
#include "cli/mem.h"

static const char *const flag_options[] = {
	"ro",	      "rw",	     "suid",	 "nosuid",     "dev",	      "nodev",
	"exec",	      "noexec",	     "sync",	 "async",      "atime",	      "noatime",
	"diratime",   "nodiratime",  "relatime", "norelatime", "strictatime", "nostrictatime",
	"private",    "rprivate",    "shared",	 "rshared",    "slave",	      "rslave",
	"unbindable", "runbindable", "bind",	 "rbind",      "rro",	      NULL,
};
static const char *const propagation_options[] = { "private",	 "rprivate",	"shared",
						   "rshared",	 "slave",	"rslave",
						   "unbindable", "runbindable", NULL };

static bool listed(const char *const *list, const char *word)
{
	for (; *list; list++) {
		if (strcmp(*list, word) == 0)
			return true;
	}
	return false;
}

static bool has_any(json_object *options, const char *const *list)
{
	for (size_t i = 0; i < js_len(options); i++) {
		if (listed(list, json_object_get_string(js_at(options, i))))
			return true;
	}
	return false;
}

static bool has(json_object *options, const char *word)
{
	const char *list[] = { word, NULL };

	return has_any(options, list);
}

/* Without doubled and final slashes; ".." is refused, since it would be read before links are. */
static int clean_destination(const char *text, char **out, struct fault *f)
{
	char *clean CLEANUP_FREE = mem_alloc(strlen(text) + 2);
	char *copy CLEANUP_FREE = mem_strdup(text);
	char *part, *save = NULL, *end = clean;

	if (*text != '/')
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				 "the path in the container \"%s\" does not begin with '/'", text);
	for (part = strtok_r(copy, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
		if (strcmp(part, "..") == 0)
			return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
					 "the path in the container \"%s\" has a \"..\"", text);
		if (strcmp(part, ".") == 0)
			continue;
		*end++ = '/';
		end = stpcpy(end, part);
	}
	if (end == clean)
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				 "nothing can be mounted over the container's root");
	*out = TAKE_PTR(clean);
	return 0;
}

json_object *volume_mount(const char *destination, const char *type, const char *source,
			  const char *const *options)
{
	json_object *m = js_object();

	js_set_str(m, "destination", destination);
	js_set_str(m, "type", type);
	js_set_str(m, "source", source);
	js_set(m, "options", js_strings(options));
	return m;
}

static int bind_options(json_object *options, const char *text, struct fault *f)
{
	char *copy CLEANUP_FREE = mem_strdup(text);
	char *word, *save = NULL;

	for (word = strtok_r(copy, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		if (strcmp(word, "z") == 0 || strcmp(word, "Z") == 0) {
			/* Relabelling means nothing to a host without SELinux. */
			if (access("/sys/fs/selinux/enforce", F_OK) == 0)
				return fault_set(
					f, FAULT_UNIMPLEMENTED, 0,
					"the volume option %s is not supported: label the folder with chcon(1)",
					word);
		} else if (listed(flag_options, word)) {
			js_push_str(options, word);
		} else {
			return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
					 "unknown or unsupported volume option \"%s\"", word);
		}
	}
	if (!has(options, "bind") && !has(options, "rbind"))
		js_push_str(options, "rbind");
	if (!has_any(options, propagation_options))
		js_push_str(options, "rprivate");
	return 0;
}

int volume_bind(json_object *mounts, const char *text, struct fault *f)
{
	size_t n = strcspn(text, ":");
	char *source CLEANUP_FREE = mem_strndup(text, n);
	char *absolute CLEANUP_FREE = NULL;
	char *target CLEANUP_FREE = NULL;
	char *clean CLEANUP_FREE = NULL;
	json_object *m CLEANUP_JSON = NULL;
	static const char *const none[] = { NULL };
	const char *options;
	int r;

	if (!text[n] || !n)
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				 "\"%s\" is not SOURCE:DESTINATION[:OPTIONS]", text);
	if (*source != '/' && strncmp(source, "./", 2) != 0 && strncmp(source, "../", 3) != 0 &&
	    strcmp(source, ".") != 0 && strcmp(source, "..") != 0)
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				 "volumes by name are not supported; \"%s\" as a folder is ./%s",
				 source, source);
	text += n + 1;
	n = strcspn(text, ":");
	target = mem_strndup(text, n);
	options = text[n] ? text + n + 1 : "";
	r = clean_destination(target, &clean, f);
	if (r < 0)
		return r;
	absolute = realpath(source, NULL);
	if (!absolute)
		return fault_sys(f, errno, "looking for the volume's source", source);
	m = volume_mount(clean, "bind", absolute, none);
	r = bind_options(js_get(m, "options"), options, f);
	if (r < 0)
		return r;
	js_push(mounts, TAKE_PTR(m));
	return 0;
}

int volume_tmpfs(json_object *mounts, const char *text, struct fault *f)
{
	static const char *const none[] = { NULL };
	static const char *const pairs[][2] = { { "noexec", "exec" },
						{ "nosuid", "suid" },
						{ "nodev", "dev" } };
	static const char *const with_value[] = { "size=", "mode=", "nr_inodes=", "nr_blocks=",
						  "uid=",  "gid=",  "huge=",	  "mpol=" };
	size_t n = strcspn(text, ":");
	char *target CLEANUP_FREE = mem_strndup(text, n);
	char *copy CLEANUP_FREE = mem_strdup(text[n] ? text + n + 1 : "");
	char *clean CLEANUP_FREE = NULL;
	json_object *m CLEANUP_JSON = NULL;
	json_object *options;
	char *word, *save = NULL;
	int r;

	r = clean_destination(target, &clean, f);
	if (r < 0)
		return r;
	m = volume_mount(clean, "tmpfs", "tmpfs", none);
	options = js_get(m, "options");
	for (word = strtok_r(copy, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		bool known = listed(flag_options, word) && strcmp(word, "bind") != 0 &&
			     strcmp(word, "rbind") != 0;

		for (size_t i = 0; i < ARRAY_SIZE(with_value); i++)
			known |= strncmp(word, with_value[i], strlen(with_value[i])) == 0;
		if (!known)
			return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
					 "unknown or unsupported tmpfs option \"%s\"", word);
		js_push_str(options, word);
	}
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		if (!has_any(options, (const char *const[]){ pairs[i][0], pairs[i][1], NULL }))
			js_push_str(options, pairs[i][0]);
	}
	js_push(mounts, TAKE_PTR(m));
	return 0;
}

static size_t depth(json_object *mount)
{
	size_t n = 0;

	for (const char *p = js_str(mount, "destination"); *p; p++)
		n += *p == '/';
	return n;
}

static bool find(json_object *mounts, const char *destination, size_t *at)
{
	for (size_t i = 0; i < js_len(mounts); i++) {
		if (strcmp(js_str(js_at(mounts, i), "destination"), destination) == 0) {
			*at = i;
			return true;
		}
	}
	return false;
}

int volume_has(json_object *mounts, const char *destination)
{
	size_t at;

	return find(mounts, destination, &at);
}

void volume_merge(json_object *mounts, json_object *added)
{
	size_t n = js_len(added), at;

	/* By depth, and in the given order within one: lists are short, so the simplest way. */
	for (size_t level = 1; n; level++) {
		for (size_t i = 0; i < js_len(added); i++) {
			json_object *m = js_at(added, i);

			if (depth(m) != level)
				continue;
			n--;
			if (find(mounts, js_str(m, "destination"), &at))
				json_object_array_del_idx(mounts, at, 1);
			js_push(mounts, json_object_get(m));
		}
	}
}
