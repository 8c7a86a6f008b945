// SPDX-License-Identifier: Apache-2.0
/*
 * A container's mounts, sorted by who restores them
 *
 * The truth is mountinfo (proc_pid_mountinfo(5)), not the spec: hooks and the container itself may
 * have mounted things. A mount whose superblock the host has mounted too cannot be criu's to restore.
 * The root is handed over by --root and is not in the list.
 */
#include "checkpoint/criu_mounts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/limits.h"

static const char *const kind_names[CRIU_MOUNT_KINDS] = {
	[CRIU_MOUNT_BIND] = "bind",	  [CRIU_MOUNT_OWN] = "own",
	[CRIU_MOUNT_CGROUP] = "cgroup",	  [CRIU_MOUNT_CGROUP_ROOT] = "cgroup-root",
	[CRIU_MOUNT_MASK] = "mask",	  [CRIU_MOUNT_NULL] = "null",
	[CRIU_MOUNT_CONSOLE] = "console",
};

const char *criu_mount_kind_name(enum criu_mount_kind kind)
{
	return kind_names[kind];
}

int criu_mount_kind_of(const char *name)
{
	for (int i = 0; i < CRIU_MOUNT_KINDS; i++)
		if (!strcmp(kind_names[i], name))
			return i;
	return -EINVAL;
}

void criu_mounts_clear(struct criu_mounts *m)
{
	for (size_t i = 0; i < m->n; i++) {
		free(m->v[i].key);
		free(m->v[i].path);
		free(m->v[i].root);
		free(m->v[i].controllers);
	}
	free(m->v);
	*m = (struct criu_mounts){ 0 };
}

/* One line, cut into its fields in place. */
struct line {
	char *device, *root, *path, *options, *type, *source, *super;
};

/* \040 and the like */
static void unescape(char *s)
{
	char *to = s;

	while (*s) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
		    s[3] >= '0' && s[3] <= '7') {
			*to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 4;
		} else {
			*to++ = *s++;
		}
	}
	*to = '\0';
}

static bool cut(char *text, struct line *l)
{
	char *fields[64], *word;
	size_t n = 0, dash = 0;

	/* an empty field is one too: a mount may have "" as its source */
	while (n < 64 && (word = strsep(&text, " "))) {
		if (!strcmp(word, "-") && !dash)
			dash = n;
		fields[n++] = word;
	}
	if (dash < 6 || n < dash + 3)
		return false;
	l->device = fields[2];
	l->root = fields[3];
	l->path = fields[4];
	l->options = fields[5];
	l->type = fields[dash + 1];
	l->source = fields[dash + 2];
	l->super = n > dash + 3 ? fields[dash + 3] : fields[dash]; /* "-": no options */
	unescape(l->root);
	unescape(l->path);
	return true;
}

static bool has_option(const char *options, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = options; p; p = strchr(p, ',')) {
		p += *p == ',';
		if (!strncmp(p, name, n) && (p[n] == ',' || !p[n]))
			return true;
	}
	return false;
}

/* Whether " DEVICE " is the third field of any line. */
static bool host_has(const char *host, const char *device)
{
	size_t n = strlen(device);

	for (const char *p = host; p; p = strchr(p, '\n')) {
		p += *p == '\n';
		for (int skip = 0; skip < 2 && p; skip++) {
			p = strchr(p, ' ');
			if (p)
				p++;
		}
		if (!p)
			return false;
		if (!strncmp(p, device, n) && p[n] == ' ')
			return true;
	}
	return false;
}

/* What criu makes anew when the container has it to itself. */
static bool criu_can(const struct line *l)
{
	static const char *const types[] = { "proc", "sysfs", "tmpfs", "devpts", "mqueue" };

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (!strcmp(l->type, types[i]))
			return true;
	return false;
}

/* The runtime's masks: an empty read-only tmpfs that has room for its root alone. */
static bool is_mask(const struct line *l)
{
	return !strcmp(l->type, "tmpfs") && has_option(l->super, "ro") &&
	       (has_option(l->super, "nr_inodes=1") || !strcmp(l->source, "none"));
}

/* The container's root, the first line. */
struct own {
	char *device, *root;
};

static void own_clear(struct own *o)
{
	free(o->device);
	free(o->root);
}

/* Where it is within the container's root, "/…"; NULL: elsewhere. */
static const char *within(const struct line *l, const struct own *o)
{
	size_t n = strlen(o->root);

	if (strcmp(l->device, o->device) != 0)
		return NULL;
	if (n == 1)
		return l->root;
	return !strncmp(l->root, o->root, n) && l->root[n] == '/' ? l->root + n : NULL;
}

/* CRIU_MOUNT_KINDS: criu's own. */
static int kind_of(const struct line *l, const struct own *root, const char *host, struct fault *f)
{
	if (!strcmp(l->path, "/dev/console"))
		return CRIU_MOUNT_CONSOLE;
	if (!strcmp(l->type, "cgroup") || !strcmp(l->type, "cgroup2"))
		return CRIU_MOUNT_CGROUP;
	if (!strcmp(l->path, "/sys/fs/cgroup"))
		return CRIU_MOUNT_CGROUP_ROOT;
	if (is_mask(l) && !host_has(host, l->device))
		return CRIU_MOUNT_MASK;
	if (!strcmp(l->type, "devtmpfs") && !strcmp(l->root, "/null") &&
	    strcmp(l->path, "/dev/null") != 0)
		return CRIU_MOUNT_NULL;
	if (host_has(host, l->device))
		return within(l, root) ? CRIU_MOUNT_OWN : CRIU_MOUNT_BIND;
	/* made by the container itself, from its own root */
	if (criu_can(l) || !strcmp(l->device, root->device))
		return CRIU_MOUNT_KINDS;
	return fault_set(f, FAULT_FAILED_PRECONDITION, EOPNOTSUPP,
			 "the mount of type %s at %s cannot be checkpointed", l->type, l->path);
}

/* What a hierarchy's options have beside its controllers (kernel/cgroup/cgroup-v1.c). */
static bool is_controller(const char *option, size_t n)
{
	static const char *const others[] = {
		"rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode", "favordynmods"
	};

	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (n == strlen(others[i]) && !strncmp(option, others[i], n))
			return false;
	return n && strncmp(option, "release_agent=", 14) != 0;
}

/* "rw,xattr,cpu,cpuacct" is "cpu,cpuacct" */
static char *controllers_of(const struct line *l)
{
	char *out = calloc(1, strlen(l->super) + 1), *to = out;

	if (!out || !strcmp(l->type, "cgroup2"))
		return out;
	for (const char *p = l->super; *p; p += *p == ',') {
		size_t n = strcspn(p, ",");

		/* a named one is known by that */
		if (!strncmp(p, "name=", 5)) {
			memcpy(out, p, n);
			out[n] = '\0';
			return out;
		}
		if (is_controller(p, n)) {
			if (to != out)
				*to++ = ',';
			memcpy(to, p, n);
			to += n;
		}
		p += n;
	}
	return out;
}

static int add(struct criu_mounts *m, const struct line *l, enum criu_mount_kind kind,
	       const struct own *own)
{
	struct criu_mount *grown = reallocarray(m->v, m->n + 1, sizeof(*grown)), *one;

	if (!grown)
		return -ENOMEM;
	m->v = grown;
	one = &m->v[m->n++];
	*one = (struct criu_mount){ .kind = kind };
	snprintf(one->name, sizeof(one->name), "m%zu", m->n - 1);
	one->path = strdup(l->path);
	one->root = strdup(kind == CRIU_MOUNT_OWN ? within(l, own) : l->root);
	one->controllers = kind == CRIU_MOUNT_CGROUP ? controllers_of(l) : strdup("");
	one->read_only = has_option(l->options, "ro");
	return one->path && one->root && one->controllers ? 0 : -ENOMEM;
}

int criu_mounts_read(struct criu_mounts *m, const char *container, const char *host,
		     struct fault *f)
{
	CLEANUP_FREE char *text = strdup(container);
	CLEANUP(own_clear) struct own root = { 0 };
	char *save = NULL, *line;
	struct line l;
	int r = 0;

	*m = (struct criu_mounts){ 0 };
	if (!text)
		return fault_sys(f, ENOMEM, "read the mounts of", "the container");
	for (line = strtok_r(text, "\n", &save); line && !r; line = strtok_r(NULL, "\n", &save)) {
		if (!cut(line, &l))
			continue;
		if (!root.root) {
			root.device = strdup(l.device);
			root.root = strdup(l.root);
			if (!root.device || !root.root)
				r = fault_sys(f, ENOMEM, "read the mounts of", "the container");
			continue;
		}
		if (m->n == LIMIT_CHECKPOINT_MOUNTS) {
			r = fault_set(f, FAULT_RESOURCE_EXHAUSTED, 0,
				      "the container has more than %u mounts",
				      LIMIT_CHECKPOINT_MOUNTS);
			break;
		}
		r = kind_of(&l, &root, host, f);
		if (r < 0)
			break;
		if (r != CRIU_MOUNT_KINDS && add(m, &l, (enum criu_mount_kind)r, &root) < 0)
			r = fault_sys(f, ENOMEM, "read the mounts of", "the container");
		else
			r = 0;
	}
	if (r < 0)
		criu_mounts_clear(m);
	return r;
}

int criu_mount_paths(const char *mountinfo, char ***paths, size_t *n)
{
	CLEANUP_FREE char *text = strdup(mountinfo);
	char *save = NULL, *line;
	size_t room = 0;
	struct line l;

	*n = 0;
	for (const char *p = mountinfo; *p; p++)
		room += *p == '\n';
	*paths = calloc(room + 1, sizeof(char *));
	if (!text || !*paths)
		goto no_memory;
	line = strtok_r(text, "\n", &save); /* the root */
	while (line && (line = strtok_r(NULL, "\n", &save))) {
		if (!cut(line, &l))
			continue;
		(*paths)[*n] = strdup(l.path);
		if (!(*paths)[(*n)++])
			goto no_memory;
	}
	return 0;
no_memory:
	for (size_t i = 0; *paths && i < *n; i++)
		free((*paths)[i]);
	free(*paths);
	*paths = NULL;
	*n = 0;
	return -ENOMEM;
}

int criu_mount_lines(const char *mountinfo, int (*fn)(void *user, const struct criu_mount_line *l),
		     void *user)
{
	CLEANUP_FREE char *text = strdup(mountinfo);
	char *save = NULL;
	struct line l;
	int r = 0;

	if (!text)
		return -ENOMEM;
	for (char *line = strtok_r(text, "\n", &save); line && r >= 0;
	     line = strtok_r(NULL, "\n", &save)) {
		if (!cut(line, &l))
			continue;
		r = fn(user, &(struct criu_mount_line){ l.path, l.root, l.type });
	}
	return r < 0 ? r : 0;
}
