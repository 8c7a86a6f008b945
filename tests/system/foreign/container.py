# SPDX-License-Identifier: Apache-2.0
"""A container's life with nothing but PyPI's msgpack and the published contract.

usage: container.py SOCKET ROOTFS        prints the events' topics and the exit status
"""

import socket
import sys

import msgpack

SPEC = {
    "ociVersion": "1.2.0",
    "process": {"user": {"uid": 0, "gid": 0}, "args": ["/bin/sh", "-c", "exit 42"], "cwd": "/", "env": ["PATH=/bin"]},
    "root": {"path": sys.argv[2]},
    "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
    "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network")]},
}

sock = socket.socket(socket.AF_UNIX)
sock.settimeout(60)
sock.connect(sys.argv[1])
unpacker = msgpack.Unpacker()
answers, events = {}, []
last_id = 0


def read():
    data = sock.recv(65536)
    if not data:
        sys.exit("the daemon hung up")
    unpacker.feed(data)
    for message in unpacker:
        if message[0] == 1:
            answers[message[1]] = message
        elif message[0] == 2 and message[1] == "event":
            events.append(message[2][-1])


def call(method, **params):
    global last_id
    last_id += 1
    sock.sendall(msgpack.packb([0, last_id, method, [params]]))
    while last_id not in answers:
        read()
    _, _, error, result = answers.pop(last_id)
    if error:
        sys.exit(f"{method}: {error['code']}: {error['message']}")
    return result


call("events.subscribe", filters=["topic~=/tasks/"])
call("containers.create", id="py", spec=SPEC)
call("tasks.create", container_id="py")
call("tasks.start", container_id="py")
while not any(event["topic"] == "/tasks/exit" for event in events):
    read()
call("tasks.delete", container_id="py")
call("containers.delete", id="py")
while not any(event["topic"] == "/tasks/delete" for event in events):
    read()
print(" ".join(event["topic"] for event in events))
print(next(event["event"]["exit_status"] for event in events if event["topic"] == "/tasks/exit"))
