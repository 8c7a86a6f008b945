// SPDX-License-Identifier: Apache-2.0
/*
 * Compiling an overlay of many layers
 *
 * mount(2) takes a page of options, and a hundred layers are more text than that. Their folders mostly stand side by side: then the folder they are
 * in becomes the working directory of the mount, and each path what is left of it behind that. Should this be more than a page as well, the overlay
 * is made by fsconfig(2), one layer at a time ("lowerdir+", Linux 6.8), where the number of layers is the kernel's affair and each path has 255
 * bytes; these are relative to the same folder, since that limit is for all of a path.
 *
 * In the text of the options a backslash makes the next character an ordinary one. "lowerdir+" knows no such thing.
 */
#include <errno.h>
#include <string.h>

#include "runtime/plan.h"
#include "util/cleanup.h"

#define PARAM_MAX 255 /* of fsconfig(2)'s value, bytes */

struct piece { /* of the text of options: an option, or a part of it */
	const char *at;
	size_t n;
};

/* The next piece up to an unescaped `end`; false behind the last one. */
static bool next_piece(const char **from, const char *limit, char end, struct piece *out)
{
	const char *at = *from;

	if (!at)
		return false;
	while (at < limit && *at != end)
		at += *at == '\\' && at + 1 < limit ? 2 : 1;
	*out = (struct piece){ *from, (size_t)(at - *from) };
	*from = at < limit ? at + 1 : NULL;
	return true;
}

static bool has_key(const struct piece *option, const char *key, struct piece *value)
{
	size_t n = strlen(key);

	if (option->n <= n || strncmp(option->at, key, n) || option->at[n] != '=')
		return false;
	*value = (struct piece){ option->at + n + 1, option->n - n - 1 };
	return true;
}

/* sep is what separates them: nothing where there is one path. */
static bool has_paths(const struct piece *option, struct piece *value, char *sep)
{
	*sep = ':';
	if (has_key(option, "lowerdir", value))
		return true;
	*sep = '\0';
	return has_key(option, "upperdir", value) || has_key(option, "workdir", value);
}

/* Calls fn for each path of the three options. */
static int each_path(const char *data, int (*fn)(void *user, const struct piece *path), void *user)
{
	const char *at = data, *end = data + strlen(data);
	struct piece option, value, path;
	char sep;
	int r = 0;

	while (!r && next_piece(&at, end, ',', &option)) {
		const char *in;

		if (!has_paths(&option, &value, &sep))
			continue;
		in = value.at;
		while (!r && next_piece(&in, value.at + value.n, sep, &path))
			if (path.n)
				r = fn(user, &path);
	}
	return r;
}

static int add_common(void *user, const struct piece *path)
{
	struct piece *common = user;
	size_t n = 0;

	if (path->at[0] != '/')
		return -ENAMETOOLONG;
	if (!common->at)
		*common = *path;
	while (n < common->n && n < path->n && common->at[n] == path->at[n])
		n++;
	common->n = n;
	return 0;
}

/* Without the escapes. */
static char *plain(struct plan *p, const char *text, size_t n)
{
	char *out = plan_alloc(p, n + 1), *to = out;

	for (size_t i = 0; out && i < n; i++) {
		if (text[i] == '\\' && i + 1 < n)
			i++;
		*to++ = text[i];
	}
	return out;
}

/* What is left of a path behind the first `skip` characters; "." for nothing. */
static struct piece rest(const struct piece *path, size_t skip)
{
	while (skip < path->n && path->at[skip] == '/')
		skip++;
	if (path->n <= skip)
		return (struct piece){ ".", 1 };
	return (struct piece){ path->at + skip, path->n - skip };
}

static char *put(char *to, const struct piece *p)
{
	memcpy(to, p->at, p->n);
	return to + p->n;
}

/* The text with all paths relative. `to` has room, since no path becomes longer. */
static void shorten(const char *data, size_t skip, char *to)
{
	const char *at = data, *end = data + strlen(data);
	struct piece option, value, path;
	char sep;

	for (bool first = true; next_piece(&at, end, ',', &option); first = false) {
		const char *in;

		if (!first)
			*to++ = ',';
		if (!has_paths(&option, &value, &sep)) {
			to = put(to, &option);
			continue;
		}
		to = put(to, &(struct piece){ option.at, option.n - value.n });
		in = value.at;
		for (bool one = true; next_piece(&in, value.at + value.n, sep, &path);
		     one = false) {
			if (!one)
				*to++ = sep;
			if (!path.n)
				continue;
			path = rest(&path, skip);
			to = put(to, &path);
		}
	}
	*to = 0;
}

struct params {
	struct plan *p;
	struct plan_param *v; /* NULL: only counts */
	size_t n, skip;
};

static int add_param(struct params *ps, const char *key, const char *value)
{
	if (ps->v) {
		if (!key || !value)
			return -ENOMEM;
		if (strlen(value) > PARAM_MAX)
			return -ENAMETOOLONG;
		ps->v[ps->n].key = key;
		ps->v[ps->n].value = value;
	}
	ps->n++;
	return 0;
}

static int add_layers(struct params *ps, const struct piece *list)
{
	const char *in = list->at, *key = "lowerdir+";
	struct piece path;
	int r = 0;

	while (!r && next_piece(&in, list->at + list->n, ':', &path)) {
		/* behind "::" are layers that only have data */
		if (!path.n) {
			key = "datadir+";
			continue;
		}
		path = rest(&path, ps->skip);
		r = add_param(ps, key, ps->v ? plain(ps->p, path.at, path.n) : NULL);
	}
	return r;
}

static int add_option(struct params *ps, const struct piece *option)
{
	const char *equals = memchr(option->at, '=', option->n);
	size_t n = equals ? (size_t)(equals - option->at) : option->n;
	struct piece value;
	char *key, sep;

	if (has_key(option, "lowerdir", &value))
		return add_layers(ps, &value);
	if (!ps->v)
		return add_param(ps, NULL, NULL);
	key = plan_printf(ps->p, "%.*s", (int)n, option->at);
	if (!equals) {
		ps->v[ps->n++].key = key;
		return key ? 0 : -ENOMEM;
	}
	if (has_paths(option, &value, &sep))
		value = rest(&value, ps->skip);
	else
		value = (struct piece){ equals + 1, option->n - n - 1 };
	/* escapes are taken off these by the kernel, here as in the text */
	return add_param(ps, key, plan_printf(ps->p, "%.*s", (int)value.n, value.at));
}

static int all_options(struct params *ps, const char *data)
{
	const char *at = data, *end = data + strlen(data);
	struct piece option;
	int r = 0;

	ps->n = 0;
	while (!r && next_piece(&at, end, ',', &option))
		if (option.n)
			r = add_option(ps, &option);
	return r;
}

int plan_overlay(struct plan *p, const char *data, struct plan_mount *out)
{
	struct piece common = { 0 };
	struct params ps = { .p = p };
	char *text;
	int r;

	r = each_path(data, add_common, &common);
	if (r < 0)
		return r;
	/* up to its last slash */
	while (common.n && common.at[common.n - 1] != '/')
		common.n--;
	if (!common.n)
		return -ENAMETOOLONG;
	out->from = plain(p, common.at, common.n);
	/* "." instead of nothing may make a path longer by one */
	text = plan_alloc(p, 2 * strlen(data) + 1);
	if (!out->from || !text)
		return -ENOMEM;
	shorten(data, common.n, text);
	out->data = text;
	if (strlen(text) < PLAN_DATA_PAGE)
		return 0;
	ps.skip = common.n;
	r = all_options(&ps, data);
	if (r < 0)
		return r;
	ps.v = plan_alloc(p, ps.n * sizeof(*ps.v));
	if (!ps.v)
		return -ENOMEM;
	r = all_options(&ps, data);
	out->params = ps.v;
	out->n_params = ps.n;
	out->data = "";
	return r;
}
