// SPDX-License-Identifier: Apache-2.0
/*
 * davit restore: the root file system
 *
 * The files of a container of an image are the image's and what the container had changed: a new
 * snapshot of the image's layers, into which the checkpoint's layer is unpacked. The image is the one
 * that hangs below the checkpoint's own index, so a name that has moved since does not matter. A
 * container of a folder gets that folder: it was no part of the checkpoint.
 *
 * Volumes of an image (create_image.c) are snapshots of the old container. Each becomes a new one with
 * a copy of what is in the old one now.
 *
 * All of it is made under the lease, and undone by cli_restore_root_undo until the container has it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/args.h"
#include "cli/conn.h"
#include "cli/image.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/restore.h"
#include "cli/snaproot.h"
#include "cli/snapshot.h"

static void own(struct restore *r, const char *key)
{
	if (!r->snapshots)
		r->snapshots = js_array();
	js_push_str(r->snapshots, key);
}

void cli_restore_root_undo(struct restore *r)
{
	for (size_t i = 0; i < js_len(r->snapshots); i++)
		cli_snapshot_remove_quietly(r->cli, r->snapshotter,
					    json_object_get_string(js_at(r->snapshots, i)));
	json_object_put(r->snapshots);
	r->snapshots = NULL;
}

/* ---- a folder */

static int root_of_folder(struct restore *r, const char *path, const char *what, struct fault *f)
{
	char *real CLEANUP_FREE = realpath(path, NULL);
	struct stat st;

	if (!real || stat(real, &st) < 0 || !S_ISDIR(st.st_mode))
		return fault_sys(f, real ? ENOTDIR : errno, what, path);
	js_set_str(js_object_at(r->spec, "root"), "path", real);
	return 0;
}

/* The recorded one. */
static int root_as_before(struct restore *r, struct fault *f)
{
	const char *path = js_str(r->spec, "root.path");

	if (!r->c.local && !args_flag(r->cli, "trust"))
		return fault_set(
			f, FAULT_PERMISSION_DENIED, 0,
			"the checkpoint was not made by this daemon, and its container's files were in the folder %s; give the folder it is to have with --rootfs DIR",
			path);
	if (*path != '/')
		return fault_set(
			f, FAULT_FAILED_PRECONDITION, 0,
			"the container's root, \"%s\", was relative to its bundle; give the folder with --rootfs DIR",
			path);
	if (access(path, F_OK) < 0 && (errno == ENOENT || errno == ENOTDIR))
		return fault_set(
			f, FAULT_FAILED_PRECONDITION, 0,
			"the container's files were in %s, which is not there any more; give the folder with --rootfs DIR",
			path);
	return root_of_folder(r, path, "looking for the container's root", f);
}

/* ---- an image */

/* Its layers as snapshots; *chain is the topmost. */
static int unpack(struct restore *r, char **chain, struct fault *f)
{
	const char *base = js_str(r->c.record, "container.image"),
		   *snapshotter = js_str(r->c.record, "container.snapshotter");
	const char *name = r->c.has_base ? r->image : base;
	int e;

	if (r->c.local && *snapshotter)
		r->snapshotter = mem_strdup(snapshotter);
	e = cli_image_unpack(r->cli, name, NULL, r->lease, chain, &r->snapshotter, f);
	if (e < 0 && f->code == FAULT_NOT_FOUND && !r->c.has_base)
		return fault_set(
			f, FAULT_FAILED_PRECONDITION, 0,
			"the image %s, which the container was made from, is neither in the checkpoint nor here; import it, or give a folder with --rootfs DIR",
			base);
	return e;
}

static int apply(struct restore *r, json_object *mounts, struct fault *f)
{
	struct progress_call call = { .method = "diff.apply",
				      .params = js_object(),
				      .what = "Unpacking the container's changes",
				      .events = true,
				      .watch = -1 };
	int e;

	js_set(call.params, "diff", json_object_get(r->c.diff));
	js_set(call.params, "mounts", json_object_get(mounts));
	js_set_str(call.params, "lease", r->lease);
	e = progress_run(r->cli, &call, NULL, f);
	if (e < 0)
		fault_prefix(f, "the container's changes");
	return e;
}

static int root_of_image(struct restore *r, struct fault *f)
{
	json_object *mounts CLEANUP_JSON = NULL;
	char *chain CLEANUP_FREE = NULL;
	int e = unpack(r, &chain, f);

	if (e == 0)
		e = cli_snapshot_new(r->cli, r->snapshotter, r->id, chain, r->lease, NULL, &r->key,
				     &mounts, f);
	if (e < 0)
		return e;
	own(r, r->key);
	/* The daemon mounts it where nobody else sees it. */
	js_set_str(js_object_at(r->spec, "root"), "path", "rootfs");
	if (r->c.diff)
		return apply(r, mounts, f);
	cli_warn(
		"the checkpoint has no layer of changed files: the container's root begins as its image has it");
	return 0;
}

/* ---- volumes */

static int volume(struct restore *r, json_object *mount, size_t number, struct fault *f)
{
	const char *at = js_str(mount, "destination"), *source = js_str(mount, "source");
	const char *snapshotter = r->snapshotter ? r->snapshotter : "overlayfs";
	char *wanted CLEANUP_FREE = mem_printf("%s-volume-%zu", r->id, number);
	char *label CLEANUP_FREE = mem_printf(LABEL_GC_SNAPSHOT "%s" LABEL_VOLUME_SUFFIX "%zu",
					      snapshotter, number);
	char *key CLEANUP_FREE = NULL;
	json_object *mounts CLEANUP_JSON = NULL;
	json_object *note = js_object();
	int from CLEANUP_CLOSE = open(source, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int to CLEANUP_CLOSE = -1;
	int e;

	js_set_str(note, "davit.volume", at);
	if (from < 0) {
		json_object_put(note);
		return fault_sys(f, errno, "opening the old container's volume", source);
	}
	e = cli_snapshot_new(r->cli, snapshotter, wanted, "", r->lease, note, &key, &mounts, f);
	if (e < 0)
		return e;
	if (!r->snapshotter)
		r->snapshotter = mem_strdup(snapshotter);
	own(r, key);
	if (js_len(mounts) != 1 || *js_str(js_at(mounts, 0), "source") != '/')
		return fault_set(f, FAULT_INTERNAL, 0, "an empty snapshot is no folder");
	e = snaproot_open(mounts, &to, f);
	if (e == 0)
		e = snaproot_copy(from, "/", to, f);
	if (e < 0)
		return e;
	js_set_str(mount, "source", js_str(js_at(mounts, 0), "source"));
	js_set_str(r->labels, label, key);
	return 0;
}

int cli_restore_root(struct restore *r, struct fault *f)
{
	const char *rootfs = args_get(r->cli, "rootfs");
	int e;

	if (rootfs)
		e = root_of_folder(r, rootfs, "--rootfs", f);
	else if (r->c.has_base || *js_str(r->c.record, "container.image"))
		e = root_of_image(r, f);
	else
		e = root_as_before(r, f);
	for (size_t i = 0; e == 0 && i < js_len(r->volumes); i++) {
		e = volume(r, js_at(r->volumes, i), i + 1, f);
		if (e < 0)
			fault_prefix(f, "the volume at %s",
				     js_str(js_at(r->volumes, i), "destination"));
	}
	return e;
}
