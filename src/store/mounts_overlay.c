// SPDX-License-Identifier: Apache-2.0
/*
 * Overlays for tools: detached mounts with any number of layers
 *
 * Since Linux 6.8 overlayfs takes its lower layers one by one. The text of one fsconfig(2) call is
 * at most 255 bytes, so each folder is opened and named as /proc/self/fd/N, however long its path
 * is; the kernel keeps a reference of its own, and the fd is closed at once.
 *
 * Older kernels want all of it in one string of a page. There a thread of its own leaves the mount
 * namespace and the working directory of the process behind (unshare(2)), goes to the folder that
 * all layers have in common, mounts by short relative paths, and clones the mount off its
 * namespace, which ends with the thread. Nothing of that is seen by anyone else.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "store/mounts_internal.h"
#include "util/cleanup.h"
#include "util/fd.h"

/* of mount(2), which <linux/mount.h> has too, and <sys/mount.h> cannot be included beside it */
int mount(const char *source, const char *target, const char *type, unsigned long flags,
	  const void *data);

#define STACK_BYTES (256u << 10)

/* ---- layers one by one */

static int config(int fs, unsigned cmd, const char *key, const void *value)
{
	return (int)syscall(SYS_fsconfig, fs, cmd, key, value, 0);
}

/* The reason that overlayfs gives, or errno's. */
static int config_fault(int fs, int err, const char *what, const char *path, struct fault *f)
{
	char text[256];
	ssize_t n = read(fs, text, sizeof(text) - 1);
	int r;

	if (n <= 0)
		return fault_sys(f, err, what, path);
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	/* "e overlay: …" */
	r = fault_set(f, fault_code_of_errno(err), err, "%s%s%s: %s", what, path ? " " : "",
		      path ? path : "", n > 2 ? text + 2 : text);
	fault_at(f, what, path);
	return r;
}

static int config_folder(int fs, const char *key, const char *path, struct fault *f)
{
	CLEANUP_CLOSE int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	char name[32];
	int err;

	if (fd < 0)
		return fault_sys(f, errno, "open the overlay's folder", path);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	if (config(fs, FSCONFIG_SET_STRING, key, name) == 0)
		return 0;
	err = errno;
	if (err == EINVAL && !strcmp(key, "lowerdir+"))
		return -EOPNOTSUPP;
	return config_fault(fs, err, "give overlayfs the folder", path, f);
}

static int config_more(int fs, const char *option, struct fault *f)
{
	const char *eq = strchr(option, '=');
	CLEANUP_FREE char *key = NULL;
	int r;

	if (!eq) {
		r = config(fs, FSCONFIG_SET_FLAG, option, NULL);
	} else {
		key = strndup(option, (size_t)(eq - option));
		if (!key)
			return fault_sys(f, ENOMEM, "keep the option", option);
		r = config(fs, FSCONFIG_SET_STRING, key, eq + 1);
	}
	if (r == 0)
		return 0;
	r = config_fault(fs, errno, "give overlayfs the option", option, f);
	if (f)
		f->code = FAULT_INVALID_ARGUMENT;
	return r;
}

int overlay_mount_layers(const struct overlay *o, int *fd, struct fault *f)
{
	CLEANUP_CLOSE int fs = (int)syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC);
	unsigned attr = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
	int r = 0;

	if (fs < 0)
		return errno == ENOSYS ? -EOPNOTSUPP : fault_sys(f, errno, "fsopen", "overlay");
	for (size_t i = 0; i < o->n_lower && !r; i++)
		r = config_folder(fs, "lowerdir+", o->lower[i], f);
	if (!r && o->upper)
		r = config_folder(fs, "upperdir", o->upper, f);
	if (!r && o->work)
		r = config_folder(fs, "workdir", o->work, f);
	for (size_t i = 0; i < o->n_more && !r; i++)
		r = config_more(fs, o->more[i], f);
	if (r < 0)
		return r;
	if (config(fs, FSCONFIG_CMD_CREATE, NULL, NULL) < 0)
		return config_fault(fs, errno, "mount the overlay", NULL, f);
	if (o->read_only)
		attr |= MOUNT_ATTR_RDONLY;
	*fd = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attr);
	return *fd < 0 ? fault_sys(f, errno, "mount the overlay", NULL) : 0;
}

/* ---- in one string, by a thread */

struct mount_call {
	const char *folder; /* what all have in common */
	const char *data; /* paths relative to it */
	bool read_only;
	int fd, err;
	const char *step; /* a literal */
};

static void *mount_thread(void *user)
{
	unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
	struct mount_call *m = user;

	if (m->read_only)
		flags |= MS_RDONLY;
	m->step = "leave the mount namespace";
	if (unshare(CLONE_FS | CLONE_NEWNS) < 0)
		goto failed;
	/* nothing that is mounted here is seen outside */
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		goto failed;
	m->step = "go to the folder of the layers";
	if (chdir(m->folder) < 0)
		goto failed;
	m->step = "mount the overlay";
	if (mount("overlay", m->folder, "overlay", flags, m->data) < 0)
		goto failed;
	m->fd = (int)syscall(SYS_open_tree, AT_FDCWD, m->folder,
			     OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (m->fd >= 0)
		return NULL;
failed:
	m->err = errno;
	return NULL;
}

/* Bytes of the path up to and with its last slash that prefix[0..n) has as well. */
static size_t common_size(const char *prefix, size_t n, const char *path)
{
	size_t common = 0;

	for (size_t i = 0; i < n && path[i] && path[i] == prefix[i]; i++)
		if (path[i] == '/')
			common = i + 1;
	return common;
}

/* What overlayfs takes apart in an option: '\\', ':' and ',' get a backslash before them. */
static void put_escaped(FILE *out, const char *path)
{
	for (; *path; path++) {
		if (strchr("\\:,", *path))
			fputc('\\', out);
		fputc(*path, out);
	}
}

static char *relative_data(const struct overlay *o, size_t common)
{
	size_t size;
	char *text = NULL;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	for (size_t i = 0; i < o->n_lower; i++) {
		fputs(i ? ":" : "lowerdir=", out);
		put_escaped(out, o->lower[i] + common);
	}
	if (o->upper) {
		fputs(",upperdir=", out);
		put_escaped(out, o->upper + common);
	}
	if (o->work) {
		fputs(",workdir=", out);
		put_escaped(out, o->work + common);
	}
	for (size_t i = 0; i < o->n_more; i++)
		fprintf(out, ",%s", o->more[i]);
	if (fclose(out) == 0)
		return text;
	free(text);
	return NULL;
}

static int run_thread(struct mount_call *m, struct fault *f)
{
	sigset_t all, old;
	pthread_attr_t attr;
	pthread_t thread;
	int err;

	err = pthread_attr_init(&attr);
	if (err)
		return fault_sys(f, err, "start a thread for a mount", NULL);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&thread, &attr, mount_thread, m);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (err)
		return fault_sys(f, err, "start a thread for a mount", NULL);
	pthread_join(thread, NULL);
	return m->err ? fault_sys(f, m->err, m->step, m->folder) : 0;
}

int overlay_mount_relative(const struct overlay *o, int *fd, struct fault *f)
{
	struct mount_call m = { .fd = -1, .read_only = o->read_only };
	CLEANUP_FREE char *folder = NULL, *data = NULL;
	size_t common = strlen(o->lower[0]);
	int r;

	for (size_t i = 0; i < o->n_lower; i++)
		common = common_size(o->lower[0], common, o->lower[i]);
	if (o->upper)
		common = common_size(o->lower[0], common, o->upper);
	if (o->work)
		common = common_size(o->lower[0], common, o->work);
	folder = strndup(o->lower[0], common);
	data = relative_data(o, common);
	if (!folder || !data)
		return fault_sys(f, ENOMEM, "mount the overlay", NULL);
	if (strlen(data) >= (size_t)sysconf(_SC_PAGESIZE))
		return fault_set(f, FAULT_RESOURCE_EXHAUSTED, 0,
				 "mount the overlay: the paths of its %zu layers are too long for "
				 "this kernel",
				 o->n_lower);
	m.folder = folder;
	m.data = data;
	r = run_thread(&m, f);
	*fd = m.fd;
	return r;
}
