// SPDX-License-Identifier: Apache-2.0
/*
 * A store of a test's own, for tests of snapshots: in a folder below /tmp, removed at the end
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "store/lease.h"
#include "store/snapshot_internal.h"
#include "util/cleanup.h"
#include "util/fd.h"

#define KIT_UNUSED __attribute__((unused))
#define OVERLAY SNAPSHOTTER_OVERLAYFS
#define NATIVE SNAPSHOTTER_NATIVE

struct kit {
	char root[64];
	int root_fd;
	struct db *db;
	struct store *store;
	struct store_events events;
	struct cancel cancel;
	struct fault f;
	struct store_call c;
};

static KIT_UNUSED void kit_open(struct kit *k)
{
	k->root_fd = open(k->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(k->root_fd >= 0);
	if (db_open(&k->db, k->root, &k->f) < 0 ||
	    store_open(&k->store, k->root_fd, k->root, k->db, &k->f) < 0)
		fail_msg("%s", k->f.message);
	store_events_init(&k->events);
	k->c = (struct store_call){ .store = k->store,
				    .ns = "default",
				    .events = &k->events,
				    .cancel = &k->cancel,
				    .f = &k->f };
}

static KIT_UNUSED void kit_close(struct kit *k)
{
	store_events_clear(&k->events);
	store_close(k->store);
	db_close(k->db);
	close(k->root_fd);
}

static KIT_UNUSED void kit_sh(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void kit_sh(const char *fmt, ...)
{
	char line[2048];
	va_list ap;
	pid_t pid;
	int st;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	pid = fork();
	if (!pid) {
		execl("/bin/sh", "sh", "-ec", line, (char *)NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &st, 0), pid);
	if (st)
		fail_msg("%s: status %d", line, st);
}

static KIT_UNUSED int kit_setup(void **state)
{
	struct kit *k = calloc(1, sizeof(*k));

	assert_non_null(k);
	strcpy(k->root, "/tmp/test_snapshot.XXXXXX");
	assert_non_null(mkdtemp(k->root));
	kit_open(k);
	*state = k;
	return 0;
}

static KIT_UNUSED int kit_teardown(void **state)
{
	struct kit *k = *state;

	kit_close(k);
	kit_sh("rm -rf --one-file-system %s", k->root);
	free(k);
	return 0;
}

#define kit_ok(k, call)                                                                            \
	do {                                                                                       \
		if ((call) != 0)                                                                   \
			fail_msg("%s: %s", #call, (k)->f.message);                                 \
	} while (0)

/* Fails with this code, and this in its message. */
#define kit_fails(k, call, fault_code, text)                                                       \
	do {                                                                                       \
		memset(&(k)->f, 0, sizeof((k)->f));                                                \
		if ((call) >= 0)                                                                   \
			fail_msg("%s: no failure", #call);                                         \
		if ((k)->f.code != (fault_code) || !strstr((k)->f.message, text))                  \
			fail_msg("%s: %s: %s", #call, fault_code_name((k)->f.code),                \
				 (k)->f.message);                                                  \
	} while (0)

/* An active snapshot with a file of this name and text, committed. */
static KIT_UNUSED void kit_layer(struct kit *k, const char *snapshotter, const char *name,
				 const char *parent, const char *file)
{
	char key[300];
	int fd, at;

	snprintf(key, sizeof(key), "work-%s", name);
	kit_ok(k, snapshot_prepare(&k->c, snapshotter, key, parent, NULL, 0, NULL));
	kit_ok(k, snapshot_folder(&k->c, snapshotter, key, &fd));
	at = openat(fd, file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	assert_true(at >= 0);
	assert_true(write(at, name, strlen(name)) == (ssize_t)strlen(name));
	close(at);
	close(fd);
	kit_ok(k, snapshot_commit(&k->c, snapshotter, name, key, NULL, 0));
}

/* How many entries a folder below the root has. */
static KIT_UNUSED int kit_entries(struct kit *k, const char *folder)
{
	char path[160];
	struct dirent *e;
	int n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "%s/%s", k->root, folder);
	d = opendir(path);
	assert_non_null(d);
	while ((e = readdir(d)))
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}
