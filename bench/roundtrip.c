// SPDX-License-Identifier: Apache-2.0
/*
 * RPC: tasks.get one after another, and many in flight
 *
 *   roundtrip -b BUNDLE [-s SOCKET] [-n CALLS] [-w IN_FLIGHT]
 *
 * BUNDLE's process has to wait for ever.
 */
#include <errno.h>
#include <unistd.h>

#include "rpc.h"

static void answer(struct rig *rig)
{
	struct client_msg msg;
	int r = client_recv(rig->c, 10000, &msg);

	if (r < 0)
		rig_die("tasks.get", NULL, r);
	if (msg.type != 1 || msg.error.type != MSGPACK_OBJECT_NIL)
		rig_die("tasks.get", NULL, -EPROTO);
	client_msg_clear(&msg);
}

int main(int argc, char **argv)
{
	const char *socket = NULL, *bundle = NULL, *id = "roundtrip";
	unsigned n = 20000, window = 256, sent = 0, got = 0;
	struct client_msg msg;
	struct rig rig;
	int64_t begin;
	uint32_t msgid;
	double *us;
	int opt, r;

	while ((opt = getopt(argc, argv, "s:b:n:w:")) != -1) {
		if (opt == 's')
			socket = optarg;
		else if (opt == 'b')
			bundle = optarg;
		else if (opt == 'n' && atoi(optarg) > 0)
			n = (unsigned)atoi(optarg);
		else if (opt == 'w' && atoi(optarg) > 0)
			window = (unsigned)atoi(optarg);
		else
			return 2;
	}
	us = calloc(n, sizeof(*us));
	if (!bundle || !us) {
		fprintf(stderr,
			"usage: roundtrip -b BUNDLE [-s SOCKET] [-n CALLS] [-w IN_FLIGHT]\n");
		return 2;
	}
	rig_open(&rig, socket, "bench-rpc");
	rig_call(&rig, "containers.create", "id", id, "bundle", bundle);
	rig_call(&rig, "tasks.create", "container_id", id, NULL, NULL);
	rig_call(&rig, "tasks.start", "container_id", id, NULL, NULL);

	rig_params(&rig, "container_id", id, NULL, NULL);
	for (unsigned i = 0; i < n; i++) {
		begin = bench_now();
		rig_ask(&rig, "tasks.get", &msg);
		client_msg_clear(&msg);
		us[i] = (double)(bench_now() - begin) / 1e3;
	}
	bench_print_spread("davit", "tasks_get", "us", us, n);

	begin = bench_now();
	while (got < n) {
		while (sent < n && sent - got < window) {
			r = client_send(rig.c, "tasks.get", &rig.sb, NULL, 0, &msgid);
			if (r < 0)
				rig_die("tasks.get", NULL, r);
			sent++;
		}
		/*
		 * half of the window is answered before more is sent, so that both sides work in
		 * batches
		 */
		while (got < n && sent - got > (sent < n ? window / 2 : 0)) {
			answer(&rig);
			got++;
		}
	}
	bench_print("davit", "tasks_get_pipelined", "answers/s",
		    n / ((double)(bench_now() - begin) / 1e9));

	rig.sb.size = 0;
	msgpack_pack_map(&rig.pk, 3);
	mp_pack_key_str(&rig.pk, "namespace", rig.ns);
	mp_pack_key_str(&rig.pk, "container_id", id);
	mp_pack_key_bool(&rig.pk, "kill", true);
	rig_ask(&rig, "tasks.delete", &msg);
	client_msg_clear(&msg);
	rig_call(&rig, "containers.delete", "id", id, NULL, NULL);
	rig_close(&rig);
	return 0;
}
