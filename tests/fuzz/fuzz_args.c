// SPDX-License-Identifier: Apache-2.0
/*
 * A connection of the server: bytes in, with fds here and there
 *
 * The first byte says after how many bytes fds are sent, the second how many. The methods take
 * every type of argument and touch each with the accessors. What comes out is well-formed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "ipc/internal.h"
#include "util/limits.h"
#include "util/mp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct ipc_request *kept[64];
static unsigned n_kept;

static void require(int what)
{
	if (!what)
		abort();
}

static size_t touch(const char *text)
{
	return text ? strlen(text) : 0;
}

static void do_types(struct ipc_request *req, void *user)
{
	static const char *const fds[] = { "fd", "stdin", "stdout" };
	const char *const *strs;
	msgpack_packer *pk;
	size_t n, sum = 0;
	int64_t v;

	(void)user;
	sum += touch(ipc_arg_str(req, "str")) + touch(ipc_arg_str(req, "id")) +
	       touch(ipc_arg_str(req, "stdin")) + touch(ipc_namespace(req));
	require(touch(ipc_arg_str(req, "id")) <= LIMIT_ID_BYTES);
	v = ipc_arg_int(req, "int", 5);
	require(v >= -10 && v <= 1000);
	v = ipc_arg_int(req, "signal", 15);
	require(v >= 1 && v <= 64);
	ipc_arg_bool(req, "bool", true);
	strs = ipc_arg_strs(req, "strs", &n);
	for (size_t i = 0; i < n; i++)
		sum += touch(strs[i]);
	ipc_mask_has(req, "labels.a");
	for (size_t i = 0; i < 3; i++) {
		int fd = ipc_arg_fd(req, fds[i]);

		if (fd >= 0) {
			require(fcntl(fd, F_GETFD) == FD_CLOEXEC);
			close(fd);
		}
	}
	pk = ipc_reply_begin(req);
	msgpack_pack_map(pk, 3);
	mp_pack_key_uint(pk, "sum", sum);
	mp_pack_key(pk, "any");
	if (ipc_has(req, "any"))
		msgpack_pack_object(pk, *ipc_arg(req, "any"));
	else
		msgpack_pack_nil(pk);
	mp_pack_key(pk, "map");
	if (ipc_has(req, "map")) {
		require(ipc_arg(req, "map")->type == MSGPACK_OBJECT_MAP);
		msgpack_pack_object(pk, *ipc_arg(req, "map"));
	} else {
		msgpack_pack_nil(pk);
	}
	ipc_reply_end(req);
}

static bool field(void *user, const char *const *path, size_t n, const char **value)
{
	(void)user;
	*value = path[n - 1];
	return true;
}

static void do_list(struct ipc_request *req, void *user)
{
	struct ipc_list it;

	(void)user;
	if (!ipc_list_begin(req, "things", &it))
		return;
	for (char key[] = "a"; key[0] < 'h'; key[0]++) {
		if (strcmp(key, it.after) <= 0)
			continue;
		if (!ipc_list_want(&it, key, field, NULL)) {
			if (it.full)
				break;
			continue;
		}
		msgpack_pack_map(it.pk, 2);
		mp_pack_key_str(it.pk, "id", key);
		mp_pack_key(it.pk, "labels");
		msgpack_pack_map(it.pk, 1);
		mp_pack_key_int(it.pk, "a", 1);
	}
	ipc_list_end(&it);
}

static void gone(struct ipc_request *req, void *user)
{
	(void)user;
	for (unsigned i = 0; i < n_kept; i++)
		if (kept[i] == req)
			kept[i] = NULL;
}

/* Every other one has an on_cancel; the oldest is answered when there are too many. */
static void do_keep(struct ipc_request *req, void *user)
{
	(void)user;
	if (n_kept == 64) {
		for (unsigned i = 0; i < n_kept; i++)
			if (kept[i])
				ipc_reply_empty(kept[i]);
		n_kept = 0;
	}
	if (n_kept % 2)
		ipc_request_on_cancel(req, gone, NULL);
	kept[n_kept++] = req;
}

#define P_END                                                                                      \
	{                                                                                          \
		NULL, IPC_ANY, 0, 0, 0, NULL, NULL                                                 \
	}
static const struct ipc_param params[] = {
	{ "str", IPC_STR, 0, 1, 100, NULL, "" },     { "id", IPC_ID, 0, 0, 0, NULL, "" },
	{ "int", IPC_INT, 0, -10, 1000, NULL, "" },  { "bool", IPC_BOOL, 0, 0, 0, NULL, "" },
	{ "bin", IPC_BIN, 0, 0, 0, NULL, "" },	     { "map", IPC_MAP, 0, 0, 0, NULL, "" },
	{ "labels", IPC_LABELS, 0, 0, 0, NULL, "" }, { "list", IPC_LIST, 0, 0, 0, NULL, "" },
	{ "strs", IPC_STRS, 0, 0, 0, NULL, "" },     { "fd", IPC_FD, 0, 0, 0, NULL, "" },
	{ "stdin", IPC_STDIO, 0, 0, 0, NULL, "" },   { "stdout", IPC_STDIO, 0, 0, 0, NULL, "" },
	{ "signal", IPC_SIGNAL, 0, 0, 0, NULL, "" }, { "spec", IPC_STR_OR_MAP, 0, 0, 0, NULL, "" },
	{ "any", IPC_ANY, 0, 0, 0, NULL, "" },	     P_END,
};
static const struct ipc_param needs[] = { { "id", IPC_ID, IPC_REQUIRED, 0, 0, NULL, "" }, P_END };
static const struct ipc_method methods[] = {
	{ "t", "", IPC_UPDATES, params, NULL, NULL, do_types },
	{ "need", "", 0, needs, NULL, NULL, do_types },
	{ "list", "", IPC_LISTS, NULL, NULL, NULL, do_list },
	{ "keep", "", 0, NULL, NULL, NULL, do_keep },
	{ "wait", "", IPC_WAITS, NULL, NULL, NULL, do_keep },
	{ NULL, NULL, 0, NULL, NULL, NULL, NULL },
};

/* Answers are whole messages, each an array of four. */
static void check_answers(struct reader *r, int sock)
{
	static char buf[65536];
	struct reader_frame f;
	size_t got;
	int e;

	while (!reader_fill(r, sock, buf, sizeof(buf), &got)) {
		while (!(e = reader_next(r, &f))) {
			require((uint8_t)f.data[0] == 0x94 && f.data[1] == 1);
			stream_fds_free(f.fds);
		}
		require(e == READER_E_MORE);
		require(reader_settle(r) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct event_base *base;
	static struct ipc_server *s;
	struct reader answers;
	int sv[2], fds[LIMIT_REQUEST_FDS] = { 0 };
	size_t at, n_fds, sent = 0;

	if (!s) {
		base = event_base_new();
		/* something that never becomes readable */
		require(ipc_server_new(&s, base, eventfd(0, EFD_CLOEXEC), (gid_t)-1) == 0);
		require(ipc_server_add(s, methods, NULL) == 0);
	}
	if (size < 2)
		return 0;
	at = data[0];
	n_fds = data[1] % 4;
	data += 2;
	size -= 2;
	require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv) == 0);
	require(ipc_conn_new(s, sv[0], false) == 0);
	reader_init(&answers, 64u << 20);
	for (int idle = 0; sent < size && idle < 3;) {
		size_t n = sent < at && at < size ? at - sent : size - sent;
		struct iovec iov = { (void *)(data + sent), n };
		ssize_t r = stream_sendv(sv[1], &iov, 1, fds, sent == at ? n_fds : 0);

		idle = r > 0 ? 0 : idle + 1;
		sent += r > 0 ? (size_t)r : 0;
		if (sent == size || r <= 0 || data[0] & 1) {
			event_base_loop(base, EVLOOP_NONBLOCK);
			check_answers(&answers, sv[1]);
		}
	}
	event_base_loop(base, EVLOOP_NONBLOCK);
	check_answers(&answers, sv[1]);
	reader_clear(&answers);
	close(sv[1]);
	for (int i = 0; i < 3; i++)
		event_base_loop(base, EVLOOP_NONBLOCK);
	for (unsigned i = 0; i < n_kept; i++)
		if (kept[i])
			ipc_reply_empty(kept[i]);
	n_kept = 0;
	require(s->n_conns == 0 && s->n_requests == 0 && s->n_orphans == 0);
	return 0;
}
