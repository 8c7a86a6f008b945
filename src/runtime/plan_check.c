// SPDX-License-Identifier: Apache-2.0
/*
 * What can be known of a launch before anything runs
 *
 * Program and working directory are looked up inside the rootfs as it is on the host; where a mount of the container may cover or supply them, and for
 * rootfs lists and execs, the child looks again (PLAN_FIND). Sysctls are checked against the namespaces that hold them, labels
 * against the security modules of the host: what cannot be done is refused, not left out.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/plan.h"
#include "util/cleanup.h"
#include "util/fd.h"

static bool below(const char *path, const char *folder)
{
	size_t len = strlen(folder);

	return !strncmp(path, folder, len) && (!path[len] || path[len] == '/');
}

static bool of_kernel(const char *path)
{
	return below(path, "/proc") || below(path, "/sys") || below(path, "/dev");
}

/* Whether the container's mounts leave programs and folders of the rootfs as the host sees them. */
static bool rootfs_tells(const struct spec *s)
{
	for (size_t i = 0; i < s->n_mounts; i++)
		if (!of_kernel(s->mounts[i].destination))
			return false;
	return true;
}

static int program_fault(struct fault *f, const char *name, int err, bool in_path)
{
	bool missing = err == ENOENT || err == ENOTDIR;

	fault_set(f, missing ? FAULT_NOT_FOUND : FAULT_FAILED_PRECONDITION, missing ? 0 : err,
		  "%s%s: %s", missing ? "program not found" : "program cannot be executed",
		  missing && in_path ? " in PATH" : "", name);
	if (f)
		f->err = err;
	fault_at(f, "find program", name);
	fault_arg(f, "process.args");
	if (f)
		f->exit_code = missing ? 127 : 126;
	return -err;
}

static int look_at(int root, const char *path)
{
	CLEANUP_CLOSE int fd = fd_open_in_root(root, path, O_PATH, 0);
	struct stat st;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	return S_ISREG(st.st_mode) && st.st_mode & 0111 ? 0 : -EACCES;
}

static int search(struct plan *p, int root, const char *cwd, const char *name, int *err)
{
	const char *end;

	*err = ENOENT;
	for (const char *at = p->search; at; at = *end ? end + 1 : NULL) {
		size_t len;
		char *path;
		int r;

		end = strchrnul(at, ':');
		len = (size_t)(end - at);
		if (len && *at == '/')
			path = plan_printf(p, "%.*s/%s", (int)len, at, name);
		else
			path = plan_printf(p, "%s/%.*s/%s", cwd, (int)len, at, name);
		if (!path)
			return -ENOMEM;
		r = look_at(root, path);
		if (!r) {
			p->program = path;
			return 0;
		}
		if (r == -EACCES)
			*err = EACCES;
	}
	return 0;
}

int plan_check_program(struct plan *p, const struct launch_request *r, const char *root,
		       struct fault *f)
{
	const char *name = r->spec->process.args.v[0];
	const char *cwd = r->spec->process.cwd ? r->spec->process.cwd : "/";
	bool tells = root && rootfs_tells(r->spec);
	CLEANUP_CLOSE int fd = -1;
	int err = 0, e = 0;

	if (root) {
		fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0) {
			e = fault_sys(f, errno, "open root", root);
			fault_arg(f, "root.path");
			return e;
		}
	}
	if (tells && !of_kernel(cwd)) {
		CLEANUP_CLOSE int dir = fd_open_in_root(fd, cwd, O_PATH | O_DIRECTORY, 0);

		if (dir < 0) {
			e = fault_sys(f, -dir, "working directory", cwd);
			fault_arg(f, "process.cwd");
			return e;
		}
	}
	if (fd >= 0 && !of_kernel(name)) {
		if (!strchr(name, '/')) {
			e = search(p, fd, cwd, name, &err);
		} else {
			char *path = name[0] == '/' ? plan_strdup(p, name)
						    : plan_printf(p, "%s/%s", cwd, name);

			e = path ? look_at(fd, path) : -ENOMEM;
			err = e == -ENOMEM ? 0 : -e;
			e = e == -ENOMEM ? e : 0;
			p->program = err ? NULL : name;
		}
		if (e < 0)
			return plan_no_memory(f);
		if (!p->program && tells)
			return program_fault(f, name, err, !strchr(name, '/'));
	}
	if (!tells || of_kernel(name))
		return plan_add(p, PLAN_FIND, "find program", name) ? 0 : plan_no_memory(f);
	return 0;
}

static const struct {
	const char *key; /* a final '.' or '/' is a prefix */
	enum spec_ns_kind ns;
} sysctls[] = {
	{ "kernel.msgmax", SPEC_NS_IPC },      { "kernel.msgmnb", SPEC_NS_IPC },
	{ "kernel.msgmni", SPEC_NS_IPC },      { "kernel.msg_next_id", SPEC_NS_IPC },
	{ "kernel.sem", SPEC_NS_IPC },	       { "kernel.sem_next_id", SPEC_NS_IPC },
	{ "kernel.shmall", SPEC_NS_IPC },      { "kernel.shmmax", SPEC_NS_IPC },
	{ "kernel.shmmni", SPEC_NS_IPC },      { "kernel.shm_next_id", SPEC_NS_IPC },
	{ "kernel.auto_msgmni", SPEC_NS_IPC }, { "kernel.shm_rmid_forced", SPEC_NS_IPC },
	{ "fs.mqueue.", SPEC_NS_IPC },	       { "net.", SPEC_NS_NETWORK },
	{ "kernel.domainname", SPEC_NS_UTS },  { "user.", SPEC_NS_USER },
};

static bool sysctl_is(const char *key, const char *name)
{
	for (; *name; key++, name++)
		if (*key != *name && !(*name == '.' && *key == '/'))
			return false;
	return name[-1] == '.' || !*key;
}

int plan_check_sysctl(const struct spec *s, const struct spec_sysctl *c, struct fault *f)
{
	const char *why = "it is not of a namespace, so it would change the host";

	/* two separators in a row, and names of dots, lead elsewhere */
	if (!*c->key || strstr(c->key, "..") || strstr(c->key, "//") || strstr(c->key, "./") ||
	    strstr(c->key, "/.") || *c->key == '/' || *c->key == '.') {
		why = "not a name";
	} else {
		for (size_t i = 0; i < ARRAY_SIZE(sysctls); i++) {
			if (!sysctl_is(c->key, sysctls[i].key))
				continue;
			if (s->ns[sysctls[i].ns].given &&
			    !(s->ns[sysctls[i].ns].path &&
			      plan_same_ns(s->ns[sysctls[i].ns].path, sysctls[i].ns)))
				return 0;
			fault_set(
				f, FAULT_INVALID_ARGUMENT, 0,
				"linux.sysctl %s: needs a namespace of the kind %s, and the container has the host's",
				c->key, spec_ns_name(sysctls[i].ns));
			fault_arg(f, "linux.sysctl");
			return -EINVAL;
		}
		if (sysctl_is(c->key, "kernel.hostname"))
			why = "hostname is a field of its own";
	}
	fault_set(f, FAULT_INVALID_ARGUMENT, 0, "linux.sysctl %s: %s", c->key, why);
	fault_arg(f, "linux.sysctl");
	return -EINVAL;
}

bool plan_selinux(void)
{
	return !access("/sys/fs/selinux/enforce", F_OK);
}

static bool apparmor(void)
{
	CLEANUP_CLOSE int fd = open("/sys/module/apparmor/parameters/enabled",
				    O_RDONLY | O_CLOEXEC);
	char c = 0;

	return fd >= 0 && read(fd, &c, 1) == 1 && c == 'Y';
}

static int no_module(struct fault *f, const char *argument, const char *module, const char *value)
{
	fault_set(f, FAULT_FAILED_PRECONDITION, 0, "%s \"%s\": this host runs without %s", argument,
		  value, module);
	fault_arg(f, argument);
	return -EOPNOTSUPP;
}

int plan_check_labels(struct plan *p, const struct spec_process *proc, const char *mount_label,
		      struct fault *f)
{
	const char *profile = proc->apparmor_profile && *proc->apparmor_profile
				      ? proc->apparmor_profile
				      : NULL;
	const char *label = proc->selinux_label && *proc->selinux_label ? proc->selinux_label
									: NULL;

	if (mount_label && *mount_label && !plan_selinux())
		return no_module(f, "linux.mountLabel", "SELinux", mount_label);
	if (label && !plan_selinux())
		return no_module(f, "process.selinuxLabel", "SELinux", label);
	if (profile && !apparmor()) {
		/* to be unconfined where nothing confines is what is there */
		if (strcmp(profile, "unconfined"))
			return no_module(f, "process.apparmorProfile", "AppArmor", profile);
		profile = NULL;
	}
	if (label && profile)
		return fault_set(
			f, FAULT_INVALID_ARGUMENT, 0,
			"process.selinuxLabel and process.apparmorProfile exclude each other");
	if (label) {
		p->label = label;
		p->label_file = "/proc/self/attr/exec";
	} else if (profile) {
		p->label = plan_printf(p, "exec %s", profile);
		if (!p->label)
			return plan_no_memory(f);
		p->label_file = access("/proc/self/attr/apparmor/exec", F_OK)
					? "/proc/self/attr/exec"
					: "/proc/self/attr/apparmor/exec";
	}
	return 0;
}
