# SPDX-License-Identifier: Apache-2.0
"""Leases over RPC: making, listing, deleting, what they hold, and their end."""

import time

import pytest

from lib import images
from lib.daemon import wait_for
from lib.rpc import RpcError

ABSENT = "sha256:" + "0" * 64


def fails(code, call, *args, **params):
    with pytest.raises(RpcError) as error:
        call(*args, **params)
    assert error.value.code == code, error.value
    return error.value


def put(davit, data, ref="put", **params):
    return davit.call("content.write", ref=ref, action="commit", data=data, **params)["digest"]


def contents(davit, **params):
    return {info["digest"] for info in davit.call("content.list", **params)["contents"]}


def ids(davit, **params):
    return [lease["id"] for lease in davit.call("leases.list", **params)["leases"]]


def resources(davit, lease, **params):
    return [(r["type"], r["id"]) for r in davit.call("leases.list_resources", id=lease, **params)["resources"]]


def test_create(davit):
    before = time.time_ns()
    lease = davit.call("leases.create", id="one", labels={"a": "1", "none": ""})["lease"]
    assert lease["id"] == "one" and lease["labels"] == {"a": "1"} and lease["expires_at"] == 0
    assert before <= lease["created_at"] <= time.time_ns()
    assert davit.call("leases.list")["leases"] == [lease]
    made = davit.call("leases.create")["lease"]
    assert made["id"].startswith("davit-") and len(made["id"]) > 16
    later = davit.call("leases.create", id="later", expire=3600 * 10**9)["lease"]
    assert 3500e9 < later["expires_at"] - time.time_ns() <= 3600e9
    labelled = davit.call("leases.create", id="label", labels={"containerd.io/gc.expire": "2031-01-01T00:00:00+01:00"})["lease"]
    assert labelled["expires_at"] == 1924988400 * 10**9
    davit.call("leases.create", id="one", namespace="other")
    assert ids(davit, namespace="other") == ["one"]
    assert ids(davit) == sorted(["one", made["id"], "later", "label"])


def test_errors(davit):
    davit.call("leases.create", id="one")
    error = fails("already_exists", davit.call, "leases.create", id="one")
    assert "'one'" in error.message
    error = fails("invalid_argument", davit.call, "leases.create", labels={"containerd.io/gc.expire": "soon"})
    assert "soon" in error.message
    for arguments in ({"id": "a b"}, {"id": "x" * 77}, {"expire": 0}, {"expire": -1}, {"expire": 2**62}, {"labels": {"a": 1}}):
        fails("invalid_argument", davit.call, "leases.create", **arguments)
    assert "'two'" in fails("not_found", davit.call, "leases.delete", id="two").message
    fails("not_found", davit.call, "leases.delete", id="two", sync=True)
    fails("not_found", davit.call, "leases.list_resources", id="two")
    resource = {"id": ABSENT, "type": "content"}
    fails("not_found", davit.call, "leases.add_resource", id="two", resource=resource)
    fails("not_found", davit.call, "leases.delete_resource", id="two", resource=resource)
    for bad in ({}, {"id": "x"}, {"type": "content"}, {"id": 7, "type": "content"}, {"id": "x", "type": "volumes"},
                {"id": "x", "type": "snapshots"}, {"id": "", "type": "images"}, {"id": "x" * 4097, "type": "images"}):
        fails("invalid_argument", davit.call, "leases.add_resource", id="one", resource=bad)
    fails("invalid_argument", davit.call, "leases.add_resource", id="one", resource="x")
    # what is not there cannot be joined
    fails("not_found", put, davit, b"x", lease="two")


def test_resources(davit):
    davit.call("leases.create", id="one")
    some = [("content", ABSENT), ("images", "docker.io/a:1"), ("ingests", "a ref"), ("snapshots/native", "key")]
    for kind, name in some + some[:1]:
        davit.call("leases.add_resource", id="one", resource={"id": name, "type": kind})
    assert resources(davit, "one") == some
    assert resources(davit, "one", filters=["type==images"]) == some[1:2]
    page = davit.call("leases.list_resources", id="one", limit=2)
    assert len(page["resources"]) == 2
    rest = davit.call("leases.list_resources", id="one", limit=2, after=page["next"])
    assert [(r["type"], r["id"]) for r in page["resources"] + rest["resources"]] == some and "next" not in rest
    davit.call("leases.delete_resource", id="one", resource={"id": "a ref", "type": "ingests"})
    davit.call("leases.delete_resource", id="one", resource={"id": "never", "type": "ingests"})
    assert resources(davit, "one") == some[:2] + some[3:]


def test_list(davit):
    for i in range(25):
        davit.call("leases.create", id=f"l{i:02}", labels={"even": str(i % 2 == 0)})
    assert ids(davit) == [f"l{i:02}" for i in range(25)]
    assert ids(davit, filters=["id==l03", "labels.even==False"]) == [f"l{i:02}" for i in range(1, 25, 2)]
    got, after = [], {}
    while True:
        page = davit.call("leases.list", limit=10, fields=["id"], **after)
        got += page["leases"]
        if "next" not in page:
            break
        after = {"after": page["next"]}
    assert got == [{"id": f"l{i:02}"} for i in range(25)]


def test_holds_what_is_made_with_it(davit):
    davit.call("leases.create", id="work")
    made = put(davit, b"held", lease="work")
    free = put(davit, b"free", ref="other")
    assert resources(davit, "work") == [("content", made)]
    # seen is used: what is there already joins too
    fails("already_exists", put, davit, b"free", expected=free, lease="work", namespace="default")
    davit.call("leases.delete_resource", id="work", resource={"id": free, "type": "content"})
    davit.call("snapshots.prepare", key="mine", lease="work", snapshotter="native")
    davit.call("snapshots.prepare", key="other", snapshotter="native")
    assert ("snapshots/native", "mine") in resources(davit, "work")
    removed = davit.call("gc.run")["removed"]
    assert (removed["content"], removed["snapshots"]) == (1, 1)
    assert contents(davit) == {made}
    with davit.events() as events:
        davit.call("leases.delete", id="work", sync=True)
        # the answer comes when all has gone, and its events are there
        assert contents(davit) == set()
        assert events.next("/content/delete")["event"]["digest"] == made
        assert events.next("/snapshot/remove")["event"] == {"key": "mine", "snapshotter": "native"}
    assert davit.call("snapshots.list", snapshotter="native")["snapshots"] == []


def test_flat(davit):
    child, parent = put(davit, b"child"), put(davit, b"parent", ref="2")
    davit.call("content.update", digest=parent, labels={"containerd.io/gc.ref.content.x": child})
    davit.call("leases.create", id="flat", labels={"containerd.io/gc.flat": "1"})
    davit.call("leases.add_resource", id="flat", resource={"id": parent, "type": "content"})
    davit.call("gc.run")
    assert contents(davit) == {parent}


def test_ends_by_itself(davit):
    """Its time comes: it is not there any more for who would join it, then it goes with what it has held."""
    davit.call("leases.create", id="short", expire=700 * 10**6)
    made = put(davit, b"held", lease="short")
    due = davit.call("gc.status")["due_at"]
    assert due == davit.call("leases.list")["leases"][0]["expires_at"]
    with davit.events() as events:
        assert events.next("/content/delete")["event"]["digest"] == made
        assert time.time_ns() >= due
    wait_for(lambda: not ids(davit), what="the lease is removed")
    assert contents(davit) == set()
    status = davit.call("gc.status")
    assert status["last"]["removed"]["leases"] == 1 and status["due_at"] is None
    # its id can be taken again
    davit.call("leases.create", id="short")


def test_survives_restart(davit):
    davit.call("leases.create", id="kept")
    made = put(davit, b"held", lease="kept")
    davit.call("leases.create", id="over", expire=10**8)
    gone = put(davit, b"gone", lease="over", ref="2")
    assert davit.stop() == 0
    time.sleep(0.2)
    davit.start()
    # what ended meanwhile is collected at the start
    wait_for(lambda: ids(davit) == ["kept"], what="the lease that ended is removed")
    assert contents(davit) == {made} and gone != made


def test_namespace_in_use_stays(davit):
    davit.call("leases.create", id="one", namespace="n")
    error = fails("failed_precondition", davit.call, "namespaces.delete", name="n")
    assert "leases" in error.message
    davit.call("leases.delete", id="one", namespace="n")
    put(davit, b"x", namespace="n", labels={"containerd.io/gc.root": "x"})
    davit.call("snapshots.prepare", key="k", snapshotter="native", namespace="n", labels={"containerd.io/gc.root": "x"})
    error = fails("failed_precondition", davit.call, "namespaces.delete", name="n")
    assert "content, snapshots" in error.message
    assert [n["name"] for n in davit.call("namespaces.list")["namespaces"]] == ["n"]
    davit.call("snapshots.remove", key="k", snapshotter="native", namespace="n")
    davit.call("content.delete", digest=images.digest(b"x"), namespace="n")
    with davit.client() as writer:
        writer.call("content.write", ref="r", action="write", data=b"half", namespace="n")
        error = fails("failed_precondition", davit.call, "namespaces.delete", name="n")
        assert "it has ingests" in error.message
    # nobody writes to it any more, but somebody may
    davit.stop()
    davit.start()
    fails("failed_precondition", davit.call, "namespaces.delete", name="n")
    davit.call("content.abort", ref="r", namespace="n")
    davit.call("namespaces.delete", name="n")
    assert davit.call("namespaces.list")["namespaces"] == []
