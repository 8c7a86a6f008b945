// SPDX-License-Identifier: Apache-2.0
/* Images on the command line: names, configs to specs, roots of snapshots, the progress line. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/args.h"
#include "cli/create.h"
#include "cli/create_image.h"
#include "cli/image.h"
#include "cli/js.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/snaproot.h"
#include "cli/spec.h"
#include "util/cleanup.h"
#include "util/digest.h"
#include "util/fd.h"
#include "util/json.h"
#include "util/limits.h"

#define D1 "sha256:1111111111111111111111111111111111111111111111111111111111111111"
#define D2 "sha256:1122222222222222222222222222222222222222222222222222222222222222"

static json_object *json(const char *text)
{
	json_object *o = NULL;
	struct fault f;

	if (json_parse(text, strlen(text), &o, &f) < 0)
		fail_msg("%s", f.message);
	return o;
}

static void names(void **state)
{
	static const struct {
		const char *text, *name;
		enum image_match want;
	} cases[] = {
		{ "debian", "debian", IMAGE_MATCH_EXACT },
		{ "debian", "debian:latest", IMAGE_MATCH_SAME },
		{ "debian:latest", "debian", IMAGE_MATCH_SAME },
		{ "debian", "debian:12", IMAGE_MATCH_NONE },
		{ "debian:12", "debian:12", IMAGE_MATCH_EXACT },
		{ "debian", "docker.io/library/debian:latest", IMAGE_MATCH_SUFFIX },
		{ "debian", "localhost/debian:latest", IMAGE_MATCH_SUFFIX },
		{ "debian:12", "docker.io/library/debian:12", IMAGE_MATCH_SUFFIX },
		{ "debian:12", "docker.io/library/debian:latest", IMAGE_MATCH_NONE },
		{ "library/debian", "docker.io/library/debian:latest", IMAGE_MATCH_SUFFIX },
		{ "docker.io/debian", "docker.io/library/debian:latest", IMAGE_MATCH_NONE },
		{ "docker.io/library/debian", "debian:latest", IMAGE_MATCH_SUFFIX },
		{ "localhost/debian", "debian", IMAGE_MATCH_SUFFIX },
		{ "localhost/debian", "docker.io/library/debian", IMAGE_MATCH_NONE },
		{ "quay.io/debian", "debian", IMAGE_MATCH_NONE },
		{ "debian", "quay.io/team/debian:latest", IMAGE_MATCH_SUFFIX },
		{ "team/debian", "quay.io/team/debian:latest", IMAGE_MATCH_SUFFIX },
		{ "am/debian", "quay.io/team/debian:latest", IMAGE_MATCH_NONE },
		{ "bian", "debian", IMAGE_MATCH_NONE },
		/* a port is no tag */
		{ "host:5000/box", "host:5000/box:latest", IMAGE_MATCH_SAME },
		{ "box", "host:5000/box:latest", IMAGE_MATCH_SUFFIX },
		{ "5000/box", "host:5000/box:latest", IMAGE_MATCH_NONE },
		/* digests */
		{ D1, "debian", IMAGE_MATCH_DIGEST },
		{ "sha256:111", "debian", IMAGE_MATCH_DIGEST },
		{ "1111", "debian", IMAGE_MATCH_DIGEST },
		{ "11", "debian", IMAGE_MATCH_NONE },
		{ "sha256:11", "debian", IMAGE_MATCH_NONE },
		{ "1112", "debian", IMAGE_MATCH_NONE },
		{ "sha512:111", "debian", IMAGE_MATCH_NONE },
		{ "debian@" D1, "debian:12", IMAGE_MATCH_SAME },
		{ "debian:13@" D1, "debian:12", IMAGE_MATCH_SAME },
		{ "debian@" D2, "debian:12", IMAGE_MATCH_NONE },
		{ "other@" D1, "debian:12", IMAGE_MATCH_NONE },
		/* nonsense finds nothing */
		{ ":", "debian", IMAGE_MATCH_NONE },
		{ "/", "debian", IMAGE_MATCH_NONE },
		{ "@", "debian", IMAGE_MATCH_NONE },
		{ "@" D1, "debian", IMAGE_MATCH_NONE },
		{ "localhost/", "debian", IMAGE_MATCH_NONE },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		enum image_match got = cli_image_match(cases[i].text, cases[i].name, D1);

		if (got != cases[i].want)
			fail_msg("%s for %s: %d, not %d", cases[i].text, cases[i].name, got,
				 cases[i].want);
	}
	/* by name goes before by digest */
	assert_int_equal(cli_image_match("111", "111:latest", D1), IMAGE_MATCH_SAME);
	assert_int_equal(cli_image_match("abc", "x", ""), IMAGE_MATCH_NONE);
}

static void short_digest(void **state)
{
	char buf[16];

	(void)state;
	cli_image_short_digest(D2, buf, sizeof(buf));
	assert_string_equal(buf, "112222222222");
	cli_image_short_digest("", buf, sizeof(buf));
	assert_string_equal(buf, "");
}

static void chains(void **state)
{
	/* the digests of "0\n" and "1\n", and of both with a blank between them */
	json_object *
		none = json("[]"),
	       *one = json(
		       "[\"sha256:9a271f2a916b0b6ee6cecb2426f0b3206ef074578be55d9bc94f6f3fe3ab86aa\"]"),
	       *two = json(
		       "[\"sha256:9a271f2a916b0b6ee6cecb2426f0b3206ef074578be55d9bc94f6f3fe3ab86aa\","
		       "\"sha256:4355a46b19d348dc2f57c046f8ef63d4538ebb936000f3c9ee954a27460dd865\"]"),
	       *bad = json("[\"sha256:9a27\"]"), *number = json("[7]");
	char buf[DIGEST_TEXT];

	(void)state;
	assert_int_equal(cli_image_chain_id(none, buf, sizeof(buf)), 0);
	assert_string_equal(buf, "");
	assert_int_equal(cli_image_chain_id(NULL, buf, sizeof(buf)), 0);
	assert_string_equal(buf, "");
	assert_int_equal(cli_image_chain_id(one, buf, sizeof(buf)), 0);
	assert_string_equal(
		buf, "sha256:9a271f2a916b0b6ee6cecb2426f0b3206ef074578be55d9bc94f6f3fe3ab86aa");
	assert_int_equal(cli_image_chain_id(two, buf, sizeof(buf)), 0);
	assert_string_equal(
		buf, "sha256:a9b3f33b2b9a756743070ad7366b7b1f2e9a494a1f81a57af69077dd989847dd");
	assert_int_equal(cli_image_chain_id(bad, buf, sizeof(buf)), -EINVAL);
	assert_int_equal(cli_image_chain_id(number, buf, sizeof(buf)), -EINVAL);
	json_object_put(none);
	json_object_put(one);
	json_object_put(two);
	json_object_put(bad);
	json_object_put(number);
}

/* ---- configs */

static json_object *build(const char *config, char **words, struct fault *f)
{
	static const struct cli_command command = { .name = "run",
						    .options = create_options,
						    .flags = CLI_ARGS_END_OPTIONS };
	json_object *image = json(config);
	struct cli cli = { .command = &command };
	struct spec_build b = { .cli = &cli, .id = "box", .rootfs = -1, .image = image };
	int argc = 0, r;

	memset(f, 0, sizeof(*f));
	while (words[argc])
		argc++;
	assert_int_equal(cli_image_config_check(image, f), 0);
	assert_int_equal(args_parse(&cli, &command, argc, words, NULL, f), 0);
	b.spec = spec_default("", getpid());
	b.args = cli.args;
	r = spec_build(&b, f);
	args_free(&cli);
	json_object_put(image);
	if (r < 0) {
		json_object_put(b.spec);
		return NULL;
	}
	return b.spec;
}
#define BUILD(config, ...) build(config, (char *[]){ __VA_ARGS__ __VA_OPT__(, ) NULL }, &f)

static void expect_args(json_object *spec, const char *want)
{
	if (!spec)
		fail_msg("the spec was refused");
	assert_string_equal(json_object_to_json_string_ext(js_get(spec, "process.args"),
							   JSON_C_TO_STRING_PLAIN |
								   JSON_C_TO_STRING_NOSLASHESCAPE),
			    want);
	json_object_put(spec);
}

static void commands(void **state)
{
	static const char both[] = "{\"Entrypoint\":[\"/e\",\"-x\"],\"Cmd\":[\"c1\",\"c2\"]}",
			  cmd[] = "{\"Entrypoint\":null,\"Cmd\":[\"c1\",\"c2\"]}",
			  entry[] = "{\"Entrypoint\":[\"/e\"]}";
	struct fault f;

	(void)state;
	expect_args(BUILD(both), "[\"/e\",\"-x\",\"c1\",\"c2\"]");
	expect_args(BUILD(both, "a", "b"), "[\"/e\",\"-x\",\"a\",\"b\"]");
	expect_args(BUILD(both, "--entrypoint", "/n"), "[\"/n\"]");
	expect_args(BUILD(both, "--entrypoint", "/n", "a"), "[\"/n\",\"a\"]");
	expect_args(BUILD(both, "--entrypoint", "[\"/n\",\"-y\"]", "a"), "[\"/n\",\"-y\",\"a\"]");
	expect_args(BUILD(both, "--entrypoint", "", "a"), "[\"a\"]");
	expect_args(BUILD(cmd), "[\"c1\",\"c2\"]");
	expect_args(BUILD(cmd, "a"), "[\"a\"]");
	expect_args(BUILD(entry), "[\"/e\"]");
	assert_null(BUILD("{}"));
	assert_non_null(strstr(f.message, "the image has none"));
	assert_null(BUILD(both, "--entrypoint", ""));
}

static bool listed(json_object *list, const char *text)
{
	for (size_t i = 0; i < js_len(list); i++) {
		if (strcmp(json_object_get_string(js_at(list, i)), text) == 0)
			return true;
	}
	return false;
}

static void environments(void **state)
{
	struct fault f;
	json_object *
		spec = BUILD(
		       "{\"Cmd\":[\"x\"],\"Env\":[\"PATH=/only\",\"A=1\",\"B=2\",\"novalue\",\"=none\",\"E=\"]}",
		       "-e", "B=3", "-e", "C=4"),
	       *env = js_get(spec, "process.env");

	(void)state;
	assert_non_null(spec);
	assert_true(listed(env, "PATH=/only"));
	assert_true(listed(env, "A=1"));
	assert_true(listed(env, "B=3"));
	assert_false(listed(env, "B=2"));
	assert_true(listed(env, "C=4"));
	assert_true(listed(env, "E="));
	assert_false(listed(env, "novalue"));
	assert_false(listed(env, "=none"));
	json_object_put(spec);
	spec = BUILD("{\"Cmd\":[\"x\"]}");
	assert_true(listed(js_get(spec, "process.env"),
			   "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
	json_object_put(spec);
}

static const char *stop_signal_of(json_object *spec)
{
	json_object *v;

	return json_object_object_get_ex(js_get(spec, "annotations"), SPEC_STOP_SIGNAL, &v)
		       ? json_object_get_string(v)
		       : "";
}

static void the_rest(void **state)
{
	static const char config[] =
		"{\"Cmd\":[\"x\"],\"User\":\"7:8\",\"WorkingDir\":\"/work\",\"StopSignal\":\"SIGQUIT\"}";
	struct fault f;
	json_object *spec = BUILD(config);

	(void)state;
	assert_int_equal(js_int(spec, "process.user.uid", -1), 7);
	assert_int_equal(js_int(spec, "process.user.gid", -1), 8);
	assert_string_equal(js_str(spec, "process.cwd"), "/work");
	assert_string_equal(stop_signal_of(spec), "SIGQUIT");
	json_object_put(spec);
	spec = BUILD(config, "-u", "9", "-w", "/else", "--stop-signal", "INT");
	assert_int_equal(js_int(spec, "process.user.uid", -1), 9);
	assert_int_equal(js_int(spec, "process.user.gid", -1), 0);
	assert_string_equal(js_str(spec, "process.cwd"), "/else");
	assert_string_equal(stop_signal_of(spec), "SIGINT");
	json_object_put(spec);
	spec = BUILD("{\"Cmd\":[\"x\"],\"WorkingDir\":\"rel\",\"StopSignal\":\"\"}");
	assert_string_equal(js_str(spec, "process.cwd"), "/rel");
	assert_string_equal(stop_signal_of(spec), "");
	json_object_put(spec);
	/* a name that cannot be looked up is an error, and no other user */
	assert_null(BUILD("{\"Cmd\":[\"x\"],\"User\":\"www\"}"));
	assert_int_equal(f.code, FAULT_PERMISSION_DENIED);
}

static void damaged_configs(void **state)
{
	static const char *const bad[] = {
		"{\"Cmd\":\"sh\"}",	  "{\"Cmd\":[1]}",	  "{\"Entrypoint\":{}}",
		"{\"Env\":[null]}",	  "{\"User\":7}",	  "{\"WorkingDir\":[]}",
		"{\"Volumes\":[\"/a\"]}", "{\"Labels\":\"a=b\"}", "{\"StopSignal\":9}",
	};
	struct fault f;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		json_object *o = json(bad[i]);

		if (cli_image_config_check(o, &f) == 0)
			fail_msg("%s was taken", bad[i]);
		assert_int_equal(f.code, FAULT_FAILED_PRECONDITION);
		json_object_put(o);
	}
}

static void label_rules(void **state)
{
	char *large = malloc(LIMIT_LABEL_BYTES + 1);
	json_object *
		config = json(
		       "{\"Labels\":{\"app\":\"shop\",\"mine\":\"image\",\"davit.auto-remove\":\"true\",\"n\":3,"
		       "\"containerd.io/gc.root\":\"x\",\"org.davit.x\":\"y\",\"\":\"empty\",\"z\":\"\"}}"),
	       *labels = json("{\"mine\":\"container\"}");

	(void)state;
	memset(large, 'a', LIMIT_LABEL_BYTES);
	large[LIMIT_LABEL_BYTES] = '\0';
	js_set_str(js_get(config, "Labels"), "large", large);
	cli_image_labels(config, labels);
	assert_string_equal(json_object_to_json_string_ext(labels, JSON_C_TO_STRING_PLAIN),
			    "{\"mine\":\"container\",\"app\":\"shop\",\"z\":\"\"}");
	json_object_put(config);
	json_object_put(labels);
	free(large);
}

/* ---- roots of snapshots */

static char base[] = "/tmp/davit-test-snaproot-XXXXXX";
static int base_fd = -1;

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(base))
		return -1;
	base_fd = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return base_fd < 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	(void)at;
	return remove(path);
}

static int teardown(void **state)
{
	(void)state;
	close(base_fd);
	return nftw(base, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void put(const char *path, const char *text)
{
	int fd = openat(base_fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
	close(fd);
}

static char *get(int root, const char *path)
{
	int fd = fd_open_in_root(root, path, O_RDONLY, 0);
	char *text = calloc(1, 256);

	if (fd < 0) {
		free(text);
		return NULL;
	}
	assert_true(read(fd, text, 255) >= 0);
	close(fd);
	return text;
}

static void expect(int root, const char *path, const char *want)
{
	char *text = get(root, path);

	if (!want)
		assert_null(text);
	else if (!text)
		fail_msg("there is no %s", path);
	else
		assert_string_equal(text, want);
	free(text);
}

static json_object *overlay(const char *upper)
{
	char text[1024];

	snprintf(text, sizeof(text),
		 "[{\"type\":\"overlay\",\"source\":\"overlay\",\"options\":[\"index=off\","
		 "\"workdir=%s/work\",\"upperdir=%s/%s\",\"lowerdir=%s/l2:%s/l1\"]}]",
		 base, base, upper, base, base);
	return json(text);
}

static void merged_roots(void **state)
{
	static const char *const folders[] = { "l1",	 "l1/etc", "l1/usr", "l1/usr/etc", "l2",
					       "l2/etc", "up",	   "work",   "shut" };
	json_object *mounts;
	struct fault f;
	int root, mounts_before, r;
	char *text;

	(void)state;
	if (geteuid() != 0) {
		print_message("SKIPPED: overlays are mounted by root\n");
		skip();
	}
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
		assert_int_equal(mkdirat(base_fd, folders[i], 0755), 0);
	put("l1/etc/passwd", "below");
	put("l1/etc/group", "below");
	put("l1/usr/etc/far", "far");
	put("l2/etc/passwd", "above");
	/* a whiteout, and a link from one layer into the other */
	assert_int_equal(mknodat(base_fd, "l2/etc/group", S_IFCHR | 0600, makedev(0, 0)), 0);
	assert_int_equal(symlinkat("/usr/etc/far", base_fd, "l2/etc/link"), 0);
	assert_int_equal(symlinkat("../../../../../../../../etc/hostname", base_fd, "l2/etc/out"),
			 0);
	text = NULL;
	assert_int_equal(fd_read_file(AT_FDCWD, "/proc/self/mountinfo", 1 << 20, &text, NULL), 0);
	mounts_before = (int)strlen(text);
	free(text);
	mounts = overlay("up");
	memset(&f, 0, sizeof(f));
	r = snaproot_open(mounts, &root, &f);
	if (r < 0)
		fail_msg("%s", f.message);
	expect(root, "/etc/passwd", "above");
	expect(root, "/etc/group", NULL);
	expect(root, "/etc/link", "far");
	expect(root, "/etc/out", NULL);
	/* what is made there is in the upper folder */
	assert_int_equal(snaproot_mkdir(root, "/a/b", 7, 8, &f), 1);
	assert_int_equal(snaproot_mkdir(root, "/a/b", 7, 8, &f), 0);
	assert_int_equal(faccessat(base_fd, "up/a/b", F_OK, 0), 0);
	text = NULL;
	assert_int_equal(fd_read_file(AT_FDCWD, "/proc/self/mountinfo", 1 << 20, &text, NULL), 0);
	assert_int_equal(strlen(text), mounts_before);
	free(text);
	close(root);
	json_object_put(mounts);

	mounts = overlay("missing");
	assert_true(snaproot_open(mounts, &root, &f) < 0);
	assert_non_null(strstr(f.message, "mounting the snapshot"));
	assert_int_equal(root, -1);
	json_object_put(mounts);
}

static void bound_roots(void **state)
{
	char text[512];
	json_object *mounts, *two = json("[{},{}]");
	struct fault f;
	int root;

	(void)state;
	mkdirat(base_fd, "plain", 0755);
	put("plain/file", "here");
	snprintf(text, sizeof(text),
		 "[{\"type\":\"bind\",\"source\":\"%s/plain\",\"options\":[\"rbind\",\"rw\"]}]",
		 base);
	mounts = json(text);
	assert_int_equal(snaproot_open(mounts, &root, &f), 0);
	expect(root, "file", "here");
	close(root);
	json_object_put(mounts);
	assert_true(snaproot_open(two, &root, &f) < 0);
	assert_int_equal(root, -1);
	json_object_put(two);
}

static void made_folders(void **state)
{
	int root;
	struct stat st;
	struct fault f;
	mode_t mask = umask(077);

	(void)state;
	mkdirat(base_fd, "mk", 0755);
	root = openat(base_fd, "mk", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(root >= 0);
	assert_int_equal(snaproot_mkdir(root, "/x//y/./z/", getuid(), getgid(), &f), 1);
	assert_int_equal(fstatat(root, "x/y/z", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_int_equal(fstatat(root, "x", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	/* links stay inside, whether absolute or upwards */
	assert_int_equal(symlinkat("/x", root, "abs"), 0);
	assert_int_equal(symlinkat("../../../..", root, "upward"), 0);
	assert_int_equal(snaproot_mkdir(root, "/abs/made", getuid(), getgid(), &f), 1);
	assert_int_equal(faccessat(root, "x/made", F_OK, 0), 0);
	assert_int_equal(snaproot_mkdir(root, "/upward/davit-test-here", getuid(), getgid(), &f),
			 1);
	assert_int_equal(faccessat(root, "davit-test-here", F_OK, 0), 0);
	assert_int_equal(snaproot_mkdir(root, "/", 0, 0, &f), 0);
	/* neither a file nor a link to nothing becomes a folder */
	put("mk/file", "");
	assert_true(snaproot_mkdir(root, "/file/in", 0, 0, &f) < 0);
	assert_int_equal(symlinkat("/nowhere", root, "dangling"), 0);
	assert_true(snaproot_mkdir(root, "/dangling", 0, 0, &f) < 0);
	assert_non_null(strstr(f.message, "/dangling"));
	close(root);
	umask(mask);
}

static void copies(void **state)
{
	char big[3 << 16], *text;
	int root, to, fd;
	struct stat st;
	struct fault f;

	(void)state;
	if (geteuid() != 0) {
		print_message("SKIPPED: owners are set by root\n");
		skip();
	}
	mkdirat(base_fd, "from", 0755);
	mkdirat(base_fd, "from/data", 0755);
	mkdirat(base_fd, "from/data/sub", 0755);
	mkdirat(base_fd, "to", 0700);
	root = openat(base_fd, "from", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	to = openat(base_fd, "to", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	put("from/data/sub/big", big);
	put("from/data/tool", "tool");
	fd = openat(base_fd, "from/data/tool", O_RDONLY | O_CLOEXEC);
	assert_int_equal(fchown(fd, 12, 34), 0);
	assert_int_equal(fchmod(fd, 04755), 0);
	assert_int_equal(fsetxattr(fd, "trusted.davit-test", "v", 1, 0), 0);
	close(fd);
	assert_int_equal(fchownat(base_fd, "from/data", 56, 78, 0), 0);
	assert_int_equal(fchmodat(base_fd, "from/data", 02770, 0), 0);
	assert_int_equal(symlinkat("/etc/passwd", base_fd, "from/data/link"), 0);
	assert_int_equal(mkfifoat(base_fd, "from/data/fifo", 0600), 0);
	assert_int_equal(fchmodat(base_fd, "from/data/fifo", 0620, 0), 0);
	/* the volume's path may be a link itself */
	assert_int_equal(symlinkat("/data", base_fd, "from/alias"), 0);

	assert_int_equal(snaproot_copy(root, "/none", to, &f), 0);
	if (snaproot_copy(root, "/alias", to, &f) != 1)
		fail_msg("%s", f.message);
	assert_int_equal(fstat(to, &st), 0);
	assert_int_equal(st.st_mode & 07777, 02770);
	assert_int_equal(st.st_uid, 56);
	assert_int_equal(st.st_gid, 78);
	assert_int_equal(fstatat(to, "tool", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 04755);
	assert_int_equal(st.st_uid, 12);
	assert_int_equal(st.st_gid, 34);
	fd = openat(to, "tool", O_RDONLY | O_CLOEXEC);
	assert_int_equal(fgetxattr(fd, "trusted.davit-test", big, sizeof(big)), 1);
	close(fd);
	assert_int_equal(fstatat(to, "sub/big", &st, 0), 0);
	assert_int_equal(st.st_size, sizeof(big) - 1);
	assert_int_equal(fstatat(to, "link", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(fstatat(to, "fifo", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(S_ISFIFO(st.st_mode));
	assert_int_equal(st.st_mode & 07777, 0620);
	text = get(to, "tool");
	assert_string_equal(text, "tool");
	free(text);
	/* what is there already is not overwritten */
	assert_true(snaproot_copy(root, "/data", to, &f) < 0);
	assert_non_null(strstr(f.message, "copying from the image"));
	close(root);
	close(to);
}

/* ---- sizes and the progress line */

static void sizes(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *want;
	} cases[] = { { 0, "0 B" },
		      { 999, "999 B" },
		      { 1000, "1.00 kB" },
		      { 1234, "1.23 kB" },
		      { 12345, "12.3 kB" },
		      { 999499, "999 kB" },
		      { 999500, "1.00 MB" },
		      { 45600000, "45.6 MB" },
		      { 5000000000, "5.00 GB" },
		      { UINT64_MAX, "18.4 EB" } };
	char buf[16];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		output_size(cases[i].bytes, buf, sizeof(buf));
		assert_string_equal(buf, cases[i].want);
	}
}

static void progress_lines(void **state)
{
	struct progress_view v = { .what = "Importing box.tar",
				   .phase = "",
				   .done = 25000000,
				   .total = 100000000,
				   .rate = 5000000 };
	char buf[1024];

	(void)state;
	progress_line(&v, 100, buf, sizeof(buf));
	assert_string_equal(
		buf,
		"Importing box.tar  [========>                       ]   25%  25.0 MB / 100 MB  5.00 MB/s  0:15 left");
	v.rate = -1;
	progress_line(&v, 80, buf, sizeof(buf));
	assert_string_equal(
		buf,
		"Importing box.tar  [========>                         ]   25%  25.0 MB / 100 MB");
	v.total = 0;
	v.rate = 1000;
	progress_line(&v, 80, buf, sizeof(buf));
	assert_string_equal(buf, "Importing box.tar  25.0 MB  1.00 kB/s");
	v.done = 0;
	v.rate = -1;
	v.phase = "unpack";
	progress_line(&v, 80, buf, sizeof(buf));
	assert_string_equal(buf, "Importing box.tar: unpack");
	/* more done than there should be */
	v.total = 10;
	v.done = 20;
	v.rate = 1;
	progress_line(&v, 80, buf, sizeof(buf));
	assert_non_null(strstr(buf, "100%"));
	assert_null(strstr(buf, "left"));
	v.what = "a\x1b[2Jb\nc";
	progress_line(&v, 80, buf, sizeof(buf));
	assert_int_equal(strncmp(buf, "a?[2Jb?c", 8), 0);
	/* however narrow, it never reaches the last column */
	v = (struct progress_view){ .what = "Größe Größe Größe",
				    .phase = "read",
				    .done = 123456,
				    .total = 1234567890,
				    .rate = 12 };
	for (unsigned columns = 0; columns < 300; columns++) {
		progress_line(&v, columns, buf, sizeof(buf));
		if (strlen(buf) > (columns ? columns - 1 : 0))
			fail_msg("%zu bytes in %u columns: %s", strlen(buf), columns, buf);
	}
	/* nor the buffer's end */
	progress_line(&v, 300, buf, 20);
	assert_true(strlen(buf) < 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names),	   cmocka_unit_test(short_digest),
		cmocka_unit_test(chains),	   cmocka_unit_test(commands),
		cmocka_unit_test(environments),	   cmocka_unit_test(the_rest),
		cmocka_unit_test(damaged_configs), cmocka_unit_test(label_rules),
		cmocka_unit_test(merged_roots),	   cmocka_unit_test(bound_roots),
		cmocka_unit_test(made_folders),	   cmocka_unit_test(copies),
		cmocka_unit_test(sizes),	   cmocka_unit_test(progress_lines),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
