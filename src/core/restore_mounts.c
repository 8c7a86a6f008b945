// SPDX-License-Identifier: Apache-2.0
/*
 * Restores: the root file system, and a source for each mount that is handed in
 *
 * Each source is a detached mount tree with the attributes that the live spec asks for, moved to a
 * place of its own below criu's folder. Those that the runtime makes itself (masks, the folders of
 * cgroups) are made again.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/restore_internal.h"
#include "runtime/cgroup.h"
#include "runtime/mount_opts.h"
#include "store/mounts.h"
#include "util/cleanup.h"
#include "util/fd.h"

#define MASK_FLAGS (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)

/* ---- the root */

/* An overlay is mounted for tools, which run nothing of it; a container does. */
static int root_attributes(const struct restore_start *s, int *fd, struct fault *f)
{
	struct mount_attr attr = {
		.attr_clr = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
	};
	int e;

	if (strcmp(s->rootfs[0].type, "overlay") != 0 ||
	    mount_setattr(*fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) == 0)
		return 0;
	e = errno;
	close(*fd);
	return fault_sys(f, e, "set the mount's attributes of", "the root");
}

/* What the launch would mount, as a tree. */
static int root_of_list(const struct restore_start *s, int *fd, struct fault *f)
{
	struct store_mounts m = { 0 };
	int e = 0;

	for (size_t i = 0; !e && i < s->n_rootfs; i++) {
		const struct launch_mount *from = &s->rootfs[i];
		struct store_mount *to = store_mounts_add(&m, from->type, from->source,
							  from->target ? from->target : "");

		for (size_t k = 0; to && k < from->n_options; k++)
			if (store_mount_option(to, "%s", from->options[k]) < 0)
				to = NULL;
		if (!to)
			e = restore_no_memory(f);
	}
	if (!e)
		e = store_mounts_open(&m, false, fd, f);
	store_mounts_clear(&m);
	return e < 0 ? e : root_attributes(s, fd, f);
}

static int root_of_path(const struct restore_start *s, int *fd, struct fault *f)
{
	const char *root = s->spec->root_path;
	CLEANUP_FREE char *path = NULL;

	if (!root || !*root)
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "root.path is missing");
	if (*root != '/') {
		if (!s->bundle || !*s->bundle)
			return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
					 "root.path \"%s\" is relative, and there is no bundle",
					 root);
		if (asprintf(&path, "%s/%s", s->bundle, root) < 0) {
			path = NULL;
			return restore_no_memory(f);
		}
		root = path;
	}
	*fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return *fd < 0 ? fault_sys(f, errno, "open the root", root) : 0;
}

/* A detached tree of what fd is, unless it is one already. */
static int tree_of(int *fd, bool recursive)
{
	int tree = open_tree(*fd, "",
			     OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH |
				     (recursive ? AT_RECURSIVE : 0));

	if (tree < 0)
		return -errno;
	close(*fd);
	*fd = tree;
	return 0;
}

/* Whether the mount at `path` lies in another one than the root. */
static bool in_other_mount(const struct ckpt_record *k, const char *path)
{
	for (size_t i = 0; i < k->n_mountpoints; i++) {
		size_t n = strlen(k->mountpoints[i].path);

		if (!strncmp(path, k->mountpoints[i].path, n) && path[n] == '/')
			return true;
	}
	return false;
}

/* mkdir -p within the root, links in it followed inside it; the last one a file when !folder. */
static int make_place(int root, const char *path, bool folder)
{
	CLEANUP_FREE char *copy = strdup(path);
	CLEANUP_CLOSE int at = fcntl(root, F_DUPFD_CLOEXEC, 0);
	char *p, *save = NULL, *sofar;
	size_t used = 0;

	sofar = copy ? calloc(1, strlen(path) + 2) : NULL;
	if (!copy || !sofar || at < 0) {
		free(sofar);
		return -ENOMEM;
	}
	for (p = strtok_r(copy, "/", &save); p;) {
		char *next = strtok_r(NULL, "/", &save);
		int fd, r = 0;

		used += (size_t)sprintf(sofar + used, "/%s", p);
		fd = fd_open_in_root(root, sofar, O_PATH, 0);
		if (fd == -ENOENT) {
			if (next || folder)
				r = mkdirat(at, p, 0755) < 0 ? -errno : 0;
			else
				r = mknodat(at, p, S_IFREG | 0644, 0) < 0 ? -errno : 0;
			if (!r)
				fd = fd_open_in_root(root, sofar, O_PATH, 0);
		}
		if (r < 0 || fd < 0) {
			free(sofar);
			return r < 0 ? r : fd;
		}
		close(at);
		at = fd;
		p = next;
	}
	free(sofar);
	return 0;
}

static const struct spec_mount *live_mount(const struct spec *s, const char *path,
					   const char **rest);

/* Another tool's images do not say whether a file or a folder was bound: what is bound now does. */
static bool is_folder(const struct restore *r, const struct restore_start *s,
		      const struct ckpt_mountpoint *m)
{
	const struct criu_mounts *all = &r->read.record.mounts;
	const struct spec_mount *live;
	struct stat st;
	const char *rest;

	for (size_t i = 0; i < all->n; i++) {
		if (!all->v[i].key || all->v[i].kind != CRIU_MOUNT_BIND ||
		    strcmp(all->v[i].path, m->path) != 0)
			continue;
		for (size_t k = 0; k < r->n_mounts; k++)
			if (!strcmp(r->mounts[k].path, m->path))
				return stat(r->mounts[k].source, &st) == 0 && S_ISDIR(st.st_mode);
		live = live_mount(s->spec, m->path, &rest);
		if (live && !*rest && live->source[0] == '/' && stat(live->source, &st) == 0)
			return S_ISDIR(st.st_mode);
	}
	return m->folder;
}

static int make_places(struct restore *r, const struct restore_start *s, int root, struct fault *f)
{
	const struct ckpt_record *k = &r->read.record;

	for (size_t i = 0; i < k->n_mountpoints; i++) {
		const struct ckpt_mountpoint *m = &k->mountpoints[i];
		int e;

		if (in_other_mount(k, m->path))
			continue;
		e = make_place(root, m->path, is_folder(r, s, m));
		if (e < 0 && e != -EEXIST)
			return fault_sys(f, -e, "make the mount point", m->path);
	}
	return 0;
}

int restore_root(struct restore *r, const struct restore_start *s, char **root, struct fault *f)
{
	int fd = -1, e;

	e = s->n_rootfs ? root_of_list(s, &fd, f) : root_of_path(s, &fd, f);
	if (e < 0)
		return e;
	e = ckpt_images_binds(&r->read.files, fd, f);
	if (!e)
		e = restore_root_take(r, s, fd, f);
	if (!e)
		e = make_places(r, s, fd, f);
	/* a plain folder; an overlay is a detached mount already, which cannot be cloned */
	if (!e && (!s->n_rootfs || strcmp(s->rootfs[0].type, "overlay") != 0)) {
		r->root = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (r->root < 0 || restore_keep_fd(r, r->root) < 0)
			e = restore_no_memory(f);
	}
	if (!e && r->root >= 0) {
		e = tree_of(&fd, true);
		if (e < 0)
			fault_sys(f, -e, "clone the mount of", "the root");
	}
	if (e < 0) {
		close(fd);
		return e;
	}
	*root = restore_text(r, "%s/root", r->run->dir);
	if (restore_keep_fd(r, fd) < 0 || !*root)
		return restore_no_memory(f);
	if (mkdir(*root, 0700) < 0)
		return fault_sys(f, errno, "make the folder", *root);
	return restore_step(r, CRIU_MOUNT_TREE, fd, *root, NULL, 0) < 0 ? restore_no_memory(f) : 0;
}

/* ---- sources */

static int add_source(struct restore *r, const char *name, const char *path, struct fault *f)
{
	struct criu_source *grown = reallocarray(r->sources, r->n_sources + 1, sizeof(*grown));

	if (!grown || !path)
		return restore_no_memory(f);
	r->sources = grown;
	grown[r->n_sources++] = (struct criu_source){ name, path };
	return 0;
}

/* What `at` is, or the tree at `source`, with attributes, moved to a place named like the mount. */
static int add_tree_at(struct restore *r, const struct criu_mount *m, int at, const char *source,
		       const struct mount_opts *opts, bool recursive, struct fault *f)
{
	struct mount_attr attr = { .attr_set = opts->set, .attr_clr = opts->clear };
	char *place = restore_text(r, "%s/%s", r->run->dir, m->name);
	struct stat st;
	int fd = open_tree(at, at < 0 ? source : "",
			   OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (at < 0 ? 0 : AT_EMPTY_PATH) |
				   (recursive ? AT_RECURSIVE : 0));

	if (fd < 0)
		return fault_sys(f, errno, "open the source of a mount", source);
	if (restore_keep_fd(r, fd) < 0 || !place)
		return restore_no_memory(f);
	if (fstat(fd, &st) < 0)
		return fault_sys(f, errno, "look at", source);
	if ((attr.attr_set || attr.attr_clr) &&
	    mount_setattr(fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		return fault_sys(f, errno, "set the mount's attributes of", source);
	if (S_ISDIR(st.st_mode) ? mkdir(place, 0700) < 0 : mknod(place, S_IFREG | 0600, 0) < 0)
		return fault_sys(f, errno, "make a place for", source);
	if (restore_step(r, CRIU_MOUNT_TREE, fd, place, NULL, 0) < 0)
		return restore_no_memory(f);
	return add_source(r, criu_mount_key(m), place, f);
}

static int add_tree(struct restore *r, const struct criu_mount *m, const char *source,
		    const struct mount_opts *opts, bool recursive, struct fault *f)
{
	return add_tree_at(r, m, AT_FDCWD, source, opts, recursive, f);
}

bool restore_is_bind(const struct spec_mount *m)
{
	if (m->type && !strcmp(m->type, "bind"))
		return true;
	for (size_t i = 0; i < m->options.n; i++)
		if (!strcmp(m->options.v[i], "bind") || !strcmp(m->options.v[i], "rbind"))
			return true;
	return false;
}

/* In a user namespace devices are bound instead of made: the usual ones, and those of the spec. */
static bool is_device(const struct spec *s, const char *path)
{
	static const char *const usual[] = { "/dev/null",   "/dev/zero",    "/dev/full",
					     "/dev/random", "/dev/urandom", "/dev/tty" };

	for (size_t i = 0; i < sizeof(usual) / sizeof(usual[0]); i++)
		if (!strcmp(path, usual[i]))
			return true;
	for (size_t i = 0; i < s->n_devices; i++)
		if (!strcmp(path, s->devices[i].path))
			return true;
	return false;
}

/* The live spec's bind mount that has the path, itself or above it, nearest. */
static const struct spec_mount *live_mount(const struct spec *s, const char *path,
					   const char **rest)
{
	const struct spec_mount *best = NULL;
	size_t most = 0;

	for (size_t i = 0; i < s->n_mounts; i++) {
		const struct spec_mount *m = &s->mounts[i];
		size_t n = strlen(m->destination);

		while (n > 1 && m->destination[n - 1] == '/')
			n--;
		if (!m->source || !restore_is_bind(m) || strncmp(path, m->destination, n) != 0 ||
		    (path[n] && path[n] != '/') || n < most)
			continue;
		best = m;
		most = n;
	}
	*rest = best ? path + most : NULL;
	return best;
}

/* A tmpfs of the live spec's, where another tool had bound one of the host's (podman's /dev/shm). */
static int tmpfs_source(struct restore *r, const struct criu_mount *m,
			const struct spec_mount *live, struct fault *f)
{
	char *place = restore_text(r, "%s/%s", r->run->dir, m->name);
	char *data = restore_text(r, "%256s", "");
	struct mount_opts opts = { 0 };

	if (!place || !data)
		return restore_no_memory(f);
	*data = '\0';
	(void)mount_opts_parse((const char *const *)live->options.v, live->options.n, &opts, data,
			       256);
	if (mkdir(place, 0700) < 0)
		return fault_sys(f, errno, "make the folder", place);
	if (restore_step(r, CRIU_MOUNT_TMPFS, -1, place, data, MS_NOSUID | MS_NODEV) < 0)
		return restore_no_memory(f);
	return add_source(r, criu_mount_key(m), place, f);
}

/* Of another tool's checkpoint: its keys are not ours. */
static const struct spec_mount *live_tmpfs(const struct spec *s, const struct criu_mount *m)
{
	for (size_t i = 0; m->key && i < s->n_mounts; i++)
		if (s->mounts[i].type && !strcmp(s->mounts[i].type, "tmpfs") &&
		    !strcmp(s->mounts[i].destination, m->path))
			return &s->mounts[i];
	return NULL;
}

static bool has_source(const struct restore *r, const char *key)
{
	for (size_t i = 0; i < r->n_sources; i++)
		if (!strcmp(r->sources[i].name, key))
			return true;
	return false;
}

/*
 * A file system that shows a namespace, of a container that has the host's: there is one of it, the
 * host's too, so criu could not make it anew.
 */
static const struct spec_mount *live_host_fs(const struct spec *s, const struct criu_mount *m)
{
	static const struct {
		const char *type;
		enum spec_ns_kind ns;
	} kinds[] = { { "sysfs", SPEC_NS_NETWORK }, { "mqueue", SPEC_NS_IPC } };

	for (size_t i = 0; i < s->n_mounts && !strcmp(m->root, "/"); i++) {
		const struct spec_mount *live = &s->mounts[i];

		if (!live->type || strcmp(live->destination, m->path) != 0)
			continue;
		for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
			if (!strcmp(live->type, kinds[k].type) && !s->ns[kinds[k].ns].given)
				return live;
	}
	return NULL;
}

static int host_fs_source(struct restore *r, const struct criu_mount *m,
			  const struct spec_mount *live, struct fault *f)
{
	char *place = restore_text(r, "%s/%s", r->run->dir, m->name);
	CLEANUP_CLOSE int fs = fsopen(live->type, FSOPEN_CLOEXEC);
	struct mount_opts opts = { 0 };
	char data[256];
	int fd;

	(void)mount_opts_parse((const char *const *)live->options.v, live->options.n, &opts, data,
			       sizeof(data));
	if (fs < 0 || fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0 ||
	    (fd = fsmount(fs, FSMOUNT_CLOEXEC, (unsigned)opts.set)) < 0)
		return fault_sys(f, errno, "make a mount of type", live->type);
	if (restore_keep_fd(r, fd) < 0 || !place)
		return restore_no_memory(f);
	if (mkdir(place, 0700) < 0)
		return fault_sys(f, errno, "make the folder", place);
	if (restore_step(r, CRIU_MOUNT_TREE, fd, place, NULL, 0) < 0)
		return restore_no_memory(f);
	return add_source(r, criu_mount_key(m), place, f);
}

/*
 * A bind of something below the container's root (a read-only path, or what the container has bound by
 * itself) is one of the root that is restored into.
 */
static int own_source(struct restore *r, const struct criu_mount *m, struct fault *f)
{
	struct mount_opts opts = { .set = m->read_only ? MOUNT_ATTR_RDONLY : 0 };
	CLEANUP_CLOSE int at = r->root < 0 ? -EXDEV : fd_open_in_root(r->root, m->root, O_PATH, 0);

	if (at < 0)
		return fault_sys(f, -at, "open in the container's root", m->root);
	return add_tree_at(r, m, at, m->root, &opts, false, f);
}

/* Whether it is a mount of the host's, not just a folder in one. */
static bool is_mount(int fd)
{
	struct statx st;

	return statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &st) == 0 &&
	       st.stx_attributes & STATX_ATTR_MOUNT_ROOT;
}

/*
 * The spec's bind mount itself, or what lies at `rest` below its source. A launch gives attributes to the
 * former, and to mounts that come along below it only those that are said of all (rro).
 */
static int live_source(struct restore *r, const struct restore_start *s, const struct criu_mount *m,
		       const struct spec_mount *live, const char *rest, struct fault *f)
{
	bool absolute = live->source[0] == '/';
	const char *bundle = absolute || !s->bundle ? "" : s->bundle;
	char data[256],
		*source = restore_text(r, "%s%s%s", bundle, absolute ? "" : "/", live->source);
	struct mount_opts opts = { 0 };
	CLEANUP_CLOSE int top = -1, at = -1;

	if (!source)
		return restore_no_memory(f);
	(void)mount_opts_parse((const char *const *)live->options.v, live->options.n, &opts, data,
			       sizeof(data));
	top = open(source, O_PATH | O_CLOEXEC);
	if (top < 0)
		return fault_sys(f, errno, "open the source of a mount", source);
	/* links below it are the container's */
	at = *rest ? fd_open_in_root(top, rest, O_PATH, 0) : TAKE_FD(top);
	if (at < 0)
		return fault_sys(f, -at, "open the source of a mount", m->path);
	if (*rest && opts.recursive && is_mount(at))
		opts.set = opts.clear = 0;
	opts.set |= opts.rset;
	opts.clear |= opts.rclear;
	/* criu takes the flag from its images */
	if ((opts.set & MOUNT_ATTR_RDONLY) && !m->read_only)
		return fault_set(
			f, FAULT_PERMISSION_DENIED, 0,
			"the mount at %s is read-only in the container's spec, but not in the checkpoint",
			m->path);
	/* those below it are mounts of their own in the checkpoint */
	return add_tree_at(r, m, at, source, &opts, false, f);
}

static int check_kind(const struct restore *r, const struct criu_mount *m, const char *source,
		      struct fault *f)
{
	const struct ckpt_record *k = &r->read.record;
	struct stat st;

	if (stat(source, &st) < 0)
		return fault_sys(f, errno, "open the source of a mount", source);
	/* another tool's record does not know */
	for (size_t i = 0; !m->key && i < k->n_mountpoints; i++) {
		const struct ckpt_mountpoint *p = &k->mountpoints[i];

		if (strcmp(p->path, m->path) != 0 || p->folder == S_ISDIR(st.st_mode))
			continue;
		fault_set(f, FAULT_INVALID_ARGUMENT, 0,
			  "options.external_mounts: the mount at %s is a %s, and %s is %s", m->path,
			  p->folder ? "folder" : "file", source, p->folder ? "none" : "a folder");
		fault_arg(f, "options");
		return -EINVAL;
	}
	return 0;
}

/* Of options.external_mounts */
static int given_source(struct restore *r, const struct criu_mount *m, struct restore_mount *given,
			struct fault *f)
{
	struct mount_opts opts = { .set = m->read_only ? MOUNT_ATTR_RDONLY : 0 };
	int e = check_kind(r, m, given->source, f);

	given->used = true;
	return e < 0 ? e : add_tree(r, m, given->source, &opts, true, f);
}

static int check_given(const struct restore *r, struct fault *f)
{
	for (size_t i = 0; i < r->n_mounts; i++) {
		if (r->mounts[i].used)
			continue;
		fault_set(f, FAULT_INVALID_ARGUMENT, 0,
			  "options.external_mounts: the checkpoint has no mount from outside at %s",
			  r->mounts[i].path);
		fault_arg(f, "options");
		return -EINVAL;
	}
	return 0;
}

static int bind_source(struct restore *r, const struct restore_start *s, const struct criu_mount *m,
		       struct fault *f)
{
	const struct spec_mount *live;
	struct mount_opts opts = { 0 };
	const char *rest;

	for (size_t i = 0; i < r->n_mounts; i++)
		if (!strcmp(r->mounts[i].path, m->path))
			return given_source(r, m, &r->mounts[i], f);
	live = live_mount(s->spec, m->path, &rest);
	if (m->kind == CRIU_MOUNT_OWN && (!live || *rest))
		return own_source(r, m, f);
	if (!live && is_device(s->spec, m->path))
		return add_tree(r, m, m->path, &opts, false, f);
	if (!live && live_host_fs(s->spec, m))
		return host_fs_source(r, m, live_host_fs(s->spec, m), f);
	if (!live && live_tmpfs(s->spec, m))
		return tmpfs_source(r, m, live_tmpfs(s->spec, m), f);
	if (!live)
		return fault_set(
			f, FAULT_FAILED_PRECONDITION, 0,
			"the checkpoint has a mount at %s that the container's spec has not; give its source in options.external_mounts",
			m->path);
	return live_source(r, s, m, live, rest, f);
}

static int cgroup_source(struct restore *r, const struct restore_start *s,
			 const struct criu_mount *m, struct fault *f)
{
	CLEANUP_FREE char *path = cgroup_hierarchy_path(s->cgroup, m->controllers);
	struct mount_opts opts = {
		.set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC |
		       (m->read_only ? MOUNT_ATTR_RDONLY : 0),
	};

	if (!path)
		return fault_set(
			f, FAULT_FAILED_PRECONDITION, 0,
			"the checkpoint has the cgroup hierarchy \"%s\" at %s, which this host has not",
			*m->controllers ? m->controllers : "v2", m->path);
	return add_tree(r, m, path, &opts, false, f);
}

/* A tmpfs with a folder for each hierarchy that was in it. */
static int cgroup_root(struct restore *r, const struct criu_mount *m, struct fault *f)
{
	const struct criu_mounts *all = &r->read.record.mounts;
	char *place = restore_text(r, "%s/%s", r->run->dir, m->name);
	size_t n = strlen(m->path);

	if (!place)
		return restore_no_memory(f);
	if (mkdir(place, 0700) < 0)
		return fault_sys(f, errno, "make the folder", place);
	if (restore_step(r, CRIU_MOUNT_TMPFS, -1, place, "mode=755",
			 MS_NOSUID | MS_NODEV | MS_NOEXEC) < 0)
		return restore_no_memory(f);
	for (size_t i = 0; i < all->n; i++) {
		char *folder;

		if (all->v[i].kind != CRIU_MOUNT_CGROUP ||
		    strncmp(all->v[i].path, m->path, n) != 0 || all->v[i].path[n] != '/')
			continue;
		folder = restore_text(r, "%s%s", place, all->v[i].path + n);
		if (!folder || restore_step(r, CRIU_MKDIR, -1, folder, NULL, 0) < 0)
			return restore_no_memory(f);
	}
	if (m->read_only && restore_step(r, CRIU_REMOUNT, -1, place, NULL, MASK_FLAGS) < 0)
		return restore_no_memory(f);
	return add_source(r, criu_mount_key(m), place, f);
}

/* One for all of them. */
static int mask_source(struct restore *r, const struct criu_mount *m, char **mask, struct fault *f)
{
	if (!*mask) {
		*mask = restore_text(r, "%s/mask", r->run->dir);
		if (!*mask)
			return restore_no_memory(f);
		if (mkdir(*mask, 0700) < 0)
			return fault_sys(f, errno, "make the folder", *mask);
		if (restore_step(r, CRIU_MOUNT_TMPFS, -1, *mask, "nr_inodes=1", MASK_FLAGS) < 0)
			return restore_no_memory(f);
	}
	return add_source(r, criu_mount_key(m), *mask, f);
}

int restore_mounts(struct restore *r, const struct restore_start *s, struct fault *f)
{
	const struct criu_mounts *all = &r->read.record.mounts;
	struct mount_opts none = { 0 };
	char *mask = NULL;
	int e = 0;

	for (size_t i = 0; !e && i < all->n; i++) {
		const struct criu_mount *m = &all->v[i];

		/* masks by the null device may share a key, of which criu wants one source */
		if (m->key && has_source(r, m->key))
			continue;
		switch (m->kind) {
		case CRIU_MOUNT_BIND:
		case CRIU_MOUNT_OWN:
			e = bind_source(r, s, m, f);
			break;
		case CRIU_MOUNT_CGROUP:
			e = cgroup_source(r, s, m, f);
			break;
		case CRIU_MOUNT_CGROUP_ROOT:
			e = cgroup_root(r, m, f);
			break;
		case CRIU_MOUNT_MASK:
			e = mask_source(r, m, &mask, f);
			break;
		case CRIU_MOUNT_NULL:
			e = add_tree(r, m, "/dev/null", &none, false, f);
			break;
		case CRIU_MOUNT_CONSOLE: /* restore_stdio has the terminal */
		case CRIU_MOUNT_KINDS:
			break;
		}
	}
	return e < 0 ? e : check_given(r, f);
}
