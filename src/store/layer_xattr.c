// SPDX-License-Identifier: Apache-2.0
/*
 * Layers: extended attributes
 *
 * Files are named by folder and name and reached through /proc/self/fd, since there are no calls
 * with a folder's fd (until Linux 6.13): the folder's link is followed, the name in it is not. That
 * way links, devices and FIFOs, which cannot be opened, have theirs too.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "store/layer_internal.h"
#include "util/cleanup.h"

struct place {
	char path[32 + NAME_MAX];
	bool itself;
};

static int place_of(struct place *p, int folder, const char *name)
{
	int n;

	p->itself = !name;
	n = snprintf(p->path, sizeof(p->path), "/proc/self/fd/%d%s%s", folder, name ? "/" : "",
		     name ? name : "");
	return n < 0 || (size_t)n >= sizeof(p->path) ? -ENAMETOOLONG : 0;
}

static bool begins(const char *text, const char *with)
{
	return !strncmp(text, with, strlen(with));
}

bool layer_xattr_wanted(const char *name)
{
	if (begins(name, "user."))
		return !begins(name, "user.overlay.");
	if (begins(name, "trusted."))
		return !begins(name, "trusted.overlay.");
	return !strcmp(name, "security.capability") || !strcmp(name, "system.posix_acl_access") ||
	       !strcmp(name, "system.posix_acl_default");
}

ssize_t layer_xattr_get(int folder, const char *name, const char *xattr, void *buf, size_t size)
{
	struct place p;
	ssize_t n = place_of(&p, folder, name);

	if (n < 0)
		return n;
	n = p.itself ? getxattr(p.path, xattr, buf, size) : lgetxattr(p.path, xattr, buf, size);
	return n < 0 ? -errno : n;
}

int layer_xattr_set(int folder, const char *name, const char *xattr, const void *value, size_t size)
{
	struct place p;
	int r = place_of(&p, folder, name);

	if (r < 0)
		return r;
	r = p.itself ? setxattr(p.path, xattr, value, size, 0)
		     : lsetxattr(p.path, xattr, value, size, 0);
	return r < 0 ? -errno : 0;
}

/* ---- all of a file's */

static ssize_t list_names(const struct place *p, char **out)
{
	char first[512];
	ssize_t n = p->itself ? listxattr(p->path, first, sizeof(first))
			      : llistxattr(p->path, first, sizeof(first));

	*out = NULL;
	if (n < 0 && errno == ENOTSUP)
		return 0;
	if (n == 0)
		return 0;
	if (n > 0) {
		*out = malloc((size_t)n);
		if (!*out)
			return -ENOMEM;
		memcpy(*out, first, (size_t)n);
		return n;
	}
	if (errno != ERANGE)
		return -errno;
	*out = malloc(XATTR_LIST_MAX);
	if (!*out)
		return -ENOMEM;
	n = p->itself ? listxattr(p->path, *out, XATTR_LIST_MAX)
		      : llistxattr(p->path, *out, XATTR_LIST_MAX);
	return n < 0 ? -errno : n;
}

static int add(struct layer_xattrs *x, const struct place *p, const char *name)
{
	struct layer_xattr *v = realloc(x->v, (x->n + 1) * sizeof(*v));
	ssize_t n;

	if (!v)
		return -ENOMEM;
	x->v = v;
	v += x->n;
	v->name = strdup(name);
	v->value = malloc(XATTR_SIZE_MAX);
	x->n++;
	if (!v->name || !v->value)
		return -ENOMEM;
	n = p->itself ? getxattr(p->path, name, v->value, XATTR_SIZE_MAX)
		      : lgetxattr(p->path, name, v->value, XATTR_SIZE_MAX);
	if (n < 0)
		return -errno;
	v->size = (size_t)n;
	/* most are a few bytes */
	v->value = realloc(v->value, v->size + 1) ?: v->value;
	return 0;
}

/* What overlayfs has written about the file in its upper folder. */
static int note_overlay(struct layer_xattrs *x, int folder, const char *name, const char *xattr)
{
	const char *what = xattr + strlen("trusted.overlay.");
	char value = 0;

	if (!strcmp(what, "opaque")) {
		ssize_t n = layer_xattr_get(folder, name, xattr, &value, 1);

		if (n < 0)
			return (int)n;
		x->opaque = value == 'y';
		/* 'x': the whiteouts in the folder are xattrs too */
		x->elsewhere |= value == 'x';
	} else if (!strcmp(what, "redirect") || !strcmp(what, "metacopy") ||
		   !strcmp(what, "whiteout")) {
		x->elsewhere = true;
	}
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct layer_xattr *)a)->name, ((const struct layer_xattr *)b)->name);
}

int layer_xattrs_read(struct layer_xattrs *x, int folder, const char *name)
{
	CLEANUP_FREE char *names = NULL;
	struct place p;
	ssize_t n;
	int r = place_of(&p, folder, name);

	memset(x, 0, sizeof(*x));
	if (r < 0)
		return r;
	n = list_names(&p, &names);
	if (n <= 0 || !names)
		return (int)n;
	for (ssize_t i = 0; i < n && !r; i += (ssize_t)strlen(names + i) + 1) {
		if (layer_xattr_wanted(names + i))
			r = add(x, &p, names + i);
		else if (begins(names + i, "trusted.overlay."))
			r = note_overlay(x, folder, name, names + i);
	}
	if (r < 0) {
		layer_xattrs_clear(x);
		return r;
	}
	if (x->n)
		qsort(x->v, x->n, sizeof(*x->v), by_name);
	return 0;
}

void layer_xattrs_clear(struct layer_xattrs *x)
{
	for (size_t i = 0; i < x->n; i++) {
		free(x->v[i].name);
		free(x->v[i].value);
	}
	free(x->v);
	memset(x, 0, sizeof(*x));
}

bool layer_xattrs_equal(const struct layer_xattrs *a, const struct layer_xattrs *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (strcmp(a->v[i].name, b->v[i].name) != 0 || a->v[i].size != b->v[i].size ||
		    memcmp(a->v[i].value, b->v[i].value, a->v[i].size) != 0)
			return false;
	return true;
}
