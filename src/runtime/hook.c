// SPDX-License-Identifier: Apache-2.0
/*
 * Hooks in the runtime's namespaces
 *
 * A hook gets the state JSON from a sealed memfd, so that no one has to feed it and it can read at leisure, its own environment and nothing of the
 * daemon's: no fds, no signal handlers or mask, a session of its own. Between clone and exec only system calls run, since the
 * daemon has threads; the parent sleeps until the exec (CLONE_VFORK, on a copy of its memory) and learns of its failure by a pipe
 * that the exec closes.
 */
#include "runtime/hook.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/sched.h>

#include "util/cleanup.h"
#include "util/fd.h"

static int add_string(json_object *o, const char *key, const char *value)
{
	json_object *v = json_object_new_string(value);

	if (!v || json_object_object_add(o, key, v) < 0) {
		json_object_put(v);
		return -ENOMEM;
	}
	return 0;
}

static int add_annotations(json_object *o, const struct spec *spec)
{
	json_object *a = json_object_new_object();

	if (!a)
		return -ENOMEM;
	if (json_object_object_add(o, "annotations", a) < 0) {
		json_object_put(a);
		return -ENOMEM;
	}
	for (size_t i = 0; i + 1 < spec->annotations.n; i += 2)
		if (add_string(a, spec->annotations.v[i], spec->annotations.v[i + 1]) < 0)
			return -ENOMEM;
	return 0;
}

int hook_state(const struct spec *spec, const char *id, const char *bundle, const char *status,
	       pid_t pid, char **json)
{
	const char *version = spec->oci_version ? spec->oci_version : "1.0.2";
	json_object *o = json_object_new_object(), *number;
	int r;

	if (!o)
		return -ENOMEM;
	r = add_string(o, "ociVersion", version);
	if (!r)
		r = add_string(o, "id", id);
	if (!r)
		r = add_string(o, "status", status);
	if (!r && pid > 0) {
		number = json_object_new_int(pid);
		if (!number || json_object_object_add(o, "pid", number) < 0) {
			json_object_put(number);
			r = -ENOMEM;
		}
	}
	if (!r)
		r = add_string(o, "bundle", bundle);
	if (!r && spec->annotations.n)
		r = add_annotations(o, spec);
	if (!r) {
		const char *text = json_object_to_json_string_ext(
			o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);

		*json = text ? strdup(text) : NULL;
		r = *json ? 0 : -ENOMEM;
	}
	json_object_put(o);
	return r;
}

static int state_fd(const char *json, int *out)
{
	int fd = memfd_create("state", MFD_CLOEXEC | MFD_ALLOW_SEALING), r;

	if (fd < 0)
		return -errno;
	r = fd_write_all(fd, json, strlen(json));
	if (!r && lseek(fd, 0, SEEK_SET) < 0)
		r = -errno;
	if (!r &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
		r = -errno;
	if (r < 0) {
		close(fd);
		return r;
	}
	*out = fd;
	return 0;
}

static void run(const struct spec_hook *hook, char *const *argv, char *const *envp, int state,
		int out, int status) __attribute__((noreturn));
static void run(const struct spec_hook *hook, char *const *argv, char *const *envp, int state,
		int out, int status)
{
	struct {
		void *handler;
		unsigned long flags;
		void *restorer;
		uint64_t mask;
	} act = { 0 };
	uint64_t none = 0;
	int err;

	/* CLONE_CLEAR_SIGHAND leaves what is ignored */
	for (int sig = 1; sig <= 64; sig++)
		(void)syscall(SYS_rt_sigaction, sig, &act, NULL, sizeof(none));
	(void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof(none));
	(void)setsid();
	/* all at or above 3, whatever they were, before 0 to 2 are taken */
	state = fcntl(state, F_DUPFD_CLOEXEC, 3);
	out = fcntl(out, F_DUPFD_CLOEXEC, 3);
	status = fcntl(status, F_DUPFD_CLOEXEC, 3);
	if (state >= 0 && out >= 0 && status >= 0 && dup2(state, 0) == 0 && dup2(out, 1) == 1 &&
	    dup2(out, 2) == 2) {
		if (status > 3)
			(void)syscall(SYS_close_range, 3, status - 1, 0);
		(void)syscall(SYS_close_range, status + 1, ~0u, 0);
		execve(hook->path, argv, envp);
	}
	err = errno;
	(void)!write(status, &err, sizeof(err));
	_exit(127);
}

int hook_spawn(const struct spec_hook *hook, const char *state_json, pid_t *pid, int *pidfd,
	       int *output_fd, struct fault *f)
{
	CLEANUP_CLOSE int state = -1, out_r = -1, out_w = -1, status_r = -1, status_w = -1;
	char *none[] = { NULL }, *path[] = { hook->path, NULL };
	int out[2], status[2], err = 0, fd = -1, r;
	struct clone_args args = {
		.flags = CLONE_PIDFD | CLONE_VFORK | CLONE_CLEAR_SIGHAND,
		.pidfd = (uint64_t)(uintptr_t)&fd,
		/* none: the exec sets SIGCHLD, and one that fails is nobody's to reap but ours */
		.exit_signal = 0,
	};
	long child;

	r = state_fd(state_json, &state);
	if (r < 0)
		return fault_sys(f, -r, "memfd for hook", hook->path);
	if (pipe2(out, O_CLOEXEC) < 0)
		return fault_sys(f, errno, "pipe for hook", hook->path);
	out_r = out[0];
	out_w = out[1];
	if (pipe2(status, O_CLOEXEC) < 0)
		return fault_sys(f, errno, "pipe for hook", hook->path);
	status_r = status[0];
	status_w = status[1];
	r = fd_nonblock(out_r, 1);
	if (r < 0)
		return fault_sys(f, -r, "pipe for hook", hook->path);
	child = syscall(SYS_clone3, &args, sizeof(args));
	if (child < 0)
		return fault_sys(f, errno, "clone for hook", hook->path);
	if (!child)
		run(hook, hook->args.n ? hook->args.v : path, hook->env.n ? hook->env.v : none,
		    state, out_w, status_w);
	close(TAKE_FD(status_w));
	if (read(status_r, &err, sizeof(err)) == (ssize_t)sizeof(err)) {
		siginfo_t info;

		while (waitid(P_PID, (id_t)child, &info, WEXITED | __WALL) < 0 && errno == EINTR)
			;
		close(fd);
		return fault_sys(f, err, "hook", hook->path);
	}
	*pid = (pid_t)child;
	*pidfd = fd;
	*output_fd = TAKE_FD(out_r);
	return 0;
}
