// SPDX-License-Identifier: Apache-2.0
/*
 * Capture and serve against the fake criu, with each of its faults
 *
 * This program is the fake criu too: it executes itself with criu's arguments. After each fault the
 * object is gone, no fd is left, and the tasks that were dumped run on.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

#include "stream_kit.h"

#include "checkpoint/files_tar.h"
#include "util/cleanup.h"

/* under another name, in this program */
int fake_criu_main(int argc, char **argv);
#define main fake_criu_main
#include "../fake/fake_criu.c"
#undef main

#define MB ((size_t)1 << 20)

extern char **environ;

struct peer {
	pid_t tree; /* what is dumped; 0 */
	pid_t criu;
	int status; /* of criu, once it has ended */
	bool ended;
	int fds; /* open ones of ours, before */
};

static int open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void write_conf(struct fixture *fx, const char *conf)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/fake_criu.conf", fx->dir);
	f = fopen(path, "we");
	assert_non_null(f);
	fputs(conf, f);
	fclose(f);
}

static bool traced(struct fixture *fx, const char *line)
{
	CLEANUP_FREE char *text = NULL;
	char path[128];

	snprintf(path, sizeof(path), "%s/fake_criu.trace", fx->dir);
	return fd_read_file(AT_FDCWD, path, MB, &text, NULL) == 0 && strstr(text, line);
}

static void clean(struct fixture *fx)
{
	static const char *const files[] = { "fake_criu.conf", "fake_criu.trace", "criu.log",
					     "stats-dump",     "stats-restore",	  "criu.pid" };
	char path[128];

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", fx->dir, files[i]);
		unlink(path);
	}
}

static void start_criu(struct fixture *fx, struct peer *p, bool restore, const char *conf)
{
	char images[128], work[128], of[32];
	char *dump_argv[] = {
		"fake_criu",	   "dump", images, work, "--log-file=criu.log", "--stream",
		"--leave-running", of,	   NULL
	};
	char *restore_argv[] = { "fake_criu",
				 "restore",
				 images,
				 work,
				 "--log-file=criu.log",
				 "--stream",
				 "--restore-detached",
				 "--pidfile=criu.pid",
				 NULL };

	snprintf(images, sizeof(images), "--images-dir=%s", fx->dir);
	snprintf(work, sizeof(work), "--work-dir=%s", fx->dir);
	write_conf(fx, conf);
	if (!restore) {
		p->tree = fork();
		if (!p->tree) {
			alarm(120);
			for (;;)
				pause();
		}
		snprintf(of, sizeof(of), "--tree=%d", (int)p->tree);
	}
	assert_int_equal(posix_spawn(&p->criu, "/proc/self/exe", NULL, NULL,
				     restore ? restore_argv : dump_argv, environ),
			 0);
}

/* Runs the loop for a while; true once criu has ended. */
static bool turn(struct fixture *fx, struct peer *p)
{
	struct timeval tv = { .tv_usec = 5000 };

	event_base_loopexit(fx->base, &tv);
	event_base_dispatch(fx->base);
	if (!p->ended && waitpid(p->criu, &p->status, WNOHANG) == p->criu)
		p->ended = true;
	return p->ended;
}

static bool stopped(pid_t pid)
{
	CLEANUP_FREE char *text = NULL;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	assert_int_equal(fd_read_file(AT_FDCWD, path, MB, &text, NULL), 0);
	return strstr(text, "State:\tt") || strstr(text, "State:\tT");
}

/* Whatever happened: nothing is left of it, and the task runs. */
static void nothing_left(struct fixture *fx, struct peer *p)
{
	assert_false(traced(fx, "wrong "));
	if (p->tree) {
		assert_false(stopped(p->tree));
		kill(p->tree, SIGKILL);
		assert_int_equal(waitpid(p->tree, NULL, 0), p->tree);
	}
	worker_pool_drain(fx->pack);
	worker_pool_drain(fx->write);
	for (size_t i = 0; i < fx->n; i++)
		assert_true(fx->blobs[i].finished != fx->blobs[i].discarded);
	for (size_t i = 0; i < fx->n; i++)
		fd_close(&fx->blobs[i].fd);
	assert_int_equal(open_fds(), p->fds);
	clean(fx);
}

static void begin(struct fixture *fx, struct peer *p)
{
	*p = (struct peer){ .fds = open_fds() };
	fx->frees = true;
	fx->drained = fx->done = fx->gone = false;
	fx->failures = 0;
	fx->fault = (struct fault){ 0 };
	fx->n = 0;
}

/* ---- dumps */

#define ANY (-2)

struct row {
	const char *conf;
	int exit; /* of criu; -1: killed; ANY: it may have sent all before we look */
	enum fault_code code; /* FAULT_NONE: nothing is told, criu's end says all */
	const char *words;
	bool drained;
	int64_t stall_ms;
	bool end_it; /* criu does not end by itself: with SIGTERM */
};

/* A while for what is expected, and a moment for what is not. */
static void settle(struct fixture *fx, struct peer *p, const struct row *row)
{
	for (int i = 0;
	     i < 2000 && (fx->failures != (row->code != FAULT_NONE) || fx->drained != row->drained);
	     i++)
		turn(fx, p);
	for (int i = 0; i < 4; i++)
		turn(fx, p);
}

static void dump_row(struct fixture *fx, const struct row *row)
{
	struct peer p;

	print_message("%s\n", row->conf);
	begin(fx, &p);
	capture(fx, true, 0, row->stall_ms * 1000000);
	start_criu(fx, &p, false, row->conf);
	while (!turn(fx, &p))
		if (row->end_it && fx->failures)
			kill(p.criu, SIGTERM);
	if (fx->capture)
		capture_peer_ended(fx->capture);
	/* what it had sent before its end */
	settle(fx, &p, row);
	if (fx->fault.code != row->code)
		fail_msg("it says: %s", fx->fault.message);
	assert_int_equal(fx->failures, row->code != FAULT_NONE);
	if (row->words && !strstr(fx->fault.message, row->words))
		fail_msg("'%s' does not say '%s'", fx->fault.message, row->words);
	assert_int_equal(fx->drained, row->drained);
	if (row->exit >= 0)
		assert_int_equal(WIFEXITED(p.status) ? WEXITSTATUS(p.status) : -1, row->exit);
	else
		assert_true(row->exit == ANY || WIFSIGNALED(p.status));
	assert_false(fx->done);
	drop(fx);
	nothing_left(fx, &p);
	assert_true(fx->gone);
}

#define BROKEN FAULT_FAILED_PRECONDITION
#define CUT "closed its streams before its images were complete"

static void test_dump_faults(void **state)
{
	static const struct row rows[] = {
		{ "fault short_length", 1, FAULT_UNKNOWN, .words = CUT, .drained = false },
		{ "fault short_body", 1, FAULT_UNKNOWN, .words = CUT },
		{ "fault long_frame", 1, BROKEN, .words = "impossible length" },
		{ "fault zero_frame", 1, BROKEN, .words = "impossible length" },
		{ "fault long_name", 1, BROKEN, .words = "impossible length" },
		{ "fault wrong_length", 1, BROKEN, .words = "without a proper file name" },
		{ "fault no_name", 1, BROKEN, .words = "without a proper file name" },
		{ "fault bad_name core-1.img", ANY, BROKEN, .words = "without a proper file name" },
		{ "fault no_fd", 1, BROKEN, .words = "no pipe where one should come" },
		{ "fault two_fds", 1, BROKEN, .words = "several fds" },
		{ "fault file_fd", 1, BROKEN,
		  .words = "something for pages-1.img that is no pipe" },
		{ "fault socket_fd mm-1.img", ANY, BROKEN,
		  .words = "something for mm-1.img that is no pipe" },
		{ "fault wrong_end", 1, BROKEN,
		  .words = "the wrong end of its pipe for pages-1.img" },
		{ "fault twice", ANY, BROKEN, .words = "writes the file pages-1.img twice" },
		{ "fault twice core-1.img", ANY, BROKEN,
		  .words = "writes the file core-1.img twice" },
		{ "fault many core-1.img 100000", 1, FAULT_RESOURCE_EXHAUSTED,
		  .words = "65536 image files" },
		{ "fault extra", ANY, BROKEN, .words = "extra.img after its last file",
		  .drained = true },
		{ "fault stall_request", 1, FAULT_DEADLINE_EXCEEDED,
		  .words = "no progress for 300 ms", .stall_ms = 300 },
		{ "fault stall_fd", 1, FAULT_DEADLINE_EXCEEDED,
		  .words = "criu has made no progress", .stall_ms = 300 },
		{ "fault stall_pipe pages-1.img 5000000", 1, FAULT_DEADLINE_EXCEEDED,
		  .words = "criu has made no progress", .stall_ms = 300 },
		{ "fault stall_pipe files.img 100", 1, FAULT_DEADLINE_EXCEEDED,
		  .words = "criu has made no progress", .stall_ms = 300 },
		{ "fault stall_connect", -1, FAULT_DEADLINE_EXCEEDED, .words = "no progress",
		  .stall_ms = 300, .end_it = true },
		{ "fault hang_pipe", -1, FAULT_DEADLINE_EXCEEDED, .words = "no progress",
		  .stall_ms = 300, .end_it = true },
		/* it ends, in whatever way */
		{ "fault never_connects\nexit 3", 3, FAULT_UNKNOWN, .words = CUT },
		{ "fault never_connects\nexit 0", 0, FAULT_UNKNOWN, .words = CUT },
		{ "fault close_early pages-1.img 3000000", 1, FAULT_UNKNOWN, .words = CUT },
		{ "fault close_early files.img 700", 1, FAULT_UNKNOWN, .words = CUT },
		{ "fault killed pages-1.img 3000000", -1, FAULT_UNKNOWN, .words = CUT },
		{ "fault no_inventory", 0, FAULT_UNKNOWN, .words = CUT },
		/* all came, so that its exit status alone decides */
		{ "fault fail_after", 1, FAULT_NONE, .drained = true },
		{ "", 0, FAULT_NONE, .drained = true },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		dump_row(*state, &rows[i]);
}

/* ---- what was dumped comes back */

static void dump_well(struct fixture *fx, const char *conf, size_t buffer, bool compress,
		      struct serve_files *files)
{
	struct fault f = { 0 };
	struct peer p;

	begin(fx, &p);
	capture(fx, compress, buffer, 0);
	start_criu(fx, &p, false, conf);
	while (!turn(fx, &p) || !fx->drained)
		assert_int_equal(fx->fault.code, 0);
	assert_int_equal(p.status, 0);
	capture_finish(fx->capture, on_done);
	while (!fx->done)
		turn(fx, &p);
	assert_int_equal(fx->fault.code, 0);
	drop(fx);
	for (size_t i = 0; i < fx->n; i++) {
		struct blob_file *b = &fx->blobs[i];
		struct serve_file *file;
		struct serve_part *part;

		assert_true(b->finished);
		assert_int_equal(lseek(b->fd, 0, SEEK_SET), 0);
		if (b->kind == CAPTURE_FILES) {
			assert_int_equal(ckpt_files_tar(files, b->fd, "sha256:small", &f), 0);
			continue;
		}
		file = ckpt_files_add(files, b->name, 1);
		part = &file->parts[file->n_parts++];
		*part = (struct serve_part){ .fd = dup(b->fd),
					     .packed = compress,
					     .size = b->size,
					     .digest = "sha256:large" };
		if (compress)
			assert_int_equal(frame_table_read(&part->table, part->fd,
							  (uint64_t)lseek(b->fd, 0, SEEK_END),
							  UINT64_MAX, &f),
					 0);
	}
	p.fds += (int)fx->n - 1; /* of the parts */
	nothing_left(fx, &p);
}

static void start_serve(struct fixture *fx, struct serve_files *files, size_t buffer)
{
	struct serve_request r = {
		.base = fx->base,
		.unpack = fx->pack,
		.images_dir = fx->dir,
		.files = files,
		.buffers = pool_of(buffer),
		.failed = on_failed,
		.user = fx,
	};
	struct fault f;

	assert_int_equal(serve_new(&fx->serve, &r, &f), 0);
	buffer_pool_free(r.buffers);
	assert_int_equal(files->n, 0);
}

static pid_t restored(struct fixture *fx)
{
	CLEANUP_FREE char *text = NULL;
	char path[128];

	snprintf(path, sizeof(path), "%s/criu.pid", fx->dir);
	return fd_read_file(AT_FDCWD, path, 64, &text, NULL) < 0 ? 0 : atoi(text);
}

#define SMALL_SET "image files.img 300\nimage core-1.img 1800\n"
#define LARGE_SET SMALL_SET "image pages-1.img 9500000\nimage inventory.img 70\n"

static void restore_row(struct fixture *fx, const struct row *row, size_t buffer)
{
	struct serve_files files = { 0 };
	struct serve_stats stats = { 0 };
	struct peer p;
	int fds = open_fds();
	pid_t pid;

	print_message("restore: %s\n", row->conf);
	dump_well(fx, LARGE_SET, 64 * MB, true, &files);
	begin(fx, &p);
	p.fds = fds;
	start_serve(fx, &files, buffer);
	start_criu(fx, &p, true, row->conf);
	for (int turns = 0; !turn(fx, &p); turns++)
		/* nobody watches a restore from here: its owner gives up at last */
		if (row->end_it && traced(fx, "stalls")) {
			drop(fx);
			if (turns > 400)
				kill(p.criu, SIGTERM);
		}
	settle(fx, &p, row);
	if (fx->fault.code != row->code)
		fail_msg("it says: %s", fx->fault.message);
	if (row->words && !strstr(fx->fault.message, row->words))
		fail_msg("'%s' does not say '%s'", fx->fault.message, row->words);
	if (row->exit >= 0)
		assert_int_equal(WIFEXITED(p.status) ? WEXITSTATUS(p.status) : -1, row->exit);
	else
		assert_true(WIFSIGNALED(p.status));
	if (fx->serve)
		serve_get_stats(fx->serve, &stats);
	if (!row->exit) {
		assert_true(traced(fx, "read all"));
		assert_int_equal(stats.absent, 4);
		pid = restored(fx);
		assert_true(pid > 0 && kill(pid, 0) == 0);
		kill(pid, SIGKILL);
	}
	drop(fx);
	nothing_left(fx, &p);
}

static void test_restore_faults(void **state)
{
#define WITH(fault) LARGE_SET fault
	static const struct row rows[] = {
		{ WITH(""), 0, FAULT_NONE, .words = NULL },
		{ WITH("fault early_close pages-1.img 100000"), 0, FAULT_NONE, .words = NULL },
		{ WITH("fault early_close core-1.img 10"), 0, FAULT_NONE, .words = NULL },
		{ WITH("fault ask_twice"), 0, FAULT_NONE, .words = NULL },
		{ WITH("fault unread"), 0, FAULT_NONE, .words = NULL },
		{ WITH("fault at_once"), 0, FAULT_NONE, .words = NULL },
		{ WITH("fault two_connections"), 0, FAULT_NONE, .words = NULL },
		{ WITH("fault many pages-1.img 300"), 0, FAULT_NONE, .words = NULL },
		{ WITH("slow_us 200"), 0, FAULT_NONE, .words = NULL },
		{ WITH("fault short_length"), 1, FAULT_NONE, .words = NULL },
		{ WITH("fault short_body"), 1, FAULT_NONE, .words = NULL },
		{ WITH("fault long_frame"), 1, BROKEN, .words = "impossible length" },
		{ WITH("fault zero_frame"), 1, BROKEN, .words = "impossible length" },
		{ WITH("fault wrong_length"), 1, BROKEN, .words = "without a proper file name" },
		{ WITH("fault bad_name"), 1, BROKEN, .words = "without a proper file name" },
		{ WITH("fault no_fd"), 1, BROKEN, .words = "no pipe where one should come" },
		{ WITH("fault two_fds"), 1, BROKEN, .words = "several fds" },
		{ WITH("fault file_fd"), 1, BROKEN, .words = "that is no pipe" },
		{ WITH("fault wrong_end"), 1, BROKEN, .words = "the wrong end of its pipe" },
		{ WITH("fault never_connects"), 1, FAULT_NONE, .words = NULL },
		{ WITH("fault close_early pages-1.img 3000000"), 1, FAULT_NONE, .words = NULL },
		{ WITH("fault killed pages-1.img 3000000"), -1, FAULT_NONE, .words = NULL },
		{ WITH("fault stall_request"), 1, FAULT_NONE, .words = NULL, .end_it = true },
		{ WITH("fault stall_fd"), 1, FAULT_NONE, .words = NULL, .end_it = true },
		{ WITH("fault stall_pipe"), 1, FAULT_NONE, .words = NULL, .end_it = true },
		{ WITH("fault stall_connect"), -1, FAULT_NONE, .words = NULL, .end_it = true },
		/* it wants what was never dumped */
		{ WITH("image tty-info.img 20"), 1, FAULT_NONE, .words = NULL },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		restore_row(*state, &rows[i], 0);
}

#define MANY_SET                                                                                   \
	SMALL_SET "image a.img 3000000\nimage b.img 3000000\nimage c.img 5000000\n"                \
		  "image d.img 1100000\nimage e.img 9000000\nimage pages-1.img 4194304\n"          \
		  "image pages-2.img 4194305\nimage pages-3.img 0\nimage pages-4.img 1\n"          \
		  "image pages-5.img 5000000\nimage pages-6.img 3000000\n"                         \
		  "image pages-7.img 3000000\nimage edge.img 1048576\nimage over.img 1048577\n"    \
		  "image none.img 0\nimage inventory.img 70\n"

/* Every way of writing and of reading, in little memory and in much. */
static void test_round_trips(void **state)
{
	static const char *const how[] = { MANY_SET, MANY_SET "fault interleave",
					   MANY_SET "slow_us 100" };
	static const size_t buffers[] = { 0, 64 * MB };
	struct fixture *fx = *state;

	for (size_t i = 0; i < 12; i++) {
		struct serve_files files = { 0 };
		int fds = open_fds();
		struct peer p;
		pid_t pid;

		dump_well(fx, how[i % 3], buffers[i / 6], i / 3 % 2, &files);
		begin(fx, &p);
		p.fds = fds;
		start_serve(fx, &files, buffers[i / 6]);
		start_criu(fx, &p, true, MANY_SET);
		while (!turn(fx, &p))
			continue;
		assert_int_equal(fx->fault.code, 0);
		assert_int_equal(p.status, 0);
		pid = restored(fx);
		assert_true(pid > 0);
		kill(pid, SIGKILL);
		drop(fx);
		nothing_left(fx, &p);
	}
}

/* Both ends without a peer, at any moment. */
static void test_nobody_comes(void **state)
{
	struct fixture *fx = *state;
	struct serve_files files = { 0 };
	struct peer p;

	begin(fx, &p);
	capture(fx, true, 0, 0);
	drop(fx);
	assert_true(fx->gone);
	assert_int_equal(open_fds(), p.fds);
	dump_well(fx, LARGE_SET, 0, true, &files);
	start_serve(fx, &files, 0);
	drop(fx); /* while frames are being loaded */
	worker_pool_drain(fx->pack);
	assert_int_equal(open_fds(), p.fds);
}

/* The socket's path: too long, or taken by somebody else, whose socket stays. */
static void test_bad_folder(void **state)
{
	struct fixture *fx = *state;
	struct serve_files files = { 0 };
	char path[160], *longer;
	struct capture_request r = { .base = fx->base, .pack = fx->pack, .write = fx->write };
	struct serve_request s = { .base = fx->base, .unpack = fx->pack, .files = &files };
	struct capture *c = NULL;
	struct serve *v = NULL;
	struct fault f;
	struct peer p;

	begin(fx, &p);
	longer = path + snprintf(path, sizeof(path), "%s/", fx->dir);
	memset(longer, 'x', 100);
	longer[100] = '\0';
	r.images_dir = s.images_dir = path;
	r.buffers = s.buffers = pool_of(0);
	assert_int_equal(capture_new(&c, &r, &f), -ENAMETOOLONG);
	assert_int_equal(serve_new(&v, &s, &f), -ENAMETOOLONG);
	r.images_dir = s.images_dir = "/nonexistent";
	assert_int_equal(capture_new(&c, &r, &f), -ENOENT);
	assert_int_equal(serve_new(&v, &s, &f), -ENOENT);
	capture(fx, true, 0, 0);
	r.images_dir = fx->dir;
	assert_int_equal(capture_new(&c, &r, &f), -EADDRINUSE);
	assert_int_equal(buffer_pool_mapped(r.buffers), 0);
	buffer_pool_free(r.buffers);
	snprintf(path, sizeof(path), "%s/" CAPTURE_SOCKET, fx->dir);
	assert_int_equal(access(path, F_OK), 0);
	drop(fx);
	assert_int_equal(open_fds(), p.fds);
}

int main(int argc, char **argv)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_dump_faults),	 TEST(test_restore_faults), TEST(test_round_trips),
		TEST(test_nobody_comes), TEST(test_bad_folder),
	};

	if (argc > 1) {
		alarm(120);
		return fake_criu_main(argc, argv);
	}
	/* restored tasks lose their parent */
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	if (geteuid() != 0) {
		print_message("SKIPPED: not root, who alone may make a pid namespace\n");
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
