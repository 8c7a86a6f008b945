# SPDX-License-Identifier: Apache-2.0
"""Checkpoints and restores with a criu that fails in every way, on order (tests/fake/fake_criu.c).

After each failure the task runs on, the error says why, and nothing is left: no ingest, no lease, no image,
no folder, no process, no fd.
"""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from lib import leaks
from lib.daemon import CHECKOUT, wait_for
from lib.rootfs import spec
from lib.rpc import RpcError

FAKE = Path(os.environ.get("DAVIT_FAKE_CRIU") or CHECKOUT / "zig-out/test/fake_criu")
BROKE_OFF = "criu closed its streams before its images were complete"
SECOND = 10**9
MANY = ["seccomp.img", "files.img 1500", "ids-1.img", "core-1.img", "mm-1.img 900", "mountpoints-12.img", "pstree.img"]  # small files
COUNTS = "i=0; while :; do i=$((i+1)); echo $i >/count.new; mv /count.new /count; sleep 0.02; done"


class Fake:
    """A copy of the fake criu in a folder of its own, where its orders and its trace are too."""

    def __init__(self, folder):
        folder.mkdir()
        self.path = str(shutil.copy(FAKE, folder / "criu"))
        self.conf, self.trace_file = folder / "fake_criu.conf", folder / "fake_criu.trace"
        self.order()

    def order(self, *lines):
        self.conf.write_text("".join(line + "\n" for line in lines))
        self.trace_file.write_text("")

    def trace(self):
        return self.trace_file.read_text().splitlines()

    def args(self):
        return [line[4:] for line in self.trace() if line.startswith("arg ")]


def bare(root):
    """A spec for what the fake criu restores, which has no mounts of its own."""
    return spec(["sleep", "1000"], root, mounts=[], linux={"maskedPaths": [], "readonlyPaths": []})


@pytest.fixture
def fake(make_davit, tmp_path):
    if not FAKE.exists():
        pytest.skip(f"{FAKE} is not built (tools/zig build unit)")
    fake = Fake(tmp_path / "fake")
    fake.davit = make_davit("--criu", fake.path)
    methods = {m["name"] for m in fake.davit.call("rpc.describe")["methods"]}
    if "tasks.checkpoint" not in methods:
        pytest.skip("tasks.checkpoint is not among the methods of this daemon")
    return fake


@pytest.fixture
def davit(fake):
    return fake.davit


@pytest.fixture
def task(davit, rootfs):
    """A running container, c, that counts; its pid."""
    return davit.launch("c", ["sh", "-c", COUNTS], rootfs)


def fd_count(davit):
    """Open fds of the reactor, without the store's readers, of which there are as many as were at it at once."""
    count, folder = 0, f"/proc/{davit.info['pid']}/fd"
    for fd in os.listdir(folder):
        try:
            count += not os.readlink(f"{folder}/{fd}").startswith(f"{davit.root}/meta.db")
        except FileNotFoundError:
            pass  # closed meanwhile
    return count


class Ground:
    """What must be the same again after a failure."""

    def __init__(self, davit, root):
        self.davit, self.count = davit, root / "count"
        davit.call("content.list_statuses")  # whatever is opened at first use
        self.before = self.look()

    def look(self):
        davit = self.davit
        return {
            "ingests": davit.call("content.list_statuses")["statuses"],
            "leases": davit.call("leases.list")["leases"],
            "images": [i["name"] for i in davit.call("images.list")["images"]],
            "folders": sorted(os.listdir(davit.state / "criu")) if (davit.state / "criu").exists() else [],
            "children": self.children(),
        }

    def children(self):
        """Processes of the daemon other than containers: criu, hooks."""
        info = self.davit.info
        pids = leaks.children(info["pid"]) + leaks.children(info["guardian_pid"])
        known = [info["pid"], *(task["pid"] for task in self.davit.call("tasks.list")["tasks"])]
        return sorted(leaks.cmdline(pid) for pid in pids if pid not in known and leaks.process_state(pid) != "Z")

    def check(self, fds=None, id="c"):
        """The task runs on, and nothing is left."""
        wait_for(lambda: self.look() == self.before, what=f"{self.before}, but there is {self.look()}, which")
        if fds is not None:
            wait_for(lambda: fd_count(self.davit) <= fds, what=f"{fds} fds or fewer, of {fd_count(self.davit)},")
        assert self.davit.status(id)["status"] == "running"
        seen = self.count.read_text()
        wait_for(lambda: self.count.read_text() not in ("", seen), what="the task's going on")


@pytest.fixture
def ground(davit, rootfs, task):
    wait_for((rootfs / "count").exists)
    return Ground(davit, rootfs)


def refused(code, call, *args, **params):
    with pytest.raises(RpcError) as error:
        call(*args, **params)
    assert error.value.code == code, (error.value.code, error.value)
    return error.value


def checkpoint(davit, **params):
    return davit.call("tasks.checkpoint", container_id="c", **params)


def settled_fds(davit):
    """Open fds once a checkpoint was made: pools, the namespace for criu."""
    checkpoint(davit, name="first")
    davit.call("images.delete", name="first", sync=True)
    return fd_count(davit)


# ---- all goes well


def test_checkpoint(davit, fake, ground, rootfs):
    with davit.events() as events:
        made = checkpoint(davit, name="one")
        assert events.next("/tasks/checkpointed", container_id="c")["event"]["checkpoint"] == "one"
    assert made["image"] == "one" and made["index"]["digest"].startswith("sha256:")
    stats = made["stats"]
    assert stats["pages"] == 2305 and stats["bytes_in"] > 9 << 20 and 0 < stats["bytes_out"] < stats["bytes_in"]
    assert stats["buffer_peak"] > 0 and stats["total_us"] >= stats["frozen_us"]
    ground.before["images"] = ["one"]
    ground.check()
    args = fake.args()
    assert "--stream" in args and "--leave-running" in args and f"--tree={davit.status('c')['pid']}" in args
    assert any(a.startswith(f"--images-dir={davit.state}/criu/") for a in args)
    # a second one of the same task is another image
    checkpoint(davit, name="two")
    ground.before["images"] = ["one", "two"]
    ground.check()


def test_exit(davit, fake, ground):
    """The task is ended by criu only after all is durable, and ends with 137."""
    waiting = davit.send("tasks.wait", container_id="c")
    made = checkpoint(davit, name="one", options={"exit": True})
    ended = waiting.result()
    assert ended["exit_status"] == 137 and ended["signal"] == 9
    assert "--leave-running" not in fake.args() and "stage post-dump 0" in fake.trace()
    assert davit.call("images.get", name="one")["image"]["target"]["digest"] == made["index"]["digest"]
    davit.remove("c")


def test_folder(davit, fake, ground, tmp_path):
    """image_path: criu writes the files itself, no image is made."""
    folder = tmp_path / "dump"
    made = checkpoint(davit, options={"image_path": str(folder)})
    assert made["index"] == {} and made["descriptors"] == [] and made["image"] == ""
    assert {"inventory.img", "pages-1.img", "core-1.img"} <= set(os.listdir(folder))
    assert "--stream" not in fake.args()
    ground.check()
    # what is in it would be taken for images of the next
    fake.order()
    error = refused("already_exists", checkpoint, davit, options={"image_path": str(folder), "exit": True})
    assert "is not empty" in error.message and fake.trace() == []
    ground.check()


def test_name_that_cannot_be_had(davit, fake, ground):
    """It is told before criu is started."""
    checkpoint(davit, name="one")
    ground.before["images"] = ["one"]
    for name, code in [("one", "already_exists"), ("", "invalid_argument"), ("a\nb", "invalid_argument")]:
        fake.order()
        refused(code, checkpoint, davit, name=name)
        assert fake.trace() == []
    ground.check()


def test_folder_and_exit(davit, fake, ground, tmp_path):
    """The record is there before criu ends the task."""
    folder = tmp_path / "dump"
    fake.order("fault hang_end")
    checkpoint(davit, options={"image_path": str(folder), "exit": True, "stall_timeout": SECOND // 2})
    assert {"inventory.img", "davit-checkpoint.json"} <= set(os.listdir(folder))
    assert davit.call("tasks.wait", container_id="c")["exit_status"] == 137
    assert "stage post-dump 0" in fake.trace()
    davit.remove("c")


@pytest.mark.parametrize("exit", [False, True])
def test_folder_cannot_be_written(davit, fake, ground, tmp_path, exit):
    """There is room for criu's files and for no record: the task runs on, and what there is goes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={2 * 4096}", "tmpfs", disk], check=True)
    try:
        error = dump_fails(davit, fake, ground, "resource_exhausted", "image core-1.img", "image inventory.img",
                           options={"image_path": str(disk / "dump"), "exit": exit})
        assert "davit-checkpoint.json" in error.message, error
        assert os.listdir(disk) == []
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("fault", ["stall_pipe pages-1.img 5000000", "hang_end"])
def test_folder_stalls(davit, fake, ground, tmp_path, fault):
    """Nobody reads from criu, but it is watched over all the same, and killed: nothing else reaches it."""
    error = dump_fails(davit, fake, ground, "deadline_exceeded", "fault " + fault,
                       options={"image_path": str(tmp_path / "dump"), "stall_timeout": SECOND // 2})
    assert "criu has made no progress for 500 ms" in error.message, error
    assert not (tmp_path / "dump").exists()


def test_work_folder(davit, fake, ground, tmp_path):
    """The statistics in it are of the dump before: criu writes its own when it has ended the task."""
    options = {"work_path": str(tmp_path)}
    assert checkpoint(davit, name="one", options=options)["stats"]["pages"] == 2305
    assert (tmp_path / "stats-dump").exists()
    fake.order(*("image " + line for line in [*MANY, "pages-1.img 8192", "inventory.img"]))
    made = checkpoint(davit, name="two", options={**options, "exit": True})
    assert made["stats"]["pages"] == 2 and made["stats"]["frozen_us"] <= made["stats"]["total_us"]
    davit.call("tasks.wait", container_id="c")
    davit.remove("c")


@pytest.fixture
def frozen_disk(tmp_path):
    """A file system for the store that can be made to hang: a folder, freeze, thaw."""
    image, folder = tmp_path / "disk.img", tmp_path / "disk"
    folder.mkdir()
    with open(image, "wb") as f:
        f.truncate(64 << 20)
    if not shutil.which("mkfs.ext4") or not shutil.which("fsfreeze"):
        pytest.skip("mkfs.ext4 and fsfreeze are needed")
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    if subprocess.run(["mount", "-o", "loop", image, folder], capture_output=True).returncode:
        pytest.skip("there are no loop devices")
    state = {"frozen": False}

    def freeze(on):
        if on != state["frozen"]:
            subprocess.run(["fsfreeze", "-f" if on else "-u", folder], check=True)
        state["frozen"] = on
    yield folder, freeze
    freeze(False)
    subprocess.run(["umount", "-l", folder], check=True)


def test_store_hangs(frozen_disk, fake, make_davit, rootfs):
    """With exit criu is held until all is durable: not for ever, when the disk does not answer."""
    folder, freeze = frozen_disk
    davit = make_davit("--criu", fake.path, start=False)
    davit.root = folder / "root"
    davit.start()
    davit.launch("c", ["sh", "-c", COUNTS], rootfs)
    wait_for((rootfs / "count").exists)
    ground = Ground(davit, rootfs)
    # nothing is written to the store before all is read
    fake.order("slow_us 100000", *("image " + line for line in [*MANY, "inventory.img"]))
    pending = davit.send("tasks.checkpoint", container_id="c", options={"exit": True, "stall_timeout": SECOND})
    wait_for(lambda: any(line.startswith("frozen") for line in fake.trace()))
    freeze(True)
    wait_for(lambda: "stage post-dump 1" in fake.trace(), what="the hook's end")
    seen = ground.count.read_text()
    wait_for(lambda: ground.count.read_text() not in ("", seen), what="the task's going on")
    freeze(False)
    error = refused("deadline_exceeded", pending.result)
    assert "being written, but there was no progress" in error.message
    ground.check()


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_restore(davit, fake, ground, rootfs, compression):
    made = checkpoint(davit, name="one", options={"compression": compression})
    fake.order()
    davit.call("containers.create", id="r", spec=bare(rootfs))
    pid = davit.call("tasks.create", container_id="r", checkpoint=made["index"])["pid"]
    assert "read all" in fake.trace() and f"task {pid}" in fake.trace()
    assert davit.status("r")["status"] == "created" and davit.status("r")["pid"] == pid
    assert "stage post-restore 0" not in fake.trace()  # held
    davit.call("tasks.start", container_id="r")
    assert davit.status("r")["status"] == "running"
    assert "stage post-restore 0" in fake.trace()
    davit.call("tasks.kill", container_id="r", signal="TERM")
    assert davit.call("tasks.wait", container_id="r")["exit_status"] == 0
    davit.remove("r")
    ground.before["images"] = ["one"]
    ground.check()


# ---- dumps that fail


def dump_fails(davit, fake, ground, code, *orders, fds=None, **params):
    fake.order(*orders)
    error = refused(code, checkpoint, davit, **params)
    ground.check(fds)
    return error


def works_again(davit, fake, ground):
    fake.order()
    checkpoint(davit, name="after")
    ground.before["images"] = [*ground.before["images"], "after"]
    ground.check()


BROKEN = [
    ("long_frame", "impossible length"), ("zero_frame", "impossible length"), ("long_name", "impossible length"),
    ("wrong_length", "without a proper file name"), ("no_name", "without a proper file name"),
    ("bad_name", "without a proper file name"), ("no_fd", "no pipe where one should come"), ("two_fds", "several fds"),
    ("file_fd", "for pages-1.img that is no pipe"), ("socket_fd", "for pages-1.img that is no pipe"),
    ("wrong_end", "the wrong end of its pipe for pages-1.img"),
]


@pytest.mark.parametrize("exit", [False, True])
def test_dump_breaks_the_protocol(davit, fake, ground, exit):
    """What criu did wrong, with what it says of it."""
    fds = settled_fds(davit)
    for fault, words in [*BROKEN, ("twice pages-1.img", "writes the file pages-1.img twice")]:
        error = dump_fails(davit, fake, ground, "failed_precondition", "fault " + fault, "log My own words",
                           fds=fds, options={"exit": exit})
        assert words in error.message, (fault, error)
        # twice: it may have ended well by then
        assert "My own words" in error.details.get("log", []) or fault.startswith("twice"), (fault, error)
    works_again(davit, fake, ground)


def test_dump_asks_for_too_many_files(davit, fake, ground):
    error = dump_fails(davit, fake, ground, "resource_exhausted", "fault many core-1.img 70000")
    assert "65536 image files" in error.message
    works_again(davit, fake, ground)


def test_many_processes(davit, fake, ground, rootfs):
    """More pages files than a checkpoint has blobs: the small ones of them are in the layer of small files."""
    sizes = {f"pages-{n}.img": (2 << 20) + 4096 if n % 500 == 0 else 4096 * (n % 4 + 1) for n in range(1, 1201)}
    orders = [*MANY, *(f"{name} {size}" for name, size in sizes.items()), "inventory.img"]
    fake.order(*("image " + line for line in orders))
    made = checkpoint(davit, name="one")
    assert made["stats"]["pages"] == sum(sizes.values()) // 4096
    files = [d["annotations"].get("org.davit.checkpoint.file") for d in made["descriptors"] if d.get("annotations")]
    assert sorted(filter(None, files)) == sorted([f"pages-{n}.img" for n in range(1, 65)] + ["pages-500.img", "pages-1000.img"])
    davit.call("containers.create", id="r", spec=bare(rootfs))
    davit.call("tasks.create", container_id="r", checkpoint="one")
    assert "read all" in fake.trace()  # and every byte compared
    davit.call("tasks.start", container_id="r")
    davit.remove("r")
    ground.before["images"] = ["one"]
    ground.check()


def test_too_many_large_files(davit, fake, ground):
    orders = [*MANY, *(f"pages-{n}.img {(1 << 20) + 4096}" for n in range(1, 1101)), "inventory.img"]
    error = dump_fails(davit, fake, ground, "resource_exhausted", *("image " + line for line in orders))
    assert "more than 998 files" in error.message
    works_again(davit, fake, ground)


CROWD = """
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(void)
{
	memset(malloc(3 << 20), 1, 3 << 20);
	for (int i = 0; i < 1010; i++)
		if (!fork())
			break;
	for (;;)
		pause();
}
"""


def test_too_many_is_told_before(davit, fake, rootfs, tmp_path):
    """What can be seen from outside is refused before anything is frozen."""
    (tmp_path / "crowd.c").write_text(CROWD)
    subprocess.run(["gcc", "-O0", "-static", "-o", rootfs / "crowd", tmp_path / "crowd.c"], check=True)
    davit.launch("c", ["/crowd"], rootfs)
    wait_for(lambda: len(davit.call("tasks.list_pids", container_id="c")["processes"]) == 1011)
    error = refused("resource_exhausted", checkpoint, davit)
    assert "1011 processes" in error.message, error
    assert fake.trace() == []
    davit.remove("c")


@pytest.mark.parametrize("exit", [False, True])
def test_dump_breaks_off(davit, fake, ground, exit):
    """criu ends by itself: its log says why, else its exit status."""
    fds = settled_fds(davit)
    for orders, words in [
        (["fault short_length"], "criu ended with 1 and gave no reason"),
        (["fault short_body", "log Disk of clay"], "criu says: Disk of clay"),
        (["fault close_early pages-1.img 3000000", "exit 3"], "criu ended with 3 and gave no reason"),
        (["fault close_early files.img 700", "log Disk of clay"], "criu says: Disk of clay"),
        (["fault killed pages-1.img 3000000"], "criu was ended by signal 9"),
        (["fault never_connects"], "criu ended with 1 and gave no reason"),
        (["fault never_connects", "exit 0"], BROKE_OFF),
        (["fault fail_after", "log Too late"], "criu says: Too late"),
    ]:
        error = dump_fails(davit, fake, ground, "unknown", *orders, fds=fds, options={"exit": exit})
        assert words in error.message, (orders, error)
    works_again(davit, fake, ground)


def test_dump_without_inventory(davit, fake, ground):
    error = dump_fails(davit, fake, ground, "unknown", "fault no_inventory")
    assert BROKE_OFF in error.message
    # held at its hook, it does not break off
    error = dump_fails(davit, fake, ground, "deadline_exceeded", "fault no_inventory", options={"exit": True, "stall_timeout": SECOND // 2})
    assert "no progress" in error.message
    works_again(davit, fake, ground)


@pytest.mark.parametrize("fault", ["stall_request", "stall_fd", "stall_pipe pages-1.img 5000000", "stall_pipe files.img 100"])
def test_dump_stalls(davit, fake, ground, fault):
    began = time.monotonic()
    error = dump_fails(davit, fake, ground, "deadline_exceeded", "fault " + fault, options={"stall_timeout": SECOND // 2})
    assert "criu has made no progress for 500 ms" in error.message
    assert "stalls" in fake.trace() and 0.4 < time.monotonic() - began
    works_again(davit, fake, ground)


@pytest.mark.parametrize("fault", ["stall_connect", "hang_pipe", "hang_end"])
def test_criu_hangs(davit, fake, ground, fault):
    """One that does not see that its streams are closed is killed in the end."""
    error = dump_fails(davit, fake, ground, "deadline_exceeded", "fault " + fault, "ignore_term", options={"stall_timeout": SECOND // 2})
    assert "no progress" in error.message or "does not end" in error.message, error
    assert "is killed" in davit.log_text()
    works_again(davit, fake, ground)


def test_reasons(davit, fake, ground):
    """Lines of a real criu's log, and what a user is told."""
    for line, words in [
        ("Can't dump file 3 of that type [100600] (/anon_inode:[io_uring])", "uses io_uring"),
        ("Connected TCP socket, consider using --tcp-established option.", "open_tcp"),
        ("External socket is used. Consider using --ext-unix-sk option.", "external_unix_sockets"),
        ("Some file locks are hold by dumping tasks! You can try --file-locks to dump them.", "file_locks"),
        ("Can't create link remap for /x. Use --link-remap option.", "link_remap"),
        ("Found dangling tty with sid 1 pgid 1 (ctty) on peer fd 0.", "terminal"),
        ("53:./data doesn't have a proper root mount", "external_mounts"),
        ("Can't lookup mount=27 for fd=1 path=/x", "outside of the container's mounts"),
        ("execvp(\"iptables-restore\", ...) failed: No such file or directory", "install iptables"),
        ("Can't write page: No space left on device", "a disk is full"),
        ("Unexpected rt vDSO area bounds", "criu 4.1 or newer is needed"),
    ]:
        error = dump_fails(davit, fake, ground, "failed_precondition", "fault fail", "log " + line, "log then it unwinds")
        assert words in error.message and line in error.message, error
        assert error.details["log"] == [line, "then it unwinds"]
    error = dump_fails(davit, fake, ground, "unknown", "fault fail", "log Something new")
    assert error.message.endswith("the checkpoint failed: criu says: Something new")


def test_log_of_garbage(davit, fake, ground):
    """Bytes of all values, and more than anybody reads."""
    error = dump_fails(davit, fake, ground, "unknown", "fault fail", "log_garbage", "log \x1b[31mred\x07")
    assert "red" in error.message and not any(ord(c) < 32 for c in error.message), error
    assert not any(ord(c) < 32 for line in error.details["log"] for c in line), error
    error = dump_fails(davit, fake, ground, "unknown", "fault fail", "log_bytes 20000000", "log The last word")
    assert "criu says: The last word" in error.message, error
    error = dump_fails(davit, fake, ground, "unknown", "fault fail", "log " + "x" * 900)
    assert "criu says: xxx" in error.message


def test_hook_fails(davit, fake, ground):
    """All is durable, but criu takes its word back: so does davit."""
    error = dump_fails(davit, fake, ground, "unknown", "fault hook_fails post-dump", options={"exit": True})
    assert "Script" in error.message and "exited with" in error.message
    assert "end 255" in fake.trace()
    works_again(davit, fake, ground)


def ends_all_the_same(davit):
    """The task has ended and its checkpoint is there: neither without the other."""
    ended = davit.send("tasks.wait", container_id="c").result(20)
    assert ended["exit_status"] == 137
    assert [i["name"] for i in davit.call("images.list")["images"]] == ["one"]
    wait_for(lambda: not os.listdir(davit.state / "criu"), what="the end of criu's folder")
    davit.remove("c")
    assert davit.call("leases.list")["leases"] == [] and davit.call("content.list_statuses")["statuses"] == []


@pytest.mark.parametrize("fault, how", [("hang_after", "cancel"), ("hang_after", "gone"), ("hang_end", "deadline"), ("hang_end", "stall")])
def test_no_way_back(davit, fake, ground, fault, how):
    """Once criu was told to end the task, the checkpoint stands, whoever goes and however criu hangs."""
    fake.order("fault " + fault)
    client = davit.client()
    options = {"exit": True, "stall_timeout": (1 if how == "stall" else 4) * SECOND // 2}
    pending = client.send("tasks.checkpoint", container_id="c", name="one", options=options,
                          **({"timeout": SECOND} if how == "deadline" else {}))
    wait_for(lambda: "hangs" in fake.trace())
    if how == "cancel":
        client.call("rpc.cancel", msgid=pending.msgid)
        refused("cancelled", pending.result)
    elif how == "gone":
        client.close()
    elif how == "deadline":
        refused("deadline_exceeded", pending.result)
    else:
        assert pending.result(20)["image"] == "one"
    ends_all_the_same(davit)
    client.close()


@pytest.mark.parametrize("fault", ["hang_end", "hang_after"])
def test_no_way_back_at_shutdown(davit, fake, ground, fault):
    fake.order("fault " + fault)
    davit.send("tasks.checkpoint", container_id="c", name="one", options={"exit": True})
    wait_for(lambda: "hangs" in fake.trace())
    with davit.client() as other:
        other.send("server.shutdown", kill=True).result(15)
    assert not leaks.wait_gone(davit.pids(), 15)
    davit.start()
    assert [i["name"] for i in davit.call("images.list")["images"]] == ["one"]


def test_killed_at_the_end(davit, fake, ground):
    """What criu did not live to do is done for it: it may have been at it."""
    fake.order("fault killed_end")
    assert checkpoint(davit, name="one", options={"exit": True})["image"] == "one"
    ends_all_the_same(davit)


def test_no_criu(davit, fake, ground):
    os.unlink(fake.path)
    error = refused("failed_precondition", checkpoint, davit)
    assert fake.path in error.message
    Path(fake.path).write_text("no program")
    Path(fake.path).chmod(0o755)
    error = refused("failed_precondition", checkpoint, davit)
    assert fake.path in error.message
    ground.check()


def test_checkpoint_is_cancelled(davit, fake, ground):
    """By its client's word, its end, and its deadline."""
    fds = settled_fds(davit)

    def begin(client):
        fake.order("fault stall_pipe pages-1.img 5000000")
        pending = client.send("tasks.checkpoint", container_id="c")
        wait_for(lambda: "stalls" in fake.trace())
        return pending

    pending = begin(davit.rpc)
    assert davit.call("rpc.cancel", msgid=pending.msgid)["cancelled"]
    assert refused("cancelled", pending.result)
    ground.check(fds)
    other = davit.client()
    begin(other)
    other.close()
    ground.check(fds)
    fake.order("fault stall_pipe pages-1.img 5000000")
    refused("deadline_exceeded", checkpoint, davit, timeout=SECOND)
    ground.check(fds)
    works_again(davit, fake, ground)


def test_checkpoint_is_cancelled_at_once(davit, fake, ground):
    """Before criu was even looked for."""
    for _ in range(30):
        pending = davit.send("tasks.checkpoint", container_id="c")
        davit.call("rpc.cancel", msgid=pending.msgid)
        try:
            davit.call("images.delete", name=pending.result()["image"])
        except RpcError as error:
            # failed_precondition: the one before is being cleared away
            assert error.code in ("cancelled", "failed_precondition"), error
    ground.before["folders"] = []
    ground.check()


def test_meanwhile(davit, fake, ground):
    """While criu is at it the task is not changed, and still answers."""
    fake.order("fault stall_pipe pages-1.img 5000000")
    pending = davit.send("tasks.checkpoint", container_id="c", options={"stall_timeout": 5 * SECOND})
    wait_for(lambda: "stalls" in fake.trace())
    for method, params in [
        ("tasks.checkpoint", {}), ("tasks.pause", {}), ("tasks.resume", {}),
        ("tasks.exec", {"exec_id": "e", "spec": {"args": ["true"], "cwd": "/", "user": {"uid": 0, "gid": 0}}}),
    ]:
        refused("failed_precondition", davit.call, method, container_id="c", **params)
    assert davit.status("c")["status"] == "running"
    assert davit.call("tasks.list")["tasks"][0]["container_id"] == "c"
    refused("deadline_exceeded", pending.result)
    ground.check()


def test_task_ends_meanwhile(davit, fake, ground):
    """It is killed while criu has it in its hands: the checkpoint may fail, the end is told."""
    fake.order("fault stall_pipe pages-1.img 5000000")
    pending = davit.send("tasks.checkpoint", container_id="c", options={"stall_timeout": 2 * SECOND})
    wait_for(lambda: "stalls" in fake.trace())
    waiting = davit.send("tasks.wait", container_id="c")
    davit.call("tasks.kill", container_id="c", signal="KILL", all=True)
    with pytest.raises(RpcError):
        pending.result()
    assert waiting.result()["exit_status"] == 137
    wait_for(lambda: not os.listdir(davit.state / "criu"))
    davit.remove("c")
    assert davit.call("leases.list")["leases"] == [] and davit.call("content.list_statuses")["statuses"] == []


def test_paused_task(davit, fake, ground):
    """A paused task is paused behind a checkpoint too, a failed one or not."""
    davit.call("tasks.pause", container_id="c")
    for orders, code in [([], None), (["fault close_early pages-1.img 3000000"], "unknown")]:
        fake.order(*orders)
        if code:
            refused(code, checkpoint, davit)
        else:
            checkpoint(davit, name="one")
        assert any(a.startswith("--freeze-cgroup=") for a in fake.args())
        assert davit.status("c")["status"] == "paused"
        seen = ground.count.read_text()
        time.sleep(0.2)
        assert ground.count.read_text() == seen
    davit.call("tasks.resume", container_id="c")
    ground.before["images"] = ["one"]
    ground.check()


def test_reactor_dies_meanwhile(davit, fake, ground):
    """criu loses its peer, so the task runs on; the next reactor clears up."""
    fake.order("fault stall_pipe pages-1.img 5000000")
    davit.send("tasks.checkpoint", container_id="c", options={"stall_timeout": 60 * SECOND})
    wait_for(lambda: "stalls" in fake.trace())
    davit.kill_reactor()
    wait_for(lambda: "end 1" in fake.trace())
    ground.check()
    works_again(davit, fake, ground)


def test_shutdown_meanwhile(davit, fake, ground):
    """The end of the daemon does not wait for criu."""
    fake.order("fault stall_pipe pages-1.img 5000000")
    davit.send("tasks.checkpoint", container_id="c", options={"stall_timeout": 60 * SECOND})
    wait_for(lambda: "stalls" in fake.trace())
    with davit.client() as other:
        other.send("server.shutdown", kill=True).result(15)
    assert not leaks.wait_gone(davit.pids(), 10)
    assert "end 1" in fake.trace()


# ---- restores that fail


@pytest.fixture
def image(davit, fake, ground, rootfs):
    """A checkpoint, and a container r for it."""
    made = checkpoint(davit, name="one")
    davit.call("containers.create", id="r", spec=bare(rootfs))
    ground.before["images"] = ["one"]
    ground.check()
    return made["index"]


def restore(davit, **params):
    return davit.call("tasks.create", container_id="r", checkpoint="one", **params)


def nothing_restored(davit, ground, fake, fds=None):
    ground.check(fds)
    with pytest.raises(RpcError) as error:
        davit.status("r")
    assert error.value.code == "not_found"
    assert not [folder for folder in leaks.cgroup_dirs(davit.cgroup_parent) if folder.endswith("/r")]
    pids = [int(line.split()[1]) for line in fake.trace() if line.startswith("task ")]
    assert not leaks.wait_gone(pids, 5)


def restore_fails(davit, fake, ground, code, *orders, fds=None, **params):
    fake.order(*orders)
    error = refused(code, restore, davit, **params)
    nothing_restored(davit, ground, fake, fds)
    return error


def restores_again(davit, fake, ground):
    fake.order("child exit 7")
    restore(davit)
    davit.call("tasks.start", container_id="r")
    assert davit.call("tasks.wait", container_id="r")["exit_status"] == 7
    davit.call("tasks.delete", container_id="r")
    nothing_restored(davit, ground, fake)


def test_restore_breaks_the_protocol(davit, fake, ground, image):
    restores_again(davit, fake, ground)
    fds = fd_count(davit)
    for fault, words in BROKEN:
        error = restore_fails(davit, fake, ground, "failed_precondition", "fault " + fault, "log My own words", fds=fds)
        assert words in error.message, (fault, error)
        assert "My own words" in error.details.get("log", []), (fault, error)
    restores_again(davit, fake, ground)


def test_restore_fails(davit, fake, ground, image):
    restores_again(davit, fake, ground)
    fds = fd_count(davit)
    for orders, code, words in [
        (["fault short_length"], "unknown", "criu ended with 1 and gave no reason"),
        (["fault short_body", "log Disk of clay"], "unknown", "criu says: Disk of clay"),
        (["fault close_early pages-1.img 3000000", "exit 3"], "unknown", "criu ended with 3 and gave no reason"),
        (["fault killed pages-1.img 3000000"], "unknown", "criu was ended by signal 9"),
        (["fault never_connects"], "unknown", "criu ended with 1 and gave no reason"),
        (["fault never_connects", "exit 0"], "unknown", "criu ended before its processes were released"),
        (["fault hook_fails setup-namespaces"], "unknown", "Script"),
        (["fault close_early core-1.img 3", "log File /bin/sh has bad size 1 (expect 2)"], "failed_precondition", "was changed since"),
        (["fault close_early core-1.img 3", "log Pid 1 do not match expected 2"], "failed_precondition", "process id"),
        (["fault close_early core-1.img 3", "log inet: Can't bind inet socket (id 1): Address already in use"], "failed_precondition", "in use"),
        (["image tty-info.img 20"], "failed_precondition", "An image is missing"),
    ]:
        error = restore_fails(davit, fake, ground, code, *orders, fds=fds)
        assert words in error.message, (orders, error)
    restores_again(davit, fake, ground)


def test_restore_reads_as_it_likes(davit, fake, ground, image):
    """Early ends, files twice, files last of all, slowly: that is no error."""
    for order in ["fault early_close pages-1.img 100000", "fault early_close core-1.img 10", "fault ask_twice", "fault unread",
                  "fault at_once", "fault two_connections", "fault many pages-1.img 200", "slow_us 200", "fault no_pidfile"]:
        fake.order(order)
        restore(davit)
        assert "read all" in fake.trace()
        davit.call("tasks.start", container_id="r")
        davit.call("tasks.delete", container_id="r", kill=True)
        nothing_restored(davit, ground, fake)


def test_restored_task_dies(davit, fake, ground, image):
    """In criu's hands, before anybody could start it."""
    fake.order("child dies")
    error = refused("unknown", restore, davit)
    assert "has ended before it could be started" in error.message, error
    nothing_restored(davit, ground, fake)
    restores_again(davit, fake, ground)


def test_held_task_dies(davit, fake, ground, image):
    """Restored and created, but not started."""
    os.kill(restore(davit)["pid"], signal.SIGKILL)
    davit.call("tasks.wait", container_id="r")
    with pytest.raises(RpcError):
        davit.call("tasks.start", container_id="r")
    davit.call("tasks.delete", container_id="r")
    nothing_restored(davit, ground, fake)
    restores_again(davit, fake, ground)


def test_restore_fails_late(davit, fake, ground, image):
    """criu fails when it was let go: start says so, and the task is stopped."""
    fake.order("fault fail_late", "log A last straw")
    restore(davit)
    error = refused("unknown", davit.call, "tasks.start", container_id="r")
    assert "A last straw" in error.message
    assert davit.status("r")["status"] == "stopped"
    davit.call("tasks.delete", container_id="r")
    nothing_restored(davit, ground, fake)
    restores_again(davit, fake, ground)


def test_created_is_deleted(davit, fake, ground, image):
    """A restored task that was never started: criu undoes it."""
    restore(davit)
    davit.call("tasks.delete", container_id="r")
    nothing_restored(davit, ground, fake)
    restore(davit)
    davit.call("tasks.kill", container_id="r", signal="KILL")
    davit.call("tasks.wait", container_id="r")
    davit.call("tasks.delete", container_id="r")
    nothing_restored(davit, ground, fake)
    restores_again(davit, fake, ground)


def test_shutdown_while_restored(davit, fake, ground, image):
    fake.order("fault stall_pipe pages-1.img 100000")
    davit.send("tasks.create", container_id="r", checkpoint="one")
    wait_for(lambda: "stalls" in fake.trace())
    with davit.client() as other:
        other.send("server.shutdown", kill=True).result(15)
    assert not leaks.wait_gone(davit.pids(), 10)
    assert "end 1" in fake.trace()


@pytest.mark.parametrize("fault", ["stall_request", "stall_pipe pages-1.img 100000", "stall_connect"])
def test_restore_stalls(davit, fake, ground, image, fault):
    """Its client's deadline ends it, or its client."""
    error = restore_fails(davit, fake, ground, "deadline_exceeded", "fault " + fault, timeout=SECOND)
    assert error.message
    restores_again(davit, fake, ground)


@pytest.mark.parametrize("fault", ["stall_request", "stall_pipe pages-1.img 100000", "stall_connect"])
def test_restore_stalls_without_a_deadline(davit, fake, ground, image, fault):
    """Nobody set one: the daemon sees that criu stands still, and gives up."""
    error = restore_fails(davit, fake, ground, "deadline_exceeded", "fault " + fault, options={"stall_timeout": SECOND // 2})
    assert "stands still: no progress for 500 ms" in error.message
    restores_again(davit, fake, ground)


def test_slow_restore_is_no_stall(davit, fake, ground, image):
    fake.order("slow_us 3000")
    restore(davit, options={"stall_timeout": SECOND // 4})
    davit.call("tasks.delete", container_id="r")
    nothing_restored(davit, ground, fake)


def test_start_of_a_restored_one_stalls(davit, fake, ground, image):
    """criu does not let it go: start says so, and the task ends."""
    fake.order("fault hang_late")
    restore(davit, options={"stall_timeout": SECOND // 2})
    error = refused("deadline_exceeded", davit.call, "tasks.start", container_id="r")
    assert "does not let the restored processes go" in error.message
    assert davit.status("r")["status"] == "stopped"
    davit.call("tasks.delete", container_id="r")
    nothing_restored(davit, ground, fake)
    restores_again(davit, fake, ground)


def test_damaged_blob(davit, fake, ground, image):
    """Found while it is served; nothing runs of it."""
    blobs = sorted((davit.root / "content/blobs/sha256").iterdir(), key=lambda blob: blob.stat().st_size)
    with open(blobs[-1], "r+b") as blob:
        blob.seek(1000000)
        blob.write(b"damaged")
    error = restore_fails(davit, fake, ground, "failed_precondition")
    assert blobs[-1].name in error.message and "damaged" in error.message, error


def test_reactor_dies_while_restored(davit, fake, ground, image):
    """What criu holds is undone when nobody can let it go any more."""
    restore(davit)
    davit.kill_reactor()
    wait_for(lambda: any(line.startswith("end ") for line in fake.trace()))
    ground.check()
    try:
        davit.call("tasks.delete", container_id="r", kill=True)
    except RpcError as error:
        assert error.code == "not_found"
    nothing_restored(davit, ground, fake)
    restores_again(davit, fake, ground)
