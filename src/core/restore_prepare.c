// SPDX-License-Identifier: Apache-2.0
/*
 * Restores, before criu: all that it is handed
 *
 * On a worker. The checkpoint only says which places there are (mounts, streams, network); what takes
 * them comes from the live container and the request. Sources of mounts are opened here, as clones of
 * mount trees, and moved into place in criu's own mount namespace, so that no path is resolved twice
 * and nothing is mounted on the host.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/restore_internal.h"
#include "runtime/cgroup.h"
#include "util/cleanup.h"
#include "util/fd.h"

int restore_no_memory(struct fault *f)
{
	return fault_sys(f, ENOMEM, "restore", "the checkpoint");
}

char *restore_text(struct restore *r, const char *fmt, ...)
{
	char **grown = reallocarray(r->texts, r->n_texts + 1, sizeof(*grown)), *text;
	va_list ap;
	int n;

	if (!grown)
		return NULL;
	r->texts = grown;
	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		return NULL;
	return r->texts[r->n_texts++] = text;
}

int restore_keep_fd(struct restore *r, int fd)
{
	int *grown = reallocarray(r->fds, r->n_fds + 1, sizeof(*grown));

	if (!grown) {
		close(fd);
		return -ENOMEM;
	}
	r->fds = grown;
	r->fds[r->n_fds++] = fd;
	return 0;
}

int restore_step(struct restore *r, enum criu_step_kind kind, int fd, const char *target,
		 const char *data, unsigned long flags)
{
	struct criu_step *grown = reallocarray(r->run->steps, r->run->n_steps + 1, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	r->run->steps = grown;
	grown[r->run->n_steps++] = (struct criu_step){
		.kind = kind, .fd = fd, .target = target, .data = data, .flags = flags
	};
	return 0;
}

int restore_inherit(struct restore *r, int fd, const char *key)
{
	struct criu_run *run = r->run;
	struct criu_inherit *keys;
	int *fds;

	for (size_t i = 0; i < r->n_inherit; i++)
		if (!strcmp(r->inherit[i].key, key))
			return 0;
	fds = reallocarray(run->fds, run->n_fds + 1, sizeof(*fds));
	if (!fds)
		return -ENOMEM;
	run->fds = fds;
	keys = reallocarray(r->inherit, r->n_inherit + 1, sizeof(*keys));
	if (!keys)
		return -ENOMEM;
	r->inherit = keys;
	keys[r->n_inherit++] = (struct criu_inherit){ .key = key,
						      .number = CRIU_FD_FIRST + (int)run->n_fds };
	fds[run->n_fds++] = fd;
	return 0;
}

/* criu begins in the container's cgroup, and so does all that it makes. */
static int join_cgroup(struct restore *r, const struct restore_start *s, struct fault *f)
{
	struct cgroup_join join;
	int e = cgroup_join_open(s->cgroup, &join, f);
	bool own = s->spec->ns[SPEC_NS_CGROUP].given && !s->spec->ns[SPEC_NS_CGROUP].path;

	if (e < 0)
		return e;
	for (size_t i = 0; i < join.n; i++) {
		int fd = fcntl(join.tasks[i], F_DUPFD_CLOEXEC, 0);

		if (!e && (fd < 0 || restore_keep_fd(r, fd) < 0 ||
			   restore_step(r, CRIU_JOIN, fd, "v1", NULL, 0) < 0))
			e = restore_no_memory(f);
	}
	if (!e)
		r->run->cgroup = TAKE_FD(join.v2_dir);
	cgroup_join_close(&join);
	if (!e && own && restore_step(r, CRIU_CGROUP_NS, -1, NULL, NULL, 0) < 0)
		e = restore_no_memory(f);
	return e;
}

/* Tasks without a namespace of their own would be restored into criu's, which is the host's. */
static int check_namespaces(const struct spec *spec, uint64_t own, struct fault *f)
{
	static const struct {
		enum spec_ns_kind kind;
		uint64_t flag;
		const char *name;
	} kinds[] = {
		{ SPEC_NS_PID, CLONE_NEWPID, "pid" },
		{ SPEC_NS_NETWORK, CLONE_NEWNET, "network" },
		{ SPEC_NS_IPC, CLONE_NEWIPC, "ipc" },
		{ SPEC_NS_UTS, CLONE_NEWUTS, "uts" },
		{ SPEC_NS_USER, CLONE_NEWUSER, "user" },
	};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (spec->ns[kinds[i].kind].given && !(own & kinds[i].flag))
			return fault_set(
				f, FAULT_PERMISSION_DENIED, 0,
				"the container's spec has a %s namespace, but the checkpoint's processes have none of their own",
				kinds[i].name);
	return 0;
}

static int id_maps(const struct spec_idmaps *from, struct ckpt_id_map **to)
{
	*to = calloc(from->n + 1, sizeof(**to));
	if (!*to)
		return -ENOMEM;
	for (size_t i = 0; i < from->n; i++)
		(*to)[i] = (struct ckpt_id_map){ from->v[i].container_id, from->v[i].host_id,
						 from->v[i].size };
	return 0;
}

static int check_user_maps(const struct serve_files *files, const struct spec *spec,
			   struct fault *f)
{
	CLEANUP_FREE struct ckpt_id_map *uids = NULL, *gids = NULL;

	/* a namespace by its path: nothing is mapped here */
	if (id_maps(&spec->uid_mappings, &uids) < 0 || id_maps(&spec->gid_mappings, &gids) < 0)
		return restore_no_memory(f);
	return ckpt_images_user_maps(files, uids, spec->uid_mappings.n, gids, spec->gid_mappings.n,
				     f);
}

static bool may_be_root(const struct spec_process *p)
{
	uint64_t setuid = UINT64_C(1) << CAP_SETUID;

	if (!p->uid || !p->caps.given)
		return true;
	if ((p->caps.permitted | p->caps.inheritable | p->caps.ambient) & setuid)
		return true;
	return !p->no_new_privileges && p->caps.bounding & setuid;
}

static int check(struct restore *r, const struct spec *spec, struct fault *f)
{
	struct ckpt_tasks had;
	uint64_t allowed;
	int e = checkpoint_files_check(&r->read, &had, f);

	if (e)
		return e;
	r->n_tasks = had.n;
	allowed = spec->process.caps.bounding | spec->process.caps.permitted |
		  spec->process.caps.effective | spec->process.caps.inheritable;
	if (spec->process.caps.given && (had.caps & ~allowed))
		return fault_set(
			f, FAULT_PERMISSION_DENIED, 0,
			"the checkpoint's processes have capabilities (%#llx) that the container's spec does not give",
			(unsigned long long)(had.caps & ~allowed));
	if (had.root && !may_be_root(&spec->process))
		return fault_set(
			f, FAULT_PERMISSION_DENIED, 0,
			"the checkpoint has processes of user 0, which user %u of the container's spec cannot become",
			spec->process.uid);
	e = check_namespaces(spec, had.namespaces, f);
	if (!e)
		e = check_user_maps(&r->read.files, spec, f);
	if (e < 0)
		return e;
	if (spec->seccomp && had.without_seccomp)
		return fault_set(
			f, FAULT_PERMISSION_DENIED, 0,
			"the container's spec has a seccomp profile, but processes of the checkpoint run without");
	if (spec->process.no_new_privileges && had.without_no_new_privs)
		return fault_set(
			f, FAULT_PERMISSION_DENIED, 0,
			"the container's spec has noNewPrivileges, but processes of the checkpoint run without");
	return 0;
}

/*
 * Where the user namespace's root opens what is handed in it has no right to search the state folder. In
 * criu's mount namespace an open folder takes that one's place, with nothing in it but criu's own.
 */
static int open_way(struct restore *r, struct fault *f)
{
	const char *state = r->d->config.state, *parent = restore_text(r, "%s/criu", state);
	int fd;

	if (!r->read.record.user_ns)
		return 0;
	if (chmod(r->run->dir, 0711) < 0)
		return fault_sys(f, errno, "set the mode of", r->run->dir);
	fd = open_tree(AT_FDCWD, r->run->dir, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (fd < 0)
		return fault_sys(f, errno, "clone the mount of", r->run->dir);
	if (!parent || restore_keep_fd(r, fd) < 0 ||
	    restore_step(r, CRIU_MOUNT_TMPFS, -1, state, "mode=711",
			 MS_NOSUID | MS_NODEV | MS_NOEXEC) < 0 ||
	    restore_step(r, CRIU_MKDIR, -1, parent, NULL, 0) < 0 ||
	    restore_step(r, CRIU_MKDIR, -1, r->run->dir, NULL, 0) < 0 ||
	    restore_step(r, CRIU_MOUNT_TREE, fd, r->run->dir, NULL, 0) < 0)
		return restore_no_memory(f);
	return 0;
}

static int read_checkpoint(struct restore *r, struct fault *f)
{
	struct store_call c = { .store = r->d->store, .ns = r->ns, .f = f };

	if (r->folder)
		return checkpoint_folder_read(r->folder, &r->read, f);
	return checkpoint_image_read(&c, r->name, r->has_target ? &r->target : NULL, &r->read);
}

/* Of an earlier restore with this work folder: criu writes no pid over another. */
static int forget_pid(struct restore *r, struct fault *f)
{
	CLEANUP_FREE char *path = NULL;

	if (!r->work_path)
		return 0;
	if (asprintf(&path, "%s/" CRIU_PIDFILE, r->work_path) < 0) {
		path = NULL;
		return restore_no_memory(f);
	}
	return unlink(path) < 0 && errno != ENOENT ? fault_sys(f, errno, "remove", path) : 0;
}

static int write_args(struct restore *r, const char *root, struct fault *f)
{
	const struct ckpt_record *k = &r->read.record;
	struct criu_restore c = {
		.c = {
			.program = r->run->program,
			.images_dir = r->run->dir,
			.work_dir = r->work_path ? r->work_path : r->run->dir,
			.stream = true,
			.open_tcp = k->open_tcp && !r->tcp_close,
			.external_unix_sockets = k->external_unix_sockets,
			.shell_job = k->shell_job,
			.file_locks = k->file_locks,
			.link_remap = k->link_remap,
			.network_lock = k->open_tcp && !r->tcp_close ? NULL : "skip",
			/*
			 * criu has joined the container's cgroup, where all stay that it makes. A
			 * checkpoint's own cgroups are another's word for where that would be.
			 */
			.cgroups_mode = "ignore",
			.empty_namespaces = (const char *const *)k->empty_namespaces,
			.n_empty = k->n_empty,
			.log_level = 2,
		},
		.root = root,
		.tcp_close = r->tcp_close,
		.inherit = r->inherit,
		.n_inherit = r->n_inherit,
		.sources = r->sources,
		.n_sources = r->n_sources,
	};
	char davit[64];
	int e;

	snprintf(davit, sizeof(davit), "/proc/%d/exe", (int)getpid());
	e = hook_script_write(r->run->dir, davit, "post-restore", f);
	if (e < 0)
		return e;
	c.c.action_script = restore_text(r, "%s/" HOOK_SCRIPT, r->run->dir);
	if (!c.c.action_script)
		return restore_no_memory(f);
	if (r->work_path && !(r->run->work_dir = strdup(r->work_path)))
		return restore_no_memory(f);
	e = forget_pid(r, f);
	if (e < 0)
		return e;
	criu_args_restore(&r->run->args, &c);
	return r->run->args.failed ? restore_no_memory(f) : 0;
}

/* The task's own goes with the task, and json-c's counts are not for several threads. */
static int copy_spec(struct restore *r, const struct spec *spec, struct fault *f)
{
	const char *text = json_object_to_json_string_ext(spec->json, JSON_C_TO_STRING_PLAIN);

	return text ? spec_parse_text(text, strlen(text), &r->spec, f) : restore_no_memory(f);
}

int restore_prepare(struct restore *r, const struct restore_start *s, struct fault *f)
{
	char *root = NULL;
	int e;

	r->ns = strdup(s->ns);
	if (!r->ns)
		return restore_no_memory(f);
	e = copy_spec(r, s->spec, f);
	if (e < 0)
		return e;
	r->run->restore = true;
	e = read_checkpoint(r, f);
	if (!e)
		e = check(r, s->spec, f);
	if (!e)
		e = criu_run_open(r->run, r->d, f);
	if (!e)
		e = open_way(r, f);
	if (!e)
		e = restore_limits_widen(r, s, f);
	if (!e)
		e = join_cgroup(r, s, f);
	if (!e)
		e = restore_root(r, s, &root, f);
	if (!e)
		e = restore_mounts(r, s, f);
	if (!e)
		e = restore_net(r, s, f);
	if (!e)
		e = restore_stdio(r, s, f);
	return e < 0 ? e : write_args(r, root, f);
}
