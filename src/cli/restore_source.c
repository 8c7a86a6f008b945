// SPDX-License-Identifier: Apache-2.0
/*
 * davit restore: what the argument means
 *
 * An image as all commands take images, a folder with criu's images, or an archive. A path is what
 * begins as one ("/", "./", "../"); anything else is an image's name first and a path if there is no
 * such image. What is no image yet is imported under a name of our own, which never stands in
 * anybody's way and goes when the task is there: an archive is not asked how it would like to be
 * called.
 *
 * Which kind an archive is tell the names of its first entries. Only those are looked at here; it is
 * the daemon that reads it.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/conn.h"
#include "cli/create.h"
#include "cli/create_image.h"
#include "cli/image.h"
#include "cli/input.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/progress.h"
#include "cli/restore.h"

#define LOOK_ENTRIES 64 /* of an archive: the first one tells, as a rule */
#define LOOK_BYTES (1u << 20)

enum kind { KIND_IMAGE, KIND_CHECKPOINT };

/* ---- archives */

static bool begins(const char *name, const char *const *list)
{
	while (strncmp(name, "./", 2) == 0)
		name += 2;
	for (; *list; list++) {
		size_t n = strlen(*list);

		if (strncmp(name, *list, n) == 0 && (!name[n] || name[n] == '/'))
			return true;
	}
	return false;
}

/* 1: an OCI layout or docker's, 2: podman's and its like, 0: not to be told yet. */
static int kind_of_name(const char *name)
{
	static const char *const image[] = { "oci-layout", "index.json", "blobs", "manifest.json",
					     NULL };
	static const char *const other[] = {
		"checkpoint",	  "config.dump",     "spec.dump",     "status.dump",
		"network.status", "rootfs-diff.tar", "deleted.files", "devshm-checkpoint.tar",
		"dump.log",	  "stats-dump",	     "inventory.img", NULL
	};

	return begins(name, image) ? 1 : begins(name, other) ? 2 : 0;
}

/* fd is read from where it stands and put back there. */
static int look_into(int fd, enum kind *kind, struct fault *f)
{
	struct archive *a = mem_need(archive_read_new());
	off_t at = lseek(fd, 0, SEEK_CUR);
	struct archive_entry *entry;
	int found = 0;

	archive_read_support_filter_gzip(a);
	archive_read_support_filter_zstd(a);
	archive_read_support_format_tar(a);
	if (at >= 0 && archive_read_open_fd(a, fd, 65536) == ARCHIVE_OK) {
		for (int i = 0; !found && i < LOOK_ENTRIES; i++) {
			int r = archive_read_next_header(a, &entry);

			if ((r != ARCHIVE_OK && r != ARCHIVE_WARN) ||
			    archive_filter_bytes(a, 0) > LOOK_BYTES)
				break;
			if (archive_entry_pathname(entry))
				found = kind_of_name(archive_entry_pathname(entry));
		}
	}
	archive_read_free(a);
	if (at < 0 || lseek(fd, at, SEEK_SET) < 0)
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				 "it is neither a file nor a folder; 'davit import' reads pipes");
	if (!found)
		return fault_set(
			f, FAULT_INVALID_ARGUMENT, 0,
			"it is no archive of a checkpoint: neither an OCI layout nor podman's form");
	*kind = found == 1 ? KIND_IMAGE : KIND_CHECKPOINT;
	return 0;
}

static int folder_kind(const char *path, enum kind *kind)
{
	char *layout CLEANUP_FREE = mem_printf("%s/index.json", path);

	*kind = access(layout, F_OK) == 0 ? KIND_IMAGE : KIND_CHECKPOINT;
	return 0;
}

/* ---- imports */

static int import(struct restore *r, struct input *in, enum kind kind, struct fault *f)
{
	char *what CLEANUP_FREE = mem_printf("Importing %s", in->shown);
	struct progress_call call = {
		.method = kind == KIND_IMAGE ? "images.import" : "checkpoints.import",
		.params = js_object(),
		.fds = &in->fd,
		.n_fds = !in->folder,
		.what = what,
		.events = true,
		.watch = in->size ? in->fd : -1,
		.watch_size = in->size,
	};
	char id[16];
	int e;

	create_random_id(id, sizeof(id));
	r->image = mem_printf("davit-restore/%s", id);
	r->imported = true;
	js_set_str(call.params, "name", r->image);
	js_set_str(call.params, "lease", r->lease);
	if (in->folder)
		js_set_str(call.params, "path", in->path);
	else
		js_set_str(call.params, "stream", "fd:0");
	e = progress_run(r->cli, &call, NULL, f);
	/* Cut off on the way back, it may be there all the same. */
	return e;
}

/* ---- images */

static int take_image(struct restore *r, json_object *image, struct fault *f)
{
	int e = cli_checkpoint_read(r->cli, image, &r->c, f);

	if (e == CHECKPOINT_E_NONE)
		return fault_set(
			f, FAULT_FAILED_PRECONDITION, 0,
			"%s is an image, but no checkpoint; 'davit checkpoints' lists those there are",
			r->imported ? "it" : js_str(image, "name"));
	return e;
}

static int take_imported(struct restore *r, struct fault *f)
{
	json_object *answer CLEANUP_JSON = NULL;
	json_object *p = js_object();
	int e;

	js_set_str(p, "name", r->image);
	e = cli_call(r->cli, "images.get", p, &answer, f);
	return e < 0 ? e : take_image(r, js_get(answer, "image"), f);
}

static int take_path(struct restore *r, const char *path, struct fault *f)
{
	struct input in CLEANUP(input_clear) = { .fd = -1 };
	enum kind kind = KIND_IMAGE;
	int e = input_open(&in, path, f);

	if (e < 0)
		return e;
	if (in.folder) {
		e = cli_checkpoint_read_folder(in.path, &r->c, f);
		if (e == 0) {
			r->folder = mem_strdup(in.path);
			return 0;
		}
		if (f->code != FAULT_NOT_FOUND)
			return e;
	}
	e = in.folder ? folder_kind(in.path, &kind) : look_into(in.fd, &kind, f);
	if (e == 0)
		e = import(r, &in, kind, f);
	return e < 0 ? e : take_imported(r, f);
}

static bool looks_like_path(const char *text)
{
	return *text == '/' || strcmp(text, ".") == 0 || strcmp(text, "..") == 0 ||
	       strncmp(text, "./", 2) == 0 || strncmp(text, "../", 3) == 0;
}

int cli_restore_find(struct restore *r, const char *text, struct fault *f)
{
	json_object *image CLEANUP_JSON = NULL;
	int e = cli_lease_new(r->cli, &r->lease, f);

	if (e < 0)
		return e;
	if (looks_like_path(text))
		return take_path(r, text, f);
	e = cli_image_find(r->cli, text, 0, &image, f);
	if (e < 0 && f->code == FAULT_NOT_FOUND) {
		if (access(text, F_OK) == 0)
			return take_path(r, text, f);
		return fault_set(
			f, FAULT_NOT_FOUND, 0,
			"there is neither a checkpoint nor a file of that name; 'davit checkpoints' lists the checkpoints");
	}
	if (e < 0)
		return e;
	r->image = mem_strdup(js_str(image, "name"));
	return take_image(r, image, f);
}

void cli_restore_drop_source(struct restore *r)
{
	struct fault ignored;

	if (r->imported && r->cli->client) {
		json_object *p = js_object();

		js_set_str(p, "name", r->image);
		(void)cli_call(r->cli, "images.delete", p, NULL, &ignored);
	}
	r->imported = false;
	cli_lease_drop(r->cli, r->lease);
	free(TAKE_PTR(r->lease));
}
