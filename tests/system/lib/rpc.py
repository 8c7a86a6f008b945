# SPDX-License-Identifier: Apache-2.0
"""A msgpack-RPC client over a UNIX socket, written from the published protocol alone.

    client = Client("/run/davit/davit.sock")
    client.call("version")                                  # the result, or RpcError
    client.call("tasks.kill", container_id="web", signal="SIGTERM")

    first = client.send("tasks.wait", container_id="a")     # pipelining: many in flight
    second = client.send("tasks.wait", container_id="b")
    second.result(); first.result()                         # in any order

    client.call("tasks.create", container_id="a", stdout=Fd(w))        # passes an fd
    result, fds = client.call_fds("content.read", digest=d, fd=True)   # takes fds out

No thread reads behind your back: messages are read while you wait for one. Notifications that
arrive meanwhile are kept, see `notifications` and lib.events.
"""

import collections
import os
import re
import select
import socket
import struct
import time

import msgpack

#: How long a call may take before the test fails, in seconds. Generous: a loaded machine is no bug.
DEADLINE = float(os.environ.get("DAVIT_TEST_DEADLINE", 60))

_FD_NAME = re.compile(r"^fd:(\d+)$")


class RpcError(Exception):
    """An error answer: `code` ("not_found"), `message`, `details` (a dict)."""

    def __init__(self, error, method=""):
        if isinstance(error, dict):
            self.code = error.get("code")
            self.message = error.get("message")
            self.details = error.get("details") or {}
        else:  # a client that asked for errors as strings (rpc.options)
            self.code, self.message, self.details = None, error, {}
        self.raw = error
        self.method = method
        super().__init__(f"{method}: {self.code}: {self.message} {self.details or ''}")


class Closed(Exception):
    """The daemon ended the connection."""


class Timeout(Exception):
    """Nothing that was waited for came in time."""


class Fd:
    """An fd among the arguments of a call: it is passed along, and named "fd:N" in the request."""

    def __init__(self, fd):
        self.fd = fd if isinstance(fd, int) else fd.fileno()


class Pending:
    """A request that was sent."""

    def __init__(self, client, msgid, method):
        self.client, self.msgid, self.method = client, msgid, method
        self.answer = None  # (error, result, fds)

    def done(self):
        """Whether the answer is here (reads what has arrived, without waiting)."""
        self.client.pump(0)
        return self.answer is not None

    def result_fds(self, deadline=DEADLINE):
        """Waits for the answer: (result, [fd, …]). The caller closes the fds."""
        end = time.monotonic() + deadline
        while self.answer is None:
            if not self.client.pump(max(0.0, end - time.monotonic())) and time.monotonic() >= end:
                raise Timeout(f"{self.method}: no answer within {deadline} s")
        error, result, fds = self.answer
        if error is not None:
            raise RpcError(error, self.method)
        return result, fds

    def result(self, deadline=DEADLINE):
        """Waits for the answer's result; fds that came with it are closed."""
        result, fds = self.result_fds(deadline)
        for fd in fds:
            os.close(fd)
        return result


class Client:
    """One connection. `namespace`: given with every call that does not say otherwise."""

    def __init__(self, path, namespace=None, deadline=DEADLINE):
        self.path, self.namespace, self.deadline = str(path), namespace, deadline
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.sock.connect(self.path)
        self.unpacker = msgpack.Unpacker(
            raw=False, strict_map_key=False, unicode_errors="surrogateescape", max_buffer_size=64 << 20
        )
        self.next_id = 0
        self.pending = {}
        self.fds = collections.deque()
        #: Notifications in order of arrival: (method, params)
        self.notifications = collections.deque()
        self.closed = False

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        self.sock.close()
        self.closed = True
        while self.fds:
            os.close(self.fds.popleft())

    # calls

    def call(self, method, *, deadline=None, **params):
        """Request and answer. Arguments by name; None is sent as nil."""
        return self.send(method, **params).result(deadline or self.deadline)

    def call_fds(self, method, *, deadline=None, **params):
        """As call, but (result, [fd, …])."""
        return self.send(method, **params).result_fds(deadline or self.deadline)

    def send(self, method, **params):
        """Sends a request and returns a Pending."""
        if self.namespace is not None and "namespace" not in params:
            params["namespace"] = self.namespace
        fds = []
        params = _name_fds(params, fds)
        return self.send_raw(method, [params] if params else [], fds)

    def send_raw(self, method, params, fds=(), msgid=None):
        """As send, with the params array as it is."""
        if msgid is None:
            self.next_id = (self.next_id + 1) & 0xFFFFFFFF
            msgid = self.next_id
        pending = Pending(self, msgid, method)
        self.pending[msgid] = pending
        self.send_bytes(msgpack.packb([0, msgid, method, params], unicode_errors="surrogateescape"), fds)
        return pending

    def notify(self, method, **params):
        """Sends a notification, to which there is no answer."""
        self.send_bytes(msgpack.packb([2, method, [params] if params else []]))

    def send_bytes(self, data, fds=()):
        """Sends bytes as they are, with fds on the first one. Reads what comes in meanwhile, so that
        two full socket buffers cannot stop both sides."""
        view = memoryview(data)
        end = time.monotonic() + self.deadline
        ancillary = []
        if fds:
            packed = struct.pack(f"{len(fds)}i", *fds)
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, packed)]
        while view:
            left = end - time.monotonic()
            if left <= 0:
                raise Timeout("the daemon does not read its socket")
            readable, writable, _ = select.select([self.sock], [self.sock], [], left)
            if readable:
                self._receive()
            if writable:
                try:
                    sent = self.sock.sendmsg([view], ancillary, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
                except BlockingIOError:
                    continue
                except (BrokenPipeError, ConnectionResetError) as error:
                    raise Closed(str(error)) from error
                view = view[sent:]
                ancillary = []

    # reading

    def pump(self, timeout):
        """Waits at most `timeout` seconds for something to arrive and takes it in. False: nothing came."""
        readable, _, _ = select.select([self.sock], [], [], timeout)
        if not readable:
            return False
        self._receive()
        return True

    def wait_closed(self, timeout=DEADLINE):
        """Waits until the daemon ends this connection."""
        end = time.monotonic() + timeout
        try:
            while self.pump(max(0.0, end - time.monotonic())):
                pass
        except Closed:
            return
        raise Timeout("the connection is still open")

    def notification(self, timeout=DEADLINE):
        """The next notification: (method, params)."""
        end = time.monotonic() + timeout
        while not self.notifications:
            if not self.pump(max(0.0, end - time.monotonic())) and time.monotonic() >= end:
                raise Timeout(f"no notification within {timeout} s")
        return self.notifications.popleft()

    def _receive(self):
        try:
            data, ancillary, flags, _ = self.sock.recvmsg(
                1 << 18, socket.CMSG_SPACE(4 * 64), socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionResetError as error:
            raise Closed(str(error)) from error
        for level, kind, packed in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                count = len(packed) // 4
                self.fds.extend(struct.unpack(f"{count}i", packed[: count * 4]))
        assert not flags & socket.MSG_CTRUNC, "fds were lost"
        if not data:
            self.closed = True
            raise Closed("the daemon closed the connection")
        self.unpacker.feed(data)
        for message in self.unpacker:
            self._dispatch(message)

    def _dispatch(self, message):
        assert isinstance(message, list) and message, f"not a message: {message!r}"
        if message[0] == 1:
            assert len(message) == 4, f"not an answer: {message!r}"
            _, msgid, error, result = message
            pending = self.pending.pop(msgid, None)
            assert pending is not None, f"an answer to no request of ours: {message!r}"
            # Answers with fds come in the order in which their fds do.
            fds = [self.fds.popleft() for _ in range(_count_fds(result))]
            pending.answer = (error, result, fds)
        elif message[0] == 2:
            assert len(message) == 3, f"not a notification: {message!r}"
            self.notifications.append((message[1], message[2]))
        else:
            raise AssertionError(f"the daemon sent a message of type {message[0]!r}")


def _name_fds(value, fds):
    """Replaces each Fd by its name in the request, and collects the fds."""
    if isinstance(value, Fd):
        fds.append(value.fd)
        return f"fd:{len(fds) - 1}"
    if isinstance(value, dict):
        return {key: _name_fds(inner, fds) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_name_fds(inner, fds) for inner in value]
    return value


def _count_fds(result):
    if not isinstance(result, dict):
        return 0
    found = [_FD_NAME.match(v) for v in result.values() if isinstance(v, str)]
    return max((int(m.group(1)) + 1 for m in found if m), default=0)
