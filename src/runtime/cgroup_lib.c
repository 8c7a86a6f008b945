// SPDX-License-Identifier: Apache-2.0
/*
 * libcgroup, behind a wall
 *
 * libcgroup keeps its table of mounts and its last errno in globals, and reads the table again on
 * cgroup_init; so it is initialised once a process and all calls are made under one mutex. That
 * mutex and the flag are the only state here, because they guard what is global already.
 *
 * What was seen of libcgroup 2.0: cgroup_modify_cgroup opens /proc/mounts each time, which makes
 * up most of its 45 us, so values are given to it in one call where possible. A failing call does
 * not say which value it was. A file that is missing comes as ECGROUPVALUENOTEXIST, what the
 * kernel refuses as ECGOTHER with the errno aside. It cannot reach named v1 hierarchies
 * (name=systemd). After a failed cgroup_read_value_begin the matching _end crashes on a NULL
 * stream, so it must not be called then.
 */
#include "runtime/cgroup_lib.h"

#include <errno.h>
#include <libcgroup.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/log.h"

/* libcgroup's own bounds: CG_CONTROL_VALUE_MAX, FILENAME_MAX for names. */
#define LIB_TEXT_MAX 4096

static pthread_mutex_t lib_lock = PTHREAD_MUTEX_INITIALIZER;
static bool lib_ready;

static void lib_log(void *user, int level, const char *fmt, va_list ap)
	__attribute__((format(printf, 3, 0)));
static void lib_log(void *user, int level, const char *fmt, va_list ap)
{
	char line[512];

	(void)user;
	(void)level;
	vsnprintf(line, sizeof(line), fmt, ap);
	line[strcspn(line, "\n")] = 0;
	log_debug("libcgroup: %s", line);
}

static int lib_errno(int code)
{
	int err;

	switch (code) {
	case 0:
		return 0;
	case ECGINVAL:
		return -EINVAL;
	case ECGROUPVALUENOTEXIST:
	case ECGROUPNOTEXIST:
		return -ENOENT;
	case ECGROUPNOTALLOWED:
		return -EPERM;
	case ECGROUPSUBSYSNOTMOUNTED:
	case ECGROUPNOTMOUNTED:
		return -ENODEV;
	case ECGOTHER:
		err = cgroup_get_last_errno();
		return err ? -err : -EIO;
	default:
		return -EIO;
	}
}

int cgroup_lib_init(void)
{
	int r = 0;

	pthread_mutex_lock(&lib_lock);
	if (!lib_ready) {
		/* else it writes its complaints to stdout */
		cgroup_set_logger(lib_log, CGROUP_LOG_WARNING, NULL);
		r = cgroup_init();
		if (!r)
			lib_ready = true;
		else
			r = r == ECGOTHER && cgroup_get_last_errno() == ENOMEM ? -ENOMEM : -ENODEV;
	}
	pthread_mutex_unlock(&lib_lock);
	return r;
}

int cgroup_lib_knows(const char *controller, const char *mount)
{
	char *found = NULL;
	int r = 0;

	pthread_mutex_lock(&lib_lock);
	if (lib_ready && !cgroup_get_subsys_mount_point(controller, &found))
		r = !strcmp(found, mount);
	pthread_mutex_unlock(&lib_lock);
	free(found);
	return r;
}

int cgroup_lib_set(const char *path, const struct cgroup_lib_value *values, size_t n)
{
	struct cgroup *g;
	int r = 0;

	for (size_t i = 0; i < n; i++)
		if (strlen(values[i].text) >= LIB_TEXT_MAX || !*values[i].text)
			return -ENOTSUP;
	pthread_mutex_lock(&lib_lock);
	g = cgroup_new_cgroup(path);
	if (!g) {
		pthread_mutex_unlock(&lib_lock);
		return -ENOMEM;
	}
	for (size_t i = 0; i < n && !r; i++) {
		struct cgroup_controller *c = cgroup_get_controller(g, values[i].controller);

		if (!c)
			c = cgroup_add_controller(g, values[i].controller);
		if (!c)
			r = -ENOMEM;
		else if (cgroup_add_value_string(c, values[i].file, values[i].text))
			r = -ENOTSUP;
	}
	if (!r)
		r = lib_errno(cgroup_modify_cgroup(g));
	cgroup_free(&g);
	pthread_mutex_unlock(&lib_lock);
	return r;
}

int cgroup_lib_get(const char *path, const char *controller, const char *file, char *buf,
		   size_t size)
{
	CLEANUP_FREE char *name = strdup(file); /* the prototype is not const */
	void *handle = NULL;
	size_t used = 0;
	int r;

	if (!name)
		return -ENOMEM;
	if (!size)
		return -EFBIG;
	buf[0] = 0;
	pthread_mutex_lock(&lib_lock);
	r = cgroup_read_value_begin(controller, path, name, &handle, buf, (int)size);
	while (!r) {
		used += strlen(buf + used);
		if (used + 1 >= size)
			break;
		r = cgroup_read_value_next(&handle, buf + used, (int)(size - used));
		if (r)
			buf[used] = 0;
	}
	/* an empty file is ECGEOF from the first call on, with the stream open */
	if (handle)
		cgroup_read_value_end(&handle);
	if (!r)
		r = -EFBIG;
	else if (r == ECGEOF)
		r = 0;
	else
		r = lib_errno(r);
	pthread_mutex_unlock(&lib_lock);
	return r;
}
