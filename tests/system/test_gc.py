# SPDX-License-Identifier: Apache-2.0
"""Garbage collection: by order, by itself, beside all that goes on, and over a restart."""

import os
import signal
import tarfile
import threading
import time

import pytest

from lib import images
from lib.daemon import wait_for
from lib.images import Image, archive, entry, passed, tar
from lib.rpc import Fd, RpcError

HELLO = {"bin/": entry(tarfile.DIRTYPE, mode=0o755), "bin/hello": b"hello\n"}


def put(davit, data, ref="put", **params):
    return davit.call("content.write", ref=ref, action="commit", data=data, **params)["digest"]


def contents(davit, **params):
    return {info["digest"] for info in davit.call("content.list", **params)["contents"]}


def snapshots(davit, **params):
    return {info["name"] for info in davit.call("snapshots.list", **params)["snapshots"]}


def blobs(davit):
    return {"sha256:" + p.name for p in (davit.root / "content/blobs/sha256").iterdir()}


def load(davit, image, name, client=None, **params):
    fd = passed(archive(image, name))
    try:
        return (client or davit).call("images.import", stream=Fd(fd), **params)["images"]
    finally:
        os.close(fd)


def quiet(davit):
    """Waits until nothing is due."""
    wait_for(lambda: (s := davit.call("gc.status"))["due_at"] is None and not s["running"], what="collections are over")


def folders(davit):
    return sorted(int(p.name) for s in ("overlayfs", "native") if (davit.root / "snapshots" / s).exists()
                  for p in (davit.root / "snapshots" / s).iterdir() if p.name.isdigit())


def test_by_order(davit):
    image = Image(tar(HELLO))
    load(davit, image, "one")
    davit.call("images.unpack", name="one")
    quiet(davit)
    extra = put(davit, b"extra")
    davit.call("snapshots.prepare", key="loose", labels={"a": "b"})
    dry = davit.call("gc.run", dry=True)
    assert dry["removed"] == {"content": 1, "snapshots": 1, "leases": 0, "ingests": 0}
    assert contents(davit) == set(image.blobs) | {extra}
    with davit.events() as events:
        done = davit.call("gc.run")
        assert done["removed"] == dry["removed"] and done["bytes"] == dry["bytes"] >= 5 and done["duration"] > 0
        assert events.next("/content/delete")["event"] == {"digest": extra, "size": 5}
        assert events.next("/snapshot/remove")["event"]["key"] == "loose"
    assert contents(davit) == blobs(davit) == set(image.blobs)
    assert snapshots(davit) == set(image.chain)
    status = davit.call("gc.status")
    assert status["last"]["removed"] == done["removed"] and status["failure"] is None and not status["running"]
    assert davit.call("gc.run")["removed"] == {"content": 0, "snapshots": 0, "leases": 0, "ingests": 0}


def test_by_itself(davit):
    """Deleting an image is enough: its content, its snapshots, their folders and files go a moment later."""
    one, two = Image(tar(HELLO)), Image(tar(HELLO), tar({"etc": b"2"}))
    for name, image in (("one", one), ("two", two)):
        load(davit, image, name)
        davit.call("images.unpack", name=name)
    quiet(davit)
    assert len(folders(davit)) == 2  # the lower layer is shared
    davit.call("images.delete", name="two")
    wait_for(lambda: contents(davit) == set(one.blobs), what="what the image alone has had is collected")
    wait_for(lambda: blobs(davit) == set(one.blobs) and len(folders(davit)) == 1, what="the files are gone")
    assert snapshots(davit) == set(one.chain)
    davit.call("images.delete", name="one")
    wait_for(lambda: not contents(davit) and not snapshots(davit), what="the other one as well")
    wait_for(lambda: not blobs(davit) and not folders(davit) and not os.listdir(davit.root / "trash"), what="nothing is left on the disk")


def test_image_delete_sync(davit):
    image = Image(tar(HELLO))
    load(davit, image, "one")
    davit.call("images.unpack", name="one")
    with davit.events() as events:
        davit.call("images.delete", name="one", sync=True)
        assert contents(davit) == blobs(davit) == snapshots(davit) == set()
        deleted = {events.next("/content/delete")["event"]["digest"] for _ in image.blobs}
        assert deleted == set(image.blobs)


def test_container_holds_its_snapshots(davit):
    image = Image(tar(HELLO))
    load(davit, image, "one")
    chain = davit.call("images.unpack", name="one")["chain_id"]
    davit.call("leases.create", id="l")
    davit.call("snapshots.prepare", key="rw", parent=chain, lease="l")
    spec = {"ociVersion": "1.0.2", "process": {"args": ["x"], "cwd": "/", "user": {"uid": 0, "gid": 0}}, "root": {"path": "rootfs"}}
    # without a snapshotter it is the daemon's usual one
    davit.call("containers.create", id="c", spec=spec, snapshot_key="rw")
    davit.call("leases.delete", id="l", sync=True)
    davit.call("images.delete", name="one", sync=True)
    assert contents(davit) == set()
    assert snapshots(davit) == {chain, "rw"}
    davit.call("containers.delete", id="c")
    wait_for(lambda: not snapshots(davit), what="its snapshots go with the container")


def test_namespaces_are_apart(davit):
    image = Image(tar(HELLO))
    load(davit, image, "one", namespace="a")
    load(davit, image, "one", namespace="b")
    davit.call("images.delete", name="one", namespace="a", sync=True)
    assert contents(davit, namespace="a") == set()
    assert contents(davit, namespace="b") == blobs(davit) == set(image.blobs)
    davit.call("images.delete", name="one", namespace="b", sync=True)
    assert blobs(davit) == set()


def test_old_ingests(davit):
    davit.call("content.write", ref="old", action="write", offset=0, data=b"12345", total=10)
    davit.call("content.write", ref="held", action="write", offset=0, data=b"123", total=10)
    davit.call("content.write", ref="new", action="write", offset=0, data=b"123", total=10)
    davit.call("leases.create", id="l")
    davit.call("leases.add_resource", id="l", resource={"id": "held", "type": "ingests"})
    davit.call("leases.add_resource", id="l", resource={"id": "new", "type": "images"})
    assert davit.stop() == 0
    for folder in (davit.root / "content/ingest").iterdir():
        if (folder / "ref").read_text().split("/")[-1] != "new":
            day = time.time_ns() - 25 * 3600 * 10**9
            (folder / "updatedat").write_text(str(day))
            os.utime(folder / "data", ns=(day, day))
    davit.start()
    assert davit.call("gc.run", dry=True)["removed"]["ingests"] == 1
    done = davit.call("gc.run")
    assert (done["removed"]["ingests"], done["bytes"]) == (1, 5)
    assert [s["ref"] for s in davit.call("content.list_statuses")["statuses"]] == ["held", "new"]


def test_after_a_crash(davit):
    """A daemon that dies between a deletion and its collection leaves word to the next."""
    image = Image(tar(HELLO))
    load(davit, image, "one")
    quiet(davit)
    davit.call("images.delete", name="one")
    os.kill(davit.info["pid"], signal.SIGKILL)
    davit.reconnect()
    wait_for(lambda: not contents(davit) and not blobs(davit), what="collected by the next one")


def test_arguments(davit):
    with pytest.raises(RpcError) as error:
        davit.call("gc.run", dry="yes")
    assert error.value.code == "invalid_argument"
    with pytest.raises(RpcError) as error:
        davit.call("gc.run", wet=True)
    assert error.value.code == "invalid_argument"


def test_while_others_work(davit):
    """Imports, unpacking, leases and deletions in several connections while collections follow each other:
    nothing that is in use ever vanishes, and at the end nothing is left."""
    failures, rounds, stop = [], 6, threading.Event()

    def collector():
        client = davit.client()
        try:
            while not stop.is_set():
                client.call("gc.run")
        except Exception as error:  # told by the test's thread
            failures.append(f"collector: {error!r}")

    def worker(n):
        client = davit.client()
        ns = "ab"[n % 2]
        try:
            for i in range(rounds):
                # layers that others have too, coming and going
                image = Image(tar(HELLO), tar({"n": str(i % 2).encode()}), tar({"w": str((n, i)).encode()}))
                load(davit, image, f"i{n}", client, namespace=ns)
                chain = client.call("images.unpack", name=f"i{n}", namespace=ns)["chain_id"]
                lease = client.call("leases.create", namespace=ns)["lease"]["id"]
                key = f"rw-{n}-{i}"
                client.call("snapshots.prepare", key=key, parent=chain, namespace=ns, lease=lease)
                for name in image.blobs:
                    client.call("content.info", digest=name, namespace=ns)
                assert client.call("snapshots.mounts", key=key, namespace=ns)["mounts"]
                client.call("images.delete", name=f"i{n}", namespace=ns)
                client.call("snapshots.stat", key=key, namespace=ns)
                client.call("snapshots.stat", key=chain, namespace=ns)
                client.call("leases.delete", id=lease, namespace=ns)
        except Exception as error:
            failures.append(f"worker {n}, round {i}: {error!r}")

    threads = [threading.Thread(target=worker, args=(n,)) for n in range(4)]
    gc = threading.Thread(target=collector)
    for thread in [*threads, gc]:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    gc.join()
    assert not failures, failures
    davit.call("gc.run")
    for ns in "ab":
        assert contents(davit, namespace=ns) == set() and snapshots(davit, namespace=ns) == set()
    assert blobs(davit) == set() and folders(davit) == []


def test_many_events_are_all_told(davit):
    """Each removal is an event, before the answer, however many there are."""
    davit.call("leases.create", id="l")
    made = set()
    for i in range(700):
        made.add(put(davit, f"blob {i}".encode(), lease="l"))
    with davit.events(filters=["topic==/content/delete"]) as events:
        davit.call("leases.delete", id="l")
        assert davit.call("gc.run")["removed"]["content"] in (0, 700)  # the scheduled one may have been first
        deleted = {events.next()["event"]["digest"] for _ in made}
    assert deleted == made
    assert blobs(davit) == set()


def test_stop_during_collection(davit):
    davit.call("leases.create", id="l")
    made = {put(davit, f"blob {i}".encode(), lease="l") for i in range(300)}
    davit.call("leases.delete", id="l")
    davit.send("gc.run")
    assert davit.stop() == 0
    davit.start()
    wait_for(lambda: not contents(davit), what="the next daemon goes on")
    wait_for(lambda: not (blobs(davit) & made), what="and the files go")
