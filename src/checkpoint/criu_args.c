// SPDX-License-Identifier: Apache-2.0
/*
 * criu's command line (criu(8))
 *
 * Whatever may be needed is said on the command line, since the image streamer works with that alone,
 * not with criu's RPC. A lack of memory is kept in the list, and asked for once at the end.
 */
#include "checkpoint/criu_args.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void criu_args_clear(struct criu_args *a)
{
	for (size_t i = 0; i < a->n; i++)
		free(a->v[i]);
	free(a->v);
	*a = (struct criu_args){ 0 };
}

void criu_arg(struct criu_args *a, const char *fmt, ...)
{
	va_list ap;
	char *text;
	int n;

	if (a->failed)
		return;
	if (a->n + 2 > a->room) {
		size_t room = a->room ? a->room * 2 : 32;
		char **grown = reallocarray(a->v, room, sizeof(*grown));

		if (!grown) {
			a->failed = true;
			return;
		}
		a->v = grown;
		a->room = room;
	}
	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0) {
		a->failed = true;
		return;
	}
	a->v[a->n++] = text;
	a->v[a->n] = NULL;
}

static void common(struct criu_args *a, const struct criu_common *c, const char *verb)
{
	criu_arg(a, "%s", c->program);
	criu_arg(a, "%s", verb);
	criu_arg(a, "--images-dir=%s", c->images_dir);
	criu_arg(a, "--work-dir=%s", c->work_dir);
	criu_arg(a, "--log-file=" CRIU_LOG);
	criu_arg(a, "-v%u", c->log_level);
	if (c->stream)
		criu_arg(a, "--stream");
	criu_arg(a, "--manage-cgroups=%s", c->cgroups_mode ? c->cgroups_mode : "ignore");
	if (c->network_lock)
		criu_arg(a, "--network-lock=%s", c->network_lock);
	if (c->open_tcp)
		criu_arg(a, "--tcp-established");
	if (c->external_unix_sockets)
		criu_arg(a, "--ext-unix-sk");
	if (c->shell_job)
		criu_arg(a, "--shell-job");
	if (c->file_locks)
		criu_arg(a, "--file-locks");
	if (c->link_remap)
		criu_arg(a, "--link-remap");
	if (c->action_script)
		criu_arg(a, "--action-script=%s", c->action_script);
	for (size_t i = 0; i < c->n_empty; i++)
		criu_arg(a, "--empty-ns=%s", c->empty_namespaces[i]);
}

static void external(struct criu_args *a, const char *kind, const char *id, const char *value)
{
	criu_arg(a, "--external");
	criu_arg(a, "%s[%s]:%s", kind, id, value);
}

void criu_args_dump(struct criu_args *a, const struct criu_dump *d)
{
	char inode[32];

	common(a, &d->c, "dump");
	criu_arg(a, "--tree=%d", (int)d->pid);
	/* of a deleted file that is still open; criu's own is 1 MiB, and this the most that it counts to */
	criu_arg(a, "--ghost-limit=4095M");
	if (d->leave_running)
		criu_arg(a, "--leave-running");
	if (d->freeze_cgroup)
		criu_arg(a, "--freeze-cgroup=%s", d->freeze_cgroup);
	if (d->net_inode) {
		snprintf(inode, sizeof(inode), "%llu", (unsigned long long)d->net_inode);
		external(a, "net", inode, CRIU_NET_KEY);
	}
	for (size_t i = 0; i < d->n_files; i++) {
		criu_arg(a, "--external");
		criu_arg(a, "%s", d->files[i]);
	}
	for (size_t i = 0; i < d->mounts->n; i++)
		external(a, "mnt", d->mounts->v[i].path, d->mounts->v[i].name);
}

void criu_args_restore(struct criu_args *a, const struct criu_restore *r)
{
	common(a, &r->c, "restore");
	criu_arg(a, "--root=%s", r->root);
	/* in the background, as our own child, not criu's */
	criu_arg(a, "--restore-detached");
	criu_arg(a, "--restore-sibling");
	criu_arg(a, "--pidfile=" CRIU_PIDFILE);
	if (r->tcp_close)
		criu_arg(a, "--tcp-close");
	for (size_t i = 0; i < r->n_inherit; i++) {
		criu_arg(a, "--inherit-fd");
		criu_arg(a, "fd[%d]:%s", r->inherit[i].number, r->inherit[i].key);
	}
	for (size_t i = 0; i < r->n_sources; i++)
		external(a, "mnt", r->sources[i].name, r->sources[i].path);
	for (size_t i = 0; i < r->n_join; i++) {
		criu_arg(a, "--join-ns");
		criu_arg(a, "%s", r->join[i]);
	}
}
