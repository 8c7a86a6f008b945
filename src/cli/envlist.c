// SPDX-License-Identifier: Apache-2.0
/*
 * Environment lists: -e and --env-file
 *
 * As podman has them. A later setting of a name replaces the earlier one in its place, so that the
 * list never holds a name twice (which of two a program sees is undefined).
 */
#include "cli/envlist.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "cli/js.h"
#include "cli/mem.h"
#include "util/fd.h"

#define ENV_FILE_BYTES (1u << 20)

static json_object *find(json_object *list, const char *key, size_t n, size_t *at)
{
	for (size_t i = 0; i < js_len(list); i++) {
		json_object *entry = js_at(list, i);
		const char *text = json_object_get_string(entry);

		if (text && strncmp(text, key, n) == 0 && text[n] == '=') {
			*at = i;
			return entry;
		}
	}
	return NULL;
}

void envlist_set(json_object *list, const char *key_value)
{
	size_t at;

	if (find(list, key_value, strcspn(key_value, "="), &at))
		mem_need(json_object_array_put_idx(list, at, js_string(key_value)) < 0 ? NULL
										       : list);
	else
		js_push_str(list, key_value);
}

void envlist_default(json_object *list, const char *key, const char *value)
{
	size_t at;

	if (!find(list, key, strlen(key), &at)) {
		char *text CLEANUP_FREE = mem_printf("%s=%s", key, value);

		js_push_str(list, text);
	}
}

int envlist_option(json_object *list, const char *text, struct fault *f)
{
	size_t n = strcspn(text, "=");

	if (n == 0)
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "\"%s\" has no name before the '='",
				 text);
	if (text[n]) {
		envlist_set(list, text);
	} else if (text[n - 1] == '*') {
		for (char **e = environ; *e; e++) {
			if (strncmp(*e, text, n - 1) == 0 && strchr(*e, '='))
				envlist_set(list, *e);
		}
	} else {
		for (char **e = environ; *e; e++) {
			if (strncmp(*e, text, n) == 0 && (*e)[n] == '=')
				envlist_set(list, *e);
		}
	}
	return 0;
}

int envlist_file(json_object *list, const char *path, struct fault *f)
{
	char *text CLEANUP_FREE = NULL;
	char *line, *save = NULL;
	size_t size;
	int r;

	r = fd_read_input(path, ENV_FILE_BYTES, &text, &size);
	if (r < 0)
		return fault_sys(f, -r, "reading the environment file", path);
	if (strlen(text) != size)
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				 "the environment file %s is not a text", path);
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		size_t n = strlen(line);

		if (n && line[n - 1] == '\r')
			line[n - 1] = '\0';
		while (isspace((unsigned char)*line))
			line++;
		if (!*line || *line == '#')
			continue;
		r = envlist_option(list, line, f);
		if (r < 0) {
			fault_prefix(f, "environment file %s", path);
			return r;
		}
	}
	return 0;
}
