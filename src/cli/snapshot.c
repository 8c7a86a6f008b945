// SPDX-License-Identifier: Apache-2.0
/*
 * Snapshots of containers
 *
 * A container's snapshot has the container's name as its key. A removed container's snapshot may
 * still be there (its client was killed, or the daemon removed the container and has not collected
 * yet), so a key that is taken is no error: another is made from it, and the container's record says
 * which one it has.
 */
#include "cli/snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/conn.h"
#include "cli/create.h"
#include "cli/js.h"
#include "cli/mem.h"

#define KEY_TRIES 8

static json_object *params(const char *snapshotter, const char *key)
{
	json_object *p = js_object();

	js_set_str(p, "snapshotter", snapshotter);
	js_set_str(p, "key", key);
	return p;
}

int cli_snapshot_new(struct cli *cli, const char *snapshotter, const char *key, const char *parent,
		     const char *lease, json_object *labels, char **used, json_object **mounts,
		     struct fault *f)
{
	json_object *kept CLEANUP_JSON = labels;
	int r = -EEXIST;

	for (int i = 0; i < KEY_TRIES; i++) {
		json_object *answer CLEANUP_JSON = NULL;
		char *name CLEANUP_FREE = NULL;
		json_object *p;
		char id[16];

		create_random_id(id, sizeof(id));
		name = i ? mem_printf("%s-%s", key, id) : mem_strdup(key);
		p = params(snapshotter, name);
		if (*parent)
			js_set_str(p, "parent", parent);
		if (lease)
			js_set_str(p, "lease", lease);
		if (kept)
			js_set(p, "labels", json_object_get(kept));
		r = cli_call(cli, "snapshots.prepare", p, &answer, f);
		if (r < 0 && f->code == FAULT_ALREADY_EXISTS)
			continue;
		if (r < 0)
			return r;
		*used = TAKE_PTR(name);
		*mounts = json_object_get(js_get(answer, "mounts"));
		return 0;
	}
	return r;
}

void cli_snapshot_remove_quietly(struct cli *cli, const char *snapshotter, const char *key)
{
	struct fault ignored;

	(void)cli_call(cli, "snapshots.remove", params(snapshotter, key), NULL, &ignored);
}

/* Which one has this key now; -1 for none. */
static int64_t made_at(struct cli *cli, const char *snapshotter, const char *key)
{
	json_object *answer CLEANUP_JSON = NULL;
	struct fault ignored;

	if (cli_call(cli, "snapshots.stat", params(snapshotter, key), &answer, &ignored) < 0)
		return -1;
	return js_int(answer, "info.created_at", -1);
}

static void remember(struct cli *cli, json_object *list, const char *snapshotter, const char *key)
{
	json_object *o = params(snapshotter, key);

	js_set_int(o, "created_at", made_at(cli, snapshotter, key));
	js_push(list, o);
}

json_object *cli_snapshots_of(struct cli *cli, json_object *container)
{
	const char *snapshotter = js_str(container, "snapshotter"),
		   *key = js_str(container, "snapshot_key");
	json_object *labels = js_get(container, "labels"), *list;

	if (!*key)
		return NULL;
	list = js_array();
	remember(cli, list, snapshotter, key);
	if (!json_object_is_type(labels, json_type_object))
		return list;
	json_object_object_foreach (labels, name, value) {
		const char *end;
		char *driver CLEANUP_FREE = NULL;

		/* those that `run` has made; others may be shared */
		if (strncmp(name, LABEL_GC_SNAPSHOT, strlen(LABEL_GC_SNAPSHOT)) != 0)
			continue;
		end = strstr(name, LABEL_VOLUME_SUFFIX);
		if (!end || !json_object_is_type(value, json_type_string))
			continue;
		driver = mem_strndup(name + strlen(LABEL_GC_SNAPSHOT),
				     (size_t)(end - name) - strlen(LABEL_GC_SNAPSHOT));
		remember(cli, list, driver, json_object_get_string(value));
	}
	return list;
}

void cli_snapshots_forget(struct cli *cli, json_object *list)
{
	for (size_t i = 0; i < js_len(list); i++) {
		json_object *o = js_at(list, i);
		int64_t at = js_int(o, "created_at", -1);

		if (at >= 0 && made_at(cli, js_str(o, "snapshotter"), js_str(o, "key")) == at)
			cli_snapshot_remove_quietly(cli, js_str(o, "snapshotter"),
						    js_str(o, "key"));
	}
	json_object_put(list);
}
