// SPDX-License-Identifier: Apache-2.0
/*
 * run and create: what comes from an image
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>

#include "cli/cli.h"
#include "util/fault.h"

struct image_source { /* an image that is ready to be run */
	char *name; /* in full */
	char *chain_id; /* "" for an image without layers */
	char *lease; /* keeps all this until the container is there */
	char *snapshotter;
	json_object *document; /* the image config, whole */
	json_object *config; /* its member "config", checked; borrowed; never NULL */
};

struct image_root { /* a container's own root file system */
	const struct image_source *image;
	char *key; /* of its snapshot */
	int fd; /* its folder; -1 when this user cannot look into it */
	json_object *snapshots; /* keys, of volumes too */
};

/* A lease for what is being made, which expires by itself if nobody drops it. */
int cli_lease_new(struct cli *cli, char **id, struct fault *f);
void cli_lease_drop(struct cli *cli, const char *id); /* NULL is fine */

/* Finds and unpacks it, under a lease. Clear it in every case. */
int cli_image_source_open(struct cli *cli, const char *text, struct image_source *out,
			  struct fault *f);
/* Gives the lease back. */
void cli_image_source_clear(struct cli *cli, struct image_source *s);

/*
 * The lists of words and the texts of an image's config that are used here have the types that the
 * image-spec gives them; what is null is taken out. FAULT_FAILED_PRECONDITION.
 */
int cli_image_config_check(json_object *config, struct fault *f);
/* Labels for the container: those of the image but for the ones that steer davit. */
void cli_image_labels(json_object *config, json_object *labels);

/* A snapshot for the container of this name. */
int cli_image_root_new(struct cli *cli, const struct image_source *s, const char *id,
		       struct image_root *out, struct fault *f);
/*
 * After the spec was built: the working directory is made when the image names it and does not have
 * it; each volume of the image that no option has replaced becomes a snapshot of its own with what
 * the image has there, is mounted by the spec and held by a label.
 */
int cli_image_root_finish(struct cli *cli, struct image_root *root, const char *id,
			  bool own_workdir, json_object *spec, json_object *labels,
			  struct fault *f);
/* keep: the container is there and has them; else they are removed. */
void cli_image_root_clear(struct cli *cli, struct image_root *root, bool keep);
