// SPDX-License-Identifier: Apache-2.0
/*
 * Seccomp notify listener
 *
 * The message is a JSON object followed by nothing, in one sendmsg with the fd: what runc and crun send and the agents in the field
 * read. Sending has a time limit, since the agent is a stranger and a worker is shared.
 */
#include "core/listener.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "runtime/hook.h"
#include "util/cleanup.h"
#include "util/fd.h"
#include "util/worker.h"

#define LISTENER_TIMEOUT_SECONDS 10

struct listener_job {
	struct worker_job job; /* first */
	char *path, *text;
	int fd, result;
	struct fault fault;
	void (*done)(void *user, const struct fault *f);
	void *user;
};

static void listener_run(struct worker_job *job)
{
	struct listener_job *l = (struct listener_job *)job;
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct timeval limit = { .tv_sec = LISTENER_TIMEOUT_SECONDS };
	CLEANUP_CLOSE int sock = -1;
	ssize_t n;

	if (strlen(l->path) >= sizeof(addr.sun_path)) {
		l->result = fault_sys(&l->fault, ENAMETOOLONG, "connect to the seccomp listener",
				      l->path);
		return;
	}
	memcpy(addr.sun_path, l->path, strlen(l->path) + 1);
	sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (sock < 0 || setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
	    connect(sock, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		l->result = fault_sys(&l->fault, errno, "connect to the seccomp listener", l->path);
		return;
	}
	n = fd_send(sock, l->text, strlen(l->text), &l->fd, 1, 0);
	if (n < 0)
		l->result = fault_sys(&l->fault, (int)-n, "send to the seccomp listener", l->path);
	else if ((size_t)n < strlen(l->text))
		l->result = fd_write_all(sock, l->text + n, strlen(l->text) - (size_t)n);
}

static void listener_free(struct listener_job *l)
{
	fd_close(&l->fd);
	free(l->path);
	free(l->text);
	free(l);
}

static void listener_done(struct worker_job *job)
{
	struct listener_job *l = (struct listener_job *)job;

	l->done(l->user, l->result < 0 ? &l->fault : NULL);
	listener_free(l);
}

int listener_send(struct davit *d, const struct seccomp_program *program, const struct spec *spec,
		  const char *id, const char *bundle, pid_t pid, pid_t init, int fd,
		  void (*done)(void *user, const struct fault *f), void *user)
{
	struct listener_job *l = calloc(1, sizeof(*l));
	CLEANUP_FREE char *state = NULL;
	json_object *o = NULL, *fds, *inner;
	int r;

	if (!l) {
		close(fd);
		return -ENOMEM;
	}
	l->fd = fd;
	l->done = done;
	l->user = user;
	l->job.run = listener_run;
	l->job.done = listener_done;
	r = hook_state(spec, id, bundle, pid == init ? "creating" : "running", init, &state);
	if (r < 0)
		goto out;
	r = -ENOMEM;
	o = json_object_new_object();
	fds = json_object_new_array();
	inner = json_tokener_parse(state);
	if (!o || !fds || !inner || !program->listener_path) {
		json_object_put(fds);
		json_object_put(inner);
		r = o && fds && inner ? -EINVAL : -ENOMEM;
		goto out;
	}
	json_object_array_add(fds, json_object_new_string("seccompFd"));
	json_object_object_add(o, "ociVersion", json_object_new_string(spec->oci_version));
	json_object_object_add(o, "fds", fds);
	json_object_object_add(o, "pid", json_object_new_int64(pid));
	if (program->listener_metadata)
		json_object_object_add(o, "metadata",
				       json_object_new_string(program->listener_metadata));
	json_object_object_add(o, "state", inner);
	l->text = strdup(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
	l->path = strdup(program->listener_path);
	if (!l->text || !l->path)
		goto out;
	json_object_put(o);
	worker_submit(d->workers, &l->job);
	return 0;
out:
	json_object_put(o);
	listener_free(l);
	return r;
}
