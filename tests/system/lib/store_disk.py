# SPDX-License-Identifier: Apache-2.0
"""What of a store is on the disk, read past the daemon: rows, blobs, folders of snapshots, ingests, index.json.

    settled(Disk(davit.root).wrong)      # fails unless files and rows fit each other

The database is opened read-only, beside the daemon.
"""

import json
import os
import sqlite3
import time
from pathlib import Path

from . import images
from .store_model import Wrong

DAY = 24 * 3600


def settled(look, timeout=20):
    """Fails with what `look` yields. Rows and files are not seen in one moment while the daemon may collect, so
    what does not fit is looked at again."""
    end = time.monotonic() + timeout
    while True:
        try:
            wrong = list(look())
        except sqlite3.OperationalError as error:
            wrong = [f"meta.db: {error}"]
        if not wrong:
            return
        if time.monotonic() > end:
            raise Wrong("on the disk: " + "; ".join(wrong[:10]))
        time.sleep(0.05)


def age_ingests(root, seconds=DAY + 3600):
    """With the daemon dead: its ingests become so much older."""
    old = time.time() - seconds
    for folder in (root / "content/ingest").iterdir():
        for path in (folder / "updatedat", folder / "data"):
            if not path.exists():
                continue
            if path.name == "updatedat":
                path.write_text(str(int(old * 10**9)))
            os.utime(path, (old, old))


class Disk:
    """
    rows        keys as lib.store_model has them, of content, images, snapshots and leases
    snapshots   {(namespace, "DRIVER/NAME"): folder}
    """

    def __init__(self, root):
        self.root = Path(root)
        self.rows, self.snapshots = set(), {}

    def _read(self):
        db = sqlite3.connect(f"file:{self.root}/meta.db?mode=ro", uri=True)
        try:
            db.execute("BEGIN")  # one state of it
            self.blobs = dict(db.execute("SELECT digest, size FROM blobs"))
            self.content = list(db.execute("SELECT namespace, digest FROM content"))
            self.images = list(db.execute("SELECT namespace, name, digest FROM images ORDER BY namespace, name"))
            self.folders = list(db.execute("SELECT id, namespace, snapshotter, name FROM snapshots"))
            self.leases = list(db.execute("SELECT namespace, id FROM leases"))
            self.resources = list(db.execute("SELECT namespace, lease FROM lease_resources"))
        finally:
            db.close()
        self.snapshots = {(ns, f"{driver}/{name}"): self.root / "snapshots" / driver / str(id)
                          for id, ns, driver, name in self.folders}
        self.rows = {("content", *row) for row in self.content} | {("image", *row[:2]) for row in self.images}
        self.rows |= {("snapshot", *key) for key in self.snapshots} | {("lease", *row) for row in self.leases}

    def wrong(self):
        """Sentences about what does not fit."""
        self._read()
        yield from self._wrong_content()
        yield from self._wrong_index()
        for driver in ("overlayfs", "native"):
            folders = {p.name for p in (self.root / "snapshots" / driver).iterdir()}
            rows = {str(id) for id, _, d, _ in self.folders if d == driver}
            if folders != rows:
                yield f"{driver}: folders without rows {sorted(folders - rows)}, rows without folders {sorted(rows - folders)}"
        for ns, lease in set(self.resources) - set(self.leases):
            yield f"resources of the lease {ns}/{lease}, which is not there"
        for path in (self.root / "trash").iterdir():
            yield f"the trash has {path.name}"

    def _wrong_content(self):
        folder = self.root / "content"
        files = {"sha256:" + p.name: p for p in (folder / "blobs/sha256").iterdir()}
        if set(files) != set(self.blobs):
            yield f"blobs without rows {sorted(set(files) - set(self.blobs))}, rows without blobs {sorted(set(self.blobs) - set(files))}"
        if {name for _, name in self.content} != set(self.blobs):
            yield "rows of blobs that no namespace has, or the other way round"
        for name in set(files) & set(self.blobs):
            try:
                found = files[name].stat().st_size
            except FileNotFoundError:
                continue  # what is wrong with it is told above, the next time
            if found != self.blobs[name]:
                yield f"{name} has {found} bytes, its row says {self.blobs[name]}"
        odd = [p.name for p in folder.iterdir() if p.name not in ("blobs", "ingest", "index.json", "oci-layout")]
        odd += [p.name for p in (folder / "blobs").iterdir() if p.name != "sha256"]
        if odd:
            yield f"in the folder content: {odd}"

    def _wrong_index(self):
        try:
            listed = json.loads((self.root / "content/index.json").read_text())["manifests"]
        except FileNotFoundError:
            listed = []
        want = sorted((name if ns == "default" else f"{ns}/{name}", target) for ns, name, target in self.images)
        have = sorted((d["annotations"][images.REF_NAME], d["digest"]) for d in listed)
        if want != have:
            yield f"index.json has {have}, images are {want}"

    @staticmethod
    def files(folder):
        """{path: bytes} of the files of a snapshot's own folder."""
        found = {}
        for path in (folder / "fs").rglob("*"):
            try:
                if path.is_file() and not path.is_symlink():
                    found[str(path.relative_to(folder / "fs"))] = path.read_bytes()
            except FileNotFoundError:
                continue
        return found
