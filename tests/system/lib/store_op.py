# SPDX-License-Identifier: Apache-2.0
"""Operations on a store, chosen at random, each with what may come of it.

An operation is made (`Op(walk, rng)`, which raises Skip when there is nothing to do it with), then
run on a connection of its own, perhaps beside others, perhaps while the daemon is killed. Afterwards
`settle` tells the model what has happened: `error` is the answer's error, `lost` says that there was no
answer. All that an operation may change is in `locks`; operations that run together have none in common.

What an answer of not_found claims is kept in `missing`, to be checked by the caller: what was held all
the time cannot have been missing.
"""

import hashlib

from . import images
from .images import Image, tar
from .store_model import REF, ROOT, Wrong

UNCOMPRESSED = "containerd.io/uncompressed"
SNAPSHOT_REF = "containerd.io/snapshot.ref"
NAMESPACES = ("one", "two")
DRIVERS = ("overlayfs", "native")
SECOND = 10**9


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Pool:
    """What is written again and again, by several names and in several namespaces."""

    def __init__(self, noise):
        sizes = (0, 1, 700, 4096, 65_536, 70_001, 300_000, 900_000)
        self.payloads = [noise.randbytes(size) for size in sizes]
        self.trees = [
            {f"layer{i}": noise.randbytes(100), f"data{i}": noise.randbytes(noise.randrange(20_000, 400_000)),
             "common": b"%d" % i * noise.randrange(1, 3000)}
            for i in range(5)
        ]
        layers = [tar(tree) for tree in self.trees]
        shapes = [(0,), (0, 1), (0, 1, 2), (3,), (3, 1, 4)]
        self.images = [Image(*(layers[i] for i in shape), Labels={"n": str(n)}) for n, shape in enumerate(shapes)]
        self.image_trees = [[self.trees[i] for i in shape] for shape in shapes]
        self.archives = [images.archive(image, "archived") for image in self.images]
        self.by_target = {image.digest: n for n, image in enumerate(self.images)}
        #: of blobs that are layers: their files
        self.layer_files = {}
        for image, trees in zip(self.images, self.image_trees):
            for data, tree in zip(image.packed, trees):
                self.layer_files[digest(data)] = (data, tree)
        #: the layouts of archives as folders
        self.layouts = []
        #: what is made of folders (from_dir), and of docker's archives, once it is known:
        #: (source, {digest: (size, labels)}, target)
        self.folders, self.docker = [], []


class Skip(Exception):
    """There is nothing to do this with."""


class Op:
    weight = 1
    collects = False  # it may run beside anything

    def __init__(self, walk, rng):
        self.walk, self.model, self.pool = walk, walk.model, walk.pool
        self.locks = set()
        self.lost, self.error, self.answer = False, None, None
        self.missing = set()  # keys of which the answer says that they are not there
        self.guaranteed = set()  # keys that the answer promises
        self.ns = rng.choice(NAMESPACES)
        self.text = ""
        self.choose(rng)

    def __repr__(self):
        end = "lost" if self.lost else self.error.code if self.error else "ok"
        return f"{type(self).__name__}({self.ns} {self.text}) → {end}"

    # to be written by each

    def choose(self, rng):
        raise NotImplementedError

    def run(self, rpc):
        raise NotImplementedError

    def settle(self, seen):
        raise NotImplementedError

    def after(self):
        """When all is checked: what the test does by itself."""

    def stray(self, key, row):
        """A row that interrupted work may leave behind."""
        return False

    # helpers

    def call(self, rpc, method, **params):
        self.answer = rpc.call(method, namespace=self.ns, **params)
        return self.answer

    def pick(self, rng, kind, want=lambda row: True):
        found = [k for k in self.model.keys(kind, self.ns) if want(self.model.rows[k])]
        if not found:
            raise Skip
        return rng.choice(sorted(found))

    def some_lease(self, rng, chance):
        """The id of a lease that is probably still there, or None."""
        if rng.random() > chance:
            return None
        found = sorted(self.model.keys("lease", self.ns))
        if not found:
            return None
        key = rng.choice(found)
        self.locks.add(key)
        return key[2]

    def resource(self, lease, kind, id):
        return ("resource", self.ns, lease, kind, id)

    def fails(self, allowed):
        if self.error.code not in allowed:
            raise Wrong(f"{self!r}: {self.error}")

    def says_missing(self, key):
        """For an error that blames a thing which may have been collected."""
        self.missing.add(key)

    def some_labels(self, rng):
        """Labels as clients set them: plain ones, references, roots."""
        roll = rng.random()
        if roll < 0.4:
            return {}
        if roll < 0.6:
            return {"note": str(rng.randrange(100))}
        if roll < 0.75:
            key = self.pick(rng, "content")
            return {REF + f"content.{rng.randrange(3)}": key[2], "more": "1"}
        if roll < 0.85:
            key = self.pick(rng, "snapshot")
            driver, name = key[2].split("/", 1)
            return {REF + "snapshot." + driver: name}
        if roll < 0.92:
            key = self.pick(rng, "image")
            return {REF + "image": key[2]}
        return {ROOT: "yes"}

    def doc_labels(self, target):
        """{key: row} of what a record makes of its target's labels."""
        number = self.pool.by_target.get(target)
        key = ("content", self.ns, target)
        if number is None or key not in self.model.rows:
            return {}
        image = self.pool.images[number]
        return {key: self.merged(key, manifest_labels(image), len(image.manifest))}

    def merged(self, key, labels, size):
        return {"size": size, "labels": {**self.model.labels(key), **labels}}

    def has_or_makes(self, seen, key, size, labels, sure):
        """For content that is there afterwards, whether it was or not. What nothing has held may have gone
        before, and come anew without its labels."""
        old = self.model.rows.get(key)
        fresh = {"size": size, "labels": labels}
        options = [self.merged(key, labels, size)] if old else [fresh]
        if old and key not in self.walk.held:
            options.append(fresh)
        if not sure:
            options += [{"size": size, "labels": {}}, None]
        now = seen.get(key)
        if now is None and sure:
            now = options[0]  # whether it may be missing is for the caller's last look
        elif now not in options and now != old:
            raise Wrong(f"{self!r}: {key} is {now}; possible are {options}, {old}")
        elif sure and now not in options:
            raise Wrong(f"{self!r}: {key} is {now}, and not one of {options}")
        self.model.apply({key: now})


def manifest_labels(image):
    labels = {REF + "content.config": digest(image.config)}
    labels.update({REF + f"content.l.{i}": digest(data) for i, data in enumerate(image.packed)})
    return labels
