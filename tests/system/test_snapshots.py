# SPDX-License-Identifier: Apache-2.0
"""Snapshots over RPC, and tasks whose root file system is one."""

import os
import random
import shutil
import signal
import stat
import struct
import subprocess
import threading
import time
from pathlib import Path

import pytest

from lib import rootfs as roots
from lib.rpc import DEADLINE, Closed, RpcError

BOTH = ["overlayfs", "native"]


def overlay_works(davit):
    """Whether --root can be used by overlayfs: else native is what one gets."""
    source = davit.call("snapshots.prepare", key="which", namespace="which")["mounts"][0]["source"]
    davit.call("snapshots.remove", key="which", namespace="which")
    return "/overlayfs/" in source


def hold(davit):
    """What nothing refers to is garbage: a lease holds what the test prepares without saying one."""
    plain, held = davit.call, set()

    def call(method, **params):
        if method in ("snapshots.prepare", "snapshots.view") and "lease" not in params:
            namespace = params.get("namespace", "default")
            if namespace not in held:
                plain("leases.create", id="keep", namespace=namespace)
                held.add(namespace)
            params["lease"] = "keep"
        return plain(method, **params)

    davit.call = call
    return davit


@pytest.fixture
def held(davit):
    return hold(davit)


@pytest.fixture
def overlay(held):
    davit = held
    if not overlay_works(davit):
        pytest.skip("overlayfs cannot be used below the tests' folder")
    return davit


def option(mount, name):
    for text in mount["options"]:
        if text.startswith(name + "="):
            return text[len(name) + 1:]
    return None


def folder(mounts):
    """The folder that what is written into a snapshot ends up in."""
    (mount,) = mounts
    if mount["type"] == "bind":
        return Path(mount["source"])
    return Path(option(mount, "upperdir"))


def layer(davit, name, parent=None, fill=None, *, snapshotter=None, labels=None, **common):
    """Makes a committed snapshot; fill gets its folder."""
    more = {**common, **({"snapshotter": snapshotter} if snapshotter else {})}
    parents = {"parent": parent} if parent else {}
    mounts = davit.call("snapshots.prepare", key="work " + name, **parents, **more)["mounts"]
    if fill:
        fill(folder(mounts))
    davit.call("snapshots.commit", key="work " + name, name=name, **({"labels": labels} if labels else {}), **more)


def write(name, text):
    return lambda at: (at / name).write_text(text)


def busybox_layer(davit, busybox, name="base", **more):
    layer(davit, name, fill=lambda at: shutil.copytree(busybox, at, symlinks=True, dirs_exist_ok=True), **more)


def names(davit, **more):
    return [s["name"] for s in davit.call("snapshots.list", **more)["snapshots"]]


def folders(davit, snapshotter):
    return sorted(os.listdir(davit.root / "snapshots" / snapshotter))


def wait_empty(at):
    """The trash is emptied behind the answer."""
    end = time.monotonic() + DEADLINE
    while os.listdir(at):
        assert time.monotonic() < end, f"{at} is not emptied"
        time.sleep(0.01)


class Mounted:
    """Mounts as mount(8) does, at a folder of the test's daemon."""

    def __init__(self, davit, mounts):
        (self.mount,) = mounts
        self.at = davit.base / davit.unique("mnt")
        self.at.mkdir()

    def __enter__(self):
        mount = self.mount
        kind = [] if mount["type"] == "bind" else ["-t", mount["type"]]
        subprocess.run(["mount", *kind, mount["source"], "-o", ",".join(mount["options"]), str(self.at)], check=True)
        return self.at

    def __exit__(self, *exc):
        subprocess.run(["umount", str(self.at)], check=True)
        self.at.rmdir()


# ---- records


@pytest.mark.parametrize("snapshotter", BOTH)
def test_life_cycle(overlay, snapshotter):
    davit, more = overlay, {"snapshotter": snapshotter}
    with davit.events() as events:
        mounts = davit.call("snapshots.prepare", key="k", labels={"a": "1", "none": ""}, **more)["mounts"]
        (mount,) = mounts
        assert (mount["type"], mount["options"]) == ("bind", ["rw", "rbind"])
        assert mount["source"].startswith(f"{davit.root}/snapshots/{snapshotter}/") and mount["source"].endswith("/fs")
        assert davit.call("snapshots.mounts", key="k", **more)["mounts"] == mounts
        info = davit.call("snapshots.stat", key="k", **more)["info"]
        assert info == {"name": "k", "parent": "", "kind": "active", "labels": {"a": "1"},
                        "created_at": info["created_at"], "updated_at": info["created_at"]}
        assert abs(info["created_at"] - time.time_ns()) < 60e9
        (folder(mounts) / "f").write_bytes(b"x" * 10000)
        assert davit.call("snapshots.commit", key="k", name="n", labels={"b": "2"}, **more) == {}
        info = davit.call("snapshots.stat", key="n", **more)["info"]
        assert (info["kind"], info["labels"], info["parent"]) == ("committed", {"b": "2"}, "")
        davit.call("snapshots.prepare", key="child", parent="n", **more)
        davit.call("snapshots.view", key="view", parent="n", **more)
        assert davit.call("snapshots.stat", key="child", **more)["info"]["parent"] == "n"
        assert davit.call("snapshots.stat", key="view", **more)["info"]["kind"] == "view"
        assert names(davit, **more) == ["child", "n", "view"]
        for key in ("child", "view", "n"):
            assert davit.call("snapshots.remove", key=key, **more) == {}
        assert names(davit, **more) == []
        assert folders(davit, snapshotter) == []
        wait_empty(davit.root / "trash")
        seen = []
        for topic in ("prepare", "commit", "prepare", "remove", "remove", "remove"):
            event = events.next()
            while not event["topic"].startswith("/snapshot/"):
                event = events.next()
            assert event["topic"] == "/snapshot/" + topic
            assert event["event"].pop("snapshotter") == snapshotter
            seen.append(event["event"])
    assert seen == [{"key": "k", "parent": ""}, {"key": "k", "name": "n"}, {"key": "child", "parent": "n"},
                    {"key": "child"}, {"key": "view"}, {"key": "n"}]


def test_mounts_are_containerds(overlay):
    davit = overlay
    layer(davit, "one")
    layer(davit, "two", "one")
    layer(davit, "three", "two")
    (mount,) = davit.call("snapshots.prepare", key="a", parent="three")["mounts"]
    at = f"{davit.root}/snapshots/overlayfs"
    number = Path(option(mount, "upperdir")).parent.name
    lower = option(mount, "lowerdir").split(":")
    assert mount == {"type": "overlay", "source": "overlay", "target": "", "options": [
        "index=off", f"workdir={at}/{number}/work", f"upperdir={at}/{number}/fs", "lowerdir=" + ":".join(lower)]}
    # nearest first
    numbers = [int(Path(path).parent.name) for path in lower]
    assert numbers == sorted(numbers, reverse=True) and len(numbers) == 3
    (view,) = davit.call("snapshots.view", key="v", parent="two")["mounts"]
    assert view["options"] == ["index=off", "lowerdir=" + ":".join(lower[1:])]
    (single,) = davit.call("snapshots.view", key="v1", parent="one")["mounts"]
    assert (single["type"], single["source"], single["options"]) == ("bind", lower[2], ["ro", "rbind"])
    (bare,) = davit.call("snapshots.view", key="v0")["mounts"]
    assert (bare["type"], bare["options"]) == ("bind", ["ro", "rbind"])


@pytest.mark.parametrize("snapshotter", BOTH)
def test_layers_and_views(overlay, snapshotter):
    davit, more = overlay, {"snapshotter": snapshotter}

    layer(davit, "one", fill=lambda at: [write("a", "1")(at), write("b", "1")(at)], **more)
    layer(davit, "two", "one", **more)
    mounts = davit.call("snapshots.prepare", key="work", parent="two", **more)["mounts"]
    with Mounted(davit, mounts) as at:
        assert (at / "a").read_text() == "1"
        (at / "a").unlink()
        (at / "b").write_text("2")
    davit.call("snapshots.commit", key="work", name="three", **more)
    view = davit.call("snapshots.view", key="view", parent="three", **more)["mounts"]
    with Mounted(davit, view) as at:
        assert sorted(p.name for p in at.iterdir()) == ["b"]
        assert (at / "b").read_text() == "2"
        with pytest.raises(OSError, match="Read-only"):
            (at / "b").write_text("3")
        with pytest.raises(OSError, match="Read-only"):
            (at / "new").mkdir()
    # the parents are as they were
    with Mounted(davit, davit.call("snapshots.view", key="old", parent="two", **more)["mounts"]) as at:
        assert sorted((p.name, p.read_text()) for p in at.iterdir()) == [("a", "1"), ("b", "1")]


def test_root_folder_is_inherited(overlay):
    davit = overlay

    def own(at):
        os.chown(at, 12, 34)
        at.chmod(0o2751)
        os.setxattr(at, "user.of", b"root")

    mounts = davit.call("snapshots.prepare", key="plain")["mounts"]
    st = folder(mounts).stat()
    assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid) == (0o755, 0, 0)
    layer(davit, "one", fill=own)
    layer(davit, "two", "one")
    with Mounted(davit, davit.call("snapshots.prepare", key="k", parent="two")["mounts"]) as at:
        st = at.stat()
        assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid) == (0o2751, 12, 34)
        assert os.getxattr(at, "user.of") == b"root"


def test_errors(overlay):
    davit = overlay
    layer(davit, "base")
    davit.call("snapshots.prepare", key="active", parent="base")
    davit.call("snapshots.view", key="view", parent="base")
    before = names(davit), folders(davit, "overlayfs")

    def refused(code, text, method, **params):
        with pytest.raises(RpcError) as error:
            davit.call("snapshots." + method, **params)
        assert error.value.code == code, error.value
        assert text in error.value.message, error.value
        assert error.value.message.startswith("snapshots." + method), error.value
        return error.value

    refused("already_exists", "'active'", "prepare", key="active")
    refused("already_exists", "'base'", "view", key="base")
    refused("not_found", "'nobody'", "prepare", key="x", parent="nobody")
    refused("failed_precondition", "not committed", "prepare", key="x", parent="active")
    refused("failed_precondition", "not committed", "view", key="x", parent="view")
    refused("not_found", "'base'", "prepare", key="x", parent="base", snapshotter="native")
    refused("not_found", "'btrfs'", "prepare", key="x", snapshotter="btrfs")
    refused("failed_precondition", "a view", "commit", key="view", name="x")
    refused("failed_precondition", "committed already", "commit", key="base", name="x")
    refused("already_exists", "'base'", "commit", key="active", name="base")
    refused("not_found", "'x'", "commit", key="x", name="y")
    refused("failed_precondition", "'active', 'view'", "remove", key="base")
    refused("not_found", "'x'", "remove", key="x")
    refused("failed_precondition", "committed", "mounts", key="base")
    for method in ("mounts", "stat", "usage"):
        refused("not_found", "'x'", method, key="x")
        refused("not_found", "'zfs'", method, key="x", snapshotter="zfs")
        refused("invalid_argument", "key", method)
        refused("invalid_argument", "key", method, key="")
        refused("invalid_argument", "key", method, key="k" * 4097)
        refused("invalid_argument", "key", method, key=7)
    refused("not_found", "'x'", "update", key="x", labels={"a": "b"})
    refused("invalid_argument", "mask", "update", key="base", mask=["parent"])
    refused("invalid_argument", "kind", "update", key="base", kind="active")
    refused("not_found", "'zfs'", "list", snapshotter="zfs")
    refused("not_found", "'zfs'", "cleanup", snapshotter="zfs")
    refused("not_found", "no-lease", "prepare", key="x", lease="no-lease")
    refused("not_found", "no-lease", "commit", key="active", name="x", lease="no-lease")
    refused("invalid_argument", "name", "commit", key="active")
    refused("invalid_argument", "labels", "prepare", key="x", labels={"l": "v" * 5000})
    assert (names(davit), folders(davit, "overlayfs")) == before
    assert folders(davit, "native") == []
    # the longest name that is one
    davit.call("snapshots.prepare", key="k" * 4096)
    davit.call("snapshots.remove", key="k" * 4096)


def test_list_filters_and_pages(overlay):
    davit = overlay
    layer(davit, "base", labels={"tier": "gold", "a.b/c": "x"})
    for i in range(5):
        davit.call("snapshots.prepare", key=f"k{i}", parent="base", labels={"n": str(i)})
    davit.call("snapshots.view", key="v", parent="base")
    assert names(davit) == ["base", "k0", "k1", "k2", "k3", "k4", "v"]
    assert names(davit, filters=["kind==committed"]) == ["base"]
    assert names(davit, filters=["kind==view", "labels.n==3"]) == ["k3", "v"]
    assert names(davit, filters=["parent==base,kind==active,name!=k0"]) == ["k1", "k2", "k3", "k4"]
    assert names(davit, filters=['labels."a.b/c"==x']) == ["base"]
    assert names(davit, filters=["name~=^k[12]$"]) == ["k1", "k2"]
    assert names(davit, filters=["parent"]) == ["k0", "k1", "k2", "k3", "k4", "v"]
    assert names(davit, filters=["nothing==x"]) == []
    page = davit.call("snapshots.list", limit=3, fields=["name", "labels"])
    assert page == {"next": "k1", "snapshots": [
        {"name": "base", "labels": {"tier": "gold", "a.b/c": "x"}}, {"name": "k0", "labels": {"n": "0"}},
        {"name": "k1", "labels": {"n": "1"}}]}
    assert names(davit, after="k1") == ["k2", "k3", "k4", "v"]
    assert names(davit, snapshotter="native") == []


def test_update(overlay):
    davit = overlay
    layer(davit, "base", labels={"a": "1", "b": "2"})
    info = davit.call("snapshots.update", key="base", labels={"c": "3"})["info"]
    assert info["labels"] == {"c": "3"} and info["updated_at"] > info["created_at"]
    davit.call("snapshots.update", key="base", labels={"d": "4", "c": "9"}, mask=["labels.d"])
    assert davit.call("snapshots.stat", key="base")["info"]["labels"] == {"c": "3", "d": "4"}
    davit.call("snapshots.update", key="base", labels={}, mask=["labels.c"])
    assert davit.call("snapshots.stat", key="base")["info"]["labels"] == {"d": "4"}
    davit.call("snapshots.update", key="base", labels={}, mask=["labels"])
    assert davit.call("snapshots.stat", key="base")["info"]["labels"] == {}


def test_namespaces_are_apart(overlay):
    davit = overlay
    layer(davit, "base", fill=write("f", "default"))
    layer(davit, "base", fill=write("f", "other"), namespace="other")
    with pytest.raises(RpcError, match="other2"):
        davit.call("snapshots.prepare", key="x", parent="base", namespace="other2")
    for namespace in ("default", "other"):
        mounts = davit.call("snapshots.view", key="v", parent="base", namespace=namespace)["mounts"]
        assert (folder(mounts) / "f").read_text() == namespace
    davit.call("snapshots.remove", key="v", namespace="other")
    davit.call("snapshots.remove", key="base", namespace="other")
    assert names(davit) == ["base", "v"]
    assert names(davit, namespace="other") == []


def test_leases(overlay):
    davit = overlay
    davit.call("leases.create", id="L")

    def resources():
        return [(r["type"], r["id"]) for r in davit.call("leases.list_resources", id="L")["resources"]]

    davit.call("snapshots.prepare", key="k", lease="L")
    assert resources() == [("snapshots/overlayfs", "k")]
    # the commit is not told of the lease, which goes on to hold what it held
    davit.call("snapshots.commit", key="k", name="n")
    assert resources() == [("snapshots/overlayfs", "n")]
    davit.call("snapshots.prepare", key="nk", snapshotter="native", lease="L")
    assert sorted(resources()) == [("snapshots/native", "nk"), ("snapshots/overlayfs", "n")]


# ---- files


def test_usage(overlay):
    davit = overlay
    mounts = davit.call("snapshots.prepare", key="k")["mounts"]
    at = folder(mounts)

    def expected():
        seen, size = set(), 0
        for path in [at, *at.rglob("*")]:
            st = path.lstat()
            if st.st_ino not in seen:
                seen.add(st.st_ino)
                size += st.st_blocks * 512
        return {"size": size, "inodes": len(seen)}

    assert davit.call("snapshots.usage", key="k") == expected()
    (at / "big").write_bytes(os.urandom(300000))
    os.link(at / "big", at / "again")
    (at / "dir").mkdir()
    (at / "dir/link").symlink_to("nowhere")
    with open(at / "sparse", "wb") as file:
        file.truncate(1 << 30)
    used = davit.call("snapshots.usage", key="k")
    assert used == expected()
    assert used["inodes"] == 5 and 300000 < used["size"] < 1000000
    davit.call("snapshots.commit", key="k", name="n")
    assert davit.call("snapshots.usage", key="n") == used
    # what is above is counted for itself
    layer(davit, "m", "n", write("f", "x"))
    assert davit.call("snapshots.usage", key="m")["inodes"] == 2
    davit.call("snapshots.view", key="v", parent="n")
    assert davit.call("snapshots.usage", key="v") == {"size": 0, "inodes": 0}


def test_native_copies(held):
    """All that a file system knows of files is there in the copy, and nothing is shared by name."""
    davit = held

    def fill(at):
        (at / "dir/sub").mkdir(parents=True)
        (at / "dir").chmod(0o1770)
        (at / "f").write_text("text")
        (at / "f").chmod(0o4711)
        os.chown(at / "f", 7, 8)
        (at / "f").chmod(0o4711)
        os.setxattr(at / "f", "user.x", b"\0y")
        # file capabilities: cap_net_raw=ep
        os.setxattr(at / "f", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
        os.link(at / "f", at / "dir/sub/hard")
        (at / "soft").symlink_to("/etc/not there")
        os.chown(at / "soft", 9, 10, follow_symlinks=False)
        os.mkfifo(at / "fifo", 0o640)
        os.mknod(at / "dev", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        with open(at / "sparse", "wb") as file:
            file.seek(100 << 20)
            file.write(b"end")
        # the access list u::rwx,u:55:r--,g::r-x,m::r-x,o::---
        entries = [(1, 7, 2**32 - 1), (2, 4, 55), (4, 5, 2**32 - 1), (16, 5, 2**32 - 1), (32, 0, 2**32 - 1)]
        os.setxattr(at / "dir/sub", "system.posix_acl_access",
                    struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries))
        for path in ("f", "soft", "dir/sub", "dir", "."):
            os.utime(at / path, ns=(1111111111, 2222222222), follow_symlinks=False)

    def facts(at):
        found = {}
        for path in sorted([at, *at.rglob("*")]):
            st = path.lstat()
            found[str(path.relative_to(at))] = (
                st.st_mode, st.st_uid, st.st_gid, st.st_nlink, st.st_rdev, st.st_mtime_ns,
                st.st_size if not stat.S_ISDIR(st.st_mode) else 0,
                {name: os.getxattr(path, name, follow_symlinks=False)
                 for name in os.listxattr(path, follow_symlinks=False)},
                os.readlink(path) if path.is_symlink() else None)
        return found

    mounts = davit.call("snapshots.prepare", key="k", snapshotter="native")["mounts"]
    first = folder(mounts)
    fill(first)
    davit.call("snapshots.commit", key="k", name="n", snapshotter="native")
    second = folder(davit.call("snapshots.prepare", key="c", parent="n", snapshotter="native")["mounts"])
    assert second != first
    assert facts(second) == facts(first)
    assert (second / "f").stat().st_ino == (second / "dir/sub/hard").stat().st_ino
    assert (second / "f").stat().st_ino != (first / "f").stat().st_ino
    assert (second / "sparse").stat().st_blocks * 512 < 1 << 20
    (second / "f").write_text("changed")
    assert (first / "f").read_text() == "text"
    # a view does not copy
    view = davit.call("snapshots.view", key="v", parent="n", snapshotter="native")["mounts"]
    assert folder(view) == first and view[0]["options"] == ["ro", "rbind"]
    assert sorted(os.listdir(second.parent)) == ["fs"]


def test_deep_trees(held):
    """Deeper than a path can be, or than files may be open."""
    davit = held
    depth = 3000
    mounts = davit.call("snapshots.prepare", key="k", snapshotter="native")["mounts"]
    at = os.open(folder(mounts), os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    assert davit.call("snapshots.usage", key="k", snapshotter="native")["inodes"] == depth + 1
    davit.call("snapshots.commit", key="k", name="n", snapshotter="native")
    davit.call("snapshots.prepare", key="c", parent="n", snapshotter="native")
    assert davit.call("snapshots.usage", key="c", snapshotter="native")["inodes"] == depth + 1
    davit.call("snapshots.remove", key="c", snapshotter="native")
    davit.call("snapshots.remove", key="n", snapshotter="native")
    davit.call("snapshots.cleanup", snapshotter="native")
    assert os.listdir(davit.root / "trash") == []


def test_cancelled_copy(held):
    """Who does not wait any more leaves no snapshot and no folder."""
    davit = held

    def fill(at):
        for i in range(3000):
            (at / str(i)).write_text("x")

    layer(davit, "n", fill=fill, snapshotter="native")
    with pytest.raises(RpcError) as error:
        davit.call("snapshots.prepare", key="c", parent="n", snapshotter="native", timeout=1000000)
    assert error.value.code == "deadline_exceeded"
    end = time.monotonic() + DEADLINE
    while len(folders(davit, "native")) != 1:
        assert time.monotonic() < end, folders(davit, "native")
        time.sleep(0.01)
    assert names(davit, snapshotter="native") == ["n"]
    wait_empty(davit.root / "trash")


def test_remove_does_not_hold(overlay):
    """A large tree is moved away at once and removed behind the answer."""
    davit = overlay

    def fill(at):
        for i in range(20):
            (at / str(i)).mkdir()
            for k in range(200):
                (at / str(i) / str(k)).touch()
            (at / str(i) / "data").write_bytes(b"x" * 1000000)

    for i in range(3):
        layer(davit, f"n{i}", fill=fill)
    pending = [davit.send("snapshots.remove", key=f"n{i}") for i in range(3)]
    pending.append(davit.send("snapshots.list"))
    for request in pending[:3]:
        assert request.result() == {}
    assert pending[3].result()["snapshots"] == []
    assert folders(davit, "overlayfs") == []
    wait_empty(davit.root / "trash")


def test_cleanup(overlay):
    davit = overlay
    layer(davit, "base", fill=write("f", "x"))
    (own,) = folders(davit, "overlayfs")
    for place in ("overlayfs/777/fs/deep", "overlayfs/junk", "native/1/fs"):
        (davit.root / "snapshots" / place).mkdir(parents=True)
    (davit.root / "trash/old/tree").mkdir(parents=True)
    assert davit.call("snapshots.cleanup") == {}
    assert folders(davit, "overlayfs") == [own]
    assert folders(davit, "native") == ["1"]  # the other snapshotter's
    assert os.listdir(davit.root / "trash") == []
    davit.call("snapshots.cleanup", snapshotter="native")
    assert folders(davit, "native") == []
    assert davit.call("snapshots.stat", key="base")["info"]["kind"] == "committed"


# ---- the daemon's ends


def test_restart(overlay):
    davit = overlay
    layer(davit, "base", fill=write("f", "x"), labels={"a": "b"})
    mounts = davit.call("snapshots.prepare", key="k", parent="base")["mounts"]
    before = davit.call("snapshots.list")["snapshots"]
    there = folders(davit, "overlayfs")
    (davit.root / "snapshots/overlayfs/new.77/fs").mkdir(parents=True)
    (davit.root / "snapshots/native/5/fs").mkdir(parents=True)
    davit.stop()
    davit.start()
    assert davit.call("snapshots.list")["snapshots"] == before
    assert davit.call("snapshots.mounts", key="k")["mounts"] == mounts
    assert folders(davit, "overlayfs") == there and len(there) == 2
    assert folders(davit, "native") == []
    wait_empty(davit.root / "trash")


@pytest.mark.parametrize("snapshotter", BOTH)
def test_kill_anywhere(overlay, snapshotter):
    """kill -9 in the middle of everything: rows and folders fit each other afterwards."""
    davit, more = overlay, {"snapshotter": snapshotter}
    rng = random.Random(4711)

    def fill(at):
        for i in range(100):
            (at / str(i)).write_text("x")

    layer(davit, "base", fill=fill, **more)
    own = folders(davit, snapshotter)
    for turn in range(6):
        stop = threading.Event()

        def work(number, turn=turn, stop=stop):
            try:
                client = davit.client()
                for i in range(10000):
                    if stop.is_set():
                        return
                    key = f"{turn}-{number}-{i}"
                    client.call("snapshots.prepare", key=key, parent="base", lease="keep", **more)
                    client.call("snapshots.commit", key=key, name="c" + key, **more)
                    client.call("snapshots.remove", key="c" + key, **more)
            except (Closed, OSError):
                pass  # it was killed

        threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(rng.random() * 0.1)
        os.kill(davit.info["pid"], signal.SIGKILL)
        for thread in threads:
            thread.join()
        stop.set()
        davit.reconnect()
        left = names(davit, **more)
        assert "base" in left
        # each row has its folder, and each folder its row
        assert len(folders(davit, snapshotter)) == len(left)
        for name in left:
            if name != "base":
                davit.call("snapshots.remove", key=name, **more)
        assert folders(davit, snapshotter) == own
        view = davit.call("snapshots.view", key="v", parent="base", **more)["mounts"]
        assert len(os.listdir(folder(view))) == 100
        davit.call("snapshots.remove", key="v", **more)
    wait_empty(davit.root / "trash")


def test_kill_while_the_trash_is_emptied(overlay):
    davit = overlay

    def fill(at):
        for i in range(60):
            (at / str(i)).mkdir()
            for k in range(100):
                (at / str(i) / str(k)).touch()

    layer(davit, "big", fill=fill)
    pid = davit.info["pid"]
    davit.call("snapshots.remove", key="big")
    os.kill(pid, signal.SIGKILL)
    davit.reconnect()
    assert names(davit) == []
    assert folders(davit, "overlayfs") == []
    wait_empty(davit.root / "trash")


# ---- tasks


def run(davit, args, key, *, snapshotter=None, id="c", root="rootfs", **more):
    container = {"snapshot_key": key, **({"snapshotter": snapshotter} if snapshotter else {})}
    return davit.run(args, root, id=id, container=container, **more)


@pytest.mark.parametrize("snapshotter", [None, *BOTH])
def test_task_on_a_snapshot(overlay, busybox, snapshotter):
    davit = overlay
    more = {"snapshotter": snapshotter} if snapshotter else {}
    busybox_layer(davit, busybox, **more)
    layer(davit, "top", "base", write("motd", "hello"), **more)
    mounts = davit.call("snapshots.prepare", key="task", parent="top", **more)["mounts"]
    with davit.events(filters=["topic==/tasks/create"]) as events:
        ended, text = run(davit, ["sh", "-c", "cat /motd; echo new > /made; rm /bin/vi; id -u"], "task", **more)
        assert events.next()["event"]["rootfs"] == mounts
    assert (ended["exit_status"], text) == (0, "hello0\n")
    assert (folder(mounts) / "made").read_text() == "new\n"
    # what it did can be committed and is what the next one sees
    davit.call("snapshots.commit", key="task", name="after", **more)
    davit.call("snapshots.prepare", key="next", parent="after", **more)
    ended, text = run(davit, ["sh", "-c", "cat /made; test -e /bin/vi; echo $?"], "next", **more)
    assert (ended["exit_status"], text) == (0, "new\n1\n")
    # and another one on the same parent does not
    davit.call("snapshots.prepare", key="apart", parent="top", **more)
    ended, text = run(davit, ["sh", "-c", "ls /made"], "apart", **more)
    assert ended["exit_status"] == 1


def test_task_on_a_view(overlay, busybox):
    davit = overlay
    busybox_layer(davit, busybox)
    layer(davit, "top", "base", write("f", "x"))
    for key, parent in (("one", "base"), ("two", "top")):
        davit.call("snapshots.view", key=key, parent=parent)
        ended, text = run(davit, ["sh", "-c", "echo x > /new"], key)
        assert ended["exit_status"] == 1 and "Read-only file system" in text


def test_task_errors(overlay, busybox, rootfs):
    davit = overlay
    busybox_layer(davit, busybox)
    with pytest.raises(RpcError) as error:
        run(davit, ["true"], "nothing-there", id="a")
    assert error.value.code == "not_found"
    assert "snapshot_key" in error.value.message and "'nothing-there'" in error.value.message
    with pytest.raises(RpcError) as error:
        run(davit, ["true"], "base", id="b")
    assert error.value.code == "failed_precondition" and "committed" in error.value.message
    with pytest.raises(RpcError) as error:
        run(davit, ["true"], "base", id="d", snapshotter="btrfs")
    assert error.value.code == "not_found" and "btrfs" in error.value.message
    # of another namespace it is not this one
    davit.call("snapshots.prepare", key="k", parent="base")
    with pytest.raises(RpcError) as error:
        run(davit, ["true"], "k", id="e", namespace="other")
    assert error.value.code == "not_found"
    # a folder that is lost
    upper = folder(davit.call("snapshots.mounts", key="k")["mounts"])
    shutil.rmtree(upper)
    with pytest.raises(RpcError) as error:
        run(davit, ["true"], "k", id="f")
    assert error.value.code == "not_found" or "mount rootfs" in str(error.value.details)
    # nothing of it is left, and each can still be used
    assert davit.call("tasks.list")["tasks"] == []
    # a rootfs list in the request goes before the snapshot
    davit.call("containers.create", id="g", spec=roots.spec(["true"], str(rootfs)), snapshot_key="nothing-there")
    davit.call("tasks.create", container_id="g", rootfs=[
        {"type": "bind", "source": str(rootfs), "target": "", "options": ["rbind", "rw"]}])
    davit.remove("g")


def test_task_in_a_user_namespace(overlay, busybox):
    davit = overlay

    def fill(at):
        shutil.copytree(busybox, at, symlinks=True, dirs_exist_ok=True)
        for path in [at, *at.rglob("*")]:
            os.chown(path, 100000, 100000, follow_symlinks=False)

    layer(davit, "base", fill=fill)
    layer(davit, "top", "base", write("f", "x"))
    mounts = davit.call("snapshots.prepare", key="k", parent="top")["mounts"]
    maps = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    kinds = [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "user")]
    ended, text = run(davit, ["sh", "-c", "cat /f; echo y > /made; id -u"], "k",
                      linux={"namespaces": kinds, "uidMappings": maps, "gidMappings": maps})
    assert (ended["exit_status"], text) == (0, "x0\n")
    assert (folder(mounts) / "made").stat().st_uid == 100000


def test_128_layers(overlay, busybox):
    davit = overlay
    busybox_layer(davit, busybox, "l0")
    for i in range(1, 140):
        layer(davit, f"l{i}", f"l{i - 1}", lambda at, i=i: [write(f"f{i}", str(i))(at), write("top", str(i))(at)])
    (mount,) = davit.call("snapshots.prepare", key="task", parent="l139")["mounts"]
    assert len(option(mount, "lowerdir").split(":")) == 140
    assert sum(len(text) for text in mount["options"]) > 4096
    ended, text = run(davit, ["sh", "-c", "cat /top /f1 /f139; ls -d /f* | wc -l; echo x > /f7"], "task")
    assert (ended["exit_status"], text) == (0, "1391139139\n")
    davit.call("snapshots.view", key="view", parent="l139")
    ended, text = run(davit, ["sh", "-c", "cat /f7"], "view")
    assert (ended["exit_status"], text) == (0, "7")


def test_task_survives_a_restart(overlay, busybox):
    davit = overlay
    busybox_layer(davit, busybox)
    layer(davit, "top", "base", write("f", "x"))
    davit.call("snapshots.prepare", key="k", parent="top")
    davit.launch("c", ["sleep", "1000"], "rootfs", container={"snapshot_key": "k"})
    davit.kill_reactor()
    ended, text = davit.exec("c", ["cat", "/f"])
    assert (ended["exit_status"], text) == (0, "x")
    davit.remove("c")


# ---- where overlayfs cannot be used


def test_native_is_the_way_out(make_davit, busybox):
    """--root on an overlay, which cannot be the upper folder of another."""
    davit = make_davit(start=False)
    for name in ("lower", "upper", "work"):
        (davit.base / name).mkdir()
    davit.root.mkdir()
    options = f"lowerdir={davit.base}/lower,upperdir={davit.base}/upper,workdir={davit.base}/work"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(davit.root)], check=True)
    davit.cleanups.append(lambda: subprocess.run(["umount", "-l", str(davit.root)], check=False))
    hold(davit.start())
    assert not overlay_works(davit)
    assert "snapshots are full copies (native): overlayfs cannot be mounted" in davit.log_text()
    with pytest.raises(RpcError) as error:
        davit.call("snapshots.prepare", key="k", snapshotter="overlayfs")
    assert error.value.code == "failed_precondition" and "overlayfs cannot be used here" in error.value.message
    busybox_layer(davit, busybox)
    davit.call("snapshots.prepare", key="k", parent="base")
    ended, text = run(davit, ["sh", "-c", "echo x > /new && cat /new"], "k")
    assert (ended["exit_status"], text) == (0, "x\n")
    assert folders(davit, "overlayfs") == [] and len(folders(davit, "native")) == 2
