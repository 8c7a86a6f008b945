// SPDX-License-Identifier: Apache-2.0
/*
 * cgroups: making and joining a container's folders
 *
 * Plain calls on the fds of the mounts: libcgroup's own create, attach and delete take several
 * times as long, since they read the table of mounts each time and change owner and mode of every
 * file.
 *
 * A leaf belongs to whoever made it: mkdir is the test, so a folder that exists is never adopted.
 * Parents (all folders above a leaf) are shared: they are made as needed under the host's lock,
 * and a leaf whose parent vanished in between (cgroup_prune) is tried again. Three things make a
 * folder fit to hold a leaf:
 *   - cpuset on v1: a group without cpus or mems takes no process. Parents that are made here get
 *     those of the folder above, and cgroup.clone_children, so that the kernel fills what is made
 *     below them. A leaf below someone else's folder is filled by hand;
 *   - v2: a controller's files are there only when every folder above hands it down by
 *     cgroup.subtree_control. On a host with v2 alone all controllers are handed down
 *     (measurements need them); on a hybrid one only those that a container asks for, since
 *     making the files takes its time;
 *   - named hierarchies need nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/cgroup_internal.h"
#include "util/cleanup.h"
#include "util/fd.h"

/* of a leaf whose parents are removed by others meanwhile */
#define MAKE_TRIES 8

/* ---- cpuset on v1 ---- */

static bool is_blank(const char *text)
{
	return !text[strspn(text, " \n\t")];
}

/*
 * Fills one of the two files of one folder from the next above that has a value. The caller holds
 * the lock.
 */
static int cpuset_fill_file(struct cgroup_host *h, const char *path, const char *file,
			    struct fault *f)
{
	CLEANUP_FREE char *own = NULL, *up = NULL, *above = NULL;
	char shown[PATH_MAX], *slash;
	int r;

	r = cgroup_file_read(h, h->cpuset, path, file, &own);
	if (!r && !is_blank(own))
		return 0;
	if (!r && path[1]) {
		above = strdup(path);
		if (!above)
			return fault_sys(f, ENOMEM, "fill", file);
		slash = strrchr(above, '/');
		slash[slash == above ? 1 : 0] = 0;
		r = cpuset_fill_file(h, above, file, f);
		if (r < 0)
			return r;
		r = cgroup_file_read(h, h->cpuset, above, file, &up);
		if (!r)
			r = cgroup_file_write(h, h->cpuset, path, file, up);
	}
	if (r < 0) {
		cgroup_show(h, h->cpuset, path, file, shown, sizeof(shown));
		return fault_sys(f, -r, "fill", shown);
	}
	return 0;
}

static int cpuset_fill_locked(struct cgroup_host *h, const char *path, struct fault *f)
{
	int r = cpuset_fill_file(h, path, "cpuset.cpus", f);

	return r < 0 ? r : cpuset_fill_file(h, path, "cpuset.mems", f);
}

int cgroup_cpuset_fill(struct cgroup_host *h, const char *path, struct fault *f)
{
	static const char *const files[] = { "cpuset.cpus", "cpuset.mems" };
	bool full = true;
	int r;

	if (h->cpuset < 0)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(files) && full; i++) {
		CLEANUP_FREE char *text = NULL;

		r = cgroup_file_read(h, h->cpuset, path, files[i], &text);
		if (r == -ENOMEM)
			return fault_sys(f, ENOMEM, "read", files[i]);
		full = !r && !is_blank(text);
	}
	if (full)
		return 0;
	pthread_mutex_lock(&h->lock);
	r = cpuset_fill_locked(h, path, f);
	pthread_mutex_unlock(&h->lock);
	return r;
}

/* ---- v2: handing controllers down ---- */

static bool has_word(const char *text, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = strstr(text, word); p; p = strstr(p + 1, word))
		if ((p == text || strchr(" \n", p[-1])) && (!p[n] || strchr(" \n", p[n])))
			return true;
	return false;
}

/* One controller in one folder's subtree_control. 0 when it is there already. */
static int v2_hand_down(struct cgroup_host *h, const char *folder, const char *controller)
{
	CLEANUP_FREE char *have = NULL, *procs = NULL;
	char text[64];
	int r = cgroup_file_read(h, h->v2, folder, "cgroup.subtree_control", &have);

	if (r < 0)
		return r;
	if (has_word(have, controller))
		return 0;
	/*
	 * The kernel refuses it for most controllers, but takes those that work by thread, and then no
	 * process can be put in any group below ("domain invalid"). The root is free of all this.
	 */
	if (folder[1]) {
		r = cgroup_file_read(h, h->v2, folder, "cgroup.procs", &procs);
		if (r < 0 && r != -EOPNOTSUPP)
			return r;
		if (r < 0 || !is_blank(procs))
			return -EBUSY;
	}
	snprintf(text, sizeof(text), "+%s", controller);
	return cgroup_file_write(h, h->v2, folder, "cgroup.subtree_control", text);
}

/*
 * In every folder above path, from the top: the root, or the group that was delegated. On failure *at holds the folder. The caller holds the
 * lock.
 */
static int v2_hand_down_all(struct cgroup_host *h, const char *path, const char *controller,
			    char *at, size_t size)
{
	size_t top = h->top ? strlen(h->top) : 0;

	if (top && (strncmp(path, h->top, top) || path[top] != '/'))
		top = 0;
	for (const char *p = path + top; p; p = strchr(p + 1, '/')) {
		int r;

		if (p == path)
			snprintf(at, size, "/");
		else
			snprintf(at, size, "%.*s", (int)(p - path), path);
		r = v2_hand_down(h, at, controller);
		if (r < 0)
			return r;
	}
	return 0;
}

int cgroup_v2_enable(struct cgroup_host *h, const char *path, const char *controller,
		     struct fault *f)
{
	CLEANUP_FREE char *have = NULL;
	char at[PATH_MAX];
	int r = cgroup_file_read(h, h->v2, path, "cgroup.controllers", &have);

	if (!r && has_word(have, controller))
		return 0;
	pthread_mutex_lock(&h->lock);
	r = v2_hand_down_all(h, path, controller, at, sizeof(at));
	pthread_mutex_unlock(&h->lock);
	if (r == -EBUSY)
		r = fault_set(
			f, FAULT_FAILED_PRECONDITION, EBUSY,
			"cgroup %s has processes of its own, so cgroup v2 lets it hand no \"%s\" controller down",
			at, controller);
	else if (r < 0)
		r = fault_set(f, fault_code_of_errno(-r), -r,
			      "hand the \"%s\" controller down in cgroup %s", controller, at);
	if (r < 0)
		fault_at(f, "hand a cgroup controller down", at);
	return r;
}

/*
 * All controllers, as far as it goes: what a container needs is asked for again by
 * cgroup_v2_enable.
 */
static void v2_enable_all(struct cgroup_host *h, const char *path)
{
	CLEANUP_FREE char *names = strdup(h->h[h->v2].names);
	char at[PATH_MAX], *save = NULL;

	if (!names)
		return;
	for (char *c = strtok_r(names, " ", &save); c; c = strtok_r(NULL, " ", &save))
		v2_hand_down_all(h, path, c, at, sizeof(at));
}

/* ---- folders ---- */

/* One parent folder in all hierarchies. The caller holds the lock. */
static int parent_make(struct cgroup_host *h, const char *path, struct fault *f)
{
	char shown[PATH_MAX];

	for (size_t i = 0; i < h->n; i++) {
		int r;

		if (mkdirat(h->h[i].fd, path + 1, 0755) < 0) {
			if (errno == EEXIST)
				continue;
			r = errno;
			cgroup_show(h, (int)i, path, "", shown, sizeof(shown));
			return fault_sys(f, r, "make the cgroup", shown);
		}
		if ((int)i != h->cpuset)
			continue;
		r = cpuset_fill_locked(h, path, f);
		if (r < 0)
			return r;
		/* only a shortcut: a leaf that it does not fill is filled by hand */
		(void)cgroup_file_write(h, (int)i, path, "cgroup.clone_children", "1");
	}
	return 0;
}

int cgroup_parents_make(struct cgroup_host *h, const char *path, struct fault *f)
{
	char folder[PATH_MAX];
	int r = 0;

	pthread_mutex_lock(&h->lock);
	for (const char *p = strchr(path + 1, '/'); p && !r; p = strchr(p + 1, '/')) {
		snprintf(folder, sizeof(folder), "%.*s", (int)(p - path), path);
		r = parent_make(h, folder, f);
	}
	if (!r && h->layout == CGROUP_V2)
		v2_enable_all(h, path);
	pthread_mutex_unlock(&h->lock);
	return r;
}

/* The leaf in all hierarchies, or in none. */
static int leaf_make(struct cgroup_host *h, const char *path, struct fault *f)
{
	char shown[PATH_MAX];
	size_t done = 0;
	int err = 0;

	for (int tries = 0; done < h->n && !err;) {
		if (!mkdirat(h->h[done].fd, path + 1, 0755)) {
			done++;
			continue;
		}
		if (errno != ENOENT || ++tries > MAKE_TRIES) {
			err = errno;
		} else {
			err = -cgroup_parents_make(h, path, f);
			if (err)
				goto undo;
		}
	}
	if (!err)
		return 0;
	cgroup_show(h, (int)done, path, "", shown, sizeof(shown));
	if (err == EEXIST)
		fault_set(f, FAULT_ALREADY_EXISTS, EEXIST, "the cgroup %s is there already", shown);
	else
		fault_sys(f, err, "make the cgroup", shown);
	fault_at(f, "make the cgroup", shown);
undo:
	while (done-- > 0)
		unlinkat(h->h[done].fd, path + 1, AT_REMOVEDIR);
	return -err;
}

/* On a host with v2 alone a leaf has all controllers, also below a parent that was there before. */
static void leaf_check_v2(struct cgroup_host *h, const char *path)
{
	CLEANUP_FREE char *have = NULL;
	size_t n = strlen(h->h[h->v2].names);

	if (cgroup_file_read(h, h->v2, path, "cgroup.controllers", &have) < 0)
		return;
	/* both list in the kernel's order: names has a blank at both ends, the file a newline */
	if (strlen(have) + 1 >= n)
		return;
	pthread_mutex_lock(&h->lock);
	v2_enable_all(h, path);
	pthread_mutex_unlock(&h->lock);
}

int cgroup_create(struct cgroup_host *h, const char *path, const struct spec *spec,
		  struct cgroup **out, struct fault *f)
{
	struct cgroup_values values = { 0 };
	json_object *linux_json = NULL, *resources = NULL;
	struct cgroup *cg = NULL;
	int r;

	if (cgroup_path_check(path) < 0)
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "\"%s\" is no path of a cgroup",
				 path);
	r = cgroup_open(h, path, &cg);
	if (r < 0)
		return fault_sys(f, -r, "make the cgroup", path);
	r = leaf_make(h, path, f);
	if (r < 0) {
		cgroup_free(cg);
		return r;
	}
	if (h->layout == CGROUP_V2)
		leaf_check_v2(h, path);
	if (spec && spec->json && json_object_object_get_ex(spec->json, "linux", &linux_json))
		json_object_object_get_ex(linux_json, "resources", &resources);
	r = cgroup_resources_read(cg, true, resources, &values, f);
	if (!r)
		r = cgroup_values_apply(cg, &values, false, f);
	/* after the values: cpus and mems that were given need no copy */
	if (!r)
		r = cgroup_cpuset_fill(h, path, f);
	if (!r && spec && spec->n_device_rules)
		r = cgroup_devices_set(cg, spec->device_rules, spec->n_device_rules, true, f);
	cgroup_values_clear(&values);
	if (r < 0) {
		/*
		 * nobody was in it, so this cannot be refused; if it is, the first error is the
		 * one to tell
		 */
		cgroup_remove(cg, NULL);
		cgroup_free(cg);
		return r;
	}
	*out = cg;
	return 0;
}

int cgroup_open(struct cgroup_host *h, const char *path, struct cgroup **out)
{
	size_t n = strlen(path) + 1;
	struct cgroup *cg;

	if (cgroup_path_check(path) < 0)
		return -EINVAL;
	cg = malloc(sizeof(*cg) + n);
	if (!cg)
		return -ENOMEM;
	cg->host = h;
	memcpy(cg->path, path, n);
	*out = cg;
	return 0;
}

void cgroup_free(struct cgroup *cg)
{
	free(cg);
}

const char *cgroup_path(const struct cgroup *cg)
{
	return cg->path;
}

int cgroup_join_open(const struct cgroup *cg, struct cgroup_join *join, struct fault *f)
{
	const struct cgroup_host *h = cg->host;
	char shown[PATH_MAX];

	join->n = 0;
	join->v2_dir = -1;
	for (size_t i = 0; i < h->n; i++) {
		bool v2 = h->h[i].v2;
		int fd = cgroup_file_open(h, (int)i, cg->path, v2 ? "" : "tasks",
					  v2 ? O_PATH | O_DIRECTORY : O_WRONLY);

		if (fd < 0) {
			cgroup_show(h, (int)i, cg->path, v2 ? "" : "tasks", shown, sizeof(shown));
			cgroup_join_close(join);
			return fault_sys(f, -fd, "open", shown);
		}
		if (v2)
			join->v2_dir = fd;
		else
			join->tasks[join->n++] = fd;
	}
	return 0;
}

int cgroup_init_open(const struct cgroup *cg, pid_t init)
{
	const struct cgroup_host *h = cg->host;
	CLEANUP_FREE char *path = NULL;
	size_t n = strlen(cg->path);
	char who[16];
	int r, fd;

	snprintf(who, sizeof(who), "%d", (int)init);
	r = cgroup_of_pid(who, &path);
	if (r < 0)
		return r;
	if (strncmp(path, cg->path, n) || path[n] != '/')
		return -ENOENT;
	fd = openat(h->h[h->v2].fd, path + 1, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

void cgroup_join_close(struct cgroup_join *join)
{
	for (size_t i = 0; i < join->n; i++)
		fd_close(&join->tasks[i]);
	join->n = 0;
	fd_close(&join->v2_dir);
}
