// SPDX-License-Identifier: Apache-2.0
/*
 * cgroups: writing values, and putting old ones back
 *
 * A list of values is written in its order. Some values bound each other (v1's memory limit and
 * memory+swap limit; quota, period and burst of the CPU), and which has to come first depends on
 * what is in force: they are in one group, and one that the kernel refuses with EINVAL is tried
 * again after the others of its group, as long as any of them goes through.
 *
 * Values go through libcgroup. A new container's are given to it in one call; only when that
 * fails are they written one by one, to learn which it was (all can be written twice). Written
 * plainly are: those of hierarchies that libcgroup does not know the way davit does (named ones;
 * v2 controllers that /proc/cgroups does not list), empty texts (it writes nothing), and sets
 * that it cannot hold (two keys of one file).
 *
 * With `keep` each file is read before it is written, and on failure the old texts are written in
 * the reverse order: each step back leads to a state that was valid.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cgroup_internal.h"
#include "runtime/cgroup_lib.h"
#include "util/cleanup.h"

#define BATCH_MAX 64

struct undo {
	const struct cgroup_value *value;
	char *text; /* NULL: nothing can be put back */
};

void cgroup_values_clear(struct cgroup_values *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i].text);
	free(l->v);
	memset(l, 0, sizeof(*l));
}

int cgroup_values_add(struct cgroup_values *l, const struct cgroup_value *proto, const char *text)
{
	char *copy = strdup(text);

	if (!copy)
		return -ENOMEM;
	if (l->n == l->room) {
		size_t room = l->room ? l->room * 2 : 8;
		struct cgroup_value *grown = realloc(l->v, room * sizeof(*grown));

		if (!grown) {
			free(copy);
			return -ENOMEM;
		}
		l->v = grown;
		l->room = room;
	}
	l->v[l->n] = *proto;
	l->v[l->n++].text = copy;
	return 0;
}

static int write_text(struct cgroup *cg, const struct cgroup_value *v, const char *text)
{
	struct cgroup_lib_value lv = { v->controller, v->file, text };
	int r = -ENOTSUP;

	if (cg->host->h[v->hierarchy].lib)
		r = cgroup_lib_set(cg->path + 1, &lv, 1);
	if (r == -ENOTSUP)
		r = cgroup_file_write(cg->host, v->hierarchy, cg->path, v->file,
				      *text ? text : "\n");
	return r;
}

static bool same_number(const char *a, const char *b)
{
	return strtoull(a, NULL, 10) == strtoull(b, NULL, 10);
}

/* Some kernels accept memory.kmem.limit_in_bytes and do nothing. */
static int check_readback(struct cgroup *cg, const struct cgroup_value *v)
{
	CLEANUP_FREE char *now = NULL;
	int r;

	if (v->kind != CGROUP_VALUE_LIMIT_READBACK || *v->text == '-')
		return 0;
	r = cgroup_file_read(cg->host, v->hierarchy, cg->path, v->file, &now);
	if (r < 0)
		return r;
	/* limits are rounded to pages, down or up */
	if (strtoull(now, NULL, 10) / 65536 <= strtoull(v->text, NULL, 10) / 65536 + 1 ||
	    same_number(now, v->text))
		return 0;
	return -EOPNOTSUPP;
}

static int explain(struct cgroup *cg, const struct cgroup_value *v, int err, struct fault *f)
{
	char shown[PATH_MAX];

	cgroup_show(cg->host, v->hierarchy, cg->path, v->file, shown, sizeof(shown));
	if (err == ENOENT)
		fault_set(f, FAULT_FAILED_PRECONDITION, err,
			  "linux.resources.%s: the \"%s\" controller of this host has no %s",
			  v->argument, v->controller, v->file);
	else if (err == EOPNOTSUPP)
		fault_set(
			f, FAULT_FAILED_PRECONDITION, err,
			"linux.resources.%s: the \"%s\" controller of this host's kernel does nothing with %s",
			v->argument, v->controller, v->file);
	else
		fault_set(f, err == ENODEV ? FAULT_INVALID_ARGUMENT : fault_code_of_errno(err), err,
			  "linux.resources.%s: the \"%s\" controller refuses \"%s\" in %s",
			  v->argument, v->controller, v->text, v->file);
	fault_at(f, "set a cgroup value", shown);
	fault_arg(f, v->argument);
	return -err;
}

/* The line of a keyed file that begins with the same key as text; NULL when there is none. */
static const char *find_key(const char *content, const char *text)
{
	size_t n = strcspn(text, " ");

	for (const char *line = content; *line; line += strcspn(line, "\n"), line += *line == '\n')
		if (!strncmp(line, text, n) && line[n] == ' ')
			return line;
	return NULL;
}

/*
 * What is in force now, in the form in which it can be written. *out NULL when that cannot be
 * known.
 */
static int read_old(struct cgroup *cg, const struct cgroup_value *v, char **out)
{
	CLEANUP_FREE char *now = NULL;
	const char *line;
	char *text = NULL;
	int r;

	*out = NULL;
	r = cgroup_file_read(cg->host, v->hierarchy, cg->path, v->file, &now);
	/* a file that cannot be read is write-only or missing: the write tells which */
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		return 0;
	if (v->kind == CGROUP_VALUE_KEYED) {
		line = find_key(now, v->text);
		if (line)
			text = strndup(line, strcspn(line, "\n"));
		else if (!v->unset)
			return 0;
		else if (asprintf(&text, "%.*s %s", (int)strcspn(v->text, " "), v->text, v->unset) <
			 0)
			text = NULL;
	} else if (!strcmp(v->file, "memory.oom_control")) {
		/* "oom_kill_disable 0" and more lines; written is the number alone */
		line = strchr(now, ' ');
		text = line ? strndup(line + 1, 1) : strdup("0");
	} else {
		text = strdup(now);
		if (text) {
			size_t n = strlen(text);

			if (n && text[n - 1] == '\n')
				text[n - 1] = 0;
		}
	}
	*out = text;
	return text ? 0 : -ENOMEM;
}

static void put_back(struct cgroup *cg, struct undo *undo, size_t n, struct fault *f)
{
	char more[256];

	while (n-- > 0) {
		int r = undo[n].text ? write_text(cg, undo[n].value, undo[n].text) : -ENODATA;

		if (r < 0 && f) {
			snprintf(more, sizeof(more), "%s keeps its new value: %s\n",
				 undo[n].value->file,
				 undo[n].text ? strerrordesc_np(-r) : "the old one is not known");
			strncat(f->log, more, sizeof(f->log) - strlen(f->log) - 1);
		}
	}
}

/*
 * Everything that libcgroup can take, in one call. 1: all was written, 0: nothing is known, one
 * by one is due.
 */
static int write_batch(struct cgroup *cg, const struct cgroup_values *l)
{
	struct cgroup_lib_value batch[BATCH_MAX];

	if (!l->n || l->n > BATCH_MAX)
		return 0;
	for (size_t i = 0; i < l->n; i++) {
		const struct cgroup_value *v = &l->v[i];

		if (!cg->host->h[v->hierarchy].lib)
			return 0;
		batch[i] = (struct cgroup_lib_value){ v->controller, v->file, v->text };
	}
	return cgroup_lib_set(cg->path + 1, batch, l->n) == 0;
}

/* One value with its undo record. */
static int write_one(struct cgroup *cg, const struct cgroup_value *v, struct undo *undo,
		     size_t *done)
{
	char *old = NULL;
	int r;

	if (undo) {
		r = read_old(cg, v, &old);
		if (r < 0)
			return r;
	}
	r = write_text(cg, v, v->text);
	if (r < 0) {
		free(old);
		return r;
	}
	if (undo)
		undo[(*done)++] = (struct undo){ v, old };
	return check_readback(cg, v);
}

/*
 * Values [from, to) bound each other: rounds over them until all are written or none moves. *bad:
 * the one that failed.
 */
static int write_group(struct cgroup *cg, const struct cgroup_value *v, size_t n, struct undo *undo,
		       size_t *done, const struct cgroup_value **bad)
{
	CLEANUP_FREE bool *written = calloc(n, sizeof(*written));
	size_t left = n;
	int r = 0;

	*bad = v;
	if (!written)
		return -ENOMEM;
	while (left) {
		size_t before = left;

		for (size_t i = 0; i < n; i++) {
			int one;

			if (written[i])
				continue;
			one = write_one(cg, &v[i], undo, done);
			if (!one) {
				written[i] = true;
				left--;
			} else {
				if (one != -EINVAL || left == before) {
					*bad = &v[i];
					r = one;
				}
				if (one != -EINVAL)
					return one;
			}
		}
		if (left == before)
			return r;
	}
	return 0;
}

int cgroup_values_apply(struct cgroup *cg, const struct cgroup_values *l, bool keep,
			struct fault *f)
{
	CLEANUP_FREE struct undo *undo = NULL;
	const struct cgroup_value *bad = NULL;
	size_t done = 0;
	int r = 0;

	if (!keep) {
		if (write_batch(cg, l)) {
			for (size_t i = 0; i < l->n && !r; i++) {
				r = check_readback(cg, &l->v[i]);
				if (r < 0)
					return explain(cg, &l->v[i], -r, f);
			}
			return 0;
		}
	} else if (l->n) {
		undo = calloc(l->n, sizeof(*undo));
		if (!undo)
			return fault_sys(f, ENOMEM, "set cgroup values of", cg->path);
	}
	for (size_t i = 0; i < l->n && !r;) {
		size_t end = i + 1;

		while (l->v[i].group && end < l->n && l->v[end].group == l->v[i].group)
			end++;
		r = write_group(cg, &l->v[i], end - i, undo, &done, &bad);
		i = end;
	}
	if (r < 0) {
		explain(cg, bad, -r, f);
		if (undo)
			put_back(cg, undo, done, f);
	}
	for (size_t i = 0; i < done; i++)
		free(undo[i].text);
	return r;
}
