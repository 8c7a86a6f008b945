// SPDX-License-Identifier: Apache-2.0
/*
 * Processes on the wire and in the journal
 *
 * A state record is a msgpack array under the key "task/NS/ID" or "exec/NS/ID/EXEC"; its first element is a version. Records
 * are read back only by the daemon itself, within one boot, but perhaps by a newer version of it: elements are
 * only ever added at the end.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/container.h"
#include "core/task.h"
#include "core/task_internal.h"
#include "core/task_restore.h"
#include "monitor/journal.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "util/mp.h"

#define RECORD_VERSION 1
#define RECORD_SIZE 22

static const char *const reason_names[EXIT_REASONS] = {
	[EXIT_EXITED] = "exited",
	[EXIT_SIGNALED] = "signaled",
	[EXIT_OOM] = "oom",
	[EXIT_UNKNOWN] = "unknown",
};

const char *exit_reason_name(enum exit_reason reason)
{
	return reason_names[reason];
}

void process_pack_exit(msgpack_packer *pk, const struct process *p)
{
	if (!p->exited) {
		mp_pack_key_nil(pk, "exit_status");
		mp_pack_key_nil(pk, "exited_at");
		mp_pack_key_nil(pk, "exit_reason");
		mp_pack_key_nil(pk, "signal");
		return;
	}
	mp_pack_key_int(pk, "exit_status", p->exit_status);
	mp_pack_key_int(pk, "exited_at", p->exited_at);
	mp_pack_key_str(pk, "exit_reason", exit_reason_name(p->exit_reason));
	if (p->signal)
		mp_pack_key_int(pk, "signal", p->signal);
	else
		mp_pack_key_nil(pk, "signal");
}

static void pack_time(msgpack_packer *pk, const char *key, int64_t at)
{
	if (at)
		mp_pack_key_int(pk, key, at);
	else
		mp_pack_key_nil(pk, key);
}

void process_pack(msgpack_packer *pk, const struct process *p)
{
	char text[PATH_MAX + 16];

	msgpack_pack_map(pk, 16);
	mp_pack_key_str(pk, "namespace", p->task->ns);
	mp_pack_key_str(pk, "container_id", p->task->id);
	mp_pack_key_str(pk, "id", process_id(p));
	mp_pack_key_str(pk, "exec_id", p->exec_id ? p->exec_id : "");
	mp_pack_key_int(pk, "pid", p->pid);
	mp_pack_key_str(pk, "status", process_status(p));
	for (int i = 0; i < 3; i++)
		mp_pack_key_str(pk, stdio_names[i], stdio_text(&p->stdio, i, text, sizeof(text)));
	mp_pack_key_bool(pk, "terminal", p->stdio.terminal);
	pack_time(pk, "created_at", p->created_at);
	pack_time(pk, "started_at", p->started_at);
	process_pack_exit(pk, p);
}

/* ---- records */

static void record_key(const struct process *p, char *buf, size_t size)
{
	if (p->exec_id)
		snprintf(buf, size, "exec/%s/%s/%s", p->task->ns, p->task->id, p->exec_id);
	else
		snprintf(buf, size, "task/%s/%s", p->task->ns, p->task->id);
}

static void record_pack(msgpack_packer *pk, const struct process *p)
{
	const struct task *t = p->task;
	char text[PATH_MAX + 16];

	msgpack_pack_array(pk, RECORD_SIZE);
	msgpack_pack_int(pk, RECORD_VERSION);
	msgpack_pack_int(pk, p->state);
	msgpack_pack_int64(pk, p->pid);
	msgpack_pack_uint64(pk, p->starttime);
	msgpack_pack_int64(pk, p->created_at);
	msgpack_pack_int64(pk, p->started_at);
	msgpack_pack_int64(pk, p->exited_at);
	msgpack_pack_int(pk, p->exit_status);
	msgpack_pack_int(pk, p->signal);
	msgpack_pack_int(pk, p->exit_reason);
	msgpack_pack_int(pk, p->exited);
	for (int i = 0; i < 3; i++)
		mp_pack_str(pk, stdio_text(&p->stdio, i, text, sizeof(text)));
	msgpack_pack_int(pk, p->stdio.terminal);
	msgpack_pack_int64(pk, p->stdio.log_max_size);
	mp_pack_str(pk, t->cgroup ? cgroup_path(t->cgroup) : t->wanted_cgroup);
	msgpack_pack_uint64(pk, t->hooks);
	msgpack_pack_int(pk, (t->own_pid_ns ? 1 : 0) | (t->auto_remove ? 2 : 0) |
				     (p->auto_remove ? 4 : 0));
	mp_pack_str(pk, p->spec_text);
	for (int i = 1; i < 3; i++)
		msgpack_pack_uint64(pk, p->stdio.stream[i].inode);
}

void process_journal(struct process *p)
{
	msgpack_sbuffer sb;
	msgpack_packer pk;
	char key[512];

	msgpack_sbuffer_init(&sb);
	msgpack_packer_init(&pk, &sb, msgpack_sbuffer_write);
	record_key(p, key, sizeof(key));
	record_pack(&pk, p);
	journal_put(p->task->d->journal, key, sb.data, sb.size);
	msgpack_sbuffer_destroy(&sb);
}

void process_journal_del(struct process *p)
{
	char key[512];

	record_key(p, key, sizeof(key));
	journal_del(p->task->d->journal, key);
}

int task_commit(struct task *t)
{
	int r = journal_commit(t->d->journal);

	if (r < 0)
		log_error("task %s/%s: the journal cannot be written: %s", t->ns, t->id,
			  strerrordesc_np(-r));
	return r;
}

static void snapshot_process(struct journal *j, struct process *p)
{
	msgpack_sbuffer sb;
	msgpack_packer pk;
	char key[512];

	msgpack_sbuffer_init(&sb);
	msgpack_packer_init(&pk, &sb, msgpack_sbuffer_write);
	record_key(p, key, sizeof(key));
	record_pack(&pk, p);
	journal_snapshot_put(j, key, sb.data, sb.size);
	msgpack_sbuffer_destroy(&sb);
}

void tasks_snapshot(void *user, struct journal *j)
{
	struct davit *d = user;
	struct task *t;
	struct process *e;

	RB_FOREACH (t, task_tree, &d->tasks->tree) {
		snapshot_process(j, &t->init);
		RB_FOREACH (e, process_tree, &t->execs)
			if (e->state != PROCESS_CREATING)
				snapshot_process(j, e);
	}
}

int process_load(struct process *p, const void *data, size_t size)
{
	msgpack_unpacked u;
	const msgpack_object *v;
	struct task *t = p->task;
	int64_t n[RECORD_SIZE] = { 0 };
	size_t off = 0;
	int r = -EBADMSG;

	msgpack_unpacked_init(&u);
	if (msgpack_unpack_next(&u, data, size, &off) != MSGPACK_UNPACK_SUCCESS ||
	    u.data.type != MSGPACK_OBJECT_ARRAY || u.data.via.array.size < RECORD_SIZE)
		goto out;
	v = u.data.via.array.ptr;
	for (int i = 0; i < RECORD_SIZE; i++)
		mp_int(&v[i], &n[i]);
	if (n[0] < 1 || n[1] < 0 || n[1] >= PROCESS_STATES || n[9] < 0 || n[9] >= EXIT_REASONS)
		goto out;
	p->state = (enum process_state)n[1];
	p->pid = (pid_t)n[2];
	p->starttime = (uint64_t)n[3];
	p->created_at = n[4];
	p->started_at = n[5];
	p->exited_at = n[6];
	p->exit_status = (int)n[7];
	p->signal = (int)n[8];
	p->exit_reason = (enum exit_reason)n[9];
	p->exited = n[10];
	for (int i = 0; i < 3; i++) {
		CLEANUP_FREE char *text = mp_strdup(&v[11 + i]);

		r = stdio_restore(&p->stdio, i, text);
		if (r < 0)
			goto out;
	}
	p->stdio.terminal = n[14];
	p->stdio.log_max_size = n[15];
	p->auto_remove = n[18] & 4;
	if (!p->exec_id) {
		CLEANUP_FREE char *path = mp_strdup(&v[16]);

		if (path && p->state == PROCESS_CREATING)
			t->wanted_cgroup = TAKE_PTR(path);
		r = path ? cgroup_open(t->d->cgroups, path, &t->cgroup) : 0;
		if (r < 0)
			goto out;
		t->hooks = (unsigned)n[17];
		t->own_pid_ns = n[18] & 1;
		t->auto_remove = n[18] & 2;
	}
	p->spec_text = mp_strdup(&v[19]);
	for (int i = 1; i < 3; i++)
		p->stdio.stream[i].inode = (uint64_t)n[19 + i];
	r = 0;
out:
	msgpack_unpacked_destroy(&u);
	return r;
}

/* ---- events */

struct topic {
	const char *name;
	void (*pack)(msgpack_packer *pk, const struct process *p);
};

static void pack_create(msgpack_packer *pk, const struct process *p)
{
	char text[PATH_MAX + 16];

	msgpack_pack_map(pk, 6);
	mp_pack_key_str(pk, "container_id", p->task->id);
	mp_pack_key_str(pk, "bundle", p->task->bundle);
	mp_pack_key(pk, "rootfs");
	if (p->task->rootfs)
		mp_pack_raw(pk, p->task->rootfs, p->task->rootfs_size);
	else
		msgpack_pack_array(pk, 0);
	mp_pack_key(pk, "io");
	msgpack_pack_map(pk, 4);
	for (int i = 0; i < 3; i++)
		mp_pack_key_str(pk, stdio_names[i], stdio_text(&p->stdio, i, text, sizeof(text)));
	mp_pack_key_bool(pk, "terminal", p->stdio.terminal);
	mp_pack_key_str(pk, "checkpoint", restore_label(p->restore));
	mp_pack_key_int(pk, "pid", p->pid);
}

static void pack_start(msgpack_packer *pk, const struct process *p)
{
	msgpack_pack_map(pk, 2);
	mp_pack_key_str(pk, "container_id", p->task->id);
	mp_pack_key_int(pk, "pid", p->pid);
}

static void pack_exit(msgpack_packer *pk, const struct process *p)
{
	msgpack_pack_map(pk, 7);
	mp_pack_key_str(pk, "container_id", p->task->id);
	mp_pack_key_str(pk, "id", process_id(p));
	mp_pack_key_int(pk, "pid", p->pid);
	process_pack_exit(pk, p);
}

static void pack_exec(msgpack_packer *pk, const struct process *p)
{
	msgpack_pack_map(pk, p->pid ? 3 : 2);
	mp_pack_key_str(pk, "container_id", p->task->id);
	mp_pack_key_str(pk, "exec_id", p->exec_id);
	if (p->pid)
		mp_pack_key_int(pk, "pid", p->pid);
}

static void pack_id(msgpack_packer *pk, const struct process *p)
{
	msgpack_pack_map(pk, 1);
	mp_pack_key_str(pk, "container_id", p->task->id);
}

static const struct topic topics[] = {
	{ "/tasks/create", pack_create },   { "/tasks/start", pack_start },
	{ "/tasks/exit", pack_exit },	    { "/tasks/delete", pack_exit },
	{ "/tasks/exec-added", pack_exec }, { "/tasks/exec-started", pack_exec },
	{ "/tasks/paused", pack_id },	    { "/tasks/resumed", pack_id },
	{ "/tasks/oom", pack_id },
};

void task_publish(struct task *t, const char *topic, const struct process *p)
{
	msgpack_sbuffer sb;
	msgpack_packer pk;

	msgpack_sbuffer_init(&sb);
	msgpack_packer_init(&pk, &sb, msgpack_sbuffer_write);
	for (size_t i = 0; i < ARRAY_SIZE(topics); i++)
		if (!strcmp(topics[i].name, topic))
			topics[i].pack(&pk, p);
	journal_event(t->d->journal, t->ns, topic, sb.data, sb.size);
	msgpack_sbuffer_destroy(&sb);
}
