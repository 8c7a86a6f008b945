// SPDX-License-Identifier: Apache-2.0
/*
 * Overlays of many layers: their options with short paths
 *
 * The daemon puts no snapshots where their paths would have one of overlayfs's separators in them, so
 * nothing is escaped here.
 */
#include "cli/overlay.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/js.h"
#include "cli/mem.h"
#include "util/cleanup.h"

char *overlay_folder(json_object *options)
{
	static const char *const keys[] = { "lowerdir=", "upperdir=", "workdir=" };
	char *common = NULL;

	for (size_t i = 0; i < js_len(options); i++) {
		const char *o = json_object_get_string(js_at(options, i));
		size_t k = 0;

		while (k < ARRAY_SIZE(keys) && strncmp(o, keys[k], strlen(keys[k])) != 0)
			k++;
		if (k == ARRAY_SIZE(keys))
			continue;
		for (o += strlen(keys[k]); *o; o += o[0] == ':') {
			size_t n = strcspn(o, ":"), same = 0;

			if (!common)
				common = mem_strndup(o, n);
			while (same < n && common[same] && common[same] == o[same])
				same++;
			common[same] = '\0';
			o += n;
		}
	}
	if (!common || *common != '/') {
		free(common);
		return mem_strdup("");
	}
	strrchr(common, '/')[1] = '\0';
	return common;
}

char *overlay_relative(const char *option, const char *folder)
{
	size_t n = strlen(folder);
	char *out = mem_alloc(strlen(option) + 1), *to = out;

	while (*option) {
		if (n && (to == out || to[-1] == '=' || to[-1] == ':') &&
		    strncmp(option, folder, n) == 0)
			option += n;
		if (*option)
			*to++ = *option++;
	}
	*to = '\0';
	return out;
}

bool overlay_fits(const char *data)
{
	return strlen(data) < (size_t)sysconf(_SC_PAGESIZE);
}
