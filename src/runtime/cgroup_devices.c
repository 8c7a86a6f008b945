// SPDX-License-Identifier: Apache-2.0
/*
 * cgroups: which devices a container may use
 *
 * OCI gives an ordered list of rules; the last one that matches an access decides, each of read,
 * write and mknod by itself. To the list the devices are added that runc and crun allow whatever
 * is asked (null, zero, full, random, urandom, tty, console, ptmx, the ptys, and mknod of
 * anything, which without read and write leads nowhere). An empty list sets nothing: the group
 * has what the one above it has.
 *
 * v1 (devices.allow, devices.deny) is not such a list: the kernel has a default (all or nothing)
 * and a set of exceptions from it, which a rule adds to or takes from. So the list is run against
 * a model of that set first; a rule that the set cannot express (to deny one device out of a
 * wider range that is allowed) is an error, where the kernel would ignore it. A group that is new
 * gets the whole set; one with processes gets only what changes, so that no device is out of
 * reach in between.
 *
 * These files are written plainly: libcgroup sets a file once, and here each takes many lines.
 *
 * v2 has no files for this, but a BPF program that is asked at each open and mknod: cgroup_bpf.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/cgroup_devices.h"
#include "util/cleanup.h"
#include "util/fd.h"

#define DEFAULT_RULE(t, ma, mi, rw)                                                                \
	{                                                                                          \
		.allow = true, .type = (t), .major = (ma), .minor = (mi), .read = (rw),            \
		.write = (rw), .mknod = true                                                       \
	}

static const struct spec_device_rule defaults[] = {
	DEFAULT_RULE('c', SPEC_ABSENT, SPEC_ABSENT, false), /* mknod of any */
	DEFAULT_RULE('b', SPEC_ABSENT, SPEC_ABSENT, false),
	DEFAULT_RULE('c', 1, 3, true), /* null */
	DEFAULT_RULE('c', 1, 5, true), /* zero */
	DEFAULT_RULE('c', 1, 7, true), /* full */
	DEFAULT_RULE('c', 1, 8, true), /* random */
	DEFAULT_RULE('c', 1, 9, true), /* urandom */
	DEFAULT_RULE('c', 5, 0, true), /* tty */
	DEFAULT_RULE('c', 5, 1, true), /* console */
	DEFAULT_RULE('c', 5, 2, true), /* ptmx */
	DEFAULT_RULE('c', 136, SPEC_ABSENT, true), /* ptys */
};

struct cgroup_devices_state {
	struct cgroup_device_set set; /* v1 */
	int *progs; /* v2: programs that were attached */
	size_t n_progs;
};

/* ---- the set ---- */

unsigned cgroup_device_access(const struct spec_device_rule *r)
{
	return (r->read ? CGROUP_DEVICE_READ : 0) | (r->write ? CGROUP_DEVICE_WRITE : 0) |
	       (r->mknod ? CGROUP_DEVICE_MKNOD : 0);
}

static bool same_devices(const struct cgroup_device *a, const struct cgroup_device *b)
{
	return a->type == b->type && a->major == b->major && a->minor == b->minor;
}

static bool overlap(const struct cgroup_device *a, const struct cgroup_device *b)
{
	return a->type == b->type &&
	       (a->major == SPEC_ABSENT || b->major == SPEC_ABSENT || a->major == b->major) &&
	       (a->minor == SPEC_ABSENT || b->minor == SPEC_ABSENT || a->minor == b->minor) &&
	       (a->access & b->access);
}

static bool covers(const struct cgroup_device *a, const struct cgroup_device *b)
{
	return a->type == b->type && (a->major == SPEC_ABSENT || a->major == b->major) &&
	       (a->minor == SPEC_ABSENT || a->minor == b->minor);
}

static int set_put(struct cgroup_device_set *s, const struct cgroup_device *d)
{
	struct cgroup_device *grown;

	for (size_t i = 0; i < s->n; i++) {
		if (same_devices(&s->v[i], d)) {
			s->v[i].access |= d->access;
			return 0;
		}
	}
	grown = realloc(s->v, (s->n + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	s->v = grown;
	s->v[s->n++] = *d;
	return 0;
}

/* Takes access away from what is covered. -ENOTSUP when some of it lies within something wider. */
static int set_take(struct cgroup_device_set *s, const struct cgroup_device *d)
{
	for (size_t i = 0; i < s->n; i++)
		if (overlap(&s->v[i], d) && !covers(d, &s->v[i]))
			return -ENOTSUP;
	for (size_t i = 0; i < s->n;) {
		if (covers(d, &s->v[i]))
			s->v[i].access &= ~d->access;
		if (s->v[i].access)
			i++;
		else
			s->v[i] = s->v[--s->n];
	}
	return 0;
}

int cgroup_device_set_apply(struct cgroup_device_set *s, const struct spec_device_rule *rule)
{
	struct cgroup_device d = { rule->type, rule->major, rule->minor,
				   cgroup_device_access(rule) };
	int r = 0;

	if (rule->type == 'a' && d.access == CGROUP_DEVICE_ALL && d.major == SPEC_ABSENT &&
	    d.minor == SPEC_ABSENT) {
		s->allow = rule->allow;
		s->n = 0;
		return 0;
	}
	/* "a" with numbers or less than all access is both kinds */
	for (int k = 0; k < 2 && !r; k++) {
		if (rule->type == 'a')
			d.type = "bc"[k];
		else if (k)
			break;
		if (d.access)
			r = rule->allow == s->allow ? set_take(s, &d) : set_put(s, &d);
	}
	return r;
}

void cgroup_device_set_clear(struct cgroup_device_set *s)
{
	free(s->v);
	memset(s, 0, sizeof(*s));
}

static bool parse_number(const char *p, size_t n, int64_t *out)
{
	char *end;

	*out = SPEC_ABSENT;
	if (n == 1 && *p == '*')
		return true;
	*out = strtoll(p, &end, 10);
	return n && end == p + n && *out >= 0;
}

/*
 * devices.list: "a *:* rwm", or "c 1:3 rwm" and so on, a line each. The first means that all is
 * allowed.
 */
int cgroup_device_set_parse(struct cgroup_device_set *s, const char *list)
{
	s->allow = false;
	for (const char *line = list; *line; line += strcspn(line, "\n"), line += *line == '\n') {
		struct cgroup_device d = { .type = line[0] };
		const char *major = line + 2, *minor, *access;
		int r;

		minor = line[1] == ' ' ? strchr(major, ':') : NULL;
		access = minor ? strchr(minor, ' ') : NULL;
		if (!access || !parse_number(major, (size_t)(minor - major), &d.major) ||
		    !parse_number(minor + 1, (size_t)(access - minor - 1), &d.minor))
			return -EINVAL;
		for (const char *p = access + 1; *p && *p != '\n'; p++)
			d.access |= *p == 'r'	? CGROUP_DEVICE_READ
				    : *p == 'w' ? CGROUP_DEVICE_WRITE
						: CGROUP_DEVICE_MKNOD;
		if (d.type == 'a') {
			/*
			 * the exceptions of a group that allows by default are not to be read
			 * anywhere
			 */
			s->allow = true;
			continue;
		}
		r = set_put(s, &d);
		if (r < 0)
			return r;
	}
	return 0;
}

static void device_text(const struct cgroup_device *d, unsigned access, char *buf, size_t size)
{
	char major[24] = "*", minor[24] = "*";

	if (d->major != SPEC_ABSENT)
		snprintf(major, sizeof(major), "%lld", (long long)d->major);
	if (d->minor != SPEC_ABSENT)
		snprintf(minor, sizeof(minor), "%lld", (long long)d->minor);
	snprintf(buf, size, "%c %s:%s %s%s%s", d->type, major, minor,
		 access & CGROUP_DEVICE_READ ? "r" : "", access & CGROUP_DEVICE_WRITE ? "w" : "",
		 access & CGROUP_DEVICE_MKNOD ? "m" : "");
}

/* ---- v1 ---- */

struct v1_files {
	struct cgroup *cg;
	int fd[2]; /* devices.deny, devices.allow */
};

static int v1_write(struct v1_files *files, bool allow, const char *text, struct fault *f)
{
	static const char *const names[] = { "devices.deny", "devices.allow" };
	char shown[PATH_MAX];
	int r = 0;

	if (files->fd[allow] < 0) {
		r = cgroup_file_open(files->cg->host, files->cg->host->devices, files->cg->path,
				     names[allow], O_WRONLY);
		if (r >= 0)
			files->fd[allow] = r;
	}
	if (r >= 0)
		r = write(files->fd[allow], text, strlen(text)) < 0 ? -errno : 0;
	if (r < 0) {
		cgroup_show(files->cg->host, files->cg->host->devices, files->cg->path,
			    names[allow], shown, sizeof(shown));
		fault_set(
			f, fault_code_of_errno(-r), -r,
			"linux.resources.devices: the \"devices\" controller refuses \"%s\" in %s",
			text, names[allow]);
		fault_at(f, "set the device rules", shown);
		fault_arg(f, "devices");
	}
	return r;
}

static unsigned access_of(const struct cgroup_device_set *s, const struct cgroup_device *d)
{
	for (size_t i = 0; i < s->n; i++)
		if (same_devices(&s->v[i], d))
			return s->v[i].access;
	return 0;
}

/* From one set to another. from NULL: nothing is known of what is there. */
static int v1_change(struct cgroup *cg, const struct cgroup_device_set *from,
		     const struct cgroup_device_set *to, struct fault *f)
{
	struct v1_files files = { cg, { -1, -1 } };
	bool all = !from || from->allow != to->allow || to->allow;
	char text[96];
	int r = 0;

	/*
	 * This also empties the set of exceptions, whatever it was. A new group that is to allow
	 * everything has what the one above allows already, and no more could be given to it.
	 */
	if (all && (from || !to->allow))
		r = v1_write(&files, to->allow, "a", f);
	/* first what is to be added, then what goes: nothing that stays is ever out of reach */
	for (size_t i = 0; i < to->n && !r; i++) {
		unsigned add = to->v[i].access & ~(all ? 0 : access_of(from, &to->v[i]));

		device_text(&to->v[i], add, text, sizeof(text));
		if (add)
			r = v1_write(&files, !to->allow, text, f);
	}
	for (size_t i = 0; !all && i < from->n && !r; i++) {
		unsigned drop = from->v[i].access & ~access_of(to, &from->v[i]);

		device_text(&from->v[i], drop, text, sizeof(text));
		if (drop)
			r = v1_write(&files, to->allow, text, f);
	}
	fd_close(&files.fd[0]);
	fd_close(&files.fd[1]);
	return r;
}

static int v1_read(struct cgroup *cg, struct cgroup_device_set *s, struct fault *f)
{
	CLEANUP_FREE char *list = NULL;
	int r = cgroup_file_read(cg->host, cg->host->devices, cg->path, "devices.list", &list);

	if (!r)
		r = cgroup_device_set_parse(s, list);
	return r < 0 ? fault_sys(f, -r, "read devices.list of cgroup", cg->path) : 0;
}

/* ---- both ---- */

static int check_rule(const struct spec_device_rule *r, size_t i, struct fault *f)
{
	char argument[64];

	if (strchr("abc", r->type) && r->type &&
	    (r->major == SPEC_ABSENT || (r->major >= 0 && r->major <= UINT32_MAX)) &&
	    (r->minor == SPEC_ABSENT || (r->minor >= 0 && r->minor <= UINT32_MAX)))
		return 0;
	snprintf(argument, sizeof(argument), "devices[%zu]", i);
	fault_set(f, FAULT_INVALID_ARGUMENT, 0, "linux.resources.%s is no rule for devices",
		  argument);
	fault_arg(f, argument);
	return -EINVAL;
}

/* The caller's rules and the defaults behind them; malloc'ed. */
static struct spec_device_rule *with_defaults(const struct spec_device_rule *rules, size_t n,
					      size_t *total)
{
	struct spec_device_rule *all = malloc((n + ARRAY_SIZE(defaults)) * sizeof(*all));

	if (!all)
		return NULL;
	*total = 0;
	for (size_t i = 0; i < n; i++) {
		/* -1 is how some clients write "any" */
		all[i] = rules[i];
		if (all[i].major == -1)
			all[i].major = SPEC_ABSENT;
		if (all[i].minor == -1)
			all[i].minor = SPEC_ABSENT;
		/* "a" is any device, whatever numbers stand beside it (config-linux.md) */
		if (all[i].type == 'a')
			all[i].major = all[i].minor = SPEC_ABSENT;
	}
	memcpy(all + n, defaults, sizeof(defaults));
	*total = n + ARRAY_SIZE(defaults);
	return all;
}

static int v1_set(struct cgroup *cg, const struct spec_device_rule *rules, size_t n, bool fresh,
		  struct fault *f)
{
	struct cgroup_device_set now = { 0 }, want = { .allow = true };
	int r = 0;

	for (size_t i = 0; i < n && !r; i++) {
		r = cgroup_device_set_apply(&want, &rules[i]);
		if (r == -ENOTSUP) {
			fault_set(
				f, FAULT_FAILED_PRECONDITION, 0,
				"linux.resources.devices[%zu] takes some devices out of a wider range of an earlier rule, "
				"which the \"devices\" controller of cgroup v1 cannot do",
				i);
			fault_arg(f, "devices");
		} else if (r < 0) {
			fault_sys(f, -r, "read linux.resources.devices", NULL);
		}
	}
	if (!r && !fresh)
		r = v1_read(cg, &now, f);
	if (!r)
		r = v1_change(cg, fresh ? NULL : &now, &want, f);
	cgroup_device_set_clear(&now);
	cgroup_device_set_clear(&want);
	return r;
}

int cgroup_devices_set(struct cgroup *cg, const struct spec_device_rule *rules, size_t n,
		       bool fresh, struct fault *f)
{
	CLEANUP_FREE struct spec_device_rule *all = NULL;
	size_t total = 0;
	int r;

	if (!n)
		return 0;
	all = with_defaults(rules, n, &total);
	if (!all)
		return fault_sys(f, ENOMEM, "set the device rules of cgroup", cg->path);
	for (size_t i = 0; i < n; i++) {
		r = check_rule(&all[i], i, f);
		if (r < 0)
			return r;
	}
	if (cg->host->devices >= 0)
		return v1_set(cg, all, total, fresh, f);
	if (cg->host->v2 >= 0)
		return cgroup_bpf_set(cg, all, total, f);
	return fault_set(
		f, FAULT_FAILED_PRECONDITION, 0,
		"linux.resources.devices: this host has neither the \"devices\" controller nor cgroup v2");
}

int cgroup_devices_save(struct cgroup *cg, struct cgroup_devices_state **out, struct fault *f)
{
	struct cgroup_devices_state *s = calloc(1, sizeof(*s));
	int r = 0;

	if (!s)
		return fault_sys(f, ENOMEM, "read the device rules of cgroup", cg->path);
	if (cg->host->devices >= 0)
		r = v1_read(cg, &s->set, f);
	else if (cg->host->v2 >= 0)
		r = cgroup_bpf_get(cg, &s->progs, &s->n_progs, f);
	if (r < 0) {
		cgroup_devices_state_free(s);
		return r;
	}
	*out = s;
	return 0;
}

int cgroup_devices_restore(struct cgroup *cg, const struct cgroup_devices_state *s)
{
	struct cgroup_device_set now = { 0 };
	int r;

	if (cg->host->devices < 0)
		return cg->host->v2 >= 0 ? cgroup_bpf_restore(cg, s->progs, s->n_progs) : 0;
	r = v1_read(cg, &now, NULL);
	if (!r)
		r = v1_change(cg, &now, &s->set, NULL);
	cgroup_device_set_clear(&now);
	return r;
}

void cgroup_devices_state_free(struct cgroup_devices_state *s)
{
	if (!s)
		return;
	cgroup_device_set_clear(&s->set);
	for (size_t i = 0; i < s->n_progs; i++)
		close(s->progs[i]);
	free(s->progs);
	free(s);
}
