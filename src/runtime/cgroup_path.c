// SPDX-License-Identifier: Apache-2.0
/*
 * cgroups: paths, and files below them
 *
 * A path is the same in every hierarchy: it begins with '/', and is relative to the hierarchy's
 * mount. It comes from a spec, so it is checked once, here: no "..", no empty names, no control
 * characters. What is made of it is used relative to the mount's fd.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "runtime/cgroup_internal.h"
#include "util/fd.h"

int cgroup_path_check(const char *path)
{
	const char *p = path;

	if (*p != '/' || !p[1] || strlen(path) >= PATH_MAX / 2)
		return -EINVAL;
	while (*p) {
		size_t n = strcspn(++p, "/");

		if (!n || n > NAME_MAX || (n == 1 && p[0] == '.') ||
		    (n == 2 && p[0] == '.' && p[1] == '.'))
			return -EINVAL;
		for (size_t i = 0; i < n; i++)
			if ((unsigned char)p[i] < ' ' || p[i] == 0x7f)
				return -EINVAL;
		p += n;
	}
	return 0;
}

/*
 * "a-b-c.slice" is the folder /a.slice/a-b.slice/a-b-c.slice (systemd.slice(5)); "-.slice" is the
 * root.
 */
static int slice_path(const char *slice, char *buf, size_t size)
{
	size_t n = strlen(slice), used = 0;

	if (n <= 6 || strcmp(slice + n - 6, ".slice") || strchr(slice, '/'))
		return -EINVAL;
	buf[0] = 0;
	if (!strcmp(slice, "-.slice"))
		return 0;
	for (size_t i = 0; i <= n - 6; i++) {
		if (i < n - 6 && slice[i] != '-')
			continue;
		if (!i || slice[i - 1] == '-')
			return -EINVAL;
		used += (size_t)snprintf(buf + used, size - used, "/%.*s.slice", (int)i, slice);
		if (used >= size)
			return -ENAMETOOLONG;
	}
	return 0;
}

/*
 * systemd's form: "slice:prefix:name", which is the scope "prefix-name.scope" (or the slice
 * "name") in that slice.
 */
static int systemd_path(const char *text, char *buf, size_t size)
{
	const char *prefix = strchr(text, ':') + 1, *name = strchr(prefix, ':') + 1;
	char slice[NAME_MAX + 1];
	size_t used, n = strlen(name), m = (size_t)(name - prefix - 1);
	int r, wrote;

	if (prefix - text - 1 >= (ptrdiff_t)sizeof(slice))
		return -ENAMETOOLONG;
	snprintf(slice, sizeof(slice), "%.*s", (int)(prefix - text - 1), text);
	r = slice_path(*slice ? slice : "system.slice", buf, size);
	if (r < 0)
		return r;
	if (!n || strchr(prefix, '/'))
		return -EINVAL;
	used = strlen(buf);
	if (n > 6 && !strcmp(name + n - 6, ".slice"))
		return slice_path(name, buf, size);
	wrote = snprintf(buf + used, size - used, "/%.*s%s%s.scope", (int)m, prefix, m ? "-" : "",
			 name);
	return wrote >= (int)(size - used) ? -ENAMETOOLONG : 0;
}

int cgroup_path_for(const struct cgroup_host *h, const char *cgroups_path, const char *ns,
		    const char *id, char *buf, size_t size, struct fault *f)
{
	const char *colon = cgroups_path ? strchr(cgroups_path, ':') : NULL;
	int n, r = 0;

	if (!cgroups_path || !*cgroups_path) {
		n = snprintf(buf, size, "%s/%s/%s", h->parent, ns, id);
	} else if (*cgroups_path == '/') {
		n = snprintf(buf, size, "%s", cgroups_path);
	} else if (colon && strchr(colon + 1, ':') && !strchr(strchr(colon + 1, ':') + 1, ':')) {
		r = systemd_path(cgroups_path, buf, size);
		n = 0;
	} else {
		n = snprintf(buf, size, "%s/%s", h->parent, cgroups_path);
	}
	if (!r && n >= (int)size)
		r = -ENAMETOOLONG;
	if (!r) {
		size_t end = 0;

		/* "a//b" and "a/" are usual enough */
		for (char *p = buf, *to = buf;; p++) {
			if (p[0] == '/' && p[1] == '/')
				continue;
			*to++ = *p;
			if (!*p) {
				end = (size_t)(to - buf) - 1;
				break;
			}
		}
		if (end > 1 && buf[end - 1] == '/')
			buf[end - 1] = 0;
		r = cgroup_path_check(buf);
	}
	if (r < 0) {
		r = fault_set(f, FAULT_INVALID_ARGUMENT, 0,
			      "cgroupsPath \"%s\" is no path of a cgroup",
			      cgroups_path ? cgroups_path : "");
		fault_arg(f, "linux.cgroupsPath");
	}
	return r;
}

void cgroup_show(const struct cgroup_host *h, int hierarchy, const char *path, const char *file,
		 char *buf, size_t size)
{
	snprintf(buf, size, "%s%s%s%s", h->h[hierarchy].mount, path, *file ? "/" : "", file);
}

int cgroup_file_open(const struct cgroup_host *h, int hierarchy, const char *path, const char *file,
		     int flags)
{
	char full[PATH_MAX];
	int fd;

	if (snprintf(full, sizeof(full), "%s%s%s", path + 1, path[1] ? "/" : "", file) >=
	    (int)sizeof(full))
		return -ENAMETOOLONG;
	fd = openat(h->h[hierarchy].fd, full, flags | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

int cgroup_file_read(const struct cgroup_host *h, int hierarchy, const char *path, const char *file,
		     char **text)
{
	char full[PATH_MAX];

	if (snprintf(full, sizeof(full), "%s%s%s", path + 1, path[1] ? "/" : "", file) >=
	    (int)sizeof(full))
		return -ENAMETOOLONG;
	return fd_read_file(h->h[hierarchy].fd, full, CGROUP_FILE_MAX, text, NULL);
}

int cgroup_file_write(const struct cgroup_host *h, int hierarchy, const char *path,
		      const char *file, const char *text)
{
	char full[PATH_MAX];

	if (snprintf(full, sizeof(full), "%s%s%s", path + 1, path[1] ? "/" : "", file) >=
	    (int)sizeof(full))
		return -ENAMETOOLONG;
	return fd_write_file(h->h[hierarchy].fd, full, text);
}

static char *folder_of(const struct cgroup *cg, int hierarchy)
{
	char *path;

	if (hierarchy < 0)
		return NULL;
	return asprintf(&path, "%s%s", cg->host->h[hierarchy].mount, cg->path) < 0 ? NULL : path;
}

/* As cgroup_freeze chooses. */
char *cgroup_freezer_path(const struct cgroup *cg)
{
	return folder_of(cg, cg->host->v2 >= 0 ? cg->host->v2 : cg->host->freezer);
}

char *cgroup_hierarchy_path(const struct cgroup *cg, const char *controllers)
{
	const struct cgroup_host *h = cg->host;
	size_t first = strcspn(controllers, ",");
	char word[64];

	if (!*controllers)
		return folder_of(cg, h->v2);
	if (snprintf(word, sizeof(word), " %.*s ", (int)first, controllers) >= (int)sizeof(word))
		return NULL;
	for (size_t i = 0; i < h->n; i++)
		if (!h->h[i].v2 && strstr(h->h[i].names, word))
			return folder_of(cg, (int)i);
	return NULL;
}
