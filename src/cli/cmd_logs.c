// SPDX-License-Identifier: Apache-2.0
/*
 * davit logs
 *
 * The daemon says where a task's log is; the file is read here. Its lines are "TIME STREAM F TEXT",
 * with P for F when the text goes on in the stream's next line. FILE.1 is what was rotated away
 * before FILE. Following is driven by inotify (on the file, and on the folder for rotation) and
 * ends when the task has.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/conn.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/output.h"
#include "cli/units.h"
#include "util/fd.h"

#define SETTLE_MS 200 /* the log's last lines are written a moment after the end */

struct reader {
	const char *path;
	FILE *file; /* the current one, NULL when there is none yet */
	char *line; /* getline's, or an unfinished line */
	size_t room, partial; /* bytes of a line whose end is not written yet */
	bool timestamps;
	bool within[2]; /* stdout, stderr: a part was written, the line goes on */
};

struct line {
	const char *time, *text;
	size_t time_n, text_n;
	int stream; /* 0 stdout, 1 stderr */
	bool whole;
};

static bool parse(const char *raw, size_t n, struct line *out)
{
	const char *end = raw + n, *p, *q;

	p = memchr(raw, ' ', n);
	if (!p)
		return false;
	out->time = raw;
	out->time_n = (size_t)(p - raw);
	q = memchr(p + 1, ' ', (size_t)(end - p - 1));
	if (!q || end - q < 3 || q[2] != ' ' || (q[1] != 'F' && q[1] != 'P'))
		return false;
	out->stream = q - p - 1 == 6 && memcmp(p + 1, "stderr", 6) == 0;
	out->whole = q[1] == 'F';
	out->text = q + 3;
	out->text_n = (size_t)(end - out->text);
	return true;
}

static void show(struct reader *r, const char *raw, size_t n)
{
	struct line l;
	FILE *to;

	if (!parse(raw, n, &l))
		return;
	to = l.stream ? stderr : stdout;
	if (r->timestamps && !r->within[l.stream])
		fprintf(to, "%.*s ", (int)l.time_n, l.time);
	fwrite(l.text, 1, l.text_n, to);
	if (l.whole)
		putc('\n', to);
	r->within[l.stream] = !l.whole;
}

/* All complete lines that are there. */
static void read_on(struct reader *r)
{
	char chunk[65536];
	size_t n;

	if (!r->file)
		return;
	clearerr(r->file);
	while ((n = fread(chunk, 1, sizeof(chunk), r->file)) > 0) {
		const char *p = chunk, *end = chunk + n, *nl;

		while ((nl = memchr(p, '\n', (size_t)(end - p)))) {
			if (r->partial) {
				char *joined CLEANUP_FREE = mem_alloc(r->partial +
								      (size_t)(nl - p) + 1);

				memcpy(joined, r->line, r->partial);
				memcpy(joined + r->partial, p, (size_t)(nl - p));
				show(r, joined, r->partial + (size_t)(nl - p));
				r->partial = 0;
			} else {
				show(r, p, (size_t)(nl - p));
			}
			p = nl + 1;
		}
		if (p < end) {
			size_t rest = (size_t)(end - p);

			r->line = mem_need(realloc(r->line, r->partial + rest));
			memcpy(r->line + r->partial, p, rest);
			r->partial += rest;
		}
	}
	fflush(stdout);
}

static FILE *open_log(const char *path, struct fault *f)
{
	FILE *file = fopen(path, "re");

	if (!file && errno != ENOENT)
		fault_sys(f, errno, "opening the log", path);
	return file;
}

/* Where the last n lines begin: 0 the rotated file, 1 the current one, and the offset in it. */
static void tail_start(FILE *const files[2], int64_t n, int *which, off_t *offset)
{
	struct place {
		int which;
		off_t offset;
	} *ring CLEANUP_FREE = mem_alloc((n > 0 ? (size_t)n : 1) * sizeof(*ring));
	char *line CLEANUP_FREE = NULL;
	bool within[2] = { false, false };
	int64_t count = 0;
	size_t room = 0;

	for (int i = 0; i < 2; i++) {
		off_t at = 0;
		ssize_t got;

		while (files[i] && (got = getline(&line, &room, files[i])) > 0) {
			struct line l;

			if (parse(line, (size_t)got, &l)) {
				if (!within[l.stream] && n > 0)
					ring[count++ % n] = (struct place){ i, at };
				within[l.stream] = !l.whole;
			}
			at += got;
		}
	}
	*which = files[1] ? 1 : 0;
	*offset = files[*which] ? ftello(files[*which]) : 0;
	if (n > 0 && count > 0) {
		struct place first = ring[count >= n ? count % n : 0];

		*which = first.which;
		*offset = first.offset;
	}
	for (int i = 0; i < 2; i++) {
		if (files[i])
			rewind(files[i]);
	}
}

static int show_all(struct reader *r, int64_t tail, struct fault *f)
{
	char *old_path CLEANUP_FREE = mem_printf("%s.1", r->path);
	FILE *files[2];
	off_t offset = 0;
	int which = 0;

	f->code = FAULT_NONE;
	files[0] = open_log(old_path, f);
	files[1] = open_log(r->path, f);
	if (f->code != FAULT_NONE) {
		for (int i = 0; i < 2; i++) {
			if (files[i])
				fclose(files[i]);
		}
		return -EACCES;
	}
	if (tail >= 0)
		tail_start(files, tail, &which, &offset);
	for (int i = 0; i < 2; i++) {
		r->file = files[i];
		if (files[i] && i >= which) {
			if (i == which)
				fseeko(files[i], offset, SEEK_SET);
			read_on(r);
		}
		if (i == 0 && files[i])
			fclose(files[i]);
	}
	return 0;
}

/* What was renamed away is read to its end, then the new file from its beginning. */
static void rotated(struct reader *r)
{
	struct stat now, held;

	if (r->file && (stat(r->path, &now) < 0 || fstat(fileno(r->file), &held) < 0 ||
			(now.st_ino == held.st_ino && now.st_dev == held.st_dev)))
		return;
	read_on(r);
	if (r->file)
		fclose(r->file);
	r->partial = 0;
	r->file = fopen(r->path, "re");
	read_on(r);
}

/*
 * Watches the file and its folder or, as long as that is not there (nothing has been written yet),
 * the nearest one above it. Called again after each event. 0 or -errno.
 */
static int arm(int fd, const char *path)
{
	char *folder CLEANUP_FREE = mem_strdup(path);
	int missing = 0, now;

	do {
		/* Once more from below: what is missing may have been made before its parent was watched. */
		now = 0;
		strcpy(folder, path);
		for (;;) {
			char *slash = strrchr(folder, '/');

			if (!slash)
				return -ENOENT;
			slash[slash == folder] = '\0';
			if (inotify_add_watch(fd, folder, IN_CREATE | IN_MOVED_TO) >= 0)
				break;
			if (errno != ENOENT || slash == folder)
				return -errno;
			now++;
		}
		if (now == missing)
			break;
		missing = now;
	} while (missing);
	if (inotify_add_watch(fd, path, IN_MODIFY) < 0 && errno != ENOENT)
		return -errno;
	return 0;
}

static int watch(const char *path, struct fault *f)
{
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	int r = fd < 0 ? -errno : arm(fd, path);

	if (r < 0) {
		fault_sys(f, -r, "watching the log", path);
		fd_close(&fd);
		return r;
	}
	return fd;
}

static void on_inotify(struct reader *r, int fd)
{
	char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));

	while (read(fd, buf, sizeof(buf)) > 0)
		;
	read_on(r);
	rotated(r);
	/* Fails only for lack of memory or watches; the next event of what is watched tries again. */
	(void)arm(fd, r->path);
	rotated(r);
	read_on(r);
}

static int follow(struct cli *cli, struct reader *r, const char *id, struct fault *f)
{
	int fd CLEANUP_CLOSE = watch(r->path, f);
	bool ended = false;
	uint32_t wait_id;
	int err;

	if (fd < 0)
		return fd;
	err = cli_send(cli, "tasks.wait", cli_params(id, NULL), NULL, 0, &wait_id, f);
	if (err < 0)
		return err;
	rotated(r);
	read_on(r);
	for (;;) {
		struct pollfd p[2] = { { .fd = fd, .events = POLLIN },
				       { .fd = -1, .events = POLLIN } };
		struct cli_reply *reply;
		int n;

		/*
		 * Before the poll: what has been read from the socket already does not show there.
		 */
		while (!ended && (err = cli_recv(cli, 0, &reply, f)) != -EAGAIN) {
			if (err < 0) {
				/* The daemon is being restarted; its tasks go on. */
				err = cli_reconnect(cli, f);
				if (err == 0)
					err = cli_send(cli, "tasks.wait", cli_params(id, NULL),
						       NULL, 0, &wait_id, f);
				if (err < 0)
					return err;
				continue;
			}
			ended = !reply->notification && reply->msgid == wait_id;
			cli_reply_free(reply);
		}
		p[1].fd = ended ? -1 : cli_fd(cli);
		n = poll(p, 2, ended ? SETTLE_MS : -1);
		if (n < 0 && errno != EINTR)
			return fault_sys(f, errno, "waiting", NULL);
		if (p[0].revents)
			on_inotify(r, fd);
		if (n == 0 && ended)
			return 0;
	}
}

static int find_log(struct cli *cli, const char *id, char **path, struct fault *f)
{
	static const char *const streams[] = { "process.stdout", "process.stderr" };
	json_object *task CLEANUP_JSON = NULL;
	int r;

	r = cli_call(cli, "tasks.get", cli_params(id, NULL), &task, f);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(streams); i++) {
		const char *text = js_str(task, streams[i]);

		if (strncmp(text, "log:/", 5) == 0) {
			*path = mem_strdup(text + 4);
			return 0;
		}
	}
	return fault_set(
		f, FAULT_FAILED_PRECONDITION, 0,
		"its output is not logged: it went to where it was started; 'davit run -d' logs it");
}

static int logs(struct cli *cli)
{
	struct reader r = { .timestamps = args_flag(cli, "timestamps") };
	char *path CLEANUP_FREE = NULL;
	const char *id = cli->args[0], *text = args_get(cli, "tail");
	struct fault f = { 0 };
	int64_t tail = -1;
	int err;

	if (text && strcmp(text, "all") != 0 && units_int(text, -1, 10000000, &tail, &f) < 0)
		return cli_fail(&f, NULL, "logs: --tail");
	err = find_log(cli, id, &path, &f);
	if (err == 0) {
		r.path = path;
		err = show_all(&r, tail, &f);
	}
	if (err == 0 && args_flag(cli, "follow"))
		err = follow(cli, &r, id, &f);
	fflush(stdout);
	if (r.file)
		fclose(r.file);
	free(r.line);
	if (err < 0)
		return cli_fail(
			&f, f.code == FAULT_PERMISSION_DENIED ? "only root can read logs" : NULL,
			"cannot show the log of %s", id);
	return 0;
}

static const struct cli_option options[] = {
	{ .name = "follow", .letter = 'f', .doc = "go on until the container ends" },
	{ .name = "tail", .letter = 'n', .argument = "N", .doc = "only the last N lines (all)" },
	{ .name = "timestamps", .letter = 't', .doc = "put the time before each line" },
	{ .name = NULL },
};

const struct cli_command cmd_logs = {
	.name = "logs",
	.summary = "Show what a container in the background has written",
	.usage = "NAME",
	.details = "What it wrote to stdout goes to stdout, what it wrote to stderr to stderr.\n",
	.options = options,
	.min_args = 1,
	.max_args = 1,
	.complete = CLI_COMPLETE_CONTAINERS,
	.run = logs,
};
