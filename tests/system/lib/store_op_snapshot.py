# SPDX-License-Identifier: Apache-2.0
"""Random operations: snapshots and diffs (see lib.store_op)."""

import gzip
import io
import tarfile
from pathlib import Path

from . import images
from .rpc import RpcError
from .store_model import Wrong
from .store_op import DRIVERS, UNCOMPRESSED, Op, Skip, digest

# ---- snapshots


class SnapshotOp(Op):
    def snapshot(self, rng, *kinds):
        key = self.pick(rng, "snapshot", lambda row: row["kind"] in kinds)
        self.locks.add(key)
        self.driver, self.name = key[2].split("/", 1)
        return key

    def common(self):
        return {"snapshotter": self.driver, **({"lease": self.lease} if getattr(self, "lease", None) else {})}

    def joined(self, name):
        if not getattr(self, "lease", None):
            return {}
        return {self.resource(self.lease, "snapshots/" + self.driver, name): {"labels": {}}}

    def plain_labels(self, rng):
        try:
            return self.some_labels(rng)
        except Skip:
            return {}


class Prepare(SnapshotOp):
    weight = 4
    kind = "active"

    def choose(self, rng):
        self.driver = rng.choice(DRIVERS)
        self.parent = None
        mine = [k for k in sorted(self.model.keys("snapshot", self.ns)) if k[2].startswith(self.driver + "/")]
        usable = [k for k in mine if self.model.rows[k]["kind"] == "committed"]
        if usable and rng.random() < 0.7:
            self.parent = rng.choice(usable)
            self.locks.add(self.parent)
        if mine and rng.random() < 0.1:
            self.key = rng.choice(mine)
        else:
            self.key = ("snapshot", self.ns, f"{self.driver}/k{self.walk.number()}")
        self.locks.add(self.key)
        self.lease = self.some_lease(rng, 0.6)
        self.labels = self.plain_labels(rng)
        self.row = {"kind": self.kind, "parent": self.parent[2].split("/", 1)[1] if self.parent else "",
                    "labels": self.labels}
        self.fill = {f"file{rng.randrange(5)}": rng.randbytes(rng.randrange(1, 20_000)) for _ in range(rng.randrange(1, 4))}
        self.text = f"{self.key[2]} on {self.row['parent'][:20]} lease={self.lease} {self.labels}"

    def run(self, rpc):
        method = "snapshots.prepare" if self.kind == "active" else "snapshots.view"
        self.call(rpc, method, key=self.key[2].split("/", 1)[1], parent=self.row["parent"],
                  labels=self.labels, **self.common())

    def settle(self, seen):
        there = self.key in self.model.rows
        if self.error:
            self.fails({"not_found", *(["already_exists"] if there else [])})
            if self.error.code == "not_found":
                blamed = [k for k in (self.parent, ("lease", self.ns, self.lease) if self.lease else None) if k]
                if not any(k not in self.walk.held or k[0] == "lease" for k in blamed):
                    raise Wrong(f"{self!r}: {self.error}")
            return
        if there and self.key in self.walk.held and not self.lost:
            raise Wrong(f"{self!r}: the key was in use")
        changes = {self.key: self.row, **self.joined(self.key[2].split("/", 1)[1])}
        if self.lost:
            if there or not self.model.one_of(seen, changes, repr(self)):
                return
        else:
            self.model.apply(changes)
            self.guaranteed |= {k for k in (self.key, self.parent) if k}
        below = self.model.files.get(self.parent[1:]) if self.parent and self.driver == "native" else {}
        if self.kind == "view":
            below = {}
        self.model.files[self.key[1:]] = dict(below) if below is not None else None

    def after(self):
        """Somebody writes into it."""
        if self.kind != "active" or self.lost or self.error or self.key not in self.model.rows:
            return
        try:
            folder = source(self.answer["mounts"])
            for name, data in self.fill.items():
                Path(folder, name).write_bytes(data)
        except FileNotFoundError:
            return  # nothing holds it, and it was collected
        files = self.model.files.get(self.key[1:])
        if files is not None:
            files.update(self.fill)


class View(Prepare):
    weight = 1
    kind = "view"


def source(mounts):
    """The folder of an active snapshot's own."""
    mount = mounts[-1]
    if mount["type"] == "bind":
        return mount["source"]
    return next(o for o in mount["options"] if o.startswith("upperdir="))[len("upperdir="):]


class Commit(SnapshotOp):
    weight = 4

    def choose(self, rng):
        self.key = self.snapshot(rng, "active", "active", "active", "view")
        row = self.model.rows[self.key]
        self.to = ("snapshot", self.ns, f"{self.driver}/c{self.walk.number()}")
        self.locks.add(self.to)
        self.lease = self.some_lease(rng, 0.3)
        self.labels = self.plain_labels(rng)
        self.row = {**row, "kind": "committed", "labels": self.labels}
        # leases that hold the key hold the name from then on
        self.moved = {}
        for k in self.model.keys("resource", self.ns):
            if k[3] == "snapshots/" + self.driver and k[4] == self.name:
                self.moved[k] = None
                self.moved[(*k[:4], self.to[2].split("/", 1)[1])] = {"labels": {}}
                self.locks.add(("lease", *k[1:3]))
        self.is_view = row["kind"] == "view"
        self.text = f"{self.key[2]} as {self.to[2]} lease={self.lease}"

    def run(self, rpc):
        self.call(rpc, "snapshots.commit", key=self.name, name=self.to[2].split("/", 1)[1], labels=self.labels,
                  **self.common())

    def settle(self, seen):
        if self.error:
            self.fails({"not_found", *(["failed_precondition"] if self.is_view else [])})
            if self.error.code == "not_found" and not self.lease:
                self.says_missing(self.key)
            return
        if self.is_view and not self.lost:
            raise Wrong(f"{self!r}: a view was committed")
        changes = {self.key: None, self.to: self.row, **self.moved, **self.joined(self.to[2].split("/", 1)[1])}
        if self.lost:
            if self.is_view or not self.model.one_of(seen, changes, repr(self)):
                return
        else:
            self.model.apply(changes)
            self.guaranteed.add(self.to)
        self.model.files[self.to[1:]] = self.model.files.pop(self.key[1:], None)


class Remove(SnapshotOp):
    weight = 2

    def choose(self, rng):
        self.key = self.snapshot(rng, "active", "view", "committed")
        self.locks |= set(self.model.children(self.key))
        self.text = self.key[2]

    def run(self, rpc):
        self.call(rpc, "snapshots.remove", key=self.name, snapshotter=self.driver)

    def settle(self, seen):
        children = self.model.children(self.key)
        if self.error:
            self.fails({"not_found", *(["failed_precondition"] if children else [])})
            if self.error.code == "not_found":
                self.says_missing(self.key)
            return
        if any(child in self.walk.held for child in children) and not self.lost:
            raise Wrong(f"{self!r}: it had children")
        if self.lost:
            self.model.one_of(seen, {self.key: None}, repr(self))
        else:
            self.model.apply({self.key: None})


class SnapshotLabels(SnapshotOp):
    def choose(self, rng):
        self.key = self.snapshot(rng, "active", "view", "committed")
        self.labels = self.plain_labels(rng)
        self.row = {**self.model.rows[self.key], "labels": self.labels}
        self.text = f"{self.key[2]} {self.labels}"

    def run(self, rpc):
        self.call(rpc, "snapshots.update", key=self.name, labels=self.labels, snapshotter=self.driver)

    def settle(self, seen):
        if self.error:
            self.fails({"not_found"})
            self.says_missing(self.key)
        elif self.lost:
            self.model.one_of(seen, {self.key: self.row}, repr(self))
        else:
            self.model.apply({self.key: self.row})


# ---- diffs


class Apply(SnapshotOp):
    """diff.apply of a layer, over what is there."""

    weight = 2

    def choose(self, rng):
        self.key = self.snapshot(rng, "active")
        self.layer = self.pick_layer(rng)
        self.locks.add(self.layer)
        data, self.tree = self.pool.layer_files[self.layer[2]]
        media_type = images.LAYER + ("+gzip" if data[:2] == b"\x1f\x8b" else "")
        self.descriptor = {"media_type": media_type, "digest": self.layer[2], "size": len(data)}
        self.text = f"{self.layer[2][7:15]} to {self.key[2]}"

    def pick_layer(self, rng):
        found = [k for k in sorted(self.model.keys("content", self.ns)) if k[2] in self.pool.layer_files]
        if not found:
            raise Skip
        return rng.choice(found)

    def run(self, rpc):
        mounts = self.call(rpc, "snapshots.mounts", key=self.name, snapshotter=self.driver)["mounts"]
        self.call(rpc, "diff.apply", diff=self.descriptor, mounts=mounts)

    def settle(self, seen):
        files = self.model.files.get(self.key[1:])
        if self.error:
            if self.layer in self.walk.held and self.key in self.walk.held:
                raise Wrong(f"{self!r}: {self.error}")
            self.model.files[self.key[1:]] = None
        elif self.lost:
            self.model.files[self.key[1:]] = None
        elif files is not None:
            files.update(self.tree)


class Diff(SnapshotOp):
    """diff.diff of all that an active snapshot shows."""

    weight = 2

    def choose(self, rng):
        self.key = self.snapshot(rng, "active")
        self.files = {}
        key, seen = self.key, []
        while True:
            own = self.model.files.get(key[1:])
            if own is None:
                raise Skip
            seen.append(own)
            parent = self.model.rows[key]["parent"]
            if not parent or self.driver == "native":
                break
            key = ("snapshot", self.ns, f"{self.driver}/{parent}")
            self.locks.add(key)
            if key not in self.model.rows:
                raise Skip
        for own in reversed(seen):
            self.files.update(own)
        self.made, self.odd = None, []
        self.text = self.key[2]

    def run(self, rpc):
        mounts = self.call(rpc, "snapshots.mounts", key=self.name, snapshotter=self.driver)["mounts"]
        made = self.call(rpc, "diff.diff", right=mounts, media_type=images.LAYER + "+gzip")["diff"]
        try:
            data = b""
            while len(data) < made["size"]:
                data += rpc.call("content.read", namespace=self.ns, digest=made["digest"], offset=len(data))["data"]
        except RpcError as error:
            if error.code != "not_found":
                raise
            self.made = (made, None)  # nothing holds it
            return
        self.made = (made, digest(gzip.decompress(data)))
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data))) as archive:
            found = {m.name.lstrip("./"): archive.extractfile(m).read() for m in archive if m.isreg()}
        self.odd = sorted(n for n in {*found, *self.files} if found.get(n) != self.files.get(n))

    def settle(self, seen):
        if self.error:
            if self.key in self.walk.held:
                raise Wrong(f"{self!r}: {self.error}")
            return
        # one that nothing holds may go while it is packed
        if self.odd and self.key in self.walk.held:
            raise Wrong(f"{self!r}: what was packed is not what is there: {self.odd}")
        if self.lost or not self.made:
            return
        made, diff_id = self.made
        key = ("content", self.ns, made["digest"])
        if diff_id:
            self.has_or_makes(seen, key, made["size"], {UNCOMPRESSED: diff_id}, True)
        elif key in seen:
            raise Wrong(f"{self!r}: {key} was not there, and is")
        else:
            self.model.apply({key: None})

    def stray(self, key, row):
        return key[:2] == ("content", self.ns) and set(row["labels"]) <= {UNCOMPRESSED}
