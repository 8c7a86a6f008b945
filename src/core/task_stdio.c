// SPDX-License-Identifier: Apache-2.0
/*
 * Streams of tasks
 *
 * What the guardian keeps for a process, by key:
 *   tty/NS/ID/EXEC/           the pty's master
 *   fifo/NS/ID/EXEC/STREAM    keeper end of a FIFO
 *   log/NS/ID/EXEC/STREAM     read end of a log's pipe
 *   add/NS/ID/EXEC/STREAM     of an exec that was added and not started: the end that it will get
 *   start/NS/ID//             the launch's socket of a created container (task_create.c)
 */
#include "core/task_stdio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fifo_watch.h"
#include "core/keep.h"
#include "core/tty.h"
#include "monitor/logs.h"
#include "util/cleanup.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/mp.h"

int stdio_request_init(struct stdio_request *r, struct ipc_request *req)
{
	r->console = -1;
	for (int i = 0; i < 3; i++)
		r->fd[i] = -1;
	for (int i = 0; i < 3; i++) {
		const char *text = ipc_arg_str(req, stdio_names[i]);

		r->fd[i] = ipc_arg_fd(req, stdio_names[i]);
		if (!text)
			continue;
		r->text[i] = strdup(text);
		if (!r->text[i])
			return -ENOMEM;
	}
	r->console = ipc_arg_fd(req, "console");
	r->terminal_given = ipc_has(req, "terminal");
	r->terminal = ipc_arg_bool(req, "terminal", false);
	r->width = (uint16_t)ipc_arg_int(req, "width", 0);
	r->height = (uint16_t)ipc_arg_int(req, "height", 0);
	return 0;
}

int stdio_request_log(struct stdio_request *r, const char *path)
{
	r->log_path = strdup(path);
	return r->log_path ? 0 : -ENOMEM;
}

void stdio_request_clear(struct stdio_request *r)
{
	for (int i = 0; i < 3; i++) {
		fd_close(&r->fd[i]);
		free(TAKE_PTR(r->text[i]));
	}
	fd_close(&r->console);
	free(TAKE_PTR(r->log_path));
}

int stdio_request_apply(struct stdio_request *r, struct stdio *s, struct fault *f)
{
	s->terminal = r->terminal;
	s->width = r->width;
	s->height = r->height;
	s->console = TAKE_FD(r->console);
	if (r->log_max_size)
		s->log_max_size = r->log_max_size;
	if (s->console >= 0 && !s->terminal) {
		fault_set(f, FAULT_INVALID_ARGUMENT, 0, "console: only a terminal has one");
		fault_arg(f, "console");
		return -EINVAL;
	}
	for (int i = 0; i < 3; i++) {
		int n = stdio_set(s, i, r->text[i], TAKE_FD(r->fd[i]), r->log_path, f);

		if (n < 0)
			return n;
	}
	return 0;
}

static const char *mount_text(msgpack_zone *zone, const msgpack_object *o)
{
	const char *p;
	char *text;
	size_t n;

	if (!mp_str(o, &p, &n) || memchr(p, 0, n))
		return NULL;
	text = msgpack_zone_malloc(zone, n + 1);
	if (text) {
		memcpy(text, p, n);
		text[n] = 0;
	}
	return text;
}

static int mount_bad(struct fault *f, uint32_t i, const char *what)
{
	fault_set(f, FAULT_INVALID_ARGUMENT, 0, "tasks.create: rootfs[%u]: %s", i, what);
	fault_arg(f, "rootfs");
	return -EINVAL;
}

static int mount_one(msgpack_zone *zone, uint32_t i, const msgpack_object *o,
		     struct launch_mount *m, struct fault *f)
{
	if (!mp_is_map(o) || o->type == MSGPACK_OBJECT_ARRAY)
		return mount_bad(f, i, "a mount is a map {type, source, target, options}");
	for (uint32_t k = 0; k < o->via.map.size; k++) {
		const msgpack_object *key = &o->via.map.ptr[k].key, *val = &o->via.map.ptr[k].val;
		const char **slot = mp_eq(key, "type")	   ? &m->type
				    : mp_eq(key, "source") ? &m->source
				    : mp_eq(key, "target") ? &m->target
							   : NULL;

		if (val->type == MSGPACK_OBJECT_NIL)
			continue;
		if (slot) {
			*slot = mount_text(zone, val);
			if (!*slot)
				return mount_bad(f, i, "type, source and target are text");
		} else if (mp_eq(key, "options")) {
			const char **v;

			if (val->type != MSGPACK_OBJECT_ARRAY)
				return mount_bad(f, i, "options is a list of text");
			v = msgpack_zone_malloc(zone, (val->via.array.size + 1) * sizeof(*v));
			if (!v)
				return fault_sys(f, ENOMEM, "keep the rootfs mounts", NULL);
			for (uint32_t n = 0; n < val->via.array.size; n++) {
				v[n] = mount_text(zone, &val->via.array.ptr[n]);
				if (!v[n])
					return mount_bad(f, i, "options is a list of text");
			}
			m->options = v;
			m->n_options = val->via.array.size;
		} else {
			return mount_bad(
				f, i,
				"unknown member; a mount is a map {type, source, target, options}");
		}
	}
	return m->type ? 0 : mount_bad(f, i, "type: required");
}

int task_mounts(msgpack_zone *zone, const msgpack_object *list, struct launch_mount *out,
		struct fault *f)
{
	for (uint32_t i = 0; i < list->via.array.size; i++) {
		int r = mount_one(zone, i, &list->via.array.ptr[i], &out[i], f);

		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- keepers */

static void keeper_opened(void *user, const char *key)
{
	struct davit *d = user;

	keep_drop(d->keep, key);
}

int task_stdio_watch(struct davit *d, struct stdio *s)
{
	for (int i = 1; i < 3; i++) {
		int r = s->stream[i].keeper >= 0 ? fifo_watch_begin(d->fifos, s->stream[i].path)
						 : 0;

		if (r < 0)
			return r;
	}
	return 0;
}

void task_stdio_unwatch(struct davit *d, struct stdio *s)
{
	for (int i = 1; i < 3; i++)
		if (s->stream[i].keeper >= 0)
			fifo_watch_cancel(d->fifos, s->stream[i].path);
}

static int keep_fd(struct process *p, const char *kind, const char *name, int fd)
{
	char key[512];

	process_key(p, kind, name, key, sizeof(key));
	return keep_put(p->task->d->keep, key, fd);
}

static int keepers_give(struct process *p)
{
	struct davit *d = p->task->d;
	char key[512];

	for (int i = 0; i < 3; i++) {
		struct stdio_stream *st = &p->stdio.stream[i];
		int r;

		if (st->keeper < 0)
			continue;
		r = keep_fd(p, "fifo", stdio_names[i], st->keeper);
		if (r < 0)
			return r;
		fd_close(&st->keeper);
		if (i == 0)
			continue;
		process_key(p, "fifo", stdio_names[i], key, sizeof(key));
		r = fifo_watch_add(d->fifos, st->path, key, keeper_opened, d);
		if (r < 0)
			return r;
	}
	return 0;
}

int task_stdio_keep(struct process *p)
{
	for (int i = 0; i < 3; i++) {
		struct stdio_stream *st = &p->stdio.stream[i];
		int r = 0;

		if (st->child >= 0)
			r = keep_fd(p, "add", stdio_names[i], st->child);
		if (r == 0 && st->fd >= 0 && st->kind == STDIO_LOG)
			r = keep_fd(p, "log", stdio_names[i], st->fd);
		if (r < 0)
			return r;
	}
	return keepers_give(p);
}

static void log_ended(void *user, int err)
{
	struct log_end *e = user;

	(void)err;
	keep_drop(e->d->keep, e->key);
	LIST_REMOVE(e, link);
	free(e);
}

int task_stdio_log(struct process *p, int which, int fd)
{
	struct stdio *s = &p->stdio;
	struct log_end *e = malloc(sizeof(*e) + 512);
	int r;

	if (!e) {
		close(fd);
		return -ENOMEM;
	}
	e->d = p->task->d;
	process_key(p, "log", stdio_names[which], e->key, 512);
	s->stream[which].drained = true;
	r = logs_add(e->d->logs, fd, s->stream[which].path, stdio_names[which], s->log_max_size,
		     log_ended, e);
	if (r < 0)
		free(e);
	else
		LIST_INSERT_HEAD(&e->d->tasks->log_ends, e, link);
	return r;
}

/*
 * criu has opened the outputs' FIFOs once more (it opens again what it inherits), which a watch cannot tell from a client. So it begins
 * anew, and who is there already is found by the kernel's answer: without a reader, an open for writing fails. The restored are held and
 * write nothing meanwhile, and what is in a FIFO stays as long as they have it open.
 */
static int look_for_clients(struct davit *d, struct stdio_stream *st)
{
	CLEANUP_CLOSE int end = -1, pin = -1;
	char path[64];

	fifo_watch_cancel(d->fifos, st->path);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", st->keeper);
	pin = open(path, O_PATH | O_CLOEXEC);
	if (pin < 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", pin);
	fd_close(&st->keeper);
	end = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	if (end >= 0)
		return 0;
	st->keeper = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	return st->keeper < 0 ? -errno : 0;
}

int task_stdio_ready(struct process *p)
{
	struct davit *d = p->task->d;
	char key[512];
	int r;

	for (int i = 1; p->restore && i < 3; i++) {
		r = p->stdio.stream[i].keeper >= 0 ? look_for_clients(d, &p->stdio.stream[i]) : 0;
		if (r < 0)
			return r;
	}
	for (int i = 1; i < 3; i++) {
		struct stdio_stream *st = &p->stdio.stream[i];

		if (st->kind != STDIO_LOG || st->fd < 0)
			continue;
		r = keep_fd(p, "log", stdio_names[i], st->fd);
		if (!r)
			r = task_stdio_log(p, i, TAKE_FD(st->fd));
		if (r < 0)
			return r;
	}
	if (p->exec_id) {
		snprintf(key, sizeof(key), "add/%s/%s/%s/", p->task->ns, p->task->id, p->exec_id);
		keep_drop_prefix(d->keep, key);
	}
	return keepers_give(p);
}

int task_stdio_tty_open(struct process *p, int master)
{
	struct stdio_stream *in = &p->stdio.stream[0], *out = &p->stdio.stream[1];
	struct tty_config config = { .input = TAKE_FD(in->fd), .fifo = -1, .file = -1 };

	if (out->kind == STDIO_FIFO)
		config.fifo = TAKE_FD(out->fd);
	else if (out->kind == STDIO_FILE)
		config.file = TAKE_FD(out->fd);
	else if (out->kind == STDIO_LOG)
		config.log = out->path;
	config.log_max_size = p->stdio.log_max_size;
	return tty_new(&p->tty, p->task->d, master, &config);
}

int task_stdio_tty(struct process *p, int fd, struct fault *f)
{
	struct winsize size = { .ws_col = p->stdio.width, .ws_row = p->stdio.height };
	int r;

	/* an exec's may have been changed since its launch was compiled */
	if (p->exec_id && size.ws_col && size.ws_row && ioctl(fd, TIOCSWINSZ, &size) < 0)
		log_warn("%s/%s: its terminal cannot be resized", p->task->ns, process_id(p));

	if (p->stdio.console >= 0) {
		ssize_t n = fd_send(p->stdio.console, "/dev/ptmx", 9, &fd, 1, MSG_DONTWAIT);

		close(fd);
		fd_close(&p->stdio.console);
		return n < 0 ? fault_sys(f, (int)-n, "send the terminal to the console socket",
					 NULL)
			     : 0;
	}
	r = keep_fd(p, "tty", "", fd);
	if (r < 0)
		close(fd);
	else
		r = task_stdio_tty_open(p, fd);
	return r < 0 ? fault_sys(f, -r, "open the terminal", NULL) : 0;
}

void task_stdio_drop(struct process *p)
{
	static const char *const kinds[] = { "fifo", "add", "start", "tty" };
	struct davit *d = p->task->d;
	char key[512];

	tty_ended(p->tty);
	task_stdio_unwatch(d, &p->stdio);
	for (int i = 0; i < 3; i++) {
		struct stdio_stream *st = &p->stdio.stream[i];

		fd_close(&st->child);
		fd_close(&st->fd);
		fd_close(&st->keeper);
		if (i && st->kind == STDIO_FIFO) {
			process_key(p, "fifo", stdio_names[i], key, sizeof(key));
			fifo_watch_remove(d->fifos, key);
		}
	}
	/* only what may be there is asked for: most processes have nothing kept */
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		bool fifo = p->stdio.stream[0].kind == STDIO_FIFO ||
			    p->stdio.stream[1].kind == STDIO_FIFO ||
			    p->stdio.stream[2].kind == STDIO_FIFO;

		if ((k == 0 && !fifo) || (k == 1 && (!p->exec_id || p->started_at)) ||
		    (k == 2 && (p->exec_id || p->started_at)) || (k == 3 && !p->stdio.terminal))
			continue;
		process_key(p, kinds[k], "", key, sizeof(key));
		keep_drop_prefix(d->keep, key);
	}
}

/* After a restart the ends of the terminal's other streams are opened again by their paths. */
static int tty_reopen(struct process *p, int master)
{
	struct fault f;
	bool input = p->stdio.stream[0].kind == STDIO_FIFO;

	if (stdio_open(&p->stdio, &f) < 0) {
		log_warn("task %s/%s: its terminal goes on without its other streams: %s",
			 p->task->ns, p->task->id, f.message);
		if (input)
			fd_close(&p->stdio.stream[0].fd);
	}
	return task_stdio_tty_open(p, master);
}

void task_stdio_relog(struct process *p)
{
	for (int i = 1; i < 3; i++) {
		struct stdio_stream *st = &p->stdio.stream[i];
		struct stat info;
		char path[64];
		int fd;

		if (st->kind != STDIO_LOG || st->drained || p->stdio.terminal || !st->inode)
			continue;
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)p->pid, i);
		fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &info) < 0 || !S_ISFIFO(info.st_mode) ||
		    info.st_ino != st->inode) {
			log_warn("%s/%s: its %s cannot be logged any more: the pipe is not found",
				 p->task->ns, process_id(p), stdio_names[i]);
			fd_close(&fd);
			continue;
		}
		if (keep_fd(p, "log", stdio_names[i], fd) < 0 || task_stdio_log(p, i, fd) < 0)
			log_error("%s/%s: no memory to go on with its log", p->task->ns,
				  process_id(p));
	}
}

int task_stdio_item(struct process *p, const char *kind, const char *name, int fd)
{
	int which = 0, r;

	while (which < 3 && strcmp(name, stdio_names[which]))
		which++;
	if (!strcmp(kind, "tty"))
		return tty_reopen(p, fd);
	if (which == 3) {
		close(fd);
		return -EINVAL;
	}
	if (!strcmp(kind, "log")) {
		if (p->state != PROCESS_ADDED)
			return task_stdio_log(p, which, fd);
		p->stdio.stream[which].fd = fd;
		return 0;
	}
	if (!strcmp(kind, "add")) {
		p->stdio.stream[which].child = fd;
		return 0;
	}
	if (!strcmp(kind, "fifo")) {
		char key[512];

		close(fd); /* the guardian goes on keeping it */
		if (which == 0 || !p->stdio.stream[which].path)
			return 0;
		process_key(p, "fifo", name, key, sizeof(key));
		r = fifo_watch_begin(p->task->d->fifos, p->stdio.stream[which].path);
		return r < 0 ? r
			     : fifo_watch_add(p->task->d->fifos, p->stdio.stream[which].path, key,
					      keeper_opened, p->task->d);
	}
	close(fd);
	return -EINVAL;
}
