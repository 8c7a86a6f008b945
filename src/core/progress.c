// SPDX-License-Identifier: Apache-2.0
/*
 * Events that say how far a long request is
 *
 * A timer asks, and sends what has changed since the last event. One that cannot be sent is followed by
 * the next; nobody's work ends for it.
 */
#include "core/progress.h"

#include <errno.h>
#include <event2/event.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/events.h"
#include "util/mp.h"

#define EVERY_MS 100

struct progress {
	struct davit *d;
	const char *topic;
	char *ns, *tag;
	struct event *timer;
	void (*ask)(void *user, struct progress_state *state);
	void *user;
	struct progress_state last;
};

static void progress_free(struct progress *p)
{
	if (p->timer)
		event_free(p->timer);
	free(p->ns);
	free(p->tag);
	free(p);
}

static void tell(struct progress *p)
{
	struct progress_state now = { 0 };
	msgpack_sbuffer sb;
	msgpack_packer pk;

	p->ask(p->user, &now);
	if (!now.phase || (p->last.phase == now.phase && p->last.done == now.done))
		return;
	p->last = now;
	msgpack_sbuffer_init(&sb);
	mp_packer_init(&pk, &sb);
	msgpack_pack_map(&pk, 4);
	mp_pack_key_str(&pk, "progress", p->tag);
	mp_pack_key_str(&pk, "phase", now.phase);
	mp_pack_key_uint(&pk, "done", now.done);
	mp_pack_key_uint(&pk, "total", now.total);
	if (!mp_failed(&sb))
		(void)event_emit(p->d, p->ns, p->topic, &sb);
	msgpack_sbuffer_destroy(&sb);
}

static void on_timer(evutil_socket_t fd, short what, void *user)
{
	(void)fd;
	(void)what;
	tell(user);
}

int progress_begin(struct progress **out, struct davit *d, struct ipc_request *req,
		   const char *topic, const char *ns,
		   void (*ask)(void *user, struct progress_state *state), void *user)
{
	static const struct timeval often = { .tv_usec = EVERY_MS * 1000 };
	const char *tag = ipc_arg_str(req, "progress");
	struct progress *p;

	*out = NULL;
	if (!tag)
		return 0;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->d = d;
	p->topic = topic;
	p->ns = strdup(ns);
	p->tag = strdup(tag);
	p->ask = ask;
	p->user = user;
	p->timer = event_new(d->base, -1, EV_PERSIST, on_timer, p);
	if (!p->ns || !p->tag || !p->timer || event_add(p->timer, &often) < 0) {
		progress_free(p);
		return -ENOMEM;
	}
	*out = p;
	return 0;
}

void progress_end(struct progress *p)
{
	if (!p)
		return;
	tell(p);
	progress_free(p);
}
