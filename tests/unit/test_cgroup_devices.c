// SPDX-License-Identifier: Apache-2.0
/*
 * cgroups: device rules: v1's set of exceptions, v2's BPF program, and both in force on this host
 *
 * The program is run by a small interpreter of the instructions that it uses, against every kind
 * of access; then it is given to the kernel, on the v2 part of a hybrid host too.
 */
#include "runtime/cgroup_devices.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cgroup_kit.h"

#include "util/cleanup.h"

#define ANY SPEC_ABSENT
#define RULE(ok, t, ma, mi, acc)                                                                   \
	{                                                                                          \
		.allow = (ok), .type = (t), .major = (ma), .minor = (mi),                          \
		.read = (acc)&CGROUP_DEVICE_READ, .write = (acc)&CGROUP_DEVICE_WRITE,              \
		.mknod = (acc)&CGROUP_DEVICE_MKNOD                                                 \
	}
#define R CGROUP_DEVICE_READ
#define W CGROUP_DEVICE_WRITE
#define M CGROUP_DEVICE_MKNOD

static struct cgroup_host *host;

static int setup(void **state)
{
	(void)state;
	host = cgroup_kit_begin("/davit-unit-devices");
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

/* ---- the program ---- */

/*
 * Fails on any instruction that it does not know, on a jump out of the program, and when it does
 * not end.
 */
static int run(const struct bpf_insn *code, size_t n, char type, uint32_t major, uint32_t minor,
	       unsigned access)
{
	struct bpf_cgroup_dev_ctx ctx = { access << 16 | (type == 'b' ? BPF_DEVCG_DEV_BLOCK
								      : BPF_DEVCG_DEV_CHAR),
					  major, minor };
	uint64_t reg[11] = { 0 };

	for (size_t pc = 0, steps = 0; steps < 10000; steps++, pc++) {
		const struct bpf_insn *i = &code[pc];
		uint64_t *dst = &reg[i->dst_reg];

		assert_true(pc < n);
		switch (i->code) {
		case BPF_LDX | BPF_MEM | BPF_W:
			memcpy(&major, (char *)&ctx + i->off, 4);
			*dst = major;
			break;
		case BPF_ALU | BPF_MOV | BPF_X:
			*dst = (uint32_t)reg[i->src_reg];
			break;
		case BPF_ALU64 | BPF_MOV | BPF_K:
			*dst = (uint64_t)i->imm;
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			*dst = (uint32_t)*dst & (uint32_t)i->imm;
			break;
		case BPF_ALU | BPF_RSH | BPF_K:
			*dst = (uint32_t)*dst >> i->imm;
			break;
		case BPF_JMP32 | BPF_JNE | BPF_K:
			if ((uint32_t)*dst != (uint32_t)i->imm)
				pc += (size_t)i->off;
			break;
		case BPF_JMP32 | BPF_JSET | BPF_K:
			if ((uint32_t)*dst & (uint32_t)i->imm)
				pc += (size_t)i->off;
			break;
		case BPF_JMP | BPF_JA:
			pc += (size_t)i->off;
			break;
		case BPF_JMP | BPF_EXIT:
			return (int)reg[0];
		default:
			fail_msg("instruction %#x", i->code);
		}
	}
	fail();
	return -1;
}

/* What the rules say, by their definition. */
static int expected(const struct spec_device_rule *rules, size_t n, char type, int64_t major,
		    int64_t minor, unsigned access)
{
	for (unsigned bit = 1; bit < 8; bit <<= 1) {
		bool ok = true;

		for (size_t i = 0; i < n; i++)
			if ((rules[i].type == 'a' || rules[i].type == type) &&
			    (rules[i].major == ANY || rules[i].major == major) &&
			    (rules[i].minor == ANY || rules[i].minor == minor) &&
			    (cgroup_device_access(&rules[i]) & bit))
				ok = rules[i].allow;
		if ((access & bit) && !ok)
			return 0;
	}
	return 1;
}

static void test_program(void **state)
{
	static const struct spec_device_rule lists[][8] = {
		{ RULE(false, 'a', ANY, ANY, R | W | M), RULE(true, 'c', 1, 3, R | W | M),
		  RULE(true, 'c', 1, ANY, R) },
		{ RULE(true, 'c', 1, 3, R), RULE(true, 'c', 1, 3, W),
		  RULE(false, 'b', ANY, ANY, M) },
		{ RULE(false, 'a', ANY, ANY, R | W | M), RULE(true, 'c', ANY, ANY, R | W | M),
		  RULE(false, 'c', 1, 5, W) },
		{ RULE(false, 'a', ANY, ANY, W), RULE(true, 'a', 1, 3, W),
		  RULE(false, 'c', 1, 3, 0) },
		{ RULE(false, 'c', 1, 3, R), RULE(true, 'a', ANY, ANY, R | W | M),
		  RULE(false, 'c', 0xffffffff, 3, W) },
		{ RULE(false, 'a', ANY, ANY, R | W | M) },
	};
	static const int64_t majors[] = { 0, 1, 8, 0x7fffffff, 0xffffffff }, minors[] = { 0, 3, 5 };

	(void)state;
	for (size_t l = 0; l < ARRAY_SIZE(lists); l++) {
		CLEANUP_FREE struct bpf_insn *code = NULL;
		size_t n = 0, count;

		while (n < 8 && lists[l][n].type)
			n++;
		assert_int_equal(cgroup_bpf_compile(lists[l], n, &code, &count), 0);
		for (size_t a = 0; a < ARRAY_SIZE(majors); a++)
			for (size_t b = 0; b < ARRAY_SIZE(minors); b++)
				for (unsigned access = 1; access < 8; access++)
					for (const char *t = "bc"; *t; t++)
						assert_int_equal(
							run(code, count, *t, (uint32_t)majors[a],
							    (uint32_t)minors[b], access),
							expected(lists[l], n, *t, majors[a],
								 minors[b], access));
	}
}

static void test_program_bounds(void **state)
{
	static struct spec_device_rule many[5000];
	struct bpf_insn *code = NULL;
	size_t count;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = (struct spec_device_rule)RULE(true, 'c', (int64_t)i, 1, R);
	assert_int_equal(cgroup_bpf_compile(many, ARRAY_SIZE(many), &code, &count), -E2BIG);
	assert_int_equal(cgroup_bpf_compile(many, 0, &code, &count), 0);
	assert_int_equal(run(code, count, 'c', 1, 1, R), 1);
	free(code);
}

/* ---- v1's set ---- */

static void test_set(void **state)
{
	static const struct spec_device_rule none = RULE(false, 'a', ANY, ANY, R | W | M),
					     all = RULE(true, 'a', ANY, ANY, R | W | M),
					     null = RULE(true, 'c', 1, 3, R | W),
					     no_null_w = RULE(false, 'c', 1, 3, W),
					     mem = RULE(true, 'c', 1, ANY, R),
					     no_mem = RULE(false, 'c', 1, ANY, R | W | M);
	struct cgroup_device_set s = { .allow = true };

	(void)state;
	assert_int_equal(cgroup_device_set_apply(&s, &null), 0); /* allowed already */
	assert_int_equal(s.n, 0);
	assert_int_equal(cgroup_device_set_apply(&s, &no_null_w), 0);
	assert_int_equal(s.n, 1);
	assert_int_equal(s.v[0].access, W);
	assert_int_equal(cgroup_device_set_apply(&s, &none), 0);
	assert_false(s.allow);
	assert_int_equal(s.n, 0);
	assert_int_equal(cgroup_device_set_apply(&s, &null), 0);
	assert_int_equal(cgroup_device_set_apply(&s, &no_null_w), 0);
	assert_int_equal(s.n, 1);
	assert_int_equal(s.v[0].access, R);
	assert_int_equal(cgroup_device_set_apply(&s, &mem), 0);
	assert_int_equal(s.n, 2);
	/* write of 1:3 is not in the wider range, so it can go; read is */
	assert_int_equal(cgroup_device_set_apply(&s, &no_null_w), 0);
	{
		static const struct spec_device_rule no_null_r = RULE(false, 'c', 1, 3, R);

		assert_int_equal(cgroup_device_set_apply(&s, &no_null_r), -ENOTSUP);
		assert_int_equal(s.n, 2);
	}
	assert_int_equal(cgroup_device_set_apply(&s, &no_mem), 0);
	assert_int_equal(s.n, 0);
	assert_int_equal(cgroup_device_set_apply(&s, &all), 0);
	assert_true(s.allow);
	cgroup_device_set_clear(&s);
}

static void test_parse(void **state)
{
	struct cgroup_device_set s = { 0 };

	(void)state;
	assert_int_equal(cgroup_device_set_parse(&s, "c 1:3 rwm\nb 8:* r\nc *:* m\n"), 0);
	assert_int_equal(s.n, 3);
	assert_false(s.allow);
	assert_int_equal(s.v[1].type, 'b');
	assert_int_equal(s.v[1].major, 8);
	assert_true(s.v[1].minor == ANY);
	assert_int_equal(s.v[1].access, R);
	assert_int_equal(s.v[0].access, R | W | M);
	cgroup_device_set_clear(&s);
	assert_int_equal(cgroup_device_set_parse(&s, "a *:* rwm\n"), 0);
	assert_true(s.allow);
	assert_int_equal(s.n, 0);
	assert_int_equal(cgroup_device_set_parse(&s, "c 1 rwm\n"), -EINVAL);
	assert_int_equal(cgroup_device_set_parse(&s, "c x:1 rwm\n"), -EINVAL);
	cgroup_device_set_clear(&s);
}

/* ---- on this host ---- */

/*
 * Exit status of a child in the group: bit 0 /dev/null opens for writing, bit 1 /dev/kmsg for
 * reading, bit 2 mknod works.
 */
static int probe_in(struct cgroup *cg)
{
	struct cgroup_join join;
	struct fault f;
	int status;
	pid_t pid;

	assert_int_equal(cgroup_join_open(cg, &join, &f), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		int r = 0, fd;

		if (!cgroup_kit_join(&join))
			_exit(100);
		fd = open("/dev/null", O_WRONLY);
		r |= fd >= 0;
		fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
		r |= (fd >= 0) << 1;
		unlink("/tmp/davit-unit-node");
		r |= !mknod("/tmp/davit-unit-node", S_IFCHR | 0600, 1 << 8 | 11) << 2;
		unlink("/tmp/davit-unit-node");
		_exit(r);
	}
	cgroup_join_close(&join);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_not_equal(WEXITSTATUS(status), 100);
	return WEXITSTATUS(status);
}

static struct cgroup *make(struct cgroup_host *h, const char *path,
			   const struct spec_device_rule *rules, size_t n)
{
	struct spec spec = { .device_rules = (struct spec_device_rule *)rules,
			     .n_device_rules = n };
	struct cgroup *cg = NULL;
	struct fault f = { 0 };

	if (cgroup_create(h, path, &spec, &cg, &f) < 0)
		fail_msg("%s", f.message);
	return cg;
}

static void try_host(struct cgroup_host *h, const char *path)
{
	static const struct spec_device_rule strict[] = { RULE(false, 'a', ANY, ANY, R | W | M) },
					     kmsg[] = { RULE(false, 'a', -1, -1, R | W | M),
							RULE(true, 'c', 1, 11, R) };
	struct cgroup *cg;
	struct fault f = { 0 };
	json_object *j;

	cg = make(h, path, NULL, 0);
	assert_int_equal(probe_in(cg), 7);
	assert_int_equal(cgroup_remove(cg, &f), 0);
	cgroup_free(cg);

	cg = make(h, path, strict, ARRAY_SIZE(strict));
	assert_int_equal(probe_in(cg), 5);
	j = json_tokener_parse(
		"{\"devices\":[{\"allow\":false,\"access\":\"rwm\"},"
		"{\"allow\":true,\"type\":\"c\",\"major\":1,\"minor\":11,\"access\":\"rw\"}]}");
	if (cgroup_update(cg, j, &f) < 0)
		fail_msg("%s", f.message);
	assert_int_equal(probe_in(cg), 7);
	json_object_put(j);
	j = json_tokener_parse("{\"devices\":[{\"allow\":false}]}");
	assert_int_equal(cgroup_update(cg, j, &f), 0);
	assert_int_equal(probe_in(cg), 5);
	json_object_put(j);
	/* what fails after the rules puts the rules back */
	j = json_tokener_parse(
		"{\"devices\":[{\"allow\":true}],\"unified\":{\"cgroup.max.depth\":\"x\"}}");
	assert_true(cgroup_update(cg, j, &f) < 0);
	assert_int_equal(probe_in(cg), 5);
	json_object_put(j);
	j = json_tokener_parse("{\"devices\":[{\"allow\":true}]}");
	assert_int_equal(cgroup_update(cg, j, &f), 0);
	assert_int_equal(probe_in(cg), 7);
	json_object_put(j);
	j = json_tokener_parse("{\"devices\":[{\"allow\":true,\"access\":\"x\"}]}");
	assert_true(cgroup_update(cg, j, &f) < 0);
	assert_string_equal(f.argument, "devices[0]");
	json_object_put(j);
	j = json_tokener_parse("{\"devices\":[{\"type\":\"c\"}]}");
	assert_true(cgroup_update(cg, j, &f) < 0);
	json_object_put(j);
	assert_int_equal(cgroup_remove(cg, &f), 0);
	cgroup_free(cg);

	cg = make(h, path, kmsg, ARRAY_SIZE(kmsg));
	assert_int_equal(probe_in(cg), 7);
	assert_int_equal(cgroup_remove(cg, &f), 0);
	cgroup_free(cg);
}

static void test_host(void **state)
{
	struct spec_device_rule carve[] = { RULE(false, 'a', ANY, ANY, R | W | M),
					    RULE(true, 'c', 10, ANY, R | W | M),
					    RULE(false, 'c', 10, 229, R) };
	struct spec spec = { .device_rules = carve, .n_device_rules = 3 };
	struct cgroup *cg = NULL;
	struct fault f = { 0 };

	(void)state;
	if (!host)
		skip();
	try_host(host, "/davit-unit-devices/ns/d");
	/* v1 cannot; on v2 it is as the list says */
	if (host->devices >= 0) {
		assert_true(cgroup_create(host, "/davit-unit-devices/ns/d", &spec, &cg, &f) < 0);
		assert_int_equal(f.code, FAULT_FAILED_PRECONDITION);
		assert_string_equal(f.argument, "devices");
	} else {
		assert_int_equal(cgroup_create(host, "/davit-unit-devices/ns/d", &spec, &cg, &f),
				 0);
		assert_int_equal(cgroup_remove(cg, &f), 0);
		cgroup_free(cg);
	}
	carve[0].type = 'x';
	assert_true(cgroup_create(host, "/davit-unit-devices/ns/d", &spec, &cg, &f) < 0);
	assert_int_equal(f.code, FAULT_INVALID_ARGUMENT);
}

static void test_host_bpf(void **state)
{
	int devices;

	(void)state;
	if (!host || host->v2 < 0 || host->devices < 0)
		skip();
	/* as if v2 were all there is for devices */
	devices = host->devices;
	host->devices = -1;
	try_host(host, "/davit-unit-devices/ns/b");
	host->devices = devices;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_program), cmocka_unit_test(test_program_bounds),
		cmocka_unit_test(test_set),	cmocka_unit_test(test_parse),
		cmocka_unit_test(test_host),	cmocka_unit_test(test_host_bpf),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
