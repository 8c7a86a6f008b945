# SPDX-License-Identifier: Apache-2.0
"""What goes wrong, and what is meant badly: each has a clear error, leaves nothing, and the daemon serves on."""

import hashlib
import os
import random
import resource
import socket
import struct
import subprocess
import time
from pathlib import Path

import msgpack
import pytest

from lib.daemon import Reader, binary, wait_for
from lib.leaks import cgroup_dirs, children
from lib.rootfs import process, spec
from lib.rpc import Client, Closed, Fd, RpcError

PROC = {"destination": "/proc", "type": "proc", "source": "proc"}


def refused(code, call, *args, **params):
    with pytest.raises(RpcError) as error:
        call(*args, **params)
    assert error.value.code == code, error.value
    assert error.value.message
    return error.value


def leaves(davit):
    """Cgroups of containers."""
    return [f for f in cgroup_dirs(davit.cgroup_parent) if f.split(davit.cgroup_parent, 1)[1].strip("/").count("/") >= 1]


def still_well(davit, rootfs):
    """Nothing is left, and a container runs."""
    wait_for(lambda: not leaves(davit), 20, "the end of all cgroups")
    wait_for(lambda: len(children(davit.info["pid"])) == 0, 20, "the end of all children")
    ended, text = davit.run(["echo", "well"], rootfs)
    assert (ended["exit_status"], text) == (0, "well\n")


# programs and places that are not there


def test_missing_program(davit, rootfs):
    for program in ("/nothing", "nothing", "/bin/busybox/x", "/etc/passwd/.."):
        error = refused("not_found", davit.create, davit.unique(), [program], rootfs)
        assert error.details["exit_code"] == 127 and program in error.message, error
    (rootfs / "plain").write_text("#!/bin/sh\n")
    (rootfs / "folder").mkdir()
    for program in ("/plain", "/folder"):
        error = refused("failed_precondition", davit.create, davit.unique(), [program], rootfs)
        assert error.details["exit_code"] == 126 and program in error.message, error
    (rootfs / "loop").symlink_to("/loop")
    error = refused("failed_precondition", davit.create, davit.unique(), ["/loop"], rootfs)
    assert error.details["exit_code"] == 126 and error.details["errname"] == "ELOOP"
    still_well(davit, rootfs)


@pytest.mark.parametrize("kind, code", [("garbage", 126), ("foreign", 126), ("empty", 126), ("interpreter", 127), ("loader", 127)])
def test_what_shows_only_at_exec(davit, rootfs, kind, code):
    header = bytearray(Path("/usr/bin/busybox").read_bytes()[:4096])
    if kind == "foreign":
        struct.pack_into("<H", header, 18, 0x1234)  # e_machine
    content = {"garbage": b"\x01\x02\x03\x04" * 100, "foreign": bytes(header), "empty": b"", "interpreter": b"#!/no/such/shell\n",
               "loader": Path("/bin/true").read_bytes()}[kind]
    (rootfs / "odd").write_bytes(content)
    (rootfs / "odd").chmod(0o755)
    davit.create("c", ["/odd"], rootfs)
    with pytest.raises(RpcError) as error:
        davit.call("tasks.start", container_id="c")
    assert error.value.details["exit_code"] == code and "/odd" in error.value.message, error.value
    state = davit.status("c")
    assert (state["status"], state["exit_status"]) == ("stopped", code)
    assert davit.call("tasks.delete", container_id="c")["exit_status"] == code
    # the same by an exec
    davit.launch("d", ["sleep", "1000"], rootfs)
    davit.call("tasks.exec", container_id="d", exec_id="e", spec=process(["/odd"]))
    with pytest.raises(RpcError) as error:
        davit.call("tasks.start", container_id="d", exec_id="e")
    assert error.value.details["exit_code"] == code
    assert davit.status("d", "e")["exit_status"] == code
    davit.remove("d")
    still_well(davit, rootfs)


def test_bad_root_and_cwd(davit, rootfs):
    (davit.base / "file").write_text("")
    error = refused("not_found", davit.create, "a", ["true"], davit.base / "missing")
    assert error.details["path"] == str(davit.base / "missing") and error.details["errname"] == "ENOENT"
    error = refused("failed_precondition", davit.create, "b", ["true"], davit.base / "file")
    assert error.details["errname"] == "ENOTDIR"
    error = refused("not_found", davit.create, "c", ["true"], rootfs, process={"cwd": "/missing"})
    assert "/missing" in error.message and error.details["errname"] == "ENOENT"
    error = refused("failed_precondition", davit.create, "d", ["true"], rootfs, process={"cwd": "/etc/passwd"})
    assert error.details["errname"] == "ENOTDIR"
    refused("invalid_argument", davit.create, "e", ["true"], "relative")
    refused("invalid_argument", davit.create, "f", [], rootfs)
    error = refused("not_found", davit.call, "containers.create", id="g", bundle=str(davit.base / "nowhere"))
    assert "nowhere" in error.message
    (davit.base / "config.json").write_text("{\"ociVersion\": ")
    error = refused("invalid_argument", davit.call, "containers.create", id="h", bundle=str(davit.base))
    assert "config.json" in error.message or "JSON" in error.message
    still_well(davit, rootfs)


@pytest.mark.parametrize("text, word", [
    ("", "spec"), ("[]", "spec"), ("{}", "ociVersion"), ("{\"ociVersion\": 7}", "ociVersion"), ("nonsense", "line 1"),
    ("{\"ociVersion\": \"1.0.2\", \"ociVersion\": \"1.0.2\"}", "ociVersion"), ("{\"ociVersion\": \"9.0.0\"}", "ociVersion"),
    ("[" * 200, ""), ("{\"ociVersion\": \"1.0.2\", \"process\": []}", "process"), ("{\"ociVersion\":\"1.0.2\",\"root\":{\"path\":\"/x\\u0000y\"}}", "NUL"),
])
def test_bad_specs(davit, text, word):
    error = refused("invalid_argument", davit.call, "containers.create", id="c", spec=text)
    assert word in error.message, error
    assert davit.call("containers.list")["containers"] == []


# what a container tries


def test_symlinks_out_of_the_root(davit, rootfs):
    """Mount points, folders and programs that are links lead to places inside, never to the host's."""
    outside = davit.base / "outside"
    outside.mkdir()
    (outside / "word").write_text("host\n")
    (rootfs / "up").symlink_to("../../../../../../../../" + str(outside))
    (rootfs / "abs").symlink_to(str(outside))
    (rootfs / "tmp/in").symlink_to("/abs")
    before = sorted(os.listdir(outside)), os.listdir("/")
    for destination in ("/up/m", "/abs/n", "/tmp/in/o", "/../../../p", "/up/../../../../q"):
        mounts = [PROC, {"destination": destination, "type": "tmpfs", "source": "tmpfs"}]
        try:
            davit.run(["true"], rootfs, mounts=mounts, id="c")
        except RpcError as error:
            assert error.code in ("invalid_argument", "failed_precondition", "not_found"), error
            davit.remove("c")
        devices = [{"path": destination + "d", "type": "c", "major": 1, "minor": 3}]
        try:
            davit.run(["true"], rootfs, mounts=mounts[:1], linux={"devices": devices}, id="d")
        except RpcError:
            davit.remove("d")
    assert (sorted(os.listdir(outside)), os.listdir("/")) == before
    # the masked and read-only paths too
    try:
        davit.run(["true"], rootfs, mounts=[PROC], linux={"maskedPaths": ["/abs/word"], "readonlyPaths": ["/up"]})
    except RpcError as error:
        assert error.code != "internal"
    assert (outside / "word").read_text() == "host\n"
    error = refused("not_found", davit.create, "e", ["/abs/word"], rootfs)
    assert error.details["exit_code"] == 127


def test_proc_that_is_a_link(davit, rootfs):
    """CVE-2019-19921 and its like: what is masked and read-only is so in the container's own procfs, wherever that came to be."""
    (rootfs / "proc").rmdir()
    (rootfs / "fake").mkdir()
    (rootfs / "proc").symlink_to("/fake")
    caps = ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]
    try:
        ended, text = davit.run(["sh", "-c", "readlink /proc/self >/dev/null && echo own; for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /fake/sysrq-trigger; do "
                                 "(echo h >$f) 2>/dev/null && echo written; done; cat /proc/timer_list"], rootfs,
                                process={"capabilities": {kind: caps for kind in ("bounding", "effective", "permitted")}})
        assert text == "own\n", text
    except RpcError as error:
        assert error.code in ("failed_precondition", "invalid_argument"), error
    # and a /proc without a procfs protects nothing: then these paths are refused or not there
    (rootfs / "fake/sys").mkdir()
    davit.run(["true"], rootfs, mounts=[], linux={"maskedPaths": [], "readonlyPaths": []})


def test_null_device_that_is_a_link(davit, rootfs):
    """CVE-2025-31133: a masked file is covered by the true /dev/null, whatever the root's /dev has."""
    (rootfs / "secret").write_text("secret")
    (rootfs / "target").write_text("target")
    (rootfs / "dev/null").symlink_to("/target")
    linux = {"maskedPaths": ["/secret"], "readonlyPaths": []}
    error = refused("failed_precondition", davit.run, ["true"], rootfs, mounts=[PROC], linux=linux)
    assert "/dev/null" in error.message
    davit.remove("c1")
    assert (rootfs / "target").read_text() == "target"
    # with a /dev of its own, whose null is replaced by another container while this one starts
    shared = davit.base / "dev"
    shared.mkdir()
    (shared / "null").symlink_to("/target")
    mounts = [PROC, {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
              {"destination": "/elsewhere", "source": str(shared), "options": ["bind"]}]
    ended, text = davit.run(["sh", "-c", "stat -c %F:%t:%T /secret; cat /secret; echo x >/secret; cat /target"], rootfs, mounts=mounts, linux=linux)
    assert text == "character special file:1:3\ntarget", text


def test_folder_that_is_an_fd(davit, rootfs):
    """CVE-2024-21626: no folder of the host is reachable through an fd, neither as cwd nor from inside."""
    for fd in (3, 4, 5, 6, 7, 8, 9, 10, 11, 15, 20):
        for path in (f"/proc/self/fd/{fd}", f"/proc/self/fd/{fd}/../../../etc"):
            id = davit.unique()
            try:
                ended, text = davit.run(["sh", "-c", "pwd -P; ls -d /work /davit 2>/dev/null; ls ../../../.."], rootfs, process={"cwd": path}, id=id)
            except RpcError as error:
                assert error.code in ("not_found", "failed_precondition", "permission_denied"), error
                davit.remove(id)
                continue
            assert "lost+found" not in text and "sbin" in text, text
    davit.launch("c", ["sleep", "1000"], rootfs)
    for fd in (3, 5, 8, 12):
        try:
            text = davit.exec("c", ["pwd", "-P"], cwd=f"/proc/self/fd/{fd}", exec_id=f"e{fd}")[1]
            assert not text.startswith("/tmp/davit"), text
        except RpcError as error:
            assert error.code in ("not_found", "failed_precondition", "permission_denied"), error


def test_overwriting_the_runtime(davit, rootfs):
    """CVE-2019-5736: what waits for its exec is the daemon's program; a container can neither write nor read it."""
    def sums():
        return hashlib.sha256(binary().read_bytes()).hexdigest()

    before = sums()
    caps = ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_SYS_ADMIN", "CAP_SETUID"]
    process_ = {"capabilities": {kind: caps for kind in ("bounding", "effective", "permitted")}}
    script = ("end=$(($(date +%s) + 2)); while [ $(date +%s) -lt $end ]; do for p in /proc/[0-9]*; do case $p in /proc/1|/proc/$$) continue;; esac; "
              "(printf overwritten >$p/exe) 2>/dev/null && readlink $p/exe; done; done; echo over")
    out = Reader()
    davit.create("c", ["sh", "-c", script], rootfs, process=process_, stdio={"stdout": Fd(out.write_fd)})
    out.close_write()
    davit.call("tasks.start", container_id="c")
    # the classic way: the program is a link to, or a script for, /proc/self/exe
    (rootfs / "again").write_text("#!/proc/self/exe\n")
    (rootfs / "again").chmod(0o755)
    (rootfs / "self").symlink_to("/proc/self/exe")
    for n in range(40):
        program = ("/bin/true", "/again", "/self", "/proc/self/exe")[n % 4]
        davit.call("tasks.exec", container_id="c", exec_id=f"e{n}", spec=process([program]))
        try:
            davit.call("tasks.start", container_id="c", exec_id=f"e{n}")
        except RpcError as error:
            assert error.code != "internal", error
        if n % 4 == 0:
            continue
        davit.call("tasks.delete_process", container_id="c", exec_id=f"e{n}", kill=True)
    davit.call("tasks.wait", container_id="c")
    assert "davit" not in out.text()
    davit.remove("c")
    assert sums() == before
    still_well(davit, rootfs)


def test_waiting_init_is_not_dumpable(davit, rootfs):
    """A waiting init has the daemon's memory: nobody but root of the host may look at it."""
    pid = davit.create("c", ["sleep", "1000"], rootfs)
    assert os.stat(f"/proc/{pid}/mem").st_uid == 0 and os.stat(f"/proc/{pid}/maps").st_uid == 0
    caps = ["CAP_KILL"]
    linux = {"namespaces": [{"type": "mount"}, {"type": "uts"}, {"type": "pid", "path": f"/proc/{pid}/ns/pid"}]}
    ended, text = davit.run(["sh", "-c", "cat /proc/1/environ /proc/1/maps; ls -l /proc/1/exe /proc/1/fd /proc/1/cwd; head -c1 /proc/1/mem"], rootfs, linux=linux,
                            process={"capabilities": {kind: caps for kind in ("bounding", "effective", "permitted")}})
    assert "davit" not in text.replace("davit-test", "") and "->" not in text, text
    davit.call("tasks.start", container_id="c")


# exhaustion


def test_full_disk(make_davit, busybox):
    davit = make_davit(start=False)
    for name in ("root", "state"):
        folder = davit.base / name
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "full", str(folder)], check=True)
        davit.cleanups.append(lambda folder=folder: subprocess.run(["umount", "-l", str(folder)], check=False))
    davit.start()
    assert davit.run(["true"], busybox, root={"readonly": True})[0]["exit_status"] == 0
    fillers = []
    for name in ("root", "state"):
        filler = davit.base / name / "filler"
        with open(filler, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        fillers.append(filler)
    failed = 0
    for n in range(30):
        try:
            davit.call("containers.create", id=f"f{n}", spec=spec(["true"], busybox, annotations={"pad": os.urandom(20000).hex()}))
            davit.call("tasks.create", container_id=f"f{n}")
        except RpcError as error:
            assert error.code in ("resource_exhausted", "unavailable") and "No space left" in error.message or "disk" in error.message, error
            failed += 1
    assert failed
    assert davit.call("version")["version"] and isinstance(davit.call("containers.list")["containers"], list)
    for filler in fillers:
        filler.unlink()
    for task in davit.call("tasks.list")["tasks"]:
        davit.call("tasks.delete", container_id=task["id"], kill=True)
    for container in davit.call("containers.list")["containers"]:
        davit.call("containers.delete", id=container["id"])
    still_well(davit, busybox)


def test_no_more_processes(davit, rootfs):
    """The limit is the kernel's: a process that joins counts, and what it forks is refused."""
    davit.launch("c", ["sleep", "1000"], rootfs, linux={"resources": {"pids": {"limit": 1}}})
    davit.call("tasks.exec", container_id="c", exec_id="e", spec=process(["sh", "-c", "true & wait"]))
    try:
        davit.call("tasks.start", container_id="c", exec_id="e")
        assert davit.call("tasks.wait", container_id="c", exec_id="e")["exit_status"] != 0
    except RpcError as error:
        assert error.code == "resource_exhausted" and error.details["errname"] == "EAGAIN", error
    assert davit.status("c")["status"] == "running"
    davit.remove("c")
    still_well(davit, rootfs)


def test_no_more_fds(davit, rootfs):
    pid = davit.info["pid"]
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    assert davit.run(["true"], rootfs)[0]["exit_status"] == 0
    count = davit.fd_count(pid)
    for room in range(0, 24):
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (count + room, before[1]))
        id = davit.unique("n")
        try:
            davit.launch(id, ["true"], rootfs)
        except RpcError as error:
            assert error.code in ("resource_exhausted", "unavailable"), error
            assert "Too many open files" in error.message, error
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        davit.remove(id)
    assert davit.info["pid"] == pid
    still_well(davit, rootfs)


def test_clients_that_vanish_during_a_create(davit, rootfs):
    chance = random.Random(7)
    for n in range(150):
        id = f"v{n}"
        davit.call("containers.create", id=id, spec=spec(["sleep", "1000"], rootfs))
        gone = Client(davit.socket)
        gone.send("tasks.create", container_id=id)
        time.sleep(chance.random() * 0.012)
        gone.close()
        end = time.monotonic() + 20
        while True:  # deleted when the create has come to its end, whichever it was
            try:
                davit.remove(id)
                break
            except RpcError as error:
                assert error.code in ("failed_precondition", "unavailable", "aborted"), error
                assert time.monotonic() < end, error
                time.sleep(0.002)
    assert davit.call("tasks.list")["tasks"] == [] and davit.call("containers.list")["containers"] == []
    still_well(davit, rootfs)


# the wire


FRAMES = {
    "array of 2^28": b"\xdd\x0f\xff\xff\xff", "map of 2^32": b"\xdf\xff\xff\xff\xff", "string of 2^32": b"\xdb\xff\xff\xff\xff" + b"x" * 100,
    "an int": b"\x01", "nil": b"\xc0", "a map": b"\x81\xa1a\x01", "never used": b"\xc1", "an empty array": b"\x90",
    "type 9": msgpack.packb([9, 1, "version", []]), "text as id": msgpack.packb([0, "a", "version", []]), "negative id": msgpack.packb([0, -1, "version", []]),
    "three elements": msgpack.packb([0, 1, "version"]), "number as method": msgpack.packb([0, 1, 7, []]), "deep": b"\x91" * 5000,
    "deep params": b"\x94\x00\x01\xa7version" + b"\x91" * 40 + b"\xc0", "bytes": bytes(random.Random(1).randbytes(5000)),
    "http": b"GET / HTTP/1.1\r\nHost: davit\r\n\r\n", "ext": b"\xc9\xff\xff\xff\xff\x01", "params of two": msgpack.packb([0, 1, "version", [{}, {}]]),
}


@pytest.mark.parametrize("name", FRAMES)
def test_bad_frames(davit, name):
    """Such a frame ends its connection, or is answered by an error; other connections do not notice."""
    for cut in (False, True):
        frame = FRAMES[name]
        with Client(davit.socket) as client:
            try:
                client.send_bytes(frame[: len(frame) // 2] if cut else frame)
                if not cut:
                    client.sock.settimeout(5)
                    answer = client.sock.recv(65536)
                    if answer:
                        message = msgpack.unpackb(answer)
                        assert message[0] == 1 and message[2]["code"] == "invalid_argument", message
            except (Closed, ConnectionResetError):
                pass
        assert davit.call("version")["version"]


def test_oversized_frame(davit):
    with Client(davit.socket) as client:
        with pytest.raises((Closed, RpcError)):
            client.call("events.publish", topic="/x/y", event={"data": "x" * (17 << 20)})
    with Client(davit.socket) as client:  # said to be long, and never sent
        client.send_bytes(b"\x94\x00\x01\xa7version\x91\x81\xa1x\xc6" + struct.pack(">I", 15 << 20) + b"x" * 1000)
        stats = Path(f"/proc/{davit.info['pid']}/status").read_text()
        assert int(stats.split("VmRSS:")[1].split()[0]) < 64 << 10
    assert davit.call("version")["version"]


def test_a_frame_byte_by_byte(davit):
    with Client(davit.socket) as client:
        frame = msgpack.packb([0, 5, "version", []])
        for byte in frame:
            client.sock.send(bytes([byte]))
            time.sleep(0.002)
        client.sock.settimeout(10)
        answer = msgpack.unpackb(client.sock.recv(65536))
        assert answer[:3] == [1, 5, None] and answer[3]["version"]


def test_a_client_that_does_not_read(davit):
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.connect(str(davit.socket))
        deaf.setblocking(False)
        frame = msgpack.packb([0, 1, "rpc.describe", []])
        try:
            for _ in range(5000):
                deaf.send(frame)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            pass
        for _ in range(20):
            assert davit.call("version")["version"]


# every method


WRONG = [None, True, -1, 2**63, 2**64 - 1, 1.5, "", "\0", "x" * 70000, "../..", "ü" * 300, b"\xff\xfe", [], [1], [[]], {}, {"a": 1}, {1: 2}, ["\xff" * 10]]
#: which of WRONG each type takes without complaint about the type
FITS = {
    "str": (str, bytes), "id": (str, bytes), "int": (int,), "bool": (bool,), "map": (dict, list), "labels": (dict, list), "list": (list,),
    "bin": (str, bytes), "list of str": (list,), "stdio": (str, bytes), "fd": (str, bytes), "signal": (int, str, bytes), "str or map": (str, bytes, dict, list),
}


def right(parameter):
    """A value of the parameter's type; ids are of nothing that exists."""
    return {"str": "/some/thing", "id": "nobody", "int": max(1, parameter.get("min", 1)), "bool": False, "map": {}, "labels": {}, "list": [],
            "bin": b"", "list of str": [], "stdio": None, "signal": "SIGTERM", "fd": "fd:0", "str or map": {}}.get(parameter["type"], "x")


def fits(kind, value):
    if isinstance(value, bool):
        return bool in FITS[kind]
    return isinstance(value, FITS[kind]) or (value == {} and list in FITS[kind])  # an empty map and an empty list are one


def raw(davit, method, params):
    with open("/dev/null") as null:
        return davit.rpc.send_raw(method, [params], [null.fileno()] if "fd:0" in params.values() else []).result()


def test_every_parameter_of_every_method(davit):
    """A wrong type is invalid_argument that names the parameter; a missing one too; nothing is `internal`."""
    methods = davit.call("rpc.describe")["methods"]
    assert len(methods) > 20
    for method in methods:
        name, parameters = method["name"], method["params"]
        given = {p["name"]: right(p) for p in parameters if p["required"]}
        refused("invalid_argument", raw, davit, name, {**given, "no_such_argument": 1})
        for parameter in parameters:
            key, kind = parameter["name"], parameter["type"]
            if parameter["required"]:
                error = refused("invalid_argument", raw, davit, name, {k: v for k, v in given.items() if k != key})
                assert key in error.message or key in error.details.get("argument", ""), (name, key, error)
            if kind == "any":
                continue
            assert kind in FITS, f"{name}: {key} has the type {kind!r}, which this test does not know"
            for value in WRONG:
                if name == "server.shutdown":
                    if key == "kill" and isinstance(value, bool):
                        continue
                    if key != "kill" and isinstance(value, FITS[kind]):
                        continue
                if value is None:
                    continue  # as if it were not given
                if key in ("msgid", "subscription") and isinstance(value, int):
                    continue
                try:
                    raw(davit, name, {**given, key: value})
                except RpcError as error:
                    assert error.code not in ("internal", "unknown"), (name, key, value, error)
                    if not fits(kind, value):
                        assert error.code == "invalid_argument", (name, key, value, error)
                        assert key in error.message or key in error.details.get("argument", ""), (name, key, value, error)
                else:
                    assert fits(kind, value), (name, key, value)
    assert davit.call("version")["version"]


def test_params_that_are_no_map(davit):
    for params in ([1], ["x"], [[1]], [None], [{}, {}]):
        pending = davit.rpc.send_raw("tasks.list", params)
        try:
            pending.result()
        except RpcError as error:
            assert error.code == "invalid_argument", error
    assert davit.rpc.send_raw("tasks.list", [[]]).result() == {"tasks": []}  # an empty array is an empty map


def test_fds_that_do_not_belong(davit, rootfs):
    """Fds that no argument names are closed; names of fds that did not come are errors."""
    count = davit.fd_count()
    for _ in range(50):
        davit.rpc.send_raw("version", [], [0, 1, 2]).result()
    davit.call("containers.create", id="c", spec=spec(["true"], rootfs))
    for name in ("fd:0", "fd:16", "fd:-1", "fd:", "fd:99999999999", "fd:0x"):
        error = refused("invalid_argument", davit.call, "tasks.create", container_id="c", stdout=name)
        assert "stdout" in error.message
    read, write = os.pipe()
    os.close(write)
    for fd in (read, os.open("/", os.O_RDONLY | os.O_DIRECTORY)):
        try:
            davit.call("tasks.create", container_id="c", stdout=Fd(fd))
            davit.call("tasks.delete", container_id="c", kill=True)
        except RpcError as error:
            assert error.code in ("invalid_argument", "failed_precondition"), error
        os.close(fd)
    wait_for(lambda: davit.fd_count() <= count + 4)
