// SPDX-License-Identifier: Apache-2.0
/*
 * -u: users and groups by the container's own /etc/passwd and /etc/group
 *
 * The files belong to the container, which may be hostile: they are opened inside its root (no link
 * leads out), must be regular, and are read up to a limit. Lines that do not have their form are
 * passed over.
 */
#include "cli/user.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/js.h"
#include "cli/mem.h"
#include "util/fd.h"

#define FILE_BYTES (16u << 20)
#define GROUPS 1024u /* supplementary groups taken, well below the kernel's 65,536 */
#define FIELDS 7

static char *read_in_root(int root, const char *path)
{
	int fd CLEANUP_CLOSE = -1;
	char *text CLEANUP_FREE = NULL;
	struct stat st;

	if (root < 0)
		return NULL;
	fd = fd_open_in_root(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > FILE_BYTES)
		return NULL;
	text = mem_alloc((size_t)st.st_size + 1);
	if (fd_read_all(fd, text, (size_t)st.st_size) < 0)
		return NULL;
	return TAKE_PTR(text);
}

/* Cuts the next line into fields; *text moves on. False at the end. Missing fields are "". */
static bool next_line(char **text, char *fields[FIELDS])
{
	static char empty[] = "";
	char *line = strsep(text, "\n");

	if (!line)
		return false;
	for (int i = 0; i < FIELDS; i++)
		fields[i] = line ? strsep(&line, ":") : empty;
	return true;
}

static bool number(const char *text, uint32_t *value)
{
	unsigned long long v;
	char *end;

	if (!isdigit((unsigned char)*text))
		return false;
	errno = 0;
	v = strtoull(text, &end, 10);
	/* The last one is the kernel's "no change". */
	if (errno || *end || v >= UINT32_MAX)
		return false;
	*value = (uint32_t)v;
	return true;
}

static bool all_digits(const char *text)
{
	uint32_t ignored;

	return number(text, &ignored);
}

/*
 * By name first: a name of digits alone is legal in neither file, but a listed one is what the
 * container means.
 */
static bool find_user(char *passwd, const char *user, struct user *out, char **name)
{
	uint32_t wanted, uid, gid;
	bool by_number = number(user, &wanted);
	char *f[FIELDS];

	while (next_line(&passwd, f)) {
		if (!number(f[2], &uid) || !number(f[3], &gid))
			continue;
		if (strcmp(f[0], user) != 0 && !(by_number && uid == wanted))
			continue;
		out->uid = uid;
		out->gid = gid;
		if (*f[5] == '/')
			out->home = mem_strdup(f[5]);
		*name = mem_strdup(f[0]);
		return true;
	}
	if (by_number)
		out->uid = wanted;
	return by_number;
}

static bool find_group(char *group, const char *name, gid_t *out)
{
	char *f[FIELDS];
	uint32_t gid;

	while (next_line(&group, f)) {
		if (strcmp(f[0], name) == 0 && number(f[2], &gid)) {
			*out = gid;
			return true;
		}
	}
	if (!number(name, &gid))
		return false;
	*out = gid;
	return true;
}

static bool lists(char *members, const char *name)
{
	char *member;

	while ((member = strsep(&members, ","))) {
		if (strcmp(member, name) == 0)
			return true;
	}
	return false;
}

static void find_groups(char *group, const char *name, struct user *out)
{
	char *f[FIELDS];
	uint32_t gid;

	while (next_line(&group, f)) {
		if (number(f[2], &gid) && lists(f[3], name) && out->n_groups < GROUPS)
			*(gid_t *)mem_grow(&out->groups, &out->n_groups, sizeof(gid_t)) = gid;
	}
}

int user_lookup(int root, const char *text, struct user *out, struct fault *f)
{
	size_t n = strcspn(text, ":");
	char *user CLEANUP_FREE = n ? mem_strndup(text, n) : mem_strdup("0");
	const char *group_name = text[n] ? text + n + 1 : "";
	char *passwd CLEANUP_FREE = read_in_root(root, "etc/passwd");
	char *group CLEANUP_FREE = read_in_root(root, "etc/group");
	char *name CLEANUP_FREE = NULL;
	static char nothing[1];

	memset(out, 0, sizeof(*out));
	if (root < 0 && (!all_digits(user) || (*group_name && !all_digits(group_name))))
		return fault_set(
			f, FAULT_PERMISSION_DENIED, 0,
			"only root can look \"%s\" up in the container's files; be root, or give numbers",
			text);
	if (!find_user(passwd ? passwd : nothing, user, out, &name))
		return fault_set(f, FAULT_NOT_FOUND, 0,
				 "there is no user \"%s\" in the container's /etc/passwd", user);
	if (*group_name) {
		if (!find_group(group ? group : nothing, group_name, &out->gid)) {
			user_clear(out);
			return fault_set(f, FAULT_NOT_FOUND, 0,
					 "there is no group \"%s\" in the container's /etc/group",
					 group_name);
		}
	} else if (name && group) {
		find_groups(group, name, out);
	}
	if (!out->home)
		out->home = mem_strdup("/");
	return 0;
}

void user_clear(struct user *u)
{
	free(u->home);
	free(u->groups);
	memset(u, 0, sizeof(*u));
}

json_object *user_json(const struct user *u)
{
	json_object *o = js_object(), *groups;

	js_set_int(o, "uid", u->uid);
	js_set_int(o, "gid", u->gid);
	if (u->n_groups) {
		groups = js_array();
		for (size_t i = 0; i < u->n_groups; i++)
			js_push(groups, mem_need(json_object_new_int64(u->groups[i])));
		js_set(o, "additionalGids", groups);
	}
	return o;
}
