# SPDX-License-Identifier: Apache-2.0
"""tasks.checkpoint with real criu: options, statistics, events, what it leaves when it fails or is interrupted."""

import gzip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from lib import leaks
from lib.checkpoints import COUNT, Zoo, nothing_left, ps
from lib.daemon import Reader, wait_for
from lib.images import mounted
from lib.rootfs import copy_root, make_busybox, spec
from lib.rpc import Closed, Fd, RpcError

FILES = "application/vnd.davit.checkpoint.criu.files.v1.tar+zstd"
PAGES = "application/vnd.davit.checkpoint.criu.pages.v1+zstd"


def refused(code, call, *args, **params):
    with pytest.raises(RpcError) as error:
        call(*args, **params)
    assert error.value.code == code, error.value
    return error.value


def running(davit, id="zoo"):
    assert davit.status(id)["status"] == "running"


def blob(davit, digest):
    return davit.root / "content/blobs/sha256" / digest.removeprefix("sha256:")


def document(davit, descriptor):
    return json.loads(blob(davit, descriptor["digest"]).read_text())


@pytest.fixture
def busy(zoo):
    """A container with so much memory that a dump takes a while."""
    return zoo("big", "threads", id="c", process={"env": ["BIG=300"]})


# results


def test_result_image_and_event(davit, zoo):
    made = zoo("maps")
    with davit.events() as events:
        began = time.time_ns()
        result = made.checkpoint()
        running(davit)
        created = events.next("/images/create")
        event = events.next("/tasks/checkpointed")
        assert event["event"] == {"container_id": "zoo", "checkpoint": result["image"]} and event["seq"] > created["seq"]
    name = result["image"]
    assert name.startswith("containerd.io/checkpoint/zoo:")
    image = davit.call("images.get", name=name)["image"]
    assert image["labels"]["containerd.io/checkpoint"] == "true" and image["target"]["digest"] == result["index"]["digest"]
    index = document(davit, result["index"])
    manifest = document(davit, index["manifests"][0])
    assert manifest["artifactType"] == "application/vnd.davit.checkpoint.v1"
    kinds = [layer["mediaType"] for layer in manifest["layers"]]
    assert kinds[0] == FILES and set(kinds[1:]) == {PAGES}
    assert [layer["annotations"]["org.davit.checkpoint.file"] for layer in manifest["layers"][1:]] == sorted(
        layer["annotations"]["org.davit.checkpoint.file"] for layer in manifest["layers"][1:])
    for descriptor in [result["index"], index["manifests"][0], manifest["config"], *manifest["layers"]]:
        data = blob(davit, descriptor["digest"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == descriptor["digest"].removeprefix("sha256:") and len(data) == descriptor["size"]
    config = document(davit, manifest["config"])
    assert config["container"]["id"] == "zoo" and began <= config["created_at"] <= time.time_ns()
    stats = result["stats"]
    assert set(stats["phases"]) == {"prepare", "dump", "diff", "seal", "commit"}
    assert stats["frozen_us"] <= stats["total_us"] and stats["pages"] > 200 and stats["diff_us"] == 0
    assert stats["bytes_in"] >= stats["pages"] * 4096 and stats["bytes_out"] > 0 and stats["buffer_peak"] > 0
    nothing_left(davit)
    made.all_ok()


def test_names_and_levels(davit, zoo):
    made = zoo("files")
    first = davit.call("tasks.checkpoint", container_id="zoo", name="mine:1", options={"compression": "none"})
    assert first["image"] == "mine:1" and first["stats"]["bytes_out"] >= first["stats"]["bytes_in"]
    kinds = [layer["mediaType"] for layer in document(davit, document(davit, first["index"])["manifests"][0])["layers"]]
    assert not any(kind.endswith("zstd") for kind in kinds)
    assert made.checkpoint(level=9)["stats"]["bytes_out"] < first["stats"]["bytes_out"]
    images = [image["name"] for image in davit.call("images.list", filters=["labels.\"containerd.io/checkpoint\"==true"])["images"]]
    assert len(images) == 2 and "mine:1" in images
    made.away()
    made.back("mine:1")
    made.all_ok()


def test_progress(davit, busy):
    with davit.events(filters=["event.progress==mine"]) as events:
        result = davit.call("tasks.checkpoint", container_id="c", progress="mine")
        last = events.next("/tasks/progress", phase="commit")["event"]
        assert last["done"] == last["total"] == result["stats"]["bytes_in"] > 96 << 20
        seen = [event["event"] for event in events.seen]
        assert [event["done"] for event in seen] == sorted(event["done"] for event in seen)
        davit.call("tasks.delete", container_id="c", kill=True)
        davit.call("tasks.create", container_id="c", checkpoint=result["image"], progress="mine")
        last = events.drain()[-1]["event"]
        assert last["phase"] in ("restore", "verify") and last["done"] == last["total"] > 96 << 20
    # nobody asked: no events
    with davit.events(filters=["topic==/tasks/progress"]) as events:
        davit.call("tasks.start", container_id="c")
        davit.call("tasks.checkpoint", container_id="c")
        assert events.drain() == []


def test_into_a_folder(davit, zoo):
    made, folder = zoo("files", "maps"), davit.base / "dump"
    with davit.events(filters=["topic==/tasks/checkpointed"]) as events:
        result = made.checkpoint(image_path=str(folder))
        assert events.next()["event"]["checkpoint"] == str(folder)
    assert result["index"] == {} and result["descriptors"] == [] and result["image"] == ""
    assert {"inventory.img", "pages-1.img", "davit-checkpoint.json"} <= set(os.listdir(folder))
    assert davit.call("images.list")["images"] == []
    made.away()
    made.back(str(folder))
    davit.call("tasks.delete", container_id="zoo", kill=True)
    # criu_image_path says the same
    out = made.out = Reader()
    davit.call("tasks.create", container_id="zoo", options={"criu_image_path": str(folder)}, stdout=Fd(out.write_fd))
    davit.call("tasks.start", container_id="zoo")
    made.all_ok()


def test_into_a_folder_that_was_mounted_later(davit, zoo):
    """criu sees what the host has when it is started, not what it had at the first checkpoint."""
    made, disk = zoo("files", "maps"), davit.base / "disk"
    made.checkpoint()
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "davit-test", str(disk)], check=True)
    try:
        made.away(image_path=str(disk / "images"), work_path=str(disk))
        assert {"inventory.img", "pages-1.img"} <= set(os.listdir(disk / "images")) and (disk / "criu.log").exists()
        made.back(str(disk / "images"))
        made.all_ok()
        davit.call("tasks.delete", container_id="zoo")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert os.listdir(disk) == []  # nothing lies below the mount


def test_into_a_folder_below_run(davit, zoo):
    """/run may be covered by criu's own."""
    made = zoo("files")
    with tempfile.TemporaryDirectory(dir="/run") as folder:
        link = davit.base / "link"
        link.symlink_to(folder)
        made.checkpoint(image_path=str(link / "images"), work_path=folder)
        assert {"criu.log", "stats-dump"} <= set(os.listdir(folder))
        assert {"inventory.img", "pages-1.img"} <= set(os.listdir(f"{folder}/images"))


def test_much_on_tmpfs(davit, rootfs, criu):
    """What is in a tmpfs is packed while the container is frozen: little by gzip, much without compressing it."""
    davit.launch("c", ["sh", "-c", "yes davit | head -c 100000 >/dev/shm/text; echo >/ready; sleep 100000"], rootfs)
    wait_for((rootfs / "ready").exists)

    def packed(name):
        davit.call("tasks.checkpoint", container_id="c", options={"image_path": str(davit.base / name)})
        files = list((davit.base / name).glob("tmpfs-dev-*.tar.gz.img"))
        for file in files:
            gzip.decompress(file.read_bytes())  # as any criu's tar would
        return max(file.stat().st_size for file in files)

    assert packed("little") < 50000
    davit.call("tasks.delete", container_id="c", kill=True)
    davit.call("containers.delete", id="c")
    (rootfs / "ready").unlink()
    davit.launch("c", ["sh", "-c", "yes davit | head -c 8000000 >/dev/shm/text; echo >/ready; sleep 100000"], rootfs)
    wait_for((rootfs / "ready").exists)
    assert packed("much") > 8000000
    davit.call("tasks.checkpoint", container_id="c", name="c:1")
    for source in str(davit.base / "much"), "c:1":
        davit.call("tasks.delete", container_id="c", kill=True)
        davit.call("tasks.create", container_id="c", checkpoint=source)
        pid = davit.call("tasks.start", container_id="c")["pid"]
        assert Path(f"/proc/{pid}/root/dev/shm/text").read_text() == ("davit\n" * 1400000)[:8000000]
    nothing_left(davit)


def status_kib(pid, field):
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split(field + ":")[1].split()[0])


def test_memory_of_many_at_once(make_davit, busybox, criu):
    """--checkpoint-buffer is of all dumps and restores together."""
    davit = make_davit("--checkpoint-buffer", "64m")
    ids = [f"c{n}" for n in range(6)]
    for id in ids:
        davit.launch(id, ["dd", "if=/dev/urandom", "of=/dev/null", "bs=80M", "count=1000000"], copy_root(busybox, davit.base / id))
        wait_for(lambda: status_kib(ps(davit, id)[0], "VmRSS") > 75 << 10, what="its memory")
        davit.call("tasks.pause", container_id=id)
    reactor = davit.call("server.info")["pid"]
    for call in [davit.send("tasks.checkpoint", container_id=id, name=f"{id}:1", options={"exit": True}) for id in ids]:
        call.result()
    for id in ids:
        davit.call("tasks.delete", container_id=id)
    for call in [davit.send("tasks.create", container_id=id, checkpoint=f"{id}:1") for id in ids]:
        call.result()
    # 480 MiB of memory; the bound, two frames of 4 MiB for each, what each has in its compressors, and all else
    assert status_kib(reactor, "VmHWM") >> 10 < 64 + 6 * 8 + 6 * 9 * os.cpu_count() + 16
    for id in ids:
        davit.call("tasks.start", container_id=id)
        davit.call("tasks.delete", container_id=id, kill=True)
    nothing_left(davit, ids)


def test_log_is_kept_on_demand(davit, zoo):
    made, folder = zoo("files"), davit.base / "work"
    folder.mkdir()
    made.checkpoint(work_path=str(folder))
    assert {"criu.log", "stats-dump"} <= set(os.listdir(folder))


@pytest.mark.parametrize("options,word", [
    ({"exit": 1}, "options.exit must be a bool"),
    ({"exit": True, "leave_running": True}, "exclude each other"),
    ({"level": 20}, "from -7 to 19"),
    ({"compression": "gzip"}, "zstd"),
    ({"image_path": "relative"}, "absolute"),
    ({"network_lock": "maybe"}, "unknown value"),
    ({"cgroups_mode": "maybe"}, "unknown value"),
    ({"empty_namespaces": ["pid"]}, "network"),
    ({"empty_namespaces": "network"}, "list"),
    ({"stall_timeout": -1}, "nanoseconds"),
    ({"no_such": True}, "options.no_such is unknown"),
])
def test_wrong_options(davit, rootfs, criu, options, word):
    davit.launch("c", ["sleep", "1000"], rootfs)
    error = refused("invalid_argument", davit.call, "tasks.checkpoint", container_id="c", options=options)
    assert word in error.message and error.details["argument"] == "options"


def test_wrong_states(davit, rootfs, criu):
    refused("not_found", davit.call, "tasks.checkpoint", container_id="c")
    davit.create("c", ["sleep", "1000"], rootfs)
    assert "created" in refused("failed_precondition", davit.call, "tasks.checkpoint", container_id="c").message
    davit.call("tasks.start", container_id="c")
    refused("unimplemented", davit.call, "tasks.checkpoint", container_id="c", parent_checkpoint="x")
    davit.call("tasks.kill", container_id="c", signal="SIGKILL")
    davit.call("tasks.wait", container_id="c")
    assert "stopped" in refused("failed_precondition", davit.call, "tasks.checkpoint", container_id="c").message


def test_no_criu(make_davit, busybox):
    davit = make_davit("--criu", "/nowhere/criu")
    davit.launch("c", ["sleep", "1000"], busybox)
    error = refused("failed_precondition", davit.call, "tasks.checkpoint", container_id="c")
    assert "/nowhere/criu" in error.message and "install criu" in error.message
    running(davit, "c")


def test_exec_is_refused(davit, rootfs, criu):
    """A process of exec would be missing; one that was added only, or has ended, is none."""
    davit.launch("c", ["sleep", "1000"], rootfs)
    davit.call("tasks.exec", container_id="c", exec_id="e", spec=spec(["sleep", "1000"])["process"])
    davit.call("tasks.checkpoint", container_id="c")
    davit.call("tasks.start", container_id="c", exec_id="e")
    assert "process e" in refused("failed_precondition", davit.call, "tasks.checkpoint", container_id="c").message
    davit.call("tasks.kill", container_id="c", exec_id="e", signal="SIGKILL")
    davit.call("tasks.wait", container_id="c", exec_id="e")
    davit.call("tasks.checkpoint", container_id="c")


@pytest.mark.parametrize("kind", ["ipc", "uts"])
def test_shared_namespace(davit, rootfs, criu, kind):
    """What would not come back as it was is not ended for it, and not even frozen."""
    davit.launch("a", ["sleep", "1000"], rootfs)
    path = f"/proc/{ps(davit, 'a')[0]}/ns/{kind}"
    document = spec(["sleep", "1000"], rootfs)
    document.pop("hostname", None)
    next(ns for ns in document["linux"]["namespaces"] if ns["type"] == kind)["path"] = path
    davit.call("containers.create", id="c", spec=document)
    davit.call("tasks.create", container_id="c")
    davit.call("tasks.start", container_id="c")
    error = refused("failed_precondition", davit.call, "tasks.checkpoint", container_id="c", options={"exit": True})
    assert f"the {kind} namespace of another ({path})" in error.message and "log" not in error.details
    running(davit, "c")
    davit.call("tasks.checkpoint", container_id="c")
    running(davit, "c")
    nothing_left(davit)


def test_paused_stays_paused(davit, zoo):
    made = zoo("tree", "threads")
    davit.call("tasks.pause", container_id="zoo")
    image = made.checkpoint()["image"]
    assert davit.status("zoo")["status"] == "paused"
    states = [leaks.process_state(pid) for pid in ps(davit, "zoo")]
    assert states and "R" not in states
    davit.call("tasks.resume", container_id="zoo")
    made.all_ok()
    davit.call("tasks.delete", container_id="zoo")
    made.back(image)
    made.all_ok()


def test_twenty_times(davit, zoo):
    made = zoo("tree", "pipes", "shm")
    for _ in range(20):
        made.checkpoint()
    nothing_left(davit)
    made.all_ok()


def test_generations(davit, rootfs, criu):
    """Each is restored from a checkpoint of the one before: the count goes on."""
    davit.launch("c", COUNT, rootfs)
    at, fds = (lambda: int((rootfs / "tmp/count").read_text() or 0)), None
    wait_for(lambda: (rootfs / "tmp/count").exists(), what="the count")
    for generation in range(12):
        image = davit.call("tasks.checkpoint", container_id="c", options={"exit": True})["image"]
        assert davit.call("tasks.delete", container_id="c", kill=True)["exit_status"] == 137
        davit.call("tasks.create", container_id="c", checkpoint=image)
        last = at()
        davit.call("tasks.start", container_id="c")
        wait_for(lambda: at() > last, what="the count goes on")
        if generation == 3:
            fds = davit.fd_count()
    wait_for(lambda: davit.fd_count() <= fds + 3, what="no fd is left")
    nothing_left(davit)


# exit


def test_exit(davit, zoo):
    made = zoo("maps")
    waiting = davit.send("tasks.wait", container_id="zoo")
    with davit.events() as events:
        result = made.checkpoint(exit=True)
        ended = waiting.result()
        assert ended["exit_status"] == 137 and ended["signal"] == 9
        checkpointed, exited = events.find("/tasks/checkpointed"), events.find("/tasks/exit", container_id="zoo")
        assert exited["event"]["exit_status"] == 137
        # never ended for a checkpoint that is not there
        assert events.find("/images/create")["seq"] < exited["seq"] or checkpointed["event"]["checkpoint"] == result["image"]
    assert davit.status("zoo")["status"] == "stopped"
    made.out.bytes()
    davit.call("tasks.delete", container_id="zoo")
    nothing_left(davit, ["zoo"])
    davit.call("content.verify", digest=result["index"]["digest"])


def full_store(davit, size):
    """The content store on a disk of this size. The daemon is not started yet."""
    folder = davit.root
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode=700,size={size}", "store", str(folder)], check=True)
    davit.cleanups.append(lambda: subprocess.run(["umount", "-l", str(folder)], check=False))
    return davit.start()


@pytest.mark.parametrize("exit", [False, True])
def test_store_is_full(make_davit, busybox, criu, zoo_program, exit):
    davit = full_store(make_davit(start=False), "24m")
    shutil.copy(zoo_program, (root := copy_root(busybox, davit.base / "rootfs")) / "zoo")
    made = Zoo(davit, root, "big", id="c")
    error = refused("resource_exhausted", davit.call, "tasks.checkpoint", container_id="c", options={"exit": exit, "compression": "none"})
    assert "No space left" in error.message
    running(davit, "c")
    nothing_left(davit)
    assert davit.call("images.list")["images"] == []
    ingests = wait_for(lambda: [davit.call("content.list_statuses")["statuses"]] if not davit.call("content.list_statuses")["statuses"] else None,
                       what="no ingest")
    assert ingests == [[]]
    wait_for(lambda: os.statvfs(davit.root).f_bavail * os.statvfs(davit.root).f_bsize > 16 << 20, what="the space is free again")
    made.all_ok()


# interruptions


def dumping(davit):
    """Waits until criu is at a dump of this daemon; its pids."""
    return wait_for(lambda: [pid for pid in leaks.processes_with(str(davit.state / "criu")) if " dump " in leaks.cmdline(pid)], what="criu")


def lives_on(davit, id="c"):
    """The task runs, nobody of it is stopped or frozen or has criu's code in it."""
    nothing_left(davit)
    running(davit, id)
    for pid in ps(davit, id):
        wait_for(lambda: leaks.process_state(pid) in "SR", what="a process that runs")
        assert "TracerPid:\t0" in Path(f"/proc/{pid}/status").read_text()


def test_client_goes(davit, busy):
    with davit.client() as other:
        other.send("tasks.checkpoint", container_id="c")
        dumping(davit)
    lives_on(davit)
    wait_for(lambda: not davit.call("content.list_statuses")["statuses"], what="no ingest")
    assert davit.call("tasks.checkpoint", container_id="c")["image"]
    busy.all_ok()


def test_cancel_and_deadline(davit, busy):
    pending = davit.send("tasks.checkpoint", container_id="c", options={"exit": True})
    dumping(davit)
    davit.call("rpc.cancel", msgid=pending.msgid)
    refused("cancelled", pending.result)
    lives_on(davit)
    refused("deadline_exceeded", davit.call, "tasks.checkpoint", container_id="c", timeout=20_000_000, options={"exit": True})
    lives_on(davit)
    assert davit.call("images.list")["images"] == []
    busy.all_ok()


def test_only_one_at_a_time(davit, busy):
    pending = davit.send("tasks.checkpoint", container_id="c")
    dumping(davit)
    for method in ("tasks.checkpoint", "tasks.pause"):
        assert "checkpoint" in refused("failed_precondition", davit.call, method, container_id="c").message
    assert pending.result()["image"]


def test_killed_while_it_is_dumped(davit, busy):
    pending = davit.send("tasks.checkpoint", container_id="c")
    dumping(davit)
    davit.call("tasks.kill", container_id="c", signal="SIGKILL")
    try:
        pending.result()  # it was quicker
    except RpcError as error:
        assert error.code in ("unknown", "failed_precondition"), error
    assert davit.call("tasks.wait", container_id="c")["exit_status"] == 137
    davit.call("tasks.delete", container_id="c")
    nothing_left(davit, ["c"])


def test_criu_is_killed(davit, busy):
    pending = davit.send("tasks.checkpoint", container_id="c")
    for pid in dumping(davit):
        os.kill(pid, signal.SIGKILL)
    error = refused("unknown", pending.result)
    assert "signal 9" in error.message
    nothing_left(davit)
    davit.call("tasks.delete", container_id="c", kill=True)
    nothing_left(davit, ["c"])


@pytest.mark.parametrize("who", ["reactor", "both"])
def test_daemon_is_killed(davit, busy, who):
    """The task runs on, and what the dump had written until then is gone."""
    info = davit.info
    davit.send("tasks.checkpoint", container_id="c", options={"exit": True})
    dumping(davit)
    if who == "both":
        os.kill(info["guardian_pid"], signal.SIGKILL)
    os.kill(info["pid"], signal.SIGKILL)
    if who == "both":
        davit.process.wait()
        davit.start()
    else:
        davit.reconnect()
    lives_on(davit)
    wait_for(lambda: not davit.call("content.list_statuses")["statuses"], what="no ingest")
    assert davit.call("images.list")["images"] == []
    assert davit.call("tasks.checkpoint", container_id="c")["image"]
    lives_on(davit)
    busy.all_ok()


def test_shutdown_does_not_wait(davit, busy):
    pending = davit.send("tasks.checkpoint", container_id="c", options={"exit": True})
    dumping(davit)
    pid = ps(davit, "c")[0]
    davit.process.send_signal(signal.SIGTERM)
    davit.process.wait(30)
    with pytest.raises((RpcError, Closed)):
        pending.result()
    assert leaks.process_state(pid) in "SR"
    davit.start()
    lives_on(davit)


# the writable layer


COUNTER = "i=0; while :; do i=$((i+1)); echo $i > /counter; echo $i; done"


@pytest.fixture
def from_image(davit, busybox, criu):
    """from_image(snapshot's key) → a container "c" whose root is a snapshot of an image."""
    root = make_busybox(davit.base / "image")
    (root / "removed").write_text("of the image")
    (root / "folder").mkdir()
    (root / "folder/old").write_text("of the image")
    (root / "changed").write_text("of the image")
    davit.call("images.from_dir", path=str(root), name="busybox")
    chain = davit.call("images.unpack", name="busybox", snapshotter="overlayfs")["chain_id"]
    davit.call("snapshots.prepare", snapshotter="overlayfs", key="rw", parent=chain)
    return chain


@pytest.mark.parametrize("exit", [False, True])
def test_writable_layer(davit, from_image, exit):
    """Files are as they were when the memory was: a process writes the same number to both as fast as it can."""
    script = f"rm /removed; rm -r /folder; mkdir /folder; echo new > /folder/new; echo changed > /changed; echo ready; {COUNTER}"
    out = Reader()
    davit.call("containers.create", id="c", spec=spec(["sh", "-c", script]), image="busybox", snapshotter="overlayfs", snapshot_key="rw")
    davit.call("tasks.create", container_id="c", stdout=Fd(out.write_fd))
    out.close_write()
    davit.call("tasks.start", container_id="c")
    wait_for(lambda: b"ready\n1\n" in out.data, what="the counter")
    result = davit.call("tasks.checkpoint", container_id="c", options={"exit": exit})
    assert result["stats"]["diff_us"] > 0
    davit.call("tasks.delete", container_id="c", kill=True)
    index = document(davit, result["index"])
    layers = document(davit, index["manifests"][0])["layers"]
    assert layers[-1]["mediaType"] == "application/vnd.oci.image.layer.v1.tar+zstd"
    assert len(index["manifests"]) == 2  # and the image's own

    mounts = davit.call("snapshots.prepare", snapshotter="overlayfs", key="again", parent=from_image)["mounts"]
    diff = {"media_type": layers[-1]["mediaType"], "digest": layers[-1]["digest"], "size": layers[-1]["size"]}
    davit.call("diff.apply", diff=diff, mounts=mounts)
    with mounted(davit, mounts) as folder:
        written = int((folder / "counter").read_text() or 0)
        assert not (folder / "removed").exists() and sorted(os.listdir(folder / "folder")) == ["new"]
        assert (folder / "changed").read_text() == "changed\n" and (folder / "bin/busybox").exists()
    davit.call("containers.create", id="d", spec=spec(["true"]), snapshotter="overlayfs", snapshot_key="again")
    out = Reader()
    davit.call("tasks.create", container_id="d", checkpoint=result["image"], stdout=Fd(out.write_fd))
    out.close_write()
    davit.call("tasks.start", container_id="d")
    wait_for(lambda: out.data.count(b"\n") > 2, what="the counter goes on")
    davit.call("tasks.delete", container_id="d", kill=True)
    # the file is written before the number is said, and opening it empties it
    first = int(out.data.split(b"\n")[0])
    assert written in (0, first - 1, first), (written, first)
    nothing_left(davit, ["c", "d"])


def test_a_thousand_processes(davit, rootfs, criu):
    """More processes than a checkpoint has blobs, there and back."""
    script = "i=0; while [ $i -lt 1100 ]; do sleep 100000 & i=$((i+1)); done; echo >/ready; while :; do sleep 1; done"
    davit.launch("c", ["sh", "-c", script], rootfs, linux={"resources": {"pids": {"limit": 3000}}})
    wait_for((rootfs / "ready").exists)
    made = davit.call("tasks.checkpoint", container_id="c", options={"exit": True}, deadline=120)
    assert len(made["descriptors"]) < 100
    assert davit.call("tasks.wait", container_id="c")["exit_status"] == 137
    davit.call("tasks.delete", container_id="c")
    davit.call("tasks.create", container_id="c", checkpoint=made["image"], deadline=120)
    davit.call("tasks.start", container_id="c", deadline=120)
    assert len(davit.call("tasks.list_pids", container_id="c")["processes"]) >= 1101
    davit.remove("c")
