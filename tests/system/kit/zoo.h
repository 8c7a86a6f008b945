// SPDX-License-Identifier: Apache-2.0
/*
 * The zoo's kinds: each sets something up, calls ready_and_wait, and compares. zoo.c has the frame.
 */
#pragma once

#include <stdbool.h>

/* Says what is not as it was, and ends this kind. */
void lost(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
void ready_and_wait(void);

#define must(what)                                                                                 \
	do {                                                                                       \
		if (!(what))                                                                       \
			lost("%s:%d: %s (errno %d)", __FILE__, __LINE__, #what, errno);            \
	} while (0)

/* ---- zoo_process.c */
void zoo_tree(void);
void zoo_threads(void);
void zoo_timers(void);
void zoo_signals(void);
void zoo_status(void);
void zoo_ids(void);
void zoo_seccomp(void);
void zoo_times(void);
void zoo_pidfd(void);
/* ---- zoo_memory.c */
void zoo_shm(void);
void zoo_sysv(void);
void zoo_maps(void);
void zoo_mqueue(void);
void zoo_uring(void);
void zoo_big(void);
/* ---- zoo_files.c */
void zoo_epoll(void);
void zoo_inotify(void);
void zoo_pipes(void);
void zoo_files(void);
void zoo_locks(void);
void zoo_deleted(void);
void zoo_linked(void);
/* ---- zoo_sockets.c */
void zoo_unix(void);
void zoo_inflight(void);
void zoo_outside(void);
void zoo_listen(void);
void zoo_tcp(void);
void zoo_tcpgone(void);
void zoo_udp(void);
void zoo_netlink(void);
void zoo_tun(void);
void zoo_packet(void);
