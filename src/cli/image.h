// SPDX-License-Identifier: Apache-2.0
/*
 * Images as the command line sees them: the short forms of their names, their configs
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>

#include "cli/cli.h"
#include "util/fault.h"

/* How a text names an image. */
enum image_match {
	IMAGE_MATCH_NONE,
	IMAGE_MATCH_DIGEST, /* by its target's digest, or the beginning of that */
	IMAGE_MATCH_SUFFIX, /* "debian" for "docker.io/library/debian:latest" */
	IMAGE_MATCH_SAME, /* another spelling of the same name: ":latest" is left out or added */
	IMAGE_MATCH_EXACT,
};
/*
 * Whether `text` may stand for the image of this name and target digest ("" for none):
 * "debian", "debian:latest", "library/debian", "localhost/debian", "debian@sha256:…", "sha256:12ab",
 * "12ab34". A beginning of a digest has three hex digits or more.
 */
enum image_match cli_image_match(const char *text, const char *name, const char *digest);

enum {
	IMAGE_FIND_ONE_NAME = 1 << 0, /* two names for the same target are ambiguous as well */
};
/*
 * The image of the namespace that `text` means: *out is its record {name, target, …}. Not found is
 * FAULT_NOT_FOUND; more than one is FAULT_INVALID_ARGUMENT, and the fault lists them.
 */
int cli_image_find(struct cli *cli, const char *text, unsigned flags, json_object **out,
		   struct fault *f);
/* All of an index, a manifest, a config: JSON blobs of bounded size, checked against the digest. */
int cli_image_blob(struct cli *cli, const char *digest, json_object **out, struct fault *f);
/* The same for one that may be larger than those. */
int cli_image_blob_most(struct cli *cli, const char *digest, size_t most, json_object **out,
			struct fault *f);
/*
 * The image config (the whole document) of what hangs below the record's target. chain_id: of the
 * layers that were unpacked ("" for none): where an index has several manifests, it tells which was
 * meant.
 */
int cli_image_config(struct cli *cli, json_object *record, const char *chain_id, json_object **out,
		     struct fault *f);
/* chain(L0) = L0, chain(L0..Ln) = sha256(chain(L0..Ln-1) " " Ln); "" for no layers. -EINVAL for what is no list of digests. */
int cli_image_chain_id(json_object *diff_ids, char *buf, size_t size);

/*
 * Makes the snapshots of the image's layers, unless they are there, and tells the topmost; with a
 * progress bar. platform (NULL: this machine's), lease and chain_id may be NULL. *snapshotter is whose they are to be, NULL for the
 * daemon's choice, and becomes whose they are; the pointer itself may be NULL.
 */
int cli_image_unpack(struct cli *cli, const char *name, const char *platform, const char *lease,
		     char **chain_id, char **snapshotter, struct fault *f);

/* "sha256:0123456789ab…" as lists show it: 12 digits without the algorithm. buf of 16 bytes. */
void cli_image_short_digest(const char *digest, char *buf, size_t size);
