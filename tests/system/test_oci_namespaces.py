# SPDX-License-Identifier: Apache-2.0
"""Namespaces: new, by path, the host's, another container's; user namespaces and their id maps; time offsets."""

import os
import subprocess

import pytest

from lib.daemon import Reader, wait_for
from lib.rootfs import spec
from lib.rpc import Fd, RpcError

PROC = {"pid": "pid", "network": "net", "mount": "mnt", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup", "time": "time", "user": "user"}
MAPS = [{"containerID": 0, "hostID": 100000, "size": 65536}]
DEFAULT = ("pid", "network", "ipc", "uts", "mount")
USER = {"namespaces": [{"type": kind} for kind in (*DEFAULT, "user")], "uidMappings": MAPS, "gidMappings": MAPS}


def refused(code, call, *args, **params):
    with pytest.raises(RpcError) as error:
        call(*args, **params)
    assert error.value.code == code, error.value
    return error.value


def namespaces(*kinds, **paths):
    listed = [{"type": kind} for kind in kinds if kind not in paths]
    return [*listed, *({"type": kind, "path": path} for kind, path in paths.items())]


def of(pid, kind):
    return os.readlink(f"/proc/{pid}/ns/{PROC[kind]}")


def shell(davit, rootfs, script, **more):
    ended, text = davit.run(["sh", "-c", script], rootfs, **more)
    assert ended["exit_status"] == 0, (ended, text)
    return text


@pytest.fixture
def user_root(davit, rootfs):
    """The rootfs, owned by what root is mapped to."""
    subprocess.run(["chown", "-hR", "100000:100000", str(rootfs)], check=True)
    return rootfs


# new ones and the host's


def test_all_eight_are_new(davit, user_root):
    pid = davit.launch("c", ["sleep", "1000"], user_root,
                       linux={**USER, "namespaces": namespaces(*PROC)})
    for kind in PROC:
        assert of(pid, kind) != of("self", kind), kind
    # and an exec is in every one of them
    text = davit.exec("c", ["sh", "-c", "for n in pid net mnt ipc uts cgroup time user; do readlink /proc/self/ns/$n; done"])[1]
    assert text.split() == [of(pid, kind) for kind in PROC]


@pytest.mark.parametrize("kind", ["pid", "network", "ipc", "uts", "cgroup", "time"])
def test_what_is_not_named_is_the_hosts(davit, rootfs, kind):
    rest = [k for k in ("pid", "network", "ipc", "uts", "mount", "cgroup", "time") if k != kind]
    changes = {} if kind != "uts" else {"hostname": None}
    pid = davit.launch("c", ["sleep", "1000"], rootfs, linux={"namespaces": namespaces(*rest)}, **changes)
    assert of(pid, kind) == of("self", kind)
    for other in rest:
        assert of(pid, other) != of("self", other), other


@pytest.mark.parametrize("kind", ["pid", "network", "ipc", "uts", "cgroup", "time"])
def test_by_path_of_another_container(davit, rootfs, kind):
    every = ("pid", "network", "ipc", "uts", "mount", "cgroup", "time")
    first = davit.launch("a", ["sleep", "1000"], rootfs, linux={"namespaces": namespaces(*every)})
    paths = {kind: f"/proc/{first}/ns/{PROC[kind]}"}
    changes = {} if kind != "uts" else {"hostname": None}
    second = davit.launch("b", ["sleep", "1000"], rootfs, linux={"namespaces": namespaces(*every, **paths)}, **changes)
    for each in every:
        assert (of(second, each) == of(first, each)) == (each == kind), each
    if kind == "pid":
        text = davit.exec("a", ["ps"])[1]
        assert text.count("sleep 1000") == 2, text
        # the end of one leaves the other
        davit.remove("b")
        assert davit.status("a")["status"] == "running"


def test_network_of_another_container(davit, rootfs):
    first = davit.launch("a", ["nc", "-l", "-p", "7777", "-e", "echo", "over the wire"], rootfs)
    linux = {"namespaces": namespaces(*DEFAULT, network=f"/proc/{first}/ns/net")}
    assert shell(davit, rootfs, "sleep 0.2; nc 127.0.0.1 7777 </dev/null", linux=linux) == "over the wire\n"


def test_pinned_network(davit, rootfs):
    """A namespace that ip netns made, as CNI does."""
    name = davit.name
    subprocess.run(["ip", "netns", "add", name], check=True)
    davit.cleanups.append(lambda: subprocess.run(["ip", "netns", "delete", name], check=True))
    subprocess.run(["ip", "-n", name, "link", "add", "davit7", "type", "veth", "peer", "name", "davit8"], check=True)
    linux = {"namespaces": namespaces(*DEFAULT, network=f"/run/netns/{name}")}
    text = shell(davit, rootfs, "ls /sys/class/net; cat /proc/net/dev", linux=linux)
    assert "davit7" in text
    # the container's end is not the namespace's
    assert "davit7" in subprocess.run(["ip", "-n", name, "link"], capture_output=True, text=True, check=True).stdout


def test_loopback_is_up(davit, rootfs):
    text = shell(davit, rootfs, "ip addr show lo; ping -c1 -W1 127.0.0.1 >/dev/null 2>&1; cat /sys/class/net/lo/operstate")
    assert "127.0.0.1/8" in text and "UP" in text


def test_mount_namespace_by_path(davit, rootfs):
    """Then the root is that namespace's, and the mounts too."""
    first = davit.launch("a", ["sleep", "1000"], rootfs)
    config = spec(["sh", "-c", "ls /proc/self >/dev/null && echo inside"], "/", mounts=[],
                  linux={"namespaces": namespaces("uts", mount=f"/proc/{first}/ns/mnt", pid=f"/proc/{first}/ns/pid"), "maskedPaths": [], "readonlyPaths": []})
    davit.call("containers.create", id="b", spec=config)
    out = Reader()
    davit.call("tasks.create", container_id="b", stdout=Fd(out.write_fd), stderr=Fd(out.write_fd))
    out.close_write()
    pid = davit.call("tasks.start", container_id="b")["pid"]
    assert davit.call("tasks.wait", container_id="b")["exit_status"] == 0, out.text()
    assert out.text() == "inside\n" and pid != first


def test_bad_namespaces(davit, rootfs):
    error = refused("not_found", davit.run, ["true"], rootfs, id="a", linux={"namespaces": namespaces(*DEFAULT, network="/run/netns/no-such")})
    assert error.details["path"] == "/run/netns/no-such" and error.details["errname"] == "ENOENT"
    error = refused("invalid_argument", davit.run, ["true"], rootfs, id="b", linux={"namespaces": namespaces(*DEFAULT, network="/proc/self/ns/uts")})
    assert "/proc/self/ns/uts" in error.message and "network" in error.message
    refused("invalid_argument", davit.run, ["true"], rootfs, id="c", linux={"namespaces": namespaces(*DEFAULT, network="/etc/passwd")})
    os.mkfifo(davit.base / "fifo")
    refused("invalid_argument", davit.run, ["true"], rootfs, id="c2", linux={"namespaces": namespaces(*DEFAULT, network=str(davit.base / "fifo"))})
    refused("invalid_argument", davit.run, ["true"], rootfs, id="d", linux={"namespaces": namespaces(*DEFAULT, "moon")})
    refused("invalid_argument", davit.run, ["true"], rootfs, id="e", linux={"namespaces": [*namespaces(*DEFAULT), {"type": "pid"}]})
    error = refused("invalid_argument", davit.run, ["true"], rootfs, id="f", linux={"namespaces": namespaces("pid", "mount")})
    assert "hostname" in error.message  # it would be the host's
    refused("invalid_argument", davit.run, ["true"], rootfs, id="g", linux={"namespaces": namespaces("pid", "uts")})


# names


def test_hostname_and_domainname(davit, rootfs):
    host = os.uname().nodename
    text = shell(davit, rootfs, "hostname; cat /proc/sys/kernel/domainname", hostname="inner", domainname="example.org")
    assert text.split() == ["inner", "example.org"]
    assert os.uname().nodename == host
    refused("invalid_argument", davit.run, ["true"], rootfs, hostname="x" * 65)


# user namespaces


def test_user_namespace(davit, user_root):
    (user_root / "tmp/ours").write_text("")
    script = ("id -u; cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '; stat -c %u:%g /bin /tmp/ours /dev/null /dev/pts; "
              "touch /made; stat -c %u:%g /made; cat /proc/self/setgroups; echo x >/dev/null && head -c4 /dev/zero | wc -c; chown 5:6 /made; stat -c %u:%g /made")
    pid_text = shell(davit, user_root, script, linux=USER)
    lines = pid_text.splitlines()
    assert lines[:3] == ["0", " 0 100000 65536", " 0 100000 65536"]
    assert lines[3:5] == ["0:0", "65534:65534"] and lines[6] == "0:0" or lines[6] == "65534:65534", lines
    assert lines[7:] == ["0:0", "allow", "4", "5:6"], lines
    made = (user_root / "made").stat()
    assert (made.st_uid, made.st_gid) == (100005, 100006)


def test_user_namespace_exec_and_users(davit, user_root):
    pid = davit.launch("c", ["sleep", "1000"], user_root, linux=USER, process={"user": {"uid": 33, "gid": 34, "additionalGids": [35]}})
    status = dict(line.split(":\t", 1) for line in open(f"/proc/{pid}/status").read().splitlines() if ":\t" in line)
    assert status["Uid"].split() == ["100033"] * 4 and status["Gid"].split() == ["100034"] * 4 and status["Groups"].split() == ["100035"]
    ended, text = davit.exec("c", ["sh", "-c", "id -u; id -g; readlink /proc/self/ns/user; readlink /proc/1/ns/user"])
    assert text.split()[:2] == ["0", "0"]
    assert len(set(text.split()[2:])) == 1
    ended, text = davit.exec("c", ["id", "-u"], user={"uid": 12, "gid": 12})
    assert text == "12\n"
    ended, text = davit.exec("c", ["sh", "-c", "mount -t tmpfs x /tmp 2>&1 || echo refused"])
    assert text.endswith("refused\n")


def test_user_namespace_streams_and_terminal(davit, user_root):
    """/dev/stdout can be opened by its name, though a pipe belongs to the daemon."""
    assert shell(davit, user_root, "echo by name >/dev/stdout; stat -L -c %u /dev/stdout", linux=USER) == "by name\n0\n"
    typed = davit.base / "typed"
    typed.write_text("")
    davit.launch("c", ["sh", "-c", "tty; stat -c %u $(tty); sleep 1000"], user_root, linux=USER,
                 stdio={"terminal": True, "stdout": f"file://{typed}"})
    wait_for(lambda: typed.read_text().count("\n") >= 2)
    assert typed.read_text().split() == ["/dev/pts/0", "0"]


def test_user_namespace_binds(davit, user_root):
    """A bind from a folder that the mapped root may not even enter, and one that is id-mapped."""
    private = davit.base / "private"
    (private / "data").mkdir(parents=True)
    (private / "data/word").write_text("reached\n")
    private.chmod(0o700)
    mounts = [{"destination": "/proc", "type": "proc", "source": "proc"},
              {"destination": "/m", "source": str(private / "data"), "options": ["bind"]}]
    text = shell(davit, user_root, "cat /m/word; stat -c %u /m/word", linux=USER, mounts=mounts)
    assert text == "reached\n65534\n"
    mounts[1]["options"] = ["bind", "idmap"]
    try:
        text = shell(davit, user_root, "stat -c %u /m/word; echo new >/m/new; stat -c %u /m/new", linux=USER, mounts=mounts)
    except RpcError as error:
        assert error.details["errname"] in ("EINVAL", "EOPNOTSUPP")
        return
    assert text == "0\n0\n"
    assert (private / "data/new").stat().st_uid == 0


def test_user_namespace_ids(davit, user_root):
    """Several ranges; a user who is not mapped; root not mapped."""
    maps = [{"containerID": 0, "hostID": 100000, "size": 10}, {"containerID": 1000, "hostID": 200000, "size": 5}]
    linux = {**USER, "uidMappings": maps, "gidMappings": maps}
    assert shell(davit, user_root, "id -u", linux=linux, process={"user": {"uid": 1003, "gid": 1001}}) == "1003\n"
    refused("invalid_argument", davit.run, ["true"], user_root, linux=linux, process={"user": {"uid": 77, "gid": 0}})
    refused("invalid_argument", davit.run, ["true"], user_root, id="x", linux={**USER, "uidMappings": []})
    refused("invalid_argument", davit.run, ["true"], user_root, id="y", linux={"uidMappings": MAPS, "gidMappings": MAPS})
    overlap = [*MAPS, {"containerID": 5, "hostID": 300000, "size": 5}]
    refused("invalid_argument", davit.run, ["true"], user_root, id="z", linux={**USER, "uidMappings": overlap})
    alone = [{"containerID": 50, "hostID": 100000, "size": 1}]
    text = shell(davit, user_root, "id -u; id -g", linux={**USER, "uidMappings": alone, "gidMappings": alone},
                 mounts=[{"destination": "/proc", "type": "proc", "source": "proc"}],
                 process={"user": {"uid": 50, "gid": 50}})
    assert text.split() == ["50", "50"]


def test_join_the_user_namespace_of_another(davit, user_root):
    first = davit.launch("a", ["sleep", "1000"], user_root, linux=USER)
    paths = {kind: f"/proc/{first}/ns/{PROC[kind]}" for kind in ("user", "network", "ipc", "pid")}
    second = davit.launch("b", ["sleep", "1000"], user_root,
                          linux={**USER, "namespaces": namespaces("mount", "uts", **paths)})
    for kind in ("user", "network", "ipc", "pid"):
        assert of(second, kind) == of(first, kind), kind
    assert of(second, "mount") != of(first, "mount")
    third = davit.launch("d", ["sleep", "1000"], user_root,
                         linux={**USER, "namespaces": namespaces(*DEFAULT, user=paths["user"])})
    assert of(third, "user") == of(first, "user") and of(third, "pid") != of(first, "pid")
    assert davit.exec("d", ["id", "-u"])[1] == "0\n"
    # /sys shows the devices of the network that was joined
    assert davit.exec("b", ["ls", "/sys/class/net"])[1] == "lo\n"
    assert sum(word.isdigit() for word in davit.exec("b", ["ls", "/proc"])[1].split()) == 3  # two inits and ls


# time


def test_time_offsets(davit, rootfs):
    linux = {"namespaces": namespaces(*DEFAULT, "time"), "timeOffsets": {"boottime": {"secs": 864000, "nanosecs": 5}, "monotonic": {"secs": 1000}}}
    text = shell(davit, rootfs, "cat /proc/uptime; cat /proc/self/timens_offsets", linux=linux)
    here = float(open("/proc/uptime").read().split()[0])
    assert 864000 <= float(text.split()[0]) - here + 60 < 864000 + 120
    assert text.splitlines()[1].split() == ["monotonic", "1000", "0"] and text.splitlines()[2].split() == ["boottime", "864000", "5"]
    # an exec has them too
    davit.launch("c", ["sleep", "1000"], rootfs, linux=linux)
    assert float(davit.exec("c", ["cat", "/proc/uptime"])[1].split()[0]) > 864000
    refused("invalid_argument", davit.run, ["true"], rootfs, linux={"timeOffsets": {"monotonic": {"secs": 1}}})
    refused("invalid_argument", davit.run, ["true"], rootfs, id="e",
            linux={**linux, "timeOffsets": {"monotonic": {"secs": 1, "nanosecs": 1000000000}}})
