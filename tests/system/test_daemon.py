# SPDX-License-Identifier: Apache-2.0
"""The daemon itself: start, end, crash, who may start it and who may not, and what it costs."""

import os
import re
import signal
import socket
import sqlite3
import stat
import subprocess
import time

import pytest

from lib.daemon import binary, wait_for
from lib.rootfs import spec
from lib.rpc import Client, Closed, RpcError


def status_field(pid, name):
    with open(f"/proc/{pid}/status") as file:
        return re.search(rf"^{name}:\s*(\S+)", file.read(), re.M).group(1)


def gone(pid):
    """Dead; it may wait for somebody to reap it."""
    try:
        return status_field(pid, "State") == "Z"
    except FileNotFoundError:
        return True


def test_places(davit):
    assert stat.S_IMODE(davit.socket.stat().st_mode) == 0o660
    assert stat.S_IMODE(davit.state.stat().st_mode) == 0o700
    assert stat.S_IMODE(davit.root.stat().st_mode) == 0o700
    for folder in (davit.root, davit.state):
        for file in folder.rglob("*"):
            # content is an OCI layout for other tools, behind the folder that only root may enter
            if file.is_file() and file.name != "id" and davit.root / "content" not in file.parents:
                assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file
    info = davit.info
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", info["id"])
    davit.stop()
    assert not davit.socket.exists()
    davit.start()
    assert davit.info["id"] == info["id"]


def test_process(davit):
    info = davit.info
    for pid in (info["pid"], info["guardian_pid"]):
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
        assert os.readlink(f"/proc/{pid}/exe").startswith("/memfd:davit")
        with pytest.raises(OSError):
            open(f"/proc/{pid}/exe", "r+b").close()
        with open(f"/proc/{pid}/limits") as file:
            soft, hard = re.search(r"Max open files\s+(\d+)\s+(\d+)", file.read()).groups()
        assert soft == hard
    assert status_field(info["guardian_pid"], "Threads") == "1"
    assert davit.notifications == [f"READY=1\nMAINPID={info['guardian_pid']}"]
    assert info["guardian_pid"] == davit.process.pid
    assert status_field(info["pid"], "PPid") == str(info["guardian_pid"])


def test_idle_memory(davit):
    """What is its own. How much of the libraries' files is mapped beside depends on how the host has them in its page cache."""
    assert davit.call("containers.list")["containers"] == []
    time.sleep(1)
    own = files = 0
    for pid in davit.pids():
        with open(f"/proc/{pid}/smaps_rollup") as file:
            pss = {name: int(size) for name, size in re.findall(r"^(Pss\w*):\s+(\d+)", file.read(), re.M)}
        own += pss["Pss_Anon"] + pss["Pss_Shmem"]
        files += pss["Pss_File"]
    print("PSS of guardian and reactor:", own, "KiB, and", files, "KiB of files")
    if "asan" not in binary().name:
        assert own <= 5 << 10


def test_idle_sleeps(davit):
    davit.call("version")
    time.sleep(5)  # until its clock has stopped
    before = davit.call("server.stats")["reactor"]
    time.sleep(2)
    after = davit.call("server.stats")["reactor"]
    assert after["turns"] - before["turns"] < 10
    assert after["busy_ns"] - before["busy_ns"] < 50e6


def test_end(davit):
    pids = davit.pids()
    assert davit.stop() == 0
    assert all(gone(pid) for pid in pids)
    assert any(message.startswith("STOPPING=1") for message in _notified(davit))
    davit.start()
    davit.process.send_signal(signal.SIGINT)
    assert davit.process.wait(20) == 0


def _notified(davit):
    davit.notify.setblocking(False)
    try:
        while True:
            davit.notifications.append(davit.notify.recv(4096).decode())
    except BlockingIOError:
        davit.notify.setblocking(True)
        return davit.notifications


def test_signal_to_the_reactor_ends_both(davit):
    guardian = davit.process
    os.kill(davit.info["pid"], signal.SIGTERM)
    assert guardian.wait(20) == 0


def test_what_is_in_flight_is_answered(davit):
    spec = {"ociVersion": "1.3.0", "process": {"cwd": "/", "args": ["true"]}, "root": {"path": "rootfs"}}
    pending = [davit.send("containers.create", id=f"c{i}", spec=spec) for i in range(200)]
    pending[0].result()
    davit.process.send_signal(signal.SIGTERM)
    made = 0
    for i, p in enumerate(pending):
        try:
            p.result()
            made += 1
        except Closed:
            break
    assert davit.process.wait(20) == 0
    davit.start()
    # what was answered is there; what was not read is not
    assert len(davit.call("containers.list", fields=["id"])["containers"]) == made
    print(made, "of 200 made")


def test_second_is_refused(davit):
    again = subprocess.run(
        [binary(), "serve", "--root", davit.root, "--state", davit.state, "--socket", davit.base / "other"],
        env=davit.env, capture_output=True, text=True, timeout=30)
    assert again.returncode == 1
    assert "another davit serves" in again.stderr and str(davit.process.pid) in again.stderr
    # with a state of its own, but on our socket
    again = subprocess.run(
        [binary(), "serve", "--root", davit.base / "root2", "--state", davit.base / "state2", "--socket", davit.socket],
        env=davit.env, capture_output=True, text=True, timeout=30)
    assert again.returncode == 1 and "listens on" in again.stderr
    assert davit.call("version")["version"]


def test_starts_while_the_dead_one_has_the_socket(make_davit):
    """A killed daemon keeps its socket until the kernel has taken all of it apart."""
    davit = make_davit(start=False)
    fd, end = os.pipe()
    listener = os.fork()
    if not listener:
        bound = socket.socket(socket.AF_UNIX)
        bound.bind(str(davit.socket))
        bound.listen()
        if not os.fork():
            os.close(end)
            os.read(fd, 1)  # holds the socket until the test lets go
            os._exit(0)
        os._exit(0)
    os.close(fd)
    os.waitpid(listener, 0)
    davit.start(wait=False)
    time.sleep(0.3)
    assert davit.process.poll() is None, davit.log_text()
    os.close(end)
    davit.wait_ready()
    davit.connect().call("version")


def test_wrong_options(davit):
    def serve(*args, env=None):
        run = subprocess.run([binary(), *args], env={**davit.env, **(env or {})}, capture_output=True, text=True, timeout=30)
        return run.returncode, run.stdout, run.stderr

    for args, text in [
        (["serve", "--colour"], "--colour"),
        (["serve", "--root"], "needs a value"),
        (["serve", "extra"], "extra"),
        (["serve", "--journal-size", "much"], "journal-size"),
        (["serve", "--journal-size=1k"], "too small"),
        (["serve", "--cgroup-parent", "a/b"], "cgroup-parent"),
        (["serve", "--cgroup-parent", "/a/../b"], "cgroup-parent"),
        (["serve", "--group", "no such group"], "no such group"),
        (["--log-level", "loud", "serve"], "log-level"),
    ]:
        code, _, error = serve(*args)
        assert code == 1 and text in error, (args, error)
        assert len(error.strip().splitlines()) == 1
    code, _, error = serve("serve", env={"DAVIT_JOURNAL_SIZE": "x"})
    assert code == 1 and "DAVIT_JOURNAL_SIZE" in error
    code, text, _ = serve("serve", "--help")
    assert code == 0 and "--checkpoint-buffer" in text
    # over-long for a UNIX socket
    code, _, error = serve("serve", "--root", str(davit.base / "r"), "--state", str(davit.base / "s"), "--socket", "/tmp/" + "x" * 120)
    assert code == 1 and "107 bytes" in error


def test_foreign_database_is_told(davit):
    davit.stop()
    for file in davit.root.glob("meta.db*"):
        file.unlink()
    with sqlite3.connect(davit.root / "meta.db") as db:
        db.execute("CREATE TABLE somebodys (thing)")
    db.close()
    read, write = os.pipe()
    run = subprocess.run(
        [binary(), "serve", "--root", davit.root, "--state", davit.state, "--socket", davit.socket],
        env={**davit.env, "DAVIT_READY_FD": str(write)}, pass_fds=[write], capture_output=True, text=True, timeout=60)
    os.close(write)
    told = os.read(read, 4096).decode()
    os.close(read)
    assert run.returncode == 1
    assert "meta.db" in told and told.count("\n") == 1
    assert (davit.root / "meta.db").exists()
    (davit.root / "meta.db").unlink()


def test_ready_fd(davit):
    davit.stop()
    read, write = os.pipe()
    process = subprocess.Popen(
        [binary(), "serve", "--root", davit.root, "--state", davit.state, "--socket", davit.socket, "--cgroup-parent", davit.cgroup_parent],
        env={**davit.env, "DAVIT_READY_FD": str(write)}, pass_fds=[write], stderr=subprocess.DEVNULL)
    davit.processes.append(process)
    os.close(write)
    assert os.read(read, 10) == b"R"
    assert os.read(read, 10) == b""
    os.close(read)
    davit.connect()
    assert davit.info["guardian_pid"] == process.pid
    environment = open(f"/proc/{davit.info['pid']}/environ").read()
    assert "DAVIT_READY_FD" in environment  # as it was given; but nothing inherits it
    davit.process = process


def test_passed_socket(davit):
    davit.stop()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(davit.socket))
        listener.listen(10)
        process = subprocess.Popen(
            ["/bin/bash", "-c", 'exec 3<&$LISTENER; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"', "bash", binary(), "serve", "--root", davit.root,
             "--state", davit.state, "--socket", davit.socket, "--cgroup-parent", davit.cgroup_parent],
            env={**davit.env, "LISTENER": str(listener.fileno())}, pass_fds=[listener.fileno()], stderr=open(davit.log, "a"))
        davit.processes.append(process)
        davit.process = process
        with Client(davit.socket) as client:
            assert client.call("server.info")["guardian_pid"] == process.pid
        assert davit.stop() == 0
        assert davit.socket.exists()  # it was not ours
    davit.socket.unlink()


def test_group(make_davit):
    davit = make_davit("--group", "1234")
    assert davit.socket.stat().st_gid == 1234
    assert stat.S_IMODE(davit.state.stat().st_mode) == 0o710
    assert davit.state.stat().st_gid == 1234


def test_reactor_dies(davit):
    """kill -9: the next one answers at once, with the same records."""
    spec = {"ociVersion": "1.3.0", "process": {"cwd": "/", "args": ["true"]}, "root": {"path": "rootfs"}}
    davit.call("containers.create", id="c", spec=spec)
    before = davit.info
    began = time.monotonic()
    davit.kill_reactor()
    print("back after", int((time.monotonic() - began) * 1000), "ms")
    after = davit.info
    assert after["pid"] != before["pid"] and after["guardian_pid"] == before["guardian_pid"]
    assert davit.call("containers.get", id="c")["container"]["spec"] == spec
    assert davit.process.poll() is None


def test_connects_while_the_reactor_is_dead(davit):
    """The socket is the guardian's: a client that comes in between waits and is served."""
    os.kill(davit.info["pid"], signal.SIGKILL)
    with Client(davit.socket) as client:
        try:
            client.call("version")
        except Closed:
            pass  # the dying one had accepted it
    davit.reconnect()


def test_dies_too_often(davit):
    for _ in range(5):
        davit.kill_reactor()
    began = time.monotonic()
    davit.kill_reactor()
    assert time.monotonic() - began > 0.5
    assert "too often" in davit.log_text()
    assert davit.call("version")


def test_guardian_dies(davit, rootfs):
    """The reactor ends in an orderly way, containers run on, and the next start has them."""
    pid = davit.launch("c", ["sleep", "1000"], rootfs)
    reactor = davit.info["pid"]
    davit.process.kill()
    davit.process.wait()
    davit.start()  # at once: it waits for the former reactor
    assert gone(reactor)
    assert davit.status("c")["status"] == "running"
    assert davit.status("c")["pid"] == pid
    assert davit.remove("c")["exit_status"] == 137


def test_containers_run_on(davit, rootfs):
    pid = davit.launch("c", ["sleep", "1000"], rootfs)
    assert davit.stop() == 0
    assert os.path.exists(f"/proc/{pid}")
    davit.start()
    assert davit.status("c")["pid"] == pid
    davit.remove("c")


def test_orphans_are_not_kept(davit, rootfs):
    """What a container leaves in the host's pid namespace becomes the guardian's child; its exits are nobody's."""
    namespaces = [{"type": kind} for kind in ("mount", "ipc", "uts")]
    davit.run(["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do (true &) ; done; sleep 0.2"], rootfs, linux={"namespaces": namespaces})
    wait_for(lambda: (davit.state / "exits").stat().st_size == 0, what="an empty exit log")


def test_hangup_reads_the_level(davit):
    assert "debug" not in davit.log_text()
    (davit.state / "log-level").write_text("debug\n")
    davit.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "SIGHUP" in davit.log_text())
    davit.kill_reactor()
    wait_for(lambda: "debug guardian" in davit.log_text())
    (davit.state / "log-level").unlink()


def test_shutdown(davit, rootfs):
    davit.launch("a", ["sleep", "1000"], rootfs)
    davit.create("b", ["sleep", "1000"], rootfs)
    process = davit.process
    assert davit.call("server.shutdown", kill=True) == {}
    assert process.wait(20) == 0
    davit.start()
    assert davit.call("tasks.list")["tasks"] == []
    assert len(davit.call("containers.list", fields=["id"])["containers"]) == 2
    assert davit.call("server.shutdown") == {}
    assert davit.process.wait(20) == 0


def test_fds_do_not_grow(davit, rootfs):
    davit.run(["true"], rootfs)
    before = davit.fd_count()
    for _ in range(30):
        davit.run(["true"], rootfs)
    wait_for(lambda: davit.fd_count() <= before, what="as many fds as before")
    guardian = len(os.listdir(f"/proc/{davit.process.pid}/fd"))
    assert guardian < 20


def test_stats_count(davit):
    before = davit.call("server.stats")
    for _ in range(10):
        davit.call("version")
    after = davit.call("server.stats")
    assert after["requests"]["by_method"]["version"] - before["requests"]["by_method"].get("version", 0) == 10
    assert after["requests"]["total"] > before["requests"]["total"]
    assert after["connections"]["open"] == 1
    assert after["memory"]["pss"] > 0
    assert after["reactor"]["turns"] > before["reactor"]["turns"]


def test_no_create_in_a_shutdown(davit, rootfs):
    """While the last tasks are being ended no new one comes, which nobody would end."""
    hook = {"path": "/bin/sleep", "args": ["sleep", "1"]}
    davit.launch("slow", ["sleep", "1000"], rootfs, hooks={"poststop": [hook]})
    davit.create("c", ["sleep", "1000"], rootfs)
    davit.remove("c")
    davit.call("containers.create", id="late", spec=spec(["sleep", "1000"], rootfs))
    shutdown = davit.send("server.shutdown", kill=True)
    with pytest.raises(RpcError) as error:
        davit.call("tasks.create", container_id="late")
    assert error.value.code == "unavailable"
    assert shutdown.result(20) == {}
    davit.process.wait(30)
