// SPDX-License-Identifier: Apache-2.0
/*
 * Mounts for tools: from a list to the fd of a root
 *
 * What davit itself reads and writes trees through: diffs, and layers that others want applied to
 * their mounts. A bind is just its folder. An overlay is mounted for the time that the fd is open,
 * attached to no mount namespace, so that neither a killed daemon nor a failing step leaves a
 * mount behind.
 *
 * To be read only, an overlay with an upper folder is mounted with that as its topmost lower layer:
 * whiteouts mean the same there, and the upper and work folders stay those of whoever writes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/mounts_internal.h"
#include "util/cleanup.h"
#include "util/fd.h"

/* ---- options */

static bool has_option(const struct store_mount *m, const char *name)
{
	for (size_t i = 0; i < m->n_options; i++)
		if (!strcmp(m->options[i], name))
			return true;
	return false;
}

static bool is_bind(const struct store_mount *m)
{
	return !strcmp(m->type, "bind") || !strcmp(m->type, "rbind") || has_option(m, "bind") ||
	       has_option(m, "rbind");
}

/* The value of "key=value", else NULL. */
static const char *value_of(const char *option, const char *key)
{
	size_t n = strlen(key);

	return !strncmp(option, key, n) && option[n] == '=' ? option + n + 1 : NULL;
}

/* One path of an option, up to a ':' when there may be several; NULL without memory. */
static char *take_path(const char **at, bool several)
{
	char *path = malloc(strlen(*at) + 1), *to = path;

	if (!path)
		return NULL;
	while (**at && !(several && **at == ':')) {
		if (**at == '\\' && (*at)[1])
			(*at)++;
		*to++ = *(*at)++;
	}
	*to = '\0';
	return path;
}

static int add_lower(struct overlay *o, char *path)
{
	char **v = path ? realloc(o->lower, (o->n_lower + 1) * sizeof(*v)) : NULL;

	if (!v) {
		free(path);
		return -ENOMEM;
	}
	o->lower = v;
	v[o->n_lower++] = path;
	return 0;
}

static int add_lowers(struct overlay *o, const char *value)
{
	for (;;) {
		if (add_lower(o, take_path(&value, true)) < 0)
			return -ENOMEM;
		if (!*value)
			return 0;
		value++; /* the colon */
	}
}

static int set_path(char **out, const char *value)
{
	free(*out);
	*out = take_path(&value, false);
	return *out ? 0 : -ENOMEM;
}

static int read_option(struct overlay *o, const char *option)
{
	const char *value;

	if ((value = value_of(option, "lowerdir")))
		return add_lowers(o, value);
	if ((value = value_of(option, "lowerdir+")))
		return add_lower(o, strdup(value));
	if ((value = value_of(option, "upperdir")))
		return set_path(&o->upper, value);
	if ((value = value_of(option, "workdir")))
		return set_path(&o->work, value);
	if (!strcmp(option, "ro"))
		o->read_only = true;
	else if (strcmp(option, "rw"))
		o->more[o->n_more++] = option;
	return 0;
}

static int check_path(const char *path, const char *what, struct fault *f)
{
	if (!path || *path == '/')
		return 0;
	return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "the overlay's %s '%s' is no absolute path",
			 what, path);
}

int overlay_read(struct overlay *o, const struct store_mount *m, struct fault *f)
{
	int r = 0;

	memset(o, 0, sizeof(*o));
	o->more = calloc(m->n_options + 1, sizeof(*o->more));
	if (!o->more)
		return fault_sys(f, ENOMEM, "read the mount's options", NULL);
	for (size_t i = 0; i < m->n_options && !r; i++)
		r = read_option(o, m->options[i]);
	if (r < 0)
		return fault_sys(f, -r, "read the mount's options", NULL);
	if (!o->n_lower)
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "the overlay has no lowerdir");
	if (!o->upper != !o->work)
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				 "the overlay has only one of upperdir and workdir");
	for (size_t i = 0; i < o->n_lower && !r; i++)
		r = check_path(o->lower[i], "lowerdir", f);
	if (!r)
		r = check_path(o->upper, "upperdir", f);
	return r ? r : check_path(o->work, "workdir", f);
}

void overlay_clear(struct overlay *o)
{
	for (size_t i = 0; i < o->n_lower; i++)
		free(o->lower[i]);
	free(o->lower);
	free(o->upper);
	free(o->work);
	free(o->more);
	memset(o, 0, sizeof(*o));
}

/* The upper folder becomes the topmost lower one. */
static int make_read_only(struct overlay *o)
{
	char **v;

	o->read_only = true;
	if (!o->upper)
		return 0;
	v = realloc(o->lower, (o->n_lower + 1) * sizeof(*v));
	if (!v)
		return -ENOMEM;
	o->lower = v;
	memmove(v + 1, v, o->n_lower * sizeof(*v));
	v[0] = TAKE_PTR(o->upper);
	o->n_lower++;
	free(o->work);
	o->work = NULL;
	/* of a writable one alone */
	for (size_t i = 0; i < o->n_more; i++)
		if (!strcmp(o->more[i], "volatile"))
			o->more[i--] = o->more[--o->n_more];
	return 0;
}

/* ---- opening */

static int open_folder(const char *path, int *fd, struct fault *f)
{
	if (*path != '/')
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				 "the mount's source '%s' is no absolute path", path);
	*fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return *fd < 0 ? fault_sys(f, errno, "open the mount's source", path) : 0;
}

static int not_writable(struct fault *f)
{
	return fault_set(f, FAULT_FAILED_PRECONDITION, EROFS, "the mount is not writable");
}

static int open_overlay(const struct store_mount *m, bool read_only, int *fd, struct fault *f)
{
	struct overlay o;
	int r = overlay_read(&o, m, f);

	if (!r && !read_only && (o.read_only || !o.upper))
		r = not_writable(f);
	if (!r && read_only && make_read_only(&o) < 0)
		r = fault_sys(f, ENOMEM, "mount the overlay", NULL);
	if (!r && o.n_lower == 1 && !o.upper)
		r = open_folder(o.lower[0], fd, f);
	else if (!r) {
		r = overlay_mount_layers(&o, fd, f);
		if (r == -EOPNOTSUPP)
			r = overlay_mount_relative(&o, fd, f);
	}
	overlay_clear(&o);
	return r;
}

/* The only one that there may be. */
static int only_mount(const struct store_mounts *m, struct fault *f)
{
	const char *target;

	if (!m->n)
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "there are no mounts");
	if (m->n > 1)
		return fault_set(f, FAULT_UNIMPLEMENTED, 0,
				 "%zu mounts: only one, of the root, can be used here", m->n);
	target = m->v[0].target;
	if (*target && strcmp(target, "/"))
		return fault_set(f, FAULT_UNIMPLEMENTED, 0,
				 "a mount with the target '%s': only one of the root can be used "
				 "here",
				 target);
	return 0;
}

int store_mounts_open(const struct store_mounts *m, bool read_only, int *root_fd, struct fault *f)
{
	int r = only_mount(m, f);

	*root_fd = -1;
	if (!r && is_bind(&m->v[0]))
		r = !read_only && has_option(&m->v[0], "ro")
			    ? not_writable(f)
			    : open_folder(m->v[0].source, root_fd, f);
	else if (!r && !strcmp(m->v[0].type, "overlay"))
		r = open_overlay(&m->v[0], read_only, root_fd, f);
	else if (!r)
		r = fault_set(f, FAULT_INVALID_ARGUMENT, 0,
			      "mounts of the type '%s' cannot be used here, only bind and overlay",
			      m->v[0].type);
	if (r < 0)
		fault_arg(f, "mounts");
	return r;
}

int store_mounts_upper(const struct store_mounts *m, int *upper_fd, struct fault *f)
{
	struct overlay o;
	int r;

	*upper_fd = -1;
	if (m->n != 1 || is_bind(&m->v[0]) || strcmp(m->v[0].type, "overlay"))
		return 0;
	r = overlay_read(&o, &m->v[0], f);
	if (!r && o.upper)
		r = open_folder(o.upper, upper_fd, f);
	overlay_clear(&o);
	if (r < 0)
		fault_arg(f, "mounts");
	return r;
}
