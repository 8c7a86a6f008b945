// SPDX-License-Identifier: Apache-2.0
/*
 * Starting a daemon when a command finds none
 *
 * One starter wins an flock on SOCKET.lock; the others wait for the lock, find the daemon and go
 * on. The winner forks twice, so that the daemon is nobody's child here, and gives it a session of
 * its own, "/" as folder, a clean environment (PATH and the variables that `davit serve` reads), no
 * fds but three and the ready pipe, and the root cgroup of every hierarchy. Its stderr is
 * daemon.log beside the socket. The daemon writes 'R' into the pipe when it is ready, or a line
 * that says why it cannot; the end of the pipe without either means that it died. So nothing is
 * polled, and the lock is held until the outcome is known.
 */
#include "cli/autostart.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/args.h"
#include "cli/conn.h"
#include "cli/mem.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/fd.h"

#define READY_FD 3
#define READY_SECONDS 60 /* taking over thousands of containers is allowed to take a while */
#define LOG_BYTES (1 << 20) /* a daemon.log over this is put aside as daemon.log.1 */

static const char default_path[] =
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

static bool daemon_listens(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd CLEANUP_CLOSE = -1;

	if (strlen(path) >= sizeof(sa.sun_path))
		return false;
	strcpy(sa.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0;
}

/* Where somebody has named the socket, a folder that is missing is a slip of the pen. */
static int check_folder(const char *path, struct fault *f)
{
	char *copy CLEANUP_FREE = mem_strdup(path);
	const char *folder = dirname(copy);

	if (access(folder, F_OK) == 0)
		return 0;
	return fault_set(f, FAULT_NOT_FOUND, errno,
			 "no daemon listens on %s, and none can be started there: the folder %s",
			 path, folder);
}

static int make_folders(const char *path, struct fault *f)
{
	char *copy CLEANUP_FREE = mem_strdup(path);

	for (char *p = copy + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(copy, 0755) < 0 && errno != EEXIST)
			return fault_sys(f, errno, "making the folder", copy);
		*p = '/';
	}
	return 0;
}

static int open_log(const char *path)
{
	char *old CLEANUP_FREE = mem_printf("%s.1", path);
	struct stat st;

	if (stat(path, &st) == 0 && st.st_size > LOG_BYTES)
		rename(path, old);
	return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
}

/* What the daemon gets of our environment: nothing but what it reads. */
static char **daemon_env(const struct cli *cli)
{
	const struct cli_option *const tables[] = { cmd_serve.options, cli_global_options };
	const struct cli_command *const commands[] = { &cmd_serve, NULL };
	char **env = NULL;
	size_t n = 0;

	*(char **)mem_grow(&env, &n, sizeof(*env)) = mem_strdup(default_path);
	*(char **)mem_grow(&env, &n, sizeof(*env)) = mem_printf("DAVIT_READY_FD=%d", READY_FD);
	*(char **)mem_grow(&env, &n, sizeof(*env)) = mem_printf("DAVIT_SOCKET=%s", cli_socket(cli));
	for (size_t t = 0; t < ARRAY_SIZE(tables); t++) {
		for (const struct cli_option *o = tables[t]; o && o->name; o++) {
			char *name CLEANUP_FREE = args_env_name(commands[t], o);
			const char *value = getenv(name);

			if (!value || strcmp(name, "DAVIT_SOCKET") == 0 ||
			    strcmp(name, "DAVIT_NAMESPACE") == 0)
				continue;
			if (t == 1 && cmd_serve.options && strcmp(o->name, "log-level") != 0)
				continue;
			*(char **)mem_grow(&env, &n, sizeof(*env)) = mem_printf("%s=%s", name,
										value);
		}
	}
	mem_grow(&env, &n, sizeof(*env));
	return env;
}

static void env_free(char **env)
{
	for (char **p = env; *p; p++)
		free(*p);
	free(env);
}

/*
 * Out of the caller's cgroups, which end with its login or its job. A hierarchy that does not let
 * us is left as it is. In the child: no allocation is needed, but is harmless since this process
 * has one thread.
 */
static void leave_cgroups(void)
{
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	char *line CLEANUP_FREE = NULL;
	size_t size = 0;

	if (!mounts)
		return;
	while (getline(&line, &size, mounts) > 0) {
		char *type = strstr(line, " - "), *save = NULL, *folder = line;
		char path[PATH_MAX];

		if (!type ||
		    (strncmp(type, " - cgroup ", 10) != 0 && strncmp(type, " - cgroup2 ", 11) != 0))
			continue;
		/* The mount point is the fifth word. */
		for (int i = 0; folder && i < 5; i++)
			folder = strtok_r(i ? NULL : line, " ", &save);
		if (!folder ||
		    (size_t)snprintf(path, sizeof(path), "%s/cgroup.procs", folder) >= sizeof(path))
			continue;
		(void)fd_write_file(AT_FDCWD, path, "0");
	}
	fclose(mounts);
}

/* In the grandchild. Does not return. */
static void become_daemon(int ready, int log, const char *sock, char **env)
{
	/* The variable would do; the word tells who lists processes which daemon this is. */
	const char *const argv[] = { "davit", "serve", "--socket", sock, NULL };
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	sigset_t none;
	int null;

	leave_cgroups();
	for (int sig = 1; sig < NSIG; sig++)
		sigaction(sig, &dfl, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	umask(022);
	if (chdir("/") < 0)
		_exit(CLI_EXIT_DAVIT);
	/* Clear of the low numbers first, so that no dup2 below overwrites what another needs. */
	ready = fcntl(ready, F_DUPFD_CLOEXEC, READY_FD + 1);
	log = fcntl(log, F_DUPFD_CLOEXEC, READY_FD + 1);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	null = fcntl(null, F_DUPFD_CLOEXEC, READY_FD + 1);
	if (ready < 0 || log < 0 || null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 ||
	    dup2(log, 2) < 0 || dup2(ready, READY_FD) < 0)
		_exit(CLI_EXIT_DAVIT);
	close_range(READY_FD + 1, ~0u, 0);
	execve("/proc/self/exe", (char *const *)argv, env);
	dprintf(READY_FD, "cannot execute davit: %s\n", strerrordesc_np(errno));
	_exit(CLI_EXIT_DAVIT);
}

static int spawn(int ready, int log, const char *sock, char **env, struct fault *f)
{
	pid_t pid, ended;
	int status;

	pid = fork();
	if (pid < 0)
		return fault_sys(f, errno, "starting the daemon", NULL);
	if (pid == 0) {
		setsid();
		pid = fork();
		if (pid == 0)
			become_daemon(ready, log, sock, env);
		_exit(pid < 0);
	}
	do
		ended = waitpid(pid, &status, 0);
	while (ended < 0 && errno == EINTR);
	if (ended != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return fault_set(f, FAULT_RESOURCE_EXHAUSTED, EAGAIN, "cannot start the daemon");
	return 0;
}

static int await_ready(int fd, const char *log, struct fault *f)
{
	int64_t deadline = clock_mono() + READY_SECONDS * CLOCK_NS_PER_SEC;
	char text[512];
	size_t n = 0;

	while (n < sizeof(text) - 1) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int64_t left = (deadline - clock_mono()) / 1000000;
		ssize_t r = left <= 0 ? 0 : poll(&p, 1, (int)left);

		if (r < 0 && errno == EINTR)
			continue;
		if (r == 0)
			return fault_set(
				f, FAULT_DEADLINE_EXCEEDED, 0,
				"the daemon was started but is not ready after %d seconds; see %s",
				READY_SECONDS, log);
		r = read(fd, text + n, sizeof(text) - 1 - n);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			break;
		n += (size_t)r;
		if (text[0] == 'R' && (n == 1 || text[1] == '\n'))
			return 0;
	}
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return fault_set(f, FAULT_UNAVAILABLE, 0, "the daemon was started but ended%s%s; see %s",
			 *text ? ": " : "", text, log);
}

int autostart(const struct cli *cli, struct fault *f)
{
	const char *sock = cli_socket(cli);
	char *lock_path CLEANUP_FREE = mem_printf("%s.lock", sock);
	char *copy CLEANUP_FREE = mem_strdup(sock);
	char *log_path CLEANUP_FREE = mem_printf("%s/daemon.log", dirname(copy));
	int lock CLEANUP_CLOSE = -1, log CLEANUP_CLOSE = -1;
	int ready[2], r;
	char **env;

	if (geteuid() != 0)
		return fault_set(
			f, FAULT_PERMISSION_DENIED, 0,
			"no daemon listens on %s and only root can start one; start it with 'sudo davit serve'",
			sock);
	r = cli->socket ? check_folder(sock, f) : make_folders(sock, f);
	if (r < 0)
		return r;
	lock = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (lock < 0)
		return fault_sys(f, errno, "opening the start lock", lock_path);
	while (flock(lock, LOCK_EX) < 0) {
		if (errno != EINTR)
			return fault_sys(f, errno, "waiting for the start lock", lock_path);
	}
	if (daemon_listens(sock))
		return 0;
	log = open_log(log_path);
	if (log < 0)
		return fault_sys(f, errno, "opening the daemon's log", log_path);
	if (pipe2(ready, O_CLOEXEC) < 0)
		return fault_sys(f, errno, "making a pipe", NULL);
	env = daemon_env(cli);
	r = spawn(ready[1], log, sock, env, f);
	env_free(env);
	close(ready[1]);
	if (r == 0)
		r = await_ready(ready[0], log_path, f);
	close(ready[0]);
	return r;
}
