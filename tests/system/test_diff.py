# SPDX-License-Identifier: Apache-2.0
"""Diffs: layers applied to snapshots and other mounts, and layers made of what was changed."""

import gzip
import hashlib
import io
import os
import shutil
import stat
import subprocess
import tarfile

import pytest

from lib.rpc import RpcError

TAR = "application/vnd.oci.image.layer.v1.tar"
BOTH = ["overlayfs", "native"]


def unzstd(data):
    return subprocess.run(["zstd", "-dc"], input=data, stdout=subprocess.PIPE, check=True).stdout


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def fails(code, part, call, *args, **params):
    with pytest.raises(RpcError) as error:
        call(*args, **params)
    assert error.value.code == code, error.value
    assert part in error.value.message, error.value
    return error.value


@pytest.fixture
def store(davit):
    """A daemon on which a lease holds whatever the test makes."""
    plain = davit.call
    plain("leases.create", id="test")
    davit.call = lambda method, **params: plain(method, **{"lease": "test", **params})
    return davit


@pytest.fixture
def overlay(store):
    mounts = store.call("snapshots.prepare", key="which")["mounts"]
    store.call("snapshots.remove", key="which")
    if "/overlayfs/" not in mounts[0]["source"]:
        pytest.skip("overlayfs cannot be used below the tests' folder")
    return store


def entry(name, data=b"", **more):
    info = tarfile.TarInfo(name)
    info.type = more.pop("type", tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE)
    info.mode = 0o755 if info.isdir() else 0o644
    info.mtime = 1700000000
    info.size = len(data)
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def tar(*entries, format=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def put(davit, data, media_type=TAR):
    ref, step = davit.unique("layer"), 4 << 20
    for at in range(0, len(data), step):
        davit.call("content.write", ref=ref, action="write", offset=at, data=data[at : at + step])
    name = davit.call("content.write", ref=ref, action="commit")["digest"]
    return {"media_type": media_type, "digest": name, "size": len(data)}


def fetch(davit, name):
    data, answer = b"", {"eof": False}
    while not answer["eof"]:
        answer = davit.call("content.read", digest=name, offset=len(data))
        data += answer["data"]
    return data


def apply(davit, mounts, data, media_type=TAR, unpacked=None):
    applied = davit.call("diff.apply", diff=put(davit, data, media_type), mounts=mounts)["applied"]
    unpacked = data if unpacked is None else unpacked
    assert applied == {"media_type": TAR, "digest": digest(unpacked), "size": len(unpacked)}


def layer(davit, name, data, parent="", **more):
    """A committed snapshot of a layer."""
    mounts = davit.call("snapshots.prepare", key=f"work {name}", parent=parent, **more)["mounts"]
    apply(davit, mounts, data)
    davit.call("snapshots.commit", key=f"work {name}", name=name, **more)


class Mounted:
    """What mounts show."""

    def __init__(self, davit, mounts):
        (self.mount,) = mounts
        self.at = davit.base / davit.unique("mnt")

    def __enter__(self):
        self.at.mkdir()
        kind = [] if self.mount["type"] == "bind" else ["-t", self.mount["type"]]
        options = ",".join(self.mount["options"])
        subprocess.run(["mount", *kind, self.mount["source"], "-o", options, str(self.at)], check=True)
        return self.at

    def __exit__(self, *exc):
        subprocess.run(["umount", str(self.at)], check=True)
        self.at.rmdir()


def describe(root):
    """All that is to be said of a tree but folders' times, as a comparable dict."""
    found, inodes = {}, {}
    for folder, names, files in os.walk(root):
        for name in sorted(names + files):
            path = os.path.join(folder, name)
            at, st = os.path.relpath(path, root), os.lstat(path)
            about = [stat.filemode(st.st_mode), st.st_uid, st.st_gid]
            if not stat.S_ISDIR(st.st_mode):
                about += [st.st_mtime_ns, st.st_nlink, inodes.setdefault(st.st_ino, at)]
            if stat.S_ISREG(st.st_mode):
                about.append(hashlib.sha256(open(path, "rb").read()).hexdigest())
            elif stat.S_ISLNK(st.st_mode):
                about.append(os.readlink(path))
            elif stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
                about.append(st.st_rdev)
            about.append({
                x: os.getxattr(path, x, follow_symlinks=False)
                for x in os.listxattr(path, follow_symlinks=False) if not x.startswith("trusted.overlay.")
            })
            found[at] = about
    return found


def view(davit, parent, **more):
    return davit.call("snapshots.view", key=davit.unique("view "), parent=parent, **more)["mounts"]


def shown(davit, mounts):
    with Mounted(davit, mounts) as at:
        return describe(at)


BASE = tar(
    entry("./"),
    entry("etc/"),
    entry("etc/passwd", b"root\n", uid=3, gid=4),
    entry("bin/", mode=0o1777),
    entry("bin/su", b"elf", mode=0o4755),
    entry("sbin", type=tarfile.SYMTYPE, linkname="bin"),
    entry("sbin/init", b"init"),
    entry("bin/init2", type=tarfile.LNKTYPE, linkname="bin/init"),
    entry("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    entry("gone", b"gone"),
    entry("dir/"),
    entry("dir/gone", b"gone"),
    entry("dir/stays", b"stays"),
    entry("hidden/"),
    entry("hidden/old", b"old"),
    entry("long/" + "n" * 150, b"long"),
)
UPPER = tar(
    entry("etc/passwd", b"root\nuser\n"),
    entry(".wh.gone"),
    entry("dir/.wh.gone"),
    entry("dir/new", b"new"),
    entry("hidden/.wh..wh..opq"),
    entry("hidden/new", b"new"),
    entry("bin", b"a file now"),
)


@pytest.mark.parametrize("snapshotter", BOTH)
def test_apply(store, snapshotter):
    more = {"snapshotter": snapshotter}
    layer(store, "base", BASE, **more)
    layer(store, "upper", UPPER, "base", **more)
    tree = shown(store, view(store, "base", **more))
    assert tree["etc/passwd"][:3] == ["-rw-r--r--", 3, 4]
    assert tree["bin"][0] == "drwxrwxrwt"
    assert tree["bin/su"][0] == "-rwsr-xr-x"
    assert tree["bin/init"][4:6] == tree["bin/init2"][4:6] == [2, "bin/init"]
    assert tree["null"][-2] == os.makedev(1, 3)
    assert "long/" + "n" * 150 in tree
    tree = shown(store, view(store, "upper", **more))
    assert {"gone", "dir/gone", "hidden/old", "bin/su"} & set(tree) == set()
    assert {"dir/new", "dir/stays", "hidden/new"} <= set(tree)
    assert tree["bin"][0] == "-rw-r--r--"
    # a folder that the layer does not have is as it was below
    assert tree["hidden"][0] == "drwxr-xr-x"


def test_implied_folders(overlay):
    davit = overlay
    layer(davit, "base", tar(entry("srv/", mode=0o1750, uid=7, gid=8), entry("srv/a", b"a")))
    layer(davit, "upper", tar(entry("srv/b", b"b")), "base")
    tree = shown(davit, view(davit, "upper"))
    assert tree["srv"][:3] == ["drwxr-x--T", 7, 8]
    assert {"srv/a", "srv/b"} <= set(tree)


def test_apply_over_changes(overlay):
    """An upper folder that is not empty is written through its overlay."""
    davit = overlay
    layer(davit, "base", BASE)
    mounts = davit.call("snapshots.prepare", key="a", parent="base")["mounts"]
    with Mounted(davit, mounts) as at:
        (at / "hidden/mine").write_text("mine")
        (at / "dir/gone").write_text("changed")
    apply(davit, mounts, UPPER)
    tree = shown(davit, mounts)
    assert {"gone", "dir/gone", "hidden/old", "hidden/mine"} & set(tree) == set()
    assert {"dir/new", "dir/stays", "hidden/new"} <= set(tree)


def change(at):
    """Each kind of change, below a folder with BASE in it."""
    (at / "etc/passwd").write_text("changed")
    (at / "gone").unlink()
    shutil.rmtree(at / "hidden")
    (at / "hidden").mkdir()
    (at / "hidden/new").write_text("new")
    (at / "dir/stays").chmod(0o600)
    os.link(at / "dir/stays", at / "dir/link")
    os.chown(at / "etc", 5, 6)
    os.setxattr(at / "bin/su", "user.note", b"changed")
    os.symlink("nowhere", at / "link")
    os.mkfifo(at / "fifo")
    os.mknod(at / "dev", 0o660 | stat.S_IFBLK, os.makedev(8, 1))
    (at / "sub").mkdir(mode=0o711)
    (at / "sub/\u00e4").write_text("umlaut")
    with open(at / "sub/sparse", "wb") as file:
        file.truncate(8 << 20)
        file.seek(4 << 20)
        file.write(b"x")


@pytest.mark.parametrize("snapshotter", BOTH)
def test_diff_round_trip(store, snapshotter):
    davit, more = store, {"snapshotter": snapshotter}
    layer(davit, "base", BASE, **more)
    right = davit.call("snapshots.prepare", key="a", parent="base", **more)["mounts"]
    with Mounted(davit, right) as at:
        change(at)
    left = view(davit, "base", **more)
    made = davit.call("diff.diff", left=left, right=right, labels={"a": "b"}, ref="mine")["diff"]
    assert made["media_type"] == TAR + "+zstd"
    packed = fetch(davit, made["digest"])
    assert (digest(packed), len(packed)) == (made["digest"], made["size"])
    plain = unzstd(packed)
    labels = davit.call("content.info", digest=made["digest"])["info"]["labels"]
    assert labels == {"a": "b", "containerd.io/uncompressed": digest(plain)}
    assert davit.call("content.list_statuses")["statuses"] == []
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        names = {member.name for member in archive}
        assert all(member.uname == member.gname == "" for member in archive)
    assert {".wh.gone", "etc", "etc/passwd", "dir/link", "sub/\u00e4", "hidden/new"} <= names
    assert {"sbin", "null", "bin/init", "dir/gone"} & names == set()
    assert names & {"hidden/.wh.old", "hidden/.wh..wh..opq"}
    # what comes out is what was changed
    again = davit.call("snapshots.prepare", key="b", parent="base", **more)["mounts"]
    davit.call("diff.apply", diff=made, mounts=again)
    assert shown(davit, again) == shown(davit, right)
    # the same once more is the same layer, and so is that of the copy
    assert davit.call("diff.diff", left=left, right=right)["diff"] == made
    # GNU tar sees the same
    with Mounted(davit, again) as at:
        shutil.rmtree(at / "sub")
        subprocess.run(
            ["tar", "-xpf", "-", "-C", str(at), "--xattrs", "--xattrs-include=*", "--numeric-owner", "sub"],
            input=plain, check=True,
        )
    assert shown(davit, again) == shown(davit, right)


def test_diff_by_upper_and_by_comparison(overlay):
    """Both ways to find a difference say the same."""
    davit = overlay
    layer(davit, "base", BASE)
    layer(davit, "second", tar(entry("second", b"2")), "base")
    right = davit.call("snapshots.prepare", key="a", parent="second")["mounts"]
    left = view(davit, "second")
    with Mounted(davit, right) as at:
        change(at)
    trees, layers = [], []
    # with an option that changes nothing, the upper folder is not known to be all of it
    (mount,) = right
    for options in (mount["options"], [*mount["options"], "metacopy=off"]):
        made = davit.call("diff.diff", left=left, right=[{**mount, "options": options}])["diff"]
        again = davit.call("snapshots.prepare", key=davit.unique("again"), parent="second")["mounts"]
        davit.call("diff.apply", diff=made, mounts=again)
        trees.append(shown(davit, again))
        layers.append(unzstd(fetch(davit, made["digest"])))
    assert trees[0] == trees[1] == shown(davit, right)
    assert b"hidden/.wh..wh..opq" in layers[0]
    assert b"hidden/.wh.old" in layers[1]


def test_whole_tree(store):
    davit = store
    layer(davit, "base", BASE)
    mounts = view(davit, "base")
    made = [
        davit.call("diff.diff", right=mounts, media_type=TAR)["diff"],
        davit.call("diff.diff", left=[], right=mounts, media_type=TAR)["diff"],
    ]
    assert made[0] == made[1]
    again = davit.call("snapshots.prepare", key="again")["mounts"]
    davit.call("diff.apply", diff=made[0], mounts=again)
    assert shown(davit, again) == shown(davit, mounts)
    # nothing changed: a layer with nothing in it
    empty = davit.call("diff.diff", left=mounts, right=mounts, media_type=TAR)["diff"]
    assert (empty["size"], fetch(davit, empty["digest"])) == (1024, bytes(1024))


def test_compression(store):
    davit = store
    layer(davit, "base", BASE)
    mounts, seen = view(davit, "base"), set()
    for media_type, magic in (
        (TAR, b"bin"), (TAR + "+gzip", b"\x1f\x8b"), (TAR + "+zstd", b"\x28\xb5\x2f\xfd"),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", b"\x1f\x8b"),
    ):
        made = davit.call("diff.diff", right=mounts, media_type=media_type)["diff"]
        assert made["media_type"] == media_type
        assert fetch(davit, made["digest"]).startswith(magic) or media_type == TAR
        seen.add(davit.call("content.info", digest=made["digest"])["info"]["labels"]["containerd.io/uncompressed"])
        at = davit.call("snapshots.prepare", key=davit.unique("at"))["mounts"]
        applied = davit.call("diff.apply", diff=made, mounts=at)["applied"]
        seen.add(applied["digest"])
        assert shown(davit, at) == shown(davit, mounts)
    assert len(seen) == 1


def test_gzip_by_others(store):
    """Two members, a name in the header, padding behind the archive: all as it should be."""
    davit = store
    mounts = davit.call("snapshots.prepare", key="a")["mounts"]
    out = io.BytesIO()
    plain = tar(entry("file", b"x" * 100000)) + bytes(5 << 20)
    with gzip.GzipFile("name.tar", "wb", fileobj=out) as packed:
        packed.write(plain[:50000])
    apply(davit, mounts, out.getvalue() + gzip.compress(plain[50000:]), TAR + "+gzip", plain)
    for format in (tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        apply(davit, mounts, tar(entry("dir/" + "f" * 90, b"x"), entry("n" * 99), format=format))


def test_bind_mount(store):
    """Also a folder that is no snapshot."""
    davit = store
    at = davit.base / "folder"
    at.mkdir()
    (at / "gone").write_text("gone")
    mounts = [{"type": "bind", "source": str(at), "options": ["rbind", "rw"]}]
    apply(davit, mounts, tar(entry("file", b"f"), entry(".wh.gone")))
    assert sorted(os.listdir(at)) == ["file"]
    read_only = [{"type": "bind", "source": str(at), "options": ["rbind", "ro"]}]
    fails("failed_precondition", "not writable", davit.call, "diff.apply", diff=put(davit, tar()), mounts=read_only)
    davit.call("diff.diff", left=read_only, right=mounts)


@pytest.mark.parametrize("entries, part", [
    ([entry("../evil", b"x")], "'../evil'"),
    ([entry("a/../../evil", b"x")], "'..'"),
    ([entry("link", type=tarfile.LNKTYPE, linkname="../../evil")], "'link'"),
    ([entry("w", type=tarfile.CHRTYPE, devmajor=0, devminor=0)], "0:0"),
    ([entry(".wh...")], "'.wh...'"),
    ([entry("f", b"x"), entry("f/g", b"x")], "'f/g'"),
])
def test_hostile(store, entries, part):
    davit = store
    mounts = davit.call("snapshots.prepare", key="a")["mounts"]
    (davit.base / "evil").write_text("untouched")
    diff = put(davit, tar(*entries))
    fails("failed_precondition", part, davit.call, "diff.apply", diff=diff, mounts=mounts)
    assert (davit.base / "evil").read_text() == "untouched"
    assert not any("evil" in name for name in describe(davit.root))
    davit.call("snapshots.remove", key="a")


def test_links_stay_inside(store):
    davit = store
    mounts = davit.call("snapshots.prepare", key="a")["mounts"]
    outside = davit.base / "outside"
    outside.mkdir()
    apply(davit, mounts, tar(
        entry("l", type=tarfile.SYMTYPE, linkname=str(outside)),
        entry("l/file", b"x"),
        entry("up", type=tarfile.SYMTYPE, linkname="../../../../../.."),
        entry("up/file", b"x"),
        entry("trusted/", pax_headers={"SCHILY.xattr.trusted.overlay.opaque": "y"}),
    ))
    assert list(outside.iterdir()) == []
    tree = shown(davit, mounts)
    assert "file" in tree and str(outside).lstrip("/") + "/file" in tree
    with Mounted(davit, mounts) as at:
        assert "trusted.overlay.opaque" not in os.listxattr(at / "trusted")


def test_damaged(store):
    davit = store
    mounts = davit.call("snapshots.prepare", key="a")["mounts"]
    plain = tar(entry("first", b"1"), entry("file", os.urandom(200000)))
    packed = gzip.compress(plain)
    for data, media_type, part in (
        (plain[:100000], TAR, "'file'"), (packed[:100000], TAR + "+gzip", "gzip"), (b"text", TAR, "damaged"),
        (plain, TAR + "+gzip", "not packed with gzip"), (b"\x28\xb5\x2f\xfd" + bytes(100), TAR + "+zstd", "zstd"),
    ):
        fails("failed_precondition", part, davit.call, "diff.apply", diff=put(davit, data, media_type), mounts=mounts)


def test_refused(store):
    davit = store
    mounts = davit.call("snapshots.prepare", key="a")["mounts"]
    good = put(davit, BASE)
    call = davit.call
    unknown = {**good, "digest": digest(b"unknown")}
    assert fails("not_found", unknown["digest"], call, "diff.apply", diff=unknown, mounts=mounts).details["argument"] == "diff"
    fails("failed_precondition", "config", call, "diff.apply", diff={**good, "media_type": "application/config"}, mounts=mounts)
    fails("failed_precondition", "bytes", call, "diff.apply", diff={**good, "size": 5}, mounts=mounts)
    fails("invalid_argument", "diff", call, "diff.apply", diff={}, mounts=mounts)
    fails("invalid_argument", "diff", call, "diff.apply", diff={**good, "digest": "sha256:short"}, mounts=mounts)
    fails("invalid_argument", "no mounts", call, "diff.apply", diff=good, mounts=[])
    fails("invalid_argument", "mount 0", call, "diff.apply", diff=good, mounts=["x"])
    fails("invalid_argument", "tmpfs", call, "diff.apply", diff=good, mounts=[{"type": "tmpfs", "source": "tmpfs"}])
    fails("unimplemented", "2 mounts", call, "diff.apply", diff=good, mounts=mounts * 2)
    fails("invalid_argument", "mounts", call, "diff.apply", diff=good)
    # another namespace has none of it
    fails("not_found", good["digest"], call, "diff.apply", diff=good, mounts=mounts, namespace="other", lease=None)

    assert fails("invalid_argument", "no mounts", call, "diff.diff", right=[]).details["argument"] == "right"
    broken = [{"type": "overlay", "source": "overlay", "options": ["upperdir=/x"]}]
    assert fails("invalid_argument", "lowerdir", call, "diff.diff", left=broken, right=mounts).details["argument"] == "left"
    assert fails("failed_precondition", "'text/plain'", call, "diff.diff", right=mounts, media_type="text/plain").details["argument"] == "media_type"


def many(count):
    return tar(*(entry(f"many/{number}", b"x" * 1000) for number in range(count)))


def test_cancelled(store):
    davit = store
    mounts = davit.call("snapshots.prepare", key="a")["mounts"]
    diff = put(davit, many(20000))
    fails("deadline_exceeded", "", davit.call, "diff.apply", diff=diff, mounts=mounts, timeout=1)
    pending = davit.send("diff.apply", diff=diff, mounts=mounts)
    davit.rpc.call("rpc.cancel", msgid=davit.rpc.next_id)
    with pytest.raises(RpcError) as error:
        pending.result()
    assert error.value.code == "cancelled"
    davit.call("diff.apply", diff=diff, mounts=mounts)
    assert len(shown(davit, mounts)) == 20001


def test_ref(store):
    """Somebody else's ingest is not touched; one of one's own begins anew."""
    davit = store
    mounts = davit.call("snapshots.prepare", key="a")["mounts"]
    apply(davit, mounts, BASE)
    other = davit.client()
    other.call("content.write", ref="busy", action="write", data=b"begun")
    fails("unavailable", "busy", davit.call, "diff.diff", right=mounts, ref="busy")
    other.close()
    for _ in range(100):  # the daemon hears of the end of the connection when it likes
        try:
            made = davit.call("diff.diff", right=mounts, ref="busy")["diff"]
            break
        except RpcError as error:
            assert error.code == "unavailable"
    assert made == davit.call("diff.diff", right=mounts)["diff"]
    assert davit.call("content.list_statuses")["statuses"] == []


def test_many_layers(overlay):
    davit, parent = overlay, ""
    for number in range(130):
        layer(davit, f"layer{number}", tar(entry(f"file{number}", b"x"), entry("who", b"%d" % number)), parent)
        parent = f"layer{number}"
    right = davit.call("snapshots.prepare", key="a", parent=parent)["mounts"]
    made = davit.call("diff.diff", right=right, media_type=TAR)["diff"]
    with tarfile.open(fileobj=io.BytesIO(fetch(davit, made["digest"]))) as archive:
        assert set(archive.getnames()) == {"who", *(f"file{number}" for number in range(130))}
        assert archive.extractfile("who").read() == b"129"
    # and something is written through it
    apply(davit, right, tar(entry("more", b"m"), entry(".wh.file0")))
    apply(davit, right, tar(entry("more2", b"m"), entry(".wh.file1")))
    with tarfile.open(fileobj=io.BytesIO(unzstd(fetch(davit, davit.call(
            "diff.diff", left=view(davit, parent), right=right)["diff"]["digest"])))) as archive:
        assert archive.getnames() == [".wh.file0", ".wh.file1", "more", "more2"]


def test_killed_daemon(store):
    """What a killed daemon was applying leaves no mount, and can be applied again."""
    davit = store
    layer(davit, "base", BASE)
    mounts = davit.call("snapshots.prepare", key="a", parent="base")["mounts"]
    apply(davit, mounts, tar(entry("first", b"1")))
    diff = put(davit, many(20000))
    davit.send("diff.apply", diff=diff, mounts=mounts)
    davit.kill_reactor()
    assert "overlayfs" not in "".join(line for line in open("/proc/mounts") if str(davit.root) in line)
    davit.call("diff.apply", diff=diff, mounts=mounts)
    assert len([name for name in shown(davit, mounts) if name.startswith("many/")]) == 20000
