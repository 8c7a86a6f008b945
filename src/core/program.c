// SPDX-License-Identifier: Apache-2.0
/*
 * Asking a program for its version
 *
 * The child gets /dev/null, one pipe and an environment of PATH alone; a child that does not come
 * to an end is killed. Its exit status is not looked at: what it printed either has a version or
 * not.
 */
#include "core/program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"

#define SECONDS 5
#define PATH_DEFAULT "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

void program_find(const char *name, char *path, size_t size)
{
	const char *dirs = getenv("PATH");

	path[0] = 0;
	if (strchr(name, '/')) {
		if (access(name, X_OK) == 0)
			snprintf(path, size, "%s", name);
		return;
	}
	if (!dirs || !dirs[0])
		dirs = PATH_DEFAULT;
	while (*dirs) {
		int n = (int)strcspn(dirs, ":");

		/* an empty part would be the current folder, which is nobody's intention */
		if (n && snprintf(path, size, "%.*s/%s", n, dirs, name) < (int)size &&
		    access(path, X_OK) == 0)
			return;
		dirs += n + (dirs[n] == ':');
	}
	path[0] = 0;
}

static int spawn(const char *path, const char *option, int out, pid_t *pid)
{
	char *argv[] = { (char *)path, (char *)option, NULL },
	     *envp[] = { (char *)"PATH=" PATH_DEFAULT, NULL };
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	sigset_t none;
	int r;

	sigemptyset(&none);
	r = posix_spawn_file_actions_init(&fa);
	if (r)
		return -r;
	r = posix_spawnattr_init(&attr);
	if (r) {
		posix_spawn_file_actions_destroy(&fa);
		return -r;
	}
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	r = posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
	if (!r)
		r = posix_spawn_file_actions_adddup2(&fa, out, 1);
	if (!r)
		r = posix_spawn_file_actions_adddup2(&fa, out, 2);
	if (!r)
		r = posix_spawn(pid, path, &fa, &attr, argv, envp);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&fa);
	return -r;
}

/* Until the end of the pipe, or until the time is up: then false. */
static bool read_text(int fd, char *text, size_t size)
{
	int64_t end = clock_mono() + SECONDS * CLOCK_NS_PER_SEC;
	size_t used = 0;

	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int64_t left = end - clock_mono();
		ssize_t n;

		text[used] = 0;
		if (left <= 0 || (poll(&p, 1, (int)(left / 1000000) + 1) < 0 && errno != EINTR))
			return false;
		if (!p.revents)
			continue;
		/* what does not fit is read all the same, so that the child can end */
		n = used + 1 < size ? read(fd, text + used, size - used - 1)
				    : read(fd, (char[512]){ 0 }, 512);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n == 0;
		if (used + 1 < size)
			used += (size_t)n;
	}
}

void program_version(const char *name, const char *option, const char *label,
		     struct program_version *out)
{
	CLEANUP_CLOSE int in = -1;
	char text[2048], *at;
	int pipefd[2], r;

	memset(out, 0, sizeof(*out));
	program_find(name, out->path, sizeof(out->path));
	if (!out->path[0]) {
		snprintf(out->problem, sizeof(out->problem), "%.64s was not found", name);
		return;
	}
	if (pipe2(pipefd, O_CLOEXEC) < 0) {
		snprintf(out->problem, sizeof(out->problem), "pipe: %s", strerrordesc_np(errno));
		return;
	}
	in = pipefd[0];
	r = spawn(out->path, option, pipefd[1], &out->pid);
	close(pipefd[1]);
	if (r < 0) {
		out->pid = 0;
		snprintf(out->problem, sizeof(out->problem), "it cannot be run: %s",
			 strerrordesc_np(-r));
		return;
	}
	if (!read_text(in, text, sizeof(text))) {
		kill(out->pid, SIGKILL);
		snprintf(out->problem, sizeof(out->problem), "%s did not end within %d s", option,
			 SECONDS);
		return;
	}
	at = strstr(text, label);
	if (at)
		at += strlen(label) + strspn(at + strlen(label), " \t");
	if (at && strcspn(at, " \t\r\n"))
		snprintf(out->version, sizeof(out->version), "%.*s", (int)strcspn(at, " \t\r\n"),
			 at);
	else
		snprintf(out->problem, sizeof(out->problem), "%s says: %.*s", option,
			 (int)strcspn(text, "\n"), text);
}
