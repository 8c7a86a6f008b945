// SPDX-License-Identifier: Apache-2.0
/*
 * What a filter sees of an event
 *
 * The payload is unpacked at most once an event, however many filters look at it: after a commit
 * all subscribers see the same bytes. Text of a field is copied, since msgpack's has no NUL.
 *
 * A path is followed through maps. Where a map has no such key the rest of the path, joined by
 * dots, is tried as one key, since label names have dots in them. Numbers and booleans are compared
 * as text; maps and lists are present and empty; nil is absent.
 */
#include "monitor/event_fields.h"

#include <errno.h>
#include <inttypes.h>
#include <msgpack.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/mp.h"

struct event_fields {
	struct journal_event event;
	msgpack_zone zone;
	msgpack_object payload;
	/* which bytes `payload` was made from; seq 0: none */
	uint64_t seq;
	const void *bytes;
	char *text;
	size_t cap;
};

int event_fields_new(struct event_fields **out)
{
	struct event_fields *f = calloc(1, sizeof(*f));

	*out = NULL;
	if (!f)
		return -ENOMEM;
	if (!msgpack_zone_init(&f->zone, 1024)) {
		free(f);
		return -ENOMEM;
	}
	*out = f;
	return 0;
}

void event_fields_free(struct event_fields *f)
{
	if (!f)
		return;
	msgpack_zone_destroy(&f->zone);
	free(f->text);
	free(f);
}

void event_fields_set(struct event_fields *f, const struct journal_event *e)
{
	f->event = *e;
}

static bool unpack(struct event_fields *f)
{
	size_t at = 0;

	if (f->seq == f->event.seq && f->bytes == f->event.payload)
		return f->payload.type == MSGPACK_OBJECT_MAP;
	msgpack_zone_clear(&f->zone);
	f->seq = f->event.seq;
	f->bytes = f->event.payload;
	f->payload.type = MSGPACK_OBJECT_NIL;
	if (msgpack_unpack(f->event.payload, f->event.payload_size, &at, &f->zone, &f->payload) !=
	    MSGPACK_UNPACK_SUCCESS)
		f->payload.type = MSGPACK_OBJECT_NIL;
	return f->payload.type == MSGPACK_OBJECT_MAP;
}

static bool room(struct event_fields *f, size_t size)
{
	char *text;

	if (size <= f->cap)
		return true;
	text = realloc(f->text, size);
	if (!text)
		return false;
	f->text = text;
	f->cap = size;
	return true;
}

static bool to_text(struct event_fields *f, const msgpack_object *o, const char **value)
{
	const char *p;
	size_t size;

	*value = "";
	if (mp_str(o, &p, &size)) {
		if (!room(f, size + 1))
			return false;
		memcpy(f->text, p, size);
		f->text[size] = '\0';
		*value = f->text;
		return true;
	}
	if (!room(f, 64))
		return false;
	switch (o->type) {
	case MSGPACK_OBJECT_NIL:
		return false;
	case MSGPACK_OBJECT_BOOLEAN:
		*value = o->via.boolean ? "true" : "false";
		return true;
	case MSGPACK_OBJECT_POSITIVE_INTEGER:
		snprintf(f->text, f->cap, "%" PRIu64, o->via.u64);
		break;
	case MSGPACK_OBJECT_NEGATIVE_INTEGER:
		snprintf(f->text, f->cap, "%" PRId64, o->via.i64);
		break;
	case MSGPACK_OBJECT_FLOAT32:
	case MSGPACK_OBJECT_FLOAT64:
		snprintf(f->text, f->cap, "%.17g", o->via.f64);
		break;
	default:
		return true;
	}
	*value = f->text;
	return true;
}

/* The rest of the path as one key. */
static const msgpack_object *get_joined(struct event_fields *f, const msgpack_object *map,
					const char *const *path, size_t n)
{
	size_t size = 0;
	char *p;

	for (size_t i = 0; i < n; i++)
		size += strlen(path[i]) + 1;
	if (!room(f, size))
		return NULL;
	p = f->text;
	for (size_t i = 0; i < n; i++) {
		p = stpcpy(p, path[i]);
		*p++ = '.';
	}
	p[-1] = '\0';
	return mp_get(map, f->text);
}

bool event_fields_get(void *user, const char *const *path, size_t n, const char **value)
{
	struct event_fields *f = user;
	const msgpack_object *o;

	*value = "";
	if (n == 1 && !strcmp(path[0], "topic")) {
		*value = f->event.topic;
		return *f->event.topic;
	}
	if (n == 1 && !strcmp(path[0], "namespace")) {
		*value = f->event.ns;
		return *f->event.ns;
	}
	if (n < 2 || strcmp(path[0], "event") || !unpack(f))
		return false;
	o = &f->payload;
	for (size_t i = 1; i < n; i++) {
		const msgpack_object *next = mp_get(o, path[i]);

		if (!next) {
			if (i + 1 == n)
				return false;
			o = get_joined(f, o, path + i, n - i);
			return o && to_text(f, o, value);
		}
		o = next;
	}
	return to_text(f, o, value);
}
