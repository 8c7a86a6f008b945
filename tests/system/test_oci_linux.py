# SPDX-License-Identifier: Apache-2.0
"""The rest of the OCI spec's `linux`: devices, cgroups and resources, sysctls, network devices, personality, memory policy, labels."""

import os
import subprocess
from pathlib import Path

import pytest

from lib.daemon import wait_for
from lib.leaks import cgroup_mounts
from lib.rootfs import CAPABILITIES, spec
from lib.rpc import RpcError

CPUS = sorted(os.sched_getaffinity(0))


def refused(code, call, *args, **params):
    with pytest.raises(RpcError) as error:
        call(*args, **params)
    assert error.value.code == code, error.value
    return error.value


def shell(davit, rootfs, script, **more):
    ended, text = davit.run(["sh", "-c", script], rootfs, **more)
    assert ended["exit_status"] == 0, (ended, text)
    return text


# devices


def test_default_devices(davit, rootfs):
    script = ("for d in null zero full random urandom tty; do stat -c '%n %F %t:%T %a %u:%g' /dev/$d; done; for l in fd stdin stdout stderr ptmx; do "
              "readlink /dev/$l; done; echo x >/dev/full; head -c3 /dev/zero | wc -c")
    lines = shell(davit, rootfs, script).splitlines()
    numbers = {"null": "1:3", "zero": "1:5", "full": "1:7", "random": "1:8", "urandom": "1:9", "tty": "5:0"}
    assert lines[:6] == [f"/dev/{name} character special file {n} 666 0:0" for name, n in numbers.items()]
    assert lines[6:11] == ["/proc/self/fd", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2", "pts/ptmx"]
    assert "No space left" in " ".join(lines) and lines[-1] == "3"


def test_devices(davit, rootfs):
    devices = [
        {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 5, "gid": 6},
        {"path": "/dev/deep/disk", "type": "b", "major": 7, "minor": 99},
        {"path": "/dev/queue", "type": "p", "fileMode": 0o600},
        {"path": "/dev/raw", "type": "u", "major": 1, "minor": 3},
        {"path": "/made/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666},
    ]
    script = "stat -c '%n %F %t:%T %a %u:%g' /dev/fuse /dev/deep/disk /dev/queue /dev/raw /made/null"
    assert shell(davit, rootfs, script, linux={"devices": devices}).splitlines() == [
        "/dev/fuse character special file a:e5 640 5:6", "/dev/deep/disk block special file 7:63 666 0:0",
        "/dev/queue fifo 0:0 600 0:0", "/dev/raw character special file 1:3 666 0:0", "/made/null character special file 1:3 666 0:0",
    ]
    for bad in ({"path": "/dev/x", "type": "z", "major": 1, "minor": 1}, {"path": "/dev/x", "type": "c"}, {"path": "dev/x", "type": "p"}):
        error = refused("invalid_argument", davit.run, ["true"], rootfs, id=davit.unique(), linux={"devices": [bad]})
        assert "devices[0]" in error.message


def test_device_rules(davit, rootfs):
    """What is not allowed cannot be opened, though its node can be made, as in runc and crun."""
    rules = [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rw"},
             {"allow": True, "type": "c", "major": 1, "minor": 5, "access": "r"}]
    caps = [*CAPABILITIES, "CAP_MKNOD"]
    process = {"capabilities": {kind: caps for kind in ("bounding", "effective", "permitted")}}
    script = ("echo x >/dev/null && echo null; head -c1 /dev/zero >/tmp/z && echo zero; for d in 'b 7 0' 'c 1 11' 'c 1 1' 'c 10 229'; do "
              "rm -f /tmp/d; mknod /tmp/d $d && echo made; head -c1 /tmp/d && echo open; done 2>/dev/null; true")
    text = shell(davit, rootfs, script, linux={"resources": {"devices": rules}}, process=process)
    assert text.split() == ["null", "zero", *["made"] * 4], text
    # an exec is under the same rules
    davit.launch("c", ["sleep", "1000"], rootfs, linux={"resources": {"devices": rules}}, process=process)
    ended, text = davit.exec("c", ["sh", "-c", "mknod /tmp/k c 1 11; cat /tmp/k; echo x >/dev/null && echo null"], **process)
    assert "Operation not permitted" in text and text.endswith("null\n")


# cgroups


def values(davit, path):
    """Files of a cgroup by name, of whichever hierarchy has it."""
    def read(*names):
        for mount in cgroup_mounts():
            for name in names:
                file = Path(mount, path.lstrip("/"), name)
                if file.exists():
                    return file.read_text().strip()
        return None

    return read


def test_resources(davit, rootfs):
    resources = {
        "memory": {"limit": 64 << 20, "reservation": 32 << 20, "swap": 64 << 20},
        "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": str(CPUS[-1]), "mems": "0"},
        "pids": {"limit": 55},
    }
    davit.launch("c", ["sleep", "1000"], rootfs, linux={"resources": resources})
    read = values(davit, f"{davit.cgroup_parent}/default/c")
    assert read("memory.limit_in_bytes", "memory.max") == str(64 << 20)
    assert read("memory.soft_limit_in_bytes", "memory.low") == str(32 << 20)
    assert read("pids.max") == "55"
    assert read("cpuset.cpus") == str(CPUS[-1]) and read("cpuset.mems") == "0"
    assert (read("cpu.cfs_quota_us"), read("cpu.cfs_period_us")) == ("50000", "100000") or read("cpu.max") == "50000 100000"
    assert read("cpu.shares") == "512" or int(read("cpu.weight")) in range(15, 60)
    pid = davit.status("c")["pid"]
    assert os.sched_getaffinity(pid) == {CPUS[-1]}


def test_pids_limit_holds(davit, rootfs):
    text = davit.run(["sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 5 & done 2>&1; echo $(ls /proc | grep -c '^[0-9]')"], rootfs,
                     linux={"resources": {"pids": {"limit": 5}}})[1]
    assert "fork" in text or "Resource temporarily unavailable" in text, text


def test_resources_that_cannot_be(davit, rootfs):
    for n, (resources, word) in enumerate((
        ({"cpu": {"cpus": "999"}}, "cpuset"), ({"cpu": {"cpus": "x"}}, "cpus"), ({"memory": {"limit": "much"}}, "limit"),
        ({"pids": {"limit": 1.5}}, "limit"), ({"memory": {"limit": 64 << 20, "swap": 32 << 20}}, "swap"),
        ({"hugepageLimits": [{"pageSize": "3MB", "limit": 1}]}, "3MB"), ({"cpu": {"quota": 5, "period": 7}}, "cpu"),
    )):
        with pytest.raises(RpcError) as error:
            davit.create(f"c{n}", ["true"], rootfs, linux={"resources": resources})
        assert error.value.code in ("invalid_argument", "failed_precondition", "out_of_range", "not_found"), error.value
        assert word in error.value.message or word in str(error.value.details), error.value


def test_cgroups_path(davit, rootfs):
    parent = davit.cgroup_parent
    pid = davit.launch("c", ["sleep", "1000"], rootfs, linux={"cgroupsPath": f"{parent}/own/leaf"})
    lines = open(f"/proc/{pid}/cgroup").read().splitlines()
    assert all(line.endswith(f"{parent}/own/leaf") for line in lines), lines
    error = refused("already_exists", davit.create, "d", ["true"], rootfs, linux={"cgroupsPath": f"{parent}/own/leaf"})
    assert f"{parent}/own/leaf" in error.message
    assert davit.status("c")["status"] == "running"  # untouched
    davit.remove("c")
    for bad in ("../../x", "/a/../../b"):
        refused("invalid_argument", davit.create, davit.unique(), ["true"], rootfs, linux={"cgroupsPath": bad})
    for mount in cgroup_mounts():
        for name in (f"{parent}/own",):
            if os.path.isdir(mount + name):
                os.rmdir(mount + name)


def test_a_cgroup_that_exists_is_left_alone(davit, rootfs):
    made = [Path(mount, davit.cgroup_parent.lstrip("/"), "default", "mine") for mount in cgroup_mounts() if mount.endswith("pids") or len(cgroup_mounts()) == 1]
    for folder in made:
        folder.mkdir(parents=True)
    refused("already_exists", davit.create, "mine", ["true"], rootfs)
    assert all(folder.is_dir() for folder in made)
    for folder in made:
        folder.rmdir()
    assert davit.run(["true"], rootfs)[0]["exit_status"] == 0


# sysctls


def test_sysctl(davit, rootfs):
    before = open("/proc/sys/kernel/shmmax").read()
    sysctl = {"net.ipv4.ip_forward": "1", "net.ipv4.conf.lo.forwarding": "1", "kernel.shmmax": "123456", "kernel.msgmax": "4096", "kernel.sem": "250 32000 32 100", "fs.mqueue.msg_max": "9"}
    sysctl = {key: value for key, value in sysctl.items() if os.path.exists("/proc/sys/" + key.replace(".", "/"))}
    script = "; ".join("cat /proc/sys/" + key.replace(".", "/") for key in sysctl)
    got = [" ".join(line.split()) for line in shell(davit, rootfs, script, linux={"sysctl": sysctl}).splitlines()]
    assert got == list(sysctl.values())
    assert open("/proc/sys/kernel/shmmax").read() == before


def test_sysctls_that_are_refused(davit, rootfs):
    hosts = [{"type": kind} for kind in ("pid", "mount", "uts")]
    for key, linux in (("kernel.panic", {}), ("vm.swappiness", {}), ("kernel.hostname", {}), ("net.ipv4.ip_forward", {"namespaces": hosts}),
                       ("kernel.shmmax", {"namespaces": hosts}), ("../../etc/passwd", {}), ("net/../kernel/panic", {}), ("net..x", {})):
        error = refused("invalid_argument", davit.create, davit.unique(), ["true"], rootfs, linux={**linux, "sysctl": {key: "1"}})
        assert key in error.message and error.details["argument"].startswith("linux.sysctl")
    error = refused("not_found", davit.create, davit.unique(), ["true"], rootfs, linux={"sysctl": {"net.no.such": "1"}})
    assert "net" in error.message


# network devices


@pytest.fixture
def veth(davit):
    name = "dv" + davit.name[-6:].replace("_", "x")
    subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", "name", name + "p"], check=True)
    davit.cleanups.append(lambda: subprocess.run(["ip", "link", "delete", name + "p"], check=False, capture_output=True))
    return name


def test_net_devices(davit, rootfs, veth):
    subprocess.run(["ip", "addr", "add", "10.99.7.1/24", "dev", veth], check=True)
    davit.launch("c", ["sleep", "1000"], rootfs, linux={"netDevices": {veth: {"name": "eth7"}}})
    text = davit.exec("c", ["ip", "addr"])[1]
    assert "eth7" in text and "10.99.7.1/24" in text
    assert not os.path.exists(f"/sys/class/net/{veth}")
    error = refused("not_found", davit.create, "d", ["true"], rootfs, linux={"netDevices": {"nosuchdev": {}}})
    assert "nosuchdev" in error.message
    davit.remove("c")


def test_net_device_keeps_its_name(davit, rootfs, veth):
    assert veth in shell(davit, rootfs, "ls /sys/class/net", linux={"netDevices": {veth: {}}})


# the process at large


def test_personality(davit, rootfs):
    if os.uname().machine != "x86_64":
        pytest.skip("linux32 is told by uname on x86")
    assert shell(davit, rootfs, "uname -m", linux={"personality": {"domain": "LINUX32"}}) == "i686\n"
    assert shell(davit, rootfs, "uname -m", linux={"personality": {"domain": "LINUX"}}) == "x86_64\n"
    davit.launch("c", ["sleep", "1000"], rootfs, linux={"personality": {"domain": "LINUX32"}})
    assert davit.exec("c", ["uname", "-m"])[1] == "i686\n"
    refused("invalid_argument", davit.create, "d", ["true"], rootfs, linux={"personality": {"domain": "VMS"}})


def test_memory_policy(davit, rootfs):
    pid = davit.launch("c", ["sleep", "1000"], rootfs, linux={"memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0"}})
    wait_for(lambda: " bind:0 " in open(f"/proc/{pid}/numa_maps").read())
    refused("invalid_argument", davit.create, "d", ["true"], rootfs, linux={"memoryPolicy": {"mode": "MPOL_MAGIC", "nodes": "0"}})
    with pytest.raises(RpcError) as error:
        davit.create("e", ["true"], rootfs, linux={"memoryPolicy": {"mode": "MPOL_BIND", "nodes": "63"}})
    assert "memory policy" in error.value.message.lower() or "memoryPolicy" in error.value.message


def test_what_the_host_has_not(davit, rootfs):
    error = refused("unimplemented", davit.create, "a", ["true"], rootfs, linux={"intelRdt": {"closID": "x"}})
    assert "intelRdt" in error.message
    if not os.path.exists("/sys/fs/selinux/enforce"):
        error = refused("failed_precondition", davit.create, "b", ["true"], rootfs, process={"selinuxLabel": "system_u:system_r:x_t:s0"})
        assert "SELinux" in error.message
        refused("failed_precondition", davit.create, "c", ["true"], rootfs, linux={"mountLabel": "system_u:object_r:x_t:s0"})
    if not os.path.exists("/sys/module/apparmor/parameters/enabled"):
        error = refused("failed_precondition", davit.create, "d", ["true"], rootfs, process={"apparmorProfile": "locked"})
        assert "AppArmor" in error.message


def test_unknown_fields_are_given_back(davit, rootfs):
    config = spec(["true"], rootfs, linux={"future": {"deep": [1, 2]}}, vendor={"x": None})
    davit.call("containers.create", id="c", spec=config)
    got = davit.call("containers.get", id="c")["container"]["spec"]
    assert got["linux"]["future"] == {"deep": [1, 2]} and got["vendor"] == {"x": None}
    davit.call("tasks.create", container_id="c")
    davit.call("tasks.start", container_id="c")
    assert davit.call("tasks.wait", container_id="c")["exit_status"] == 0
