// SPDX-License-Identifier: Apache-2.0
/*
 * cgroups: device rules on v2, a BPF program
 *
 * The kernel asks each program of type CGROUP_DEVICE that is attached to a group, or to one above
 * it, at every open and mknod of a device (struct bpf_cgroup_dev_ctx: access << 16 | type, major,
 * minor); all have to return 1. The program here goes through the rules from the last to the
 * first with the accesses that are still undecided in a register: a rule that matches the device
 * decides those it names. One of them denied ends with 0; none left ends with 1, and so does the
 * end of the list, since a group without rules restricts nothing.
 *
 * It is attached with BPF_F_ALLOW_MULTI, so that systemd's or an administrator's programs stay
 * beside it. The attachment lives as long as the group; no fd of it is kept. A change attaches
 * the new program first and takes the old ones away after: in between both must agree, which is
 * never more than either allows.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/cgroup_devices.h"
#include "util/cleanup.h"
#include "util/fd.h"

#define RULE_INSNS 10 /* at most, of one rule */
#define FIXED_INSNS 16 /* head and tail */
#define INSNS_MAX 4000 /* under the verifier's old bound of 4,096 */
#define PROGS_MAX 64 /* of one kind attached to one group; the kernel's own bound */
#define PROG_NAME "davit_devices"

enum {
	R_RETURN = BPF_REG_0,
	R_CTX = BPF_REG_1,
	R_TYPE = BPF_REG_2,
	R_LEFT = BPF_REG_3,
	R_MAJOR = BPF_REG_4,
	R_MINOR = BPF_REG_5
};

struct code {
	struct bpf_insn *v;
	size_t n;
};

static void emit(struct code *c, uint8_t op, int dst, int src, int off, int32_t imm)
{
	c->v[c->n++] = (struct bpf_insn){
		.code = op,
		.dst_reg = (unsigned)dst & 0xf,
		.src_reg = (unsigned)src & 0xf,
		.off = (int16_t)off,
		.imm = imm,
	};
}

static void ret(struct code *c, int value)
{
	emit(c, BPF_ALU64 | BPF_MOV | BPF_K, R_RETURN, 0, 0, value);
	emit(c, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

static void rule_code(struct code *c, const struct spec_device_rule *r)
{
	unsigned access = cgroup_device_access(r);
	size_t jumps[3], n = 0;

	if (!access)
		return;
	/* JMP32 compares the low halves, where numbers of 2^31 and more are not sign-extended */
	if (r->type != 'a') {
		jumps[n++] = c->n;
		emit(c, BPF_JMP32 | BPF_JNE | BPF_K, R_TYPE, 0, 0,
		     r->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
	}
	if (r->major != SPEC_ABSENT) {
		jumps[n++] = c->n;
		emit(c, BPF_JMP32 | BPF_JNE | BPF_K, R_MAJOR, 0, 0, (int32_t)(uint32_t)r->major);
	}
	if (r->minor != SPEC_ABSENT) {
		jumps[n++] = c->n;
		emit(c, BPF_JMP32 | BPF_JNE | BPF_K, R_MINOR, 0, 0, (int32_t)(uint32_t)r->minor);
	}
	if (r->allow) {
		emit(c, BPF_ALU | BPF_AND | BPF_K, R_LEFT, 0, 0,
		     (int32_t)(CGROUP_DEVICE_ALL & ~access));
		emit(c, BPF_JMP32 | BPF_JNE | BPF_K, R_LEFT, 0, 2, 0);
		ret(c, 1);
	} else {
		/* BPF has no "jump if none of these bits": over a jump */
		emit(c, BPF_JMP32 | BPF_JSET | BPF_K, R_LEFT, 0, 1, (int32_t)access);
		emit(c, BPF_JMP | BPF_JA, 0, 0, 2, 0);
		ret(c, 0);
	}
	while (n-- > 0)
		c->v[jumps[n]].off = (int16_t)(c->n - jumps[n] - 1);
}

int cgroup_bpf_compile(const struct spec_device_rule *rules, size_t n, struct bpf_insn **out,
		       size_t *count)
{
	struct code c = { 0 };

	if (n > (INSNS_MAX - FIXED_INSNS) / RULE_INSNS)
		return -E2BIG;
	c.v = calloc(n * RULE_INSNS + FIXED_INSNS, sizeof(*c.v));
	if (!c.v)
		return -ENOMEM;
	emit(&c, BPF_LDX | BPF_MEM | BPF_W, R_TYPE, R_CTX,
	     offsetof(struct bpf_cgroup_dev_ctx, access_type), 0);
	emit(&c, BPF_ALU | BPF_MOV | BPF_X, R_LEFT, R_TYPE, 0, 0);
	emit(&c, BPF_ALU | BPF_AND | BPF_K, R_TYPE, 0, 0, 0xffff);
	emit(&c, BPF_ALU | BPF_RSH | BPF_K, R_LEFT, 0, 0, 16);
	emit(&c, BPF_LDX | BPF_MEM | BPF_W, R_MAJOR, R_CTX,
	     offsetof(struct bpf_cgroup_dev_ctx, major), 0);
	emit(&c, BPF_LDX | BPF_MEM | BPF_W, R_MINOR, R_CTX,
	     offsetof(struct bpf_cgroup_dev_ctx, minor), 0);
	for (size_t i = n; i-- > 0;) {
		const struct spec_device_rule *r = &rules[i];

		rule_code(&c, r);
		/*
		 * what stands before "all" is never reached, and the verifier refuses code that
		 * is dead
		 */
		if (r->type == 'a' && cgroup_device_access(r) == CGROUP_DEVICE_ALL &&
		    r->major == SPEC_ABSENT && r->minor == SPEC_ABSENT)
			break;
	}
	ret(&c, 1);
	*out = c.v;
	*count = c.n;
	return 0;
}

static int bpf(int cmd, union bpf_attr *attr)
{
	long r = syscall(SYS_bpf, cmd, attr, sizeof(*attr));

	return r < 0 ? -errno : (int)r;
}

static int prog_load(const struct bpf_insn *insns, size_t n)
{
	union bpf_attr attr;
	int fd, tries = 0;

	do {
		memset(&attr, 0, sizeof(attr));
		attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
		attr.insns = (uint64_t)(uintptr_t)insns;
		attr.insn_cnt = (uint32_t)n;
		attr.license = (uint64_t)(uintptr_t) "Apache-2.0";
		strcpy(attr.prog_name, PROG_NAME);
		fd = bpf(BPF_PROG_LOAD, &attr);
		/* the verifier gives way to signals */
	} while (fd == -EAGAIN && ++tries < 5);
	return fd;
}

static int prog_attach(int dir, int prog)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.target_fd = (uint32_t)dir;
	attr.attach_bpf_fd = (uint32_t)prog;
	attr.attach_type = BPF_CGROUP_DEVICE;
	attr.attach_flags = BPF_F_ALLOW_MULTI;
	return bpf(BPF_PROG_ATTACH, &attr);
}

static int prog_detach(int dir, int prog)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.target_fd = (uint32_t)dir;
	attr.attach_bpf_fd = (uint32_t)prog;
	attr.attach_type = BPF_CGROUP_DEVICE;
	return bpf(BPF_PROG_DETACH, &attr);
}

/* bpf(2) takes an O_RDONLY fd of the folder, not an O_PATH one. */
static int open_dir(struct cgroup *cg)
{
	int fd = openat(cg->host->h[cg->host->v2].fd, cg->path + 1,
			O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static bool is_ours(int prog)
{
	struct bpf_prog_info info;
	union bpf_attr attr;

	memset(&info, 0, sizeof(info));
	memset(&attr, 0, sizeof(attr));
	attr.info.bpf_fd = (uint32_t)prog;
	attr.info.info_len = sizeof(info);
	attr.info.info = (uint64_t)(uintptr_t)&info;
	return !bpf(BPF_OBJ_GET_INFO_BY_FD, &attr) &&
	       !strncmp(info.name, PROG_NAME, sizeof(info.name));
}

static void close_all(int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
	free(fds);
}

/* fds of davit's programs on this folder. */
static int query(int dir, int **out, size_t *n)
{
	uint32_t ids[PROGS_MAX];
	union bpf_attr attr;
	int *fds, r;

	*out = NULL;
	*n = 0;
	memset(&attr, 0, sizeof(attr));
	attr.query.target_fd = (uint32_t)dir;
	attr.query.attach_type = BPF_CGROUP_DEVICE;
	attr.query.prog_cnt = PROGS_MAX;
	attr.query.prog_ids = (uint64_t)(uintptr_t)ids;
	r = bpf(BPF_PROG_QUERY, &attr);
	if (r < 0)
		return r;
	fds = calloc(PROGS_MAX, sizeof(*fds));
	if (!fds)
		return -ENOMEM;
	for (uint32_t i = 0, count = attr.query.prog_cnt; i < count; i++) {
		int fd;

		memset(&attr, 0, sizeof(attr));
		attr.prog_id = ids[i];
		fd = bpf(BPF_PROG_GET_FD_BY_ID, &attr);
		if (fd == -ENOENT)
			continue;
		if (fd < 0) {
			close_all(fds, *n);
			*n = 0;
			return fd;
		}
		if (is_ours(fd))
			fds[(*n)++] = fd;
		else
			close(fd);
	}
	*out = fds;
	return 0;
}

static int refused(struct cgroup *cg, int err, const char *what, struct fault *f)
{
	char shown[PATH_MAX];

	cgroup_show(cg->host, cg->host->v2, cg->path, "", shown, sizeof(shown));
	fault_set(f, fault_code_of_errno(err), err, "linux.resources.devices: %s of cgroup %s",
		  what, shown);
	fault_at(f, what, shown);
	fault_arg(f, "devices");
	return -err;
}

int cgroup_bpf_set(struct cgroup *cg, const struct spec_device_rule *rules, size_t n,
		   struct fault *f)
{
	CLEANUP_FREE struct bpf_insn *insns = NULL;
	CLEANUP_CLOSE int dir = -1, prog = -1;
	size_t count = 0, n_old = 0;
	int *old = NULL, r;

	r = cgroup_bpf_compile(rules, n, &insns, &count);
	if (r < 0)
		return refused(cg, -r, "make the BPF device program", f);
	dir = open_dir(cg);
	if (dir < 0)
		return refused(cg, -dir, "open the folder", f);
	r = query(dir, &old, &n_old);
	if (r < 0)
		return refused(cg, -r, "look for the BPF device programs", f);
	prog = prog_load(insns, count);
	r = prog < 0 ? prog : prog_attach(dir, prog);
	for (size_t i = 0; i < n_old && !r; i++)
		r = prog_detach(dir, old[i]);
	close_all(old, n_old);
	return r < 0 ? refused(cg, -r,
			       prog < 0 ? "load the BPF device program"
					: "attach the BPF device program",
			       f)
		     : 0;
}

int cgroup_bpf_get(struct cgroup *cg, int **progs, size_t *n, struct fault *f)
{
	CLEANUP_CLOSE int dir = open_dir(cg);
	int r = dir < 0 ? dir : query(dir, progs, n);

	return r < 0 ? refused(cg, -r, "look for the BPF device programs", f) : 0;
}

int cgroup_bpf_restore(struct cgroup *cg, const int *progs, size_t n)
{
	CLEANUP_CLOSE int dir = open_dir(cg);
	size_t n_now = 0;
	int *now = NULL, r;

	if (dir < 0)
		return dir;
	r = query(dir, &now, &n_now);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n_now && !r; i++)
		r = prog_detach(dir, now[i]);
	for (size_t i = 0; i < n && !r; i++)
		r = prog_attach(dir, progs[i]);
	close_all(now, n_now);
	return r;
}
