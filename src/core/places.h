// SPDX-License-Identifier: Apache-2.0
/*
 * The daemon's places: folders, the lock on --state, the listening socket
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "core/davit.h"
#include "util/fault.h"

struct places {
	int root_fd, state_fd, lock_fd, listen_fd;
	gid_t gid; /* of --group, (gid_t)-1 for none */
	bool activated; /* the socket came from systemd and is not ours to remove */
};

void places_init(struct places *p);
/*
 * Resolves the group, makes the folders, takes the guardian's lock, makes the socket (or takes the
 * one that systemd passed). Another daemon on the same state is already_exists.
 */
int places_open(struct places *p, const struct davit_config *config, struct fault *f);
/* The reactor's lock: waits up to `seconds` for a former reactor that is about to end. */
int places_lock_reactor(const struct places *p, unsigned seconds, struct fault *f);
void places_remove_socket(const struct places *p, const struct davit_config *config);
void places_close(struct places *p);
