# SPDX-License-Identifier: Apache-2.0
"""The reactor dies, the daemon ends and comes back: what runs goes on, and nothing is forgotten."""

import os
import signal
import socket

import pytest

from lib.daemon import Reader, wait_for
from lib.rootfs import process
from lib.rpc import DEADLINE, Fd, RpcError


def test_running_goes_on(davit, rootfs):
    pid = davit.launch("c", ["sleep", "1000"], rootfs)
    before = davit.status("c")
    davit.kill_reactor()
    assert davit.status("c") == before
    assert os.path.exists(f"/proc/{pid}")
    _, text = davit.exec("c", ["echo", "still"])
    assert text == "still\n"
    waiting = davit.send("tasks.wait", container_id="c")
    davit.call("tasks.kill", container_id="c", signal="TERM")
    davit.call("tasks.kill", container_id="c", signal="KILL")
    assert waiting.result()["exit_status"] == 137


def test_status_of_who_ended_meanwhile(davit, rootfs):
    """The reactor is stopped while its containers end, then killed: the guardian hands the statuses over."""
    for n in range(3):
        davit.launch(f"c{n}", ["sh", "-c", f"read x; exit {n + 10}"], rootfs, stdio={"stdin": _fifo(davit, f"in{n}")})
    reactor = davit.info["pid"]
    seq = davit.events().info["last_seq"]
    os.kill(reactor, signal.SIGSTOP)
    for n in range(3):
        with open(davit.base / f"in{n}", "w") as stdin:
            stdin.write("x\n")
    os.kill(reactor, signal.SIGKILL)
    davit.reconnect()
    for n in range(3):
        ended = davit.call("tasks.wait", container_id=f"c{n}")
        assert (ended["exit_status"], ended["exit_reason"]) == (n + 10, "exited")
    with davit.events(since=seq) as events:
        for n in range(3):
            events.find("/tasks/exit", container_id=f"c{n}")
        numbers = [event["seq"] for event in events.seen]
        assert numbers == list(range(seq + 1, seq + 1 + len(numbers)))


def _fifo(davit, name):
    os.mkfifo(davit.base / name)
    return str(davit.base / name)


def test_created_can_still_be_started(davit, rootfs):
    pid = davit.create("c", ["sh", "-c", "exit 5"], rootfs)
    davit.kill_reactor()
    assert davit.status("c")["status"] == "created"
    waiting = davit.send("tasks.wait", container_id="c")
    assert davit.call("tasks.start", container_id="c")["pid"] == pid
    assert waiting.result()["exit_status"] == 5


def test_added_exec_can_still_be_started(davit, rootfs):
    davit.launch("c", ["sleep", "1000"], rootfs)
    out = Reader()
    davit.call("tasks.exec", container_id="c", exec_id="e", spec=process(["sh", "-c", "echo late; exit 5"]), stdout=Fd(out.write_fd))
    out.close_write()
    davit.kill_reactor()
    assert davit.status("c", "e")["status"] == "created"
    davit.call("tasks.start", container_id="c", exec_id="e")
    assert davit.call("tasks.wait", container_id="c", exec_id="e")["exit_status"] == 5
    davit.call("tasks.delete_process", container_id="c", exec_id="e")
    assert out.text() == "late\n"


def test_running_exec_keeps_its_status(davit, rootfs):
    davit.launch("c", ["sleep", "1000"], rootfs)
    davit.call("tasks.exec", container_id="c", exec_id="e", spec=process(["sh", "-c", "read x; exit 6"]), stdin=_fifo(davit, "in"))
    davit.call("tasks.start", container_id="c", exec_id="e")
    davit.kill_reactor()
    assert davit.status("c", "e")["status"] == "running"
    with open(davit.base / "in", "w") as stdin:
        stdin.write("x\n")
    assert davit.call("tasks.wait", container_id="c", exec_id="e")["exit_status"] == 6


def test_paused_stays_paused(davit, rootfs):
    davit.launch("c", ["sleep", "1000"], rootfs)
    davit.call("tasks.pause", container_id="c")
    davit.kill_reactor()
    assert davit.status("c")["status"] == "paused"
    davit.call("tasks.resume", container_id="c")
    assert davit.status("c")["status"] == "running"


def test_stopped_stays_stopped(davit, rootfs):
    davit.launch("c", ["sh", "-c", "exit 9"], rootfs)
    ended = davit.call("tasks.wait", container_id="c")
    davit.kill_reactor()
    assert davit.call("tasks.wait", container_id="c") == ended
    assert davit.call("tasks.delete", container_id="c")["exit_status"] == 9


def test_streams_go_on(davit, rootfs):
    """Terminal, log and FIFO of a container do not notice that the reactor died."""
    davit.launch("tty", ["sh"], rootfs, stdio={"terminal": True})
    davit.launch("log", ["sh", "-c", "while read x; do echo $x; done"], rootfs, stdio={"stdin": _fifo(davit, "in"), "stdout": "log:"})
    davit.kill_reactor()
    mine, theirs = socket.socketpair()
    davit.call("tasks.attach", container_id="tty", stream=Fd(theirs.fileno()))
    theirs.close()
    mine.settimeout(DEADLINE)
    mine.sendall(b"echo is$((40+2))\n")
    text = b""
    while b"is42" not in text:
        text += mine.recv(1000)
    with open(davit.base / "in", "w") as stdin:
        stdin.write("after\n")
    path = davit.status("log")["stdout"][4:]
    wait_for(lambda: os.path.exists(path) and "after" in open(path).read())
    davit.call("tasks.close_io", container_id="log")
    assert davit.call("tasks.wait", container_id="log")["exit_status"] == 0


def test_killed_in_the_middle_of_creates(davit, rootfs):
    """At whatever moment: afterwards each task is either there as a whole, or not at all and can be made."""
    for round in range(8):
        for n in range(4):
            davit.call("containers.create", id=f"r{round}c{n}", spec=_spec(rootfs))
        pending = [davit.send("tasks.create", container_id=f"r{round}c{n}") for n in range(4)]
        del pending
        reactor = davit.info["pid"]
        os.kill(reactor, signal.SIGKILL)
        davit.reconnect()
        for n in range(4):
            id = f"r{round}c{n}"
            try:
                davit.call("tasks.create", container_id=id)
            except RpcError as error:
                assert error.code == "already_exists", error
            davit.call("tasks.start", container_id=id)
            assert davit.call("tasks.wait", container_id=id)["exit_status"] == 0
            davit.remove(id)


def _spec(rootfs):
    from lib.rootfs import spec

    return spec(["true"], rootfs)


def test_daemon_ends_and_comes_back(davit, rootfs):
    """SIGTERM leaves containers running; the next daemon takes them over, and knows their end by their pidfds."""
    pid = davit.launch("c", ["sleep", "1000"], rootfs)
    davit.launch("short", ["sleep", "1000"], rootfs)
    short = davit.status("short")["pid"]
    assert davit.stop() == 0
    assert os.path.exists(f"/proc/{pid}")
    os.kill(short, signal.SIGKILL)
    wait_for(lambda: not os.path.exists(f"/proc/{short}") or _zombie(short))
    davit.start()
    state = davit.status("c")
    assert (state["status"], state["pid"]) == ("running", pid)
    ended = davit.call("tasks.wait", container_id="short")
    # never 0: its status where the kernel still tells it, else unknown
    assert (ended["exit_status"], ended["exit_reason"]) in ((137, "signaled"), (255, "unknown"))
    waiting = davit.send("tasks.wait", container_id="c")
    davit.call("tasks.kill", container_id="c", signal=9)
    ended = waiting.result()
    assert ended["exit_status"] in (137, 255) and ended["exit_reason"] in ("signaled", "unknown")


def test_log_goes_on_over_an_end_of_the_daemon(davit, rootfs):
    """Nobody reads the pipe for a while: the container waits, gets no SIGPIPE, and nothing is lost."""
    script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; sleep 1000"
    davit.launch("c", ["sh", "-c", script], rootfs, stdio={"stdout": "log:"})
    assert davit.stop() == 0
    davit.start()
    assert davit.status("c")["status"] == "running"
    path = davit.status("c")["stdout"][4:]
    wait_for(lambda: "line 19999\n" in open(path).read())
    numbers = [int(line.rsplit(" ", 1)[1]) for line in open(path).read().splitlines()]
    assert numbers == list(range(20000))


def _zombie(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_second_serve_is_refused(davit, make_davit):
    import subprocess

    from lib.daemon import binary

    done = subprocess.run([str(binary()), "serve", "--root", str(davit.root), "--state", str(davit.state), "--socket",
                           str(davit.base / "other"), "--cgroup-parent", davit.cgroup_parent],
                          capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode != 0 and done.stderr.strip()
    assert davit.call("version")


def test_journal_goes_on(davit, rootfs):
    davit.run(["true"], rootfs, id="a")
    first = davit.events(since=0)
    journal, last = first.info["journal"], first.info["last_seq"]
    davit.kill_reactor()
    davit.run(["true"], rootfs, id="b")
    with davit.events(since=last, journal=journal) as events:
        assert events.info["journal"] == journal
        events.next("/tasks/exit", container_id="b")
        assert events.seen[0]["seq"] == last + 1 and not events.gaps
    with davit.events(since=1, journal="another") as events:
        events.next()
        assert events.gaps


@pytest.mark.parametrize("times", [6])
def test_a_reactor_that_dies_again_and_again(davit, rootfs, times):
    pid = davit.launch("c", ["sleep", "1000"], rootfs)
    for _ in range(times):
        davit.kill_reactor()
    assert davit.status("c")["pid"] == pid


def test_started_while_nobody_looked(davit, rootfs):
    """The reactor dies between the release of an init and its exec, which a hook makes long."""
    hook = {"path": "/bin/sleep", "args": ["sleep", "1"]}
    pid = davit.create("c", ["sleep", "1000"], rootfs, hooks={"startContainer": [hook]})
    davit.send("tasks.start", container_id="c")
    davit.call("tasks.list")  # behind the start
    seq = davit.events().info["last_seq"]
    davit.kill_reactor()
    with davit.events(since=seq) as events:
        assert events.find("/tasks/start", container_id="c")["event"]["pid"] == pid
    assert davit.status("c")["status"] == "running"
    assert davit.exec("c", ["echo", "in"])[1] == "in\n"


def test_pause_under_way(davit, rootfs):
    """Whoever asked for the pause is gone with the reactor: nobody is left frozen."""
    pid = davit.launch("c", ["sh", "-c", "while :; do :; done"], rootfs)
    for _ in range(5):
        davit.send("tasks.pause", container_id="c")
        davit.kill_reactor()
        if davit.status("c")["status"] == "paused":
            davit.call("tasks.resume", container_id="c")
        wait_for(lambda: davit.status("c")["status"] == "running", what="running")
        before = _ticks(pid)
        wait_for(lambda: _ticks(pid) > before, 10, "the container's going on")


def _ticks(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return int(stat.read().split()[13])


def test_poststart_hooks_after_a_restart(davit, rootfs):
    """The spec that the launch was compiled from is gone by then."""
    mark = davit.base / "poststart"
    hooks = {"poststart": [{"path": "/bin/sh", "args": ["sh", "-c", f"cat > {mark}"]}]}
    davit.create("c", ["sleep", "1000"], rootfs, hooks=hooks)
    davit.kill_reactor()
    davit.call("tasks.start", container_id="c")
    assert '"running"' in mark.read_text()
