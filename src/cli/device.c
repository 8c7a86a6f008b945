// SPDX-License-Identifier: Apache-2.0
/*
 * --device, and the host's devices for --privileged
 */
#include "cli/device.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "cli/js.h"
#include "cli/mem.h"

#define FOLDERS 8 /* levels below /dev */

json_object *device_rule(int allow, const char *type, long long major_number,
			 long long minor_number, const char *access_text)
{
	json_object *o = js_object();

	js_set_bool(o, "allow", allow);
	if (type)
		js_set_str(o, "type", type);
	if (major_number >= 0)
		js_set_int(o, "major", major_number);
	if (minor_number >= 0)
		js_set_int(o, "minor", minor_number);
	js_set_str(o, "access", access_text);
	return o;
}

static void add(json_object *linux_spec, const struct stat *st, const char *path,
		const char *permissions)
{
	const char *type = S_ISBLK(st->st_mode) ? "b" : "c";
	json_object *devices = js_array_at(linux_spec, "devices"), *o;

	/* A later one of the same path replaces the earlier. */
	for (size_t i = 0; i < js_len(devices); i++) {
		if (strcmp(js_str(js_at(devices, i), "path"), path) == 0) {
			json_object_array_del_idx(devices, i, 1);
			break;
		}
	}
	o = js_object();
	js_set_str(o, "path", path);
	js_set_str(o, "type", type);
	js_set_int(o, "major", major(st->st_rdev));
	js_set_int(o, "minor", minor(st->st_rdev));
	js_set_int(o, "fileMode", st->st_mode & 07777);
	js_set_int(o, "uid", st->st_uid);
	js_set_int(o, "gid", st->st_gid);
	js_push(devices, o);
	if (permissions)
		js_push(js_array_at(js_object_at(linux_spec, "resources"), "devices"),
			device_rule(true, type, major(st->st_rdev), minor(st->st_rdev),
				    permissions));
}

/* Devices below a folder, as they are named there, under `target` in the container. */
static int add_folder(json_object *linux_spec, const char *source, const char *target,
		      const char *permissions, bool whole_dev, int level, struct fault *f)
{
	/* Those are mounts or terminals of their own in a container. */
	static const char *const not [] = { "pts", "shm", "fd", "mqueue", "console", "ptmx",
					    "stdin", "stdout", "stderr", "core", "hugepages", "lxc",
					    "lxd", ".lxc",
					    /* the runtime makes these itself */
					    "null", "zero", "full", "random", "urandom", "tty" };
	struct dirent *e;
	DIR *dir;
	int r = 0;

	dir = opendir(source);
	if (!dir)
		return level && errno == ENOENT
			       ? 0
			       : fault_sys(f, errno, "opening the device folder", source);
	while (r == 0 && (e = readdir(dir))) {
		char *from CLEANUP_FREE = NULL;
		char *to CLEANUP_FREE = NULL;
		bool skip = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
		struct stat st;

		for (size_t i = 0; whole_dev && level == 0 && i < ARRAY_SIZE(not ); i++)
			skip |= strcmp(e->d_name, not [i]) == 0;
		if (skip)
			continue;
		from = mem_printf("%s/%s", source, e->d_name);
		to = mem_printf("%s/%s", target, e->d_name);
		if (lstat(from, &st) < 0)
			continue;
		if (S_ISDIR(st.st_mode) && level < FOLDERS)
			r = add_folder(linux_spec, from, to, permissions, whole_dev, level + 1, f);
		else if (whole_dev && S_ISCHR(st.st_mode) && strncmp(e->d_name, "tty", 3) == 0 &&
			 e->d_name[3] >= '0' && e->d_name[3] <= '9')
			continue; /* the host's consoles */
		else if (S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode))
			add(linux_spec, &st, to, permissions);
	}
	closedir(dir);
	return r;
}

static bool is_permissions(const char *text)
{
	return *text && strspn(text, "rwm") == strlen(text);
}

int device_option(json_object *linux_spec, const char *text, struct fault *f)
{
	char *copy CLEANUP_FREE = mem_strdup(text);
	char *rest = copy;
	const char *source = strsep(&rest, ":"), *target = source, *permissions = "rwm";
	struct stat st;

	if (rest) {
		const char *second = strsep(&rest, ":");

		if (is_permissions(second) && !rest)
			permissions = second;
		else
			target = second;
		if (rest)
			permissions = rest;
	}
	if (*source != '/' || *target != '/' || !is_permissions(permissions) ||
	    strstr(target, "/../"))
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				 "\"%s\" is not SOURCE[:DESTINATION][:rwm] with absolute paths",
				 text);
	if (stat(source, &st) < 0)
		return fault_sys(f, errno, "looking for the device", source);
	if (S_ISDIR(st.st_mode)) {
		char *clean CLEANUP_FREE = mem_strdup(target);
		size_t n = strlen(clean);

		while (n > 1 && clean[n - 1] == '/')
			clean[--n] = '\0';
		return add_folder(linux_spec, source, clean, permissions, false, 0, f);
	}
	if (!S_ISBLK(st.st_mode) && !S_ISCHR(st.st_mode))
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				 "%s is no device; -v mounts other files", source);
	add(linux_spec, &st, target, permissions);
	return 0;
}

int device_all(json_object *linux_spec, struct fault *f)
{
	return add_folder(linux_spec, "/dev", "/dev", NULL, true, 0, f);
}
