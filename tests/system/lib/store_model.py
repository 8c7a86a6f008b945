# SPDX-License-Identifier: Apache-2.0
"""What a store is to hold, as plain Python.

All rows are one dict. Keys and values:

    ("content", namespace, digest)              {"size", "labels"}
    ("image", namespace, name)                  {"target", "labels"}
    ("snapshot", namespace, "DRIVER/NAME")      {"kind", "parent", "labels"}
    ("lease", namespace, id)                    {"labels", "expires_at"}
    ("resource", namespace, lease, type, id)    {}
    ("container", namespace, id)                {"labels", "snapshotter", "snapshot_key"}

Values are never changed, but replaced. Ingests are apart (Ingest): of them only bounds are known.
"""

import time
from dataclasses import dataclass

ROOT = "containerd.io/gc.root"
REF = "containerd.io/gc.ref."
FLAT = "containerd.io/gc.flat"
TRANSIENT = "davit.transient"


class Wrong(AssertionError):
    """The store is not as it has to be."""


@dataclass
class Ingest:
    """Bytes that somebody writes: `data` is the whole, of which at least `low` and at most `high` are
    there. `may_be_gone`: nothing was acknowledged, or its commit may have eaten it."""

    data: bytes
    low: int
    high: int
    may_be_gone: bool = False


# ---- what is reachable


def _refs(labels):
    """(kind, id) of all that labels refer to."""
    for label, value in labels.items():
        if not label.startswith(REF):
            continue
        kind = label[len(REF):]
        for plain in ("content", "image"):
            if kind == plain or kind.startswith((plain + ".", plain + "/")):
                yield plain, value
        if kind.startswith("snapshot."):
            yield "snapshot", kind[len("snapshot."):].split("/")[0] + "/" + value


def is_over(lease, now):
    return lease["expires_at"] != 0 and lease["expires_at"] <= now


def reachable(rows, now):
    """Keys of content, images, snapshots and ingests that garbage collection must leave alone (also of such as
    are not there). Written from containerd's description, not from the code."""
    full, kept, todo = set(), set(), []

    def mark(key, deep):
        if key in full or (key in kept and not deep):
            return
        kept.add(key)
        if deep:
            full.add(key)
        todo.append((key, deep))

    for key, row in rows.items():
        kind, ns = key[0], key[1]
        if kind in ("image", "container"):
            mark(key, True)
        elif kind in ("content", "snapshot") and row["labels"].get(ROOT):
            mark(key, True)
        elif kind == "resource":
            lease = rows.get(("lease", ns, key[2]))
            if lease is None or is_over(lease, now):
                continue
            deep = not lease["labels"].get(FLAT)
            if key[3].startswith("snapshots/"):
                mark(("snapshot", ns, key[3][len("snapshots/"):] + "/" + key[4]), deep)
            else:
                mark(({"content": "content", "images": "image", "ingests": "ingest"}[key[3]], ns, key[4]), deep)
    while todo:
        key, deep = todo.pop()
        row, (kind, ns) = rows.get(key), key[:2]
        if row is None:
            continue
        if kind == "image":
            mark(("content", ns, row["target"]["digest"]), deep)
        elif kind == "snapshot" and row["parent"]:
            mark(("snapshot", ns, key[2].split("/")[0] + "/" + row["parent"]), deep)
        elif kind == "container" and row["snapshot_key"]:
            mark(("snapshot", ns, f"{row['snapshotter'] or 'overlayfs'}/{row['snapshot_key']}"), True)
        if deep:
            for what, target in _refs(row["labels"]):
                mark((what, ns, target), True)
    return kept


def common(before, after):
    """Rows that were there all the time, with what they had all the time: whatever is reachable from these
    was so at every moment in between, in whichever order things happened."""
    found = {}
    for key, old in before.items():
        new = after.get(key)
        if new is None:
            continue
        if old == new:
            found[key] = old
            continue
        both = {**new, "labels": {k: v for k, v in new["labels"].items() if old["labels"].get(k) == v}}
        if key[0] == "image" and old["target"] != new["target"]:
            continue
        if key[0] == "snapshot" and old["parent"] != new["parent"]:
            both["parent"] = ""
        if key[0] == "lease":
            both["expires_at"] = old["expires_at"]
        found[key] = both
    return found


# ---- the model


class Model:
    def __init__(self):
        self.rows = {}
        self.ingests = {}  # (namespace, ref): Ingest
        #: (namespace, "DRIVER/NAME"): {path: bytes} of its own folder; None: not known
        self.files = {}

    # reading

    def keys(self, kind, ns=None):
        return [k for k in self.rows if k[0] == kind and ns in (None, k[1])]

    def labels(self, key):
        row = self.rows.get(key)
        return dict(row["labels"]) if row else {}

    def children(self, key):
        """Keys of a snapshot's children."""
        kind, ns, name = key
        driver, name = name.split("/", 1)
        return [k for k in self.keys("snapshot", ns)
                if k[2].startswith(driver + "/") and self.rows[k]["parent"] == name]

    # changing

    def apply(self, changes):
        for key, value in changes.items():
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value

    def one_of(self, seen, changes, what):
        """For a transaction that nobody knows the end of: applies it if it shows. Then it shows as a whole."""
        new = {k: v for k, v in changes.items() if self.rows.get(k) != v}
        shows = [k for k, v in new.items() if seen.get(k) == v and (k[0] != "resource" or ("lease", *k[1:3]) in seen)]
        if not shows:
            return False
        for key, value in new.items():
            if seen.get(key) == value:
                continue
            # what nothing holds may be gone already, and so may a lease whose time is over
            if value is not None and key not in seen and key[0] in ("content", "snapshot"):
                continue
            if key[0] == "resource" and ("lease", *key[1:3]) not in seen:
                continue
            raise Wrong(f"{what} is there in part: {shows} is, but {key} is {seen.get(key)} instead of {value}")
        self.apply({k: v for k, v in new.items() if v is None or k in seen})
        return True

    def take(self, seen, key, options, what):
        """For a row of which nobody knows which of several states it has."""
        now = seen.get(key)
        if key[0] == "resource" and ("lease", *key[1:3]) not in seen:
            return  # its time was over, and it was collected
        if now != self.rows.get(key) and now not in options:
            raise Wrong(f"{what}: {key} is {now}; possible are {self.rows.get(key)}, {options}")
        self.apply({key: now})

    # comparing

    def check(self, seen, before, guaranteed, now):
        """Compares with what was seen, and forgets what may be and is gone.

        before      rows before the operations that the model now knows of
        guaranteed  keys that their answers promise to be there, as long as something holds them
        now         when the last look ended
        """
        must = reachable(common(before, self.rows), now)
        must |= guaranteed & reachable(self.rows, now)
        for key, row in list(self.rows.items()):
            if key in seen:
                if seen[key] != row:
                    raise Wrong(f"{key} is {seen[key]}, and not {row}")
                continue
            if key[0] == "lease" and is_over(row, now):
                continue
            if key[0] == "resource":
                lease = self.rows.get(("lease", *key[1:3]))
                if ("lease", *key[1:3]) not in seen and (lease is None or is_over(lease, now)):
                    continue
            if key[0] in ("content", "snapshot") and key not in must:
                continue
            raise Wrong(f"{key} is lost: {row}")
        for key in list(self.rows):
            if key not in seen:
                del self.rows[key]
        strange = [key for key in seen if key not in self.rows]
        if strange:
            raise Wrong(f"nobody has made {strange[:5]}: {[seen[key] for key in strange[:5]]}")
        for key in self.keys("snapshot"):
            parent = self.rows[key]["parent"]
            if parent and ("snapshot", key[1], key[2].split("/")[0] + "/" + parent) not in self.rows:
                raise Wrong(f"{key} has lost its parent {parent}")
        for key in [k for k in self.files if ("snapshot", *k) not in self.rows]:
            del self.files[key]

    def check_ingests(self, seen, stray):
        """seen: {(namespace, ref): offset}. stray(key): one that interrupted work may leave behind."""
        for key, ingest in list(self.ingests.items()):
            offset = seen.get(key)
            if offset is None:
                if not ingest.may_be_gone:
                    raise Wrong(f"the ingest {key} is lost, of which {ingest.low} bytes were acknowledged")
                del self.ingests[key]
            elif not ingest.low <= offset <= ingest.high:
                raise Wrong(f"the ingest {key} has {offset} bytes, and not {ingest.low} to {ingest.high}")
            else:
                ingest.low = ingest.high = offset
                ingest.may_be_gone = False
        for key in seen:
            if key not in self.ingests and not stray(key):
                raise Wrong(f"nobody has begun the ingest {key}")

    def collect(self, now):
        """What a collection does that nobody disturbs: exactly what is reachable stays."""
        for key in [k for k in self.keys("lease") if is_over(self.rows[k], now)]:
            del self.rows[key]
            for resource in [k for k in self.keys("resource", key[1]) if k[2] == key[2]]:
                del self.rows[resource]
        held = reachable(self.rows, now)
        for key in self.keys("content") + self.keys("snapshot"):
            if key not in held:
                del self.rows[key]


# ---- what there is


def pages(rpc, method, name, **params):
    """All entries of a list."""
    found, after = [], None
    while True:
        answer = rpc.call(method, **params, **({"after": after} if after else {}))
        found += answer[name]
        after = answer.get("next")
        if not after:
            return found


def look(rpc, namespaces, drivers):
    """(rows, ingests, when the look ended) as the daemon tells them."""
    rows, ingests = {}, {}
    for ns in namespaces:
        for c in pages(rpc, "content.list", "contents", namespace=ns):
            rows["content", ns, c["digest"]] = {"size": c["size"], "labels": c["labels"]}
        for i in pages(rpc, "images.list", "images", namespace=ns):
            rows["image", ns, i["name"]] = {"target": i["target"], "labels": i["labels"]}
        for driver in drivers:
            for s in pages(rpc, "snapshots.list", "snapshots", namespace=ns, snapshotter=driver):
                rows["snapshot", ns, f"{driver}/{s['name']}"] = {
                    "kind": s["kind"], "parent": s["parent"], "labels": s["labels"],
                }
        for l in pages(rpc, "leases.list", "leases", namespace=ns):
            rows["lease", ns, l["id"]] = {"labels": l["labels"], "expires_at": l["expires_at"]}
        for key in [k for k in rows if k[:2] == ("lease", ns)]:
            try:
                for r in pages(rpc, "leases.list_resources", "resources", namespace=ns, id=key[2]):
                    rows["resource", ns, key[2], r["type"], r["id"]] = {"labels": {}}
            except Exception as error:
                # it has ended in between, and was collected
                if getattr(error, "code", None) != "not_found":
                    raise
                rows = {k: v for k, v in rows.items() if k != key and k[:3] != ("resource", *key[1:])}
        for c in pages(rpc, "containers.list", "containers", namespace=ns, fields=["id", "labels", "snapshotter", "snapshot_key"]):
            rows["container", ns, c["id"]] = {
                "labels": c["labels"], "snapshotter": c["snapshotter"], "snapshot_key": c["snapshot_key"],
            }
        for s in pages(rpc, "content.list_statuses", "statuses", namespace=ns):
            ingests[ns, s["ref"]] = s["offset"]
    return rows, ingests, time.time_ns()
