// SPDX-License-Identifier: Apache-2.0
/*
 * Running criu: its folder, its process, its end
 *
 * What dump and restore have in common. Each run has a folder STATE/criu/N of its own for sockets, log
 * and what criu writes as files; it goes with the run.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "checkpoint/criu_args.h"
#include "checkpoint/criu_process.h"
#include "core/davit.h"
#include "monitor/reaper.h"
#include "util/worker.h"

struct buffer_pool;
struct criu; /* of struct davit: pools, the tmpfs for /run */

/* On the reactor, before the first run; 0 when it is there already. -ENOMEM and so on */
int criu_ready(struct davit *d);
void criu_free(struct davit *d); /* after the loop */
struct worker_pool *criu_pack_pool(struct davit *d); /* packing and unpacking */
struct worker_pool *criu_write_pool(struct davit *d); /* hashing, writing, syncing */
/* Of all dumps and restores together: --checkpoint-buffer, or an eighth of the memory that was free. */
struct buffer_pool *criu_buffers(struct davit *d);
bool criu_busy(const struct davit *d); /* a job of either pool is under way */
void criu_drain(struct davit *d);
#define CRIU_INGEST "davit-checkpoint-" /* how refs of a dump's ingests begin */
/*
 * Before the first run, with the store open: what a killed daemon has left of its runs goes, folders and
 * ingests.
 */
int criu_sweep(struct davit *d, struct fault *f);

struct criu_run {
	/* filled by the owner before criu_run_start; kept until the run is freed */
	struct criu_args args;
	struct criu_step *steps; /* malloc'ed */
	size_t n_steps;
	int *fds; /* malloc'ed; numbers from CRIU_FD_FIRST; borrowed fds */
	size_t n_fds;
	const char *preload; /* as criu_start's; borrowed */
	int cgroup; /* as criu_start's; closed with the run */
	bool restore; /* for words */
	bool store_gzip; /* what criu packs by gzip is not to be compressed */
	char *image_dir; /* malloc'ed; where criu writes its images; NULL: the run's own folder */
	char *work_dir; /* malloc'ed; where criu writes its log; NULL: the run's own folder */

	/* of the run */
	struct davit *d;
	char *dir; /* absolute */
	char program[256]; /* criu's path */
	pid_t pid; /* 0 until started */
	/* from the loop. started: criu has been executed; else `fault` says why not and ended is not called */
	void (*started)(void *user, const struct fault *f);
	/* once: exit_code 0 and signal 0 for a good end, else fault has criu's reason */
	void (*ended)(void *user, int exit_code, int signal, const struct fault *f);
	void *user;
	/* private */
	struct worker_job job;
	struct reaper_watch *watch;
	struct event *give_up;
	int exit_code, signal, result;
	struct fault fault;
	bool over, dead, in_job;
};

/* On a worker: makes the folder and finds criu. */
int criu_run_open(struct criu_run *r, struct davit *d, struct fault *f);
/* On the reactor. */
void criu_run_start(struct criu_run *r);
/*
 * All that criu waits for is closed: it ends by itself soon. If it does not it is killed, which may leave
 * its code in the task; that is logged.
 */
void criu_run_hurry(struct criu_run *r);
/* Kills a criu that has nothing left to do to a task. */
void criu_run_kill(struct criu_run *r);
/*
 * Gives back what it holds, and removes the folder on a worker. A criu that still runs is left to the
 * reaper. Frees r itself (malloc'ed by the owner). NULL is fine. On the reactor.
 */
void criu_run_free(struct criu_run *r);
