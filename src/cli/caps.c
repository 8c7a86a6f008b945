// SPDX-License-Identifier: Apache-2.0
/*
 * Capabilities: the default set, --cap-add and --cap-drop
 *
 * Sets are bit masks by the kernel's numbers; names come from libcap, so that a capability which is
 * newer than this file can be given as well.
 */
#include "cli/caps.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/capability.h>

#include "cli/js.h"
#include "cli/mem.h"
#include "util/fd.h"

#define BIT(cap) (1ull << (cap))

const uint64_t caps_default = BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_FOWNER) |
			      BIT(CAP_FSETID) | BIT(CAP_KILL) | BIT(CAP_NET_BIND_SERVICE) |
			      BIT(CAP_SETFCAP) | BIT(CAP_SETGID) | BIT(CAP_SETPCAP) |
			      BIT(CAP_SETUID) | BIT(CAP_SYS_CHROOT);

uint64_t caps_all(void)
{
	cap_value_t n = cap_max_bits();

	return n >= 64 ? UINT64_MAX : (1ull << n) - 1;
}

uint64_t caps_of(pid_t pid)
{
	char path[64];
	char *status CLEANUP_FREE = NULL;
	const char *p;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	if (fd_read_file(AT_FDCWD, path, 65536, &status, NULL) < 0)
		return 0;
	p = strstr(status, "\nCapEff:");
	return p ? strtoull(p + strlen("\nCapEff:"), NULL, 16) : 0;
}

int caps_parse(const char *text, uint64_t *bits, struct fault *f)
{
	char *name CLEANUP_FREE = NULL;
	cap_value_t cap;

	if (strcasecmp(text, "all") == 0) {
		*bits = caps_all();
		return 0;
	}
	name = mem_printf("%s%s", strncasecmp(text, "cap_", 4) == 0 ? "" : "cap_", text);
	for (char *p = name; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	if (cap_from_name(name, &cap) < 0 || cap >= cap_max_bits())
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				 "there is no capability \"%s\" (see capabilities(7))", text);
	*bits = BIT(cap);
	return 0;
}

int caps_change(uint64_t *set, uint64_t added, bool all_added, uint64_t dropped, bool all_dropped,
		struct fault *f)
{
	if (all_added && all_dropped)
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				 "all capabilities are both added and dropped");
	if (added & dropped) {
		json_object *both CLEANUP_JSON = caps_names(added & dropped);

		return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "%s is both added and dropped",
				 json_object_get_string(js_at(both, 0)));
	}
	if (all_added)
		*set = caps_all();
	if (all_dropped)
		*set = 0;
	*set = (*set | added) & ~dropped;
	return 0;
}

json_object *caps_names(uint64_t set)
{
	json_object *names = js_array();

	for (cap_value_t cap = 0; cap < 64; cap++) {
		char *name;

		if (!(set & BIT(cap)) || cap >= cap_max_bits())
			continue;
		name = mem_need(cap_to_name(cap));
		for (char *p = name; *p; p++)
			*p = (char)toupper((unsigned char)*p);
		js_push_str(names, name);
		cap_free(name);
	}
	return names;
}

json_object *caps_json(uint64_t set, uint64_t added, bool root)
{
	uint64_t now = root ? set : added & set;
	json_object *o = js_object();

	js_set(o, "bounding", caps_names(set));
	js_set(o, "effective", caps_names(now));
	js_set(o, "permitted", caps_names(now));
	if (!root) {
		js_set(o, "inheritable", caps_names(now));
		js_set(o, "ambient", caps_names(now));
	}
	return o;
}

uint64_t caps_bits(json_object *names)
{
	uint64_t set = 0, bit = 0;

	for (size_t i = 0; i < js_len(names); i++) {
		const char *name = json_object_get_string(js_at(names, i));

		if (name && strcasecmp(name, "all") != 0 && caps_parse(name, &bit, NULL) == 0)
			set |= bit;
	}
	return set;
}
