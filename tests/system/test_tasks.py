# SPDX-License-Identifier: Apache-2.0
"""The life of tasks: states, exits, waits, signals, deletion, pausing, execs."""

import os
import signal
import threading

import pytest

from lib.daemon import Reader, wait_for
from lib.leaks import cgroup_dirs, cgroup_procs
from lib.rootfs import process
from lib.rpc import Fd, RpcError

SHARED_PID = {"namespaces": [{"type": kind} for kind in ("mount", "ipc", "uts")]}


def refused(code, call, *args, **params):
    with pytest.raises(RpcError) as error:
        call(*args, **params)
    assert error.value.code == code, error.value
    assert error.value.message
    return error.value


# states and their order


def test_states(davit, rootfs):
    pid = davit.create("c", ["sleep", "1000"], rootfs)
    state = davit.status("c")
    assert (state["status"], state["pid"], state["id"], state["exec_id"]) == ("created", pid, "c", "")
    assert state["created_at"] and state["started_at"] is None and state["exit_status"] is None
    assert davit.call("tasks.start", container_id="c") == {"pid": pid}
    state = davit.status("c")
    assert state["status"] == "running" and state["started_at"] >= state["created_at"]
    davit.call("tasks.kill", container_id="c", signal="SIGKILL")
    ended = davit.call("tasks.wait", container_id="c")
    assert (ended["exit_status"], ended["exit_reason"], ended["signal"]) == (137, "signaled", 9)
    state = davit.status("c")
    assert state["status"] == "stopped"
    assert {key: state[key] for key in ended} == ended
    deleted = davit.call("tasks.delete", container_id="c")
    assert deleted == {"id": "c", "pid": pid, **ended}
    refused("not_found", davit.status, "c")


def test_wrong_states(davit, rootfs):
    call = davit.call
    refused("not_found", call, "tasks.create", container_id="c")
    davit.create("c", ["sleep", "1000"], rootfs)
    refused("already_exists", call, "tasks.create", container_id="c")
    refused("failed_precondition", call, "containers.delete", id="c")
    refused("failed_precondition", call, "tasks.pause", container_id="c")
    refused("failed_precondition", call, "tasks.resume", container_id="c")
    refused("failed_precondition", call, "tasks.exec", container_id="c", exec_id="e", spec={"args": ["true"], "cwd": "/"})
    call("tasks.start", container_id="c")
    refused("failed_precondition", call, "tasks.start", container_id="c")
    refused("failed_precondition", call, "tasks.resume", container_id="c")
    error = refused("failed_precondition", call, "tasks.delete", container_id="c")
    assert "must be stopped before deletion: running" in error.message
    call("tasks.kill", container_id="c", signal=9)
    call("tasks.wait", container_id="c")
    error = refused("not_found", call, "tasks.kill", container_id="c")
    assert "process already finished" in error.message
    for method in ("tasks.start", "tasks.pause", "tasks.resume"):
        refused("failed_precondition", call, method, container_id="c")
    refused("failed_precondition", call, "tasks.exec", container_id="c", exec_id="e", spec={"args": ["true"], "cwd": "/"})


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_exit_codes(davit, rootfs, code):
    ended, _ = davit.run(["sh", "-c", f"exit {code}"], rootfs)
    assert (ended["exit_status"], ended["exit_reason"], ended["signal"]) == (code, "exited", None)


def test_delete_created(davit, rootfs):
    with davit.events(filters=["topic~=/tasks/"]) as events:
        pid = davit.create("c", ["sleep", "1000"], rootfs)
        waiting = davit.send("tasks.wait", container_id="c")
        answer = davit.call("tasks.delete", container_id="c")
        assert answer["pid"] == pid and answer["exit_status"] == 137
        assert waiting.result()["exit_status"] == 137
        events.next("/tasks/delete")
        assert events.topics(container_id="c") == ["/tasks/create", "/tasks/delete"]
    assert not os.path.exists(f"/proc/{pid}")


def test_delete_with_kill(davit, rootfs):
    davit.launch("c", ["sh", "-c", "trap '' TERM INT HUP; sleep 1000 & sleep 1000"], rootfs)
    assert davit.call("tasks.delete", container_id="c", kill=True)["exit_status"] == 137
    davit.call("containers.delete", id="c")


def test_the_same_id_again(davit, rootfs):
    for code in range(5):
        ended, _ = davit.run(["sh", "-c", f"exit {code}"], rootfs, id="again")
        assert ended["exit_status"] == code


def test_events_and_payloads(davit, rootfs):
    with davit.events() as events:
        pid = davit.create("c", ["sh", "-c", "exit 9"], rootfs, stdio={"stdout": "log:"})
        davit.call("tasks.start", container_id="c")
        ended = davit.call("tasks.wait", container_id="c")
        davit.call("tasks.delete", container_id="c")
        create = events.next("/tasks/create")["event"]
        assert (create["container_id"], create["pid"]) == ("c", pid)
        assert create["io"]["terminal"] is False and create["io"]["stdout"].startswith("log:")
        assert events.next("/tasks/start")["event"] == {"container_id": "c", "pid": pid}
        exit = {"container_id": "c", "id": "c", "pid": pid, **ended}
        assert events.next("/tasks/exit")["event"] == exit
        assert events.next("/tasks/delete")["event"] == exit


def test_namespaces_are_apart(davit, rootfs):
    davit.launch("c", ["sleep", "1000"], rootfs, namespace="one")
    davit.launch("c", ["sleep", "1000"], rootfs, namespace="two")
    assert davit.status("c", namespace="one")["pid"] != davit.status("c", namespace="two")["pid"]
    refused("not_found", davit.status, "c")
    refused("failed_precondition", davit.call, "namespaces.delete", name="one")
    with davit.events(namespace="two") as events:
        davit.remove("c", namespace="one")
        davit.remove("c", namespace="two")
        events.next("/containers/delete")
        assert {event["namespace"] for event in events.seen} == {"two"}
    davit.call("namespaces.delete", name="one")


def test_list(davit, rootfs):
    for name in ("b", "a", "c"):
        davit.create(name, ["sleep", "1000"], rootfs, container={"labels": {"kind": name}})
    davit.call("tasks.start", container_id="b")
    tasks = davit.call("tasks.list")["tasks"]
    assert [(t["id"], t["status"]) for t in tasks] == [("a", "created"), ("b", "running"), ("c", "created")]
    assert [t["id"] for t in davit.call("tasks.list", filters=["status==running", "labels.kind==c"])["tasks"]] == ["b", "c"]
    page = davit.call("tasks.list", limit=2)
    assert [t["id"] for t in page["tasks"]] == ["a", "b"]
    page = davit.call("tasks.list", limit=2, after=page["next"])
    assert [t["id"] for t in page["tasks"]] == ["c"] and not page.get("next")
    assert davit.call("tasks.list", fields=["id", "status"], limit=1)["tasks"] == [{"id": "a", "status": "created"}]


# wait


def test_many_waiters(davit, rootfs):
    davit.launch("c", ["sleep", "1000"], rootfs)
    other = davit.client()
    waits = [davit.send("tasks.wait", container_id="c") for _ in range(500)]
    waits += [other.send("tasks.wait", container_id="c") for _ in range(500)]
    davit.call("tasks.kill", container_id="c", signal=9)
    answers = [wait.result() for wait in waits]
    assert all(answer == answers[0] for answer in answers) and answers[0]["exit_status"] == 137
    # also after the end, until delete
    assert davit.call("tasks.wait", container_id="c") == answers[0]
    davit.call("tasks.delete", container_id="c")
    refused("not_found", davit.call, "tasks.wait", container_id="c")


def test_wait_is_given_up(davit, rootfs):
    davit.launch("c", ["sleep", "1000"], rootfs)
    error = refused("deadline_exceeded", davit.call, "tasks.wait", container_id="c", timeout=20_000_000)
    assert error.details is not None
    pending = davit.send("tasks.wait", container_id="c")
    assert davit.call("rpc.cancel", msgid=pending.msgid)["cancelled"] is True
    with pytest.raises(RpcError) as cancelled:
        pending.result()
    assert cancelled.value.code == "cancelled"
    gone = davit.client()
    gone.send("tasks.wait", container_id="c")
    gone.close()
    davit.remove("c")


# kill


def test_signals_by_name_and_number(davit, rootfs):
    script = "for s in HUP USR1 TERM; do trap \"echo $s\" $s; done; echo ready; while :; do sleep 0.05; done"
    out = Reader()
    davit.create("c", ["sh", "-c", script], rootfs, stdio={"stdout": Fd(out.write_fd)})
    out.close_write()
    davit.call("tasks.start", container_id="c")
    wait_for(lambda: b"ready" in out.data)
    for name, sign in (("USR1", b"USR1"), ("SIGHUP", b"HUP"), (15, b"TERM")):
        davit.call("tasks.kill", container_id="c", signal=name)
        wait_for(lambda: sign in out.data)
    refused("invalid_argument", davit.call, "tasks.kill", container_id="c", signal="SIGNOTHING")
    refused("invalid_argument", davit.call, "tasks.kill", container_id="c", signal=65)
    davit.remove("c")


def test_kill_all(davit, rootfs):
    out = Reader()
    script = "trap 'echo init' USR1; sh -c 'trap \"echo child; exit\" USR1; echo r1; while :; do sleep 0.05; done' & echo r2; while :; do sleep 0.05; done"
    davit.create("c", ["sh", "-c", script], rootfs, stdio={"stdout": Fd(out.write_fd)})
    out.close_write()
    davit.call("tasks.start", container_id="c")
    wait_for(lambda: b"r1" in out.data and b"r2" in out.data)
    davit.call("tasks.kill", container_id="c", signal="USR1", all=True)
    wait_for(lambda: b"child" in out.data and b"init" in out.data)
    davit.remove("c")


def test_host_pid_namespace_ends_all(davit, rootfs):
    """A container without a pid namespace of its own: the end of its init is the end of all, and is told last."""
    # stdin is /dev/null: read ends at once
    pid = davit.launch("c", ["sh", "-c", "sleep 1000 & sleep 1000 & read x"], rootfs, linux=SHARED_PID)
    ended = davit.call("tasks.wait", container_id="c")
    assert ended["exit_reason"] == "exited"
    assert not os.path.exists(f"/proc/{pid}")
    assert not any(cgroup_procs(folder) for folder in cgroup_dirs(davit.cgroup_parent + "/default/c"))
    davit.remove("c")


# pause


def test_pause(davit, rootfs):
    with davit.events(filters=["topic~=/tasks/"]) as events:
        out = Reader()
        davit.create("c", ["sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done"], rootfs,
                     stdio={"stdout": Fd(out.write_fd)})
        out.close_write()
        davit.call("tasks.start", container_id="c")
        wait_for(lambda: len(out.data) > 10)
        davit.call("tasks.pause", container_id="c")
        assert davit.status("c")["status"] == "paused"
        refused("failed_precondition", davit.call, "tasks.pause", container_id="c")
        refused("failed_precondition", davit.call, "tasks.exec", container_id="c", exec_id="e", spec={"args": ["true"], "cwd": "/"})
        while True:  # what was in the pipe at the freeze
            before = len(out.data)
            threading.Event().wait(0.1)
            if len(out.data) == before:
                break
        davit.call("tasks.resume", container_id="c")
        assert davit.status("c")["status"] == "running"
        wait_for(lambda: len(out.data) > before)
        davit.remove("c")
        events.next("/tasks/delete")
        assert events.topics() == ["/tasks/create", "/tasks/start", "/tasks/paused", "/tasks/resumed", "/tasks/exit", "/tasks/delete"]


def test_kill_paused(davit, rootfs):
    davit.launch("c", ["sleep", "1000"], rootfs)
    davit.call("tasks.pause", container_id="c")
    davit.call("tasks.kill", container_id="c", signal=9)
    assert davit.call("tasks.wait", container_id="c")["exit_status"] == 137
    davit.call("tasks.delete", container_id="c")
    davit.call("containers.delete", id="c")
    davit.launch("d", ["sleep", "1000"], rootfs)
    davit.call("tasks.pause", container_id="d")
    assert davit.call("tasks.delete", container_id="d", kill=True)["exit_status"] == 137


# exec


def test_exec_life(davit, rootfs):
    with davit.events(filters=["topic~=/tasks/"]) as events:
        init = davit.launch("c", ["sleep", "1000"], rootfs)
        davit.call("tasks.exec", container_id="c", exec_id="e", spec={"args": ["sh", "-c", "exit 6"], "cwd": "/"})
        state = davit.status("c", "e")
        assert (state["status"], state["id"], state["exec_id"], state["pid"]) == ("created", "e", "e", 0)
        refused("already_exists", davit.call, "tasks.exec", container_id="c", exec_id="e", spec={"args": ["true"], "cwd": "/"})
        pid = davit.call("tasks.start", container_id="c", exec_id="e")["pid"]
        assert pid not in (0, init)
        ended = davit.call("tasks.wait", container_id="c", exec_id="e")
        assert ended["exit_status"] == 6
        assert davit.status("c", "e")["status"] == "stopped"
        assert davit.call("tasks.delete_process", container_id="c", exec_id="e") == {"id": "e", "pid": pid, **ended}
        refused("not_found", davit.status, "c", "e")
        events.next("/tasks/delete", id="e")
        assert events.topics() == ["/tasks/create", "/tasks/start", "/tasks/exec-added", "/tasks/exec-started", "/tasks/exit", "/tasks/delete"]
        added, started = events.find("/tasks/exec-added")["event"], events.find("/tasks/exec-started")["event"]
        assert added == {"container_id": "c", "exec_id": "e"}
        assert started == {"container_id": "c", "exec_id": "e", "pid": pid}
        assert davit.status("c")["status"] == "running"


def test_exec_many_at_once(davit, rootfs):
    davit.launch("c", ["sleep", "1000"], rootfs)
    clients = [davit.client() for _ in range(4)]
    pending = []
    for n in range(40):
        clients[n % 4].send("tasks.exec", container_id="c", exec_id=f"e{n}", spec={"args": ["sh", "-c", f"exit {n}"], "cwd": "/"}).result()
        pending.append(clients[n % 4].send("tasks.start", container_id="c", exec_id=f"e{n}"))
    for start in pending:
        start.result()
    for n in range(40):
        assert davit.call("tasks.wait", container_id="c", exec_id=f"e{n}")["exit_status"] == n
        davit.call("tasks.delete_process", container_id="c", exec_id=f"e{n}")


def test_exec_sees_the_container(davit, rootfs):
    davit.launch("c", ["sleep", "1000"], rootfs, hostname="inside")
    ended, text = davit.exec("c", ["sh", "-c", "hostname; tr '\\0' ' ' < /proc/1/cmdline; cat /proc/self/cgroup | grep -c davit"])
    assert text.splitlines()[0] == "inside"
    assert "sleep 1000" in text
    pid = davit.status("c")["pid"]
    for kind in ("pid", "mnt", "net", "ipc", "uts"):
        mine, its = davit.exec("c", ["readlink", f"/proc/self/ns/{kind}"])[1].strip(), os.readlink(f"/proc/{pid}/ns/{kind}")
        assert mine == its, kind


def test_exec_is_in_the_cgroup(davit, rootfs):
    davit.launch("c", ["sleep", "1000"], rootfs)
    davit.call("tasks.exec", container_id="c", exec_id="e", spec={"args": ["sleep", "1000"], "cwd": "/"})
    pid = davit.call("tasks.start", container_id="c", exec_id="e")["pid"]
    processes = davit.call("tasks.list_pids", container_id="c")["processes"]
    assert sorted((p["pid"], p["exec_id"]) for p in processes) == sorted([(davit.status("c")["pid"], ""), (pid, "e")])
    init = sorted(open(f"/proc/{davit.status('c')['pid']}/cgroup").read().splitlines())
    assert sorted(open(f"/proc/{pid}/cgroup").read().splitlines()) == init
    assert all(f"{davit.cgroup_parent}/default/c" in line for line in init)


def test_exec_ends_with_init(davit, rootfs):
    with davit.events(filters=["topic==/tasks/exit"]) as events:
        davit.launch("c", ["sleep", "1000"], rootfs)
        davit.call("tasks.exec", container_id="c", exec_id="e", spec={"args": ["sleep", "1000"], "cwd": "/"})
        davit.call("tasks.start", container_id="c", exec_id="e")
        davit.call("tasks.kill", container_id="c", signal=9)
        assert events.next()["event"]["id"] == "e"
        assert events.next()["event"]["id"] == "c"
        davit.call("tasks.delete", container_id="c")


def test_exec_ends_before_an_init_in_the_hosts_pid_namespace(davit, rootfs):
    with davit.events(filters=["topic==/tasks/exit"]) as events:
        davit.launch("c", ["sleep", "1000"], rootfs, linux=SHARED_PID)
        davit.call("tasks.exec", container_id="c", exec_id="e", spec={"args": ["sleep", "1000"], "cwd": "/"})
        davit.call("tasks.start", container_id="c", exec_id="e")
        davit.call("tasks.kill", container_id="c", signal=9)
        assert events.next()["event"]["id"] == "e"
        assert events.next()["event"]["id"] == "c"


def test_exec_missing_program(davit, rootfs):
    davit.launch("c", ["sleep", "1000"], rootfs)
    for name, program, code in (("e", "/nothing", 127), ("f", "nothing", 127), ("g", "/etc/passwd", 126)):
        davit.call("tasks.exec", container_id="c", exec_id=name, spec=process([program]))
        with pytest.raises(RpcError) as error:
            davit.call("tasks.start", container_id="c", exec_id=name)
        assert error.value.details["exit_code"] == code and program in error.value.message
        state = davit.status("c", name)
        assert (state["status"], state["exit_status"]) == ("stopped", code)
        davit.call("tasks.delete_process", container_id="c", exec_id=name)
    refused("invalid_argument", davit.call, "tasks.exec", container_id="c", exec_id="", spec={"args": ["true"], "cwd": "/"})
    refused("invalid_argument", davit.call, "tasks.exec", container_id="c", exec_id="e", spec={"args": ["true"]})


def test_exec_deleted_unstarted(davit, rootfs):
    davit.launch("c", ["sleep", "1000"], rootfs)
    davit.call("tasks.exec", container_id="c", exec_id="e", spec={"args": ["true"], "cwd": "/"})
    davit.call("tasks.delete_process", container_id="c", exec_id="e")
    refused("not_found", davit.status, "c", "e")


def test_exec_delete_running(davit, rootfs):
    davit.launch("c", ["sleep", "1000"], rootfs)
    davit.call("tasks.exec", container_id="c", exec_id="e", spec={"args": ["sleep", "1000"], "cwd": "/"})
    davit.call("tasks.start", container_id="c", exec_id="e")
    refused("failed_precondition", davit.call, "tasks.delete_process", container_id="c", exec_id="e")
    assert davit.call("tasks.delete_process", container_id="c", exec_id="e", kill=True)["exit_status"] == 137


def test_exec_auto_remove(davit, rootfs):
    davit.launch("c", ["sleep", "1000"], rootfs)
    with davit.events(filters=["topic~=/tasks/"]) as events:
        davit.call("tasks.exec", container_id="c", exec_id="e", spec=process(["sh", "-c", "sleep 0.1; exit 3"]), auto_remove=True)
        davit.call("tasks.start", container_id="c", exec_id="e")
        assert davit.call("tasks.wait", container_id="c", exec_id="e")["exit_status"] == 3
        events.next("/tasks/delete", id="e")
    refused("not_found", davit.status, "c", "e")


def test_auto_remove(davit, rootfs):
    with davit.events() as events:
        davit.launch("c", ["true"], rootfs, container={"labels": {"davit.auto-remove": "true"}})
        events.next("/tasks/exit", container_id="c")
        events.next("/containers/delete", id="c")
    refused("not_found", davit.call, "containers.get", id="c")


def test_oom(davit, rootfs):
    with davit.events(filters=["topic~=/tasks/"]) as events:
        ended, _ = davit.run(["sh", "-c", "x=a; while :; do x=$x$x; done"], rootfs, id="c",
                             linux={"resources": {"memory": {"limit": 16 << 20, "swap": 16 << 20}}})
        assert (ended["exit_status"], ended["exit_reason"], ended["signal"]) == (137, "oom", 9)
        events.next("/tasks/delete")
        assert events.topics() == ["/tasks/create", "/tasks/start", "/tasks/oom", "/tasks/exit", "/tasks/delete"]


def test_shutdown_with_kill(davit, rootfs):
    pids = [davit.launch(f"c{n}", ["sleep", "1000"], rootfs) for n in range(5)]
    davit.create("waiting", ["sleep", "1000"], rootfs)
    davit.call("server.shutdown", kill=True)
    davit.process.wait(30)
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]


def test_kill_from_outside(davit, rootfs):
    pid = davit.launch("c", ["sleep", "1000"], rootfs)
    waiting = davit.send("tasks.wait", container_id="c")
    os.kill(pid, signal.SIGKILL)
    assert waiting.result()["signal"] == 9


def test_pause_waits_for_execs(davit, rootfs):
    """A child that is not yet the exec's program has the daemon's fds: it must not be frozen with them."""
    davit.launch("c", ["sleep", "1000"], rootfs)
    group = davit.call("tasks.list_pids", container_id="c")["processes"][0]["pid"]
    for n in range(20):
        ids = [f"e{n}-{k}" for k in range(3)]
        for exec_id in ids:
            davit.call("tasks.exec", container_id="c", exec_id=exec_id, spec={"args": ["sleep", "1000"], "cwd": "/", "env": ["PATH=/bin"]})
        starts = [davit.send("tasks.start", container_id="c", exec_id=exec_id) for exec_id in ids]
        davit.call("tasks.pause", container_id="c")
        for start in starts:
            assert start.done()
        for process in davit.call("tasks.list_pids", container_id="c")["processes"]:
            assert process["pid"] == group or process["exec_id"]
            assert len(os.listdir(f"/proc/{process['pid']}/fd")) <= 4
        davit.call("tasks.resume", container_id="c")
        for exec_id, start in zip(ids, starts):
            start.result()
            davit.call("tasks.delete_process", container_id="c", exec_id=exec_id, kill=True)


def test_exec_deleted_at_its_start(davit, rootfs):
    """kill: true reaches an exec that is being cloned."""
    davit.launch("c", ["sleep", "1000"], rootfs)
    for n in range(10):
        davit.call("tasks.exec", container_id="c", exec_id=f"e{n}", spec={"args": ["sleep", "1000"], "cwd": "/", "env": ["PATH=/bin"]})
        start = davit.send("tasks.start", container_id="c", exec_id=f"e{n}")
        ended = davit.send("tasks.delete_process", container_id="c", exec_id=f"e{n}", kill=True).result(20)
        assert ended["signal"] == 9
        try:
            start.result(20)
        except RpcError as error:
            assert error.code in ("aborted", "failed_precondition")


def test_signal_to_an_exec_that_is_being_made(davit, rootfs):
    davit.launch("c", ["sleep", "1000"], rootfs)
    for n in range(5):
        davit.call("tasks.exec", container_id="c", exec_id=f"e{n}", spec=process(["sleep", "1000"]))
        start = davit.send("tasks.start", container_id="c", exec_id=f"e{n}")
        kill = davit.send("tasks.kill", container_id="c", exec_id=f"e{n}", signal="KILL")
        assert kill.result() == {}
        try:
            start.result()
        except RpcError as error:
            assert error.code != "internal"
        assert davit.call("tasks.wait", container_id="c", exec_id=f"e{n}")["exit_status"] == 137


def test_exec_in_a_container_that_ends(davit, rootfs):
    """Whatever the moment, the answer says that the task has stopped, not what the kernel said."""
    for n in range(10):
        id = f"c{n}"
        davit.launch(id, ["sleep", "1000"], rootfs)
        davit.call("tasks.exec", container_id=id, exec_id="e", spec=process(["true"]))
        kill = davit.send("tasks.kill", container_id=id, signal="KILL")
        start = davit.send("tasks.start", container_id=id, exec_id="e")
        kill.result()
        try:
            start.result()
        except RpcError as error:
            assert error.code in ("failed_precondition", "aborted", "unknown"), error
        davit.remove(id)
