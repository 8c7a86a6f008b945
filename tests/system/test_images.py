# SPDX-License-Identifier: Apache-2.0
"""Images over RPC: records, import, export, unpacking, folders, usage."""

import gzip
import json
import os
import random
import select
import shutil
import socket
import stat
import subprocess
import tarfile
import threading
import time
from pathlib import Path

import pytest

from lib import images
from lib.daemon import wait_for
from lib.images import Image, archive, entry, layout, passed, tar
from lib.rpc import Fd, RpcError

HELLO = {"bin/": entry(tarfile.DIRTYPE, mode=0o755), "bin/hello": b"hello\n"}


def fails(code, call, *args, **params):
    with pytest.raises(RpcError) as error:
        call(*args, **params)
    assert error.value.code == code, error.value
    return error.value


def load(davit, data, **params):
    """images.import of bytes; the images' names."""
    fd = passed(data)
    try:
        return davit.call("images.import", stream=Fd(fd), **params)["images"]
    finally:
        os.close(fd)


def save(davit, *names, **params):
    """images.export into a file; its bytes."""
    fd = os.memfd_create("export", os.MFD_CLOEXEC)
    try:
        size = davit.call("images.export", names=list(names), stream=Fd(fd), **params)["size"]
        data = os.pread(fd, size + 1, 0)
        assert len(data) == size
        return data
    finally:
        os.close(fd)


def contents(davit, **params):
    return {info["digest"]: info for info in davit.call("content.list", **params)["contents"]}


def snapshots(davit, **params):
    return {info["name"]: info for info in davit.call("snapshots.list", **params)["snapshots"]}


def view(davit, chain, **params):
    """Mounts of a read-only snapshot `look`, which collection leaves alone."""
    return davit.call("snapshots.view", key="look", parent=chain, labels={"containerd.io/gc.root": "test"}, **params)["mounts"]


def noise(size, seed=1):
    return random.Random(seed).randbytes(size)


# ---- records


def test_records(davit):
    image = Image(tar(HELLO))
    for data in image.blobs.values():
        davit.call("content.write", ref="x", action="commit", data=data)
    target = {"media_type": images.MANIFEST, "digest": image.digest, "size": len(image.manifest), "annotations": {"a.b": "c"}}
    with davit.events(filters=['topic~="^/images/"']) as events:
        made = davit.call("images.create", name="one", target=target, labels={"k": "v", "a.b": "d", "empty": ""})["image"]
        assert made["labels"] == {"k": "v", "a.b": "d"}
        assert made["target"] == target
        assert made["created_at"] == made["updated_at"] > 0
        assert davit.call("images.get", name="one")["image"] == made
        changed = davit.call("images.update", name="one", labels={"k": "w"}, mask=["labels.k", "labels.a.b"])["image"]
        assert changed["labels"] == {"k": "w"}
        assert changed["target"] == target and changed["updated_at"] > made["created_at"] == changed["created_at"]
        changed = davit.call("images.update", name="one", target={**target, "annotations": {}}, labels={"x": "y"}, mask=["target"])
        assert changed["image"]["labels"] == {"k": "w"} and changed["image"]["target"]["annotations"] == {}
        assert davit.call("images.update", name="one", labels={"z": "1"})["image"]["labels"] == {"z": "1"}
        assert davit.call("images.update", name="one", mask=["labels"])["image"]["labels"] == {}
        davit.call("images.delete", name="one")
        seen = [events.next() for _ in range(6)]
    assert [e["topic"].removeprefix("/images/") for e in seen] == ["create"] + ["update"] * 4 + ["delete"]
    assert seen[0]["event"] == {"name": "one", "labels": {"k": "v", "a.b": "d"}}
    assert seen[5]["event"] == {"name": "one"}


def test_record_errors(davit):
    image = Image(tar(HELLO))
    load(davit, archive(image, "one"))
    target = {"media_type": images.MANIFEST, "digest": image.digest, "size": len(image.manifest)}
    fails("already_exists", davit.call, "images.create", name="one", target=target)
    fails("not_found", davit.call, "images.get", name="two")
    fails("not_found", davit.call, "images.get", name="one", namespace="other")
    fails("not_found", davit.call, "images.update", name="two", labels={})
    fails("not_found", davit.call, "images.delete", name="two")
    fails("not_found", davit.call, "images.delete", name="two", sync=True)
    fails("not_found", davit.call, "images.create", name="one", target=target, namespace="other")
    fails("not_found", davit.call, "images.create", name="two", target={**target, "digest": "sha256:" + "0" * 64})
    wrong = fails("failed_precondition", davit.call, "images.create", name="two", target={**target, "size": 7})
    assert "7" in wrong.message and image.digest in wrong.message
    for bad in ({}, {"digest": image.digest}, {**target, "digest": "sha256:abc"}, {**target, "size": -1}, {**target, "size": "7"}):
        assert fails("invalid_argument", davit.call, "images.create", name="two", target=bad).details["argument"] == "target"
    fails("invalid_argument", davit.call, "images.create", name="two")
    fails("invalid_argument", davit.call, "images.create", name="", target=target)
    fails("invalid_argument", davit.call, "images.create", name="n" * 4097, target=target)
    fails("invalid_argument", davit.call, "images.create", name="a\x1b[2Jb", target=target)
    fails("invalid_argument", davit.call, "images.update", name="one", mask=["name"])
    fails("invalid_argument", davit.call, "images.update", name="one", mask=["target"])
    assert [i["name"] for i in davit.call("images.list")["images"]] == ["one"]


def test_list(davit):
    image = Image(tar(HELLO))
    load(davit, archive(image, "base"))
    target = {"media_type": images.MANIFEST, "digest": image.digest, "size": len(image.manifest)}
    for i in range(5):
        davit.call("images.create", name=f"i{i}", target={**target, "annotations": {"org.x/n.o": str(i)}}, labels={"odd.one": str(i % 2)})

    def names(*filters, **more):
        return [i["name"] for i in davit.call("images.list", filters=list(filters), **more)["images"]]

    assert names() == ["base", "i0", "i1", "i2", "i3", "i4"]
    assert names("name==i3") == ["i3"]
    assert names("name~=/^i[01]$/", "name==base") == ["base", "i0", "i1"]
    assert names(f"target.digest=={image.digest},name~=i") == ["i0", "i1", "i2", "i3", "i4"]
    assert names("target.digest==sha256:0") == []
    assert names(f'target.mediatype=="{images.MANIFEST}",labels."odd.one"==1') == ["i1", "i3"]
    assert names('annotations."org.x/n.o"==4') == ["i4"]
    assert names("labels.odd.one") == ["i0", "i1", "i2", "i3", "i4"]
    page = davit.call("images.list", limit=2, fields=["name"])
    assert page == {"images": [{"name": "base"}, {"name": "i0"}], "next": "i0"}
    assert names(after="i2") == ["i3", "i4"]
    assert davit.call("images.list", namespace="other") == {"images": []}
    fails("invalid_argument", davit.call, "images.list", filters=["name=="])


def test_records_survive(davit):
    image = Image(tar(HELLO))
    load(davit, archive(image, "kept"))
    before = davit.call("images.list")
    davit.kill_reactor()
    assert davit.call("images.list") == before
    davit.stop()
    davit.start()
    assert davit.call("images.list") == before


# ---- import


@pytest.mark.parametrize("how", ["stream", "pipe", "socket", "path", "folder", "gzip"])
def test_import(davit, how):
    image = Image(tar(HELLO), tar({"etc/x": b"x"}), Cmd=["/bin/hello"])
    data = archive(image, "hello:1")
    params = {}
    fd, thread = -1, None
    if how == "gzip":
        fd = passed(gzip.compress(data))
    elif how == "stream":
        fd = passed(data)
    elif how in ("pipe", "socket"):
        if how == "pipe":
            fd, end = os.pipe()
        else:
            a, b = socket.socketpair()
            fd, end = a.detach(), b.detach()
        thread = threading.Thread(target=lambda: (os.fdopen(end, "wb").write(data)))
        thread.start()
    elif how == "path":
        (davit.base / "archive").write_bytes(data)
        params["path"] = str(davit.base / "archive")
    else:
        folder = images.write_folder(davit.base / "layout", layout([image.descriptor("hello:1")], image.blobs))
        params["path"] = str(folder)
    if fd >= 0:
        params["stream"] = Fd(fd)
    with davit.events() as events:
        made = davit.call("images.import", **params)["images"]
        created = events.next("/images/create")
    if fd >= 0:
        os.close(fd)
    if thread:
        thread.join()
    assert [(i["name"], i["target"]["digest"]) for i in made] == [("hello:1", image.digest)]
    assert created["event"] == {"name": "hello:1", "labels": {}}
    stored = contents(davit)
    assert set(stored) == set(image.blobs)
    labels = stored[image.digest]["labels"]
    assert labels["containerd.io/gc.ref.content.config"] == images.digest(image.config)
    assert labels["containerd.io/gc.ref.content.l.1"] == images.digest(image.packed[1])
    assert davit.call("leases.list")["leases"] == []
    assert davit.call("content.list_statuses")["statuses"] == []
    # other readers find it too
    index = json.loads((davit.root / "content/index.json").read_text())
    assert [m["annotations"][images.REF_NAME] for m in index["manifests"]] == ["hello:1"]


def test_import_again(davit):
    image = Image(tar(HELLO))
    load(davit, archive(image, "a"))
    blob = davit.root / "content/blobs/sha256" / image.digest.removeprefix("sha256:")
    before = blob.stat()
    with davit.events() as events:
        load(davit, archive(image, "a"))
        load(davit, archive(image, "b"))
        topics = []
        while "/images/create" not in topics:
            topics.append(events.next()["topic"])
    assert "/content/create" not in topics
    after = blob.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_import_docker(davit):
    image = Image(tar(HELLO), tar({"x": b"y"}))
    made = load(davit, images.docker_archive(image, "docker.io/library/x:1", "y:2"))
    assert [i["name"] for i in made] == ["docker.io/library/x:1", "y:2"]
    manifest = json.loads(davit.call("content.read", digest=made[0]["target"]["digest"])["data"])
    assert manifest["config"]["digest"] == images.digest(image.config)
    assert [layer["digest"] for layer in manifest["layers"]] == image.diff_ids
    assert davit.call("images.unpack", name="y:2")["chain_id"] == image.chain[-1]


def test_import_arguments(davit):
    data = archive(Image(tar(HELLO)), "x")
    call = davit.call
    assert fails("invalid_argument", call, "images.import").details["argument"] == "path"
    fd = passed(data)
    assert "not both" in fails("invalid_argument", call, "images.import", path="/x", stream=Fd(fd)).message
    fails("invalid_argument", call, "images.import", stream=Fd(fd), platform="nonsense")
    fails("not_found", call, "images.get", name="x")
    os.close(fd)
    fails("invalid_argument", call, "images.import", path="relative")
    assert "/no/such" in fails("not_found", call, "images.import", path="/no/such/file").message
    fails("invalid_argument", call, "images.import", path="/dev/null")
    os.mkfifo(davit.base / "fifo")
    fails("invalid_argument", call, "images.import", path=str(davit.base / "fifo"))
    fd = os.open("/dev/null", os.O_WRONLY)
    fails("invalid_argument", call, "images.import", stream=Fd(fd))
    os.close(fd)
    fails("invalid_argument", call, "images.import", stream="fd:0")


def test_faults_name_arguments_of_the_method(davit, tmp_path):
    """What the store calls it inside (a digest, a ref, a size) is no argument of these calls."""
    image = Image(tar(HELLO))
    call, target = davit.call, str(tmp_path / "out.tar")

    def argument(code, method, **params):
        return fails(code, call, method, **params).details.get("argument")

    assert argument("not_found", "images.export", names=["none"], path=target) == "names"
    assert argument("not_found", "images.unpack", name="none") == "name"
    assert argument("not_found", "images.unpack", name="none", snapshotter="none") == "snapshotter"
    # a blob that is not what its name says
    wrong = {**image.blobs, images.digest(image.config): image.config[:-1] + b" "}
    assert "argument" not in fails("failed_precondition", load, davit, tar(layout([image.descriptor("x")], wrong))).details
    # a name that nobody has given
    named = tar(layout([image.descriptor("a\nb")], image.blobs))
    assert "argument" not in fails("failed_precondition", load, davit, named).details
    assert fails("invalid_argument", load, davit, named, name="a\nb").details["argument"] == "name"
    # what hangs below a name is gone
    load(davit, archive(image, "x"))
    call("content.delete", digest=images.digest(image.packed[0]))
    for method, params in (("images.unpack", {"name": "x"}), ("images.export", {"names": ["x"], "path": target})):
        with pytest.raises(RpcError) as error:
            call(method, **params)
        assert "argument" not in error.value.details, error.value


def test_import_platforms(davit):
    mine, other = Image(tar(HELLO)), Image(tar({"x": b"y"}), architecture="s390x")
    index = images.dumps({"schemaVersion": 2, "mediaType": images.INDEX, "manifests": [
        other.descriptor(platform={"os": "linux", "architecture": "s390x"}),
        mine.descriptor(platform={"os": "linux", "architecture": images.ARCHITECTURE}),
    ]})
    top = images.descriptor(images.INDEX, index, annotations={images.REF_NAME: "multi"})
    both = {images.digest(index): index, **mine.blobs, **other.blobs}
    folder = images.write_folder(davit.base / "layout", layout([top], both))
    davit.call("images.import", path=str(folder))
    # from a folder only what is needed is copied
    assert set(contents(davit)) == {images.digest(index), *mine.blobs}
    load(davit, tar(layout([top], both)), namespace="tar")
    assert len(contents(davit, namespace="tar")) == len(both)
    davit.call("gc.run")
    # from a tar the rest is collected
    assert set(contents(davit, namespace="tar")) == {images.digest(index), *mine.blobs}
    load(davit, tar(layout([top], both)), namespace="all", all_platforms=True)
    load(davit, tar(layout([top], both)), namespace="one", platform="linux/s390x")
    davit.call("gc.run")
    assert set(contents(davit, namespace="all")) == set(both)
    assert set(contents(davit, namespace="one")) == {images.digest(index), *other.blobs}
    fails("not_found", load, davit, tar(layout([top], both)), platform="linux/riscv64")
    # of an image for one platform there is nothing to choose: it is for the one that was named, or refused
    single = tar(layout([other.descriptor(name="single")], other.blobs))
    error = fails("not_found", load, davit, single, platform="linux/riscv64")
    assert error.details["argument"] == "platform" and "is for linux/s390x" in str(error), error
    load(davit, single)
    # from a store that kept one of them, all are not to be had
    out = davit.base / "one.tar"
    davit.call("images.export", namespace="one", names=["multi"], path=str(out))
    error = fails("failed_precondition", davit.call, "images.import", path=str(out), namespace="again", all_platforms=True)
    assert mine.digest in error.message and "linux/" + images.ARCHITECTURE in error.message, error
    davit.call("images.import", path=str(out), namespace="again", platform="linux/s390x")
    missing = {d: b for d, b in both.items() if d != images.digest(mine.config)}
    error = fails("failed_precondition", load, davit, tar(layout([top], missing)), namespace="missing")
    assert images.digest(mine.config) in error.message


def test_whiteouts_of_nothing(davit):
    """What a layer deletes that is not there is seen with no snapshotter, in no layer."""
    layers = [
        tar([(".wh.a", b""), ("none/.wh.a", b""), ("d/", entry(tarfile.DIRTYPE, mode=0o755)), ("d/.wh.a", b""), ("d/x", b"1")]),
        tar([("d/.wh.a", b""), ("e/", entry(tarfile.DIRTYPE, mode=0o711)), ("e/.wh.a", b""), ("e/f/.wh.a", b""), ("e/x", b"2")]),
        tar([("d/.wh..wh..opq", b""), ("d/.wh.a", b""), ("d/y", b"3"), ("e/x/.wh.a", b""), ("none/none/.wh..wh..opq", b"")]),
    ]
    image = Image(*layers)
    load(davit, archive(image, "w"))
    shown = {}
    for snapshotter in ("overlayfs", "native"):
        davit.call("images.unpack", name="w", snapshotter=snapshotter)
        for i, chain in enumerate(image.chain):
            key = f"view-{i}"
            mounts = davit.call("snapshots.view", snapshotter=snapshotter, key=key, parent=chain)["mounts"]
            with images.mounted(davit, mounts) as at:
                shown[snapshotter, i] = sorted((str(path.relative_to(at)), oct(path.lstat().st_mode)) for path in at.rglob("*"))
            davit.call("snapshots.remove", snapshotter=snapshotter, key=key)
    for i in range(len(layers)):
        assert shown["overlayfs", i] == shown["native", i], i
    assert [name for name, mode in shown["native", 2]] == ["d", "d/y", "e", "e/x"]


def test_import_artifacts(davit):
    """What is for no platform goes with its index, also without any image; it does not stand in for one."""
    mine, note = Image(tar(HELLO)), b"a note"
    artifact = images.dumps({
        "schemaVersion": 2, "mediaType": images.MANIFEST, "artifactType": "application/x.note",
        "config": images.descriptor("application/vnd.oci.empty.v1+json", b"{}"), "layers": [images.descriptor("text/plain", note)],
    })
    entries = [images.descriptor(images.MANIFEST, artifact, artifactType="application/x.note"),
               mine.descriptor(platform={"os": "linux", "architecture": images.ARCHITECTURE})]
    blobs = {images.digest(data): data for data in (artifact, note, b"{}")}
    for namespace, some, have in (("both", entries, {**blobs, **mine.blobs}), ("alone", entries[:1], blobs)):
        index = images.dumps({"schemaVersion": 2, "mediaType": images.INDEX, "manifests": some})
        top = images.descriptor(images.INDEX, index, annotations={images.REF_NAME: "x"})
        load(davit, tar(layout([top], {images.digest(index): index, **have})), namespace=namespace)
        davit.call("gc.run")
        assert set(contents(davit, namespace=namespace)) == {images.digest(index), *have}
        if namespace == "both":
            fails("not_found", load, davit, tar(layout([top], {images.digest(index): index, **have})), platform="linux/s390x")
        else:
            have.pop(images.digest(note))
            fails("failed_precondition", load, davit, tar(layout([top], {images.digest(index): index, **have})), namespace="lacking")


def bad_archives():
    image = Image(tar(HELLO))
    good = layout([image.descriptor("x")], image.blobs)
    layer = "blobs/sha256/" + images.digest(image.packed[0]).removeprefix("sha256:")
    whole = tar(good)
    yield "empty", b"", "empty"
    yield "garbage", b"this is no tar, and no archive of any other kind", "no tar archive"
    yield "cut", whole[: whole.index(image.packed[0][512:700]) + 300], "damaged"
    yield "flipped", tar({**good, layer: image.packed[0][:-1] + b"X"}), layer.rpartition("/")[2]
    yield "index twice", tar([*good.items(), ("index.json", good["index.json"])]), "twice"
    yield "no layout", tar({n: d for n, d in good.items() if n != "oci-layout"}), "oci-layout"
    yield "symlink", tar({**good, "index.json": entry(tarfile.SYMTYPE, linkname="/etc/passwd")}), "link"
    yield "device", tar({**good, "null": entry(tarfile.CHRTYPE, devmajor=1, devminor=3)}), "null"
    yield "outside", tar({**good, "../../etc/x": b"x"}), "../../etc/x"
    yield "nothing", tar({"a": b"b"}), "neither an OCI image layout"
    yield "old docker", tar({"repositories": b"{}"}), "docker's first format"
    yield "nameless", tar(layout([image.descriptor()], image.blobs)), "name"


@pytest.mark.parametrize("data,message", [pytest.param(d, m, id=i) for i, d, m in bad_archives()])
def test_import_bad(davit, data, message):
    with pytest.raises(RpcError) as error:
        load(davit, data)
    assert error.value.code == ("invalid_argument" if message == "name" else "failed_precondition")
    assert message in error.value.message
    assert davit.call("images.list")["images"] == []
    assert davit.call("leases.list")["leases"] == []
    davit.call("gc.run")
    assert contents(davit) == {}
    assert davit.call("content.list_statuses")["statuses"] == []


def test_archive_is_no_checkpoint(davit):
    """Whatever an archive says of itself, its images get no labels."""
    image = Image(tar(HELLO))
    top = image.descriptor()
    top["annotations"] = {
        images.REF_NAME: "evil", "containerd.io/checkpoint": "true", "containerd.io/gc.root": "true",
        "io.containerd.image.name": "containerd.io/checkpoint/x:y",
    }
    made = load(davit, tar(layout([top], image.blobs)))
    assert [i["labels"] for i in made] == [{}]
    for info in contents(davit).values():
        assert all(key.startswith("containerd.io/gc.ref.content.") for key in info["labels"])


def test_import_cancel(davit):
    """A pipe that gives nothing more does not keep the worker."""
    data = archive(Image(tar(HELLO)), "x")
    for how in ("cancel", "timeout", "hangup"):
        fd, end = os.pipe()
        os.write(end, data[:2000])
        client = davit.client()
        pending = client.send("images.import", stream=Fd(fd), **({"timeout": 200_000_000} if how == "timeout" else {}))
        if how == "hangup":
            time.sleep(0.1)
            client.close()
        else:
            if how == "cancel":
                time.sleep(0.1)
                client.call("rpc.cancel", msgid=pending.msgid)
            with pytest.raises(RpcError) as error:
                pending.result()
            assert error.value.code == ("cancelled" if how == "cancel" else "deadline_exceeded")
        # the job has let go of the pipe
        os.close(fd)
        wait_for(lambda: not has_reader(end))
        os.close(end)
    wait_for(lambda: davit.call("leases.list")["leases"] == [])


def has_reader(end):
    poll = select.poll()
    poll.register(end, 0)
    return not any(event & select.POLLERR for _, event in poll.poll(0))


def test_import_progress(davit):
    """Events say how far it is, when they are asked for."""
    data = archive(Image(tar({"big": noise(3 << 20)})), "x")
    fd, end = os.pipe()
    with davit.events() as events:
        pending = davit.rpc.send("images.import", stream=Fd(fd), progress="mine")
        os.close(fd)
        with os.fdopen(end, "wb", buffering=0) as out:
            half = len(data) // 2
            out.write(data[:half])
            told = events.next("/images/progress")
            out.write(data[half:])
        pending.result()
    assert told["event"]["progress"] == "mine" and told["event"]["phase"] == "read"
    assert 0 < told["event"]["done"] <= len(data)


def test_import_killed(davit):
    """What a killed daemon had begun is no obstacle, and what it had finished is not done again."""
    image = Image(tar({"a": noise(1 << 20, 1)}), tar({"b": noise(1 << 20, 2)}), tar({"c": noise(1 << 20, 3)}))
    data = archive(image, "x")
    cut = data.index(image.packed[2][512:1000])
    fd, end = os.pipe()
    pending = davit.rpc.send("images.import", stream=Fd(fd))
    os.close(fd)
    with os.fdopen(end, "wb", buffering=0) as out:
        out.write(data[:cut])
        wait_for(lambda: images.digest(image.packed[0]) in contents(davit))
        davit.kill_reactor()
    del pending
    assert davit.call("images.list")["images"] == []
    assert davit.call("leases.list")["leases"] == []
    first = davit.root / "content/blobs/sha256" / images.digest(image.packed[0]).removeprefix("sha256:")
    before = first.stat() if first.exists() else None
    load(davit, data)
    if before:
        assert first.stat().st_ino == before.st_ino
    assert davit.call("images.unpack", name="x")["chain_id"] == image.chain[-1]


def test_imports_at_once(davit):
    image = Image(tar({"a": noise(1 << 20)}))
    fds = [passed(archive(image, f"i{i}")) for i in range(6)]
    pending = [davit.client().send("images.import", stream=Fd(fd)) for fd in fds]
    for one in pending:
        one.result()
    for fd in fds:
        os.close(fd)
    assert len(davit.call("images.list")["images"]) == 6
    assert set(contents(davit)) == set(image.blobs)


# ---- export


def test_export(davit):
    a, b = Image(tar(HELLO)), Image(tar({"x": b"y"}))
    load(davit, archive(a, "a"))
    load(davit, archive(b, "b:2"))
    data = save(davit, "b:2", "a")
    assert save(davit, "a", "b:2", "a") == data
    target = davit.base / "out.tar"
    assert davit.call("images.export", names=["a", "b:2"], path=str(target)) == {"size": len(data)}
    assert target.read_bytes() == data
    assert stat.S_IMODE(target.stat().st_mode) == 0o644
    made = load(davit, data, namespace="other")
    assert {i["name"]: i["target"]["digest"] for i in made} == {"a": a.digest, "b:2": b.digest}
    assert set(contents(davit, namespace="other")) == set(a.blobs) | set(b.blobs)
    docker = save(davit, "a", format="docker")
    made = load(davit, docker, namespace="third")
    assert made[0]["target"]["digest"] == a.digest


def test_export_errors(davit):
    image = Image(tar(HELLO), tar({"x": b"y"}))
    load(davit, archive(image, "a"))
    target = davit.base / "out.tar"
    target.write_text("before")
    call = davit.call
    fails("not_found", call, "images.export", names=["nothing"], path=str(target))
    fails("invalid_argument", call, "images.export", names=[], path=str(target))
    fails("invalid_argument", call, "images.export", names=["a"], path="out.tar")
    fails("invalid_argument", call, "images.export", names=["a"])
    fails("invalid_argument", call, "images.export", names=["a"], path=str(target), format="zip")
    fails("not_found", call, "images.export", names=["a"], path="/no/such/folder/x")
    # from here on the sources are gone
    davit.call("content.delete", digest=images.digest(image.packed[1]))
    error = fails("failed_precondition", call, "images.export", names=["a"], path=str(target))
    assert images.digest(image.packed[1]) in error.message
    assert target.read_text() == "before"
    assert sorted(p.name for p in davit.base.glob("out.tar*")) == ["out.tar"]


def test_export_that_is_killed_leaves_nothing(davit):
    """The archive has no name until it is whole."""
    load(davit, archive(Image(tar({"big": random.Random(1).randbytes(128 << 20)})), "a"))
    folder = davit.base / "out"
    folder.mkdir()
    (folder / "a.tar").write_bytes(b"old")
    reactor = davit.info["pid"]

    def is_written():
        links = (os.readlink(p) for p in Path(f"/proc/{reactor}/fd").iterdir() if os.path.islink(p))
        return any(link.startswith(str(folder)) for link in links)

    davit.send("images.export", names=["a"], path=str(folder / "a.tar"))
    wait_for(is_written, what="the archive is written")
    davit.kill_reactor()
    assert os.listdir(folder) == ["a.tar"]
    size = (folder / "a.tar").stat().st_size
    assert size == len(b"old") or size > 128 << 20, "the old one or, if that was faster, the whole new one"


def test_export_readers(davit):
    """One that goes away ends the export; one that does not read does not keep it from being cancelled."""
    load(davit, archive(Image(tar({"big": noise(2 << 20)})), "a"))
    pid = davit.info["pid"]
    for make in (os.pipe, lambda: [s.detach() for s in socket.socketpair()]):
        fd, end = make()
        pending = davit.rpc.send("images.export", names=["a"], stream=Fd(end))
        os.close(end)
        os.read(fd, 1000)
        os.close(fd)
        with pytest.raises(RpcError) as error:
            pending.result()
        assert error.value.code == "aborted"
        fd, end = make()
        pending = davit.rpc.send("images.export", names=["a"], stream=Fd(end))
        os.close(end)
        os.read(fd, 1000)
        davit.call("rpc.cancel", msgid=pending.msgid)
        with pytest.raises(RpcError) as error:
            pending.result()
        assert error.value.code == "cancelled"
        while os.read(fd, 1 << 20):
            pass  # ends when the job lets go
        os.close(fd)
    assert davit.info["pid"] == pid


# ---- unpacking

LOWER = [
    ("./", entry(tarfile.DIRTYPE, mode=0o711, uid=5)),
    ("etc/", entry(tarfile.DIRTYPE, mode=0o751, uid=3, gid=4)),
    ("etc/kept", b"kept"),
    ("etc/gone", b"gone"),
    ("etc/changed", b"old"),
    ("var/", entry(tarfile.DIRTYPE, mode=0o755)),
    ("var/a", b"a"),
    ("suid", (entry(mode=0o4755), b"s")),
]
UPPER = [
    # no entry for etc/: it is as the layer below says
    ("etc/.wh.gone", b""),
    ("etc/changed", b"new"),
    ("var/", entry(tarfile.DIRTYPE, mode=0o700)),
    ("var/.wh..wh..opq", b""),
    ("var/b", b"b"),
    ("link", entry(tarfile.SYMTYPE, linkname="/etc/kept")),
]
TOP = [("etc/top", b"top"), ("new/deep/file", b"x")]


def check_tree(folder):
    found = images.tree(folder)
    # no layer but the first says what / is
    assert (stat.S_IMODE(folder.stat().st_mode), folder.stat().st_uid) == (0o711, 5)
    assert sorted(found) == ["etc", "etc/changed", "etc/kept", "etc/top", "link", "new", "new/deep", "new/deep/file", "suid", "var", "var/b"]
    assert found["etc"][:3] == (stat.S_IFDIR | 0o751, 3, 4)
    assert found["var"][0] == stat.S_IFDIR | 0o700
    assert found["suid"][0] == stat.S_IFREG | 0o4755
    assert (folder / "etc/changed").read_text() == "new"
    assert os.readlink(folder / "link") == "/etc/kept"


@pytest.mark.parametrize("snapshotter", ["overlayfs", "native"])
def test_unpack(davit, snapshotter):
    image = Image(tar(LOWER), tar(UPPER), tar(TOP))
    load(davit, archive(image, "x"))
    assert davit.call("images.unpack", name="x", snapshotter=snapshotter) == {"chain_id": image.chain[-1]}
    found = snapshots(davit, snapshotter=snapshotter)
    assert {name: info["parent"] for name, info in found.items()} == dict(zip(image.chain, ["", *image.chain]))
    assert {info["kind"] for info in found.values()} == {"committed"}
    assert all(info["labels"] == {"containerd.io/snapshot.ref": name} for name, info in found.items())
    stored = contents(davit)
    assert stored[images.digest(image.config)]["labels"] == {f"containerd.io/gc.ref.snapshot.{snapshotter}": image.chain[-1]}
    assert stored[images.digest(image.packed[1])]["labels"]["containerd.io/uncompressed"] == image.diff_ids[1]
    mounts = view(davit, image.chain[-1], snapshotter=snapshotter)
    with images.mounted(davit, mounts) as folder:
        check_tree(folder)
    davit.call("snapshots.remove", key="look", snapshotter=snapshotter)
    # again is nothing to do, and what the image needs is kept
    with davit.events() as events:
        davit.call("images.unpack", name="x", snapshotter=snapshotter)
        davit.call("events.publish", topic="/done", event={})
        assert events.next()["topic"] == "/done"
    davit.call("gc.run")
    assert set(snapshots(davit, snapshotter=snapshotter)) == set(image.chain)
    assert davit.call("leases.list")["leases"] == []
    davit.call("images.delete", name="x", sync=True)
    assert snapshots(davit, snapshotter=snapshotter) == {} and contents(davit) == {}


@pytest.mark.parametrize("snapshotter", ["overlayfs", "native"])
def test_unpack_makes_what_was_removed_again(davit, snapshotter):
    image = Image(tar(LOWER), tar(UPPER), tar(TOP))
    load(davit, archive(image, "x"))
    unpack = lambda: davit.call("images.unpack", name="x", snapshotter=snapshotter)
    unpack()
    folder = davit.root / "snapshots" / snapshotter
    layers = sorted((p for p in folder.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
    before = snapshots(davit, snapshotter=snapshotter)
    # in the order of the rows, which is that of the layers
    assert len(layers) == 3
    for lost in ([0], [1], [2], [0, 1], [0, 2], [0, 1, 2]):
        for i in lost:
            shutil.rmtree(layers[i] if i != 1 else layers[i] / "fs")
        if 2 in lost:
            error = fails("failed_precondition", davit.call, "snapshots.prepare", key="k", parent=image.chain[-1], snapshotter=snapshotter)
            assert f"snapshots/{snapshotter}/" in error.message and "images.unpack" in error.message
        assert unpack() == {"chain_id": image.chain[-1]}
        assert snapshots(davit, snapshotter=snapshotter) == before
        with images.mounted(davit, view(davit, image.chain[-1], snapshotter=snapshotter)) as root:
            check_tree(root)
        davit.call("snapshots.remove", key="look", snapshotter=snapshotter)
        davit.call("snapshots.cleanup", snapshotter=snapshotter)
        assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in layers)
    # it lasts
    assert davit.stop() == 0
    davit.start()
    with images.mounted(davit, view(davit, image.chain[-1], snapshotter=snapshotter)) as root:
        check_tree(root)
    davit.call("snapshots.remove", key="look", snapshotter=snapshotter)
    # nothing is left to make it of
    shutil.rmtree(layers[1])
    davit.call("content.delete", digest=images.digest(image.packed[1]))
    error = fails("failed_precondition", unpack)
    assert image.chain[1] in error.message and images.digest(image.packed[1]) in error.message
    load(davit, archive(image, "x"))
    unpack()


def test_unpack_shared(davit):
    """Layers in common are unpacked once; what is above stands on them."""
    base = tar(LOWER)
    one, two = Image(base, tar({"one": b"1"})), Image(base, tar({"two": b"2"}), tar(TOP))
    load(davit, archive(one, "one"))
    load(davit, archive(two, "two"))
    davit.call("images.unpack", name="one")
    with davit.events() as events:
        davit.call("images.unpack", name="two")
        commits = [events.next("/snapshot/commit")["event"]["name"] for _ in range(2)]
    assert commits == two.chain[1:]
    mounts = view(davit, two.chain[-1])
    with images.mounted(davit, mounts) as folder:
        # attributes of a folder that the upper layers did not mention, from the layer that had been there
        assert stat.S_IMODE((folder / "etc").stat().st_mode) == 0o751 and (folder / "etc").stat().st_uid == 3
        assert (folder / "etc/top").read_text() == "top" and (folder / "two").exists()
    davit.call("snapshots.remove", key="look")


def test_unpack_no_layers(davit):
    load(davit, archive(Image(), "empty"))
    assert davit.call("images.unpack", name="empty") == {"chain_id": ""}
    assert snapshots(davit) == {}


def test_unpack_errors(davit):
    call = davit.call
    fails("not_found", call, "images.unpack", name="nothing")
    image = Image(tar(HELLO), tar({"x": b"y"}))
    load(davit, archive(image, "x"))
    fails("not_found", call, "images.unpack", name="x", snapshotter="zfs")
    # a layer whose content is not what the config promises; the others are taken back as well
    wrong = Image(tar({"a": b"a"}), tar({"b": b"b"}), tar({"c": b"c"}), diff_ids=[images.digest(tar({"a": b"a"})), "sha256:" + "1" * 64, images.digest(tar({"c": b"c"}))])
    load(davit, archive(wrong, "wrong"))
    for snapshotter in ("overlayfs", "native"):
        error = fails("failed_precondition", call, "images.unpack", name="wrong", snapshotter=snapshotter)
        assert "sha256:" + "1" * 64 in error.message and images.digest(tar({"b": b"b"})) in error.message
        assert set(snapshots(davit, snapshotter=snapshotter)) <= {wrong.chain[0]}
    # a damaged layer
    bad = Image(tar({"a": b"a"})[:512])
    load(davit, archive(bad, "bad"))
    error = fails("failed_precondition", call, "images.unpack", name="bad")
    assert images.digest(bad.packed[0]) in error.message
    # one that leads out
    evil = Image(tar({"../../../evil": b"x"}))
    load(davit, archive(evil, "evil"))
    assert "evil" in fails("failed_precondition", call, "images.unpack", name="evil").message
    # and one that is gone
    call("content.delete", digest=images.digest(image.packed[1]))
    error = fails("failed_precondition", call, "images.unpack", name="x")
    assert images.digest(image.packed[1]) in error.message
    assert not [s for s in snapshots(davit) if s.startswith("extract-")]
    assert call("leases.list")["leases"] == []


def test_unpack_at_once(davit):
    """Several of one image, and of images with layers in common."""
    base = tar({f"f{i}": noise(100_000, i) for i in range(20)})
    one, two = Image(base, tar({"one": b"1"})), Image(base, tar({"two": b"2"}))
    load(davit, archive(one, "one"))
    load(davit, archive(two, "two"))
    pending = [davit.client().send("images.unpack", name=name) for name in ("one", "two", "one", "two", "one", "two")]
    assert [p.result()["chain_id"] for p in pending] == [one.chain[-1], two.chain[-1]] * 3
    assert set(snapshots(davit)) == {*one.chain, *two.chain}


def test_unpack_killed(davit):
    """kill -9 in the middle: the next one finishes, and nothing is left over."""
    image = Image(*[tar({f"f{i}.{j}": noise(50_000, 100 * i + j) for j in range(40)}) for i in range(5)])
    load(davit, archive(image, "x"))
    pending = davit.rpc.send("images.unpack", name="x")
    wait_for(lambda: pending.done() or any(s.startswith("extract-") for s in snapshots(davit)))
    davit.kill_reactor()
    assert davit.call("images.unpack", name="x")["chain_id"] == image.chain[-1]
    davit.call("gc.run")
    assert set(snapshots(davit)) == set(image.chain)
    mounts = view(davit, image.chain[-1])
    with images.mounted(davit, mounts) as folder:
        assert len(list(folder.iterdir())) == 200
        assert (folder / "f4.39").read_bytes() == noise(50_000, 439)
    davit.call("snapshots.remove", key="look")


def test_unpack_cancel(davit):
    image = Image(*[tar({f"f{i}.{j}": noise(100_000, 100 * i + j) for j in range(60)}) for i in range(4)])
    load(davit, archive(image, "x"))
    pending = davit.rpc.send("images.unpack", name="x")
    wait_for(lambda: pending.done() or any(s.startswith("extract-") for s in snapshots(davit)))
    davit.call("rpc.cancel", msgid=pending.msgid)
    try:
        pending.result()
    except RpcError as error:
        assert error.code == "cancelled"
    wait_for(lambda: not [s for s in snapshots(davit) if s.startswith("extract-")])
    wait_for(lambda: davit.call("leases.list")["leases"] == [])
    assert davit.call("images.unpack", name="x")["chain_id"] == image.chain[-1]


# ---- a folder becomes an image


def test_from_dir(davit, rootfs):
    os.chown(rootfs / "etc", 7, 8)
    (rootfs / "etc/x").write_text("x")
    made = davit.call("images.from_dir", path=str(rootfs), name="box", config={"Cmd": ["/bin/sh"], "Env": ["A=b"]})["image"]
    again = davit.call("images.from_dir", path=str(rootfs), name="again", config='{"Cmd":["/bin/sh"],"Env":["A=b"]}')["image"]
    assert made["target"] == again["target"]
    manifest = json.loads(davit.call("content.read", digest=made["target"]["digest"])["data"])
    config = json.loads(davit.call("content.read", digest=manifest["config"]["digest"])["data"])
    assert config["config"] == {"Cmd": ["/bin/sh"], "Env": ["A=b"]}
    assert (config["os"], config["architecture"], config["created"]) == ("linux", images.ARCHITECTURE, "1970-01-01T00:00:00Z")
    assert len(config["rootfs"]["diff_ids"]) == len(config["history"]) == len(manifest["layers"]) == 1
    assert manifest["layers"][0]["mediaType"].endswith("tar+zstd")
    chain = davit.call("images.unpack", name="box")["chain_id"]
    assert chain == config["rootfs"]["diff_ids"][0]
    mounts = view(davit, chain)
    with images.mounted(davit, mounts) as folder:
        assert images.tree(folder) == images.tree(rootfs)
    davit.call("snapshots.remove", key="look")
    # the folder changes, the image with it
    (rootfs / "etc/x").write_text("y")
    fd = os.open(rootfs, os.O_RDONLY | os.O_DIRECTORY)
    changed = davit.call("images.from_dir", stream=Fd(fd), name="box", config={"created": "2026-01-01T00:00:00Z", "config": {"User": "nobody"}})
    os.close(fd)
    assert changed["image"]["target"]["digest"] != made["target"]["digest"]
    davit.call("gc.run")
    assert davit.call("images.usage", name="box")["size"] > 0
    # davit's own archives are read by itself
    data = save(davit, "box", "again")
    assert [i["name"] for i in load(davit, data, namespace="other")] == ["again", "box"]
    docker = save(davit, "again", format="docker")
    made = load(davit, docker, namespace="third")
    assert davit.call("images.unpack", name="again:latest" if made[0]["name"] != "again" else "again", namespace="third")["chain_id"] == chain


def test_from_dir_tar(davit):
    data = tar(LOWER)
    fd = passed(data)
    made = davit.call("images.from_dir", stream=Fd(fd), name="t")["image"]
    os.close(fd)
    manifest = json.loads(davit.call("content.read", digest=made["target"]["digest"])["data"])
    config = json.loads(davit.call("content.read", digest=manifest["config"]["digest"])["data"])
    assert config["rootfs"]["diff_ids"] == [images.digest(data)]
    (davit.base / "t.tar.gz").write_bytes(gzip.compress(data))
    again = davit.call("images.from_dir", path=str(davit.base / "t.tar.gz"), name="u")["image"]
    assert again["target"] == made["target"]
    assert davit.call("images.unpack", name="t")["chain_id"] == images.digest(data)
    for wrong in (b"", b"hello, world, no tar at all" * 100, data[:3000]):
        fd = passed(wrong)
        fails("failed_precondition", davit.call, "images.from_dir", stream=Fd(fd), name="w")
        os.close(fd)
    fails("not_found", davit.call, "images.get", name="w")


@pytest.mark.parametrize("config,message", [
    ("{", "not a JSON document"), ("[]", "not a JSON object"), ({"cmd": ["x"]}, "cmd"), ({"Cmd": "x"}, "Cmd"),
    ({"config": {"Env": [1]}}, "Env"), ({"config": 7}, "config"), ({"created": 7, "config": {}}, "created"),
])
def test_from_dir_config(davit, rootfs, config, message):
    error = fails("invalid_argument", davit.call, "images.from_dir", path=str(rootfs), name="x", config=config)
    assert message in error.message and error.details["argument"] == "config"
    assert contents(davit) == {}


def test_from_dir_arguments(davit, rootfs):
    call = davit.call
    fails("invalid_argument", call, "images.from_dir", name="x")
    fails("invalid_argument", call, "images.from_dir", path="etc", name="x")
    fails("not_found", call, "images.from_dir", path="/no/such", name="x")
    fails("invalid_argument", call, "images.from_dir", path="/dev/zero", name="x")
    fails("invalid_argument", call, "images.from_dir", path=str(rootfs), name="a\nb")
    assert call("images.list")["images"] == []


# ---- usage, collection


def test_usage(davit):
    base = tar({"base": noise(200_000)})
    one, two = Image(base, tar({"one": b"1"})), Image(base, tar({"two": b"2"}))
    load(davit, archive(one, "one"))
    assert davit.call("images.usage", name="one") == {"size": sum(map(len, one.blobs.values())), "unpacked": 0, "shared": 0}
    load(davit, archive(two, "two"))
    davit.call("images.unpack", name="one")
    usage = davit.call("images.usage", name="one")
    assert usage["shared"] == len(base)
    assert 200_000 <= usage["unpacked"] < 400_000
    fails("not_found", davit.call, "images.usage", name="three")


def test_delete_collects(davit):
    base = tar({"base": b"b"})
    one, two = Image(base, tar({"one": b"1"})), Image(base, tar({"two": b"2"}))
    for image, name in ((one, "one"), (two, "two")):
        load(davit, archive(image, name))
        davit.call("images.unpack", name=name)
    davit.call("images.delete", name="one", sync=True)
    assert set(contents(davit)) == set(two.blobs)
    assert set(snapshots(davit)) == set(two.chain)
    mounts = view(davit, two.chain[-1])
    with images.mounted(davit, mounts) as folder:
        assert sorted(p.name for p in folder.iterdir()) == ["base", "two"]
    davit.call("snapshots.remove", key="look")


def test_run_an_image(davit, busybox):
    """All the way: a folder, an image, a snapshot, a container."""
    davit.call("images.from_dir", path=str(busybox), name="box")
    chain = davit.call("images.unpack", name="box")["chain_id"]
    mounts = davit.call("snapshots.prepare", key="c", parent=chain, labels={"containerd.io/gc.root": "test"})["mounts"]
    with images.mounted(davit, mounts) as folder:
        done = subprocess.run(["chroot", str(folder), "/bin/sh", "-c", "echo hi > /x; cat /x"], capture_output=True, text=True)
        assert done.stdout == "hi\n"
    davit.call("snapshots.remove", key="c")


def test_described(davit):
    methods = {m["name"]: m for m in davit.call("rpc.describe")["methods"] if m["name"].startswith("images.")}
    assert sorted(m.removeprefix("images.") for m in methods) == [
        "create", "delete", "export", "from_dir", "get", "import", "list", "unpack", "update", "usage"]
    for method in methods.values():
        assert method["summary"] and all(p["doc"] for p in method["params"])
