// SPDX-License-Identifier: Apache-2.0
/*
 * Compiling an OCI seccomp profile: config-linux.md "Seccomp"
 *
 * The profile becomes rules of a libseccomp filter, and the filter is exported as the instructions that
 * seccomp(2) takes, so that the child which loads them needs no library between clone and exec.
 *
 * Where the spec leaves room, profiles that work with runc and crun work here: names that libseccomp does not know are
 * skipped (a profile is written for many kernels), a rule with the default action says nothing, and
 * several conditions on one argument are alternatives. Profiles in the form of container engines (with
 * archMap, includes, excludes) are refused: read as the spec's form they would allow what
 * they allow only with certain capabilities.
 */
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/seccomp_internal.h"
#include "runtime/spec_internal.h"
#include "util/cleanup.h"
#include "util/fd.h"

/* linux/seccomp.h has these from 4.14, 4.14, 4.17, 5.7 and 5.19 on. */
#define FLAG_TSYNC (1u << 0)
#define FLAG_LOG (1u << 1)
#define FLAG_SPEC_ALLOW (1u << 2)
#define FLAG_TSYNC_ESRCH (1u << 4)
#define FLAG_WAIT_KILLABLE_RECV (1u << 5)

#define ARGS 6 /* of a syscall */
#define ERRNO_MAX 4095u /* MAX_ERRNO of the kernel; larger ones would be cut to it */
#define TRACE_MAX 0xffffu
#define ARCH_PREFIX "SCMP_ARCH_"
/*
 * Syscalls are found by a binary search, not one after the other. At load the kernel runs the filter once
 * for each syscall: podman's default profile takes 0.4 ms with the tree and 1.1 ms without.
 */
#define OPTIMIZE_TREE 2

static const struct spec_word actions[] = {
	{ "SCMP_ACT_ALLOW", SCMP_ACT_ALLOW },
	{ "SCMP_ACT_ERRNO", SCMP_ACT_ERRNO(0) },
	{ "SCMP_ACT_KILL", SCMP_ACT_KILL_THREAD },
	{ "SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS },
	{ "SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD },
	{ "SCMP_ACT_LOG", SCMP_ACT_LOG },
	{ "SCMP_ACT_NOTIFY", SCMP_ACT_NOTIFY },
	{ "SCMP_ACT_TRACE", SCMP_ACT_TRACE(0) },
	{ "SCMP_ACT_TRAP", SCMP_ACT_TRAP },
};

static const struct spec_word operators[] = {
	{ "SCMP_CMP_NE", SCMP_CMP_NE },
	{ "SCMP_CMP_LT", SCMP_CMP_LT },
	{ "SCMP_CMP_LE", SCMP_CMP_LE },
	{ "SCMP_CMP_EQ", SCMP_CMP_EQ },
	{ "SCMP_CMP_GE", SCMP_CMP_GE },
	{ "SCMP_CMP_GT", SCMP_CMP_GT },
	{ "SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ },
};

static const struct spec_word flag_words[] = {
	{ "SECCOMP_FILTER_FLAG_TSYNC", FLAG_TSYNC },
	{ "SECCOMP_FILTER_FLAG_LOG", FLAG_LOG },
	{ "SECCOMP_FILTER_FLAG_SPEC_ALLOW", FLAG_SPEC_ALLOW },
	{ "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", FLAG_WAIT_KILLABLE_RECV },
};

struct compiler {
	struct spec_reader r;
	scmp_filter_ctx filter;
	uint32_t default_action;
	bool notify;
};

static void fail_library(struct compiler *c, const struct spec_node *at, const char *key, int err,
			 const char *what)
{
	if (err == -ENOMEM) {
		if (!c->r.err)
			c->r.err = fault_set(c->r.f, FAULT_RESOURCE_EXHAUSTED, ENOMEM,
					     "compiling the seccomp profile");
		return;
	}
	spec_fail(&c->r, at, key, "%s: libseccomp refuses it (%s)", what, strerrordesc_np(-err));
}

/* An action with its errno, which only two of them take; EPERM unless given. */
static uint32_t read_action(struct compiler *c, const struct spec_node *at, const char *key,
			    const char *errno_key)
{
	int64_t action = SCMP_ACT_KILL_PROCESS;
	uint64_t value = EPERM;
	bool given;

	spec_require(
		&c->r, at, key,
		spec_word(&c->r, at, key, actions, ARRAY_SIZE(actions), "seccomp action", &action));
	if (action == SCMP_ACT_ERRNO(0)) {
		spec_uint(&c->r, at, errno_key, ERRNO_MAX, &value);
		return SCMP_ACT_ERRNO((uint32_t)value);
	}
	given = spec_uint(&c->r, at, errno_key, TRACE_MAX, &value);
	if (action == SCMP_ACT_TRACE(0))
		return SCMP_ACT_TRACE((uint32_t)value);
	if (given)
		spec_fail(&c->r, at, errno_key, "is for SCMP_ACT_ERRNO and SCMP_ACT_TRACE only");
	return (uint32_t)action;
}

static uint32_t arch_by_name(const char *name)
{
	char lower[32];
	size_t prefix = strlen(ARCH_PREFIX), n = strlen(name), i;

	if (strncmp(name, ARCH_PREFIX, prefix) || n - prefix >= sizeof(lower))
		return 0;
	for (i = 0; name[prefix + i]; i++) {
		char ch = name[prefix + i];

		if (ch >= 'a' && ch <= 'z')
			return 0;
		lower[i] = ch >= 'A' && ch <= 'Z' ? (char)(ch - 'A' + 'a') : ch;
	}
	lower[i] = '\0';
	/* libseccomp's names are the same in small letters; "native" is none of the spec's. */
	return seccomp_arch_resolve_name(lower);
}

static void add_architectures(struct compiler *c, const struct spec_node *at)
{
	struct spec_node array;
	size_t n = spec_array(&c->r, at, "architectures", &array), size;
	const char *name;

	for (size_t i = 0; i < n && spec_item_text(&c->r, &array, i, &name, &size); i++) {
		struct spec_node item = { .up = &array, .index = i };
		uint32_t arch = arch_by_name(name);
		int err;

		if (!arch) {
			spec_fail(&c->r, &item, NULL,
				  "architecture \"%.64s\" is not known to libseccomp %u.%u.%u",
				  name, seccomp_version()->major, seccomp_version()->minor,
				  seccomp_version()->micro);
			return;
		}
		err = seccomp_arch_add(c->filter, arch);
		if (err && err != -EEXIST)
			fail_library(c, &item, NULL, err, name);
	}
}

static unsigned read_flags(struct compiler *c, const struct spec_node *at)
{
	struct spec_node array;
	size_t n = spec_array(&c->r, at, "flags", &array);
	int64_t flag;
	unsigned flags = 0;

	for (size_t i = 0; i < n && spec_item_word(&c->r, &array, i, flag_words,
						   ARRAY_SIZE(flag_words), "seccomp flag", &flag);
	     i++)
		flags |= (unsigned)flag;
	return flags;
}

static void refuse_engine_form(struct compiler *c, const struct spec_node *at, const char *key)
{
	json_object *j;

	if (!json_object_object_get_ex(at->json, key, &j))
		return;
	if ((json_object_is_type(j, json_type_object) && json_object_object_length(j)) ||
	    (json_object_is_type(j, json_type_array) && json_object_array_length(j)))
		spec_fail(&c->r, at, key,
			  "is of the container engines' form of a profile, not of the spec's");
}

/* Fills cmp, which has room for n. Answers whether an argument is used twice. */
static bool read_args(struct compiler *c, const struct spec_node *array, size_t n,
		      struct scmp_arg_cmp *cmp)
{
	struct spec_node item;
	unsigned seen = 0;
	bool twice = false;

	for (size_t i = 0; i < n && spec_item(&c->r, array, i, &item); i++) {
		uint64_t index = 0, value = 0, value_two = 0;
		int64_t op = SCMP_CMP_EQ;

		spec_require(&c->r, &item, "index",
			     spec_uint(&c->r, &item, "index", ARGS - 1, &index));
		spec_require(&c->r, &item, "value",
			     spec_uint(&c->r, &item, "value", UINT64_MAX, &value));
		spec_uint(&c->r, &item, "valueTwo", UINT64_MAX, &value_two);
		spec_require(&c->r, &item, "op",
			     spec_word(&c->r, &item, "op", operators, ARRAY_SIZE(operators),
				       "seccomp operator", &op));
		/* For MASKED_EQ the spec's value is libseccomp's mask. */
		cmp[i] = (struct scmp_arg_cmp){ .arg = (unsigned)index,
						.op = (enum scmp_compare)op,
						.datum_a = value,
						.datum_b = value_two };
		twice |= seen >> index & 1;
		seen |= 1u << index;
	}
	return twice;
}

static void add_call(struct compiler *c, const struct spec_node *at, const char *name,
		     uint32_t action, const struct scmp_arg_cmp *cmp, size_t n, bool alternatives)
{
	int nr = seccomp_syscall_resolve_name(name), err = 0;

	if (nr == __NR_SCMP_ERROR)
		return;
	if (!alternatives)
		err = seccomp_rule_add_array(c->filter, action, nr, (unsigned)n, cmp);
	for (size_t i = 0; alternatives && i < n && !err; i++)
		err = seccomp_rule_add_array(c->filter, action, nr, 1, &cmp[i]);
	if (err)
		fail_library(c, at, NULL, err, name);
}

static void add_rule(struct compiler *c, const struct spec_node *at)
{
	CLEANUP_FREE struct scmp_arg_cmp *cmp = NULL;
	struct spec_node names, args;
	const char *name;
	size_t n_names, n_args, size;
	uint32_t action;
	bool alternatives;

	refuse_engine_form(c, at, "includes");
	refuse_engine_form(c, at, "excludes");
	action = read_action(c, at, "action", "errnoRet");
	n_names = spec_array(&c->r, at, "names", &names);
	if (!n_names)
		spec_fail(&c->r, at, "names", "must name a syscall");
	n_args = spec_array(&c->r, at, "args", &args);
	if (c->r.err)
		return;
	cmp = calloc(n_args + 1, sizeof(*cmp));
	if (!cmp) {
		fail_library(c, at, NULL, -ENOMEM, "");
		return;
	}
	alternatives = read_args(c, &args, n_args, cmp);
	if (action == SCMP_ACT_NOTIFY)
		c->notify = true;
	for (size_t i = 0; i < n_names && spec_item_text(&c->r, &names, i, &name, &size); i++) {
		struct spec_node item = { .up = &names, .index = i };

		/* libseccomp refuses a rule that says what the default says. */
		if (action != c->default_action)
			add_call(c, &item, name, action, cmp, n_args, alternatives);
	}
}

static int export_code(struct compiler *c, struct seccomp_program *out)
{
	CLEANUP_CLOSE int fd = memfd_create("seccomp", MFD_CLOEXEC);
	struct stat st;
	int r;

	if (fd < 0)
		return fault_sys(c->r.f, errno, "memfd_create", NULL);
	r = seccomp_export_bpf(c->filter, fd);
	if (r)
		return fault_set(c->r.f, fault_code_of_errno(-r), -r,
				 "exporting the seccomp filter");
	if (fstat(fd, &st) || lseek(fd, 0, SEEK_SET))
		return fault_sys(c->r.f, errno, "memfd", NULL);
	if ((size_t)st.st_size > BPF_MAXINSNS * sizeof(*out->code))
		return fault_set(c->r.f, FAULT_INVALID_ARGUMENT, 0,
				 "linux.seccomp: %zu instructions, more than the kernel's %u",
				 (size_t)st.st_size / sizeof(*out->code), BPF_MAXINSNS);
	out->code = malloc((size_t)st.st_size);
	if (!out->code)
		return fault_set(c->r.f, FAULT_RESOURCE_EXHAUSTED, ENOMEM,
				 "exporting the seccomp filter");
	r = fd_read_all(fd, out->code, (size_t)st.st_size);
	if (r)
		return fault_sys(c->r.f, -r, "read", "memfd");
	out->length = (unsigned short)((size_t)st.st_size / sizeof(*out->code));
	return 0;
}

static char *read_copy(struct compiler *c, const struct spec_node *at, const char *key)
{
	const char *text;
	char *copy;

	if (!spec_peek(&c->r, at, key, &text))
		return NULL;
	copy = strdup(text);
	if (!copy)
		fail_library(c, at, key, -ENOMEM, "");
	return copy;
}

static void read_listener(struct compiler *c, const struct spec_node *at,
			  struct seccomp_program *out)
{
	out->listener_path = read_copy(c, at, "listenerPath");
	out->listener_metadata = read_copy(c, at, "listenerMetadata");
	if (out->listener_path && out->listener_path[0] != '/')
		spec_fail(&c->r, at, "listenerPath", "is not an absolute path");
	if (out->listener_metadata && !out->listener_path)
		spec_fail(&c->r, at, "listenerMetadata", "needs listenerPath");
	if (c->notify && !out->listener_path)
		spec_fail(&c->r, at, "listenerPath",
			  "is missing: with SCMP_ACT_NOTIFY somebody has to answer");
}

static void compile(struct compiler *c, const struct spec_node *at, struct seccomp_program *out)
{
	struct spec_node array, item;
	size_t n;
	int err;

	refuse_engine_form(c, at, "archMap");
	c->default_action = read_action(c, at, "defaultAction", "defaultErrnoRet");
	if (c->default_action == SCMP_ACT_NOTIFY)
		spec_fail(&c->r, at, "defaultAction",
			  "SCMP_ACT_NOTIFY is for single syscalls: by default it would hold up the "
			  "container's own start");
	if (c->r.err)
		return;
	c->filter = seccomp_init(c->default_action);
	if (!c->filter) {
		fail_library(c, at, NULL, -ENOMEM, "");
		return;
	}
	err = seccomp_attr_set(c->filter, SCMP_FLTATR_CTL_OPTIMIZE, OPTIMIZE_TREE);
	if (err)
		fail_library(c, at, NULL, err, "binary tree");
	add_architectures(c, at);
	out->flags = read_flags(c, at);
	n = spec_array(&c->r, at, "syscalls", &array);
	for (size_t i = 0; i < n && spec_item(&c->r, &array, i, &item); i++)
		add_rule(c, &item);
	read_listener(c, at, out);
	if (out->flags & FLAG_WAIT_KILLABLE_RECV && !c->notify)
		spec_fail(
			&c->r, at, "flags",
			"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs a rule with SCMP_ACT_NOTIFY");
	/* seccomp(2): a listener is returned where TSYNC would return a thread. */
	if (out->flags & FLAG_TSYNC && c->notify)
		out->flags |= FLAG_TSYNC_ESRCH;
	out->notify = c->notify;
	if (!c->r.err)
		c->r.err = export_code(c, out);
}

int seccomp_compile(json_object *profile, struct seccomp_program *out, struct fault *f)
{
	struct compiler c = { .r = { .f = f } };
	struct spec_node top = { .name = "linux.seccomp", .json = profile };

	*out = (struct seccomp_program){ 0 };
	if (json_object_is_type(profile, json_type_object))
		compile(&c, &top, out);
	else
		spec_fail(&c.r, &top, NULL, "must be an object");
	if (c.filter)
		seccomp_release(c.filter);
	if (c.r.err)
		seccomp_program_clear(out);
	return c.r.err;
}

void seccomp_program_clear(struct seccomp_program *p)
{
	free(p->code);
	free(p->listener_path);
	free(p->listener_metadata);
	*p = (struct seccomp_program){ 0 };
}
