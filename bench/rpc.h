// SPDX-License-Identifier: Apache-2.0
/*
 * Benches: what those that speak to davit share
 *
 * A rig is one connection with one namespace of its own. A failing call ends the bench with
 * davit's own error.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "ipc/client.h"
#include "util/mp.h"

struct rig {
	struct client *c;
	const char *ns;
	msgpack_sbuffer sb;
	msgpack_packer pk;
	char awaited[96]; /* container whose exit event is looked for */
	int64_t exited; /* when it came, 0 before */
};

static inline _Noreturn void rig_die(const char *what, const struct fault *f, int r)
{
	fprintf(stderr, "bench: %s: %s\n", what, f && f->message[0] ? f->message : strerror(-r));
	if (f && f->log[0])
		fprintf(stderr, "%s\n", f->log);
	exit(1);
}

static inline void rig_notified(void *user, const struct client_msg *msg)
{
	struct rig *rig = user;
	const msgpack_object *params = &msg->params, *event;

	if (params->type != MSGPACK_OBJECT_ARRAY || !params->via.array.size)
		return;
	event = mp_get(&params->via.array.ptr[params->via.array.size - 1], "event");
	/* an exit of the init has the container's id */
	if (event && mp_get(event, "id") && mp_eq(mp_get(event, "id"), rig->awaited))
		rig->exited = bench_now();
}

static inline void rig_open(struct rig *rig, const char *socket, const char *ns)
{
	int r;

	memset(rig, 0, sizeof(*rig));
	rig->ns = ns;
	msgpack_sbuffer_init(&rig->sb);
	mp_packer_init(&rig->pk, &rig->sb);
	r = client_open(&rig->c, socket);
	if (r < 0)
		rig_die("no davit daemon there", NULL, r);
	client_on_notify(rig->c, rig_notified, rig);
}

static inline void rig_close(struct rig *rig)
{
	client_close(rig->c);
	msgpack_sbuffer_destroy(&rig->sb);
}

/* Packs {namespace: …, k1: v1, k2: v2}; a NULL key ends it. */
static inline void rig_params(struct rig *rig, const char *k1, const char *v1, const char *k2,
			      const char *v2)
{
	rig->sb.size = 0;
	msgpack_pack_map(&rig->pk, 1 + !!k1 + !!k2);
	mp_pack_key_str(&rig->pk, "namespace", rig->ns);
	if (k1)
		mp_pack_key_str(&rig->pk, k1, v1);
	if (k2)
		mp_pack_key_str(&rig->pk, k2, v2);
}

/* With whatever rig_params packed; the answer is the caller's to clear. */
static inline void rig_ask(struct rig *rig, const char *method, struct client_msg *msg)
{
	struct fault f = { 0 };
	int r = client_call(rig->c, method, &rig->sb, NULL, 0, msg, &f);

	if (r < 0)
		rig_die(method, &f, r);
}

static inline void rig_call(struct rig *rig, const char *method, const char *k1, const char *v1,
			    const char *k2, const char *v2)
{
	struct client_msg msg;

	rig_params(rig, k1, v1, k2, v2);
	rig_ask(rig, method, &msg);
	client_msg_clear(&msg);
}

static inline int64_t rig_int(const struct client_msg *msg, const char *key)
{
	const msgpack_object *o = mp_get(&msg->result, key);
	int64_t v = 0;

	if (!o || !mp_int(o, &v))
		rig_die(key, NULL, -EPROTO);
	return v;
}

/* Exits of this namespace from now on. */
static inline void rig_subscribe(struct rig *rig)
{
	struct client_msg msg;

	rig->sb.size = 0;
	msgpack_pack_map(&rig->pk, 2);
	mp_pack_key_str(&rig->pk, "namespace", rig->ns);
	mp_pack_key(&rig->pk, "filters");
	msgpack_pack_array(&rig->pk, 1);
	mp_pack_str(&rig->pk, "topic==/tasks/exit");
	rig_ask(rig, "events.subscribe", &msg);
	client_msg_clear(&msg);
}

/* From here on the exit of this container counts. */
static inline void rig_await(struct rig *rig, const char *id)
{
	snprintf(rig->awaited, sizeof(rig->awaited), "%s", id);
	rig->exited = 0;
}

static inline int64_t rig_exit(struct rig *rig)
{
	while (!rig->exited) {
		struct client_msg msg;
		int r = client_recv(rig->c, 10000, &msg);

		if (r < 0)
			rig_die("the exit event does not come", NULL, r);
		if (msg.type == 2)
			rig_notified(rig, &msg);
		client_msg_clear(&msg);
	}
	return rig->exited;
}
