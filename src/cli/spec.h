// SPDX-License-Identifier: Apache-2.0
/*
 * From options to an OCI spec
 *
 * A spec begins as davit's default (as tight as podman's) or as a bundle's config.json. Then each
 * option that was given changes it, by the same code for both; what was not given leaves a bundle's
 * spec alone.
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "cli/cli.h"
#include "util/fault.h"

/* The annotation that says how a container wants to be stopped. */
#define SPEC_STOP_SIGNAL "org.opencontainers.image.stopSignal"

struct spec_build {
	struct cli *cli; /* options are read from here; `container:NAME` asks the daemon */
	json_object *spec; /* owned by the caller; changed */
	bool from_bundle; /* nothing is changed that was not asked for */
	const char *id;
	/* the image's config (Entrypoint, Cmd, Env, User, …; checked), or NULL; borrowed */
	json_object *image;
	int rootfs; /* folder fd for /etc/passwd and such, or -1 */
	char **args; /* the command, NULL-terminated; may be empty */
	bool tty;
	uint64_t available; /* the daemon's own capabilities, 0 when they are not known */

	uint64_t caps; /* out: the bounding set, for the seccomp profile */
};

/*
 * Namespaces, mounts, masked paths, device rules and limits by default, for a root file system at
 * this absolute path. daemon: the process whose resource limits bound the default ones (it may lack
 * the right to raise them).
 */
json_object *spec_default(const char *rootfs, pid_t daemon);

/* All options, in the order that their meaning wants. */
int spec_build(struct spec_build *b, struct fault *f);

/* The parts. */
/* args, env, user, folder, capabilities, limits */
int spec_build_process(struct spec_build *b, struct fault *f);
/* --network --pid --ipc --hostname */
int spec_build_namespaces(struct spec_build *b, struct fault *f);
/* mounts, devices, resources, annotations, --privileged */
int spec_build_linux(struct spec_build *b, struct fault *f);
int spec_build_seccomp(struct spec_build *b, struct fault *f);

/* --entrypoint and its like: one word (none for ""), or a JSON array of words. option: for the fault. */
int spec_words(const char *option, const char *text, json_object **out, struct fault *f);

/* An absolute path of a static init program on this host for --init, malloc'ed. */
int spec_find_init(char **path, struct fault *f);
#define SPEC_INIT_TARGET "/run/davit-init"

/* Sets a namespace: path NULL for a new one; spec_ns_drop leaves the host's. */
void spec_ns_set(json_object *spec, const char *type, const char *path);
void spec_ns_drop(json_object *spec, const char *type);
bool spec_ns_has(json_object *spec, const char *type);
