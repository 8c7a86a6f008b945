# SPDX-License-Identifier: Apache-2.0
"""Restores into containers with limits that are tighter than what criu needs, and into cgroups with groups below."""

from pathlib import Path

import pytest

from lib.checkpoints import COUNT, nothing_left
from lib.daemon import wait_for
from lib.rootfs import spec
from lib.rpc import RpcError


def limits(pid):
    """(pids, bytes of memory) that the process's cgroups allow."""
    def read(controller, v1, v2):
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if number == "0" and (Path("/sys/fs/cgroup") / path.lstrip("/") / v2).exists():
                return (Path("/sys/fs/cgroup") / path.lstrip("/") / v2).read_text().strip()
            if controller in controllers.split(","):
                return (Path("/sys/fs/cgroup") / controller / path.lstrip("/") / v1).read_text().strip()
        return None
    return read("pids", "pids.max", "pids.max"), read("memory", "memory.limit_in_bytes", "memory.max")


def again(davit, image):
    davit.call("tasks.delete", container_id="c", kill=True)
    davit.call("tasks.create", container_id="c", checkpoint=image)
    return davit.call("tasks.start", container_id="c")["pid"]


@pytest.mark.parametrize("resources", [{"pids": {"limit": 2}}, {"memory": {"limit": 3 << 20}}, {"pids": {"limit": 2}, "memory": {"limit": 3 << 20, "swap": -1}}])
def test_tight_limits(davit, rootfs, criu, resources):
    """criu, which needs more of both, works in the same cgroup; the limits hold when the task has started."""
    args = ["sh", "-c", "echo kept > /scratch/file; " + COUNT[2]]
    mounts = [*spec([], rootfs)["mounts"], {"destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["size=64k"]}]
    pid = davit.launch("c", args, rootfs, mounts=mounts, linux={"resources": resources})
    wanted = limits(pid)
    assert wanted[0] == "2" if "pids" in resources else wanted[1] == str(3 << 20)
    wait_for(lambda: (rootfs / "tmp/count").exists(), what="the count")
    for _ in range(2):
        image = davit.call("tasks.checkpoint", container_id="c", options={"exit": True})["image"]
        count = int((rootfs / "tmp/count").read_text() or 0)
        pid = again(davit, image)
        assert limits(pid) == wanted
        wait_for(lambda: int((rootfs / "tmp/count").read_text() or 0) > count, what="the count goes on")
        assert Path(f"/proc/{pid}/root/scratch/file").read_text() == "kept\n"
    davit.call("tasks.delete", container_id="c", kill=True)
    nothing_left(davit, ["c"])


@pytest.mark.parametrize("size,limit,code,word", [("96", 16, "resource_exhausted", "memory limit"), ("40", 16, "failed_precondition", "limits")])
def test_what_does_not_fit(davit, zoo, size, limit, code, word):
    """More memory in the checkpoint than the live container may have: refused in words, and nobody goes on running."""
    made = zoo("big", id="big", process={"env": [f"BIG={size}"]})
    image = made.away(level=-5)["image"]
    davit.call("containers.create", id="c", spec=spec(["/zoo"], made.root, linux={"resources": {"memory": {"limit": limit << 20}}}))
    with pytest.raises(RpcError) as error:
        davit.call("tasks.create", container_id="c", checkpoint=image)
        davit.call("tasks.start", container_id="c")
    assert error.value.code == code and word in error.value.message, error.value
    if size == "40":  # it was created, and has been killed
        assert davit.call("tasks.wait", container_id="c")["exit_status"] == 137
        davit.call("tasks.delete", container_id="c")
    nothing_left(davit, ["c"])
