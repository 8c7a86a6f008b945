# SPDX-License-Identifier: Apache-2.0
"""Hooks of all six kinds: order, place, state, environment, timeouts, and what a failure leaves."""

import json
import os
import time

import pytest

from lib.daemon import wait_for
from lib.leaks import cgroup_dirs
from lib.rootfs import spec
from lib.rpc import RpcError

INSIDE = ["createContainer", "startContainer"]  # createContainer: by the host's path, in the container's namespaces
ORDER = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]


def refused(code, call, *args, **params):
    with pytest.raises(RpcError) as error:
        call(*args, **params)
    assert error.value.code == code, error.value
    return error.value


def script(folder, name, text):
    path = folder / name
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)


def hook(path, *args, **more):
    return {"path": str(path), "args": [os.path.basename(str(path)), *args], **more}


@pytest.fixture
def notes(rootfs):
    folder = rootfs / "notes"
    folder.mkdir()
    return folder


def nothing_left(davit, id="c"):
    assert not [f for f in cgroup_dirs(davit.cgroup_parent) if f.endswith("/" + id)]
    with pytest.raises(RpcError) as error:
        davit.status(id)
    assert error.value.code == "not_found"


def test_order_and_state(davit, rootfs, notes):
    """Each writes its name, state and place; startContainer runs with the container's root."""
    host = script(notes, "host", f'cat >{notes}/$1.json; echo $1 >>{notes}/order; for n in mnt net; do readlink /proc/self/ns/$n; done >{notes}/$1.ns\n')
    inside = script(notes, "inside", 'cat >/notes/$1.json; echo $1 >>/notes/order; for n in mnt net; do readlink /proc/self/ns/$n; done >/notes/$1.ns\n')
    hooks = {kind: [hook(host, kind)] for kind in ORDER if kind != "startContainer"}
    hooks["startContainer"] = [hook("/notes/inside", "startContainer")]
    pid = davit.create("c", ["sh", "-c", "echo program >>/notes/order; sleep 1000"], rootfs, hooks=hooks, annotations={"who": "me"})
    assert (notes / "order").read_text().split() == ORDER[:3]
    davit.call("tasks.start", container_id="c")
    assert (notes / "poststart.json").exists()  # start answers after it
    wait_for(lambda: "program" in (notes / "order").read_text())
    init_ns = [os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("mnt", "net")]
    own_ns = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "net")]
    davit.remove("c")
    wait_for(lambda: (notes / "poststop.json").exists() and (notes / "poststop.ns").read_text().count("\n") == 2)
    order = (notes / "order").read_text().split()
    assert order[:4] == ORDER[:4] and sorted(order[4:6]) == ["poststart", "program"] and order[6:] == ["poststop"]
    expected = {"prestart": "creating", "createRuntime": "creating", "createContainer": "creating", "startContainer": "created",
                "poststart": "running", "poststop": "stopped"}
    for kind in ORDER:
        state = json.loads((notes / f"{kind}.json").read_text())
        assert state["id"] == "c" and state["status"] == expected[kind] and state["ociVersion"] and "bundle" in state, state
        assert state["annotations"] == {"who": "me"}
        if kind != "poststop":
            assert state["pid"] == pid or kind in INSIDE, (kind, state)
        assert (notes / f"{kind}.ns").read_text().split() == (init_ns if kind in INSIDE else own_ns), kind


def test_createcontainer_paths(davit, rootfs, notes):
    """createContainer is found by the host's path and sees the container's mounts there, before pivot_root."""
    found = script(notes, "look", f"ls {rootfs}/proc/1 >/dev/null && echo seen >{notes}/seen\n")
    davit.run(["true"], rootfs, hooks={"createContainer": [hook(found)]})
    assert (notes / "seen").read_text() == "seen\n"


def test_network_by_a_hook(davit, rootfs, notes):
    """What createRuntime hooks are for: the network is there when the program starts."""
    maker = script(notes, "net", "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); nsenter -t $pid -n ip link set lo mtu 1400\n")
    ended, text = davit.run(["cat", "/sys/class/net/lo/mtu"], rootfs, hooks={"createRuntime": [hook(maker, env=["PATH=/usr/sbin:/usr/bin:/bin:/sbin"])]})
    assert text == "1400\n"


def test_environment_and_descriptors(davit, rootfs, notes):
    path = script(notes, "env", f"env >{notes}/env; ls /proc/$$/fd >{notes}/fds; echo \"$0 $*\" >{notes}/args; grep SigIgn /proc/$$/status >{notes}/sig; cut -d' ' -f6 /proc/$$/stat >{notes}/sid; echo $$ >>{notes}/sid\n")
    hooks = {"createRuntime": [{"path": path, "args": ["zero", "one", "two words"], "env": ["A=1", "B=2 3"]}]}
    davit.run(["true"], rootfs, hooks=hooks)
    names = {line.split("=")[0] for line in (notes / "env").read_text().splitlines()}
    assert {"A", "B"} <= names <= {"A", "B", "PWD", "SHLVL", "_", "PATH", "OLDPWD"}, names
    assert "B=2 3" in (notes / "env").read_text()
    assert (notes / "args").read_text() == f"{path} one two words\n"
    assert (notes / "sig").read_text().split()[1] == "0" * 16
    assert set((notes / "fds").read_text().split()) <= {"0", "1", "2", "10", "11", "255"}  # from 10 on: the shell's


def test_several_of_a_kind_in_order(davit, rootfs, notes):
    path = script(notes, "add", f"echo $1 >>{notes}/order\n")
    davit.run(["true"], rootfs, hooks={kind: [hook(path, f"{kind}{n}") for n in range(3)] for kind in ("prestart", "createRuntime", "createContainer")})
    assert (notes / "order").read_text().split() == [f"{kind}{n}" for kind in ("prestart", "createRuntime", "createContainer") for n in range(3)]


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_failure_at_create(davit, rootfs, notes, kind):
    bad = script(notes, "bad", "echo what went wrong >&2; exit 3\n")
    later = script(notes, "later", f"echo later >>{notes}/order\n")
    stop = script(notes, "stop", f"echo stopped >>{notes}/stop\n")
    error = refused("failed_precondition", davit.create, "c", ["true"], rootfs, hooks={kind: [hook(bad), hook(later)], "poststop": [hook(stop)]})
    assert kind in error.message and bad in error.message and "3" in error.message, error
    assert "what went wrong" in "\n".join(error.details["log"]), error
    assert error.details["step"] == kind and error.details["path"] == bad
    assert not (notes / "order").exists()
    nothing_left(davit)
    # the container can be made anew
    davit.call("containers.delete", id="c")
    assert davit.run(["true"], rootfs, id="c")[0]["exit_status"] == 0


def test_failure_of_startcontainer(davit, rootfs, notes):
    script(notes, "bad", "echo not today >&2; exit 4\n")
    davit.create("c", ["sh", "-c", "echo ran >/notes/ran"], rootfs, hooks={"startContainer": [hook("/notes/bad")]})
    error = refused("failed_precondition", davit.call, "tasks.start", container_id="c")
    assert "startContainer" in error.message and "4" in error.message and "not today" in "\n".join(error.details.get("log", [])), error
    assert davit.status("c")["status"] == "stopped" and not (notes / "ran").exists()
    davit.call("tasks.delete", container_id="c")
    nothing_left(davit)


def test_failure_of_poststart(davit, rootfs, notes):
    """The container is ended, as the lifecycle has it."""
    bad = script(notes, "bad", "echo after the fact >&2; exit 5\n")
    davit.create("c", ["sleep", "1000"], rootfs, hooks={"poststart": [hook(bad)]})
    error = refused("failed_precondition", davit.call, "tasks.start", container_id="c")
    assert "poststart" in error.message and "after the fact" in "\n".join(error.details["log"])
    assert davit.call("tasks.wait", container_id="c")["exit_status"] == 137
    davit.call("tasks.delete", container_id="c")
    nothing_left(davit)


def test_failure_of_poststop_is_a_warning(davit, rootfs, notes):
    bad = script(notes, "bad", "exit 6\n")
    good = script(notes, "good", f"echo good >{notes}/good\n")
    davit.run(["true"], rootfs, hooks={"poststop": [hook(bad), hook(good)]})
    wait_for(lambda: (notes / "good").exists())
    assert bad in davit.log_text()


def test_poststop_after_the_processes_are_gone(davit, rootfs, notes):
    path = script(notes, "look", f"pid=$(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p'); cat {notes}/pid | while read p; do test -d /proc/$p && echo alive; done >{notes}/look; echo done >>{notes}/look\n")
    pid = davit.launch("c", ["sleep", "1000"], rootfs, hooks={"poststop": [hook(path)]})
    (notes / "pid").write_text(f"{pid}\n")
    davit.remove("c")
    wait_for(lambda: (notes / "look").exists() and "done" in (notes / "look").read_text())
    assert (notes / "look").read_text() == "done\n"


@pytest.mark.parametrize("kind", ["createRuntime", "createContainer"])
def test_timeout(davit, rootfs, notes, kind):
    slow = script(notes, "slow", "sleep 300\n")
    start = time.monotonic()
    error = refused("deadline_exceeded", davit.create, "c", ["true"], rootfs, hooks={kind: [hook(slow, timeout=1)]})
    assert 0.9 < time.monotonic() - start < 20
    assert slow in error.message and kind in error.message, error
    assert ("within 1 s" if kind == "createRuntime" else "took too long") in error.message
    nothing_left(davit)


@pytest.mark.parametrize("kind", ["createRuntime", "createContainer", "startContainer"])
def test_hooks_that_cannot_run(davit, rootfs, notes, kind):
    for path, word in (("/no/such/hook", "ENOENT"), (str(rootfs / "etc/passwd") if kind != "startContainer" else "/etc/passwd", "EACCES")):
        with pytest.raises(RpcError) as error:
            davit.launch("c", ["true"], rootfs, hooks={kind: [{"path": path}]})
        assert path in error.value.message and error.value.details["errname"] == word and kind in error.value.message, error.value
        davit.remove("c")
    error = refused("invalid_argument", davit.create, "d", ["true"], rootfs, hooks={kind: [{"path": "relative"}]})
    error = refused("invalid_argument", davit.create, "e", ["true"], rootfs, hooks={kind: [{"path": "/x", "timeout": 0}]})
    assert "timeout" in error.message


def test_signalled_hook(davit, rootfs, notes):
    path = script(notes, "dies", "kill -9 $$\n")
    error = refused("failed_precondition", davit.create, "c", ["true"], rootfs, hooks={"createRuntime": [hook(path)]})
    assert "signal" in error.message and "9" in error.message


def test_client_that_leaves_during_a_hook(davit, rootfs, notes):
    path = script(notes, "slow", f"echo $$ >{notes}/pid; sleep 300\n")
    davit.call("containers.create", id="c", spec=spec(["true"], rootfs, hooks={"createRuntime": [hook(path)]}))
    gone = davit.client()
    gone.send("tasks.create", container_id="c")
    wait_for(lambda: (notes / "pid").exists() and (notes / "pid").read_text())
    gone.close()
    wait_for(lambda: not os.path.exists(f"/proc/{(notes / 'pid').read_text().strip()}"))
    wait_for(lambda: not [f for f in cgroup_dirs(davit.cgroup_parent) if f.endswith("/c")])
    davit.call("containers.delete", id="c")


def test_the_daemon_serves_during_a_hook(davit, rootfs, notes):
    path = script(notes, "slow", f"while ! test -e {notes}/go; do sleep 0.02; done\n")
    davit.call("containers.create", id="c", spec=spec(["true"], rootfs, hooks={"createRuntime": [hook(path)]}))
    other = davit.client()
    pending = other.send("tasks.create", container_id="c")
    for _ in range(20):
        assert davit.call("version")["version"]
    assert davit.run(["true"], rootfs)[0]["exit_status"] == 0
    assert not pending.done()
    (notes / "go").write_text("")
    assert pending.result()["pid"]
    davit.remove("c")
