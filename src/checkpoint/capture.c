// SPDX-License-Identifier: Apache-2.0
/*
 * Capture: listening, criu's connection, and its pipes
 *
 * Owns the listening socket, the one connection, and an fd for each image file that criu has open.
 * Whatever is readable is read, at most READ_BYTES a turn, so that the reactor's other work is never
 * far away. A small file grows in memory; the moment it is more than that it becomes a large one:
 * what there is goes into its first frame.
 *
 * A large file needs a buffer for what it reads next. When all are out it waits in a queue until one
 * is back. Buffers come back from frames that are packed and written; if there is no such frame, all
 * are in the hands of files that criu has begun and does not go on with. Then the fullest of them is
 * cut short into a frame. So criu may have any number of large files open and the memory stays what
 * it is.
 *
 * While criu dumps, the task is frozen: workers leave the processors to criu, and to the reactor that
 * reads. They are in a hurry once a file waits for a buffer, for then it is criu who waits for them.
 *
 * The order of things. criu connects, asks for one file after the other (several are open at a
 * time), and closes the connection when it is done. `drained` is told as soon as inventory.img, which
 * comes last, has been asked for and no pipe is open; the connection is open then still, since a
 * post-dump hook may hold criu. Whether the dump was good is told by criu's exit status, which is not
 * known here: capture_finish is its owner's word for it.
 *
 * A failure is told once. Before that all fds are closed, upon which criu cures the task and lets it
 * go; no signal would do that.
 */
#include "checkpoint/capture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "checkpoint/capture_internal.h"
#include "util/clock.h"
#include "util/fd.h"
#include "util/limits.h"

#define PIPE_BYTES (1 << 20)
#define READ_BYTES (256u << 10) /* of one file in one turn: some 50 µs */
#define REQUESTS 32 /* of criu in one turn */
#define SMALL_ROOM 4096u
#define BLOBS_MOST (LIMIT_CHECKPOINT_BLOBS - 2) /* beside the small files' and a writable layer's */

/* Upon any change of what it says. */
static void set_pace(struct capture *c)
{
	pace_set(&c->pace, c->stats.connected_at && !c->drained && !c->has_failed && !c->dead,
		 !STAILQ_EMPTY(&c->waiting));
}

/* ---- the end of it */

void capture_job_begin(struct capture *c)
{
	c->jobs++;
}

static void capture_release(struct capture *c)
{
	struct image_file *file;

	while ((file = SLIST_FIRST(&c->files))) {
		SLIST_REMOVE_HEAD(&c->files, link);
		free(file->data);
		free(file);
	}
	blobs_free(c);
	buffers_free(c->buffers);
	pthread_mutex_destroy(&c->packers_lock);
	free(c->socket_path);
	free((char *)c->r.images_dir);
	if (c->r.gone)
		c->r.gone(c->r.user);
	free(c);
}

void capture_job_end(struct capture *c)
{
	if (!--c->jobs && c->dead)
		capture_release(c);
}

static void drop_event(struct event **e)
{
	if (*e)
		event_free(*e);
	*e = NULL;
}

static void file_close(struct image_file *file)
{
	drop_event(&file->event);
	fd_close(&file->fd);
	if (file->buf)
		buffers_give(file->c->buffers, file->buf);
	file->buf = NULL;
	if (file->waiting)
		STAILQ_REMOVE(&file->c->waiting, file, image_file, turn);
	file->waiting = false;
}

/* All that criu holds on to. */
static void hang_up(struct capture *c)
{
	struct image_file *file;

	drop_event(&c->listen_event);
	drop_event(&c->sock_event);
	drop_event(&c->stall);
	fd_close(&c->listen_fd);
	fd_close(&c->sock);
	SLIST_FOREACH (file, &c->files, link)
		file_close(file);
	if (c->bound)
		unlink(c->socket_path);
	c->bound = false;
	set_pace(c);
}

void capture_fail(struct capture *c, const struct fault *f)
{
	if (c->has_failed || c->dead)
		return;
	c->has_failed = true;
	hang_up(c);
	blobs_give_up(c);
	if (c->done)
		c->done(c->r.user, f);
	else
		c->r.failed(c->r.user, f);
}

static void fail_errno(struct capture *c, int r, const char *step, const char *what)
{
	struct fault f;

	fault_sys(&f, -r, step, what);
	capture_fail(c, &f);
}

__attribute__((format(printf, 2, 3))) static void fail_limit(struct capture *c, const char *fmt,
							     ...)
{
	struct fault f;
	va_list ap;

	va_start(ap, fmt);
	fault_setv(&f, FAULT_RESOURCE_EXHAUSTED, 0, fmt, ap);
	va_end(ap);
	capture_fail(c, &f);
}

void capture_free(struct capture *c)
{
	if (!c)
		return;
	c->dead = true;
	c->jobs++;
	hang_up(c);
	blobs_give_up(c);
	capture_job_end(c);
}

/* ---- files */

/* Nothing more can come, and it was not all. May free c's owner's hold on it. */
static void check_cut_short(struct capture *c)
{
	struct fault f;

	if (!c->hung_up || c->inventory || c->open_files || c->has_failed || c->dead)
		return;
	/* of all failures the one whose reason only criu knows */
	fault_set(&f, FAULT_UNKNOWN, 0, "criu closed its streams before its images were complete");
	capture_fail(c, &f);
}

static void check_drained(struct capture *c)
{
	if (c->drained || c->has_failed || c->dead || !c->inventory || c->open_files) {
		check_cut_short(c);
		return;
	}
	c->drained = true;
	c->stats.drained_at = clock_mono();
	set_pace(c);
	drop_event(&c->stall);
	c->r.drained(c->r.user);
}

static void file_end(struct image_file *file)
{
	struct capture *c = file->c;
	struct buffer *buf = file->buf;
	int r = 0;

	file->buf = NULL;
	if (buf && buf->used)
		r = blob_add(file->blob, buf);
	else if (buf)
		buffers_give(c->buffers, buf);
	if (r < 0) {
		buffers_give(c->buffers, buf);
		fail_errno(c, r, "read", file->name);
		return;
	}
	file_close(file);
	c->open_files--;
	if (file->blob) {
		blob_end(file->blob);
	} else if (file->used && file->used < file->room) {
		char *fitting = realloc(file->data, file->used);

		if (fitting) {
			file->data = fitting;
			file->room = file->used;
		}
	}
	capture_read_on(c);
	check_drained(c);
}

/* Not read until it has a buffer. */
static void wait_for_buffer(struct image_file *file)
{
	struct capture *c = file->c;

	event_del(file->event);
	file->waiting = true;
	STAILQ_INSERT_TAIL(&c->waiting, file, turn);
	capture_read_on(c); /* there may be nothing to wait for */
}

/* Room for more of a large file. False: there is none now, or the capture has failed. */
static bool large_room(struct image_file *file)
{
	struct capture *c = file->c;

	if (file->buf && file->buf->used == FRAME_BYTES) {
		int r = blob_add(file->blob, file->buf);

		if (r < 0) {
			fail_errno(c, r, "read", file->name);
			return false;
		}
		file->buf = NULL;
	}
	if (!file->buf)
		file->buf = buffers_take(c->buffers);
	if (!file->buf)
		wait_for_buffer(file);
	return file->buf;
}

/*
 * Buffers are all with files that are being read, so none comes back by itself. The fullest file's
 * becomes a frame. Nothing when all are empty still: then there is something to be read.
 */
static void cut_short(struct capture *c)
{
	struct image_file *file, *fullest = NULL;
	int r;

	SLIST_FOREACH (file, &c->files, link)
		if (file->buf && file->blob && file->buf->used &&
		    (!fullest || file->buf->used > fullest->buf->used))
			fullest = file;
	if (!fullest)
		return;
	r = blob_add(fullest->blob, fullest->buf);
	if (r < 0)
		fail_errno(c, r, "read", fullest->name);
	else
		fullest->buf = NULL;
}

void capture_read_on(struct capture *c)
{
	struct image_file *file;

	if (c->dead || c->has_failed)
		return;
	while ((file = STAILQ_FIRST(&c->waiting))) {
		if (!file->buf)
			file->buf = buffers_take(c->buffers);
		if (!file->buf)
			break;
		STAILQ_REMOVE_HEAD(&c->waiting, turn);
		file->waiting = false;
		if (event_add(file->event, NULL) < 0) {
			fail_errno(c, -ENOMEM, "read", file->name);
			return;
		}
	}
	if (file && !c->frames)
		cut_short(c);
	set_pace(c);
}

/*
 * A small file that has grown out of its memory goes on as a large one, once there is a buffer.
 * -EAGAIN: it waits for that.
 */
static int become_large(struct image_file *file)
{
	struct capture *c = file->c;

	if (c->n_blobs >= BLOBS_MOST) {
		fail_limit(
			c,
			"criu has written more than %u files of over %u bytes; no more are taken",
			BLOBS_MOST, CAPTURE_SMALL_BYTES);
		return -EAGAIN;
	}
	if (!file->buf)
		file->buf = buffers_take(c->buffers);
	if (!file->buf) {
		wait_for_buffer(file);
		return -EAGAIN;
	}
	file->blob = blob_new(c, file->name);
	if (!file->blob)
		return -ENOMEM;
	memcpy(file->buf->data, file->data, file->used);
	file->buf->used = file->used;
	c->small_bytes -= file->used;
	free(file->data);
	file->data = NULL;
	file->used = file->room = 0;
	return 0;
}

static int small_room(struct image_file *file)
{
	size_t room = file->room ? file->room * 2 : SMALL_ROOM;
	char *grown;

	if (file->used < file->room)
		return 0;
	if (room > CAPTURE_SMALL_BYTES + SMALL_ROOM)
		room = CAPTURE_SMALL_BYTES + SMALL_ROOM;
	grown = realloc(file->data, room);
	if (!grown)
		return -ENOMEM;
	file->data = grown;
	file->room = room;
	return 0;
}

static ssize_t small_read(struct image_file *file)
{
	struct capture *c = file->c;
	ssize_t n;
	int r;

	if (file->used > CAPTURE_SMALL_BYTES) {
		r = become_large(file);
		return r < 0 ? r : -EINTR; /* read on in the next turn */
	}
	r = small_room(file);
	if (r < 0)
		return r;
	n = read(file->fd, file->data + file->used, file->room - file->used);
	if (n < 0)
		return -errno;
	file->used += (size_t)n;
	c->small_bytes += (size_t)n;
	return n;
}

static ssize_t large_read(struct image_file *file)
{
	size_t room = FRAME_BYTES - file->buf->used;
	ssize_t n = read(file->fd, file->buf->data + file->buf->used,
			 room < READ_BYTES ? room : READ_BYTES);

	if (n < 0)
		return -errno;
	file->buf->used += (size_t)n;
	return n;
}

static void file_readable(struct image_file *file)
{
	struct capture *c = file->c;
	ssize_t n;

	if (file->blob && !large_room(file))
		return;
	n = file->blob ? large_read(file) : small_read(file);
	if (n == -EINTR || n == -EAGAIN)
		return;
	if (n < 0) {
		fail_errno(c, (int)n, "read", file->name);
		return;
	}
	c->stats.bytes_in += (uint64_t)n;
	if (file->pages)
		c->stats.pages_bytes += (uint64_t)n;
	c->progress++;
	if (c->small_bytes > LIMIT_CHECKPOINT_FILES_BYTES) {
		fail_limit(c, "criu's image files beside the memory pages are larger than %u bytes",
			   LIMIT_CHECKPOINT_FILES_BYTES);
		return;
	}
	if (c->stats.bytes_in > LIMIT_CHECKPOINT_BYTES) {
		fail_limit(c, "criu's image files are larger than any may be");
		return;
	}
	if (!n)
		file_end(file);
	else if (!STAILQ_EMPTY(&c->waiting))
		capture_read_on(c);
}

/*
 * What the loop calls may fail or drain the capture, and upon that its owner may free it: held like
 * by a job, it stays until the end of the call.
 */
static void on_pipe(evutil_socket_t fd, short what, void *user)
{
	struct image_file *file = user;
	struct capture *c = file->c;

	(void)fd;
	(void)what;
	capture_job_begin(c);
	file_readable(file);
	capture_job_end(c);
}

/* ---- criu's requests */

static struct image_files *bucket(struct capture *c, const char *name)
{
	uint32_t hash = 2166136261u; /* FNV-1a */

	while (*name)
		hash = (hash ^ (unsigned char)*name++) * 16777619u;
	return &c->by_name[hash % CAPTURE_BUCKETS];
}

/*
 * Whether it is a blob of its own from its first byte. Pages files of many processes are as long as there are
 * blobs left and the memory for small files is used up by half.
 */
static bool begins_large(struct image_file *file)
{
	struct capture *c = file->c;

	file->pages = !strncmp(file->name, "pages-", 6);
	if (!file->pages || c->n_blobs >= BLOBS_MOST)
		return false;
	return c->n_pages++ < CAPTURE_OWN_PAGES ||
	       c->small_bytes > LIMIT_CHECKPOINT_FILES_BYTES / 2;
}

/* Takes fd over. */
static int file_open(struct capture *c, int fd)
{
	struct image_file *file = calloc(1, sizeof(*file));
	int r;

	if (!file) {
		close(fd);
		return -ENOMEM;
	}
	file->c = c;
	file->fd = fd;
	strcpy(file->name, c->wire.name);
	SLIST_INSERT_HEAD(&c->files, file, link);
	SLIST_INSERT_HEAD(bucket(c, file->name), file, same_hash);
	c->open_files++;
	c->stats.files++;
	r = fd_nonblock(fd, 1);
	if (r < 0)
		return r;
	/* more at a time; what root may not have (pipe-max-size) is no loss of data */
	(void)fcntl(fd, F_SETPIPE_SZ, PIPE_BYTES);
	file->event = event_new(c->r.base, fd, EV_READ | EV_PERSIST, on_pipe, file);
	if (!file->event || event_add(file->event, NULL) < 0)
		return -ENOMEM;
	if (!begins_large(file))
		return 0;
	file->blob = blob_new(c, file->name);
	return file->blob ? 0 : -ENOMEM;
}

/* True: go on. */
static bool take_request(struct capture *c)
{
	struct image_file *file;
	struct fault f;

	if (c->drained) {
		fault_set(&f, FAULT_FAILED_PRECONDITION, 0, "criu asks for %s after its last file",
			  c->wire.name);
		capture_fail(c, &f);
		return false;
	}
	if (c->stats.files == LIMIT_CHECKPOINT_FILES || c->open_files == LIMIT_CHECKPOINT_OPEN) {
		fail_limit(
			c,
			"criu has written %llu image files and has %zu of them open: no more are taken",
			(unsigned long long)c->stats.files, c->open_files);
		return false;
	}
	SLIST_FOREACH (file, bucket(c, c->wire.name), same_hash) {
		if (!strcmp(file->name, c->wire.name)) {
			fault_set(
				&f, FAULT_FAILED_PRECONDITION, 0,
				"criu writes the file %s twice (it cannot stream private mappings of huge pages)",
				file->name);
			capture_fail(c, &f);
			return false;
		}
	}
	wire_want_fd(&c->wire);
	return true;
}

static void take_messages(struct capture *c, int sock)
{
	struct fault f = { 0 };
	int fd = -1, r;

	for (int n = 0; n < REQUESTS; n++) {
		switch (wire_read(&c->wire, sock, &fd, &f)) {
		case WIRE_AGAIN:
			return;
		case WIRE_REQUEST:
			c->progress++;
			if (!take_request(c))
				return;
			break;
		case WIRE_GOT_FD:
			c->progress++;
			if (wire_check_pipe(fd, false, c->wire.name, &f) < 0) {
				close(fd);
				capture_fail(c, &f);
				return;
			}
			if (!strcmp(c->wire.name, "inventory.img"))
				c->inventory = true;
			r = file_open(c, fd);
			if (r < 0) {
				fail_errno(c, r, "take the pipe of", c->wire.name);
				return;
			}
			break;
		case WIRE_END:
			drop_event(&c->sock_event);
			fd_close(&c->sock);
			c->hung_up = true;
			check_cut_short(c);
			return;
		case WIRE_BROKEN:
			capture_fail(c, &f);
			return;
		}
	}
}

static void on_sock(evutil_socket_t sock, short what, void *user)
{
	struct capture *c = user;

	(void)what;
	capture_job_begin(c);
	take_messages(c, sock);
	capture_job_end(c);
}

static void on_connect(evutil_socket_t fd, short what, void *user)
{
	struct capture *c = user;

	(void)what;
	c->sock = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (c->sock < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			fail_errno(c, -errno, "accept", "criu");
		return;
	}
	/* one connection serves all of criu's processes */
	drop_event(&c->listen_event);
	fd_close(&c->listen_fd);
	c->stats.connected_at = clock_mono();
	set_pace(c);
	c->progress++;
	c->sock_event = event_new(c->r.base, c->sock, EV_READ | EV_PERSIST, on_sock, c);
	if (!c->sock_event || event_add(c->sock_event, NULL) < 0)
		fail_errno(c, -ENOMEM, "listen to", "criu");
}

static void on_stall(evutil_socket_t fd, short what, void *user)
{
	struct capture *c = user;
	struct fault f;

	(void)fd;
	(void)what;
	if (c->progress != c->progress_seen) {
		c->progress_seen = c->progress;
		return;
	}
	fault_set(&f, FAULT_DEADLINE_EXCEEDED, 0,
		  "%s no progress for %lld ms: the dump was given up",
		  c->frames ? "the checkpoint is being written, but there was" : "criu has made",
		  (long long)(c->r.stall_ns / 1000000));
	capture_fail(c, &f);
}

/* ---- from the owner */

static int listen_for_criu(struct capture *c, struct fault *f)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	if (strlen(c->socket_path) >= sizeof(sa.sun_path))
		return fault_set(f, FAULT_INVALID_ARGUMENT, ENAMETOOLONG,
				 "the path of criu's socket, %s", c->socket_path);
	strcpy(sa.sun_path, c->socket_path);
	c->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->listen_fd < 0 || bind(c->listen_fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return fault_sys(f, errno, "bind", c->socket_path);
	c->bound = true;
	if (listen(c->listen_fd, 1) < 0)
		return fault_sys(f, errno, "listen on", c->socket_path);
	c->listen_event = event_new(c->r.base, c->listen_fd, EV_READ | EV_PERSIST, on_connect, c);
	if (!c->listen_event || event_add(c->listen_event, NULL) < 0)
		return fault_sys(f, ENOMEM, "listen on", c->socket_path);
	return 0;
}

static int watch_for_stall(struct capture *c, struct fault *f)
{
	/* looked at twice in the time, so that it is at most that much too late */
	int64_t half = c->r.stall_ns / 2;
	struct timeval tv = { .tv_sec = half / CLOCK_NS_PER_SEC,
			      .tv_usec = half % CLOCK_NS_PER_SEC / 1000 };

	if (!c->r.stall_ns)
		return 0;
	c->stall = event_new(c->r.base, -1, EV_PERSIST, on_stall, c);
	if (!c->stall || event_add(c->stall, &tv) < 0)
		return fault_sys(f, ENOMEM, "watch", "criu");
	return 0;
}

int capture_new(struct capture **out, const struct capture_request *r, struct fault *f)
{
	struct capture *c = calloc(1, sizeof(*c));
	int e;

	if (!c)
		return fault_sys(f, ENOMEM, "capture", "criu's files");
	c->r = *r;
	c->pace = (struct pace){ .pools = { r->pack, r->write } };
	c->listen_fd = c->sock = -1;
	SLIST_INIT(&c->files);
	STAILQ_INIT(&c->waiting);
	SLIST_INIT(&c->blobs);
	wire_init(&c->wire);
	pthread_mutex_init(&c->packers_lock, NULL);
	c->r.images_dir = strdup(r->images_dir);
	if (asprintf(&c->socket_path, "%s/" CAPTURE_SOCKET, r->images_dir) < 0)
		c->socket_path = NULL;
	if (!c->r.images_dir || !c->socket_path || buffers_new(&c->buffers, r->buffers) < 0)
		e = fault_sys(f, ENOMEM, "capture", "criu's files");
	else
		e = listen_for_criu(c, f);
	if (!e)
		e = watch_for_stall(c, f);
	if (e < 0) {
		c->r.gone = NULL;
		capture_free(c);
		return e;
	}
	buffers_make_ready(c);
	*out = c;
	return 0;
}

void capture_check_done(struct capture *c)
{
	void (*done)(void *user, const struct fault *f) = c->done;

	if (!done || c->unfinished || c->has_failed || c->dead)
		return;
	c->done = NULL;
	done(c->r.user, NULL);
}

void capture_finish(struct capture *c, void (*done)(void *user, const struct fault *f))
{
	int r;

	c->done = done;
	r = small_start(c);
	if (r < 0)
		fail_errno(c, r, "pack", "the image files");
}

bool capture_is_drained(const struct capture *c)
{
	return c->drained;
}

void capture_get_stats(const struct capture *c, struct capture_stats *out)
{
	*out = c->stats;
	out->buffer_peak = buffers_peak(c->buffers);
}

void capture_peer_ended(struct capture *c)
{
	/* what it has sent is read to its end; a connection that was never made is the same as its end */
	if (!c->listen_event)
		return;
	capture_job_begin(c); /* a failure may have its owner free it */
	on_connect(c->listen_fd, 0, c);
	if (c->listen_event && !c->has_failed) {
		c->hung_up = true;
		check_cut_short(c);
	}
	capture_job_end(c);
}
