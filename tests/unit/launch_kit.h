// SPDX-License-Identifier: Apache-2.0
/*
 * A small owner of launches for tests: real containers of a busybox rootfs, driven by poll()
 *
 * kit_run launches a spec (JSON text), answers the events as a daemon would, collects what the process writes, and
 * waits for its end. The launched process is reaped here; nothing is left behind.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/cgroup.h"
#include "runtime/launch.h"
#include "util/fd.h"

#define KIT_UNUSED __attribute__((unused))

struct kit {
	char dir[64], rootfs[96];
};

struct kit_run {
	/* in */
	struct cgroup *cgroup;
	struct seccomp_program *seccomp;
	const struct launch_mount *mounts;
	size_t n_mounts;
	const char *rootfs_dir, *bundle;
	bool terminal, no_pivot;
	pid_t join;
	int join_pidfd;
	const struct spec *container;
	bool stay; /* leaves the started process running: pid and pidfd are the caller's */
	bool hold; /* leaves it waiting for its start, in launch */
	bool stdin_null;
	uint16_t width, height;
	/* called when the parent's hooks are due, and before the start; may be NULL */
	void (*on_hooks)(struct kit_run *k);
	void (*on_ready)(struct kit_run *k);
	void *user;
	/* out */
	int r; /* of launch_new or launch_spawn */
	bool at_new; /* r is launch_new's, or the spec reader's */
	struct fault fault;
	bool ready, started, failed, hooks, listener;
	int status; /* exit status, 128 + signal */
	char out[65536];
	size_t used;
	pid_t pid;
	int pidfd, listener_fd;
	struct launch *launch;
	struct spec *spec;
};

static KIT_UNUSED int kit_try(const char *line)
{
	pid_t pid = fork();
	int st;

	if (!pid) {
		execl("/bin/sh", "sh", "-c", line, (char *)NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &st, 0), pid);
	return st;
}

static void kit_system(const char *fmt, ...) __attribute__((format(printf, 1, 2), unused));
static void kit_system(const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	int st;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	st = kit_try(line);
	if (st)
		fail_msg("%s: status %d", line, st);
}

static KIT_UNUSED int kit_setup(void **state)
{
	struct kit *k = calloc(1, sizeof(*k));

	if (geteuid()) {
		free(k);
		return -1;
	}
	strcpy(k->dir, "/tmp/davit-launch-XXXXXX");
	if (!mkdtemp(k->dir))
		return -1;
	chmod(k->dir, 0755);
	snprintf(k->rootfs, sizeof(k->rootfs), "%s/rootfs", k->dir);
	kit_system(
		"mkdir -p %s/bin %s/proc %s/sys %s/dev %s/etc %s/tmp %s/root && cp /bin/busybox %s/bin/busybox && "
		"for i in sh cat ls true false id echo stat readlink mount hostname sleep env tty stty touch mkdir grep head cut "
		"ip nproc dmesg test chmod mknod ps kill pwd wc ln od sort tr; do ln -sf busybox %s/bin/$i; done",
		k->rootfs, k->rootfs, k->rootfs, k->rootfs, k->rootfs, k->rootfs, k->rootfs,
		k->rootfs, k->rootfs);
	kit_system(
		"printf 'root:x:0:0:root:/root:/bin/sh\\nuser:x:1000:1000::/home/user:/bin/sh\\n' > %s/etc/passwd",
		k->rootfs);
	*state = k;
	return 0;
}

static KIT_UNUSED int kit_teardown(void **state)
{
	struct kit *k = *state;

	kit_system("rm -rf --one-file-system %s", k->dir);
	free(k);
	return 0;
}

#define KIT_NS "{\"type\":\"pid\"},{\"type\":\"mount\"},{\"type\":\"ipc\"},{\"type\":\"uts\"}"
#define KIT_CAPS                                                                                                          \
	"[\"CAP_CHOWN\",\"CAP_DAC_OVERRIDE\",\"CAP_FSETID\",\"CAP_FOWNER\",\"CAP_MKNOD\",\"CAP_NET_RAW\",\"CAP_SETGID\"," \
	"\"CAP_SETUID\",\"CAP_SETPCAP\",\"CAP_NET_BIND_SERVICE\",\"CAP_SYS_CHROOT\",\"CAP_KILL\"]"
#define KIT_MOUNTS                                                                                                                  \
	"{\"destination\":\"/proc\",\"type\":\"proc\",\"source\":\"proc\",\"options\":[\"nosuid\",\"noexec\",\"nodev\"]},"          \
	"{\"destination\":\"/dev\",\"type\":\"tmpfs\",\"source\":\"tmpfs\",\"options\":[\"nosuid\",\"mode=755\",\"size=65536k\"]}," \
	"{\"destination\":\"/dev/pts\",\"type\":\"devpts\",\"source\":\"devpts\",\"options\":[\"nosuid\",\"noexec\","               \
	"\"newinstance\",\"ptmxmode=0666\",\"mode=0620\"]},"                                                                        \
	"{\"destination\":\"/dev/shm\",\"type\":\"tmpfs\",\"source\":\"shm\",\"options\":[\"nosuid\",\"noexec\",\"nodev\","         \
	"\"mode=1777\",\"size=65536k\"]}"

struct kit_parts { /* JSON, each may be NULL */
	const char *sh; /* a shell script to run, else args */
	const char *args; /* "[\"/bin/true\"]" */
	const char *process; /* further members of process, with a comma before */
	const char *caps; /* instead of KIT_CAPS for all five sets' usual four */
	const char *mounts; /* after KIT_MOUNTS, with a comma before */
	const char *all_mounts; /* instead */
	const char *ns; /* instead of KIT_NS */
	const char *lin; /* further members of linux, with a comma before */
	const char *root; /* root.path, NULL: the kit's */
	const char *top; /* further members of the spec, with a comma before */
	const char *env; /* "\"PATH=…\"" */
	bool root_ro;
};

/* A spec's JSON; the caller frees it. */
static KIT_UNUSED char *kit_json(const struct kit *k, const struct kit_parts *p)
{
	char script[8192] = "", *out = NULL;
	const char *caps = p->caps ? p->caps : KIT_CAPS;

	if (p->sh) {
		size_t at = 0;

		at += (size_t)snprintf(script, sizeof(script), "[\"/bin/sh\",\"-c\",\"");
		for (const char *s = p->sh; *s && at < sizeof(script) - 8; s++) {
			if (*s == '"' || *s == '\\')
				script[at++] = '\\';
			if (*s == '\n') {
				script[at++] = '\\';
				script[at++] = 'n';
			} else {
				script[at++] = *s;
			}
		}
		strcpy(script + at, "\"]");
	}
	assert_true(
		asprintf(
			&out,
			"{\"ociVersion\":\"1.3.0\",\"process\":{\"args\":%s,\"env\":[%s],\"cwd\":\"/\","
			"\"capabilities\":{\"bounding\":%s,\"effective\":%s,\"permitted\":%s}%s},"
			"\"root\":{\"path\":\"%s\",\"readonly\":%s},\"mounts\":[%s%s],\"linux\":{\"namespaces\":[%s]%s}%s}",
			p->sh	  ? script
			: p->args ? p->args
				  : "[\"/bin/true\"]",
			p->env ? p->env : "\"PATH=/bin\"", caps, caps, caps,
			p->process ? p->process : "", p->root ? p->root : k->rootfs,
			p->root_ro ? "true" : "false", p->all_mounts ? p->all_mounts : KIT_MOUNTS,
			p->mounts ? p->mounts : "", p->ns ? p->ns : KIT_NS, p->lin ? p->lin : "",
			p->top ? p->top : "") > 0);
	return out;
}

static inline void kit_drain(struct kit_run *k, int fd)
{
	ssize_t n;

	while (k->used < sizeof(k->out) - 1 &&
	       (n = read(fd, k->out + k->used, sizeof(k->out) - 1 - k->used)) > 0)
		k->used += (size_t)n;
	k->out[k->used] = 0;
}

static inline void kit_reap(struct kit_run *k)
{
	int st = 0;

	assert_int_equal(waitpid(k->pid, &st, 0), k->pid);
	k->status = WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
	close(k->pidfd);
	k->pidfd = -1;
}

static inline void kit_events(struct kit_run *k, int *out)
{
	for (;;) {
		struct pollfd p[2] = { { .fd = launch_fd(k->launch), .events = POLLIN },
				       { .fd = *out, .events = POLLIN } };

		assert_true(poll(p, 2, 20000) > 0);
		if (p[1].revents)
			kit_drain(k, *out);
		if (!p[0].revents)
			continue;
		switch (launch_read(k->launch, &k->fault)) {
		case LAUNCH_AGAIN:
			break;
		case LAUNCH_TTY:
			*out = launch_take_fd(k->launch);
			assert_true(*out >= 0);
			fd_nonblock(*out, 1);
			break;
		case LAUNCH_LISTENER:
			k->listener = true;
			k->listener_fd = launch_take_fd(k->launch);
			assert_int_equal(launch_continue(k->launch), 0);
			break;
		case LAUNCH_HOOKS:
			k->hooks = true;
			if (k->on_hooks)
				k->on_hooks(k);
			assert_int_equal(launch_continue(k->launch), 0);
			break;
		case LAUNCH_READY:
			k->ready = true;
			if (k->on_ready)
				k->on_ready(k);
			if (k->hold)
				return;
			assert_int_equal(launch_start(k->launch), 0);
			break;
		case LAUNCH_STARTED:
			k->started = true;
			return;
		case LAUNCH_FAILED:
			k->failed = true;
			return;
		}
	}
}

static KIT_UNUSED void kit_run_spec(struct kit_run *k, struct spec *spec)
{
	int pipes[2], out;
	struct launch_request r = {
		.spec = spec,
		.id = "test",
		.bundle = k->bundle ? k->bundle : "",
		.rootfs = k->mounts,
		.n_rootfs = k->n_mounts,
		.rootfs_dir = k->rootfs_dir,
		.terminal = k->terminal,
		.width = k->width,
		.height = k->height,
		.no_pivot_root = k->no_pivot,
		.cgroup = k->cgroup,
		.seccomp = k->seccomp,
		.join_pid = k->join,
		.join_pidfd = k->join ? k->join_pidfd : -1,
		.container_spec = k->container,
	};

	k->pidfd = k->listener_fd = -1;
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	r.stdio[0] = -1;
	r.stdio[1] = r.stdio[2] = pipes[1];
	fd_nonblock(pipes[0], 1);
	k->r = launch_new(&k->launch, &r, &k->fault);
	k->at_new = k->r < 0;
	if (!k->r)
		k->r = launch_spawn(k->launch, &k->fault);
	close(pipes[1]);
	if (k->r < 0) {
		if (!k->at_new)
			launch_free(k->launch);
		k->launch = NULL;
		close(pipes[0]);
		return;
	}
	k->pid = launch_pid(k->launch);
	assert_true(k->pid > 0);
	out = pipes[0];
	kit_events(k, &out);
	if (k->hold || (k->stay && k->started)) {
		k->pidfd = launch_take_pidfd(k->launch);
		if (!k->hold) {
			launch_free(k->launch);
			k->launch = NULL;
		}
		/* what it writes is not wanted any more, and must not stop it */
		if (out != pipes[0])
			close(pipes[0]);
		(void)fcntl(out, F_SETFD, FD_CLOEXEC);
		return;
	}
	k->pidfd = launch_take_pidfd(k->launch);
	launch_free(k->launch);
	k->launch = NULL;
	for (;;) {
		struct pollfd p[2] = { { .fd = k->pidfd, .events = POLLIN },
				       { .fd = out, .events = POLLIN } };

		assert_true(poll(p, 2, 20000) > 0);
		kit_drain(k, out);
		if (p[0].revents)
			break;
		if (p[1].revents & (POLLHUP | POLLERR) && !(p[1].revents & POLLIN)) {
			struct pollfd q = { .fd = k->pidfd, .events = POLLIN };

			assert_true(poll(&q, 1, 20000) > 0);
			break;
		}
	}
	kit_reap(k);
	kit_drain(k, out);
	close(out);
	if (out != pipes[0])
		close(pipes[0]);
}

static KIT_UNUSED void kit_run(struct kit_run *k, const struct kit *kit, const struct kit_parts *p)
{
	char *json = kit_json(kit, p);

	k->r = spec_parse_text(json, strlen(json), &k->spec, &k->fault);
	free(json);
	/* who refuses, the reader or the launch, is all the same here */
	k->at_new = k->r < 0;
	if (!k->r)
		kit_run_spec(k, k->spec);
}

static KIT_UNUSED void kit_done(struct kit_run *k)
{
	if (k->launch)
		launch_free(k->launch);
	spec_free(k->spec);
	fd_close(&k->listener_fd);
	free(k);
}

static KIT_UNUSED struct kit_run *kit_new(void)
{
	struct kit_run *k = calloc(1, sizeof(*k));

	assert_non_null(k);
	k->pidfd = k->listener_fd = -1;
	return k;
}

static KIT_UNUSED void kit_show(const struct kit_run *k)
{
	if (k->fault.message[0] && (k->failed || k->r < 0))
		print_message("fault: %s [%s|%s|%d] log: %s\n", k->fault.message, k->fault.step,
			      k->fault.path, k->fault.exit_code, k->fault.log);
	if (k->used)
		print_message("%s\n", k->out);
}

/* Ran to its end with status 0. */
#define kit_ok(k)                                                                                  \
	do {                                                                                       \
		if ((k)->r || (k)->failed || (k)->status)                                          \
			kit_show(k);                                                               \
		assert_int_equal((k)->r, 0);                                                       \
		assert_true((k)->started);                                                         \
		assert_int_equal((k)->status, 0);                                                  \
	} while (0)

/* Text that has to be in the output. */
#define kit_has(k, text)                                                                           \
	do {                                                                                       \
		if (!strstr((k)->out, text)) {                                                     \
			kit_show(k);                                                               \
			fail_msg("not in the output: %s", text);                                   \
		}                                                                                  \
	} while (0)

/* The host's cgroups with a parent of this process' own, and a group below it. */
static KIT_UNUSED struct cgroup_host *kit_cgroups(char *parent, size_t size)
{
	struct cgroup_host *host = NULL;
	struct fault f = { 0 };

	snprintf(parent, size, "/davit-launch-%d", (int)getpid());
	if (cgroup_host_new(&host, parent, &f) < 0)
		fail_msg("%s", f.message);
	return host;
}

static KIT_UNUSED struct cgroup *kit_cgroup(struct cgroup_host *host, const char *parent)
{
	struct cgroup *cg = NULL;
	struct fault f = { 0 };
	char path[128];

	snprintf(path, sizeof(path), "%s/a", parent);
	if (cgroup_create(host, path, NULL, &cg, &f) < 0)
		fail_msg("%s", f.message);
	return cg;
}

static KIT_UNUSED void kit_cgroup_end(struct cgroup *cg)
{
	struct fault f = { 0 };

	if (cgroup_remove(cg, &f) < 0)
		fail_msg("%s", f.message);
	cgroup_free(cg);
}

static KIT_UNUSED void kit_cgroups_end(struct cgroup_host *host, const char *parent)
{
	cgroup_prune(host, "");
	cgroup_host_free(host);
	kit_system("for d in /sys/fs/cgroup/*%s; do rmdir $d 2>/dev/null; done; true", parent);
}

static KIT_UNUSED unsigned kit_lines(const char *path, const char *with)
{
	FILE *f = fopen(path, "re");
	char line[4096];
	unsigned n = 0;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		n += !with || strstr(line, with);
	fclose(f);
	return n;
}

static KIT_UNUSED unsigned kit_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}
