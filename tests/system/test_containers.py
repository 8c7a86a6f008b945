# SPDX-License-Identifier: Apache-2.0
"""Containers and namespaces: records, updates, lists, and what a restart leaves of them."""

import json
import subprocess

import pytest

from lib.rootfs import spec
from lib.rpc import RpcError

SPEC = {
    "ociVersion": "1.3.0",
    "process": {"cwd": "/", "args": ["true"]},
    "root": {"path": "rootfs"},
    "linux": {"namespaces": [{"type": "uts"}]},
    "x-unknown": {"kept": [1, 2.5, None, 2**64 - 1]},
}


def fails(code, call, *args, **params):
    with pytest.raises(RpcError) as error:
        call(*args, **params)
    assert error.value.code == code, error.value
    return error.value


def test_life_of_a_record(davit):
    made = davit.call("containers.create", id="web", spec=SPEC, labels={"tier": "front", "none": ""}, image="img", snapshotter="overlayfs",
                      snapshot_key="web-1", extensions={"a": {"b": 1}})["container"]
    assert made["spec"] == SPEC
    assert made["labels"] == {"tier": "front"}
    assert (made["image"], made["snapshotter"], made["snapshot_key"]) == ("img", "overlayfs", "web-1")
    assert made["extensions"] == {"a": {"b": 1}}
    assert made["created_at"] == made["updated_at"] > 0
    assert davit.call("containers.get", id="web")["container"] == made
    assert davit.call("containers.list")["containers"] == [made]
    assert davit.call("containers.delete", id="web") == {}
    fails("not_found", davit.call, "containers.get", id="web")
    fails("not_found", davit.call, "containers.delete", id="web")
    assert davit.call("containers.list")["containers"] == []


def test_spec_as_text_and_bundle(davit):
    bundle = davit.base / "bundle"
    bundle.mkdir()
    fails("not_found", davit.call, "containers.create", id="a", bundle=str(bundle / "none"))
    fails("not_found", davit.call, "containers.create", id="a", bundle=str(bundle))
    fails("invalid_argument", davit.call, "containers.create", id="a", bundle="relative")
    (bundle / "config.json").write_text(json.dumps(SPEC))
    made = davit.call("containers.create", id="a", bundle=str(bundle))["container"]
    assert (made["spec"], made["bundle"]) == (SPEC, str(bundle))
    # the spec goes before the bundle's own
    other = {**SPEC, "hostname": "other"}
    assert davit.call("containers.create", id="b", bundle=str(bundle), spec=json.dumps(other))["container"]["spec"] == other
    assert davit.call("containers.create", id="c", spec=json.dumps(SPEC).encode())["container"]["spec"] == SPEC
    assert davit.call("server.stats")["containers"] == {"containers": 3, "namespaces": 1, "specs": 2}


def test_bad_specs(davit):
    fails("invalid_argument", davit.call, "containers.create", id="a")
    error = fails("invalid_argument", davit.call, "containers.create", id="a", spec="{")
    assert error.details["argument"] == "spec" and "containers.create" in error.message
    fails("invalid_argument", davit.call, "containers.create", id="a", spec="")
    error = fails("invalid_argument", davit.call, "containers.create", id="a", spec={**SPEC, "process": {"cwd": "/", "args": "true"}})
    assert "process.args" in error.message + error.details["argument"]
    fails("invalid_argument", davit.call, "containers.create", id="a", spec=json.dumps(SPEC)[:-1] + ',"root":{}}')
    fails("resource_exhausted", davit.call, "containers.create", id="a", spec={**SPEC, "annotations": {"a": "x" * (5 << 20)}})
    fails("invalid_argument", davit.call, "containers.create", id="a/b", spec=SPEC)
    # nothing is left of any of them
    assert davit.call("containers.list")["containers"] == []
    assert davit.call("containers.create", id="a", spec=SPEC)["container"]["id"] == "a"


def test_same_id_twice_in_flight(davit):
    pending = [davit.send("containers.create", id="a", spec=SPEC) for _ in range(20)]
    ended = []
    for p in pending:
        try:
            p.result()
            ended.append("made")
        except RpcError as error:
            ended.append(error.code)
    assert sorted(ended) == ["already_exists"] * 19 + ["made"]
    # deleting and making again, all at once and in order
    answers = [davit.send("containers.delete", id="a"), davit.send("containers.delete", id="a")]
    answers[0].result()
    fails("not_found", answers[1].result)


def test_update(davit):
    davit.call("containers.create", id="a", spec=SPEC, labels={"x": "1", "y": "2"}, image="one", extensions={"e": 1, "f": 2})
    # without a mask: every given field
    made = davit.call("containers.update", id="a", labels={"z": "3"})["container"]
    assert (made["labels"], made["image"]) == ({"z": "3"}, "one")
    assert made["updated_at"] > made["created_at"]
    # with a mask: only those
    made = davit.call("containers.update", id="a", labels={"q": "4", "r": "5"}, image="two", mask=["labels.q"])["container"]
    assert (made["labels"], made["image"]) == ({"z": "3", "q": "4"}, "one")
    # an empty value, or none, removes
    made = davit.call("containers.update", id="a", labels={"z": ""}, mask=["labels.z", "labels.q", "image"])["container"]
    assert (made["labels"], made["image"]) == ({}, "")
    made = davit.call("containers.update", id="a", extensions={"f": 3, "g": 4}, mask=["extensions.f", "extensions.e"])["container"]
    assert made["extensions"] == {"f": 3}
    # keys with dots in them
    made = davit.call("containers.update", id="a", labels={"containerd.io/gc.root": "now"}, mask=["labels.containerd.io/gc.root"])
    assert made["container"]["labels"] == {"containerd.io/gc.root": "now"}
    other = {**SPEC, "hostname": "new"}
    assert davit.call("containers.update", id="a", spec=other)["container"]["spec"] == other
    assert davit.call("containers.get", id="a")["container"]["spec"] == other
    for field in ("id", "runtime", "runtime.name", "snapshotter", "created_at"):
        assert "cannot be changed" in fails("invalid_argument", davit.call, "containers.update", id="a", mask=[field]).message
    fails("invalid_argument", davit.call, "containers.update", id="a", runtime="crun")
    fails("invalid_argument", davit.call, "containers.update", id="a", mask=["colour"])
    fails("invalid_argument", davit.call, "containers.update", id="a", mask=["spec"])
    fails("invalid_argument", davit.call, "containers.update", id="a", spec="[]")
    assert davit.call("containers.get", id="a")["container"]["spec"] == other
    fails("not_found", davit.call, "containers.update", id="b", labels={})


def test_updates_in_flight_all_count(davit):
    davit.call("containers.create", id="a", spec=SPEC)
    pending = [davit.send("containers.update", id="a", labels={f"k{i}": str(i)}, mask=[f"labels.k{i}"]) for i in range(100)]
    gone = davit.send("containers.delete", id="a")
    late = davit.send("containers.update", id="a", labels={"late": "1"})
    for p in pending:
        last = p.result()["container"]
    assert last["labels"] == {f"k{i}": str(i) for i in range(100)}
    gone.result()
    fails("not_found", late.result)


def test_list(davit):
    for i in range(25):
        davit.call("containers.create", id=f"c{i:02}", spec={**SPEC, "hostname": f"h{i % 3}"}, labels={"mod": str(i % 5)}, image=f"img{i % 2}",
                   runtime="crun" if i == 7 else None)
    davit.call("containers.create", id="elsewhere", spec=SPEC, namespace="other")

    def ids(**params):
        return [c["id"] for c in davit.call("containers.list", **params)["containers"]]

    everything = [f"c{i:02}" for i in range(25)]
    assert ids() == everything
    assert ids(namespace="other") == ["elsewhere"]
    assert ids(filters=["labels.mod==3"]) == ["c03", "c08", "c13", "c18", "c23"]
    assert ids(filters=["labels.mod==3,image==img1"]) == ["c03", "c13", "c23"]
    assert ids(filters=["id==c01", "id==c02"]) == ["c01", "c02"]
    assert ids(filters=["runtime.name==crun"]) == ["c07"]
    assert ids(filters=["id~=^c0[1-3]$"]) == ["c01", "c02", "c03"]
    assert ids(filters=["labels.none"]) == []
    fails("invalid_argument", davit.call, "containers.list", filters=["id=="])

    found, after = [], None
    while True:
        page = davit.call("containers.list", limit=10, after=after)
        found += [c["id"] for c in page["containers"]]
        if "next" not in page:
            break
        after = page["next"]
    assert found == everything
    assert davit.call("containers.list", fields=["id"], filters=["id==c05"])["containers"] == [{"id": "c05"}]
    assert [c["spec"]["hostname"] for c in davit.call("containers.list", fields=["id", "spec"], limit=3)["containers"]] == ["h0", "h1", "h2"]


def test_many_large_specs(davit):
    """More than the reactor reads back by itself, and more than fits into one answer."""
    for i in range(120):
        davit.send("containers.create", id=f"c{i:03}", spec={**SPEC, "annotations": {"pad": f"{i}" + "x" * 100_000}})
    davit.call("containers.create", id="d", spec=SPEC)
    found, after = [], None
    while True:
        page = davit.call("containers.list", after=after)
        found += [(c["id"], len(c["spec"].get("annotations", {"pad": ""})["pad"]) > 100_000) for c in page["containers"]]
        if "next" not in page:
            break
        after = page["next"]
    assert found == [(f"c{i:03}", True) for i in range(120)] + [("d", False)]


def test_task_keeps_its_container(davit, rootfs):
    davit.launch("a", ["sleep", "1000"], rootfs)
    error = fails("failed_precondition", davit.call, "containers.delete", id="a")
    assert "task" in error.message
    fails("failed_precondition", davit.call, "namespaces.delete", name="default")
    davit.call("containers.update", id="a", labels={"while": "running"})
    davit.remove("a")
    davit.call("namespaces.delete", name="default")


def test_survives_the_reactor_and_the_daemon(davit):
    for i in range(50):
        davit.call("containers.create", id=f"c{i}", spec={**SPEC, "hostname": f"h{i}"}, labels={"i": str(i)}, namespace=f"n{i % 3}",
                   extensions={"i": i})
    davit.call("namespaces.create", name="empty", labels={"why": "not"})

    def everything():
        return {n["name"]: (n["labels"], davit.call("containers.list", namespace=n["name"])["containers"])
                for n in davit.call("namespaces.list")["namespaces"]}

    before = everything()
    assert sum(len(containers) for _, containers in before.values()) == 50
    davit.kill_reactor()
    assert everything() == before
    assert davit.stop() == 0
    davit.start()
    assert everything() == before


def test_namespaces(davit):
    assert davit.call("namespaces.list")["namespaces"] == []
    made = davit.call("namespaces.create", name="a", labels={"k": "v"})["namespace"]
    assert made == {"name": "a", "labels": {"k": "v"}}
    fails("already_exists", davit.call, "namespaces.create", name="a")
    fails("not_found", davit.call, "namespaces.get", name="b")
    assert davit.call("namespaces.update", name="a", labels={"x": "y"}, mask=["labels.x"])["namespace"]["labels"] == {"k": "v", "x": "y"}
    assert davit.call("namespaces.update", name="a", labels={"z": "1"})["namespace"]["labels"] == {"z": "1"}
    fails("invalid_argument", davit.call, "namespaces.update", name="a", labels={}, mask=["name"])
    fails("not_found", davit.call, "namespaces.update", name="b", labels={})
    # made on first use, by whatever names it
    davit.call("containers.list", namespace="used")
    assert [n["name"] for n in davit.call("namespaces.list")["namespaces"]] == ["a", "used"]
    assert [n["name"] for n in davit.call("namespaces.list", filters=["labels.z==1"])["namespaces"]] == ["a"]
    davit.call("containers.create", id="c", spec=SPEC, namespace="a")
    error = fails("failed_precondition", davit.call, "namespaces.delete", name="a")
    assert "not empty" in error.message
    davit.call("containers.delete", id="c", namespace="a")
    assert davit.call("namespaces.delete", name="a") == {}
    fails("not_found", davit.call, "namespaces.delete", name="a")
    fails("not_found", davit.call, "namespaces.get", name="a")
    fails("invalid_argument", davit.call, "namespaces.create", name="no spaces")


def test_record_events(davit):
    with davit.events() as events:
        davit.call("namespaces.create", name="n", labels={"k": "v"})
        davit.call("namespaces.update", name="n", labels={"k": "w"})
        davit.call("containers.create", id="c", spec=SPEC, image="i", namespace="n")
        davit.call("containers.update", id="c", labels={"a": "b"}, namespace="n")
        davit.call("containers.delete", id="c", namespace="n")
        davit.call("namespaces.delete", name="n")
        events.next("/namespaces/delete", name="n")
        assert [(e["topic"], e["namespace"], e["event"]) for e in events.seen] == [
            ("/namespaces/create", "n", {"name": "n", "labels": {"k": "v"}}),
            ("/namespaces/update", "n", {"name": "n", "labels": {"k": "w"}}),
            ("/containers/create", "n", {"id": "c", "image": "i", "runtime": ""}),
            ("/containers/update", "n", {"id": "c", "image": "i", "labels": {"a": "b"}, "snapshot_key": ""}),
            ("/containers/delete", "n", {"id": "c"}),
            ("/namespaces/delete", "n", {"name": "n"}),
        ]


def test_thousand_containers_cost_little(davit):
    same = spec(["true"], "/nowhere")
    davit.call("containers.create", id="first", spec=same)
    before = davit.call("server.stats")["memory"]["heap_used"]
    pending = [davit.send("containers.create", id=f"c{i}", spec=same, labels={"number": str(i)}) for i in range(1000)]
    for p in pending:
        p.result()
    stats = davit.call("server.stats")
    assert stats["containers"]["specs"] == 1
    assert (stats["memory"]["heap_used"] - before) / 1000 < 2048


def test_full_state_folder(make_davit):
    """The event of a change cannot be written: the change is undone, and nothing is half there."""
    davit = make_davit("--journal-size", "1m", start=False)
    davit.state.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "none", davit.state], check=True)
    davit.cleanups.append(lambda: subprocess.run(["umount", "-l", davit.state], check=True))
    davit.start()
    davit.call("containers.create", id="kept", spec=SPEC, labels={"a": "1"})
    with open(davit.state / "filler", "wb", buffering=0) as filler:
        with pytest.raises(OSError):
            while True:
                filler.write(b"x" * 4096)
        # the last page may have had room
        with pytest.raises(RpcError):
            for _ in range(1000):
                davit.call("events.publish", topic="/f", event={})
        before = davit.call("containers.get", id="kept")["container"]
        last = davit.call("server.stats")["events"]["last_seq"]
        assert fails("resource_exhausted", davit.call, "containers.create", id="new", spec=SPEC).details["errname"] == "ENOSPC"
        fails("resource_exhausted", davit.call, "containers.update", id="kept", labels={"b": "2"})
        fails("resource_exhausted", davit.call, "containers.delete", id="kept")
        fails("resource_exhausted", davit.call, "namespaces.create", name="new")
        fails("resource_exhausted", davit.call, "namespaces.update", name="default", labels={"b": "2"})
        fails("resource_exhausted", davit.call, "containers.list", namespace="first")
        fails("not_found", davit.call, "containers.get", id="new")
        fails("not_found", davit.call, "namespaces.get", name="new")
        assert davit.call("containers.get", id="kept")["container"] == before
        filler.truncate(0)
    davit.kill_reactor()
    assert davit.call("containers.list")["containers"] == [before]
    assert davit.call("namespaces.list")["namespaces"] == [{"name": "default", "labels": {}}]
    assert davit.call("server.stats")["events"]["last_seq"] == last
    davit.call("containers.create", id="new", spec=SPEC)
    assert davit.call("server.stats")["events"]["last_seq"] == last + 1
    (davit.state / "filler").unlink()
