# SPDX-License-Identifier: Apache-2.0
"""Imports and unpacking killed at any moment, disks that fill in the middle, blobs changed behind davit's back."""

import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from lib import images
from lib.daemon import wait_for
from lib.images import Image, archive, entry, layout, mounted, passed, tar, tree, write_folder
from lib.rpc import Closed, Fd, RpcError
from lib.store_disk import Disk, age_ingests, settled

DRIVERS = ["overlayfs", "native"]


def digest(data):
    return images.digest(data)


def noise(size, seed=1):
    return random.Random(seed).randbytes(size)


def fails(code, call, *args, **params):
    with pytest.raises(RpcError) as error:
        call(*args, **params)
    assert error.value.code == code, error.value
    return error.value


def load(davit, data, **params):
    """images.import of bytes."""
    fd = passed(data)
    try:
        return davit.call("images.import", stream=Fd(fd), **params)["images"]
    finally:
        os.close(fd)


def contents(davit):
    return {c["digest"] for c in davit.call("content.list")["contents"]}


def blob(davit, name):
    return davit.root / "content/blobs/sha256" / name.removeprefix("sha256:")


def kill(davit, whole):
    """kill -9 of the reactor, or of the whole daemon, which is then started again."""
    info = davit.info
    pids = [info["guardian_pid"], info["pid"]] if whole else [info["pid"]]
    return lambda: _kill(davit, pids)


def _kill(davit, pids):
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    if len(pids) > 1:
        davit.process.wait()
        davit.start(wait=False)
    davit.reconnect()


def end_of(pending):
    """Of a request whose daemon is killed: its answer, if it was quicker."""
    try:
        return pending.result()
    except (Closed, OSError):
        return None
    except RpcError as error:
        # the guardian went first, and the reactor ended by itself
        assert error.code in ("cancelled", "unavailable"), error
        return None


def unpacked(davit, chain, driver):
    """What is in the snapshot of a whole image."""
    mounts = davit.call("snapshots.view", key="look", parent=chain, snapshotter=driver,
                        labels={"containerd.io/gc.root": "1"})["mounts"]
    with mounted(davit, mounts) as folder:
        found = tree(folder)
    davit.call("snapshots.remove", key="look", snapshotter=driver)
    return found


def nothing_left(davit):
    """Of all images: no row, no file."""
    for image in davit.call("images.list")["images"]:
        davit.call("images.delete", name=image["name"])
    davit.call("gc.run")
    assert contents(davit) == set()
    for driver in DRIVERS:
        assert davit.call("snapshots.list", snapshotter=driver)["snapshots"] == []
    assert davit.call("leases.list")["leases"] == []
    disk = Disk(davit.root)
    settled(disk.wrong)
    assert disk.rows == set()


# ---- kills


def big_image():
    """Some megabytes in several layers, with whiteouts and all kinds of files."""
    layers = []
    for i in range(5):
        files = {f"d{i}/": entry(images.tarfile.DIRTYPE, mode=0o750, uid=i)}
        files.update({f"d{i}/f{j}": (entry(mode=0o640, uid=j, mtime=1_000_000_000 + j), noise(1 + 3000 * j, 100 * i + j)) for j in range(24)})
        files[f"d{i}/link"] = entry(images.tarfile.SYMTYPE, linkname=f"../d{i}/f1")
        files[f"d{i}/hard"] = entry(images.tarfile.LNKTYPE, linkname=f"d{i}/f2")
        files["same"] = b"%d" % i
        if i == 3:
            files["d0/.wh.f3"] = b""
            files["d1/.wh..wh..opq"] = b""
        layers.append(tar(files))
    return Image(*layers)


def import_and_unpack(davit, data, driver):
    load(davit, data)
    return davit.call("images.unpack", name="x", snapshotter=driver)["chain_id"]


@pytest.fixture(scope="module")
def big():
    image = big_image()
    data = archive(image, "x")
    assert len(data) > 4 << 20
    return image, data


def verify_all(davit):
    """All that is there is whole. What nothing holds may be collected meanwhile."""
    for name in contents(davit):
        try:
            davit.call("content.verify", digest=name)
        except RpcError as error:
            assert error.code == "not_found", error


def check_after(davit, big, driver, wanted):
    """After a kill: nothing is half there; the same again completes, and the whole can go without a trace."""
    image, data = big
    settled(Disk(davit.root).wrong)
    assert davit.call("leases.list")["leases"] == []
    verify_all(davit)
    for snapshot in davit.call("snapshots.list", snapshotter=driver)["snapshots"]:
        if snapshot["kind"] == "committed":
            assert snapshot["name"] in image.chain
    assert import_and_unpack(davit, data, driver) == image.chain[-1]
    # what was begun before was used up
    assert davit.call("content.list_statuses")["statuses"] == []
    found = unpacked(davit, image.chain[-1], driver)
    assert found == wanted
    nothing_left(davit)


@pytest.mark.parametrize("driver,points", [("overlayfs", 20), ("native", 8)])
@pytest.mark.timeout(600)
def test_kill_spread_over_an_import(davit, big, driver, points):
    """kill -9 at so many moments of an import and the unpacking behind it, by the clock."""
    image, data = big
    begun = time.monotonic()
    import_and_unpack(davit, data, driver)
    took = time.monotonic() - begun
    wanted = unpacked(davit, image.chain[-1], driver)
    assert len(wanted) > 90 and "d0/f3" not in wanted and "d1/f4" not in wanted and wanted["same"][3] == digest(b"4")
    nothing_left(davit)
    reached = set()
    for n in range(points):
        do = kill(davit, n % 2 == 0)
        fd = passed(data)
        client = davit.client()
        pending = client.send("images.import", stream=Fd(fd))
        os.close(fd)
        until = time.monotonic() + took * (n + 0.5) / points
        what = "import"
        try:
            while time.monotonic() < until:
                if pending.done() and what == "import":
                    what, pending = "unpack", client.send("images.unpack", name="x", snapshotter=driver)
                time.sleep(0.0005)
        except Closed:
            pytest.fail("the daemon has ended by itself")
        reached.add(what if not pending.done() else "done")
        do()
        end_of(pending)
        check_after(davit, big, driver, wanted)
    assert reached >= {"import"}


@pytest.mark.timeout(600)
def test_kill_by_bytes_of_an_import(davit, big):
    """kill -9 with just so much of the archive read: within each blob, and between them."""
    image, data = big
    import_and_unpack(davit, data, "overlayfs")
    wanted = unpacked(davit, image.chain[-1], "overlayfs")
    nothing_left(davit)
    for n in range(12):
        cut = len(data) * n // 11
        do = kill(davit, n % 3 == 0)
        fd, end = os.pipe()
        davit.call("leases.create", id="keep")
        pending = davit.client().send("images.import", stream=Fd(fd), lease="keep")
        with os.fdopen(end, "wb", buffering=0) as out:
            out.write(data[:cut])
            wait_for(lambda: _unread(fd) == 0)
            do()
        os.close(fd)
        end_of(pending)
        before = contents(davit)
        there = {name for name, part in image.blobs.items() if data.index(part) + len(part) <= cut - (2 << 20)}
        assert there <= before, "what was read two megabytes ago is committed"
        verify_all(davit)
        davit.call("leases.delete", id="keep")
        check_after(davit, big, "overlayfs", wanted)


def _unread(fd):
    import array
    import fcntl
    import termios

    number = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, number)
    return number[0]


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.timeout(600)
def test_kill_by_progress_of_unpacking(davit, big, driver):
    """kill -9 when a layer more is there, as its snapshots tell."""
    image, data = big
    import_and_unpack(davit, data, driver)
    wanted = unpacked(davit, image.chain[-1], driver)
    nothing_left(davit)
    for n in range(len(image.chain) + 2):
        load(davit, data)
        do = kill(davit, n % 2 == 0)
        pending = davit.client().send("images.unpack", name="x", snapshotter=driver)

        def far_enough():
            listed = davit.call("snapshots.list", snapshotter=driver)["snapshots"]
            return pending.done() or (n == 0 and listed) or sum(s["kind"] == "committed" for s in listed) >= n > 0

        wait_for(far_enough)
        do()
        end_of(pending)
        # an image is not lost by this, and a chain is not there without what it stands on
        assert [i["name"] for i in davit.call("images.list")["images"]] == ["x"]
        there = {s["name"] for s in davit.call("snapshots.list", snapshotter=driver)["snapshots"] if s["kind"] == "committed"}
        assert there == set(image.chain[: len(there)])
        check_after(davit, big, driver, wanted)


def test_the_last_content_leaves_no_file(davit):
    """Killed between the end of the last record and the end of its file: the next start goes on."""
    import sqlite3

    load(davit, archive(Image(tar({"a": b"1"})), "x"))
    assert davit.stop() == 0
    db = sqlite3.connect(davit.root / "meta.db")
    for table in ("content", "blobs", "images"):
        db.execute(f"DELETE FROM {table}")
    db.commit()
    db.close()
    (davit.root / "content/.index.json.new").write_text("half")
    davit.start()
    settled(Disk(davit.root).wrong, timeout=2)


# ---- a disk that fills


@pytest.fixture
def small(make_davit):
    """A daemon on a small file system of its own; .resize(megabytes), .fill() to its last byte."""
    davit = make_davit(start=False)
    davit.root.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m,mode=700", "davit-test", str(davit.root)], check=False)
    if mount.returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    davit.cleanups.append(lambda: subprocess.run(["umount", "-l", str(davit.root)], check=True))
    davit.resize = lambda size: subprocess.run(["mount", "-o", f"remount,size={size}m", str(davit.root)], check=True)
    davit.fill = lambda leave=0: _fill(davit.root / "filler", leave)
    return davit.start()


def _fill(path, leave):
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(65536))
        except OSError as error:
            assert error.errno == 28, error
        if leave:
            file.truncate(max(0, os.fstat(file.fileno()).st_size - leave))


def is_full(error):
    """The answer of a full disk says so, and about what."""
    assert error.code == "resource_exhausted", error
    assert "No space left" in error.message, error
    assert error.details.get("errname") == "ENOSPC", error
    return True


@contextmanager
def full():
    with pytest.raises(RpcError) as error:
        yield error
    assert is_full(error.value)


def consistent(davit):
    settled(Disk(davit.root).wrong)
    assert davit.call("leases.list")["leases"] == []
    verify_all(davit)


@pytest.mark.parametrize("restart", ["goes on", "killed"])
def test_full_disk_import(small, big, restart):
    """A few layers fit, and then no more."""
    image, data = big
    small.fill(leave=3 << 20)
    for _ in range(3):
        with full() as error:
            load(small, data)
        assert "images.import" in error.value.message
        consistent(small)
    assert small.call("images.list")["images"] == []
    if restart == "killed":
        small.fill()
        kill(small, True)()
        consistent(small)
    small.resize(160)
    load(small, data)
    consistent(small)
    # and now into snapshots
    for driver in DRIVERS:
        small.fill(leave=2 << 20)
        with full() as error:
            small.call("images.unpack", name="x", snapshotter=driver)
        assert "images.unpack: x: " in error.value.message
        consistent(small)
        small.call("gc.run")
        left = small.call("snapshots.list", snapshotter=driver)["snapshots"]
        assert not [s for s in left if s["kind"] == "active"]
        (small.root / "filler").unlink()
        assert small.call("images.unpack", name="x", snapshotter=driver)["chain_id"] == image.chain[-1]
        consistent(small)
    assert unpacked(small, image.chain[-1], "overlayfs") == unpacked(small, image.chain[-1], "native")
    nothing_left(small)


@pytest.mark.parametrize("source", ["tar", "folder"])
@pytest.mark.parametrize("restart", ["goes on", "killed"])
def test_full_disk_import_goes_on(small, source, restart):
    """What fitted of a layer stays, less a little; the same import writes only the rest, and uses it up."""
    image = Image(tar({"file": noise(24 << 20)}))
    layer, data = digest(image.layers[0]), archive(image, "x")
    folder = write_folder(small.base / "layout", layout([image.descriptor("x")], image.blobs))
    load(small, archive(Image(tar({"small": b"1"})), "small"))
    small.fill(leave=16 << 20)
    offset = 0
    for _ in range(3):
        with full():
            load(small, data) if source == "tar" else small.call("images.import", path=str(folder))
        [left] = small.call("content.list_statuses")["statuses"]
        assert left["ref"] == "image-" + layer and left["total"] == len(image.layers[0])
        assert 8 << 20 < left["offset"] < 16 << 20 and left["offset"] >= offset
        offset = left["offset"] - (1 << 20)  # others may have taken some of what was given back
        consistent(small)
    offset = left["offset"]
    # there is room for what makes room
    small.call("images.delete", name="small", sync=True)
    assert small.call("images.list")["images"] == []
    if restart == "killed":
        kill(small, True)()
        consistent(small)
    small.resize(160)
    if source == "folder":
        small.call("images.import", path=str(folder))
    else:
        begin = data.index(image.layers[0]) + offset // 2
        out, to = os.pipe()
        pending = small.client().send("images.import", stream=Fd(out))
        with open(to, "wb", buffering=0) as file:
            file.write(data[:begin])
            # more than it reads ahead: it is within the layer now
            wait_for(lambda: _unread(out) == 0)
            assert small.call("content.status", ref=left["ref"])["status"]["offset"] == offset
            file.write(data[begin:])
        os.close(out)
        pending.result()
    assert [i["name"] for i in small.call("images.list")["images"]] == ["x"]
    assert small.call("content.list_statuses")["statuses"] == []
    consistent(small)
    nothing_left(small)


def test_full_disk_content(small):
    """What was written stays and can be gone on with, also after a kill."""
    data = noise(6 << 20)
    small.fill(leave=4 << 20)
    at = 0
    with full():
        while at < len(data):
            at = small.call("content.write", ref="r", action="write", offset=at, data=data[at : at + 1_000_000], total=len(data))["offset"]
    assert at >= 1_000_000
    kill(small, True)()
    consistent(small)
    offset = small.call("content.status", ref="r")["status"]["offset"]
    assert offset >= at
    small.resize(160)
    small.call("content.write", ref="r", action="commit", offset=offset, data=data[offset:], expected=digest(data))
    assert contents(small) == {digest(data)}
    consistent(small)


def test_full_disk_from_dir_and_diff(small):
    folder = small.base / "from"
    folder.mkdir()
    (folder / "file").write_bytes(noise(5 << 20))
    small.call("snapshots.prepare", key="k", snapshotter="native", labels={"containerd.io/gc.root": "1"})
    mounts = small.call("snapshots.mounts", key="k", snapshotter="native")["mounts"]
    shutil.copy(folder / "file", Path(mounts[0]["source"], "file"))
    small.fill(leave=3 << 20)
    calls = [
        ("images.from_dir", {"path": str(folder), "name": "x"}),
        ("diff.diff", {"right": mounts, "ref": "the diff"}),
    ]
    for method, params in calls:
        for _ in range(2):
            with full() as error:
                small.call(method, **params)
            assert method in error.value.message
            assert "argument" not in error.value.details, "a full disk is no fault of what was given"
            consistent(small)
            # whatever it had written made room again
            assert small.call("content.list_statuses")["statuses"] == []
    small.resize(160)
    lease = small.call("leases.create", id="keep")["lease"]["id"]
    for method, params in calls:
        small.call(method, lease=lease, **params)
        small.call("leases.list")
    assert [i["name"] for i in small.call("images.list")["images"]] == ["x"]
    settled(Disk(small.root).wrong)
    small.call("leases.delete", id=lease)


def test_full_disk_snapshots(small):
    """Copies of native, and what is applied: given up as a whole, and done again when there is room."""
    layer = tar({f"f{i}": noise(100_000, i) for i in range(30)})
    small.call("leases.create", id="keep")
    name = small.call("content.write", ref="r", action="commit", data=layer, lease="keep")["digest"]
    described = {"media_type": images.LAYER, "digest": name, "size": len(layer)}
    mounts = small.call("snapshots.prepare", key="k", snapshotter="native", lease="keep")["mounts"]
    small.call("diff.apply", diff=described, mounts=mounts)
    small.call("snapshots.commit", key="k", name="base", snapshotter="native", lease="keep")
    small.fill(leave=1 << 20)
    for _ in range(2):
        with full():
            small.call("snapshots.prepare", key="copy", parent="base", snapshotter="native", lease="keep")
        settled(Disk(small.root).wrong)
        assert [s["name"] for s in small.call("snapshots.list", snapshotter="native")["snapshots"]] == ["base"]
    mounts = small.call("snapshots.prepare", key="o", snapshotter="overlayfs", lease="keep")["mounts"]
    with full() as error:
        small.call("diff.apply", diff=described, mounts=mounts)
    small.call("snapshots.remove", key="o", snapshotter="overlayfs")
    settled(Disk(small.root).wrong)
    small.resize(160)
    mounts = small.call("snapshots.prepare", key="copy", parent="base", snapshotter="native", lease="keep")["mounts"]
    assert Path(mounts[0]["source"], "f29").read_bytes() == noise(100_000, 29)
    mounts = small.call("snapshots.prepare", key="o", snapshotter="overlayfs", lease="keep")["mounts"]
    small.call("diff.apply", diff=described, mounts=mounts)
    small.call("snapshots.commit", key="o", name="o2", snapshotter="overlayfs", lease="keep")
    small.call("leases.delete", id="keep", sync=True)
    nothing_left(small)


@pytest.mark.parametrize("before", ["as it is", "restarted"])
def test_full_disk_can_be_emptied(small, before):
    """To the last byte: what takes space can still be removed, and that makes room."""
    for n in range(3):
        load(small, archive(Image(tar({"a": noise(1 << 20, n)})), f"x{n}"))
    small.call("images.unpack", name="x0")
    small.fill()
    if before == "restarted":
        assert small.stop() == 0
        _fill(small.root / "filler2", 0)
        small.start()
        _fill(small.root / "filler3", 0)
    with full():
        small.call("content.write", ref="r", action="commit", data=noise(1 << 20))
    small.call("images.list")
    small.call("images.delete", name="x1")
    small.call("gc.run")
    free = os.statvfs(small.root)
    assert free.f_bavail * free.f_bsize >= 1 << 20
    small.call("content.write", ref="r", action="commit", offset=0, data=noise(500_000))
    nothing_left(small)


# ---- blobs that were changed


def spoil(davit, name, at=700):
    """One byte of a blob's file."""
    path = blob(davit, name)
    path.chmod(0o644)
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 0xFF]))
    path.chmod(0o444)
    return digest(path.read_bytes())


def small_image(davit):
    image = Image(tar({"a": noise(600_000, 1)}), tar({"b": noise(200_000, 2)}))
    load(davit, archive(image, "x"))
    return image


def parts_of(image):
    return {
        "layer": digest(image.packed[0]), "compressed layer": digest(image.packed[1]),
        "config": digest(image.config), "manifest": image.digest,
    }


@pytest.mark.parametrize("part", ["layer", "compressed layer", "config", "manifest"])
def test_damaged_blob_is_refused_and_named(davit, part):
    image = small_image(davit)
    name = parts_of(image)[part]
    found = spoil(davit, name, at=200)
    error = fails("failed_precondition", davit.call, "content.verify", digest=name)
    assert name in error.message and found in error.message
    assert "import" in error.message, "it says what can be done"
    error = fails("failed_precondition", davit.call, "images.unpack", name="x")
    assert name in error.message
    assert not [s for s in davit.call("snapshots.list")["snapshots"] if s["kind"] == "active"]
    assert image.chain[-1] not in [s["name"] for s in davit.call("snapshots.list")["snapshots"]]
    out = davit.base / "out.tar"
    for format in ("oci", "docker"):
        error = fails("failed_precondition", davit.call, "images.export", names=["x"], path=str(out), format=format)
        assert name in error.message
    assert not out.exists()
    # the others are not its fault
    for other in set(image.blobs) - {name}:
        davit.call("content.verify", digest=other)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
@pytest.mark.parametrize("part", ["layer", "compressed layer", "config", "manifest"])
def test_no_file_in_the_place_of_a_blob_of_an_image(davit, part, make):
    image = small_image(davit)
    name = parts_of(image)[part]
    blob(davit, name).unlink()
    make(blob(davit, name))
    out = davit.base / "out.tar"
    for method, params in (("unpack", {"name": "x"}), ("export", {"names": ["x"], "path": str(out)})):
        error = fails("failed_precondition", davit.call, f"images.{method}", **params)
        assert name in error.message and "no regular file" in error.message
    load(davit, archive(image, "x"))
    davit.call("content.verify", digest=name)
    assert davit.call("images.unpack", name="x")["chain_id"] == image.chain[-1]


@pytest.mark.parametrize("how", ["archive", "folder", "docker"])
@pytest.mark.parametrize("part", ["layer", "compressed layer", "config", "manifest"])
def test_import_again_heals(davit, part, how):
    image = small_image(davit)
    if how == "docker":
        # as docker writes it: layers unpacked, and a manifest that davit makes
        davit.call("images.delete", name="x", sync=True)
        docker = images.docker_archive(image, "x")
        made = load(davit, docker)[0]["target"]["digest"]
        image_parts = {**parts_of(image), "compressed layer": digest(image.layers[1]), "manifest": made}
        again = lambda: load(davit, docker)
    elif how == "folder":
        folder = write_folder(davit.base / "layout", layout([image.descriptor("x")], image.blobs))
        image_parts, again = parts_of(image), lambda: davit.call("images.import", path=str(folder))
    else:
        image_parts, again = parts_of(image), lambda: load(davit, archive(image, "x"))
    name = image_parts[part]
    for at in (0, 150, -1):
        spoil(davit, name, at if at >= 0 else blob(davit, name).stat().st_size - 1)
        fails("failed_precondition", davit.call, "content.verify", digest=name)
        again()
        davit.call("content.verify", digest=name)
    os.truncate(blob(davit, name), 100)
    again()
    davit.call("content.verify", digest=name)
    blob(davit, name).unlink()
    again()
    for name in contents(davit):
        davit.call("content.verify", digest=name)
    settled(Disk(davit.root).wrong)
    assert davit.call("content.list_statuses")["statuses"] == []
    assert davit.call("images.unpack", name="x")["chain_id"] == image.chain[-1]


def test_import_of_a_damaged_archive_changes_nothing(davit):
    """The store's copy is right, the archive's is not: that one is refused, and the store's stays."""
    image = small_image(davit)
    name = digest(image.packed[0])
    data = bytearray(archive(image, "x"))
    data[bytes(data).index(image.packed[0]) + 5000] ^= 0xFF
    error = fails("failed_precondition", load, davit, bytes(data))
    assert name in error.message
    davit.call("content.verify", digest=name)
    # both are damaged
    spoil(davit, name, at=300_000)
    assert name in fails("failed_precondition", load, davit, bytes(data)).message
    fails("failed_precondition", davit.call, "content.verify", digest=name)
    folder = write_folder(davit.base / "layout", layout([image.descriptor("x")], image.blobs))
    path = folder / "blobs/sha256" / name.removeprefix("sha256:")
    path.write_bytes(b"?" + image.packed[0][1:])
    assert name in fails("failed_precondition", davit.call, "images.import", path=str(folder)).message
    assert davit.call("content.list_statuses")["statuses"] == []


def test_writing_again_heals(davit):
    """Without a digest said beforehand: then there would be nothing to send. For all namespaces at once."""
    data = noise(100_000)
    for ns in ("one", "two"):
        name = davit.call("content.write", ref="r", action="commit", data=data, namespace=ns, labels={"in": ns})["digest"]
    spoil(davit, name)
    fails("already_exists", davit.call, "content.write", ref="r", action="commit", data=data, expected=name, namespace="two")
    fails("failed_precondition", davit.call, "content.verify", digest=name, namespace="two")
    fails("already_exists", davit.call, "content.write", ref="r", action="commit", data=data, namespace="two")
    for ns in ("one", "two"):
        davit.call("content.verify", digest=name, namespace=ns)
        assert davit.call("content.info", digest=name, namespace=ns)["info"]["labels"] == {"in": ns}
        assert davit.call("content.list_statuses", namespace=ns)["statuses"] == []


def test_from_dir_heals(davit):
    folder = davit.base / "from"
    folder.mkdir()
    (folder / "file").write_bytes(noise(50_000))
    davit.call("images.from_dir", path=str(folder), name="x")
    for name in contents(davit):
        spoil(davit, name, at=100)
    davit.call("images.from_dir", path=str(folder), name="x")
    for name in contents(davit):
        davit.call("content.verify", digest=name)
