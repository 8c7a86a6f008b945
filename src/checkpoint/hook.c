// SPDX-License-Identifier: Apache-2.0
/*
 * criu's action script
 *
 * The socket takes one connection. What comes is one line, the pid; what goes back is one byte, '0'
 * for success. Where there is no small program for the machine (hook_program.c), a shell decides about
 * the stage, since starting a whole davit for each of criu's eight would cost more than a small dump.
 */
#include "checkpoint/hook.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "checkpoint/hook_program.h"
#include "util/cleanup.h"
#include "util/fd.h"

struct hook_point {
	int listen_fd, sock;
	struct event *event;
	struct event_base *base;
	char *path;
	char line[32];
	size_t got;
	bool held;
	void (*reached)(void *user, pid_t pid);
	void *user;
};

/* Within single quotes nothing is special but the quote itself. */
static int quote(FILE *to, const char *text)
{
	fputc('\'', to);
	for (; *text; text++)
		fputs(*text == '\'' ? "'\\''" : (char[2]){ *text, 0 }, to);
	return fputc('\'', to);
}

static int shell_script_write(const char *path, const char *folder, const char *davit,
			      const char *stage, struct fault *f)
{
	CLEANUP_FREE char *text = NULL;
	CLEANUP_CLOSE int fd = -1;
	size_t size;
	FILE *to = open_memstream(&text, &size);
	int r;

	if (!to)
		return fault_sys(f, ENOMEM, "write", HOOK_SCRIPT);
	fprintf(to, "#!/bin/sh\n[ \"$CRTOOLS_SCRIPT_ACTION\" = %s ] || exit 0\nexec ", stage);
	quote(to, davit);
	fputs(" criu-hook ", to);
	quote(to, folder);
	fputc('\n', to);
	r = ferror(to);
	if (fclose(to) != 0 || r)
		return fault_sys(f, ENOMEM, "write", path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
	r = fd < 0 ? -errno : fd_write_all(fd, text, size);
	return r < 0 ? fault_sys(f, -r, "write", path) : 0;
}

int hook_script_write(const char *folder, const char *davit, const char *stage, struct fault *f)
{
	CLEANUP_FREE char *path = NULL, *socket_path = NULL;
	int r;

	if (asprintf(&path, "%s/" HOOK_SCRIPT, folder) < 0 ||
	    asprintf(&socket_path, "%s/" HOOK_SOCKET, folder) < 0)
		return fault_sys(f, ENOMEM, "write", HOOK_SCRIPT);
	r = hook_program_write(path, socket_path, stage, f);
	if (!r)
		return shell_script_write(path, folder, davit, stage, f);
	return r < 0 ? r : 0;
}

static void drop_event(struct hook_point *h)
{
	if (h->event)
		event_free(h->event);
	h->event = NULL;
}

static void on_line(evutil_socket_t fd, short what, void *user)
{
	struct hook_point *h = user;
	ssize_t n = read(fd, h->line + h->got, sizeof(h->line) - 1 - h->got);

	(void)what;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		h->got += (size_t)n;
		h->line[h->got] = '\0';
		if (!strchr(h->line, '\n') && h->got + 1 < sizeof(h->line))
			return;
	}
	drop_event(h);
	if (n <= 0 || !strchr(h->line, '\n')) {
		fd_close(&h->sock); /* it has failed: criu says so by its end */
		return;
	}
	h->held = true;
	h->reached(h->user, (pid_t)strtol(h->line, NULL, 10));
}

static void on_connect(evutil_socket_t fd, short what, void *user)
{
	struct hook_point *h = user;

	(void)what;
	h->sock = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (h->sock < 0)
		return;
	drop_event(h);
	fd_close(&h->listen_fd);
	h->event = event_new(h->base, h->sock, EV_READ | EV_PERSIST, on_line, h);
	/* without memory it fails, and with it criu's stage */
	if (!h->event || event_add(h->event, NULL) < 0)
		fd_close(&h->sock);
}

int hook_point_new(struct hook_point **out, struct event_base *base, const char *folder,
		   void (*reached)(void *user, pid_t pid), void *user, struct fault *f)
{
	struct hook_point *h = calloc(1, sizeof(*h));
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int r = 0;

	if (!h)
		return fault_sys(f, ENOMEM, "listen for", "criu's hook");
	h->listen_fd = h->sock = -1;
	h->base = base;
	h->reached = reached;
	h->user = user;
	if (asprintf(&h->path, "%s/" HOOK_SOCKET, folder) < 0)
		h->path = NULL;
	if (!h->path)
		r = -ENOMEM;
	else if (strlen(h->path) >= sizeof(sa.sun_path))
		r = -ENAMETOOLONG;
	if (!r) {
		strcpy(sa.sun_path, h->path);
		h->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (h->listen_fd < 0 ||
		    bind(h->listen_fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
		    listen(h->listen_fd, 1) < 0)
			r = -errno;
	}
	if (!r) {
		h->event = event_new(base, h->listen_fd, EV_READ | EV_PERSIST, on_connect, h);
		if (!h->event || event_add(h->event, NULL) < 0)
			r = -ENOMEM;
	}
	if (r < 0) {
		hook_point_free(h);
		return fault_sys(f, -r, "listen for criu's hook in", folder);
	}
	*out = h;
	return 0;
}

void hook_point_answer(struct hook_point *h, bool ok)
{
	if (!h || !h->held)
		return;
	h->held = false;
	/* one byte into an empty socket; a hook that is gone needs none */
	(void)!send(h->sock, ok ? "0" : "1", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	fd_close(&h->sock);
}

void hook_point_free(struct hook_point *h)
{
	if (!h)
		return;
	drop_event(h);
	fd_close(&h->listen_fd);
	fd_close(&h->sock);
	if (h->path)
		unlink(h->path);
	free(h->path);
	free(h);
}

int hook_main(const char *folder)
{
	const char *pid = getenv("CRTOOLS_INIT_PID");
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	CLEANUP_CLOSE int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char line[32], answer = '1';

	if (snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/" HOOK_SOCKET, folder) >=
		    (int)sizeof(sa.sun_path) ||
	    sock < 0 || connect(sock, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return 1;
	snprintf(line, sizeof(line), "%ld\n", pid ? strtol(pid, NULL, 10) : 0);
	if (fd_write_all(sock, line, strlen(line)) < 0 || fd_read_all(sock, &answer, 1) < 0)
		return 1;
	return answer == '0' ? 0 : 1;
}
