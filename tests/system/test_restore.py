# SPDX-License-Identifier: Apache-2.0
"""tasks.create from a checkpoint, with real criu: life of restored tasks, many at once, interruptions, what is not to be trusted."""

import contextlib
import json
import os
import signal

import pytest

from lib import leaks
from lib.checkpoints import COUNT, nothing_left, ps
from lib.daemon import Reader, wait_for
from lib.rootfs import copy_root, spec
from lib.rpc import Closed, Fd, RpcError


def refused(code, call, *args, **params):
    with pytest.raises(RpcError) as error:
        call(*args, **params)
    assert error.value.code == code, error.value
    return error.value


def blob(davit, digest):
    return davit.root / "content/blobs/sha256" / digest.removeprefix("sha256:")


def manifest(davit, result):
    index = json.loads(blob(davit, result["index"]["digest"]).read_text())
    return json.loads(blob(davit, index["manifests"][0]["digest"]).read_text())


def container(davit, id, root, **changes):
    more = {"namespace": changes.pop("namespace")} if "namespace" in changes else {}
    davit.call("containers.create", id=id, spec=spec(["true"], root, **changes), **more)
    return id


@pytest.fixture
def counting(davit, rootfs, criu):
    """A container "c" that counts, and the name of a checkpoint of it; it has ended."""
    davit.launch("c", COUNT, rootfs)
    wait_for(lambda: (rootfs / "tmp/count").exists(), what="the count")
    image = davit.call("tasks.checkpoint", container_id="c", options={"exit": True})["image"]
    davit.call("tasks.delete", container_id="c", kill=True)
    return image


@pytest.fixture
def large(davit, zoo):
    """A checkpoint of a container "c" with so much memory that a restore takes a while; it runs on."""
    return zoo("big", id="c", process={"env": ["BIG=400"]}).checkpoint(level=-5)["image"]


# life


def test_states_and_events(davit, rootfs, counting):
    """Created until start: nothing runs before, and the order of events is that of any task."""
    count = (rootfs / "tmp/count").read_text()
    with davit.events() as events:
        pid = davit.call("tasks.create", container_id="c", checkpoint=counting)["pid"]
        process = davit.status("c")
        assert (process["status"], process["pid"]) == ("created", pid) and process["created_at"] and not process["started_at"]
        assert leaks.process_state(pid) and (rootfs / "tmp/count").read_text() == count
        assert events.next("/tasks/create", container_id="c")["event"]["checkpoint"] == counting
        assert davit.call("tasks.start", container_id="c") == {"pid": pid}
        assert davit.status("c")["status"] == "running" and davit.status("c")["started_at"]
        wait_for(lambda: int((rootfs / "tmp/count").read_text() or 0) > int(count or 0), what="the count goes on")
        waits = [davit.send("tasks.wait", container_id="c") for _ in range(3)]
        davit.call("tasks.kill", container_id="c", signal="SIGTERM")
        davit.call("tasks.kill", container_id="c", signal=9)
        for wait in waits:
            assert (ended := wait.result())["exit_status"] == 137 and ended["exit_reason"] == "signaled"
        deleted = davit.call("tasks.delete", container_id="c")
        assert deleted["pid"] == pid and deleted["exit_status"] == 137
        events.find("/tasks/delete", container_id="c")
        mine = [event["topic"] for event in events.seen if event["event"].get("container_id") == "c"]
        assert mine == ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]
    nothing_left(davit, ["c"])


def test_what_works_with_a_restored_task(davit, zoo):
    """pause, resume, list_pids, exec, kill of an exec, metrics' cgroup, checkpoint, exit status."""
    made = zoo("tree", "files")
    before = len(ps(davit, "zoo"))
    made.back(made.away()["image"])
    assert len(ps(davit, "zoo")) == before and made.pid in ps(davit, "zoo")
    davit.call("tasks.pause", container_id="zoo")
    assert davit.status("zoo")["status"] == "paused"
    davit.call("tasks.resume", container_id="zoo")
    ended, text = davit.exec("zoo", ["sh", "-c", "cat /proc/self/cgroup; ls /proc | grep -c '^[0-9]'; hostname; exit 5"])
    assert ended["exit_status"] == 5 and "davit-test" in text
    assert davit.exec("zoo", ["cat", "/proc/self/cgroup"])[1] == davit.exec("zoo", ["cat", "/proc/1/cgroup"])[1]
    davit.call("tasks.exec", container_id="zoo", exec_id="e", spec=spec(["sleep", "1000"])["process"])
    davit.call("tasks.start", container_id="zoo", exec_id="e")
    assert {"e"} == {process["exec_id"] for process in davit.call("tasks.list_pids", container_id="zoo")["processes"]} - {"", None}
    davit.call("tasks.kill", container_id="zoo", exec_id="e", signal="SIGKILL")
    davit.call("tasks.wait", container_id="zoo", exec_id="e")
    made.all_ok()


def test_exit_status(davit, rootfs, criu):
    out, (read, write) = Reader(), os.pipe()
    davit.launch("c", ["sh", "-c", "read code; exit $code"], rootfs, stdio={"stdin": Fd(read), "stdout": Fd(out.write_fd)})
    image = davit.call("tasks.checkpoint", container_id="c", options={"exit": True})["image"]
    davit.call("tasks.delete", container_id="c", kill=True)
    davit.call("tasks.create", container_id="c", checkpoint=image, stdin=Fd(read))
    davit.call("tasks.start", container_id="c")
    os.write(write, b"23\n")
    ended = davit.call("tasks.wait", container_id="c")
    assert (ended["exit_status"], ended["exit_reason"]) == (23, "exited")
    for fd in (read, write):
        os.close(fd)


def test_deleted_before_it_ran(davit, rootfs, counting):
    count = (rootfs / "tmp/count").read_text()
    for kill in (False, True):
        pid = davit.call("tasks.create", container_id="c", checkpoint=counting)["pid"]
        davit.call("tasks.delete", container_id="c", kill=kill)
        assert leaks.process_state(pid) in (None, "Z")
        nothing_left(davit, ["c"])
        refused("not_found", davit.call, "tasks.get", container_id="c")
    assert (rootfs / "tmp/count").read_text() == count


def test_killed_before_it_ran(davit, counting):
    davit.call("tasks.create", container_id="c", checkpoint=counting)
    waiting = davit.send("tasks.wait", container_id="c")
    davit.call("tasks.kill", container_id="c", signal="SIGKILL")
    assert waiting.result()["exit_status"] == 137
    davit.call("tasks.delete", container_id="c")
    nothing_left(davit, ["c"])


def test_forms_of_a_checkpoint(davit, zoo):
    """By name and by descriptor; the same one many times; after the name is gone too."""
    made = zoo("files")
    result = made.away()
    for form in (result["image"], result["index"]):
        made.back(form)
        davit.call("tasks.delete", container_id="zoo", kill=True)
    davit.call("images.delete", name=result["image"])
    made.back(result["index"])
    made.all_ok()


def test_beside_the_original_and_in_another_namespace(davit, zoo, busybox):
    made = zoo("tree", "threads", "shm", "unix")
    image = made.checkpoint()["image"]
    root = copy_root(made.root, davit.base / "copy")
    davit.call("images.export", names=[image], path=str(davit.base / "moved.tar"))
    davit.call("images.import", namespace="other", path=str(davit.base / "moved.tar"), name="moved")
    copies = []
    for id, namespace, name in (("zoo2", "default", image), ("zoo", "other", "moved")):
        container(davit, id, root, namespace=namespace)
        out = Reader()
        davit.call("tasks.create", container_id=id, namespace=namespace, checkpoint=name, stdout=Fd(out.write_fd))
        out.close_write()
        davit.call("tasks.start", container_id=id, namespace=namespace)
        copies.append((id, namespace, out))
        # files of sockets are there once: one after the other
        davit.call("tasks.kill", container_id=id, namespace=namespace, signal="SIGUSR1")
        assert davit.call("tasks.wait", container_id=id, namespace=namespace)["exit_status"] == 0, out.text()
        assert out.text().count(": ok") == 4
        davit.call("tasks.delete", container_id=id, namespace=namespace)
    made.all_ok()
    nothing_left(davit, ["zoo2"])


def test_many_at_once(davit, rootfs, counting):
    """Eight of one checkpoint, each with a pid namespace, network and cgroup of its own."""
    ids = [f"copy{i}" for i in range(8)]
    for id in ids:
        container(davit, id, copy_root(rootfs, davit.base / id))
    pending = [davit.send("tasks.create", container_id=id, checkpoint=counting) for id in ids]
    pids = [answer.result()["pid"] for answer in pending]
    assert len(set(pids)) == 8 and len({os.stat(f"/proc/{pid}/ns/net").st_ino for pid in pids}) == 8
    for answer in [davit.send("tasks.start", container_id=id) for id in ids]:
        answer.result()
    start = int((rootfs / "tmp/count").read_text() or 0)
    for id in ids:
        wait_for(lambda: int((davit.base / id / "tmp/count").read_text() or 0) > start, what="the count goes on")
    for answer in [davit.send("tasks.delete", container_id=id, kill=True) for id in ids]:
        assert answer.result()["exit_status"] == 137
    nothing_left(davit, ids)


def test_deleted_files_in_one_root(davit, zoo):
    """criu makes them under names of its own in the root: one restore after the other, and copies side by side in others."""
    made = zoo("deleted")
    image = made.away()["image"]
    ids = ["one", "two"]
    for id in ids:
        container(davit, id, made.root)
    container(davit, "three", copy_root(made.root, davit.base / "copy"))
    streams = {id: Reader() for id in [*ids, "three"]}
    create = lambda id: davit.call("tasks.create", container_id=id, checkpoint=image, stdout=Fd(streams[id].write_fd))
    create("one")
    assert "default/one is being restored into the same root" in refused("failed_precondition", create, "two").message
    create("three")
    for id in ("one", "three"):
        davit.call("tasks.start", container_id=id)
    create("two")  # the first is through
    davit.call("tasks.delete", container_id="two", kill=True)
    create("two")  # and so it is when it is given up
    davit.call("tasks.start", container_id="two")
    for id, stream in streams.items():
        stream.close_write()
        davit.call("tasks.kill", container_id=id, signal="SIGUSR1")
        assert davit.call("tasks.wait", container_id=id)["exit_status"] == 0, stream.text()
    assert not [name for name in os.listdir(made.root / "tmp") if "ghost" in name]


# wrong arguments


@pytest.mark.parametrize("params,code,word", [
    ({"checkpoint": "no-such"}, "not_found", "no-such"),
    ({"checkpoint": "/no/such/folder"}, "not_found", "/no/such/folder"),
    ({"checkpoint": ""}, "invalid_argument", "checkpoint"),
    ({"checkpoint": {"media_type": "text/plain", "digest": "sha256:" + "0" * 64, "size": 5}}, "failed_precondition", "text/plain"),
    ({"options": {"tcp_close": True}}, "invalid_argument", "needs checkpoint"),
    ({"checkpoint": "x", "options": {"tcp_close": 1}}, "invalid_argument", "tcp_close must be a bool"),
    ({"checkpoint": "x", "options": {"stall_timeout": -1}}, "invalid_argument", "stall_timeout"),
    ({"checkpoint": "x", "options": {"network_namespace": "relative"}}, "invalid_argument", "absolute"),
    ({"checkpoint": "x", "options": {"external_mounts": {"/a": "b"}}}, "invalid_argument", "external_mounts"),
])
def test_wrong_arguments(davit, busybox, criu, params, code, word):
    container(davit, "c", busybox)
    assert word in refused(code, davit.call, "tasks.create", container_id="c", **params).message
    nothing_left(davit, ["c"])


def test_no_checkpoint(davit, zoo):
    """An image that is none, and a folder that is none."""
    made = zoo("files")
    result = made.away()
    config = manifest(davit, result)["config"]
    davit.call("images.create", name="other", target={"media_type": config["mediaType"], "digest": config["digest"], "size": config["size"]})
    refused("failed_precondition", davit.call, "tasks.create", container_id="zoo", checkpoint="other")
    with pytest.raises(RpcError) as error:
        davit.call("tasks.create", container_id="zoo", checkpoint=str(davit.base))
    assert error.value.code in ("not_found", "failed_precondition") and str(davit.base) in error.value.message
    nothing_left(davit, ["zoo"])


def test_file_was_changed(davit, zoo):
    """A file that is open in the checkpoint has another size by now: criu's reason in words."""
    made = zoo("files")
    image = made.away()["image"]
    (made.root / "tmp/rw").write_text("of another size, which criu notices")
    error = refused("failed_precondition", made.back, image)
    assert "was changed since the checkpoint" in error.message and error.details["log"]
    nothing_left(davit, ["zoo"])


# what is not to be trusted


def test_more_capabilities_than_the_spec_gives(davit, zoo):
    made = zoo("files")
    image = made.away()["image"]
    few = {kind: ["CAP_KILL"] for kind in ("bounding", "effective", "permitted")}
    container(davit, "few", made.root, process={"capabilities": few})
    error = refused("permission_denied", davit.call, "tasks.create", container_id="few", checkpoint=image)
    assert "capabilities" in error.message
    nothing_left(davit, ["few"])


def test_new_privileges(davit, zoo):
    made = zoo("files", process={"noNewPrivileges": False})
    image = made.away()["image"]
    container(davit, "strict", made.root)
    assert "noNewPrivileges" in refused("permission_denied", davit.call, "tasks.create", container_id="strict", checkpoint=image).message
    made.back(image)
    made.all_ok()


def test_mount_that_the_spec_has_not(davit, zoo):
    secret = davit.base / "secret"
    secret.mkdir()
    made = zoo("files", mounts=spec([])["mounts"] + [{"destination": "/secret", "type": "bind", "source": str(secret), "options": ["bind"]}])
    image = made.away()["image"]
    container(davit, "other", made.root)
    error = refused("failed_precondition", davit.call, "tasks.create", container_id="other", checkpoint=image)
    assert "/secret" in error.message and "external_mounts" in error.message
    nothing_left(davit, ["other"])


@pytest.mark.parametrize("kind", ["files", "pages"])
@pytest.mark.parametrize("where", [0.02, 0.5, 0.98])
def test_damaged_blob(davit, zoo, kind, where):
    """A byte that has changed on the disk: refused with the blob's name, and no process has run."""
    made = zoo("maps")
    result = made.away()
    layer = max((layer for layer in manifest(davit, result)["layers"] if f".criu.{kind}." in layer["mediaType"]), key=lambda layer: layer["size"])
    path = blob(davit, layer["digest"])
    path.chmod(0o600)
    with open(path, "r+b") as file:
        file.seek(at := int(layer["size"] * where))
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x10]))
    error = refused("failed_precondition", made.back, result["image"])
    assert layer["digest"] in error.message, error
    assert made.out.text() == ""
    nothing_left(davit, ["zoo"])
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(bytes([byte]))
    made.back(result["image"])
    made.all_ok()


def test_missing_blob(davit, zoo):
    made = zoo("files")
    result = made.away()
    layer = manifest(davit, result)["layers"][-1]
    blob(davit, layer["digest"]).rename(davit.base / "kept")
    with pytest.raises(RpcError) as error:
        made.back(result["image"])
    assert layer["digest"] in error.value.message and error.value.code in ("not_found", "failed_precondition", "internal"), error.value
    assert error.value.code != "internal"
    nothing_left(davit, ["zoo"])


# interruptions


def restoring(davit):
    return wait_for(lambda: [pid for pid in leaks.processes_with(str(davit.state / "criu")) if " restore " in leaks.cmdline(pid)], what="criu")


def nothing_restored(davit, id="copy"):
    wait_for(lambda: not [task for task in davit.call("tasks.list")["tasks"] if task["container_id"] == id], what="no task")
    nothing_left(davit, [id])
    wait_for(lambda: not [folder for folder in leaks.cgroup_dirs(davit.cgroup_parent) if folder.endswith("/" + id)], what="no cgroup")


def works(davit, image, id="copy"):
    davit.call("tasks.create", container_id=id, checkpoint=image)
    davit.call("tasks.start", container_id=id)
    assert davit.status(id)["status"] == "running"
    davit.call("tasks.delete", container_id=id, kill=True)
    nothing_left(davit, [id])


def test_client_goes(davit, rootfs, large):
    container(davit, "copy", rootfs)
    with davit.client() as other:
        other.send("tasks.create", container_id="copy", checkpoint=large)
        restoring(davit)
    nothing_restored(davit)
    works(davit, large)


def test_cancel_and_deadline(davit, rootfs, large):
    container(davit, "copy", rootfs)
    pending = davit.send("tasks.create", container_id="copy", checkpoint=large)
    restoring(davit)
    davit.call("rpc.cancel", msgid=pending.msgid)
    refused("cancelled", pending.result)
    nothing_restored(davit)
    refused("deadline_exceeded", davit.call, "tasks.create", container_id="copy", checkpoint=large, timeout=20_000_000)
    nothing_restored(davit)
    works(davit, large)


def test_criu_is_killed(davit, rootfs, large):
    container(davit, "copy", rootfs)
    pending = davit.send("tasks.create", container_id="copy", checkpoint=large)
    for pid in restoring(davit):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    refused("unknown", pending.result)
    nothing_restored(davit)
    works(davit, large)


def kill_daemon(davit, who):
    info = davit.info
    if who == "both":
        os.kill(info["guardian_pid"], signal.SIGKILL)
    os.kill(info["pid"], signal.SIGKILL)
    if who == "both":
        davit.process.wait()
        davit.start()
    else:
        davit.reconnect()


@pytest.mark.parametrize("who", ["reactor", "both"])
@pytest.mark.parametrize("when", ["restoring", "created"])
def test_daemon_is_killed(davit, rootfs, large, who, when):
    container(davit, "copy", rootfs)
    if when == "restoring":
        davit.send("tasks.create", container_id="copy", checkpoint=large)
        restoring(davit)
    else:
        davit.call("tasks.create", container_id="copy", checkpoint=large)
    kill_daemon(davit, who)
    if when == "created" and [t for t in davit.call("tasks.list")["tasks"] if t["container_id"] == "copy"]:
        # there may be a record of it, as of any created task: it has ended, and can be deleted
        wait_for(lambda: davit.status("copy")["status"] == "stopped", what="it has ended")
        davit.call("tasks.delete", container_id="copy")
    nothing_restored(davit)
    assert davit.status("c")["status"] == "running"
    works(davit, large)


def test_running_over_a_restart(davit, rootfs, counting):
    """A restored task is a task like any other: it outlives the daemon, and its end is known."""
    davit.call("tasks.create", container_id="c", checkpoint=counting)
    pid = davit.call("tasks.start", container_id="c")["pid"]
    davit.kill_reactor()
    assert davit.status("c")["status"] == "running" and davit.status("c")["pid"] == pid
    before = int((rootfs / "tmp/count").read_text() or 0)
    wait_for(lambda: int((rootfs / "tmp/count").read_text() or 0) > before, what="the count goes on")
    again = davit.call("tasks.checkpoint", container_id="c", options={"exit": True})["image"]
    assert davit.call("tasks.wait", container_id="c")["exit_status"] == 137
    davit.call("tasks.delete", container_id="c")
    davit.call("tasks.create", container_id="c", checkpoint=again)
    davit.call("tasks.start", container_id="c")


def starts_without_it(davit, large):
    """After a shutdown: of what was being restored, or held, there is at most the record of a task that has ended."""
    davit.start()
    if [t for t in davit.call("tasks.list")["tasks"] if t["container_id"] == "copy"]:
        wait_for(lambda: davit.status("copy")["status"] == "stopped", what="it has ended")
        davit.call("tasks.delete", container_id="copy")
    nothing_restored(davit)
    works(davit, large)


def test_shutdown_does_not_wait(davit, rootfs, large):
    container(davit, "copy", rootfs)
    pending = davit.send("tasks.create", container_id="copy", checkpoint=large)
    restoring(davit)
    davit.process.send_signal(signal.SIGTERM)
    davit.process.wait(30)
    with contextlib.suppress(RpcError, Closed):
        pending.result()  # it was just in time
    starts_without_it(davit, large)


def test_shutdown_with_a_held_one(davit, rootfs, large):
    container(davit, "copy", rootfs)
    davit.call("tasks.create", container_id="copy", checkpoint=large)
    assert davit.stop() == 0
    starts_without_it(davit, large)
