// SPDX-License-Identifier: Apache-2.0
/*
 * Launching: from a spec to a waiting init, and to a process that joins a container
 *
 * launch_new compiles the spec into a launch plan (an array of operations with all arguments resolved); launch_spawn clones the
 * child, which executes the plan with async-signal-safe calls only and talks over a socket: it reports the failing step with errno and argument,
 * hands over its terminal and seccomp listener, says when it is ready, waits, and execs when released. The owner polls the socket.
 * This room knows no daemon: an OCI command line drives the same calls with a plain poll().
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/cgroup.h"
#include "runtime/seccomp.h"
#include "runtime/spec.h"
#include "util/fault.h"

struct launch;

struct launch_mount { /* of tasks.create's rootfs list, in containerd's form */
	const char *type, *source,
		*target; /* target relative to the rootfs, NULL or "" for the rootfs itself */
	const char *const *options;
	size_t n_options;
};

struct launch_request {
	const struct spec *spec; /* borrowed for the launch's life */
	const char *id;
	const char *bundle; /* folder, "" for none; root.path relative to it */
	const struct launch_mount *
		/* mounted in order inside the container's mount namespace; then root.path need not exist */
		rootfs;
	size_t n_rootfs;
	const char *
		/* mount point made by the caller for the rootfs list when root.path is absent or does not exist; may be NULL */
		rootfs_dir;
	int stdio
		/* borrowed until launch_spawn returns; -1: /dev/null. Ignored with terminal (the child makes its pty) */
		[3];
	bool terminal;
	uint16_t width, height; /* of the terminal; 0: spec's consoleSize, else 80x24 */
	bool no_pivot_root;
	struct cgroup *cgroup; /* joined by the child; may be NULL */
	struct seccomp_program *seccomp; /* NULL for none; borrowed for the launch's life */
	/* for an exec into a container: */
	/* > 0: join this init's namespaces instead of making any; spec then has only process set */
	pid_t join_pid;
	int join_pidfd; /* of that init; -1 when there is none */
	const struct spec *
		/* whose namespaces, defaults for capabilities etc.; NULL for a create */
		container_spec;
};

/* Both block: for workers. launch_new checks and resolves everything that can be known: program (127 missing, 126 not executable), cwd, rootfs,
 * sources of mounts, labels and intelRdt that the host has not. */
int launch_new(struct launch **out, const struct launch_request *r, struct fault *f);
/* Clones, writes id maps, oom_score_adj, moves network devices, lets the child go on its way. On failure nothing runs and nothing is left. */
int launch_spawn(struct launch *l, struct fault *f);
pid_t launch_pid(const struct launch *l); /* as the host sees it; 0 before spawn */
int launch_pidfd(const struct launch *l); /* owned by the launch; launch_take_pidfd moves it out */
int launch_take_pidfd(struct launch *l);
int launch_fd(const struct launch
		      *l); /* the socket to poll for reading, non-blocking; owned by the launch */

enum launch_event {
	LAUNCH_AGAIN, /* nothing yet */
	LAUNCH_TTY, /* launch_take_fd gives the pty's master */
	/* launch_take_fd gives the seccomp notify fd, to be sent to seccomp->listener_path; then launch_continue */
	LAUNCH_LISTENER,
	/* prestart and createRuntime hooks are due; the child waits for launch_continue */
	LAUNCH_HOOKS,
	LAUNCH_READY, /* set up; waits for launch_start */
	LAUNCH_STARTED, /* exec has succeeded (end of the socket after start) */
	LAUNCH_FAILED, /* the fault says why; the child ends by itself (reap it) */
};
/* Reads one message without blocking. */
enum launch_event launch_read(struct launch *l, struct fault *f);
int launch_take_fd(struct launch *l);
int launch_continue(struct launch *l);
int launch_start(struct launch *l);
/* After launch_resume, when the start was given or was about to be. */
void launch_restart(struct launch *l);
/* Closes the socket: a child that has not exec'd ends by itself. Does not reap. */
void launch_free(struct launch *l);
/* A launch around the socket and pid of a created container, after a restart: ready to start. fds are taken over. */
int launch_resume(struct launch **out, int sock, pid_t pid, int pidfd);
