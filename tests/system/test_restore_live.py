# SPDX-License-Identifier: Apache-2.0
"""Restores, with real criu: what the live container's spec says holds, whatever the checkpoint was."""

import shlex
import subprocess
from pathlib import Path

import pytest

from lib import leaks
from lib.checkpoints import COUNT, nothing_left, ps
from lib.daemon import wait_for
from lib.rootfs import CAPABILITIES, copy_root, spec
from lib.rpc import RpcError

SLEEP = ["sleep", "100000"]


def refused(code, call, *args, **params):
    with pytest.raises(RpcError) as error:
        call(*args, **params)
    assert error.value.code == code, error.value
    return error.value


def taken(davit, id="a", **options):
    """A checkpoint of a container that is gone after."""
    image = davit.call("tasks.checkpoint", container_id=id, options={"exit": True, **options})["image"]
    davit.remove(id)
    return image


def restored(davit, id, image, live, **options):
    """Into a container of this spec: its pid."""
    davit.call("containers.create", id=id, spec=live)
    davit.call("tasks.create", container_id=id, checkpoint=image, options=options)
    return davit.call("tasks.start", container_id=id)["pid"]


def groups(pid):
    return [line.split(":", 2)[2] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]


# cgroups


@pytest.mark.parametrize("mode", ["ignore", "none", "props", "soft", "full", "strict"])
def test_its_own_cgroup(davit, rootfs, criu, mode):
    """However criu has dumped cgroups: the restored task is in that of its container, which is another than the dumped one's."""
    davit.launch("a", COUNT, rootfs)
    wait_for(lambda: (rootfs / "tmp/count").exists(), what="the count")
    image = taken(davit, cgroups_mode=mode)
    live = spec(COUNT, rootfs, linux={"resources": {"pids": {"limit": 77}}})
    pid = restored(davit, "b", image, live)
    own = davit.cgroup_parent + "/default/b"
    assert {path for path in groups(pid) if davit.cgroup_parent in path} == {own}, groups(pid)
    assert all(path == own for path in groups(pid) if path != "/"), groups(pid)
    assert pid in ps(davit, "b")
    assert not [folder for folder in leaks.cgroup_dirs(davit.cgroup_parent) if folder.endswith("/a")]
    davit.call("tasks.pause", container_id="b")
    davit.call("tasks.resume", container_id="b")
    davit.call("tasks.delete", container_id="b", kill=True)
    nothing_left(davit, ["a", "b"])


def test_modes_are_criu_s(davit, rootfs, criu):
    davit.launch("a", SLEEP, rootfs)
    error = refused("invalid_argument", davit.call, "tasks.checkpoint", container_id="a", options={"cgroups_mode": "cg_none"})
    assert "cgroups_mode" in error.message


def test_restored_outside_of_its_cgroup(make_davit, busybox, criu, tmp_path):
    """A criu that leaves the cgroup it was put into: the restore fails, and nobody runs."""
    leave, program = tmp_path / "leave", tmp_path / "criu"
    program.write_text(f"#!/bin/sh\n[ -e {leave} ] && . {leave}\nexec {shlex.quote(criu)} \"$@\"\n")
    program.chmod(0o755)
    davit = make_davit("--criu", str(program))
    davit.launch("a", SLEEP, busybox)
    image = davit.call("tasks.checkpoint", container_id="a", options={"exit": True})["image"]
    leave.write_text("".join(f"echo $$ > {path}/cgroup.procs\n" for path in leaks.cgroup_mounts()))
    davit.call("tasks.delete", container_id="a")
    error = refused("unknown", davit.call, "tasks.create", container_id="a", checkpoint=image)
    assert "outside of its cgroup" in error.message and "/default/a" in error.message
    nothing_left(davit, ["a"])
    leave.unlink()
    davit.call("tasks.create", container_id="a", checkpoint=image)
    davit.call("tasks.start", container_id="a")


def out_of_its_cgroup(davit, pid):
    for mount in leaks.cgroup_mounts():
        Path(mount, "cgroup.procs").write_text(str(pid))
    assert set(groups(pid)) == {"/"}


def test_delete_of_one_that_left_its_cgroup(davit, busybox):
    """Somebody has moved the init: its end comes all the same."""
    pid = davit.launch("a", SLEEP, busybox)
    out_of_its_cgroup(davit, pid)
    assert davit.call("tasks.delete", container_id="a", kill=True)["exit_status"] == 137
    nothing_left(davit, ["a"])
    pid = davit.launch("b", SLEEP, busybox)
    out_of_its_cgroup(davit, pid)
    davit.call("tasks.kill", container_id="b", signal="SIGKILL", all=True)
    assert davit.call("tasks.wait", container_id="b")["exit_status"] == 137


def test_shutdown_with_one_that_left_its_cgroup(davit, busybox):
    pid = davit.launch("a", SLEEP, busybox)
    out_of_its_cgroup(davit, pid)
    davit.call("server.shutdown", kill=True)
    davit.process.wait(30)
    assert leaks.process_state(pid) in (None, "Z")


# mounts


def mounts(pid):
    """[(path, whether it is read-only)]"""
    lines = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    return sorted((fields[4], "ro" in fields[5].split(",")) for fields in lines)


def test_read_only_paths_of_its_root(davit, rootfs, criu):
    """They are mounts of the root over itself: of the new root then, generation after generation."""
    live = {"root": {"readonly": True},
            "linux": {"readonlyPaths": ["/proc/sys", "/etc", "/bin/busybox"], "maskedPaths": ["/proc/kcore", "/root", "/etc/group"]}}
    before = mounts(davit.launch("a", SLEEP, rootfs, **live))
    assert ("/etc", True) in before and ("/bin/busybox", True) in before
    for _ in range(2):
        image = davit.call("tasks.checkpoint", container_id="a", options={"exit": True})["image"]
        davit.call("tasks.delete", container_id="a")
        davit.call("tasks.create", container_id="a", checkpoint=image)
        pid = davit.call("tasks.start", container_id="a")["pid"]
        assert mounts(pid) == before
        ended, text = davit.exec("a", ["sh", "-c", "cat /etc/passwd; cat /etc/group; echo x > /etc/new"])
        assert ended["exit_status"] == 1 and "root:x:0:0" in text and "tty:" not in text and "Read-only" in text
    taken(davit)
    other = copy_root(rootfs, davit.base / "other")
    (other / "etc/passwd").write_text("of the other root")
    restored(davit, "b", image, spec(SLEEP, other, **live))
    assert davit.exec("b", ["cat", "/etc/passwd"])[1] == "of the other root"


def test_bind_that_the_container_made(davit, rootfs, criu):
    caps = {kind: [*CAPABILITIES, "CAP_SYS_ADMIN"] for kind in ("bounding", "effective", "permitted")}
    (rootfs / "tmp/a").mkdir()
    (rootfs / "tmp/b").mkdir()
    (rootfs / "tmp/a/file").write_text("bound")
    davit.launch("a", ["sh", "-c", "mount --bind /tmp/a /tmp/b; echo > /tmp/ready; exec sleep 100000"], rootfs, process={"capabilities": caps})
    wait_for((rootfs / "tmp/ready").exists, what="the mount")
    image = davit.call("tasks.checkpoint", container_id="a", options={"exit": True})["image"]
    davit.call("tasks.delete", container_id="a")
    davit.call("tasks.create", container_id="a", checkpoint=image)
    davit.call("tasks.start", container_id="a")
    assert davit.exec("a", ["cat", "/tmp/b/file"])[1] == "bound"


@pytest.fixture
def outside(davit):
    """A folder of the host with a mount at its "below"."""
    folder = davit.base / "outside"
    (folder / "below").mkdir(parents=True)
    (folder / "plain").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder / "below")], check=True)
    (folder / "below/file").write_text("of the lower mount")
    yield folder
    subprocess.run(["umount", str(folder / "below")], check=True)


def with_outside(root, outside, *options):
    return [*spec([], root)["mounts"], {"destination": "/outside", "type": "bind", "source": str(outside), "options": ["rbind", *options]}]


def test_mounts_below_a_read_only_one(davit, rootfs, outside, criu):
    """They are not read-only then, neither at a launch nor after a restore."""
    before = mounts(davit.launch("a", SLEEP, rootfs, mounts=with_outside(rootfs, outside, "ro")))
    assert ("/outside", True) in before and ("/outside/below", False) in before
    image = davit.call("tasks.checkpoint", container_id="a", options={"exit": True})["image"]
    davit.call("tasks.delete", container_id="a")
    davit.call("tasks.create", container_id="a", checkpoint=image)
    assert mounts(davit.call("tasks.start", container_id="a")["pid"]) == before
    assert davit.exec("a", ["cat", "/outside/below/file"])[1] == "of the lower mount"
    davit.call("tasks.delete", container_id="a", kill=True)


def test_writable_bind_within_a_read_only_mount(davit, rootfs, outside, criu):
    """A folder of a read-only mount does not become writable by being a mount in the checkpoint."""
    caps = {kind: [*CAPABILITIES, "CAP_SYS_ADMIN"] for kind in ("bounding", "effective", "permitted")}
    script = "mount --bind /outside/plain /outside/plain && mount -o remount,bind,rw /outside/plain && echo > /tmp/ready; exec sleep 100000"
    davit.launch("a", ["sh", "-c", script], rootfs, mounts=with_outside(rootfs, outside, "ro"), process={"capabilities": caps})
    wait_for((rootfs / "tmp/ready").exists, what="the mount")
    image = davit.call("tasks.checkpoint", container_id="a", options={"exit": True})["image"]
    davit.call("tasks.delete", container_id="a")
    with pytest.raises(RpcError) as error:
        davit.call("tasks.create", container_id="a", checkpoint=image)
    assert error.value.code == "permission_denied" and "/outside/plain is read-only" in error.value.message


def test_links_below_the_source_of_a_mount(davit, rootfs, outside, criu):
    """Where a mount was below the source there is a link now: it leads nowhere outside of the source."""
    davit.launch("a", SLEEP, rootfs, mounts=with_outside(rootfs, outside))
    image = davit.call("tasks.checkpoint", container_id="a", options={"exit": True})["image"]
    davit.call("tasks.delete", container_id="a")
    (davit.base / "hostile").mkdir()
    (davit.base / "hostile/below").symlink_to("/etc")
    davit.call("containers.create", id="b", spec=spec(SLEEP, rootfs, mounts=with_outside(rootfs, davit.base / "hostile")))
    with pytest.raises(RpcError) as error:
        davit.call("tasks.create", container_id="b", checkpoint=image)
    assert "/outside/below" in error.value.message


# what the live spec asks for and the checkpoint has not


def free():
    """A container without restrictions on its mounts."""
    return {"linux": {"maskedPaths": [], "readonlyPaths": []}}


@pytest.fixture
def loose(davit, rootfs, criu):
    """A checkpoint of a container of user 0 that may write everywhere."""
    davit.launch("a", SLEEP, rootfs, **free())
    return taken(davit)


@pytest.mark.parametrize("changes,code,words", [
    ({"linux": {"maskedPaths": ["/proc/interrupts"], "readonlyPaths": []}}, "permission_denied", "/proc/interrupts is masked"),
    ({"linux": {"maskedPaths": ["/sys/firmware"], "readonlyPaths": []}}, "permission_denied", "/sys/firmware is masked"),
    ({"linux": {"maskedPaths": ["/etc"], "readonlyPaths": []}}, "permission_denied", "/etc is masked"),
    ({"linux": {"maskedPaths": [], "readonlyPaths": ["/proc/sys"]}}, "permission_denied", "/proc/sys is read-only"),
    ({"linux": {"maskedPaths": [], "readonlyPaths": ["/etc"]}}, "permission_denied", "/etc is read-only"),
    ({"root": {"readonly": True}, **free()}, "permission_denied", "the root is read-only"),
    ({"process": {"user": {"uid": 1000, "gid": 1000}}, **free()}, "permission_denied", "user 1000"),
    ({"mounts": [*spec([])["mounts"], {"destination": "/vol", "type": "bind", "source": "/etc", "options": ["bind"]}], **free()},
     "failed_precondition", "a mount at /vol"),
    ({"mounts": [{**mount, "options": [*mount.get("options", []), "noexec"]} if mount["destination"] == "/dev" else mount
                 for mount in spec([])["mounts"]], **free()}, "permission_denied", "/dev is noexec"),
])
def test_refused(davit, rootfs, loose, changes, code, words):
    if "process" in changes:  # of one that cannot become root
        changes = {**changes, "process": {**changes["process"], "capabilities": {"bounding": CAPABILITIES, "effective": [], "permitted": []},
                                          "noNewPrivileges": True}}
        davit.launch("a", SLEEP, rootfs, process={"capabilities": changes["process"]["capabilities"]}, **free())
        loose = taken(davit)
    davit.call("containers.create", id="b", spec=spec(SLEEP, rootfs, **changes))
    assert words in refused(code, davit.call, "tasks.create", container_id="b", checkpoint=loose).message
    nothing_left(davit, ["b"])


def test_nothing_to_mask(davit, rootfs, loose):
    """What is not there needs no mask, in a new container neither."""
    live = {"linux": {"maskedPaths": ["/proc/no-such", "/no/such"], "readonlyPaths": ["/sys/no-such"]}}
    restored(davit, "b", loose, spec(SLEEP, rootfs, **live))


def test_set_from_outside(davit, rootfs, criu):
    """Limits, the OOM score and sysctls are the live container's, for all of its processes."""
    davit.launch("a", ["sh", "-c", "sleep 100000 & exec sleep 100000"], rootfs, process={"rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1000, "soft": 900}]})
    wait_for(lambda: len(ps(davit, "a")) == 2, what="its child")
    image = taken(davit)
    live = spec(SLEEP, rootfs, process={"oomScoreAdj": 500, "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 300, "soft": 200}]},
                linux={"sysctl": {"kernel.shmmax": "12345678", "net.ipv4.ip_unprivileged_port_start": "80", "net/ipv4/ip_forward": "1"}})
    restored(davit, "b", image, live)
    for pid in ps(davit, "b"):
        assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "500\n"
        assert [line.split()[3:5] for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if "open files" in line] == [["300", "300"]]
    files = ["/proc/sys/kernel/shmmax", "/proc/sys/net/ipv4/ip_unprivileged_port_start", "/proc/sys/net/ipv4/ip_forward"]
    assert davit.exec("b", ["cat", *files])[1].split() == ["12345678", "80", "1"]
    assert Path("/proc/sys/kernel/shmmax").read_text() != "12345678\n"


def test_second_procfs(davit, rootfs, criu):
    """It shows what is masked in the first: only who may mount may have it."""
    (rootfs / "tmp/proc").mkdir()
    pid = davit.launch("a", SLEEP, rootfs)
    subprocess.run(["nsenter", "-t", str(pid), "-m", "-p", "/bin/busybox", "mount", "-t", "proc", "proc", "/tmp/proc"], check=True)
    image = taken(davit)
    davit.call("containers.create", id="b", spec=spec(SLEEP, rootfs))
    error = refused("permission_denied", davit.call, "tasks.create", container_id="b", checkpoint=image)
    assert "type proc at /tmp/proc" in error.message
    nothing_left(davit, ["b"])
    caps = {kind: [*CAPABILITIES, "CAP_SYS_ADMIN"] for kind in ("bounding", "effective", "permitted")}
    restored(davit, "c", image, spec(SLEEP, rootfs, process={"capabilities": caps}))


# external_mounts


@pytest.fixture
def volume(davit, rootfs, criu):
    """A checkpoint of a container with a folder at /vol and a file at /file, both from outside."""
    for name in ("one", "two"):
        (davit.base / name).mkdir()
        (davit.base / name / "who").write_text(name)
    binds = [{"destination": path, "type": "bind", "source": str(davit.base / source), "options": ["rbind"]}
             for path, source in (("/vol", "one"), ("/file", "one/who"))]
    davit.launch("a", SLEEP, rootfs, mounts=[*spec([])["mounts"], *binds])
    image = davit.call("tasks.checkpoint", container_id="a", options={"exit": True})["image"]
    davit.call("tasks.delete", container_id="a")
    return image


@pytest.mark.parametrize("path,source,words", [
    ("/nothing", "two", "no mount from outside at /nothing"),
    ("/proc", "two", "no mount from outside at /proc"),
    ("/vol", "two/who", "the mount at /vol is a folder"),
    ("/file", "two", "the mount at /file is a file"),
])
def test_external_mounts_that_do_not_fit(davit, volume, path, source, words):
    error = refused("invalid_argument", davit.call, "tasks.create", container_id="a", checkpoint=volume,
                    options={"external_mounts": {path: str(davit.base / source)}})
    assert words in error.message
    nothing_left(davit, ["a"])


def test_external_mounts(davit, volume):
    davit.call("tasks.create", container_id="a", checkpoint=volume,
               options={"external_mounts": {"/vol/": str(davit.base / "two"), "/file": str(davit.base / "two/who")}})
    davit.call("tasks.start", container_id="a")
    assert davit.exec("a", ["cat", "/vol/who", "/file"])[1] == "twotwo"


# networks


@pytest.mark.parametrize("change,look", [
    ("ip route add blackhole 10.1.0.0/16", "ip route show"),
    ("ip rule add from 1.2.3.4 table 77", "ip rule show"),
    ("ip link set lo mtu 1400", "ip -o link show lo"),
    ("ip link set lo down", "ip -br link show lo"),
])
def test_loopback_that_was_changed(davit, rootfs, criu, change, look):
    """A network with the loopback alone is restored with what has become of it."""
    def inside(pid, command):
        return subprocess.run(["nsenter", "-t", str(pid), "-n", *command.split()], check=True, capture_output=True, text=True).stdout

    pid = davit.launch("a", SLEEP, rootfs)
    new = inside(pid, look)
    inside(pid, change)
    before = inside(pid, look)
    assert before != new
    image = davit.call("tasks.checkpoint", container_id="a", options={"exit": True})["image"]
    davit.call("tasks.delete", container_id="a")
    davit.call("tasks.create", container_id="a", checkpoint=image)
    assert inside(davit.call("tasks.start", container_id="a")["pid"], look) == before


def test_plain_loopback_is_made_anew(davit, rootfs, criu):
    """The usual one takes no dump of the network."""
    davit.launch("a", SLEEP, rootfs)
    davit.call("tasks.checkpoint", container_id="a", options={"exit": True, "image_path": str(davit.base / "images")})
    assert '"network":"empty"' in (davit.base / "images/davit-checkpoint.json").read_text().replace(" ", "")
