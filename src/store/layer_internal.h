// SPDX-License-Identifier: Apache-2.0
/*
 * Layers, inside: what the files layer_*.c share
 */
#pragma once

#include <archive.h>
#include <archive_entry.h>
#include <locale.h>
#include <sys/stat.h>

#include "store/layer.h"
#include "util/limits.h"

#define WHITEOUT ".wh."
#define WHITEOUT_OPAQUE ".wh..wh..opq"
#define LAYER_NAME_SHOWN 300 /* of a name in a fault, at most */
#define OVERLAY_OPAQUE "trusted.overlay.opaque"

/* ---- layer_stream.c */

int layer_stream_new(struct layer_stream **out, int fd, struct store_progress *progress,
		     struct fault *f);
enum layer_compression layer_stream_kind(const struct layer_stream *s);
uint64_t layer_stream_packed(const struct layer_stream *s); /* bytes read so far */

/* ---- layer_ring.c: unpacking and hashing on a thread of its own */

struct layer_ring;
int layer_ring_new(struct layer_ring **out, struct layer_stream *stream, uint64_t ratio,
		   struct fault *f);
/*
 * The next piece, which is to be released before the next call; 0 at the end, negative after
 * filling the fault, and so at each further call.
 */
ssize_t layer_ring_next(struct layer_ring *r, const void **data, struct fault *f);
void layer_ring_release(struct layer_ring *r);
/* After the end: of all that came. */
int layer_ring_digest(struct layer_ring *r, struct digest *digest, uint64_t *size);
void layer_ring_free(struct layer_ring *r); /* ends the thread; NULL is fine */

/* ---- layer_xattr.c */

/* Which ones layers carry: not those that mean something to overlayfs, or to this host alone. */
bool layer_xattr_wanted(const char *name);
struct layer_xattr {
	char *name, *value; /* owned */
	size_t size;
};
struct layer_xattrs {
	struct layer_xattr *v; /* sorted by name */
	size_t n;
	/* overlayfs's own: this folder's lower ones are not seen; its data or name is elsewhere */
	bool opaque, elsewhere;
};
/*
 * The wanted ones of folder/name (not followed), or of the fd itself with name NULL. A file system
 * without xattrs has none. -errno.
 */
int layer_xattrs_read(struct layer_xattrs *x, int folder, const char *name);
void layer_xattrs_clear(struct layer_xattrs *x);
bool layer_xattrs_equal(const struct layer_xattrs *a, const struct layer_xattrs *b);
/* One of folder/name, as above: its size, -ENODATA for none, -errno. */
ssize_t layer_xattr_get(int folder, const char *name, const char *xattr, void *buf, size_t size);
int layer_xattr_set(int folder, const char *name, const char *xattr, const void *value,
		    size_t size);

/* ---- layer_dirs.c: folders below the root by their names in the archive */

/*
 * Keeps the folders used last open. Paths here are clean: relative, no empty, "." or ".."
 * components, "" for the root.
 */
struct layer_dirs;
struct layer_dir {
	int fd; /* O_PATH; valid until the next call */
	const char *path; /* the real one, no link in it; as long as fd */
};
/*
 * made(user, path) is told of each folder that get makes; negative ends it. replaces: a whiteout in
 * the way of a folder that is to be made is replaced by one.
 */
typedef int (*layer_made_fn)(void *user, const char *path, bool replaced);
int layer_dirs_new(struct layer_dirs **out, int root_fd, layer_made_fn made, void *user);
void layer_dirs_free(struct layer_dirs *d);
/*
 * Links in the path are followed within the root. make: what is missing is made, 0755. -ENOENT
 * otherwise; -ENOTDIR: something else is there; -ELOOP; -ENAMETOOLONG, -EMLINK: longer or deeper
 * than a path may be; -errno. Without filling a fault.
 */
int layer_dirs_get(struct layer_dirs *d, const char *path, bool make, struct layer_dir *out);
/* The folder at this real path, or what is below it, is not there any more. */
void layer_dirs_forget(struct layer_dirs *d, const char *path);

/* ---- layer_names.c */

/* Real paths of what this layer has written. */
struct layer_names {
	uint64_t *v;
	size_t n, room; /* a power of two */
	uint64_t seed;
};
int layer_names_add(struct layer_names *s, const char *path); /* -ENOMEM */
bool layer_names_has(const struct layer_names *s, const char *path);
void layer_names_clear(struct layer_names *s);
/*
 * Cleans an archive's name into `out` (PATH_MAX bytes): relative to the root whatever it begins
 * with. NULL, or why it is refused.
 */
const char *layer_name_clean(const char *name, char *out);
/* "dir/name", or name; -ENAMETOOLONG */
int layer_path_join(char *out, const char *dir, const char *name);

/* ---- applying */

struct deferred { /* of a folder, set once nothing more is written into it */
	struct deferred *next;
	struct timespec mtime;
	char *acl; /* system.posix_acl_default: files made before it was set do not get it */
	size_t acl_size;
	char path[];
};

struct applier {
	struct store_call *c;
	int root_fd; /* readable */
	bool overlay;
	struct layer_limits limits;
	struct layer_result *out;
	struct archive *archive;
	struct layer_ring *ring;
	struct fault ring_fault;
	int ring_failed;
	struct layer_dirs *dirs;
	bool piece; /* of the ring is in libarchive's hands */
	uint64_t tar_bytes; /* given to it */
	uint64_t padding; /* zeros among them that the archive lacks at its end */
	uint64_t last_size; /* of the last entry's data */
	struct layer_names names;
	size_t implied_room, marked_room;
	struct layer_names marked; /* those in out->marked */
	struct deferred *deferred, **deferred_last;
	size_t memory; /* bytes of it and of the implied and marked folders */
	uint64_t entries, bytes;
	bool told; /* a callback has filled the fault */
	/* for faults: the name as the archive has it, cut, or "" when none is at work */
	char entry[LAYER_NAME_SHOWN];
	bool behind; /* that one is done, and the next is looked for */
};

/* layer_entry.c: makes what the entry says; path is clean. */
int layer_entry_apply(struct applier *a, struct archive_entry *e, const char *path);
int layer_entries_finish(struct applier *a); /* what was deferred */
/* The entry that faults are about from now on; NULL for none. */
void layer_entry_named(struct applier *a, const char *name);
/* layer_apply.c: a folder, by its real path, that has whiteouts or was made to be marked. */
int layer_marked(struct applier *a, const char *folder);
/* Counts bytes that are kept in memory. */
int layer_remember(struct applier *a, size_t bytes);
/* Fills the call's fault with the entry's name before the message. */
int layer_refuse(struct applier *a, enum fault_code code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
int layer_entry_fault(struct applier *a, int err, const char *what);
int layer_archive_fault(struct applier *a); /* what libarchive or the unpacking says */

/* layer_whiteout.c */
/* whether folder/name is a character device 0:0 */
bool layer_is_whiteout(const struct stat *st);
int layer_whiteout_apply(struct applier *a, const char *folder, const char *name);
int layer_opaque_apply(struct applier *a, const char *folder);
/* Removes what this layer has not written from the folder at this real path, at any depth. */
int layer_purge(struct applier *a, const char *path);
/* dir/name: a file, or a folder with all below it. Forgets it. */
int layer_remove(struct applier *a, const struct layer_dir *dir, const char *name);

/* ---- packing */

struct layer_writer;
int layer_writer_new(struct layer_writer **out, struct store_call *c, layer_write_fn fn,
		     void *user);
/*
 * One entry: path without a leading slash ("" is the root), which is folder/name, or the fd itself
 * when name is NULL. `link` is NULL or the path of an entry that it is a hard link to.
 */
int layer_writer_entry(struct layer_writer *w, const char *path, int folder, const char *name,
		       const struct stat *st, const struct layer_xattrs *xattrs, const char *link);
/* The whiteout of path, or with opaque the mark in the folder path. */
int layer_writer_whiteout(struct layer_writer *w, const char *path, bool opaque);
int layer_writer_finish(struct layer_writer *w);
void layer_writer_free(struct layer_writer *w);

/* Hard links by inode: layer_tree.c */
struct layer_name {
	struct layer_name *next;
	char path[];
};
struct layer_inode {
	uint64_t dev, ino;
	char *path; /* owned; the first one */
	struct layer_name *more; /* owned; further ones that are not written, the last at first */
	bool written;
};
struct layer_inodes {
	struct layer_inode *v;
	size_t n, room;
};
/* The one of st; *fresh: it was added, with this path. NULL: no memory. */
struct layer_inode *layer_inodes_get(struct layer_inodes *s, const struct stat *st,
				     const char *path, bool *fresh);
int layer_inode_name(struct layer_inode *i, const char *path); /* one more; -ENOMEM */
void layer_inodes_clear(struct layer_inodes *s);

/* Sorted names in a folder; fd may be O_PATH. -errno */
struct layer_list {
	char **v; /* into one block */
	char *block;
	size_t n;
};
int layer_list_read(struct layer_list *l, int fd);
void layer_list_clear(struct layer_list *l);
/* The folder at a clean real path, O_PATH; no link in it is followed. -errno */
int layer_open_folder(int root_fd, const char *path);
/* The same, but nothing that is mounted below the root: -EXDEV. */
int layer_open_own_folder(int root_fd, const char *path);

/* Names of files are bytes; libarchive goes by the thread's locale. */
struct layer_locale {
	locale_t mine, before;
};
int layer_locale_enter(struct layer_locale *l);
void layer_locale_leave(struct layer_locale *l);
