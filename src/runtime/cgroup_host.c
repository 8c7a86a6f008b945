// SPDX-License-Identifier: Apache-2.0
/*
 * cgroups: the host's layout
 *
 * A host is found once, from the table of mounts: each v1 hierarchy (a controller, several
 * joined, or a named one without any, as systemd's) and the v2 hierarchy. Every hierarchy's mount
 * is held open as an O_PATH fd for the life of the host, and everything else is done relative to
 * these fds, so that no later mount can put another file system in between. What libcgroup knows
 * of the same mounts is asked for and compared: where it agrees, values go through it; where it
 * does not (named hierarchies, controllers that it takes from an incomplete /proc/cgroups,
 * another table of mounts) the files are written plainly.
 *
 * On a host with v2 alone, where the daemon's own group is the one that was delegated to it
 * (systemd's Delegate=yes marks it by an extended attribute), the default parent moves below that
 * group, and the daemon goes into a leaf of its own: v2 allows no processes in a group that hands
 * controllers down. That group is then the top of what is davit's: the controllers are those that
 * it was given, and nothing is changed in the groups above.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "runtime/cgroup_internal.h"
#include "runtime/cgroup_lib.h"
#include "util/cleanup.h"
#include "util/fd.h"

#define MOUNTINFO_MAX (8u << 20)

static bool names_have(const char *names, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = n ? strstr(names, name) : NULL; p; p = strstr(p + 1, name))
		if (p > names && p[-1] == ' ' && p[n] == ' ')
			return true;
	return false;
}

int cgroup_host_find(const struct cgroup_host *h, const char *controller)
{
	for (size_t i = 0; i < h->n; i++)
		if (names_have(h->h[i].names, controller))
			return (int)i;
	return -1;
}

/* mountinfo writes blanks, tabs, newlines and backslashes as \ and three octal digits. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
		    s[3] >= '0' && s[3] <= '7') {
			*to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*to++ = *s;
		}
	}
	*to = 0;
}

/* Mount options of a v1 hierarchy that are neither a controller nor a name. */
static bool is_flag(const char *option)
{
	static const char *const flags[] = { "rw",	     "ro",
					     "none",	     "all",
					     "noprefix",     "clone_children",
					     "xattr",	     "cpuset_v2_mode",
					     "favordynmods", "nofavordynmods" };

	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (!strcmp(option, flags[i]))
			return true;
	return !strncmp(option, "release_agent=", 14);
}

/* "rw,xattr,cpu,cpuacct" to " cpu cpuacct "; options is cut up. */
static char *v1_names(char *options)
{
	size_t size = strlen(options) + 3, used;
	char *out = malloc(size), *save = NULL;

	if (!out)
		return NULL;
	used = (size_t)snprintf(out, size, " ");
	for (char *o = strtok_r(options, ",", &save); o; o = strtok_r(NULL, ",", &save))
		if (!is_flag(o))
			used += (size_t)snprintf(out + used, size - used, "%s ", o);
	return out;
}

static char *v2_names(int fd, const char *file)
{
	CLEANUP_FREE char *text = NULL;
	char *out;

	if (fd_read_file(fd, file, CGROUP_FILE_MAX, &text, NULL) < 0)
		return NULL;
	text[strcspn(text, "\n")] = 0;
	if (asprintf(&out, " %s%s", text, *text ? " " : "") < 0)
		return NULL;
	return out;
}

static int add_hierarchy(struct cgroup_host *h, const char *mount, bool v2, char *options,
			 struct fault *f)
{
	struct cgroup_hierarchy *e;

	if (v2 && h->v2 >= 0)
		return 0;
	if (h->n == CGROUP_HIERARCHIES)
		return fault_set(f, FAULT_RESOURCE_EXHAUSTED, ENOSPC,
				 "more than %d cgroup hierarchies are mounted", CGROUP_HIERARCHIES);
	e = &h->h[h->n];
	memset(e, 0, sizeof(*e));
	e->fd = open(mount, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (e->fd < 0)
		return fault_sys(f, errno, "open the cgroup mount", mount);
	h->n++; /* cgroup_host_free takes care from here */
	e->v2 = v2;
	e->mount = strdup(mount);
	e->names = v2 ? v2_names(e->fd, "cgroup.controllers") : v1_names(options);
	if (!e->mount || !e->names)
		return fault_sys(f, v2 && e->mount ? errno : ENOMEM, "read cgroup.controllers of",
				 mount);
	/* one hierarchy may be mounted at several places: the first is taken */
	for (size_t i = 0; !v2 && i + 1 < h->n; i++) {
		if (strcmp(h->h[i].names, e->names))
			continue;
		free(e->mount);
		free(e->names);
		close(e->fd);
		h->n--;
		return 0;
	}
	if (v2)
		h->v2 = (int)h->n - 1;
	return 0;
}

/* 36 35 98:0 /root /mount/point rw,noatime master:1 - type source superoptions */
static int read_mounts(struct cgroup_host *h, const char *mountinfo, struct fault *f)
{
	CLEANUP_FREE char *text = NULL;
	char *save = NULL;
	int r = fd_read_file(AT_FDCWD, mountinfo, MOUNTINFO_MAX, &text, NULL);

	if (r < 0)
		return fault_sys(f, -r, "read", mountinfo);
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *inner = NULL, *tail = strstr(line, " - "), *point = NULL, *type, *options;
		char *field = strtok_r(line, " ", &inner);

		if (!tail)
			continue;
		for (int i = 0; field && i < 4; i++)
			field = strtok_r(NULL, " ", &inner);
		point = field;
		inner = NULL;
		type = strtok_r(tail + 3, " ", &inner);
		options = type && strtok_r(NULL, " ", &inner) ? strtok_r(NULL, " ", &inner) : NULL;
		if (!point || !options || (strcmp(type, "cgroup") && strcmp(type, "cgroup2")))
			continue;
		unescape(point);
		r = add_hierarchy(h, point, !strcmp(type, "cgroup2"), options, f);
		if (r < 0)
			return r;
	}
	if (!h->n)
		return fault_set(f, FAULT_FAILED_PRECONDITION, 0,
				 "no cgroup file system is mounted on this host");
	return 0;
}

static void ask_lib(struct cgroup_hierarchy *e)
{
	CLEANUP_FREE char *names = strdup(e->names);
	char *save = NULL;

	e->lib = false;
	if (!names)
		return;
	for (char *c = strtok_r(names, " ", &save); c; c = strtok_r(NULL, " ", &save)) {
		e->lib = cgroup_lib_knows(c, e->mount);
		if (!e->lib)
			return;
	}
}

static int describe(struct cgroup_host *h)
{
	static const char *const layouts[] = {
		[CGROUP_V1] = "v1", [CGROUP_HYBRID] = "hybrid", [CGROUP_V2] = "v2"
	};
	size_t size = 64, used;

	for (size_t i = 0; i < h->n; i++)
		size += strlen(h->h[i].names) + 8;
	h->describe = malloc(size);
	if (!h->describe)
		return -ENOMEM;
	used = (size_t)snprintf(h->describe, size, "%s:", layouts[h->layout]);
	for (size_t i = 0; i < h->n; i++) {
		const char *names = h->h[i].names;

		if (h->h[i].v2)
			continue;
		used += (size_t)snprintf(h->describe + used, size - used, "%.*s",
					 (int)strlen(names) - 1, names);
	}
	if (h->v2 >= 0) {
		const char *names = h->h[h->v2].names;
		int n = (int)strlen(names) - 2;

		if (h->layout == CGROUP_V2)
			snprintf(h->describe + used, size - used, " %.*s", n < 0 ? 0 : n,
				 names + 1);
		else
			snprintf(h->describe + used, size - used, " + v2 (%.*s)", n < 0 ? 0 : n,
				 names + 1);
	}
	return 0;
}

int cgroup_of_pid(const char *who, char **out)
{
	CLEANUP_FREE char *text = NULL;
	char path[64], *save = NULL;
	int r;

	snprintf(path, sizeof(path), "/proc/%s/cgroup", who);
	r = fd_read_file(AT_FDCWD, path, CGROUP_FILE_MAX, &text, NULL);
	if (r < 0)
		return r;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (strncmp(line, "0::/", 4))
			continue;
		*out = strdup(line + 3);
		return *out ? 0 : -ENOMEM;
	}
	return -ENOENT;
}

/*
 * A process's v2 group, without the leaf that an earlier daemon was moved into; "" for the root.
 * who: "self" or a pid. malloc'ed.
 */
static int group_of(const char *who, char **out)
{
	char *leaf;
	int r = cgroup_of_pid(who, out);

	if (r < 0)
		return r;
	leaf = strrchr(*out, '/');
	if (!strcmp(leaf + 1, CGROUP_DAEMON_LEAF))
		*leaf = 0;
	else if (!strcmp(*out, "/"))
		**out = 0;
	return 0;
}

static bool is_delegated(const struct cgroup_host *h, const char *path)
{
	char full[PATH_MAX], value[8];
	static const char *const marks[] = { "trusted.delegate", "user.delegate" };

	if (snprintf(full, sizeof(full), "%s%s", h->h[h->v2].mount, path) >= (int)sizeof(full))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(marks); i++) {
		ssize_t n = getxattr(full, marks[i], value, sizeof(value));

		if (n == 1 && value[0] == '1')
			return true;
	}
	return false;
}

/* The guardian: the same program, in the same group. */
static bool is_guardian(const char *pid, const char *own)
{
	CLEANUP_FREE char *group = NULL;
	char path[64];
	struct stat a, b;

	snprintf(path, sizeof(path), "/proc/%s/exe", pid);
	return !stat("/proc/self/exe", &a) && !stat(path, &b) && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino && !group_of(pid, &group) && !strcmp(group, own);
}

/* Moves the caller, and its parent when that is the guardian, from own into own's leaf. */
static int move_into_leaf(struct cgroup_host *h, const char *own, struct fault *f)
{
	CLEANUP_FREE char *leaf = NULL;
	char shown[PATH_MAX], pid[16];
	int r;

	if (asprintf(&leaf, "%s/" CGROUP_DAEMON_LEAF, own) < 0)
		return fault_sys(f, ENOMEM, "move the daemon into a cgroup of its own", NULL);
	cgroup_show(h, h->v2, leaf, "", shown, sizeof(shown));
	if (mkdirat(h->h[h->v2].fd, leaf + 1, 0755) < 0 && errno != EEXIST)
		return fault_sys(f, errno, "make the daemon's own cgroup", shown);
	r = cgroup_file_write(h, h->v2, leaf, "cgroup.procs", "0");
	snprintf(pid, sizeof(pid), "%d", (int)getppid());
	if (!r && is_guardian(pid, own)) {
		r = cgroup_file_write(h, h->v2, leaf, "cgroup.procs", pid);
		if (r == -ESRCH)
			r = 0;
	}
	return r < 0 ? fault_sys(f, -r, "move the daemon into its own cgroup", shown) : 0;
}

/* What is above a delegated group is somebody else's: only what that has been given can be handed down. */
static int settle_top(struct cgroup_host *h, const char *own, struct fault *f)
{
	CLEANUP_FREE char *file = NULL;
	char *names;

	if (asprintf(&file, "%s/cgroup.controllers", own + 1) < 0)
		return fault_sys(f, ENOMEM, "read the daemon's cgroup", own);
	names = v2_names(h->h[h->v2].fd, file);
	if (!names)
		return fault_sys(f, errno, "read cgroup.controllers of", own);
	free(h->h[h->v2].names);
	h->h[h->v2].names = names;
	h->top = strdup(own);
	return h->top ? 0 : fault_sys(f, ENOMEM, "read the daemon's cgroup", own);
}

static int settle_parent(struct cgroup_host *h, const char *parent, struct fault *f)
{
	CLEANUP_FREE char *own = NULL;
	bool delegated;
	size_t n;
	int r;

	h->parent = strdup(parent);
	if (!h->parent)
		return fault_sys(f, ENOMEM, "read the cgroup parent", parent);
	if (h->layout != CGROUP_V2 || group_of("self", &own) < 0 || !*own)
		return 0;
	delegated = is_delegated(h, own);
	if (!strcmp(parent, "/davit") && delegated) {
		free(h->parent);
		if (asprintf(&h->parent, "%s/davit", own) < 0) {
			h->parent = NULL;
			return fault_sys(f, ENOMEM, "read the cgroup parent", parent);
		}
	}
	n = strlen(own);
	if (strncmp(h->parent, own, n) || (h->parent[n] != '/' && h->parent[n]))
		return 0;
	r = move_into_leaf(h, own, f);
	if (!r && delegated)
		r = settle_top(h, own, f);
	return r;
}

int cgroup_host_new_from(struct cgroup_host **out, const char *mountinfo, const char *parent,
			 struct fault *f)
{
	struct cgroup_host *h;
	int r;

	if (cgroup_path_check(parent) < 0) {
		r = fault_set(f, FAULT_INVALID_ARGUMENT, 0,
			      "the cgroup parent \"%s\" is no absolute path of plain names",
			      parent);
		fault_arg(f, "cgroup-parent");
		return r;
	}
	h = calloc(1, sizeof(*h));
	if (!h)
		return fault_sys(f, ENOMEM, "read the host's cgroups", NULL);
	h->v2 = h->cpuset = h->devices = h->freezer = -1;
	pthread_mutex_init(&h->lock, NULL);
	r = read_mounts(h, mountinfo, f);
	if (r < 0)
		goto fail;
	h->layout = h->v2 < 0 ? CGROUP_V1 : h->n == 1 ? CGROUP_V2 : CGROUP_HYBRID;
	r = settle_parent(h, parent, f);
	if (r < 0)
		goto fail;
	/* without libcgroup's help all values are written plainly; only memory is a failure */
	if (cgroup_lib_init() == -ENOMEM) {
		r = fault_sys(f, ENOMEM, "read the host's cgroups", NULL);
		goto fail;
	}
	for (size_t i = 0; i < h->n; i++)
		ask_lib(&h->h[i]);
	h->cpuset = cgroup_host_find(h, "cpuset");
	if (h->cpuset == h->v2)
		h->cpuset = -1;
	h->devices = cgroup_host_find(h, "devices");
	h->freezer = cgroup_host_find(h, "freezer");
	if (describe(h) < 0) {
		r = fault_sys(f, ENOMEM, "read the host's cgroups", NULL);
		goto fail;
	}
	*out = h;
	return 0;
fail:
	cgroup_host_free(h);
	return r;
}

int cgroup_host_new(struct cgroup_host **out, const char *parent, struct fault *f)
{
	return cgroup_host_new_from(out, "/proc/self/mountinfo", parent, f);
}

void cgroup_host_free(struct cgroup_host *h)
{
	if (!h)
		return;
	for (size_t i = 0; i < h->n; i++) {
		free(h->h[i].mount);
		free(h->h[i].names);
		fd_close(&h->h[i].fd);
	}
	pthread_mutex_destroy(&h->lock);
	free(h->top);
	free(h->parent);
	free(h->describe);
	free(h);
}

enum cgroup_layout cgroup_host_layout(const struct cgroup_host *h)
{
	return h->layout;
}

const char *cgroup_host_describe(const struct cgroup_host *h)
{
	return h->describe;
}

bool cgroup_host_has(const struct cgroup_host *h, const char *controller)
{
	/*
	 * on v2 these two are no controllers: every group has cgroup.freeze, and devices are
	 * ruled by BPF
	 */
	if (h->v2 >= 0 && (!strcmp(controller, "freezer") || !strcmp(controller, "devices")))
		return true;
	return cgroup_host_find(h, controller) >= 0;
}
