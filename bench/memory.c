// SPDX-License-Identifier: Apache-2.0
/*
 * Memory: guardian and reactor idle, and what a running container adds to them
 *
 *   memory -b BUNDLE [-s SOCKET] [-n CONTAINERS]
 *
 * BUNDLE's process has to wait for ever. Counted is the proportional set size (PSS) of both
 * processes, which includes the copy of the binary in memory that they run from; the kernel's own
 * memory for a container (namespaces, cgroups, mounts) and the container's process are not
 * davit's and are not counted.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "rpc.h"
#include "util/cleanup.h"
#include "util/fd.h"

static double pss(int64_t pid)
{
	CLEANUP_FREE char *text = NULL;
	const char *line;
	char path[64];
	int r;

	snprintf(path, sizeof(path), "/proc/%lld/smaps_rollup", (long long)pid);
	r = fd_read_file(AT_FDCWD, path, 1u << 20, &text, NULL);
	line = r < 0 ? NULL : strstr(text, "\nPss:");
	if (!line)
		rig_die(path, NULL, r < 0 ? r : -EPROTO);
	return strtod(line + 5, NULL);
}

static void delete_task(struct rig *rig, const char *id)
{
	struct client_msg msg;

	rig->sb.size = 0;
	msgpack_pack_map(&rig->pk, 3);
	mp_pack_key_str(&rig->pk, "namespace", rig->ns);
	mp_pack_key_str(&rig->pk, "container_id", id);
	mp_pack_key_bool(&rig->pk, "kill", true);
	rig_ask(rig, "tasks.delete", &msg);
	client_msg_clear(&msg);
	rig_call(rig, "containers.delete", "id", id, NULL, NULL);
}

int main(int argc, char **argv)
{
	const char *socket = NULL, *bundle = NULL;
	double idle, busy, after;
	struct client_msg msg;
	int64_t pid, guardian;
	unsigned n = 1000;
	struct rig rig;
	char id[64];
	int opt;

	while ((opt = getopt(argc, argv, "s:b:n:")) != -1) {
		if (opt == 's')
			socket = optarg;
		else if (opt == 'b')
			bundle = optarg;
		else if (opt == 'n' && atoi(optarg) > 0)
			n = (unsigned)atoi(optarg);
		else
			return 2;
	}
	if (!bundle) {
		fprintf(stderr, "usage: memory -b BUNDLE [-s SOCKET] [-n CONTAINERS]\n");
		return 2;
	}
	rig_open(&rig, socket, "bench-memory");
	rig.sb.size = 0;
	msgpack_pack_map(&rig.pk, 0);
	rig_ask(&rig, "server.info", &msg);
	pid = rig_int(&msg, "pid");
	guardian = rig_int(&msg, "guardian_pid");
	client_msg_clear(&msg);
	idle = pss(pid) + pss(guardian);
	bench_print("davit", "idle_pss", "KiB", idle);
	bench_print("davit", "idle_pss_reactor", "KiB", pss(pid));
	bench_print("davit", "idle_pss_guardian", "KiB", pss(guardian));

	for (unsigned i = 0; i < n; i++) {
		snprintf(id, sizeof(id), "memory-%u", i);
		rig_call(&rig, "containers.create", "id", id, "bundle", bundle);
		rig_call(&rig, "tasks.create", "container_id", id, NULL, NULL);
		rig_call(&rig, "tasks.start", "container_id", id, NULL, NULL);
	}
	/* what was done on the way of the starts is over */
	usleep(500000);
	busy = pss(pid) + pss(guardian);
	bench_print("davit", "pss_with_containers", "KiB", busy);
	bench_print("davit", "containers", "containers", n);
	bench_print("davit", "pss_per_container", "KiB", (busy - idle) / n);
	for (unsigned i = 0; i < n; i++) {
		snprintf(id, sizeof(id), "memory-%u", i);
		delete_task(&rig, id);
	}
	usleep(500000);
	after = pss(pid) + pss(guardian);
	bench_print("davit", "pss_after_delete", "KiB", after);
	rig_close(&rig);
	return 0;
}
