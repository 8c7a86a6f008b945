// SPDX-License-Identifier: Apache-2.0
/*
 * The daemon's context: everything that lives as long as the reactor, passed down instead of
 * globals
 *
 * All of it belongs to the reactor's thread, but for what a job owns.
 */
#pragma once

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct davit_config { /* owned by main, constant after start; strings are never NULL */
	char *root, *state, *socket, *group, *criu, *cgroup_parent;
	uint64_t journal_size, checkpoint_buffer;
	char *metrics; /* "" when off */
};

struct davit {
	struct davit_config config;
	struct event_base *base;
	int root_fd, state_fd; /* of --root and --state */
	pid_t guardian_pid;
	int64_t started_at;
	char id[40]; /* identity of this installation (--root), a UUID */

	struct worker_pool *workers; /* launches, cgroup removal, folder removal */
	struct worker_pool *store_pool; /* one thread: short work on the database and the store */
	struct worker_pool *image_pool; /* long work on the store: import, unpack, hashing */
	struct worker_pool *stream_pool; /* archives in and out: it may wait for a peer for ever */
	struct worker_pool *tidy_pool; /* garbage, trash: waits for nobody else's work */
	struct worker_pool *content_pool; /* content.read and write, which wait for no long work */
	struct keep *keep;
	struct reaper *reaper;
	struct journal *journal;
	struct bus *bus;
	struct logs *logs;
	struct db *db; /* blocks: never for the reactor's thread, after start */
	struct store *store; /* the same */
	struct store_jobs *store_jobs; /* core/store_job.c */
	struct criu *criu; /* core/criu.c; NULL until the first checkpoint or restore */
	struct gc_service *gc; /* core/svc_gc.c */
	struct content_writers *content_writers; /* core/content_writer.c */
	struct cgroup_host *cgroups;
	struct seccomp_cache *seccomp;
	struct ipc_server *server;

	struct namespaces *namespaces; /* core/namespace.c */
	struct containers *containers; /* core/container.c */
	struct tasks *tasks; /* core/task.c */
	struct fifo_watches *fifos; /* core/fifo_watch.c */
	struct subscriptions *subscriptions; /* core/svc_events.c */
	struct server_facts *facts; /* core/svc_server.c */
	struct reactor *reactor; /* core/reactor.c */
	bool ending; /* server.shutdown was called */
	bool stopping; /* the orderly end has begun: nothing new is accepted */
};
