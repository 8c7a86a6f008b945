// SPDX-License-Identifier: Apache-2.0
/*
 * cgroups on this host: folders, joining, signals, freezing, removal, paths
 *
 * Everything is made below /davit-unit and removed again. Most needs root and mounted cgroups,
 * and is skipped loudly without.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "cgroup_kit.h"

#include "runtime/cgroup_internal.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/fd.h"

#define PARENT "/davit-unit"

static struct cgroup_host *host;

static int setup(void **state)
{
	(void)state;
	host = cgroup_kit_begin(PARENT);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	if (host)
		cgroup_prune(host, "ns");
	cgroup_host_free(host);
	host = NULL;
	return 0;
}

#define need_host()                                                                                \
	do {                                                                                       \
		if (!host)                                                                         \
			skip();                                                                    \
	} while (0)

static void path_of(const char *id, char *buf)
{
	struct fault f;

	assert_int_equal(cgroup_path_for(host, NULL, "ns", id, buf, PATH_MAX, &f), 0);
}

static struct cgroup *make(const char *id)
{
	char path[PATH_MAX];
	struct cgroup *cg = NULL;
	struct fault f = { 0 };

	path_of(id, path);
	if (cgroup_create(host, path, NULL, &cg, &f) < 0)
		fail_msg("%s", f.message);
	return cg;
}

static bool exists(size_t hierarchy, const char *path)
{
	struct stat st;

	return !fstatat(host->h[hierarchy].fd, path + 1, &st, 0);
}

/* A child in the group that sleeps; with chain, its own child sleeps as well. */
static pid_t put_sleeper(struct cgroup *cg, int grandchildren)
{
	struct cgroup_join join;
	struct fault f = { 0 };
	int ready[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	assert_int_equal(cgroup_join_open(cg, &join, &f), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		bool ok = cgroup_kit_join(&join);

		for (int i = 0; i < grandchildren; i++)
			if (!fork())
				break;
		if (write(ready[1], ok ? "y" : "n", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	cgroup_join_close(&join);
	assert_int_equal(join.n, 0);
	assert_int_equal(join.v2_dir, -1);
	for (int i = 0; i <= grandchildren; i++) {
		assert_int_equal(read(ready[0], &byte, 1), 1);
		assert_int_equal(byte, 'y');
	}
	close(ready[0]);
	close(ready[1]);
	return pid;
}

static void test_layout(void **state)
{
	(void)state;
	need_host();
	assert_true(host->n > 0);
	assert_non_null(cgroup_host_describe(host));
	assert_int_equal(cgroup_host_layout(host) == CGROUP_V1, host->v2 < 0);
	assert_false(cgroup_host_has(host, "nonsense"));
	assert_false(cgroup_host_has(host, "cp"));
	assert_false(cgroup_host_has(host, ""));
	if (cgroup_host_find(host, "cpu") >= 0)
		assert_true(cgroup_host_has(host, "cpu"));
}

static void test_mountinfo(void **state)
{
	char name[] = "/tmp/davit-unit-XXXXXX", text[4096], a[64], b[64], u[64];
	struct cgroup_host *h = NULL;
	struct fault f = { 0 };
	FILE *file;

	(void)state;
	assert_non_null(mkdtemp(name));
	snprintf(a, sizeof(a), "%s/cpu,cpuacct", name);
	snprintf(b, sizeof(b), "%s/a b", name);
	snprintf(u, sizeof(u), "%s/unified", name);
	assert_int_equal(mkdir(a, 0755) | mkdir(b, 0755) | mkdir(u, 0755), 0);
	snprintf(text, sizeof(text), "%s/cgroup.controllers", u);
	file = fopen(text, "w");
	fprintf(file, "hugetlb rdma\n");
	fclose(file);
	snprintf(text, sizeof(text), "%s/mountinfo", name);
	file = fopen(text, "w");
	fprintf(file,
		"31 23 0:28 / /sys rw,relatime - tmpfs tmpfs rw\n"
		"garbage\n"
		"32 31 0:29 / %s rw,relatime shared:1 master:2 - cgroup cgroup rw,xattr,cpu,cpuacct\n"
		"33 31 0:30 / %s/a\\040b rw - cgroup cgroup rw,xattr,name=systemd,release_agent=/x\n"
		"34 31 0:29 / %s/a\\040b rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
		"41 31 0:38 / %s rw,relatime - cgroup2 cgroup2 rw\n",
		a, name, name, u);
	fclose(file);
	assert_int_equal(cgroup_host_new_from(&h, text, "/p", &f), 0);
	assert_int_equal(cgroup_host_layout(h), CGROUP_HYBRID);
	assert_string_equal(cgroup_host_describe(h),
			    "hybrid: cpu cpuacct name=systemd + v2 (hugetlb rdma)");
	assert_int_equal(h->n, 3);
	assert_string_equal(h->h[1].mount, b);
	assert_true(cgroup_host_has(h, "cpuacct"));
	assert_true(cgroup_host_has(h, "name=systemd"));
	assert_true(cgroup_host_has(h, "rdma"));
	assert_true(cgroup_host_has(h, "freezer"));
	assert_true(cgroup_host_has(h, "devices"));
	assert_false(cgroup_host_has(h, "memory"));
	assert_int_equal(h->v2, 2);
	/* these folders are no cgroups, and nothing of libcgroup's */
	assert_false(h->h[0].lib);
	cgroup_host_free(h);

	file = fopen(text, "w");
	fprintf(file, "41 31 0:38 / %s rw,relatime - cgroup2 cgroup2 rw\n", u);
	fclose(file);
	assert_int_equal(cgroup_host_new_from(&h, text, "/p", &f), 0);
	assert_int_equal(cgroup_host_layout(h), CGROUP_V2);
	assert_string_equal(cgroup_host_describe(h), "v2: hugetlb rdma");
	cgroup_host_free(h);

	file = fopen(text, "w");
	fclose(file);
	assert_true(cgroup_host_new_from(&h, text, "/p", &f) < 0);
	assert_int_equal(f.code, FAULT_FAILED_PRECONDITION);
	assert_true(cgroup_host_new_from(&h, text, "relative", &f) < 0);
	assert_int_equal(f.code, FAULT_INVALID_ARGUMENT);
	assert_true(cgroup_host_new_from(&h, text, "/a/../b", &f) < 0);
	assert_true(cgroup_host_new_from(&h, text, "/", &f) < 0);

	unlink(text);
	snprintf(text, sizeof(text), "%s/cgroup.controllers", u);
	unlink(text);
	rmdir(a);
	rmdir(b);
	rmdir(u);
	assert_int_equal(rmdir(name), 0);
}

static void test_paths(void **state)
{
	static const struct {
		const char *in, *out; /* out NULL: refused */
	} cases[] = {
		{ NULL, PARENT "/ns/id" },
		{ "", PARENT "/ns/id" },
		{ "/x/y", "/x/y" },
		{ "/x//y/", "/x/y" },
		{ "x/y", PARENT "/x/y" },
		{ "/", NULL },
		{ "//", NULL },
		{ "/x/../y", NULL },
		{ "../y", NULL },
		{ "./y", NULL },
		{ "/x\ny", NULL },
		{ "user.slice:davit:web", "/user.slice/davit-web.scope" },
		{ "a-b-c.slice:davit:web", "/a.slice/a-b.slice/a-b-c.slice/davit-web.scope" },
		{ "::web", "/system.slice/web.scope" },
		{ "-.slice:p:n", "/p-n.scope" },
		{ ":p:a-b.slice", "/a.slice/a-b.slice" },
		{ "noslice:p:n", NULL },
		{ "a--b.slice:p:n", NULL },
		{ "a.slice:p:", NULL },
		{ "a.slice:p:x/y", NULL },
		{ "a:b", PARENT "/a:b" },
	};
	char buf[PATH_MAX];
	struct fault f;

	(void)state;
	need_host();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int r = cgroup_path_for(host, cases[i].in, "ns", "id", buf, sizeof(buf), &f);

		if (!cases[i].out) {
			assert_true(r < 0);
			assert_int_equal(f.code, FAULT_INVALID_ARGUMENT);
			continue;
		}
		assert_int_equal(r, 0);
		assert_string_equal(buf, cases[i].out);
	}
	assert_true(cgroup_path_for(host, "/a/long/one", "ns", "id", buf, 5, &f) < 0);
}

static void test_create_remove(void **state)
{
	struct cgroup *cg, *again = NULL;
	char path[PATH_MAX];
	struct fault f = { 0 };

	(void)state;
	need_host();
	cg = make("one");
	path_of("one", path);
	assert_string_equal(cgroup_path(cg), path);
	for (size_t i = 0; i < host->n; i++)
		assert_true(exists(i, path));
	assert_int_equal(cgroup_create(host, path, NULL, &again, &f), -EEXIST);
	assert_int_equal(f.code, FAULT_ALREADY_EXISTS);
	assert_null(again);
	/* the refusal took nothing away */
	for (size_t i = 0; i < host->n; i++)
		assert_true(exists(i, path));
	assert_int_equal(cgroup_populated(cg), 0);
	assert_int_equal(cgroup_remove(cg, &f), 0);
	for (size_t i = 0; i < host->n; i++)
		assert_false(exists(i, path));
	assert_int_equal(cgroup_remove(cg, &f), 0);
	cgroup_free(cg);
	cgroup_free(NULL);
}

static void test_exists_in_one(void **state)
{
	struct cgroup *cg = NULL;
	char path[PATH_MAX];
	struct fault f = { 0 };
	size_t last;

	(void)state;
	need_host();
	cg = make("warm"); /* the parents */
	assert_int_equal(cgroup_remove(cg, &f), 0);
	cgroup_free(cg);
	path_of("half", path);
	last = host->n - 1;
	assert_int_equal(mkdirat(host->h[last].fd, path + 1, 0755), 0);
	assert_int_equal(cgroup_create(host, path, NULL, &cg, &f), -EEXIST);
	assert_int_equal(f.code, FAULT_ALREADY_EXISTS);
	for (size_t i = 0; i < last; i++)
		assert_false(exists(i, path));
	assert_true(exists(last, path));
	assert_int_equal(unlinkat(host->h[last].fd, path + 1, AT_REMOVEDIR), 0);
}

static void test_parents_vanish(void **state)
{
	struct cgroup *cg = NULL;
	char path[PATH_MAX];
	struct fault f = { 0 };

	(void)state;
	need_host();
	for (int i = 0; i < 3; i++) {
		cg = make("deep");
		assert_int_equal(cgroup_remove(cg, &f), 0);
		cgroup_free(cg);
		cgroup_prune(host, "ns");
		for (size_t k = 0; k < host->n; k++)
			assert_false(exists(k, PARENT));
	}
	assert_int_equal(
		cgroup_path_for(host, "/davit-unit/a/b/c/d", "ns", "x", path, sizeof(path), &f), 0);
	assert_int_equal(cgroup_create(host, path, NULL, &cg, &f), 0);
	cgroup_free(cg);
	/* a handle on what holds it: removal takes the children along */
	assert_int_equal(cgroup_open(host, "/davit-unit/a", &cg), 0);
	assert_int_equal(cgroup_remove(cg, &f), 0);
	cgroup_free(cg);
	for (size_t k = 0; k < host->n; k++)
		assert_false(exists(k, "/davit-unit/a"));
	assert_true(cgroup_open(host, "/", &cg) < 0);
	assert_true(cgroup_open(host, "/a/../b", &cg) < 0);
}

static void test_cpuset(void **state)
{
	CLEANUP_FREE char *cpus = NULL, *mems = NULL, *leaf = NULL;
	struct cgroup *cg = NULL;
	struct fault f = { 0 };

	(void)state;
	need_host();
	if (host->cpuset < 0)
		skip();
	/* below a folder that somebody made and did not fill */
	assert_int_equal(cgroup_open(host, "/davit-unit/raw", &cg), 0);
	assert_int_equal(cgroup_parents_make(host, "/davit-unit/raw", &f), 0);
	for (size_t i = 0; i < host->n; i++)
		assert_int_equal(mkdirat(host->h[i].fd, "davit-unit/raw", 0755), 0);
	cgroup_file_write(host, host->cpuset, "/davit-unit/raw", "cgroup.clone_children", "0");
	cgroup_free(cg);
	assert_int_equal(cgroup_create(host, "/davit-unit/raw/leaf", NULL, &cg, &f), 0);
	assert_int_equal(cgroup_file_read(host, host->cpuset, "/", "cpuset.cpus", &cpus), 0);
	assert_int_equal(
		cgroup_file_read(host, host->cpuset, "/davit-unit/raw/leaf", "cpuset.cpus", &leaf),
		0);
	assert_string_equal(cpus, leaf);
	assert_int_equal(
		cgroup_file_read(host, host->cpuset, "/davit-unit/raw/leaf", "cpuset.mems", &mems),
		0);
	assert_true(mems[0] >= '0');
	assert_int_equal(cgroup_remove(cg, &f), 0);
	cgroup_free(cg);
	assert_int_equal(cgroup_open(host, "/davit-unit/raw", &cg), 0);
	assert_int_equal(cgroup_remove(cg, &f), 0);
	cgroup_free(cg);
}

static void test_join_kill(void **state)
{
	struct cgroup *cg;
	struct fault f = { 0 };
	pid_t pid, *pids = NULL;
	size_t n = 0;
	int status, r;

	(void)state;
	need_host();
	cg = make("kill");
	pid = put_sleeper(cg, 3);
	assert_int_equal(cgroup_populated(cg), 1);
	assert_int_equal(cgroup_pids(cg, &pids, &n, &f), 0);
	assert_int_equal(n, 4);
	assert_true(pids[0] == pid || pids[1] == pid || pids[2] == pid || pids[3] == pid);
	free(pids);
	assert_int_equal(cgroup_has(cg, pid), 1);
	assert_int_equal(cgroup_has(cg, getpid()), 0);
	r = cgroup_remove(cg, &f);
	assert_int_equal(r, -EBUSY);
	assert_int_equal(f.code, FAULT_FAILED_PRECONDITION);
	assert_int_equal(cgroup_signal(cg, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGKILL);
	/* the others may need a moment, which is what removal waits for */
	assert_int_equal(cgroup_remove(cg, &f), 0);
	cgroup_free(cg);
}

static void test_signal_by_pid(void **state)
{
	int v2 = host ? host->v2 : -1, freezer = host ? host->freezer : -1, status;
	struct cgroup *cg;
	struct fault f = { 0 };
	pid_t pid;

	(void)state;
	need_host();
	cg = make("term");
	pid = put_sleeper(cg, 2);
	assert_int_equal(cgroup_signal(cg, 0), 0);
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
	assert_int_equal(cgroup_signal(cg, SIGTERM), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WTERMSIG(status), SIGTERM);
	assert_int_equal(cgroup_remove(cg, &f), 0);
	cgroup_free(cg);

	/* as on a host without v2: frozen, killed one by one, thawed */
	if (freezer < 0)
		skip();
	cg = make("v1kill");
	pid = put_sleeper(cg, 2);
	host->v2 = -1;
	assert_int_equal(cgroup_populated(cg), 1);
	assert_int_equal(cgroup_events_open(cg), -1);
	assert_int_equal(cgroup_signal(cg, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WTERMSIG(status), SIGKILL);
	host->v2 = v2;
	assert_int_equal(cgroup_remove(cg, &f), 0);
	cgroup_free(cg);
}

static int wait_frozen(struct cgroup *cg, int want)
{
	struct timespec ts = { .tv_nsec = 1000000 };
	int64_t end = clock_mono() + 2 * CLOCK_NS_PER_SEC;
	int r;

	do {
		r = cgroup_frozen(cg);
		if (r < 0 || r == want)
			return r;
		nanosleep(&ts, NULL);
	} while (clock_mono() < end);
	return r;
}

static void test_freeze(void **state)
{
	struct pollfd p = { .events = POLLPRI };
	struct fault f = { 0 };
	struct cgroup *cg;
	char text[256];
	int status;
	pid_t pid;

	(void)state;
	need_host();
	cg = make("freeze");
	pid = put_sleeper(cg, 1);
	assert_int_equal(cgroup_frozen(cg), 0);
	p.fd = cgroup_events_open(cg);
	if (host->v2 >= 0) {
		assert_true(p.fd >= 0);
		assert_true(read(p.fd, text, sizeof(text)) > 0);
		assert_int_equal(poll(&p, 1, 0), 0);
	}
	assert_int_equal(cgroup_freeze(cg, true, &f), 0);
	if (p.fd >= 0) {
		assert_int_equal(poll(&p, 1, 2000), 1);
		assert_true(p.revents & POLLPRI);
	}
	assert_int_equal(wait_frozen(cg, 1), 1);
	assert_int_equal(cgroup_freeze(cg, false, &f), 0);
	assert_int_equal(wait_frozen(cg, 0), 0);
	/* killed while frozen */
	assert_int_equal(cgroup_freeze(cg, true, &f), 0);
	assert_int_equal(wait_frozen(cg, 1), 1);
	assert_int_equal(cgroup_signal(cg, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (p.fd >= 0)
		close(p.fd);
	assert_int_equal(cgroup_remove(cg, &f), 0);
	assert_true(cgroup_frozen(cg) < 0);
	assert_true(cgroup_freeze(cg, true, &f) < 0);
	assert_int_equal(f.code, FAULT_NOT_FOUND);
	cgroup_free(cg);
}

static void test_freeze_v1(void **state)
{
	struct fault f = { 0 };
	struct cgroup *cg;
	int v2, status;
	pid_t pid;

	(void)state;
	need_host();
	if (host->freezer < 0)
		skip();
	cg = make("freeze1");
	pid = put_sleeper(cg, 1);
	v2 = host->v2;
	host->v2 = -1;
	assert_int_equal(cgroup_freeze(cg, true, &f), 0);
	assert_int_equal(wait_frozen(cg, 1), 1);
	assert_int_equal(cgroup_freeze(cg, false, &f), 0);
	assert_int_equal(wait_frozen(cg, 0), 0);
	/* SIGKILL waits for the thaw here */
	assert_int_equal(cgroup_freeze(cg, true, &f), 0);
	assert_int_equal(wait_frozen(cg, 1), 1);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
	assert_int_equal(cgroup_thaw_killed(cg), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	host->v2 = v2;
	assert_int_equal(cgroup_signal(cg, SIGKILL), 0); /* its child */
	assert_int_equal(cgroup_remove(cg, &f), 0);
	cgroup_free(cg);
}

/* The v2 code by itself, on the v2 part of a hybrid host. */
static void test_v2_alone(void **state)
{
	char name[] = "/tmp/davit-unit-XXXXXX";
	CLEANUP_FREE char *controllers = NULL, *down = NULL, *after = NULL;
	struct cgroup_host *hybrid = host, *h = NULL;
	struct fault f = { 0 };
	struct cgroup *cg = NULL;
	int fd, status;
	pid_t pid;

	(void)state;
	need_host();
	if (host->v2 < 0)
		skip();
	fd = mkstemp(name);
	assert_true(fd >= 0);
	dprintf(fd, "41 31 0:38 / %s rw,relatime - cgroup2 cgroup2 rw\n", host->h[host->v2].mount);
	close(fd);
	assert_int_equal(cgroup_host_new_from(&h, name, "/davit-unit2", &f), 0);
	unlink(name);
	assert_int_equal(cgroup_host_layout(h), CGROUP_V2);
	assert_int_equal(cgroup_file_read(h, h->v2, "/", "cgroup.subtree_control", &down), 0);
	assert_int_equal(cgroup_create(h, "/davit-unit2/ns/a", NULL, &cg, &f), 0);
	/* all controllers are handed down */
	assert_int_equal(
		cgroup_file_read(h, h->v2, "/davit-unit2/ns/a", "cgroup.controllers", &controllers),
		0);
	controllers[strcspn(controllers, "\n")] = 0;
	assert_int_equal(strncmp(h->h[0].names + 1, controllers, strlen(controllers)), 0);
	host = h;
	pid = put_sleeper(cg, 2);
	assert_int_equal(cgroup_populated(cg), 1);
	assert_int_equal(cgroup_freeze(cg, true, &f), 0);
	assert_int_equal(wait_frozen(cg, 1), 1);
	assert_int_equal(cgroup_signal(cg, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(cgroup_remove(cg, &f), 0);
	cgroup_free(cg);
	cgroup_prune(h, "ns");
	assert_false(exists(0, "/davit-unit2"));
	host = hybrid;
	/* what the test switched on for the whole host goes off again */
	assert_int_equal(cgroup_file_read(h, h->v2, "/", "cgroup.subtree_control", &after), 0);
	for (char *save = NULL, *c = strtok_r(after, " \n", &save); c;
	     c = strtok_r(NULL, " \n", &save)) {
		snprintf(name, sizeof(name), "-%.14s", c);
		if (!strstr(down, c))
			assert_int_equal(
				cgroup_file_write(h, h->v2, "/", "cgroup.subtree_control", name),
				0);
	}
	cgroup_host_free(h);
}

/* A daemon whose own group is delegated to it: containers go below it, the daemon into a leaf. */
static int delegated_daemon(const char *mountinfo)
{
	CLEANUP_FREE char *self = NULL, *guardian = NULL;
	struct cgroup_host *h = NULL;
	char path[PATH_MAX], proc[64];
	struct cgroup *cg = NULL;
	struct fault f = { 0 };

	/* twice, as after a restart of the reactor */
	for (int i = 0; i < 2; i++) {
		if (cgroup_host_new_from(&h, mountinfo, "/davit", &f) < 0 ||
		    cgroup_path_for(h, NULL, "ns", "id", path, sizeof(path), &f) < 0)
			return 10;
		if (strcmp(path, "/davit-unit3/unit/davit/ns/id"))
			return 11;
		if (i == 0)
			cgroup_host_free(h);
	}
	snprintf(proc, sizeof(proc), "/proc/%d/cgroup", (int)getppid());
	if (fd_read_file(AT_FDCWD, "/proc/self/cgroup", 4096, &self, NULL) ||
	    fd_read_file(AT_FDCWD, proc, 4096, &guardian, NULL))
		return 12;
	if (!strstr(self, "0::/davit-unit3/unit/" CGROUP_DAEMON_LEAF "\n"))
		return 13;
	if (!strstr(guardian, "0::/davit-unit3/unit/" CGROUP_DAEMON_LEAF "\n"))
		return 14;
	if (cgroup_create(h, path, NULL, &cg, &f) < 0) {
		fprintf(stderr, "%s\n", f.message);
		return 15;
	}
	if (cgroup_remove(cg, &f) < 0)
		return 16;
	cgroup_free(cg);
	cgroup_prune(h, "ns");
	cgroup_host_free(h);
	return 0;
}

static void test_delegated(void **state)
{
	char name[] = "/tmp/davit-unit-XXXXXX", full[PATH_MAX];
	CLEANUP_FREE char *down = NULL, *after = NULL;
	struct cgroup *cg = NULL;
	struct fault f = { 0 };
	int fd, status, tries = 0;
	pid_t pid;

	(void)state;
	need_host();
	if (host->v2 < 0)
		skip();
	assert_int_equal(cgroup_file_read(host, host->v2, "/", "cgroup.subtree_control", &down), 0);
	fd = mkstemp(name);
	assert_true(fd >= 0);
	dprintf(fd, "41 31 0:38 / %s rw - cgroup2 cgroup2 rw\n", host->h[host->v2].mount);
	close(fd);
	assert_true(!mkdirat(host->h[host->v2].fd, "davit-unit3", 0755));
	assert_true(!mkdirat(host->h[host->v2].fd, "davit-unit3/unit", 0755));
	snprintf(full, sizeof(full), "%s/davit-unit3/unit", host->h[host->v2].mount);
	assert_int_equal(setxattr(full, "trusted.delegate", "1", 1, 0), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		/* the guardian, with the reactor as its child */
		if (cgroup_file_write(host, host->v2, "/davit-unit3/unit", "cgroup.procs", "0"))
			_exit(20);
		pid = fork();
		if (!pid)
			_exit(delegated_daemon(name));
		if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
			_exit(21);
		_exit(WEXITSTATUS(status));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	unlink(name);
	assert_int_equal(cgroup_open(host, "/davit-unit3", &cg), 0);
	while (cgroup_remove(cg, &f) == -EBUSY && ++tries < 5)
		;
	cgroup_free(cg);
	assert_false(exists((size_t)host->v2, "/davit-unit3"));
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(cgroup_file_read(host, host->v2, "/", "cgroup.subtree_control", &after),
			 0);
	for (char *save = NULL, *c = strtok_r(after, " \n", &save); c;
	     c = strtok_r(NULL, " \n", &save)) {
		snprintf(name, sizeof(name), "-%.14s", c);
		if (!strstr(down, c))
			cgroup_file_write(host, host->v2, "/", "cgroup.subtree_control", name);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layout),	      cmocka_unit_test(test_mountinfo),
		cmocka_unit_test(test_paths),	      cmocka_unit_test(test_create_remove),
		cmocka_unit_test(test_exists_in_one), cmocka_unit_test(test_parents_vanish),
		cmocka_unit_test(test_cpuset),	      cmocka_unit_test(test_join_kill),
		cmocka_unit_test(test_signal_by_pid), cmocka_unit_test(test_freeze),
		cmocka_unit_test(test_freeze_v1),     cmocka_unit_test(test_v2_alone),
		cmocka_unit_test(test_delegated),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
