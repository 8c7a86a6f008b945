# SPDX-License-Identifier: Apache-2.0
"""A random walk through the states of a store, with the daemon killed on the way.

    Walk(daemon, seed).run(seconds=30)

Each step runs one operation or a few side by side (lib.store_op), often with the daemon killed in the
middle, and then compares all that the daemon tells with the model (lib.store_model). Now and then, and at
the end, the disk is compared too: rows, files of blobs, folders of snapshots, ingests, index.json.

What is chosen follows from the seed and the state of the model; when a kill comes, and what a collection that
the daemon begins by itself has taken away by then, is the machine's. So a seed leads to much the same walk, but
not to the same instant: one that has failed is worth to be run several times.
"""

import os
import random
import signal
import threading
import time
from pathlib import Path

from . import images
from .rpc import Client, Closed, Fd, RpcError, Timeout
from .store_disk import Disk, age_ingests, settled
from .store_model import Model, Wrong, look, reachable
from .store_op import DRIVERS, NAMESPACES, Pool
from .store_op_content import Collect
from .store_ops import OPS, choose

#: Refs of ingests that interrupted work leaves behind, until they are a day old.
STRAY_REFS = ("image-", "davit.put/", "diff-")


class Walk:
    def __init__(self, daemon, seed, kills=0.15):
        self.daemon, self.seed, self.kills = daemon, seed, kills
        self.model = Model()
        self.pool = Pool(random.Random(1))
        self.held = set()  # what was held before the step, whatever it does
        self.took = {op: 0.002 for op in OPS}  # seconds, to aim kills by
        self.reactor_kills = []
        self.history = []
        self.steps = self.killed = self.ran = self.answered = 0
        self._number = 0
        self.drivers = DRIVERS
        self.daemon.reconnect()
        self._note_pids()
        self._learn()

    def number(self):
        self._number += 1
        return self._number

    # ---- the walk

    def run(self, seconds=None, steps=None):
        end = time.monotonic() + seconds if seconds else float("inf")
        try:
            while time.monotonic() < end and (steps is None or self.steps < steps):
                self.step()
            self.finish()
        except Exception as error:
            lines = "\n".join("  " + line for line in self.history[-25:])
            raise type(error)(f"seed {self.seed}, step {self.steps}: {error}\nlast steps:\n{lines}") from error

    def step(self):
        rng = random.Random(f"{self.seed} {self.steps}")
        self.steps += 1
        ops = self._choose(rng)
        before = dict(self.model.rows)
        kill = rng.random() < self.kills
        rows, ingests, begun = None, None, time.time_ns()
        if kill:
            how = self._run_killed(ops, rng)
        else:
            how = ""
            self._run(ops)
        rows, ingests, now = look(self.daemon.rpc, NAMESPACES, self.drivers)
        self.history.append(f"{self.steps} {how}{ops}")
        self._settle(ops, before, rows, ingests, now)
        if not kill and len(ops) == 1 and isinstance(ops[0], Collect):
            self._check_collected(rows, begun)
        for op in ops:
            op.after()
        if rng.random() < 0.01:
            self.check_disk()

    def compare(self):
        """With the model as it is."""
        self._settle([], dict(self.model.rows), *look(self.daemon.rpc, NAMESPACES, self.drivers))

    def _choose(self, rng):
        ops = [choose(self, rng)]
        locks = set(ops[0].locks)
        if rng.random() < 0.4:
            for _ in range(rng.randrange(1, 4)):
                op = choose(self, rng)
                if not op.locks & locks and not (op.collects and any(o.collects for o in ops)):
                    ops.append(op)
                    locks |= op.locks
        return ops

    def _settle(self, ops, before, rows, ingests, now):
        transient = [k for k, row in rows.items() if k[0] == "lease" and "davit.transient" in row["labels"]]
        if transient:
            raise Wrong(f"a lease of work that is over: {transient}")
        stray_rows = {k: row for k, row in rows.items() if k not in self.model.rows}
        for op in ops:
            others = set().union(*(o.locks for o in ops if o is not op))
            self.held = reachable({k: row for k, row in before.items()
                                   if k not in others and ("lease", *k[1:3]) not in others}, now)
            op.settle(rows)
            for key in op.missing:
                if key[0] == "lease":
                    lease = before.get(key)
                    if lease and not (lease["expires_at"] and lease["expires_at"] <= now):
                        raise Wrong(f"{op!r}: {key} was there")
                elif key in before and key in self.held:
                    raise Wrong(f"{op!r}: {key} was there, and held")
        for key, row in stray_rows.items():
            if key not in self.model.rows and any(op.lost and op.stray(key, row) for op in ops):
                self.model.apply({key: row})
                if key[0] == "snapshot":
                    self.model.files[key[1:]] = None
        guaranteed = set().union(*(op.guaranteed for op in ops))
        self.model.check(rows, before, guaranteed, now)
        self.model.check_ingests(ingests, lambda key: key[1].startswith(STRAY_REFS))

    def _check_collected(self, rows, begun):
        held = reachable(self.model.rows, begun)
        left = [k for k in rows if k[0] in ("content", "snapshot") and k not in held]
        over = [k for k, row in rows.items() if k[0] == "lease" and 0 < row["expires_at"] <= begun]
        if left or over:
            raise Wrong(f"a collection has left {left + over}")

    # ---- running operations

    def _thread(self, op, client):
        begun = time.monotonic()
        try:
            op.run(client)
            self.took[type(op)] += (time.monotonic() - begun - self.took[type(op)]) / 8
        except RpcError as error:
            op.error = error
        except (Closed, ConnectionError):
            op.lost = True
        except Exception as error:
            op.bug = error

    def _start(self, ops):
        threads = []
        for op in ops:
            op.bug = None
            client = Client(self.daemon.socket)
            threads.append((op, client, threading.Thread(target=self._thread, args=(op, client), daemon=True)))
        for _, _, thread in threads:
            thread.start()
        return threads

    def _join(self, threads):
        for op, client, thread in threads:
            thread.join(120)
            if thread.is_alive():
                raise Timeout(f"{op!r} does not end")
            client.close()
            self.ran += 1
            self.answered += not op.lost
            if op.bug:
                raise op.bug

    def _run(self, ops):
        self._join(self._start(ops))
        for op in ops:
            if op.lost:
                raise Wrong(f"{op!r}: the connection was lost, and nobody has killed the daemon")

    def _run_killed(self, ops, rng):
        """As _run, and the daemon is killed at some moment."""
        longest = max(self.took[type(op)] for op in ops)
        delay = rng.random() * 1.3 * longest
        # a reactor that dies too often waits before it starts again
        now = time.monotonic()
        self.reactor_kills = [at for at in self.reactor_kills if at > now - 11]
        whole = len(self.reactor_kills) >= 3 or rng.random() < 0.6
        orderly = rng.random() < 0.1
        threads = self._start(ops)
        time.sleep(delay)
        if orderly:
            self.daemon.process.send_signal(signal.SIGTERM)
            self._join(threads)
            self.daemon.process.wait(60)
            self.daemon.start(wait=False)
        elif whole:
            self.kill_all()
            self._join(threads)
            self.daemon.start(wait=False)
            if rng.random() < 0.2:
                time.sleep(rng.random() * 0.08)
                self._kill(self.daemon.process.pid)
                for pid in self.daemon.pids():
                    self._kill(pid)
                self.daemon.process.wait()
                self.daemon.start(wait=False)
        else:
            self.reactor_kills.append(now)
            self._kill(self.pids[1])
            self._join(threads)
        for op in ops:
            # told to end, by a signal or by the end of the guardian, which is no answer either
            if op.error and op.error.code in ("cancelled", "unavailable"):
                op.lost, op.error = True, None
        self.killed += 1
        self.daemon.reconnect()
        self._forget_notifications()
        self._note_pids()
        return f"[{'ended' if orderly else 'killed' if whole else 'reactor killed'} after {delay * 1000:.2f} ms] "

    def _forget_notifications(self):
        """Nobody waits for these; a full socket would be an error in the daemon's log."""
        self.daemon.notify.setblocking(False)
        try:
            while self.daemon.notify.recv(4096):
                pass
        except BlockingIOError:
            self.daemon.notify.setblocking(True)

    def _note_pids(self):
        info = self.daemon.info
        self.pids = (info["guardian_pid"], info["pid"])

    @staticmethod
    def _kill(pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def kill_all(self):
        """Guardian and reactor, at once."""
        for pid in self.pids:
            self._kill(pid)
        self.daemon.process.wait()

    # ---- what from_dir and docker's archives become: the same each time, and asked for once

    def _learn(self):
        noise = random.Random(2)
        for i, image in enumerate(self.pool.images):
            files = images.layout([image.descriptor("x")], image.blobs)
            self.pool.layouts.append(images.write_folder(self.daemon.base / f"layout{i}", files))
        for i in range(2):
            folder = self.daemon.base / f"folder{i}"
            (folder / "sub").mkdir(parents=True, exist_ok=True)
            (folder / "file").write_bytes(noise.randbytes(1000 + 150_000 * i))
            (folder / "sub/other").write_bytes(b"other %d" % i)
            for path in (folder / "file", folder / "sub/other", folder / "sub", folder):
                os.utime(path, (1_000_000_000, 1_000_000_000))
            made = self.daemon.call("images.from_dir", namespace="learn", path=str(folder), name="x", config={"Cmd": ["/x"]})
            self.pool.folders.append((folder, *self._learned(made["image"])))
        for image in self.pool.images[1:3]:
            archive = images.docker_archive(image, "x")
            fd = images.passed(archive)
            made = self.daemon.call("images.import", namespace="learn", stream=Fd(fd), name="x")
            os.close(fd)
            self.pool.docker.append((archive, *self._learned(made["images"][0])))

    def _learned(self, image):
        rpc = self.daemon.rpc
        blobs = {c["digest"]: (c["size"], c["labels"]) for c in rpc.call("content.list", namespace="learn")["contents"]}
        assert image["target"]["digest"] in blobs and len(blobs) >= 3
        rpc.call("images.delete", namespace="learn", name="x", sync=True)
        assert rpc.call("content.list", namespace="learn")["contents"] == []
        return blobs, image["target"]

    # ---- the disk

    def check_disk(self, exact=False, timeout=20):
        """Rows and files. exact: the rows are all those of the model, and no others."""
        settled(lambda: self._disk(exact), timeout)

    def _disk(self, exact):
        disk = Disk(self.daemon.root)
        yield from disk.wrong()
        for (ns, name), files in self.model.files.items():
            folder = disk.snapshots.get((ns, name))
            if folder and files is not None and (found := disk.files(folder)) != files:
                odd = sorted(n for n in {*found, *files} if found.get(n) != files.get(n))
                yield f"the snapshot {ns} {name} has {sorted(found)}; wrong are {odd}"
        if exact:
            want = {k for k in self.model.rows if k[0] in ("content", "image", "snapshot", "lease")}
            if disk.rows != want:
                yield f"rows too many {sorted(disk.rows - want)}, too few {sorted(want - disk.rows)}"

    # ---- the end

    def finish(self):
        """Nothing holds anything but images, containers and labels; then nothing at all."""
        rpc = self.daemon.rpc
        self.collect("the end of the walk")
        self.check_disk(exact=True)
        for key in self.model.keys("content"):
            rpc.call("content.verify", namespace=key[1], digest=key[2])
        self.age_ingests()
        rpc = self.daemon.rpc
        kept = reachable(self.model.rows, time.time_ns())
        self.model.ingests = {k: v for k, v in self.model.ingests.items() if ("ingest", *k) in kept}
        self.collect("old ingests", stray=kept)
        for key in self.model.keys("lease"):
            try:
                rpc.call("leases.delete", namespace=key[1], id=key[2])
            except RpcError as error:
                if error.code != "not_found":
                    raise
            self.model.apply({k: None for k in self.model.keys("resource", key[1]) if k[2] == key[2]})
            self.model.apply({key: None})
        self.model.ingests = {}  # nothing holds those that were left any more
        self.collect("no leases", stray=())
        self.check_disk(exact=True)
        for key in self.model.keys("image"):
            rpc.call("images.delete", namespace=key[1], name=key[2])
            self.model.apply({key: None})
        for key in self.model.keys("container"):
            rpc.call("containers.delete", namespace=key[1], id=key[2])
            self.model.apply({key: None})
        for key in self.model.keys("content") + self.model.keys("snapshot"):
            self._unlabel(key)
        self.collect("nothing", stray=())
        if self.model.rows:
            raise Wrong(f"still there: {self.model.rows}")
        self.check_disk(exact=True)

    def _unlabel(self, key):
        rpc = self.daemon.rpc
        try:
            if key[0] == "content":
                rpc.call("content.update", namespace=key[1], digest=key[2], labels={})
            else:
                driver, name = key[2].split("/", 1)
                rpc.call("snapshots.update", namespace=key[1], key=name, snapshotter=driver, labels={})
            self.model.apply({key: {**self.model.rows[key], "labels": {}}})
        except RpcError as error:
            if error.code != "not_found":
                raise
            del self.model.rows[key]

    def collect(self, what, stray=None):
        """gc.run, and exactly what the model says is left. stray: keys of the ingests that interrupted work
        may have left; None: any."""
        begun = time.time_ns()
        self.daemon.call("gc.run")
        rows, ingests, now = look(self.daemon.rpc, NAMESPACES, self.drivers)
        self.history.append(f"collection: {what}")
        before = dict(self.model.rows)
        self.model.collect(begun)
        extra = [k for k in rows if k not in self.model.rows]
        if extra:
            raise Wrong(f"a collection has left {extra}")
        self.model.check(rows, before, set(), now)
        self.model.check_ingests(ingests, lambda key: key[1].startswith(STRAY_REFS)
                                 and (stray is None or ("ingest", *key) in stray))

    def age_ingests(self):
        """The daemon is killed, and its ingests become older than a day: those that nothing holds may go."""
        self.kill_all()
        age_ingests(self.daemon.root)
        self.daemon.start(wait=False)
        self.daemon.reconnect()
        self._note_pids()
