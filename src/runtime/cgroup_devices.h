// SPDX-License-Identifier: Apache-2.0
/*
 * cgroups: device rules, what v1's set and v2's program share
 */
#pragma once

#include <linux/bpf.h>

#include "runtime/cgroup_internal.h"

enum {
	CGROUP_DEVICE_MKNOD = BPF_DEVCG_ACC_MKNOD,
	CGROUP_DEVICE_READ = BPF_DEVCG_ACC_READ,
	CGROUP_DEVICE_WRITE = BPF_DEVCG_ACC_WRITE
};
#define CGROUP_DEVICE_ALL (CGROUP_DEVICE_MKNOD | CGROUP_DEVICE_READ | CGROUP_DEVICE_WRITE)

struct cgroup_device {
	char type; /* b c */
	int64_t major, minor; /* SPEC_ABSENT: any */
	unsigned access; /* CGROUP_DEVICE_… */
};
/* v1's way: a default, and exceptions from it. */
struct cgroup_device_set {
	bool allow;
	struct cgroup_device *v;
	size_t n;
};

unsigned cgroup_device_access(const struct spec_device_rule *r);
/* One more rule. -ENOTSUP when the set cannot express it, -ENOMEM. */
int cgroup_device_set_apply(struct cgroup_device_set *s, const struct spec_device_rule *rule);
int cgroup_device_set_parse(struct cgroup_device_set *s, const char *list);
void cgroup_device_set_clear(struct cgroup_device_set *s);

/*
 * cgroup_bpf.c. The program for a list of rules: malloc'ed instructions, -E2BIG when there are
 * too many rules.
 */
int cgroup_bpf_compile(const struct spec_device_rule *rules, size_t n, struct bpf_insn **out,
		       size_t *count);
/* Loads and attaches it in place of what davit attached before. */
int cgroup_bpf_set(struct cgroup *cg, const struct spec_device_rule *rules, size_t n,
		   struct fault *f);
/* Device programs attached to this very group, as fds. */
int cgroup_bpf_get(struct cgroup *cg, int **progs, size_t *n, struct fault *f);
int cgroup_bpf_restore(struct cgroup *cg, const int *progs, size_t n);
