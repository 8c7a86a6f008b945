# SPDX-License-Identifier: Apache-2.0
"""Random operations: content, leases, containers, collection (see lib.store_op)."""

import time

from . import rootfs
from .rpc import RpcError
from .store_model import FLAT, Ingest, Wrong
from .store_op import SECOND, Op, Skip, digest
from .store_op_snapshot import SnapshotOp

# ---- content


class Put(Op):
    """content.write in pieces, to its end or not, also of what was left unfinished."""

    weight = 6

    def choose(self, rng):
        self.start, self.whole = 0, rng.random() < 0.7
        left = sorted(k for k in self.model.ingests if k[0] == self.ns)
        if left and rng.random() < 0.4:
            self.ref = rng.choice(left)[1]
            ingest = self.model.ingests[self.ns, self.ref]
            self.data, self.start = ingest.data, ingest.low
        else:
            self.ref = f"r{self.walk.number()}"
            self.data = rng.choice(self.pool.payloads)
        self.digest = digest(self.data)
        self.key = ("content", self.ns, self.digest)
        self.locks |= {self.key, ("ingest", self.ns, self.ref)}
        self.lease = self.some_lease(rng, 0.5)
        try:
            self.labels = self.some_labels(rng)
        except Skip:
            self.labels = {}
        self.expected = rng.random() < 0.3
        self.total = rng.random() < 0.5
        cuts = sorted(rng.randrange(self.start, len(self.data) + 1) for _ in range(rng.randrange(4)))
        if not self.whole and cuts:
            ends = cuts
        else:
            ends = [*cuts, len(self.data)]
        self.pieces = list(zip([self.start, *ends], ends))
        self.acked = self.sent = self.start
        self.opened = self.committing = False
        self.end = ""
        self.text = f"{self.ref} {self.digest[7:15]} {len(self.data)} lease={self.lease} expected={self.expected}"

    def run(self, rpc):
        lease = {"lease": self.lease} if self.lease else {}
        expected = {"expected": self.digest} if self.expected else {}
        total = {"total": len(self.data)} if self.total else {}
        try:
            for start, end in self.pieces:
                self.sent = end
                self.call(rpc, "content.write", ref=self.ref, action="write", offset=start,
                          data=self.data[start:end], **lease, **expected, **total)
                self.acked, self.opened = end, True
            if not self.whole:
                self.end = "left"
                return
            self.committing = True
            done = self.call(rpc, "content.write", ref=self.ref, action="commit", labels=self.labels, **lease, **total)
            if done["digest"] != self.digest:
                raise Wrong(f"{self!r}: committed as {done['digest']}")
            self.end = "done"
        except RpcError as error:
            if error.code != "already_exists":
                raise
            self.end = "late" if self.committing else "early"

    def settle(self, seen):
        model, key, at = self.model, self.key, (self.ns, self.ref)
        ours = {"size": len(self.data), "labels": self.labels}
        as_it_is = model.rows.get(key) or {"size": len(self.data), "labels": {}}
        pending = self.resource(self.lease, "ingests", self.ref) if self.lease else None
        joined = {self.resource(self.lease, "content", self.digest): {"labels": {}}} if self.lease else {}
        if self.error:
            self.fails({"not_found"} if self.lease else ())
            self.says_missing(("lease", self.ns, self.lease))
            if self.opened or self.start:
                model.ingests[at] = Ingest(self.data, self.acked, self.acked)
            return
        if self.lease and self.opened:
            model.apply({pending: {"labels": {}}})
        if self.lost:
            self._settle_lost(seen, ours, as_it_is, joined, pending)
            return
        if self.end == "early":
            if not self.expected:
                raise Wrong(f"{self!r}: already_exists, but no digest was given")
            model.apply({key: self._early(seen, as_it_is), **joined})
            model.ingests.pop(at, None)
        elif self.end == "late":
            if key not in model.rows:
                raise Wrong(f"{self!r}: already_exists, but it did not")
            model.apply({**joined, **({pending: None} if self.lease else {})})
            model.ingests.pop(at, None)
        elif self.end == "done":
            if key in model.rows and key in self.walk.held:
                raise Wrong(f"{self!r}: it was there already, as {model.rows[key]}")
            model.apply({key: ours, **joined, **({pending: None} if self.lease else {})})
            model.ingests.pop(at, None)
        else:
            model.ingests[at] = Ingest(self.data, self.acked, self.acked)
        if self.end != "left":
            self.guaranteed.add(key)

    def _early(self, seen, as_it_is):
        """There already, or given by the other namespace after it had gone here."""
        fresh = {"size": len(self.data), "labels": {}}
        return fresh if seen.get(self.key) == fresh and self.key not in self.walk.held else as_it_is

    def _settle_lost(self, seen, ours, as_it_is, joined, pending):
        model, key, at = self.model, self.key, (self.ns, self.ref)
        drop = {pending: None} if self.lease else {}
        gone = (not self.opened and not self.start) or self.committing
        if self.lease and not self.opened:
            model.take(seen, pending, [{"labels": {}}], repr(self))
        if self.expected and not self.opened:
            gone = True
            if not model.one_of(seen, {key: self._early(seen, as_it_is), **joined}, repr(self)):
                model.one_of(seen, joined, repr(self))
        if self.committing:
            made = seen.get(key) == ours and model.rows.get(key) != ours
            model.one_of(seen, {**({key: ours} if made else {}), **joined, **drop}, repr(self))
        model.ingests[at] = Ingest(self.data, self.acked, max(self.sent, self.acked), gone)


class Abort(Op):
    def choose(self, rng):
        left = sorted(k for k in self.model.ingests if k[0] == self.ns)
        if not left:
            raise Skip
        self.at = rng.choice(left)
        self.locks.add(("ingest", *self.at))
        self.text = self.at[1]

    def run(self, rpc):
        self.call(rpc, "content.abort", ref=self.at[1])

    def settle(self, seen):
        if self.error:
            self.fails(())
        if self.lost:
            self.model.ingests[self.at].may_be_gone = True
        else:
            del self.model.ingests[self.at]


class ContentLabels(Op):
    weight = 2

    def choose(self, rng):
        self.key = self.pick(rng, "content")
        self.locks.add(self.key)
        self.labels = self.some_labels(rng)
        self.row = {**self.model.rows[self.key], "labels": self.labels}
        self.text = f"{self.key[2][7:15]} {self.labels}"

    def run(self, rpc):
        self.call(rpc, "content.update", digest=self.key[2], labels=self.labels)

    def settle(self, seen):
        if self.error:
            self.fails({"not_found"})
            self.says_missing(self.key)
        elif self.lost:
            self.model.one_of(seen, {self.key: self.row}, repr(self))
        else:
            self.model.apply({self.key: self.row})


class ContentDelete(Op):
    def choose(self, rng):
        self.key = self.pick(rng, "content")
        self.locks.add(self.key)
        self.text = self.key[2][7:15]

    def run(self, rpc):
        self.call(rpc, "content.delete", digest=self.key[2])

    def settle(self, seen):
        if self.error:
            self.fails({"not_found"})
            self.says_missing(self.key)
        elif self.lost:
            self.model.one_of(seen, {self.key: None}, repr(self))
        else:
            self.model.apply({self.key: None})


class Read(Op):
    def choose(self, rng):
        self.key = self.pick(rng, "content")
        self.locks.add(self.key)
        self.text = self.key[2][7:15]

    def run(self, rpc):
        data = b""
        while True:
            part = self.call(rpc, "content.read", digest=self.key[2], offset=len(data))
            data += part["data"]
            if part["eof"]:
                break
        if digest(data) != self.key[2]:
            raise Wrong(f"{self!r}: reads as {digest(data)}")
        self.call(rpc, "content.verify", digest=self.key[2])

    def settle(self, seen):
        if self.error:
            self.fails({"not_found"})
            self.says_missing(self.key)


# ---- leases


class LeaseCreate(Op):
    weight = 3

    def choose(self, rng):
        self.id = f"l{self.walk.number()}"
        self.key = ("lease", self.ns, self.id)
        self.locks.add(self.key)
        self.expire = rng.choice([0, 0, 3600 * SECOND, rng.randrange(20, 600) * 1_000_000])
        self.labels = {FLAT: "1"} if rng.random() < 0.15 else {}
        self.text = f"{self.id} {self.expire / SECOND} s {self.labels}"
        if len(self.model.keys("lease", self.ns)) > 6:
            raise Skip

    def run(self, rpc):
        self.begun = time.time_ns()
        expire = {"expire": self.expire} if self.expire else {}
        self.call(rpc, "leases.create", id=self.id, labels=self.labels, **expire)

    def settle(self, seen):
        if self.error:
            self.fails(())
        if not self.lost:
            lease = self.answer["lease"]
            self.model.apply({self.key: {"labels": self.labels, "expires_at": lease["expires_at"]}})
        elif self.key in seen:
            row = seen[self.key]
            late = row["expires_at"] - self.expire - self.begun
            if row["labels"] != self.labels or (self.expire and not 0 <= late < 60 * SECOND):
                raise Wrong(f"{self!r}: is {row}")
            self.model.apply({self.key: row})


class LeaseOp(Op):
    def lease(self, rng):
        self.key = self.pick(rng, "lease")
        self.locks.add(self.key)
        self.id = self.key[2]

    def gone(self):
        """not_found is right for one whose time is over."""
        self.fails({"not_found"})
        self.says_missing(self.key)


class LeaseDelete(LeaseOp):
    def choose(self, rng):
        self.lease(rng)
        self.sync = rng.random() < 0.3
        self.text = f"{self.id} sync={self.sync}"

    def run(self, rpc):
        self.call(rpc, "leases.delete", id=self.id, sync=self.sync)

    def settle(self, seen):
        if self.error:
            self.gone()
            return
        changes = {k: None for k in self.model.keys("resource", self.ns) if k[2] == self.id}
        changes[self.key] = None
        if self.lost:
            self.model.one_of(seen, changes, repr(self))
        else:
            self.model.apply(changes)


class LeaseAdd(LeaseOp):
    weight = 4

    def choose(self, rng):
        self.lease(rng)
        kind = rng.choice(["content", "content", "snapshot", "snapshot", "image", "ingest"])
        if kind == "ingest":
            left = sorted(k for k in self.model.ingests if k[0] == self.ns)
            what = ("ingests", rng.choice(left)[1] if left else "no such")
        elif kind == "snapshot":
            key = self.pick(rng, "snapshot")
            driver, name = key[2].split("/", 1)
            what = ("snapshots/" + driver, name)
            self.locks.add(key)
        elif kind == "image":
            what = ("images", self.pick(rng, "image")[2])
        else:
            what = ("content", self.pick(rng, "content")[2])
        self.row = self.resource(self.id, *what)
        self.text = f"{self.id} {what}"

    def run(self, rpc):
        self.call(rpc, "leases.add_resource", id=self.id, resource={"type": self.row[3], "id": self.row[4]})

    def settle(self, seen):
        if self.error:
            self.gone()
        elif self.lost:
            self.model.one_of(seen, {self.row: {"labels": {}}}, repr(self))
        else:
            self.model.apply({self.row: {"labels": {}}})


class LeaseRemove(LeaseOp):
    def choose(self, rng):
        self.row = self.pick(rng, "resource")
        self.id = self.row[2]
        self.key = ("lease", self.ns, self.id)
        self.locks.add(self.key)
        self.text = f"{self.row[2:]}"

    def run(self, rpc):
        self.call(rpc, "leases.delete_resource", id=self.id, resource={"type": self.row[3], "id": self.row[4]})

    def settle(self, seen):
        if self.error:
            self.gone()
        elif self.lost:
            self.model.one_of(seen, {self.row: None}, repr(self))
        else:
            self.model.apply({self.row: None})


# ---- containers, and collection


class ContainerCreate(SnapshotOp):
    def choose(self, rng):
        self.on = self.snapshot(rng, "active", "view")
        self.id = f"c{self.walk.number()}"
        self.key = ("container", self.ns, self.id)
        self.locks.add(self.key)
        self.row = {"labels": {}, "snapshotter": self.driver, "snapshot_key": self.name}
        self.text = f"{self.id} on {self.on[2]}"
        if len(self.model.keys("container", self.ns)) > 3:
            raise Skip

    def run(self, rpc):
        self.call(rpc, "containers.create", id=self.id, spec=rootfs.spec(["true"], "rootfs"),
                  snapshotter=self.driver, snapshot_key=self.name)

    def settle(self, seen):
        if self.error:
            self.fails(())
        if self.lost:
            self.model.one_of(seen, {self.key: self.row}, repr(self))
        else:
            self.model.apply({self.key: self.row})


class ContainerDelete(Op):
    def choose(self, rng):
        self.key = self.pick(rng, "container")
        self.locks.add(self.key)
        self.text = self.key[2]

    def run(self, rpc):
        self.call(rpc, "containers.delete", id=self.key[2])

    def settle(self, seen):
        if self.error:
            self.fails(())
        if self.lost:
            self.model.one_of(seen, {self.key: None}, repr(self))
        else:
            self.model.apply({self.key: None})


class Collect(Op):
    weight = 3
    collects = True

    def choose(self, rng):
        self.text = "all"

    def run(self, rpc):
        self.begun = time.time_ns()
        self.call(rpc, "gc.run")

    def settle(self, seen):
        if self.error:
            self.fails(())
