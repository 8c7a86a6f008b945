// SPDX-License-Identifier: Apache-2.0
/*
 * A fake criu, for tests: called like criu, it does what criu does at davit's side of things
 *
 * `dump` stops the tasks, sends a set of image files with content that can be told again, runs the
 * action script at each stage and lets the tasks go or ends them. `restore` reads the same files
 * back, checks every byte, and starts a task that stands for the restored one. Logs, statistics and
 * pidfile are written where criu writes them. What goes wrong on the way is ordered by a file: see
 * fake_conf.h; faults in the stream: see fake_stream.h; and here
 *   no_pidfile       of a restore
 *   hang_end         of a dump that has written all: it never ends, nor lets the tasks go
 *   hang_after       of a dump that has let the tasks go, or ended them: it never ends
 *   killed_end       of a dump, killed behind its last hook: the tasks are as they were
 *   fail_late        a restore that fails when its task is there and the post-restore hook was run
 *   hang_late        a restore that never lets its task go, nor ends, when the post-restore hook was run
 *   hook_fails       a stage's script (its name in place of an image) counts as failed
 * It needs nothing but libc.
 */
#include <getopt.h>

#include "fake_stream.h"

#define FAKE_HOOK_FAILED 255

static struct fake_tree tree;
static struct fake_task task;

static void fake_cleanup(struct fake *k)
{
	fake_tree_release(k, &tree, false);
	fake_task_kill(k, &task);
}

static void fake_stage(struct fake *k, const char *stage)
{
	char *argv[] = { (char *)k->action_script, NULL }, text[64];
	bool fails = fake_is(k, "hook_fails") && !strcmp(k->at, stage);
	int status = 0;
	pid_t pid;

	if (!k->action_script)
		return;
	fake_log(k, "Running %s scripts", stage);
	setenv("CRTOOLS_SCRIPT_ACTION", stage, 1);
	snprintf(text, sizeof(text), "/proc/%d/fd/%d", (int)getpid(), k->images_fd);
	setenv("CRTOOLS_IMAGE_DIR", text, 1);
	if (k->init) {
		snprintf(text, sizeof(text), "%d", (int)k->init);
		setenv("CRTOOLS_INIT_PID", text, 1);
	}
	pid = fork();
	if (!pid) {
		execvp(argv[0], argv);
		_exit(1);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		status = -1;
	unsetenv("CRTOOLS_SCRIPT_ACTION");
	fake_trace(k, "stage %s %d", stage, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
	/* its word alone has no weight at this stage */
	if ((!status && !fails) || !strcmp(stage, "pre-resume") || !strcmp(stage, "post-resume"))
		return;
	fake_log(k, "Error (criu/action-scripts.c:120): Script %s exited with %d", k->action_script,
		 status);
	fake_end(k, !strcmp(stage, "post-dump") ? FAKE_HOOK_FAILED : 1);
}

static void fake_put(FILE *f, uint64_t v)
{
	for (; v > 127; v >>= 7)
		fputc((int)(v & 127) | 128, f);
	fputc((int)v, f);
}

/* An image of one message: StatsEntry with what is required in it. */
static void fake_stats(struct fake *k, const char *name, unsigned field, const uint64_t *v,
		       size_t n)
{
	static const uint32_t magic[] = { 0x55105940, 0x57093306 };
	char body[256] = "", *at = NULL;
	size_t size = 0;
	uint32_t length;
	FILE *f = open_memstream(&at, &size), *out;

	for (size_t i = 0; i < n; i++) {
		fake_put(f, (i + 1) << 3);
		fake_put(f, v[i]);
	}
	fclose(f);
	memcpy(body, at, size);
	free(at);
	out = fopen(name, "we");
	if (!out) {
		fake_log(k, "Error (criu/stats.c:1): Can't open %s: %m", name);
		return;
	}
	length = (uint32_t)size + 2;
	fwrite(magic, 4, 2, out);
	fwrite(&length, 4, 1, out);
	fputc((int)(field << 3 | 2), out);
	fputc((int)size, out);
	fwrite(body, 1, size, out);
	fclose(out);
}

/* ---- dump */

static void fake_plain_dump(struct fake *k)
{
	for (size_t j = 0; j < k->n_images; j++) {
		int fd = openat(k->images_fd, k->images[j].name,
				O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

		if (fd < 0)
			fake_fail(k, "Can't open an image");
		fake_write(k, fd, &k->images[j], 0, k->images[j].size);
		close(fd);
	}
}

static void fake_hang(struct fake *k)
{
	fake_trace(k, "hangs");
	for (;;)
		pause();
}

static int fake_dump(struct fake *k)
{
	uint64_t pages = 0, stats[14] = { 100, 2000, 300, 400 };

	if (k->tree <= 0) {
		fprintf(stderr, "Error (criu/crtools.c:1): --tree is missing\n");
		return 1;
	}
	if (k->stream)
		fake_stage(k, "pre-stream");
	fake_stage(k, "pre-dump");
	k->init = k->tree;
	if (!fake_tree_freeze(k, &tree))
		fake_end(k, 1);
	fake_trace(k, "frozen %zu", tree.n_pids);
	fake_stage(k, "network-lock");
	if (k->stream)
		fake_stream_dump(k);
	else
		fake_plain_dump(k);
	for (size_t j = 0; j < k->n_images; j++)
		if (!strncmp(k->images[j].name, "pages-", 6))
			pages += k->images[j].size / 4096;
	stats[4] = pages + 100;
	stats[6] = pages;
	fake_stage(k, "post-dump");
	if (fake_is(k, "hang_end"))
		fake_hang(k);
	if (fake_is(k, "killed_end")) {
		fake_trace(k, "killed");
		kill(getpid(), SIGKILL);
	}
	if (k->leave_running)
		fake_stage(k, "network-unlock");
	fake_tree_release(k, &tree, !k->leave_running);
	if (fake_is(k, "hang_after"))
		fake_hang(k);
	fake_stats(k, "stats-dump", 1, stats, 14);
	fake_log(k, "Dumping finished successfully");
	fake_trace(k, "end 0");
	return 0;
}

/* ---- restore */

static void fake_plain_restore(struct fake *k)
{
	for (size_t j = 0; j < k->n_images; j++) {
		int fd = openat(k->images_fd, k->images[j].name, O_RDONLY | O_CLOEXEC);

		if (fd < 0)
			fake_fail(k, "Can't open an image");
		fake_read_all(k, fd, &k->images[j], 0);
	}
}

static int fake_restore(struct fake *k)
{
	const uint64_t stats[] = { 10, 0, 100, 2000, 31 };
	FILE *f;

	if (k->stream)
		fake_stage(k, "pre-stream");
	fake_stage(k, "pre-restore");
	if (k->stream)
		fake_stream_restore(k);
	else
		fake_plain_restore(k);
	if (!fake_task_new(k, &task))
		fake_end(k, 1);
	k->init = task.pid;
	fake_trace(k, "task %d", (int)task.pid);
	fake_stage(k, "setup-namespaces");
	fake_stage(k, "post-setup-namespaces");
	fake_stage(k, "post-restore");
	if (fake_is(k, "fail_late"))
		fake_end(k, k->exit_code);
	if (fake_is(k, "hang_late"))
		fake_hang(k);
	if (k->pidfile && !fake_is(k, "no_pidfile")) {
		f = fopen(k->pidfile, "wex");
		if (!f)
			fake_fail(k, "Can't write the pidfile");
		fprintf(f, "%d", (int)task.pid);
		fclose(f);
	}
	fake_stage(k, "pre-resume");
	if (write(task.go, "g", 1) != 1)
		fake_log(k, "Error (criu/cr-restore.c:2): the task has gone");
	fake_stage(k, "post-resume");
	fake_stats(k, "stats-restore", 2, stats, 5);
	fake_log(k, "Restore finished successfully. Tasks resumed.");
	fake_trace(k, "end 0");
	if (!k->detached && !k->sibling)
		waitpid(task.pid, NULL, 0);
	return 0;
}

/* ---- the command line */

enum {
	OPT_STREAM = 256,
	OPT_SCRIPT,
	OPT_FREEZER,
	OPT_PIDFILE,
	OPT_SIBLING,
	OPT_INHERIT,
	OPT_VERSION,
	OPT_IGNORED, /* known to criu, nothing to be done here */
};

static const struct option options[] = {
	{ "images-dir", required_argument, NULL, 'D' },
	{ "work-dir", required_argument, NULL, 'W' },
	{ "log-file", required_argument, NULL, 'o' },
	{ "tree", required_argument, NULL, 't' },
	{ "leave-running", no_argument, NULL, 'R' },
	{ "restore-detached", no_argument, NULL, 'd' },
	{ "stream", no_argument, NULL, OPT_STREAM },
	{ "action-script", required_argument, NULL, OPT_SCRIPT },
	{ "freeze-cgroup", required_argument, NULL, OPT_FREEZER },
	{ "pidfile", required_argument, NULL, OPT_PIDFILE },
	{ "restore-sibling", no_argument, NULL, OPT_SIBLING },
	{ "inherit-fd", required_argument, NULL, OPT_INHERIT },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ "root", required_argument, NULL, OPT_IGNORED },
	{ "external", required_argument, NULL, OPT_IGNORED },
	{ "manage-cgroups", optional_argument, NULL, OPT_IGNORED },
	{ "cgroup-root", required_argument, NULL, OPT_IGNORED },
	{ "network-lock", required_argument, NULL, OPT_IGNORED },
	{ "empty-ns", required_argument, NULL, OPT_IGNORED },
	{ "join-ns", required_argument, NULL, OPT_IGNORED },
	{ "ext-unix-sk", optional_argument, NULL, OPT_IGNORED },
	{ "shell-job", no_argument, NULL, OPT_IGNORED },
	{ "tcp-established", no_argument, NULL, OPT_IGNORED },
	{ "tcp-close", no_argument, NULL, OPT_IGNORED },
	{ "file-locks", no_argument, NULL, OPT_IGNORED },
	{ "link-remap", no_argument, NULL, OPT_IGNORED },
	{ "lsm-profile", required_argument, NULL, OPT_IGNORED },
	{ "status-fd", required_argument, NULL, OPT_IGNORED },
	{ "evasive-devices", no_argument, NULL, OPT_IGNORED },
	{ "ghost-limit", required_argument, NULL, OPT_IGNORED },
	{ "timeout", required_argument, NULL, OPT_IGNORED },
	{ "skip-mnt", required_argument, NULL, OPT_IGNORED },
	{ "enable-fs", required_argument, NULL, OPT_IGNORED },
	{ "enable-external-masters", no_argument, NULL, OPT_IGNORED },
	{ "mntns-compat-mode", no_argument, NULL, OPT_IGNORED },
	{ "all", no_argument, NULL, OPT_IGNORED },
	{ "feature", required_argument, NULL, OPT_IGNORED },
	{ NULL, 0, NULL, 0 },
};

static bool fake_option(struct fake *k, int o)
{
	switch (o) {
	case 'D':
		k->images_dir = optarg;
		break;
	case 'W':
		k->work_dir = optarg;
		break;
	case 'o':
		k->log_file = optarg;
		break;
	case 't':
		k->tree = atoi(optarg);
		break;
	case 'R':
		k->leave_running = true;
		break;
	case 'd':
		k->detached = true;
		break;
	case OPT_STREAM:
		k->stream = true;
		break;
	case OPT_SCRIPT:
		k->action_script = optarg;
		break;
	case OPT_FREEZER:
		k->freezer = optarg;
		break;
	case OPT_PIDFILE:
		k->pidfile = optarg;
		break;
	case OPT_SIBLING:
		k->sibling = true;
		break;
	case OPT_INHERIT:
		if (k->n_inherit < 64 && sscanf(optarg, "fd[%d]", &k->inherit[k->n_inherit]) == 1)
			k->n_inherit++;
		break;
	case OPT_VERSION:
		k->verb = "version";
		break;
	case 'v':
	case OPT_IGNORED:
		break;
	default:
		return false;
	}
	return true;
}

static int fake_run(struct fake *k)
{
	k->images_fd = open(k->images_dir ? k->images_dir : ".",
			    O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (k->images_fd < 0 || chdir(k->work_dir ? k->work_dir : k->images_dir) < 0) {
		fprintf(stderr,
			"Error (criu/util.c:1): Can't open the images or work folder: %m\n");
		return 1;
	}
	k->log = k->log_file ? fopen(k->log_file, "we") : stderr;
	if (!k->log) {
		fprintf(stderr, "Error (criu/log.c:1): Can't create log file %s: %m\n",
			k->log_file);
		return 1;
	}
	/* as every criu without CAP_SYS_RESOURCE, which goes on */
	fake_log(k, "Error (criu/util.c:1533): rlimit: Can't setup RLIMIT_NOFILE for self: %s",
		 "Operation not permitted");
	fake_log(k, "Version: %s (gitid v%s)", k->version, k->version);
	return !strcmp(k->verb, "dump") ? fake_dump(k) : fake_restore(k);
}

int main(int argc, char **argv)
{
	static struct fake k = {
		.trace = -1, .sock = -1, .exit_code = 1, .child_exit = -1, .version = "4.1.1"
	};
	int o;

	clock_gettime(CLOCK_MONOTONIC, &k.begin);
	signal(SIGPIPE, SIG_IGN);
	while ((o = getopt_long(argc, argv, "D:W:o:t:Rdv::V", options, NULL)) >= 0)
		if (!fake_option(&k, o == 'V' ? OPT_VERSION : o))
			return 1;
	if (!k.verb)
		k.verb = optind < argc ? argv[optind] : "";
	fake_conf(&k);
	if (k.ignore_term)
		signal(SIGTERM, SIG_IGN);
	fake_trace(&k, "verb %s", k.verb);
	for (int i = 1; i < argc; i++)
		fake_trace(&k, "arg %s", argv[i]);
	if (!strcmp(k.verb, "version")) {
		printf("Version: %s\nGitID: v%s\n", k.version, k.version);
		return 0;
	}
	if (!strcmp(k.verb, "check")) {
		printf(k.check ? "Error (criu/cr-check.c:1): no\n" : "Looks good.\n");
		return k.check;
	}
	if (!strcmp(k.verb, "dump") || !strcmp(k.verb, "restore"))
		return fake_run(&k);
	fprintf(stderr, "Error (criu/crtools.c:1): unknown command: %s\n", k.verb);
	return 1;
}
