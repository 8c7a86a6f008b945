// SPDX-License-Identifier: Apache-2.0
/*
 * Mount options
 *
 * One table. A row says which flag of mount(2) an option is, and which attribute of mount_setattr(2); an option that both calls know has both, so that
 * a file system mount takes it in the one call, and a bind mount by mount_setattr. The word "r" before a name makes it recursive
 * (runtime-spec: rro, rnosuid …). Nothing is allocated but by the caller.
 *
 * Bind mounts get exactly what the options name: an attribute that the source has and no option speaks of stays, so
 * that a bind of a nosuid mount with "ro" alone is still nosuid.
 */
#include "runtime/mount_opts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "runtime/spec.h"
#include "util/cleanup.h"

#ifndef MS_NOSYMFOLLOW
#define MS_NOSYMFOLLOW 256
#endif
#ifndef MS_LAZYTIME
#define MS_LAZYTIME (1 << 25)
#endif
#ifndef MOUNT_ATTR_NOSYMFOLLOW
#define MOUNT_ATTR_NOSYMFOLLOW 0x00200000
#endif
#ifndef MOUNT_ATTR__ATIME
#define MOUNT_ATTR__ATIME 0x00000070
#endif

enum { RECURSABLE = 1, CLEARS = 2 };

static const struct row {
	const char *name;
	unsigned kind;
	unsigned long flag; /* MS_… */
	uint64_t attr; /* MOUNT_ATTR_… */
} rows[] = {
	{ "defaults", 0, 0, 0 },
	{ "ro", RECURSABLE, MS_RDONLY, MOUNT_ATTR_RDONLY },
	{ "rw", RECURSABLE | CLEARS, MS_RDONLY, MOUNT_ATTR_RDONLY },
	{ "nosuid", RECURSABLE, MS_NOSUID, MOUNT_ATTR_NOSUID },
	{ "suid", RECURSABLE | CLEARS, MS_NOSUID, MOUNT_ATTR_NOSUID },
	{ "nodev", RECURSABLE, MS_NODEV, MOUNT_ATTR_NODEV },
	{ "dev", RECURSABLE | CLEARS, MS_NODEV, MOUNT_ATTR_NODEV },
	{ "noexec", RECURSABLE, MS_NOEXEC, MOUNT_ATTR_NOEXEC },
	{ "exec", RECURSABLE | CLEARS, MS_NOEXEC, MOUNT_ATTR_NOEXEC },
	{ "nosymfollow", RECURSABLE, MS_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW },
	{ "symfollow", RECURSABLE | CLEARS, MS_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW },
	{ "nodiratime", RECURSABLE, MS_NODIRATIME, MOUNT_ATTR_NODIRATIME },
	{ "diratime", RECURSABLE | CLEARS, MS_NODIRATIME, MOUNT_ATTR_NODIRATIME },
	{ "sync", RECURSABLE, MS_SYNCHRONOUS, 0 },
	{ "async", RECURSABLE | CLEARS, MS_SYNCHRONOUS, 0 },
	{ "dirsync", RECURSABLE, MS_DIRSYNC, 0 },
	{ "mand", RECURSABLE, MS_MANDLOCK, 0 },
	{ "nomand", RECURSABLE | CLEARS, MS_MANDLOCK, 0 },
	{ "lazytime", 0, MS_LAZYTIME, 0 },
	{ "nolazytime", CLEARS, MS_LAZYTIME, 0 },
	{ "iversion", 0, MS_I_VERSION, 0 },
	{ "noiversion", CLEARS, MS_I_VERSION, 0 },
	{ "silent", 0, MS_SILENT, 0 },
	{ "loud", CLEARS, MS_SILENT, 0 },
	{ "acl", 0, MS_POSIXACL, 0 },
	{ "noacl", CLEARS, MS_POSIXACL, 0 },
};

/* The access time is one field of several values: to set it, the whole field has to be cleared. */
static const struct row_atime {
	const char *name;
	bool clears;
	unsigned long flag;
	uint64_t attr;
} rows_atime[] = {
	{ "noatime", false, MS_NOATIME, MOUNT_ATTR_NOATIME },
	{ "atime", true, MS_NOATIME, MOUNT_ATTR_RELATIME },
	{ "relatime", false, MS_RELATIME, MOUNT_ATTR_RELATIME },
	{ "norelatime", true, MS_RELATIME, MOUNT_ATTR_RELATIME },
	{ "strictatime", false, MS_STRICTATIME, MOUNT_ATTR_STRICTATIME },
	{ "nostrictatime", true, MS_STRICTATIME, MOUNT_ATTR_RELATIME },
};

#define ATIME_FLAGS (MS_NOATIME | MS_RELATIME | MS_STRICTATIME)

static const struct row_propagation {
	const char *name;
	unsigned long flag;
} rows_propagation[] = {
	{ "private", MS_PRIVATE },	 { "rprivate", MS_PRIVATE | MS_REC },
	{ "shared", MS_SHARED },	 { "rshared", MS_SHARED | MS_REC },
	{ "slave", MS_SLAVE },		 { "rslave", MS_SLAVE | MS_REC },
	{ "unbindable", MS_UNBINDABLE }, { "runbindable", MS_UNBINDABLE | MS_REC },
};

static bool take_word(struct mount_opts *o, const char *s)
{
	static const struct {
		const char *name;
		size_t offset;
	} words[] = {
		{ "bind", offsetof(struct mount_opts, bind) },
		{ "remount", offsetof(struct mount_opts, remount) },
		{ "tmpcopyup", offsetof(struct mount_opts, copy_up) },
		{ "copy-symlink", offsetof(struct mount_opts, copy_symlink) },
		{ "src-nofollow", offsetof(struct mount_opts, src_nofollow) },
		{ "dest-nofollow", offsetof(struct mount_opts, dest_nofollow) },
		{ "idmap", offsetof(struct mount_opts, idmap) },
	};

	if (!strcmp(s, "rbind")) {
		o->bind = o->recursive = true;
		return true;
	}
	if (!strcmp(s, "ridmap")) {
		o->idmap = o->idmap_recursive = true;
		return true;
	}
	if (!strncmp(s, "idmap=", 6) || !strncmp(s, "ridmap=", 7)) {
		o->idmap = true;
		o->idmap_recursive = s[0] == 'r';
		o->idmap_arg = strchr(s, '=') + 1;
		return true;
	}
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (!strcmp(s, words[i].name)) {
			*((char *)o + words[i].offset) = true;
			return true;
		}
	for (size_t i = 0; i < ARRAY_SIZE(rows_propagation); i++)
		if (!strcmp(s, rows_propagation[i].name)) {
			o->propagation = rows_propagation[i].flag;
			return true;
		}
	return false;
}

static bool take_flag(struct mount_opts *o, const char *s, bool recursive)
{
	uint64_t *set = recursive ? &o->rset : &o->set, *clear = recursive ? &o->rclear : &o->clear;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *row = &rows[i];

		if (strcmp(s, row->name) ||
		    (recursive && (!(row->kind & RECURSABLE) || !row->attr)))
			continue;
		if (row->kind & CLEARS) {
			o->flags &= recursive ? ~0ul : ~row->flag;
			*set &= ~row->attr;
			*clear |= row->attr;
		} else {
			o->flags |= recursive ? 0 : row->flag;
			*set |= row->attr;
			*clear &= ~row->attr;
		}
		return true;
	}
	for (size_t i = 0; i < ARRAY_SIZE(rows_atime); i++) {
		const struct row_atime *row = &rows_atime[i];

		if (strcmp(s, row->name))
			continue;
		if (!recursive && row->clears)
			o->flags &= ~row->flag;
		else if (!recursive)
			o->flags = (o->flags & ~(unsigned long)ATIME_FLAGS) | row->flag;
		*set = (*set & ~(uint64_t)MOUNT_ATTR__ATIME) | row->attr;
		*clear |= MOUNT_ATTR__ATIME;
		return true;
	}
	return false;
}

int mount_opts_parse(const char *const *options, size_t n, struct mount_opts *out, char *data,
		     size_t size)
{
	size_t used = 0;

	memset(out, 0, sizeof(*out));
	if (!size)
		return -ENAMETOOLONG;
	data[0] = 0;
	for (size_t i = 0; i < n; i++) {
		const char *s = options[i];
		size_t len = strlen(s);

		if (!len || take_word(out, s) || take_flag(out, s, false))
			continue;
		if (s[0] == 'r' && take_flag(out, s + 1, true))
			continue;
		if (used + len + 2 > size)
			return -ENAMETOOLONG;
		if (used)
			data[used++] = ',';
		memcpy(data + used, s, len + 1);
		used += len;
	}
	return 0;
}

bool mount_opts_has(const char *data, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = data; p && *p; p = strchr(p, ',')) {
		p += *p == ',';
		if (!strncmp(p, name, len) && (p[len] == '=' || p[len] == ',' || !p[len]))
			return true;
	}
	return false;
}

static int bad_map(struct fault *f, const char *arg, const char *why)
{
	return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "mount option idmap=%s: %s", arg, why);
}

static int number(const char **p, char end, uint32_t *out)
{
	char *stop;
	unsigned long v;

	if (**p < '0' || **p > '9')
		return -EINVAL;
	errno = 0;
	v = strtoul(*p, &stop, 10);
	if (errno || v > UINT32_MAX || (end && *stop != end))
		return -EINVAL;
	*out = (uint32_t)v;
	*p = stop + (end ? 1 : 0);
	return 0;
}

static int to_host(const struct spec_idmaps *maps, struct spec_idmap *m)
{
	for (size_t i = 0; maps && i < maps->n; i++) {
		const struct spec_idmap *c = &maps->v[i];

		if (m->host_id < c->container_id || m->host_id - c->container_id >= c->size)
			continue;
		if (m->size > c->size - (m->host_id - c->container_id))
			return -ERANGE;
		m->host_id = c->host_id + (m->host_id - c->container_id);
		return 0;
	}
	return -ERANGE;
}

int mount_opts_idmap(const char *arg, const struct spec_idmaps *container_uids,
		     const struct spec_idmaps *container_gids, struct spec_idmap *uids,
		     size_t *n_uids, struct spec_idmap *gids, size_t *n_gids, struct fault *f)
{
	const char *p = arg;

	*n_uids = *n_gids = 0;
	while (*p) {
		const struct spec_idmaps *container;
		struct spec_idmap *v;
		size_t *n;

		if (!strncmp(p, "uids=", 5)) {
			v = uids, n = n_uids, container = container_uids;
		} else if (!strncmp(p, "gids=", 5)) {
			v = gids, n = n_gids, container = container_gids;
		} else {
			return bad_map(f, arg, "uids= or gids= expected");
		}
		for (p += 5; *p && *p != ';'; p += *p == '#') {
			bool relative = *p == '@';
			struct spec_idmap m;

			p += relative;
			if (*n == MOUNT_IDMAPS)
				return bad_map(f, arg, "too many mappings");
			if (number(&p, '-', &m.container_id) || number(&p, '-', &m.host_id) ||
			    number(&p, 0, &m.size) || !m.size || (*p && *p != '#' && *p != ';'))
				return bad_map(f, arg, "a mapping is ID-ID-LENGTH");
			if (relative && to_host(container, &m) < 0)
				return bad_map(f, arg, "not within the container's user namespace");
			v[(*n)++] = m;
		}
		p += *p == ';';
	}
	if (!*n_uids || !*n_gids)
		return bad_map(f, arg, "both uids and gids are needed");
	return 0;
}
