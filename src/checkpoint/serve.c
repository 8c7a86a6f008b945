// SPDX-License-Identifier: Apache-2.0
/*
 * Serve: listening, criu's connection, its requests
 *
 * Streams of pages files are made at once, before criu asks; its request then only gives such a
 * stream its pipe. A second request for the same file makes a stream of its own. The streams
 * themselves are in serve_stream.c.
 */
#include "checkpoint/serve.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "checkpoint/serve_internal.h"
#include "util/clock.h"
#include "util/fd.h"
#include "util/limits.h"

#define REQUESTS 32 /* of criu in one turn */

void serve_files_clear(struct serve_files *f)
{
	for (size_t i = 0; i < f->n; i++) {
		for (size_t k = 0; k < f->v[i].n_parts; k++) {
			struct serve_part *p = &f->v[i].parts[k];

			fd_close(&p->fd);
			frame_table_clear(&p->table);
			free(p->data);
		}
		free(f->v[i].parts);
		free(f->v[i].name);
	}
	free(f->v);
	*f = (struct serve_files){ 0 };
}

/* ---- the end of it */

static void serve_release(struct serve *s)
{
	serve_unpackers_free(s);
	buffers_free(s->buffers);
	serve_files_clear(&s->files);
	pthread_mutex_destroy(&s->unpackers_lock);
	free(s->by_name);
	free(s->socket_path);
	free(s);
}

void serve_job_end(struct serve *s)
{
	if (!--s->jobs && s->dead)
		serve_release(s);
}

static void drop_event(struct event **e)
{
	if (*e)
		event_free(*e);
	*e = NULL;
}

void serve_set_pace(struct serve *s)
{
	pace_set(&s->pace, !s->dead && !s->has_failed, s->n_dry);
}

static void hang_up(struct serve *s)
{
	struct stream *st;

	drop_event(&s->listen_event);
	drop_event(&s->sock_event);
	drop_event(&s->starved);
	fd_close(&s->listen_fd);
	fd_close(&s->sock);
	while ((st = TAILQ_FIRST(&s->streams)))
		stream_end(st);
	s->asked = NULL;
	if (s->bound)
		unlink(s->socket_path);
	s->bound = false;
	serve_set_pace(s);
}

void serve_trouble(struct serve *s, const struct fault *f)
{
	if (!serve_is_over(s))
		s->trouble = *f;
}

void serve_trouble_errno(struct serve *s, int r, const char *step, const char *what)
{
	struct fault f;

	fault_sys(&f, -r, step, what);
	serve_trouble(s, &f);
}

void serve_settle(struct serve *s)
{
	struct fault f;

	if (!s->trouble.code || s->has_failed || s->dead)
		return;
	s->has_failed = true;
	f = s->trouble;
	hang_up(s);
	s->r.failed(s->r.user, &f);
}

void serve_free(struct serve *s)
{
	if (!s)
		return;
	s->dead = true;
	s->jobs++;
	hang_up(s);
	serve_job_end(s);
}

/* ---- criu's requests */

static int by_name(const void *a, const void *b)
{
	const struct serve_entry *x = a, *y = b;

	return strcmp(x->file->name, y->file->name);
}

static int name_is(const void *name, const void *entry)
{
	return strcmp(name, ((const struct serve_entry *)entry)->file->name);
}

/* A stream that was made early, or a new one. NULL: no such file, or trouble. */
static struct stream *stream_for(struct serve *s, const char *name)
{
	struct serve_entry *e = bsearch(name, s->by_name, s->files.n, sizeof(*s->by_name), name_is);
	struct stream *st;

	if (!e)
		return NULL;
	st = e->early;
	e->early = NULL;
	if (st)
		return st;
	if (s->n_streams >= LIMIT_CHECKPOINT_STREAMS) {
		struct fault f;

		fault_set(&f, FAULT_RESOURCE_EXHAUSTED, 0,
			  "criu has %zu image files open: no more are served", s->n_streams);
		serve_trouble(s, &f);
		return NULL;
	}
	st = stream_new(s, e->file);
	if (!st)
		serve_trouble_errno(s, -ENOMEM, "serve", name);
	return st;
}

static int send_answer(struct serve *s, bool exists)
{
	uint8_t answer[WIRE_ANSWER_BYTES];
	ssize_t n;

	wire_answer(exists, answer);
	n = send(s->sock, answer, sizeof(answer), MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n == (ssize_t)sizeof(answer))
		return 0;
	/* it waits for one answer before it asks again, so there is room unless it never reads them */
	return n < 0 ? -errno : -EPROTO;
}

static int take_request(struct serve *s)
{
	s->stats.requests++;
	s->asked = stream_for(s, s->wire.name);
	if (serve_is_over(s))
		return 0;
	if (s->asked)
		wire_want_fd(&s->wire);
	else
		s->stats.absent++;
	return send_answer(s, s->asked);
}

static int take_pipe(struct serve *s, int fd)
{
	struct stream *st = s->asked;
	struct fault f;

	s->asked = NULL;
	if (wire_check_pipe(fd, true, st->file->name, &f) < 0) {
		close(fd);
		serve_trouble(s, &f);
		return 0;
	}
	return stream_start(st, fd);
}

static void stop_listening_to(struct serve *s)
{
	drop_event(&s->sock_event);
	fd_close(&s->sock);
}

static void take_messages(struct serve *s)
{
	struct fault f = { 0 };
	int fd = -1, r = 0;

	for (int n = 0; n < REQUESTS && !serve_is_over(s); n++) {
		switch (wire_read(&s->wire, s->sock, &fd, &f)) {
		case WIRE_AGAIN:
			return;
		case WIRE_REQUEST:
			r = take_request(s);
			break;
		case WIRE_GOT_FD:
			r = take_pipe(s, fd);
			break;
		case WIRE_END:
			stop_listening_to(s);
			return;
		case WIRE_BROKEN:
			serve_trouble(s, &f);
			return;
		}
		if (r == -EPIPE || r == -ECONNRESET) {
			stop_listening_to(s); /* it has gone: its exit status says why */
			return;
		}
		if (r < 0)
			serve_trouble_errno(s, r, "answer", "criu");
	}
}

static void on_sock(evutil_socket_t sock, short what, void *user)
{
	struct serve *s = user;

	(void)sock;
	(void)what;
	take_messages(s);
	serve_settle(s);
}

static void on_connect(evutil_socket_t fd, short what, void *user)
{
	struct serve *s = user;

	(void)what;
	s->sock = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (s->sock < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			serve_trouble_errno(s, -errno, "accept", "criu");
		serve_settle(s);
		return;
	}
	/* one connection serves all of criu's processes */
	drop_event(&s->listen_event);
	fd_close(&s->listen_fd);
	s->stats.connected_at = clock_mono();
	s->sock_event = event_new(s->r.base, s->sock, EV_READ | EV_PERSIST, on_sock, s);
	if (!s->sock_event || event_add(s->sock_event, NULL) < 0)
		serve_trouble_errno(s, -ENOMEM, "listen to", "criu");
	serve_settle(s);
}

/* ---- from the owner */

static int listen_for_criu(struct serve *s, struct fault *f)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	if (strlen(s->socket_path) >= sizeof(sa.sun_path))
		return fault_set(f, FAULT_INVALID_ARGUMENT, ENAMETOOLONG,
				 "the path of criu's socket, %s", s->socket_path);
	strcpy(sa.sun_path, s->socket_path);
	s->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->listen_fd < 0 || bind(s->listen_fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return fault_sys(f, errno, "bind", s->socket_path);
	s->bound = true;
	if (listen(s->listen_fd, 1) < 0)
		return fault_sys(f, errno, "listen on", s->socket_path);
	s->listen_event = event_new(s->r.base, s->listen_fd, EV_READ | EV_PERSIST, on_connect, s);
	if (!s->listen_event || event_add(s->listen_event, NULL) < 0)
		return fault_sys(f, ENOMEM, "listen on", s->socket_path);
	return 0;
}

/* The files by name, and streams for those that criu is going to ask for. */
static int index_files(struct serve *s, const struct serve_files *files)
{
	s->by_name = calloc(files->n + 1, sizeof(*s->by_name));
	if (!s->by_name)
		return -ENOMEM;
	for (size_t i = 0; i < files->n; i++)
		s->by_name[i].file = &files->v[i];
	qsort(s->by_name, files->n, sizeof(*s->by_name), by_name);
	for (size_t i = 0; i < files->n; i++) {
		struct serve_entry *e = &s->by_name[i];

		if (strncmp(e->file->name, "pages-", 6) != 0 ||
		    s->n_streams == LIMIT_CHECKPOINT_STREAMS / 2)
			continue;
		e->early = stream_new(s, e->file);
		if (!e->early)
			return -ENOMEM;
	}
	return 0;
}

static int serve_prepare(struct serve *s, const struct serve_request *r, struct fault *f)
{
	if (asprintf(&s->socket_path, "%s/" SERVE_SOCKET, r->images_dir) < 0)
		s->socket_path = NULL;
	s->starved = event_new(r->base, -1, 0, serve_on_starved, s);
	if (!s->socket_path || !s->starved || buffers_new(&s->buffers, r->buffers) < 0 ||
	    index_files(s, r->files) < 0)
		return fault_sys(f, ENOMEM, "serve", "criu's files");
	return listen_for_criu(s, f);
}

int serve_new(struct serve **out, const struct serve_request *r, struct fault *f)
{
	struct serve *s = calloc(1, sizeof(*s));
	int e;

	if (!s)
		return fault_sys(f, ENOMEM, "serve", "criu's files");
	s->r = *r;
	s->listen_fd = s->sock = -1;
	s->grant = 1;
	TAILQ_INIT(&s->streams);
	wire_init(&s->wire);
	pthread_mutex_init(&s->unpackers_lock, NULL);
	e = serve_prepare(s, r, f);
	if (e < 0) {
		serve_free(s);
		return e;
	}
	s->files = *r->files;
	*r->files = (struct serve_files){ 0 };
	s->pace.pools[0] = r->unpack;
	serve_set_pace(s);
	serve_load(s);
	if (s->trouble.code) {
		/* jobs may be at the files: they go with the last of them */
		*f = s->trouble;
		serve_free(s);
		return -ENOMEM;
	}
	*out = s;
	return 0;
}

void serve_get_stats(const struct serve *s, struct serve_stats *out)
{
	*out = s->stats;
	out->buffer_peak = buffers_peak(s->buffers);
}
