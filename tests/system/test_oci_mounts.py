# SPDX-License-Identifier: Apache-2.0
"""Mounts, the root and its propagation, rootfs lists, bundles: what is asked for is what the container has."""

import json
import os
import shutil
import subprocess

import pytest

from lib.daemon import Reader, wait_for
from lib.leaks import mounts as host_mounts
from lib.rootfs import bundle, spec
from lib.rpc import Fd, RpcError

PROC = {"destination": "/proc", "type": "proc", "source": "proc"}
TMPFS = {"destination": "/m", "type": "tmpfs", "source": "tmpfs"}


def refused(code, call, *args, **params):
    with pytest.raises(RpcError) as error:
        call(*args, **params)
    assert error.value.code == code, error.value
    return error.value


def shell(davit, rootfs, script, mounts=(), **more):
    ended, text = davit.run(["sh", "-c", script], rootfs, mounts=[PROC, *mounts], **more)
    assert ended["exit_status"] == 0, (ended, text)
    return text


class Mount:
    """A line of mountinfo: point, kind, options (of the mount), data (of the file system), tags."""

    def __init__(self, line):
        fields = line.split()
        dash = fields.index("-")
        self.root, self.point, self.options = fields[3], fields[4], set(fields[5].split(","))
        self.tags = {tag.split(":")[0] for tag in fields[6:dash]}
        self.kind, self.source, self.data = fields[dash + 1], fields[dash + 2], set(fields[dash + 3].split(","))


def mountinfo(davit, rootfs, mounts=(), **more):
    text = shell(davit, rootfs, "cat /proc/self/mountinfo", mounts, **more)
    found = {}
    for line in text.splitlines():
        mount = Mount(line)
        found[mount.point] = mount
    return found


def bind(source, destination="/m", *options):
    return {"destination": destination, "source": str(source), "options": ["bind", *options]}


@pytest.fixture
def tree(davit):
    """A folder of the host with a file, a folder and a mount below it."""
    folder = davit.base / "tree"
    (folder / "sub").mkdir(parents=True)
    (folder / "file").write_text("of the host\n")
    mount(davit, "-t", "tmpfs", "below", folder / "sub")
    (folder / "sub/deep").write_text("deep\n")
    return folder


def mount(davit, *args):
    subprocess.run(["mount", *map(str, args)], check=True)
    davit.cleanups.append(lambda: subprocess.run(["umount", "-l", str(args[-1])], check=False))


# options of file systems


@pytest.mark.parametrize("option, shown", [
    ("ro", "ro"), ("nosuid", "nosuid"), ("nodev", "nodev"), ("noexec", "noexec"), ("noatime", "noatime"), ("nodiratime", "nodiratime"),
    ("relatime", "relatime"), ("nosymfollow", "nosymfollow"),
])
def test_flags(davit, rootfs, option, shown):
    found = mountinfo(davit, rootfs, [{**TMPFS, "options": [option]}, bind(davit.base / "tmp", "/b", option)])
    assert shown in found["/m"].options, found["/m"].options
    assert shown in found["/b"].options, found["/b"].options


def test_flags_that_clear(davit, rootfs):
    pairs = ["ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec", "noatime", "atime", "nodiratime", "diratime", "nosymfollow",
             "symfollow", "sync", "async", "lazytime", "nolazytime", "defaults", "silent", "loud", "norelatime", "strictatime"]
    found = mountinfo(davit, rootfs, [{**TMPFS, "options": pairs}])["/m"]
    assert found.options == {"rw"}, found.options
    assert not found.data & {"ro", "sync", "lazytime"}
    found = mountinfo(davit, rootfs, [{**TMPFS, "options": ["noatime", "relatime", "ro"]}])["/m"]
    assert found.options == {"ro", "relatime"}, found.options


def test_super_block_options(davit, rootfs):
    found = mountinfo(davit, rootfs, [{**TMPFS, "options": ["size=64k", "mode=1700", "uid=5", "gid=6", "nr_inodes=77", "sync", "dirsync", "lazytime"]}])["/m"]
    assert {"size=64k", "mode=1700", "uid=5", "gid=6", "nr_inodes=77", "sync", "dirsync", "lazytime"} <= found.data, found.data
    error = refused("invalid_argument", davit.run, ["true"], rootfs, mounts=[{**TMPFS, "options": ["colour=red"]}])
    assert error.details["path"] == "/m" and "tmpfs" in error.message and error.details["errname"] == "EINVAL"


def test_readonly_tmpfs_holds_what_is_put_there(davit, rootfs, tree):
    """A read-only tmpfs: targets of mounts below it are made all the same."""
    text = shell(davit, rootfs, "cat /m/x/file; touch /m/y 2>&1 || echo read-only",
                 [{**TMPFS, "options": ["ro"]}, bind(tree, "/m/x")])
    assert text.startswith("of the host\n") and text.endswith("read-only\n")


def test_tmpfs_looks_like_what_it_covers(davit, rootfs):
    (rootfs / "m").mkdir()
    (rootfs / "m").chmod(0o751)
    assert shell(davit, rootfs, "stat -c %a /m", [TMPFS]) == "751\n"
    assert shell(davit, rootfs, "stat -c %a /m", [{**TMPFS, "options": ["mode=700"]}]) == "700\n"


def test_tmpcopyup(davit, rootfs):
    source = rootfs / "m"
    (source / "deep/er").mkdir(parents=True)
    (source / "deep/file").write_text("content\n")
    (source / "deep/file").chmod(0o640)
    os.chown(source / "deep/file", 12, 34)
    (source / "link").symlink_to("deep/file")
    (source / "big").write_bytes(os.urandom(3 << 20))
    os.mkfifo(source / "fifo")
    os.setxattr(source / "deep/file", "user.note", b"kept") if _xattrs(source) else None
    text = shell(davit, rootfs, "cat /m/link; stat -c %a:%u:%g /m/deep/file; test -p /m/fifo && md5sum </m/big; echo new >/m/deep/file",
                 [{**TMPFS, "options": ["tmpcopyup"]}])
    content = subprocess.run(["md5sum", source / "big"], capture_output=True, text=True, check=True).stdout.split()[0]
    assert text.splitlines()[:2] == ["content", "640:12:34"] and content in text
    assert (source / "deep/file").read_text() == "content\n"  # the copy was changed


def _xattrs(folder):
    try:
        os.setxattr(folder, "user.try", b"1")
        return True
    except OSError:
        return False


def test_other_kinds(davit, rootfs):
    kinds = [
        {"destination": "/m/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid"]},
        {"destination": "/m/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "mode=0600", "gid=7"]},
        {"destination": "/m/sys", "type": "sysfs", "source": "sysfs", "options": ["ro", "nosuid"]},
        {"destination": "/m/ram", "type": "ramfs", "source": "ramfs", "options": ["mode=0711"]},
        {"destination": "/m/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid", "nodev", "noexec", "relatime"]},
    ]
    found = mountinfo(davit, rootfs, kinds)
    assert [found[m["destination"]].kind for m in kinds[:4]] == ["mqueue", "devpts", "sysfs", "ramfs"]
    assert "ro" in found["/m/sys"].options and "mode=600" in found["/m/pts"].data and "gid=7" in found["/m/pts"].data
    below = [m for point, m in found.items() if point.startswith("/m/cgroup")]
    assert any(m.kind in ("cgroup", "cgroup2") for m in below)
    assert all("ro" in m.options for m in below if m.kind in ("cgroup", "cgroup2"))
    error = refused("failed_precondition", davit.run, ["true"], rootfs, mounts=[{**TMPFS, "type": "nofs"}])
    assert "mount nofs to /m" in error.message and error.details["errname"] == "ENODEV"


def test_cgroup_mount_shows_its_own(davit, rootfs):
    namespaces = [{"type": kind} for kind in ("pid", "mount", "cgroup", "ipc", "uts", "network")]
    cgroup = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}
    text = shell(davit, rootfs, "cat /proc/self/cgroup; ls /sys/fs/cgroup; cat /sys/fs/cgroup/pids/cgroup.procs || cat /sys/fs/cgroup/cgroup.procs",
                 [cgroup], linux={"namespaces": namespaces})
    assert davit.cgroup_parent not in text
    assert "\n1\n" in text  # the init, alone


def test_overlay(davit, rootfs):
    for name in ("low1", "low2", "upper", "work"):
        (davit.base / name).mkdir()
    (davit.base / "low1/a").write_text("one\n")
    (davit.base / "low2/b").write_text("two\n")
    base = davit.base
    options = [f"lowerdir={base}/low1:{base}/low2", f"upperdir={base}/upper", f"workdir={base}/work"]
    assert shell(davit, rootfs, "cat /m/a /m/b; echo three >/m/c", [{"destination": "/m", "type": "overlay", "source": "overlay", "options": options}]) == "one\ntwo\n"
    assert (base / "upper/c").read_text() == "three\n"


# binds


def test_bind_and_rbind(davit, rootfs, tree):
    assert shell(davit, rootfs, "cat /m/file; ls /m/sub", [bind(tree)]) == "of the host\n"
    assert shell(davit, rootfs, "cat /m/sub/deep", [bind(tree, "/m", "rbind")]) == "deep\n"
    assert shell(davit, rootfs, "cat /m/f", [bind(tree / "file", "/m/f")]) == "of the host\n"
    assert shell(davit, rootfs, "echo written >/m/new", [bind(tree)]) == ""
    assert (tree / "new").read_text() == "written\n"
    # old configs have relative destinations: relative to the root
    assert shell(davit, rootfs, "cat /rel/file", [bind(tree, "rel")]) == "of the host\n"
    # by type alone
    assert shell(davit, rootfs, "cat /m/file", [{"destination": "/m", "type": "bind", "source": str(tree)}]) == "of the host\n"


def test_recursive_flags(davit, rootfs, tree):
    for option, word in (("rro", "ro"), ("rnosuid", "nosuid"), ("rnodev", "nodev"), ("rnoexec", "noexec"), ("rnoatime", "noatime"),
                         ("rnosymfollow", "nosymfollow")):
        found = mountinfo(davit, rootfs, [bind(tree, "/m", "rbind", option)])
        assert word in found["/m"].options and word in found["/m/sub"].options, (option, found["/m/sub"].options)
        plain = mountinfo(davit, rootfs, [bind(tree, "/m", "rbind", word)])
        assert word in plain["/m"].options and word not in plain["/m/sub"].options, option
    found = mountinfo(davit, rootfs, [bind(tree, "/m", "rbind", "ro", "rrw")])
    assert "rw" in found["/m/sub"].options


def test_bind_keeps_what_no_option_names(davit, rootfs):
    strict = davit.base / "strict"
    strict.mkdir()
    mount(davit, "-t", "tmpfs", "-o", "nosuid,nodev,noexec", "strict", strict)
    found = mountinfo(davit, rootfs, [bind(strict, "/m", "ro")])
    assert {"ro", "nosuid", "nodev", "noexec"} <= found["/m"].options
    found = mountinfo(davit, rootfs, [bind(strict, "/m", "exec", "dev", "suid")])
    assert not {"nosuid", "nodev", "noexec"} & found["/m"].options


def test_remount(davit, rootfs, tree):
    found = mountinfo(davit, rootfs, [bind(tree), {"destination": "/m", "options": ["bind", "remount", "ro", "noexec"]}])
    assert {"ro", "noexec"} <= found["/m"].options
    found = mountinfo(davit, rootfs, [TMPFS, {"destination": "/m", "type": "tmpfs", "options": ["remount", "ro", "size=32k"]}])
    assert "ro" in found["/m"].data | found["/m"].options and "size=32k" in found["/m"].data


def test_symlinks_as_sources(davit, rootfs, tree):
    (tree / "link").symlink_to("file")
    assert shell(davit, rootfs, "cat /m", [bind(tree / "link")]) == "of the host\n"
    assert shell(davit, rootfs, "readlink /n", [bind(tree / "link", "/n", "copy-symlink")]) == "file\n"
    assert shell(davit, rootfs, "readlink /k", [bind(tree / "link", "/k", "src-nofollow")]) == "file\n"


def test_symlinks_as_destinations(davit, rootfs, tree):
    (rootfs / "real").mkdir()
    (rootfs / "link").symlink_to("/real")
    (rootfs / "last").symlink_to("/real")
    assert shell(davit, rootfs, "cat /real/file", [bind(tree, "/link")]) == "of the host\n"
    assert shell(davit, rootfs, "ls /real", [bind(tree / "file", "/last", "dest-nofollow")]) == ""


def test_propagation(davit, rootfs, tree):
    private = davit.base / "shared"
    private.mkdir()
    mount(davit, "-t", "tmpfs", "shared", private)
    subprocess.run(["mount", "--make-shared", str(private)], check=True)
    # a shared mount of the host's becomes its slave first, and is then shared among others
    for word, tag in (("shared", {"shared", "master"}), ("slave", {"master"}), ("private", set()), ("unbindable", {"unbindable"})):
        found = mountinfo(davit, rootfs, [bind(private, "/m", word)])
        assert found["/m"].tags == tag, (word, found["/m"].tags)
        found = mountinfo(davit, rootfs, [bind(tree, "/m", "rbind", "r" + word)])
        got = found["/m/sub"].tags
        assert got == tag or got == tag - {"master"}, (word, got)
    # what is mounted on the host comes through to a slave, and not to a private mount
    (private / "late").mkdir()
    davit.launch("c", ["sleep", "1000"], rootfs, mounts=[PROC, bind(private, "/slave", "slave"), bind(private, "/private", "private")])
    mount(davit, "-t", "tmpfs", "late", private / "late")
    (private / "late/word").write_text("here\n")
    assert davit.exec("c", ["cat", "/slave/late/word"])[1] == "here\n"
    assert davit.exec("c", ["cat", "/private/late/word"])[0]["exit_status"] == 1


def test_shared_mount_comes_out(davit, rootfs):
    """A container may mount for the host below a shared bind."""
    shared = davit.base / "shared"
    shared.mkdir()
    mount(davit, "-t", "tmpfs", "shared", shared)
    subprocess.run(["mount", "--make-shared", str(shared)], check=True)
    (shared / "in").mkdir()
    caps = ["CAP_SYS_ADMIN"]
    davit.launch("c", ["sh", "-c", "mount -t tmpfs x /m/in 2>/m/error && echo hello >/m/in/word; sleep 1000"], rootfs,
                 mounts=[PROC, bind(shared, "/m", "rshared")], linux={"rootfsPropagation": "rshared"},
                 process={"capabilities": {"bounding": caps, "effective": caps, "permitted": caps}})
    davit.cleanups.append(lambda: subprocess.run(["umount", "-l", str(shared / "in")], check=False, capture_output=True))
    wait_for(lambda: (shared / "in/word").exists(), 10)
    davit.remove("c")


def test_idmap(davit, rootfs):
    data = davit.base / "data"
    data.mkdir()
    (data / "mine").write_text("x")
    os.chown(data / "mine", 0, 0)
    (data / "theirs").write_text("x")
    os.chown(data / "theirs", 7, 8)
    data.chmod(0o777)
    maps = {"uidMappings": [{"containerID": 0, "hostID": 1000, "size": 100}], "gidMappings": [{"containerID": 0, "hostID": 2000, "size": 100}]}
    script = "stat -c %u:%g /m/mine /m/theirs"
    try:
        text = shell(davit, rootfs, script, [{**bind(data, "/m", "idmap"), **maps}])
    except RpcError as error:
        if error.details.get("errname") in ("EINVAL", "EOPNOTSUPP"):
            pytest.skip("the file system here cannot be id-mapped")
        raise
    assert text.split() == ["1000:2000", "1007:2008"]
    # mappings alone are enough, and crun's own option says them as text: host's id first there, the file's after
    assert shell(davit, rootfs, script, [{**bind(data), **maps}]).split() == ["1000:2000", "1007:2008"]
    assert shell(davit, rootfs, script, [bind(data, "/m", "idmap=uids=0-1000-100;gids=0-2000-100")]).split() == ["1000:2000", "1007:2008"]
    # what is made there is the host's again
    text = shell(davit, rootfs, "id -u; touch /m/new; stat -c %u:%g /m/new", [{**bind(data, "/m", "idmap"), **maps}],
                 process={"user": {"uid": 1001, "gid": 2003}})
    assert text.split() == ["1001", "1001:2003"]
    made = (data / "new").stat()
    assert (made.st_uid, made.st_gid) == (1, 3)
    error = refused("invalid_argument", davit.run, ["true"], rootfs, mounts=[bind(data, "/m", "idmap")])
    assert "uidMappings" in error.message
    error = refused("invalid_argument", davit.run, ["true"], rootfs, id="d", mounts=[bind(data, "/m", "idmap=uids=0-x-1")])
    assert "idmap" in error.message


def test_bad_mounts(davit, rootfs, tree):
    error = refused("not_found", davit.run, ["true"], rootfs, id="a", mounts=[bind("/nowhere/at/all")])
    assert "/nowhere/at/all" in error.message and error.details["errname"] == "ENOENT" and "mounts[0]" in error.message
    error = refused("invalid_argument", davit.run, ["true"], rootfs, id="b", mounts=[bind(tree, "/m", "size=7")])
    assert "size=7" in error.message
    refused("invalid_argument", davit.run, ["true"], rootfs, id="d", mounts=[bind(tree, "/")])
    refused("invalid_argument", davit.run, ["true"], rootfs, id="e", mounts=[{"destination": "/m"}])
    refused("invalid_argument", davit.run, ["true"], rootfs, id="f", mounts=[{**TMPFS, "options": ["x=" + "y" * 5000]}])
    (rootfs / "file").write_text("")
    error = refused("failed_precondition", davit.run, ["true"], rootfs, id="g", mounts=[bind(tree, "/file/m")])
    assert error.details["errname"] == "ENOTDIR", error
    error = refused("failed_precondition", davit.run, ["true"], rootfs, id="h", mounts=[bind(tree, "/file")])
    assert error.details["errname"] == "ENOTDIR" and "/file" in error.message, error
    error = refused("failed_precondition", davit.run, ["true"], rootfs, id="i", mounts=[bind(tree / "file", "/bin")])
    assert error.details["errname"] == "EISDIR" and "/bin" in error.message, error


def test_two_hundred_mounts(davit, rootfs, tree):
    many = [bind(tree, f"/m/{n}/x") for n in range(200)]
    assert shell(davit, rootfs, "cat /m/*/x/file | sort | uniq -c | tr -s ' '", many) == " 200 of the host\n"


# masked and read-only paths


def test_masked_paths(davit, rootfs):
    (rootfs / "secret").mkdir()
    (rootfs / "secret/key").write_text("key")
    (rootfs / "word").write_text("word")
    paths = ["/secret", "/word", "/not/there", "/proc/uptime"]
    text = shell(davit, rootfs, "ls -A /secret; cat /word /proc/uptime; touch /secret/x 2>/dev/null || echo closed; echo x >/word; stat -c %F:%t:%T /word",
                 linux={"maskedPaths": paths, "readonlyPaths": []})
    assert text.splitlines() == ["closed", "character special file:1:3"]
    assert (rootfs / "word").read_text() == "word"


def test_readonly_paths(davit, rootfs):
    (rootfs / "fixed").mkdir()
    (rootfs / "fixed/file").write_text("x")
    (rootfs / "file").write_text("y")
    script = "for f in /fixed/file /fixed/new /file /proc/sys/kernel/hostname; do (echo z >$f) 2>/dev/null || echo $f; done; cat /fixed/file /file"
    text = shell(davit, rootfs, script, linux={"maskedPaths": [], "readonlyPaths": ["/fixed", "/file", "/proc/sys", "/not/there"]})
    assert text == "/fixed/file\n/fixed/new\n/file\n/proc/sys/kernel/hostname\nxy"


# the root


def test_readonly_root(davit, rootfs, tree):
    text = shell(davit, rootfs, "touch /x 2>/dev/null || echo root; touch /m/x && echo mount; rm /m/x", [bind(tree)], root={"readonly": True})
    assert text == "root\nmount\n"
    assert shell(davit, rootfs, "touch /x && echo root", root={"readonly": False}) == "root\n"


@pytest.mark.parametrize("word, tags", [("shared", {"shared"}), ("slave", None), ("private", set()), ("unbindable", {"unbindable"}),
                                        ("rshared", {"shared"}), ("rslave", None), ("rprivate", set())])
def test_rootfs_propagation(davit, rootfs, word, tags):
    found = mountinfo(davit, rootfs, linux={"rootfsPropagation": word})
    assert found["/"].tags == tags if tags is not None else found["/"].tags <= {"master"}, found["/"].tags
    refused("invalid_argument", davit.run, ["true"], rootfs, linux={"rootfsPropagation": "sideways"})


def test_nothing_of_the_host_is_seen(davit, rootfs):
    before = host_mounts()
    found = mountinfo(davit, rootfs)
    assert set(found) <= {"/", "/proc", "/dev", "/sys", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
                          "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"} | {
        point for point in found if point.startswith("/dev/")}, sorted(found)
    assert host_mounts() == before


def test_no_pivot_root(davit, rootfs):
    davit.call("containers.create", id="c", spec=spec(["sh", "-c", "ls /bin/busybox; ls /../..; cat /proc/self/mountinfo"], rootfs))
    out = Reader()
    davit.call("tasks.create", container_id="c", options={"no_pivot_root": True}, stdout=Fd(out.write_fd))
    out.close_write()
    davit.call("tasks.start", container_id="c")
    assert davit.call("tasks.wait", container_id="c")["exit_status"] == 0
    assert out.text().startswith("/bin/busybox\nbin\n")


# the rootfs list of tasks.create


def with_list(davit, rootfs_list, args, **changes):
    out = Reader()
    config = spec(args, "rootfs", **changes)
    del config["root"]
    davit.call("containers.create", id="c", spec=config)
    try:
        davit.call("tasks.create", container_id="c", rootfs=rootfs_list, stdout=Fd(out.write_fd), stderr=Fd(out.write_fd))
        out.close_write()
        davit.call("tasks.start", container_id="c")
        ended = davit.call("tasks.wait", container_id="c")
        return ended["exit_status"], out.text()
    finally:
        out.close_write()
        davit.remove("c")


def test_rootfs_list(davit, busybox):
    before = host_mounts()
    for name in ("upper", "work"):
        (davit.base / name).mkdir()
    overlay = {"type": "overlay", "source": "overlay",
               "options": [f"lowerdir={busybox}", f"upperdir={davit.base}/upper", f"workdir={davit.base}/work"]}
    assert with_list(davit, [overlay], ["sh", "-c", "echo kept >/new; cat /new"]) == (0, "kept\n")
    assert (davit.base / "upper/new").read_text() == "kept\n"
    binding = {"type": "bind", "source": str(busybox), "options": ["rbind", "ro"]}
    code, text = with_list(davit, [binding], ["sh", "-c", "touch /x || echo read-only"])
    assert code == 0 and text.endswith("read-only\n")
    # a second one at a place inside
    (davit.base / "extra").mkdir()
    (davit.base / "extra/word").write_text("extra\n")
    both = [overlay, {"type": "bind", "source": str(davit.base / "extra"), "target": "/opt/extra", "options": ["rbind"]}]
    assert with_list(davit, both, ["cat", "/opt/extra/word"]) == (0, "extra\n")
    assert host_mounts() == before


def test_rootfs_list_with_a_user_namespace(davit, busybox):
    maps = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    binding = {"type": "bind", "source": str(busybox), "options": ["rbind", "ro"]}
    namespaces = [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "user")]
    code, text = with_list(davit, [binding], ["sh", "-c", "id -u; cat /proc/self/uid_map | tr -s ' '"],
                           linux={"namespaces": namespaces, "uidMappings": maps, "gidMappings": maps})
    assert (code, text) == (0, "0\n 0 100000 65536\n")


def test_bad_rootfs_lists(davit, busybox):
    for item, code in (
        ({"type": "overlay", "source": "overlay", "options": ["lowerdir=/nowhere"]}, "not_found"),
        ({"type": "bind", "source": "/nowhere", "options": ["rbind"]}, "not_found"),
        ({"source": str(busybox), "options": []}, "invalid_argument"),
    ):
        error = refused(code, with_list, davit, [item], ["true"])
        assert "rootfs" in error.message or "/nowhere" in error.message or error.details.get("path"), error
    refused("invalid_argument", with_list, davit, [{"type": 7}], ["true"])
    # a program that the list does not have
    binding = {"type": "bind", "source": str(busybox), "options": ["rbind"]}
    error = refused("not_found", with_list, davit, [binding], ["/missing"])
    assert error.details["exit_code"] == 127


# bundles


@pytest.mark.parametrize("tool", ["runc", "crun"])
def test_bundles_as_they_are(davit, busybox, tool):
    program = shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin")
    if not program:
        pytest.skip(f"{tool} is not installed")
    folder = davit.base / "bundle"
    folder.mkdir()
    (folder / "rootfs").symlink_to(busybox)
    subprocess.run([program, "spec"], cwd=folder, check=True)
    config = json.loads((folder / "config.json").read_text())
    config["process"]["terminal"] = False
    config["process"]["args"] = ["sh", "-c", "hostname; touch /x 2>/dev/null || echo read-only; ls /proc/self /sys/fs/cgroup >/dev/null && echo $TERM"]
    bundle(folder, config)
    davit.call("containers.create", id="c", bundle=str(folder))
    out = Reader()
    davit.call("tasks.create", container_id="c", stdout=Fd(out.write_fd), stderr=Fd(out.write_fd))
    out.close_write()
    davit.call("tasks.start", container_id="c")
    code = davit.call("tasks.wait", container_id="c")["exit_status"]
    text = out.text()
    assert code == 0, text
    assert text.splitlines() == [config["hostname"], "read-only", "xterm"]


def test_bundle_relative_paths(davit, rootfs):
    folder = bundle(davit.base / "bundle", spec(["cat", "/m/word"], "rootfs", mounts=[PROC, bind("data", "/m")]))
    (folder / "rootfs").symlink_to(rootfs)
    (folder / "data").mkdir()
    (folder / "data/word").write_text("beside\n")
    davit.call("containers.create", id="c", bundle=str(folder))
    out = Reader()
    davit.call("tasks.create", container_id="c", stdout=Fd(out.write_fd))
    out.close_write()
    davit.call("tasks.start", container_id="c")
    assert davit.call("tasks.wait", container_id="c")["exit_status"] == 0
    assert out.text() == "beside\n"
