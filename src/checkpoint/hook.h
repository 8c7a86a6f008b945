// SPDX-License-Identifier: Apache-2.0
/*
 * criu's action script: criu is held at a stage until davit has decided
 *
 * criu runs the script at each stage of a dump or restore and waits for its end. At the one stage
 * that matters the script connects to a socket in the work folder, says which process it is about, and
 * waits for the answer: a tiny program does that, or elsewhere some lines of shell that become
 * `davit criu-hook FOLDER`. A daemon that dies closes the socket, and the hook fails: criu then
 * undoes what it did.
 */
#pragma once

#include <event2/event.h>
#include <stdbool.h>
#include <sys/types.h>

#include "util/fault.h"

#define HOOK_SOCKET "hook.sock"
#define HOOK_SCRIPT "hook"

struct hook_point;
/*
 * Writes FOLDER/hook, which acts at `stage` ("post-dump", "post-restore"). davit: absolute path of
 * the program. Blocks for a moment.
 */
int hook_script_write(const char *folder, const char *davit, const char *stage, struct fault *f);
/*
 * Listens in the folder. reached is called once, from the loop, when criu is held there; pid is that
 * of the root task, in criu's pid namespace (0: criu did not say).
 */
int hook_point_new(struct hook_point **out, struct event_base *base, const char *folder,
		   void (*reached)(void *user, pid_t pid), void *user, struct fault *f);
/* Lets criu go on, or fails its stage. Nothing when it is not held. */
void hook_point_answer(struct hook_point *h, bool ok);
/* One that is held fails. NULL is fine. */
void hook_point_free(struct hook_point *h);

/* `davit criu-hook FOLDER`: the exit status. */
int hook_main(const char *folder);
