// SPDX-License-Identifier: Apache-2.0
/* Snapshots: life, parents, refusals, mounts, events, leases, what a killed daemon leaves. */
#include "snapshot_kit.h"

#include "util/limits.h"
#include "util/mp.h"

/* ---- helpers */

struct seen {
	char name[64], parent[64], kind[16], labels[256];
	int64_t created_at, updated_at;
	char names[512]; /* of a list, with spaces */
	int left; /* ends the list after as many */
};

static int take(void *user, const struct snapshot_info *info)
{
	struct seen *s = user;
	size_t at = 0;

	snprintf(s->name, sizeof(s->name), "%s", info->name);
	snprintf(s->parent, sizeof(s->parent), "%s", info->parent);
	snprintf(s->kind, sizeof(s->kind), "%s", info->kind);
	s->labels[0] = '\0';
	for (size_t i = 0; i < info->n_labels; i++)
		at += (size_t)snprintf(s->labels + at, sizeof(s->labels) - at, "%s=%s;",
				       info->labels[i].key, info->labels[i].value);
	s->created_at = info->created_at;
	s->updated_at = info->updated_at;
	strcat(s->names, info->name);
	strcat(s->names, " ");
	return s->left && !--s->left;
}

static struct seen stat_of(struct kit *k, const char *snapshotter, const char *key)
{
	struct seen s = { 0 };

	kit_ok(k, snapshot_stat(&k->c, snapshotter, key, take, &s));
	return s;
}

/* "TYPE SOURCE OPTION,OPTION", the root as ROOT */
static const char *mount_text(struct kit *k, const struct store_mounts *m)
{
	static char text[65536];
	char raw[32768];
	size_t at = 0, n = strlen(k->root), to = 0;

	assert_int_equal(m->n, 1);
	assert_string_equal(m->v[0].target, "");
	at = (size_t)snprintf(raw, sizeof(raw), "%s %s ", m->v[0].type, m->v[0].source);
	for (size_t i = 0; i < m->v[0].n_options; i++)
		at += (size_t)snprintf(raw + at, sizeof(raw) - at, "%s%s", i ? "," : "",
				       m->v[0].options[i]);
	for (const char *p = raw; *p;) {
		if (!strncmp(p, k->root, n)) {
			strcpy(text + to, "ROOT");
			to += 4;
			p += n;
		} else {
			text[to++] = *p++;
		}
	}
	text[to] = '\0';
	return text;
}

static const char *mounts_of(struct kit *k, const char *snapshotter, const char *key)
{
	struct store_mounts m = { 0 };
	const char *text;

	kit_ok(k, snapshot_mounts(&k->c, snapshotter, key, &m));
	text = mount_text(k, &m);
	store_mounts_clear(&m);
	return text;
}

/* Mounts an overlay's options as they are, at ROOT/at. */
static void mount_at(struct kit *k, const char *key)
{
	struct store_mounts m = { 0 };
	char at[96], data[4096] = "";

	kit_ok(k, snapshot_mounts(&k->c, OVERLAY, key, &m));
	snprintf(at, sizeof(at), "%s/at", k->root);
	assert_true(mkdir(at, 0700) == 0 || errno == EEXIST);
	if (!strcmp(m.v[0].type, "bind")) {
		assert_int_equal(mount(m.v[0].source, at, NULL, MS_BIND, NULL), 0);
		if (!strcmp(m.v[0].options[0], "ro"))
			assert_int_equal(
				mount(NULL, at, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL), 0);
	} else {
		for (size_t i = 0; i < m.v[0].n_options; i++) {
			strcat(data, i ? "," : "");
			strcat(data, m.v[0].options[i]);
		}
		assert_int_equal(mount(m.v[0].source, at, m.v[0].type, 0, data), 0);
	}
	store_mounts_clear(&m);
}

static void unmount(struct kit *k)
{
	char at[96];

	snprintf(at, sizeof(at), "%s/at", k->root);
	assert_int_equal(umount2(at, MNT_DETACH), 0);
}

static int events(struct kit *k, char *text, size_t size)
{
	size_t at = 0;
	int n = 0;

	text[0] = '\0';
	for (struct store_event *e = k->events.first; e; e = e->next, n++) {
		msgpack_unpacked u;

		msgpack_unpacked_init(&u);
		assert_int_equal(msgpack_unpack_next(&u, e->payload.data, e->payload.size, NULL),
				 MSGPACK_UNPACK_SUCCESS);
		at += (size_t)snprintf(text + at, size - at, "%s %s", e->ns, e->topic);
		for (uint32_t i = 0; i < u.data.via.map.size; i++) {
			const msgpack_object_kv *kv = &u.data.via.map.ptr[i];

			at += (size_t)snprintf(text + at, size - at, " %.*s=%.*s",
					       (int)kv->key.via.str.size, kv->key.via.str.ptr,
					       (int)kv->val.via.str.size, kv->val.via.str.ptr);
		}
		at += (size_t)snprintf(text + at, size - at, "\n");
		msgpack_unpacked_destroy(&u);
	}
	store_events_clear(&k->events);
	return n;
}

/* ---- tests */

static void test_names(void **state)
{
	struct kit *k = *state;
	const char *name = NULL;
	char *big = malloc(LIMIT_NAME_BYTES + 2);

	kit_ok(k, snapshotter_name(k->store, NULL, &name, &k->f));
	assert_string_equal(name, snapshotter_no_overlay(k->store) ? NATIVE : OVERLAY);
	kit_ok(k, snapshotter_name(k->store, NATIVE, &name, &k->f));
	assert_string_equal(name, NATIVE);
	assert_true(snapshotter_is_overlay(OVERLAY));
	assert_false(snapshotter_is_overlay(NATIVE));
	kit_fails(k, snapshotter_name(k->store, "btrfs", &name, &k->f), FAULT_NOT_FOUND,
		  "there is no snapshotter 'btrfs'");
	assert_string_equal(k->f.argument, "snapshotter");
	kit_fails(k, snapshot_prepare(&k->c, "zfs", "a", NULL, NULL, 0, NULL), FAULT_NOT_FOUND,
		  "zfs");
	kit_fails(k, snapshot_prepare(&k->c, NATIVE, "", NULL, NULL, 0, NULL),
		  FAULT_INVALID_ARGUMENT, "1 to 4096 bytes");
	memset(big, 'n', LIMIT_NAME_BYTES + 1);
	big[LIMIT_NAME_BYTES + 1] = '\0';
	kit_fails(k, snapshot_prepare(&k->c, NATIVE, big, NULL, NULL, 0, NULL),
		  FAULT_INVALID_ARGUMENT, "1 to 4096 bytes");
	big[LIMIT_NAME_BYTES] = '\0';
	kit_ok(k, snapshot_prepare(&k->c, NATIVE, big, NULL, NULL, 0, NULL));
	kit_fails(k, snapshot_commit(&k->c, NATIVE, "", big, NULL, 0), FAULT_INVALID_ARGUMENT,
		  "name");
	kit_ok(k, snapshot_remove(&k->c, NATIVE, big));
	free(big);
}

static void test_life(void **state)
{
	struct kit *k = *state;
	struct db_label labels[] = { { "a", "1" }, { "b", "2" } };
	const char *both[] = { OVERLAY, NATIVE };
	struct snapshot_usage usage;
	char text[1024];
	struct seen s;

	for (size_t i = 0; i < 2; i++) {
		const char *sn = both[i];

		kit_ok(k, snapshot_prepare(&k->c, sn, "key", NULL, labels, 2, NULL));
		s = stat_of(k, sn, "key");
		assert_string_equal(s.kind, "active");
		assert_string_equal(s.parent, "");
		assert_string_equal(s.labels, "a=1;b=2;");
		assert_true(s.created_at > 0 && s.created_at == s.updated_at);
		kit_ok(k, snapshot_commit(&k->c, sn, "layer", "key", labels + 1, 1));
		kit_fails(k, snapshot_stat(&k->c, sn, "key", take, &s), FAULT_NOT_FOUND,
			  "snapshot 'key' in the namespace 'default'");
		s = stat_of(k, sn, "layer");
		assert_string_equal(s.kind, "committed");
		assert_string_equal(s.labels, "b=2;");
		kit_ok(k, snapshot_usage(&k->c, sn, "layer", &usage));
		assert_int_equal(usage.inodes, 1);
		kit_ok(k, snapshot_prepare(&k->c, sn, "next", "layer", NULL, 0, NULL));
		kit_ok(k, snapshot_view(&k->c, sn, "look", "layer", NULL, 0, NULL));
		assert_string_equal(stat_of(k, sn, "next").parent, "layer");
		assert_string_equal(stat_of(k, sn, "look").kind, "view");
		kit_fails(k, snapshot_remove(&k->c, sn, "layer"), FAULT_FAILED_PRECONDITION,
			  "'look', 'next'");
		kit_ok(k, snapshot_remove(&k->c, sn, "next"));
		kit_ok(k, snapshot_remove(&k->c, sn, "look"));
		kit_ok(k, snapshot_remove(&k->c, sn, "layer"));
		kit_fails(k, snapshot_remove(&k->c, sn, "layer"), FAULT_NOT_FOUND, "'layer'");
		snprintf(text, sizeof(text), "snapshots/%s", sn);
		assert_int_equal(kit_entries(k, text), 0);
	}
	assert_int_equal(events(k, text, sizeof(text)), 12);
	assert_non_null(strstr(text,
			       "default /snapshot/prepare key=key parent= snapshotter=native\n"
			       "default /snapshot/commit key=key name=layer snapshotter=native\n"
			       "default /snapshot/prepare key=next parent=layer "
			       "snapshotter=native\n"
			       "default /snapshot/remove key=next snapshotter=native\n"));
	assert_true(kit_entries(k, "trash") >= 6);
	kit_ok(k, snapshot_cleanup(&k->c, NATIVE));
	assert_int_equal(kit_entries(k, "trash"), 0);
}

static void test_refusals(void **state)
{
	struct kit *k = *state;
	struct store_mounts m = { 0 };
	char text[512];

	kit_layer(k, OVERLAY, "base", NULL, "f");
	kit_ok(k, snapshot_prepare(&k->c, OVERLAY, "act", "base", NULL, 0, NULL));
	kit_ok(k, snapshot_view(&k->c, OVERLAY, "view", "base", NULL, 0, NULL));
	store_events_clear(&k->events);
	/* keys and names share one space */
	kit_fails(k, snapshot_prepare(&k->c, OVERLAY, "base", NULL, NULL, 0, NULL),
		  FAULT_ALREADY_EXISTS, "'base'");
	kit_fails(k, snapshot_view(&k->c, OVERLAY, "act", NULL, NULL, 0, NULL),
		  FAULT_ALREADY_EXISTS, "'act'");
	kit_fails(k, snapshot_prepare(&k->c, OVERLAY, "x", "none", NULL, 0, &m), FAULT_NOT_FOUND,
		  "parent: there is no overlayfs snapshot 'none'");
	assert_string_equal(k->f.argument, "parent");
	kit_fails(k, snapshot_prepare(&k->c, OVERLAY, "x", "act", NULL, 0, &m),
		  FAULT_FAILED_PRECONDITION, "not committed: it is an active snapshot");
	kit_fails(k, snapshot_prepare(&k->c, OVERLAY, "x", "view", NULL, 0, &m),
		  FAULT_FAILED_PRECONDITION, "it is a view snapshot");
	/* another snapshotter's is none */
	kit_fails(k, snapshot_prepare(&k->c, NATIVE, "x", "base", NULL, 0, &m), FAULT_NOT_FOUND,
		  "no native snapshot 'base'");
	kit_fails(k, snapshot_commit(&k->c, OVERLAY, "y", "view", NULL, 0),
		  FAULT_FAILED_PRECONDITION, "'view' is a view");
	kit_fails(k, snapshot_commit(&k->c, OVERLAY, "y", "base", NULL, 0),
		  FAULT_FAILED_PRECONDITION, "committed already");
	kit_fails(k, snapshot_commit(&k->c, OVERLAY, "base", "act", NULL, 0), FAULT_ALREADY_EXISTS,
		  "'base'");
	kit_fails(k, snapshot_commit(&k->c, OVERLAY, "act", "act", NULL, 0), FAULT_ALREADY_EXISTS,
		  "'act'");
	kit_fails(k, snapshot_commit(&k->c, OVERLAY, "y", "none", NULL, 0), FAULT_NOT_FOUND,
		  "none");
	kit_fails(k, snapshot_mounts(&k->c, OVERLAY, "base", &m), FAULT_FAILED_PRECONDITION,
		  "'base' is committed");
	kit_fails(k, snapshot_mounts(&k->c, OVERLAY, "none", &m), FAULT_NOT_FOUND, "none");
	kit_fails(k, snapshot_usage(&k->c, OVERLAY, "none", &(struct snapshot_usage){ 0 }),
		  FAULT_NOT_FOUND, "none");
	kit_fails(k, snapshot_set_labels(&k->c, OVERLAY, "none", NULL, 0, NULL, NULL),
		  FAULT_NOT_FOUND, "none");
	k->c.lease = "no-such-lease";
	kit_fails(k, snapshot_prepare(&k->c, OVERLAY, "x", "base", NULL, 0, &m), FAULT_NOT_FOUND,
		  "no-such-lease");
	k->c.lease = NULL;
	assert_int_equal(m.n, 0);
	/* nothing came of any of it: no events, no folders but those of the three */
	assert_int_equal(events(k, text, sizeof(text)), 0);
	assert_int_equal(kit_entries(k, "snapshots/overlayfs"), 3);
	assert_int_equal(kit_entries(k, "snapshots/native"), 0);
	for (int i = 0; i < 5; i++) {
		snprintf(text, sizeof(text), "child%d", i);
		kit_ok(k, snapshot_prepare(&k->c, OVERLAY, text, "base", NULL, 0, NULL));
	}
	kit_fails(k, snapshot_remove(&k->c, OVERLAY, "base"), FAULT_FAILED_PRECONDITION,
		  "'act', 'child0', 'child1' and 4 more");
}

static void test_mounts(void **state)
{
	struct kit *k = *state;
	struct store_mounts m = { 0 };

	kit_ok(k, snapshot_prepare(&k->c, OVERLAY, "w", NULL, NULL, 0, &m)); /* 1 */
	assert_string_equal(mount_text(k, &m), "bind ROOT/snapshots/overlayfs/1/fs rw,rbind");
	store_mounts_clear(&m);
	kit_ok(k, snapshot_commit(&k->c, OVERLAY, "l1", "w", NULL, 0));
	kit_layer(k, OVERLAY, "l2", "l1", "f"); /* 2 */
	kit_layer(k, OVERLAY, "l3", "l2", "f"); /* 3 */
	kit_ok(k, snapshot_prepare(&k->c, OVERLAY, "a", "l3", NULL, 0, NULL));
	assert_string_equal(mounts_of(k, OVERLAY, "a"),
			    "overlay overlay index=off,workdir=ROOT/snapshots/overlayfs/4/work,"
			    "upperdir=ROOT/snapshots/overlayfs/4/fs,"
			    "lowerdir=ROOT/snapshots/overlayfs/3/fs:ROOT/snapshots/overlayfs/2/fs:"
			    "ROOT/snapshots/overlayfs/1/fs");
	kit_ok(k, snapshot_view(&k->c, OVERLAY, "v0", NULL, NULL, 0, NULL));
	assert_string_equal(mounts_of(k, OVERLAY, "v0"),
			    "bind ROOT/snapshots/overlayfs/5/fs ro,rbind");
	kit_ok(k, snapshot_view(&k->c, OVERLAY, "v1", "l1", NULL, 0, NULL));
	assert_string_equal(mounts_of(k, OVERLAY, "v1"),
			    "bind ROOT/snapshots/overlayfs/1/fs ro,rbind");
	kit_ok(k, snapshot_view(&k->c, OVERLAY, "v2", "l2", NULL, 0, NULL));
	assert_string_equal(mounts_of(k, OVERLAY, "v2"),
			    "overlay overlay index=off,lowerdir=ROOT/snapshots/overlayfs/2/fs:"
			    "ROOT/snapshots/overlayfs/1/fs");
	/* in another namespace there is nothing, and the same names may be used */
	k->c.ns = "other";
	kit_fails(k, snapshot_mounts(&k->c, OVERLAY, "a", &m), FAULT_NOT_FOUND, "'other'");
	kit_ok(k, snapshot_prepare(&k->c, OVERLAY, "l1", NULL, NULL, 0, NULL));
	k->c.ns = "default";
	kit_layer(k, NATIVE, "n1", NULL, "f"); /* 9 */
	kit_ok(k, snapshot_prepare(&k->c, NATIVE, "na", "n1", NULL, 0, NULL));
	assert_string_equal(mounts_of(k, NATIVE, "na"),
			    "bind ROOT/snapshots/native/10/fs rw,rbind");
	kit_ok(k, snapshot_view(&k->c, NATIVE, "nv", "n1", NULL, 0, NULL));
	assert_string_equal(mounts_of(k, NATIVE, "nv"), "bind ROOT/snapshots/native/9/fs ro,rbind");
}

static void test_real_overlay(void **state)
{
	struct kit *k = *state;
	char path[128];
	struct stat st;
	int fd, *fds;
	size_t n;

	if (snapshotter_no_overlay(k->store)) {
		print_message("SKIPPED: no overlay here: %s\n", snapshotter_no_overlay(k->store));
		skip();
	}
	kit_ok(k, snapshot_prepare(&k->c, OVERLAY, "w", NULL, NULL, 0, NULL));
	kit_ok(k, snapshot_folder(&k->c, OVERLAY, "w", &fd));
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	/* the root's own mode, owner and attributes are what the next ones begin with */
	assert_int_equal(fchown(fd, 1234, 4321), 0);
	assert_int_equal(fchmod(fd, 01711), 0);
	assert_int_equal(fsetxattr(fd, "user.mark", "yes", 3, 0), 0);
	assert_int_equal(fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0), 0);
	close(fd);
	kit_ok(k, snapshot_commit(&k->c, OVERLAY, "l1", "w", NULL, 0));
	kit_layer(k, OVERLAY, "l2", "l1", "two");
	kit_layer(k, OVERLAY, "l3", "l2", "three");
	kit_ok(k, snapshot_prepare(&k->c, OVERLAY, "act", "l3", NULL, 0, NULL));
	mount_at(k, "act");
	snprintf(path, sizeof(path), "%s/at", k->root);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 01711);
	assert_int_equal(st.st_uid, 1234);
	assert_int_equal(st.st_gid, 4321);
	assert_int_equal(getxattr(path, "user.mark", NULL, 0), 3);
	kit_sh("cd %s; test $(cat two) = l2; test $(cat three) = l3; rm two; echo new > three",
	       path);
	unmount(k);
	/* the upper folder alone has changed */
	kit_ok(k, snapshot_folder(&k->c, OVERLAY, "act", &fd));
	assert_int_equal(fstatat(fd, "two", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(S_ISCHR(st.st_mode) && !st.st_rdev);
	assert_true(fgetxattr(fd, "trusted.overlay.opaque", NULL, 0) < 0);
	close(fd);
	kit_ok(k, snapshot_parents(&k->c, OVERLAY, "act", &fds, &n));
	assert_int_equal(n, 3);
	assert_int_equal(fstatat(fds[0], "three", &st, 0), 0);
	assert_int_equal(fstatat(fds[1], "two", &st, 0), 0);
	assert_int_equal(fstatat(fds[2], "two", &st, 0), -1);
	while (n)
		close(fds[--n]);
	free(fds);
	kit_ok(k, snapshot_view(&k->c, OVERLAY, "view", "l3", NULL, 0, NULL));
	mount_at(k, "view");
	kit_sh("cd %s; test $(cat two) = l2; ! touch x 2>/dev/null; ! rm two 2>/dev/null", path);
	unmount(k);
	kit_ok(k, snapshot_view(&k->c, OVERLAY, "view1", "l1", NULL, 0, NULL));
	mount_at(k, "view1");
	kit_sh("! touch %s/x 2>/dev/null", path);
	unmount(k);
}

static void test_labels_and_list(void **state)
{
	struct kit *k = *state;
	struct db_label labels[] = { { "x", "y z" } };
	struct seen s = { 0 };

	kit_layer(k, OVERLAY, "b", NULL, "f");
	kit_ok(k, snapshot_prepare(&k->c, OVERLAY, "a", "b", labels, 1, NULL));
	kit_ok(k, snapshot_prepare(&k->c, OVERLAY, "c", "b", NULL, 0, NULL));
	kit_ok(k, snapshot_prepare(&k->c, NATIVE, "other", NULL, NULL, 0, NULL));
	kit_ok(k, snapshot_list(&k->c, OVERLAY, "", take, &s));
	assert_string_equal(s.names, "a b c ");
	s = (struct seen){ 0 };
	kit_ok(k, snapshot_list(&k->c, OVERLAY, "a", take, &s));
	assert_string_equal(s.names, "b c ");
	s = (struct seen){ .left = 2 };
	assert_int_equal(snapshot_list(&k->c, OVERLAY, "", take, &s), 1);
	assert_string_equal(s.names, "a b ");
	s = (struct seen){ 0 };
	kit_ok(k, snapshot_set_labels(&k->c, OVERLAY, "b", labels, 1, take, &s));
	assert_string_equal(s.labels, "x=y z;");
	assert_string_equal(s.kind, "committed");
	assert_true(s.updated_at > s.created_at);
	kit_ok(k, snapshot_set_labels(&k->c, OVERLAY, "b", NULL, 0, NULL, NULL));
	assert_string_equal(stat_of(k, OVERLAY, "b").labels, "");
}

static int count_resource(void *user, const char *type, const char *id)
{
	char *text = user;

	sprintf(text + strlen(text), "%s %s\n", type, id);
	return 0;
}

static void test_leases(void **state)
{
	struct kit *k = *state;
	char text[512] = "";

	kit_ok(k, lease_create(&k->c, "L1", NULL, 0, 0, NULL, NULL));
	kit_ok(k, lease_create(&k->c, "L2", NULL, 0, 0, NULL, NULL));
	k->c.lease = "L1";
	kit_ok(k, snapshot_prepare(&k->c, OVERLAY, "key", NULL, NULL, 0, NULL));
	kit_ok(k, lease_resources(&k->c, "L1", "", count_resource, text));
	assert_string_equal(text, "snapshots/overlayfs key\n");
	k->c.lease = "L2";
	kit_ok(k, snapshot_commit(&k->c, OVERLAY, "name", "key", NULL, 0));
	k->c.lease = NULL;
	/* who held the key holds the name, and so does the lease of the commit */
	text[0] = '\0';
	kit_ok(k, lease_resources(&k->c, "L1", "", count_resource, text));
	assert_string_equal(text, "snapshots/overlayfs name\n");
	text[0] = '\0';
	kit_ok(k, lease_resources(&k->c, "L2", "", count_resource, text));
	assert_string_equal(text, "snapshots/overlayfs name\n");
}

static void test_depth(void **state)
{
	struct kit *k = *state;
	char name[24], parent[24] = "";
	struct store_mounts m = { 0 };

	for (unsigned i = 0; i < LIMIT_SNAPSHOT_DEPTH; i++) {
		snprintf(name, sizeof(name), "l%u", i);
		kit_ok(k, snapshot_prepare(&k->c, OVERLAY, "w", parent, NULL, 0, NULL));
		kit_ok(k, snapshot_commit(&k->c, OVERLAY, name, "w", NULL, 0));
		strcpy(parent, name);
	}
	kit_ok(k, snapshot_prepare(&k->c, OVERLAY, "deepest", parent, NULL, 0, &m));
	assert_int_equal(m.n, 1);
	assert_int_equal(m.v[0].n_options, 4);
	store_mounts_clear(&m);
	kit_ok(k, snapshot_commit(&k->c, OVERLAY, "too-deep", "deepest", NULL, 0));
	kit_fails(k, snapshot_prepare(&k->c, OVERLAY, "x", "too-deep", NULL, 0, &m),
		  FAULT_RESOURCE_EXHAUSTED, "more than 500 parents");
	assert_string_equal(k->f.argument, "parent");
	assert_int_equal(m.n, 0);
}

static void test_sweep(void **state)
{
	struct kit *k = *state;
	char path[128];

	kit_layer(k, OVERLAY, "l", NULL, "f");
	kit_ok(k, snapshot_prepare(&k->c, NATIVE, "n", NULL, NULL, 0, NULL));
	/* 1 is overlayfs's, 2 native's: the other's folder of that name has no row */
	kit_sh("cd %s/snapshots; mkdir -p overlayfs/2/fs/x overlayfs/77/fs native/1 "
	       "overlayfs/new.5/fs native/junk native/02 native/99999999999999999999; touch native/file",
	       k->root);
	kit_ok(k, snapshot_cleanup(&k->c, OVERLAY));
	assert_int_equal(kit_entries(k, "snapshots/overlayfs"), 2); /* 1 and what is being made */
	assert_int_equal(kit_entries(k, "snapshots/native"), 6);
	assert_int_equal(kit_entries(k, "trash"), 0);
	kit_close(k);
	kit_open(k);
	assert_int_equal(kit_entries(k, "snapshots/overlayfs"), 1);
	assert_int_equal(kit_entries(k, "snapshots/native"), 1);
	snprintf(path, sizeof(path), "%s/snapshots/overlayfs/1/fs/f", k->root);
	assert_int_equal(access(path, F_OK), 0);
	/* a row whose folder is lost can still be removed */
	kit_sh("rm -r %s/snapshots/native/2", k->root);
	kit_fails(k, snapshot_commit(&k->c, NATIVE, "m", "n", NULL, 0), FAULT_FAILED_PRECONDITION,
		  "snapshots/native/2/fs");
	kit_ok(k, snapshot_remove(&k->c, NATIVE, "n"));
}

static void test_restart(void **state)
{
	struct kit *k = *state;

	kit_layer(k, OVERLAY, "l", NULL, "f");
	kit_ok(k, snapshot_prepare(&k->c, OVERLAY, "a", "l", NULL, 0, NULL));
	kit_close(k);
	kit_open(k);
	assert_string_equal(stat_of(k, OVERLAY, "a").parent, "l");
	assert_string_equal(mounts_of(k, OVERLAY, "a"),
			    "overlay overlay index=off,workdir=ROOT/snapshots/overlayfs/2/work,"
			    "upperdir=ROOT/snapshots/overlayfs/2/fs,"
			    "lowerdir=ROOT/snapshots/overlayfs/1/fs");
	/* ids are never used again */
	kit_ok(k, snapshot_remove(&k->c, OVERLAY, "a"));
	kit_close(k);
	kit_open(k);
	kit_ok(k, snapshot_prepare(&k->c, OVERLAY, "a", NULL, NULL, 0, NULL));
	assert_string_equal(mounts_of(k, OVERLAY, "a"),
			    "bind ROOT/snapshots/overlayfs/3/fs rw,rbind");
}

static void test_cancel(void **state)
{
	struct kit *k = *state;
	char text[256];

	kit_layer(k, NATIVE, "l", NULL, "f");
	kit_ok(k, snapshot_prepare(&k->c, NATIVE, "a", "l", NULL, 0, NULL));
	store_events_clear(&k->events);
	cancel_set(&k->cancel);
	kit_fails(k, snapshot_prepare(&k->c, NATIVE, "b", "l", NULL, 0, NULL), FAULT_CANCELLED, "");
	kit_fails(k, snapshot_commit(&k->c, NATIVE, "m", "a", NULL, 0), FAULT_CANCELLED, "");
	atomic_store(&k->cancel.wanted, false);
	assert_int_equal(events(k, text, sizeof(text)), 0);
	assert_string_equal(stat_of(k, NATIVE, "a").kind, "active");
	assert_int_equal(kit_entries(k, "snapshots/native"), 2);
}

static void test_no_overlay(void **state)
{
	struct kit *k = calloc(1, sizeof(*k));
	const char *name = "";

	(void)state;
	/* a path that cannot be written into an overlay's options */
	strcpy(k->root, "/tmp/test_snapshot,XXXXXX");
	assert_non_null(mkdtemp(k->root));
	kit_open(k);
	assert_non_null(snapshotter_no_overlay(k->store));
	kit_ok(k, snapshotter_name(k->store, "", &name, &k->f));
	assert_string_equal(name, NATIVE);
	kit_fails(k, snapshot_prepare(&k->c, OVERLAY, "a", NULL, NULL, 0, NULL),
		  FAULT_FAILED_PRECONDITION, "overlayfs cannot be used here: the path of --root");
	kit_ok(k, snapshot_prepare(&k->c, NATIVE, "a", NULL, NULL, 0, NULL));
	kit_close(k);
	/* on an overlay no further overlay can be made */
	kit_sh("mkdir %s/l %s/u %s/w %s/m; cd %s; mount -t overlay overlay -o "
	       "lowerdir=l,upperdir=u,workdir=w m",
	       k->root, k->root, k->root, k->root, k->root);
	{
		struct kit *on = calloc(1, sizeof(*on));

		snprintf(on->root, sizeof(on->root), "%s", "/tmp/test_snapshot.over.XXXXXX");
		assert_non_null(mkdtemp(on->root));
		kit_sh("mount --bind '%s/m' %s", k->root, on->root);
		kit_open(on);
		assert_non_null(snapshotter_no_overlay(on->store));
		print_message("on an overlay: %s\n", snapshotter_no_overlay(on->store));
		kit_close(on);
		kit_sh("umount %s; umount '%s/m'; rmdir %s", on->root, k->root, on->root);
		free(on);
	}
	kit_sh("rm -rf --one-file-system '%s'", k->root);
	free(k);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, kit_setup, kit_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_names),	 TEST(test_life),   TEST(test_refusals),
		TEST(test_mounts),	 TEST(test_leases), TEST(test_labels_and_list),
		TEST(test_real_overlay), TEST(test_depth),  TEST(test_sweep),
		TEST(test_restart),	 TEST(test_cancel), cmocka_unit_test(test_no_overlay),
	};

	if (geteuid()) {
		print_message("SKIPPED: these tests need root\n");
		return 0;
	}
	return cmocka_run_group_tests_name("snapshot", tests, NULL, NULL);
}
