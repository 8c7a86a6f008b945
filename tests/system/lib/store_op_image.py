# SPDX-License-Identifier: Apache-2.0
"""Random operations: images (see lib.store_op)."""

import os

from . import images
from .rpc import Fd
from .store_model import REF, Wrong
from .store_op import DRIVERS, SNAPSHOT_REF, UNCOMPRESSED, Op, Skip, digest, manifest_labels

NAMES = ("app:1", "app:2", "docker.io/library/x:latest", "y")


class ImageOp(Op):
    def name_key(self, rng):
        self.name = rng.choice(NAMES)
        self.image = ("image", self.ns, self.name)
        self.locks.add(self.image)

    def some_target(self, rng):
        """A descriptor of content that may be there: of an image now and then."""
        known = [k for k in sorted(self.model.keys("content", self.ns)) if k[2] in self.pool.by_target]
        if known and rng.random() < 0.7:
            key = rng.choice(known)
            media_type = images.MANIFEST
        else:
            key = self.pick(rng, "content", lambda row: row["size"] > 0)
            if key[2] in self.pool.by_target:
                raise Skip
            media_type = "application/octet-stream"
        self.locks.add(key)
        self.target = key
        return {"media_type": media_type, "digest": key[2], "size": self.model.rows[key]["size"]}

    def settle_target(self, seen, sure):
        """Labels are set before the record is."""
        for key, row in self.doc_labels(self.target[2]).items():
            if sure:
                self.model.apply({key: row})
            else:
                self.model.one_of(seen, {key: row}, repr(self))


class ImageCreate(ImageOp):
    weight = 3

    def choose(self, rng):
        self.name_key(rng)
        self.descriptor = self.some_target(rng)
        try:
            self.labels = self.some_labels(rng) if rng.random() < 0.3 else {}
        except Skip:
            self.labels = {}
        self.row = {"target": self.descriptor, "labels": self.labels}
        self.text = f"{self.name} {self.target[2][7:15]}"

    def run(self, rpc):
        self.call(rpc, "images.create", name=self.name, target=self.descriptor, labels=self.labels)

    def settle(self, seen):
        there = self.image in self.model.rows
        if self.error:
            self.fails({"not_found", "already_exists"} if there else {"not_found"})
            if self.error.code == "not_found":
                self.says_missing(self.target)
            else:
                self.settle_target(seen, False)
            return
        if self.lost:
            made = not there and self.model.one_of(seen, {self.image: self.row}, repr(self))
            self.settle_target(seen, made)
            return
        if there:
            raise Wrong(f"{self!r}: the image existed")
        self.settle_target(seen, True)
        self.model.apply({self.image: self.row})
        self.guaranteed.add(self.target)


class ImageUpdate(ImageOp):
    weight = 2

    def choose(self, rng):
        self.image = self.pick(rng, "image")
        self.name = self.image[2]
        self.locks.add(self.image)
        old = self.model.rows[self.image]
        self.retarget = rng.random() < 0.6
        if self.retarget:
            self.params = {"target": self.some_target(rng)}
            self.row = {**old, **self.params}
        else:
            self.params = {"labels": self.some_labels(rng)}
            self.row = {**old, **self.params}
        self.text = f"{self.name} {self.params}"

    def run(self, rpc):
        self.call(rpc, "images.update", name=self.name, **self.params)

    def settle(self, seen):
        if self.error:
            self.fails({"not_found"} if self.retarget else ())
            self.says_missing(self.target)
            return
        if self.lost:
            done = self.model.one_of(seen, {self.image: self.row}, repr(self))
        else:
            done = True
            self.model.apply({self.image: self.row})
        if self.retarget:
            # one that has its target already shows nothing
            self.settle_target(seen, done and not self.lost)
            if not self.lost:
                self.guaranteed.add(self.target)


class ImageDelete(ImageOp):
    def choose(self, rng):
        self.image = self.pick(rng, "image")
        self.locks.add(self.image)
        self.sync = rng.random() < 0.3
        self.text = f"{self.image[2]} sync={self.sync}"

    def run(self, rpc):
        self.call(rpc, "images.delete", name=self.image[2], sync=self.sync)

    def settle(self, seen):
        if self.error:
            self.fails(())
        if self.lost:
            self.model.one_of(seen, {self.image: None}, repr(self))
        else:
            self.model.apply({self.image: None})


class Makes(ImageOp):
    """Images out of something: several blobs, then the record."""

    def load(self, rpc, archive, **lease):
        fd = images.passed(archive)
        try:
            self.call(rpc, "images.import", stream=Fd(fd), name=self.name, **lease)
        finally:
            os.close(fd)

    #: blobs: {digest: (size, labels)}; made: target
    def settle_blobs(self, seen, sure):
        for name, (size, labels) in self.blobs.items():
            self.has_or_makes(seen, ("content", self.ns, name), size, labels, sure)

    def settle(self, seen):
        old = self.model.rows.get(self.image)
        row = {"target": self.made, "labels": self.model.labels(self.image)}
        if self.error:
            self.fails({"not_found"} if self.lease else ())
            self.says_missing(("lease", self.ns, self.lease))
        done = not self.error and (not self.lost or seen.get(self.image) == row != old)
        self.settle_blobs(seen, done)
        if done:
            self.model.apply({self.image: row})
            self.guaranteed |= {("content", self.ns, name) for name in self.blobs}
        elif seen.get(self.image) != old:
            raise Wrong(f"{self!r}: {self.image} is {seen.get(self.image)}")
        for name in self.blobs if self.lease else ():
            self.settle_resources(seen, name, done)

    def settle_resources(self, seen, name, done):
        content = self.resource(self.lease, "content", name)
        pending = self.resource(self.lease, "ingests", "image-" + name)
        if done:
            self.model.apply({content: {"labels": {}}})
        else:
            self.model.take(seen, content, [{"labels": {}}], repr(self))
        options = [None] if done else [None, {"labels": {}}]
        self.model.take(seen, pending, options, repr(self))


class Import(Makes):
    weight = 4

    def choose(self, rng):
        self.name_key(rng)
        number = rng.randrange(len(self.pool.images))
        image = self.pool.images[number]
        self.archive = self.pool.archives[number]
        self.folder = self.pool.layouts[number] if rng.random() < 0.3 else None
        self.lease = self.some_lease(rng, 0.3)
        self.blobs = {name: (len(data), {}) for name, data in image.blobs.items()}
        self.blobs[image.digest] = (len(image.manifest), manifest_labels(image))
        self.made = {"media_type": images.MANIFEST, "digest": image.digest, "size": len(image.manifest)}
        self.locks |= {("content", self.ns, name) for name in self.blobs}
        self.text = f"{self.name} image {number} {'folder ' if self.folder else ''}lease={self.lease}"

    def run(self, rpc):
        lease = {"lease": self.lease} if self.lease else {}
        if self.folder:
            self.call(rpc, "images.import", path=str(self.folder), name=self.name, **lease)
        else:
            self.load(rpc, self.archive, **lease)


class ImportDocker(Makes):
    """Of what docker save writes, of which davit makes the manifest."""

    weight = 2
    lease = None

    def choose(self, rng):
        self.name_key(rng)
        number = rng.randrange(len(self.pool.docker))
        self.archive, self.blobs, self.made = self.pool.docker[number]
        self.locks |= {("content", self.ns, name) for name in self.blobs}
        self.text = f"{self.name} docker archive {number}"

    def run(self, rpc):
        self.load(rpc, self.archive)


class FromDir(Makes):
    weight = 2
    lease = None

    def choose(self, rng):
        self.name_key(rng)
        number = rng.randrange(len(self.pool.folders))
        self.folder, self.blobs, self.made = self.pool.folders[number]
        self.locks |= {("content", self.ns, name) for name in self.blobs}
        # the layer's ingest is named by the image
        self.locks.add(("ingest", self.ns, "from-dir " + self.name))
        self.text = f"{self.name} folder {number}"

    def run(self, rpc):
        self.call(rpc, "images.from_dir", path=str(self.folder), name=self.name, config={"Cmd": ["/x"]})


class Unpack(ImageOp):
    weight = 3

    def choose(self, rng):
        self.image = self.pick(rng, "image", lambda row: row["target"]["digest"] in self.pool.by_target)
        self.driver = rng.choice(DRIVERS)
        number = self.pool.by_target[self.model.rows[self.image]["target"]["digest"]]
        self.what, self.trees = self.pool.images[number], self.pool.image_trees[number]
        self.chain = [("snapshot", self.ns, f"{self.driver}/{c}") for c in self.what.chain]
        self.layers = [("content", self.ns, digest(data)) for data in self.what.packed]
        self.config = ("content", self.ns, digest(self.what.config))
        self.needs = {*self.layers, self.config, ("content", self.ns, self.what.digest)}
        self.locks |= {self.image, *self.chain, *self.needs}
        self.text = f"{self.image[2]} image {number} {self.driver}"

    def run(self, rpc):
        answer = self.call(rpc, "images.unpack", name=self.image[2], snapshotter=self.driver)
        if answer["chain_id"] != self.what.chain[-1]:
            raise Wrong(f"{self!r}: {answer}")

    def settle(self, seen):
        if self.error:
            # what nothing holds may also go after it was looked at
            self.fails({"failed_precondition", "not_found"})
            if all(key in self.model.rows and key in self.walk.held for key in self.needs):
                raise Wrong(f"{self!r}: {self.error}, but nothing was missing")
        done = not self.error and not self.lost
        for i, key in enumerate(self.chain):
            parent = self.what.chain[i - 1] if i else ""
            row = {"kind": "committed", "parent": parent, "labels": {SNAPSHOT_REF: self.what.chain[i]}}
            if done and key not in seen:
                self.model.apply({key: self.model.rows.get(key) or row})
            else:
                self.model.take(seen, key, [row, None], repr(self))
            if key in self.model.rows:
                below = self.trees[: i + 1] if self.driver == "native" else self.trees[i : i + 1]
                files = {name: data for tree in below for name, data in tree.items()}
                self.model.files.setdefault(key[1:], files)
        label = {f"{REF}snapshot.{self.driver}": self.what.chain[-1]}
        size = len(self.what.config)
        if done:
            self.guaranteed |= {self.config, *self.chain}
            if self.config in self.model.rows:
                self.model.apply({self.config: self.merged(self.config, label, size)})
        else:
            self.model.one_of(seen, {self.config: self.merged(self.config, label, size)}, repr(self))
        for key, diff_id in zip(self.layers, self.what.diff_ids):
            row = self.model.rows.get(key)
            if row:
                self.model.take(seen, key, [self.merged(key, {UNCOMPRESSED: diff_id}, row["size"]), None], repr(self))

    def stray(self, key, row):
        return (key[0] == "snapshot" and key[1] == self.ns and key[2].startswith(self.driver + "/extract-")
                and row["kind"] == "active" and row["labels"].get(SNAPSHOT_REF) in self.what.chain)
