# SPDX-License-Identifier: Apache-2.0
"""What is different on hosts with cgroup v2 alone. tools/vm runs these; elsewhere they are skipped."""

import os
import signal
from pathlib import Path

import pytest

from lib.daemon import LEAF, wait_for
from lib.rpc import RpcError

ROOT = Path("/sys/fs/cgroup")
CGROUP_NAMESPACE = {"namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")]}
SHARED_PID = {"namespaces": [{"type": kind} for kind in ("mount", "ipc", "uts")]}

pytestmark = pytest.mark.usefixtures("cgroup2")


def group_of(pid):
    """The folder of a process's cgroup."""
    line = Path(f"/proc/{pid}/cgroup").read_text()
    assert line.startswith("0::/") and line.count("\n") == 1, line
    return ROOT / line[4:].rstrip("\n")


def launched(davit, rootfs, script="sleep 1000", **more):
    return group_of(davit.launch("c", ["sh", "-c", script], rootfs, **more))


def events(group):
    return dict(line.split() for line in (group / "cgroup.events").read_text().splitlines())


def test_place(davit, rootfs):
    assert davit.info["cgroup"]["layout"] == "v2"
    group = launched(davit, rootfs)
    assert group == Path(f"{ROOT}{davit.cgroup_parent}/default/c")
    enabled = (ROOT / "cgroup.subtree_control").read_text().split()
    assert (group / "cgroup.controllers").read_text().split() == enabled
    assert events(group) == {"populated": "1", "frozen": "0"}
    davit.remove("c")
    assert not group.exists()


def test_resources(davit, rootfs):
    group = launched(davit, rootfs, linux={"resources": {
        "memory": {"limit": 64 << 20, "reservation": 32 << 20, "swap": 96 << 20},
        "cpu": {"shares": 1024, "quota": 50000, "period": 100000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 77},
        "blockIO": {"weight": 100} if (ROOT / "io.weight").exists() else {},
        "unified": {"memory.high": "60000000", "cpu.idle": "0"},
    }})

    def value(name):
        return (group / name).read_text().strip()

    assert value("memory.max") == str(64 << 20)
    assert value("memory.low") == str(32 << 20)
    assert value("memory.high") == str(60000000 // 4096 * 4096)
    if (group / "memory.swap.max").exists():
        assert value("memory.swap.max") == str(32 << 20)
    assert value("cpu.weight") == "100"
    assert value("cpu.max") == "50000 100000"
    assert value("cpuset.cpus") == "0" and value("cpuset.mems") == "0"
    assert value("pids.max") == "77"


@pytest.mark.parametrize("resources, argument", [
    ({"memory": {"kernelTCP": 1 << 20}}, "kernelTCP"),
    ({"memory": {"swappiness": 10}}, "swappiness"),
    ({"cpu": {"realtimeRuntime": 1000}}, "realtimeRuntime"),
    ({"network": {"classID": 1}}, "classID"),
    ({"unified": {"nosuch.file": "1"}}, "nosuch.file"),
    ({"unified": {"../cgroup.procs": "1"}}, "cgroup.procs"),
])
def test_resources_that_v2_lacks(davit, rootfs, resources, argument):
    with pytest.raises(RpcError) as error:
        davit.launch("c", ["true"], rootfs, linux={"resources": resources})
    assert error.value.code in ("failed_precondition", "invalid_argument"), error.value
    assert argument in str(error.value)
    assert not (ROOT / davit.name / "default/c").exists()


def test_freeze(davit, rootfs):
    group = launched(davit, rootfs, "while :; do sleep 0.1; done")
    davit.call("tasks.pause", container_id="c")
    assert events(group)["frozen"] == "1"
    assert davit.status("c")["status"] == "paused"
    davit.call("tasks.resume", container_id="c")
    assert events(group)["frozen"] == "0"
    davit.call("tasks.pause", container_id="c")
    davit.call("tasks.kill", container_id="c", signal="SIGKILL")  # v2 lets a frozen process be killed
    assert davit.call("tasks.wait", container_id="c")["exit_status"] == 137


def test_signal_all_reaches_inner_groups(davit, rootfs):
    group = launched(davit, rootfs, "sleep 1001 & sleep 1002 & wait", linux={**SHARED_PID})
    wait_for(lambda: len((group / "cgroup.procs").read_text().split()) == 3, what="three processes")
    inner = group / "inner"
    inner.mkdir()
    moved = [pid for pid in (group / "cgroup.procs").read_text().split() if int(pid) != davit.status("c")["pid"]]
    for pid in moved:
        (inner / "cgroup.procs").write_text(pid)
    assert sorted(entry["pid"] for entry in davit.call("tasks.list_pids", container_id="c")["processes"]) == sorted(
        [davit.status("c")["pid"], *map(int, moved)])
    davit.call("tasks.kill", container_id="c", signal="SIGKILL", all=True)
    assert davit.call("tasks.wait", container_id="c")["signal"] == signal.SIGKILL
    davit.remove("c")
    assert not group.exists()


def test_exit_waits_for_the_group(davit, rootfs):
    """An init in the host's pid namespace: what it leaves behind ends with it."""
    group = launched(davit, rootfs, "sleep 1000 & exit 3", linux={**SHARED_PID})
    assert davit.call("tasks.wait", container_id="c")["exit_status"] == 3
    wait_for(lambda: not group.exists(), what="the cgroup's removal")


def test_devices(davit, rootfs):
    def rules(*allowed):
        return {"resources": {"devices": [{"allow": False, "access": "rwm"}, *allowed]}}

    script = "head -c1 /dev/zero >/dev/null && echo zero; mknod /tmp/d b 7 0 && cat /tmp/d 2>&1; mknod /tmp/k c 1 2; echo; head -c1 /tmp/k"
    capabilities = {kind: ["CAP_MKNOD"] for kind in ("bounding", "effective", "permitted")}
    _, text = davit.run(["sh", "-c", script], rootfs, linux=rules(), process={"capabilities": capabilities})
    assert "zero" in text  # the default devices stay
    assert text.count("Operation not permitted") == 2, text
    # 1:2 is a device that no kernel has had since 5.13: allowed, its open fails with another error.
    kmem = {"allow": True, "type": "c", "major": 1, "minor": 2, "access": "r"}
    _, text = davit.run(["sh", "-c", "cat /tmp/k; echo >>/tmp/k"], rootfs, linux=rules(kmem))
    assert "cat: can't open '/tmp/k': No such device or address" in text, text
    assert "can't create /tmp/k: Operation not permitted" in text, text


def test_exec_and_its_rules(davit, rootfs):
    """An exec is in the container's group, inside its limits and device rules."""
    group = launched(davit, rootfs, linux={"resources": {
        "pids": {"limit": 5}, "devices": [{"allow": False, "access": "rwm"}]}})
    davit.call("tasks.exec", container_id="c", exec_id="e", spec={"args": ["sleep", "1000"], "cwd": "/"})
    pid = davit.call("tasks.start", container_id="c", exec_id="e")["pid"]
    assert group_of(pid) == group
    _, text = davit.exec("c", ["sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait"])
    assert "can't fork" in text


@pytest.mark.parametrize("kind", ["cgroup", "cgroup2"])
def test_mount_in_a_cgroup_namespace(davit, rootfs, kind):
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/sys/fs/cgroup", "type": kind, "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "ro"]},
    ]
    script = "cat /proc/self/cgroup; cat /sys/fs/cgroup/cgroup.procs; mkdir /sys/fs/cgroup/x; cat /sys/fs/cgroup/pids.max"
    ended, text = davit.run(["sh", "-c", script], rootfs, mounts=mounts, linux={**CGROUP_NAMESPACE, "resources": {"pids": {"limit": 44}}})
    lines = text.splitlines()
    assert lines[0] == "0::/" and "1" in lines and "Read-only" in text and lines[-1] == "44", text
    assert ended["exit_status"] == 0


def test_writable_cgroup_with_inner_groups(davit, rootfs):
    """systemd in a container: it makes groups below its own, and all of them go with the container."""
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup2", "source": "cgroup2", "options": ["rw"]},
    ]
    script = ("cd /sys/fs/cgroup; mkdir init a a/b && echo $$ >init/cgroup.procs && echo +pids >cgroup.subtree_control"
              " && echo ok; exec sleep 1000")
    group = launched(davit, rootfs, script, mounts=mounts, linux={**CGROUP_NAMESPACE}, stdio={"stdout": "log:"})
    wait_for(lambda: (group.parent if group.name == "init" else group).joinpath("cgroup.subtree_control").read_text() == "pids\n",
             what="pids handed down in the container")
    # The container's own group hands controllers down now, so no process can be in it.
    ended, text = davit.exec("c", ["cat", "/proc/self/cgroup"])
    assert ended["exit_status"] == 0 and text.startswith("0::/"), text
    davit.remove("c")
    assert not (ROOT / davit.name / "default/c").exists()


def test_mount_without_a_cgroup_namespace(davit, rootfs):
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]},
    ]
    _, text = davit.run(["sh", "-c", "cat /proc/self/cgroup; cat /sys/fs/cgroup/cgroup.procs"], rootfs, mounts=mounts)
    lines = text.splitlines()
    assert lines[0] == f"0::{davit.cgroup_parent}/default/c1" and "1" in lines[1:], text


def test_oom_in_an_inner_group(davit, rootfs):
    """memory.events counts what happens below, too."""
    limit = {"resources": {"memory": {"limit": 16 << 20, "swap": 16 << 20}}}
    with davit.events(filters=["topic~=/tasks/"]) as stream:
        ended, _ = davit.run(["sh", "-c", "exec tail -c 100000000 /dev/zero"], rootfs, linux=limit)
        assert (ended["exit_reason"], ended["signal"]) == ("oom", signal.SIGKILL)
        stream.next("/tasks/oom")


def test_processes_in_the_parent(make_davit, rootfs, busybox):
    """A process in a group above the container's: no controller can be handed down there, so a limit is refused
    with the reason; without one the container runs."""
    davit = make_davit()
    busy = ROOT / davit.name / "busy"
    busy.mkdir(parents=True)
    child = os.posix_spawn("/bin/sleep", ["sleep", "1000"], {})
    try:
        (busy / "cgroup.procs").write_text(str(child))
        path = f"{davit.cgroup_parent}/busy/c"
        with pytest.raises(RpcError) as error:
            davit.create("c", ["true"], rootfs, linux={"cgroupsPath": path, "resources": {"memory": {"limit": 64 << 20}}})
        assert error.value.code == "failed_precondition" and "processes of its own" in error.value.message, error.value
        assert not (busy / "c").exists()
        ended, _ = davit.run(["true"], rootfs, linux={"cgroupsPath": path})
        assert ended["exit_status"] == 0
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        busy.rmdir()


def test_delegated_group(make_davit, busybox):
    """Started in a group that is marked as delegated (systemd's Delegate=yes): the daemon goes into a leaf, the
    containers beside it, and a daemon that is started there again finds them."""
    davit = make_davit("--cgroup-parent", "/davit", start=False)
    davit.delegated = True
    davit.start()
    service = Path(f"{ROOT}{davit.cgroup_parent}")
    for pid in (davit.info["pid"], davit.info["guardian_pid"]):
        assert group_of(pid) == service / LEAF
    pid = davit.launch("c", ["sleep", "1000"], busybox, root={"path": str(busybox), "readonly": True})
    assert group_of(pid) == service / "davit/default/c"
    assert "memory" in (service / "davit/default/c/cgroup.controllers").read_text()
    davit.kill_reactor()
    assert group_of(davit.info["pid"]) == service / LEAF
    davit.stop()
    davit.start()
    for own in (davit.info["pid"], davit.info["guardian_pid"]):
        assert group_of(own) == service / LEAF
    assert davit.status("c")["pid"] == pid and davit.status("c")["status"] == "running"
    davit.remove("c")
    davit.call("containers.list")
    assert not (service / "davit/default/c").exists()


@pytest.fixture
def limited():
    """A group as of a slice that hands only two controllers down."""
    folder = ROOT / f"davit-test-slice-{os.getpid()}"
    folder.mkdir()
    (folder / "cgroup.subtree_control").write_text("+memory +pids")
    yield folder
    folder.rmdir()


def test_delegated_controllers(limited, make_davit, busybox):
    """What is above a delegated group is not touched, and the group's controllers are all there are."""
    davit = make_davit("--cgroup-parent", "/davit", start=False)
    davit.delegated = True
    davit.cgroup_parent = f"/{limited.name}/davit.service"
    davit.start()
    assert "memory pids" in davit.info["cgroup"]["controllers"] and "cpu" not in davit.info["cgroup"]["controllers"]
    root = {"path": str(busybox), "readonly": True}
    group = group_of(davit.launch("c", ["sleep", "1000"], busybox, root=root, linux={
        "resources": {"memory": {"limit": 64 << 20}, "pids": {"limit": 5}}}))
    assert group == limited / "davit.service/davit/default/c"
    assert (group / "memory.max").read_text() == f"{64 << 20}\n"
    assert (limited / "cgroup.subtree_control").read_text().split() == ["memory", "pids"]
    with pytest.raises(RpcError) as error:
        davit.create("d", ["true"], busybox, root=root, linux={"resources": {"cpu": {"shares": 100}}})
    assert error.value.code == "failed_precondition" and '"cpu"' in error.value.message, error.value
    davit.remove("c")
