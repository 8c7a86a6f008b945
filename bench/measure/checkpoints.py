# SPDX-License-Identifier: Apache-2.0
"""Checkpoints and restores of large tasks, beside the bare pipeline and other runtimes

Each round and size: one full task with davit. Of that the bare pipeline to nowhere, the bare pipeline into synced files and davit's
tasks.checkpoint, in turns. Then it is ended and restored from davit's checkpoint; while davit holds it before its start, the same criu is
run by hand from plain files in a tmpfs, with what davit has prepared. Then the peers, one after the other.

After the rounds tasks.get is asked at a steady rate while davit takes checkpoints, while nothing happens, and while the bare pipeline takes
them, which keeps the processors as busy and has nothing to do with the daemon.
"""

import contextlib
import shutil
import tempfile
import time
from pathlib import Path

from .bundle import make_bundle
from .common import Failed, Missing, Rows, compile_static, in_turns, progress, quiet_disk, ratio, run, unmount_below
from .criu import ByHand, Watch
from .daemons import path_with
from .davit import Daemon, Latency, need_criu, peak_memory
from .hogs import HOGS, wait_full

MIB = 1024
BUFFER_MIB = 256  # davit's own default, said to it all the same


class Place:
    """Folders: tmp on the disk, shm in memory, a root file system with the hog, and criu where programs look for it."""

    def __init__(self, bench, name):
        need_criu(bench)
        self.bench = bench
        self.tmp = bench.tmp / name
        self.tmp.mkdir()
        self.shm = Path(tempfile.mkdtemp(prefix="davit-bench-", dir="/dev/shm"))
        path = self.tmp / "path"
        path.mkdir()
        (path / "criu").symlink_to(bench.criu)
        self.criu_path = path_with(path)
        (self.tmp / "bundles").mkdir()
        self.rootfs = make_bundle(self.tmp / "bundles/first", ["/bin/hog", "1024"])
        shutil.copy2(compile_static(self.tmp, "hog"), self.rootfs / "bin/hog")
        self.by_hand = ByHand(bench, self.shm / "run")
        (self.tmp / "pipeline").mkdir()

    def bundle(self, kib):
        folder = self.tmp / f"bundles/{kib}"
        if not folder.exists():
            make_bundle(folder, ["/bin/hog", str(kib)])
        return folder

    def close(self):
        shutil.rmtree(self.shm, ignore_errors=True)
        unmount_below(self.tmp)
        run(["rm", "-rf", "--one-file-system", self.tmp], check=False)


class Task:
    """A full task of davit's, of this many KiB, and its checkpoint as files in a tmpfs."""

    def __init__(self, place, daemon, kib, name="hog"):
        self.place, self.daemon, self.name = place, daemon, name
        wait_full(daemon.start_task(name, place.bundle(kib)))
        self.files = place.shm / "files"
        shutil.rmtree(self.files, ignore_errors=True)
        with Watch(daemon.reactor(), "dump") as watch:
            daemon.call("tasks.checkpoint", container_id=name, options={"image_path": str(self.files)})
        self.arguments = watch.arguments

    def drain(self):
        return self.place.by_hand.dump(self.arguments, self.place.shm / "drain")

    def pipeline(self):
        quiet_disk()
        return self.place.by_hand.dump(self.arguments, self.place.shm / "pipeline", "-o", self.place.tmp / "pipeline")

    def checkpoint(self, keep=False):
        """{total (client's clock), frozen, stats}; the checkpoint is called "bench" and stays only if asked for."""
        quiet_disk()
        ms, answer = self.daemon.timed("tasks.checkpoint", container_id=self.name, name="bench")
        if not keep:
            self.forget()
        return {"total": ms, "frozen": answer["stats"]["frozen_us"] / 1000, "stats": answer["stats"]}

    def forget(self):
        """With its blobs, so that the next one has all to write again."""
        self.daemon.call("images.delete", name="bench", sync=True)

    def restore(self, runs=1):
        """(davit's, criu's by hand), in ms. The task that runs afterwards is the restored one."""
        self.daemon.call("tasks.delete", container_id=self.name, kill=True)
        quiet_disk()
        create, created = self.daemon.timed("tasks.create", container_id=self.name, checkpoint="bench")
        hand = self.place.by_hand.restore(self.daemon, created["pid"], self.files, runs) if runs else None
        start, _ = self.daemon.timed("tasks.start", container_id=self.name)
        return create + start, hand

    def verify(self):
        """The task adds its memory up and ends."""
        self.daemon.call("tasks.kill", container_id=self.name, signal="SIGUSR1")
        ended = self.daemon.call("tasks.wait", container_id=self.name)
        if ended["exit_status"] != 0:
            raise Failed(f"the memory of the restored task is not what it was: it ended with {ended['exit_status']}")

    def remove(self):
        self.daemon.remove(self.name)
        shutil.rmtree(self.files, ignore_errors=True)


class Checkpoints(Rows):
    name = "checkpoints"

    def __init__(self, bench):
        super().__init__()
        self.bench = bench
        self.sizes = bench.options.checkpoint_sizes
        self.times = {}  # (size, who, what): numbers of the rounds
        self.p99, self.memory, self.stats = {}, {}, {}
        self.hogs, self.missing = [], {}

    def add(self, size, who, what, value):
        self.times.setdefault((size, who, what), []).append(value)

    def get(self, size, who, what):
        return self.times.get((size, who, what))

    def run(self):
        self.check_room()
        with contextlib.ExitStack() as stack:
            self.place = Place(self.bench, self.name)
            stack.callback(self.place.close)
            self.daemon = Daemon(self.bench, self.place.tmp / "davit", "--checkpoint-buffer", f"{BUFFER_MIB}m")
            stack.callback(self.daemon.close)
            for cls in HOGS:
                if not self.bench.wants(cls.name):
                    continue
                try:
                    hog = cls(self.place)
                except Missing as e:
                    self.bench.say_missing(cls.title, str(e))
                    continue
                stack.callback(hog.close)
                self.hogs.append(hog)
            for size in self.sizes:
                for round_ in range(self.bench.options.checkpoint_rounds):
                    self.round(size, round_)
                    progress(f"checkpoints of {size} MiB, round {round_ + 1} of {self.bench.options.checkpoint_rounds}")
                self.watch(size)

    def check_room(self):
        """The task, its restored copy and its files in the tmpfs are in memory at once."""
        text = Path("/proc/meminfo").read_text()
        free = next(int(line.split()[1]) // MIB for line in text.splitlines() if line.startswith("MemAvailable"))
        fitting = [s for s in self.sizes if s * 4 + 1024 < free]
        for size in set(self.sizes) - set(fitting):
            self.bench.say_missing(f"checkpoints of {size} MiB", f"{size * 4 + 1024} MiB of memory are needed, {free} are free")
        self.sizes = fitting

    def round(self, size, round_):
        task = Task(self.place, self.daemon, size * MIB)
        try:
            for who in in_turns(["drain", "pipeline", "davit"], round_):
                out = {"drain": task.drain, "pipeline": task.pipeline, "davit": lambda: task.checkpoint(keep=True)}[who]()
                self.add(size, who, "total", out["total"])
                self.add(size, who, "frozen", out["frozen"])
                if who == "davit":
                    self.stats.setdefault(size, []).append(out["stats"])
            davit, hand = task.restore()
            self.add(size, "davit", "restore", davit)
            self.add(size, "criu", "restore", hand)
            task.verify()
            task.forget()
        finally:
            task.remove()
        for hog in in_turns(self.hogs, round_):
            try:
                hog.start(size * MIB)
                self.add(size, hog.name, "total", hog.checkpoint())
                took = hog.restore()
                if took is not None:
                    self.add(size, hog.name, "restore", took)
            finally:
                hog.end()

    def watch(self, size):
        """Memory and answers of the daemon meanwhile."""
        task = Task(self.place, self.daemon, size * MIB)
        latency = None
        try:
            before = peak_memory(self.daemon.reactor(), reset=True)
            task.checkpoint()
            self.memory[size] = peak_memory(self.daemon.reactor()) - before
            latency = Latency(self.daemon)
            runs = max(2, 1024 // size)
            with latency.window("idle"):
                time.sleep(5)
            with latency.window("pipeline"):
                for _ in range(runs):
                    task.pipeline()
            with latency.window("checkpoint"):
                for _ in range(runs):
                    task.checkpoint()
            self.p99[size] = latency.windows
        finally:
            if latency:
                latency.close()
            task.remove()

    # ---- what comes out

    def finish(self):
        for (size, who, what), list_ in self.times.items():
            self.record(who, f"checkpoint_{size}m_{what}", "ms", list_)
        for size in self.sizes:
            self.rows_of(size)
            for name, window in self.p99.get(size, {}).items():
                self.records.append({**window, "bench": "davit", "name": f"checkpoint_{size}m_tasks_get_{name}"})

    def rows_of(self, size):
        def get(*key):
            return self.get(size, *key)

        def beside(who, what="total"):
            return ratio(get("davit", what), get(who, what))

        def times(who, what="total"):
            return ratio(get(who, what), get("davit", what))

        whole = f"checkpoint of {size} MiB"
        self.row(f"{whole}, durable, to the bare pipeline", beside("pipeline"), "{:.2f} ×", "at most 1.3 ×", most=1.3)
        self.row(f"{whole}, to crun's into a tmpfs", beside("crun"), "{:.2f} ×", "at most 1.5 ×", most=1.5)
        self.row(f"{whole}, containerd + runc to davit", times("containerd"), "{:.1f} ×", "at least 4 ×", least=4)
        self.row(f"{whole}, podman to davit", times("podman"), "{:.1f} ×", "at least 5 ×", least=5)
        self.row(f"frozen for it, {size} MiB, to draining to nowhere", beside("drain", "frozen"), "{:.2f} ×", "at most 1.3 ×", most=1.3)
        frozen_to_crun = ratio(get("davit", "frozen"), get("crun", "total"))
        self.row(f"frozen for it, {size} MiB, to all of crun's", frozen_to_crun, "{:.2f} ×", "under 0.6 ×", under=0.6)
        self.row(f"restore of {size} MiB until it runs, to criu's by hand from a tmpfs", beside("criu", "restore"), "{:.2f} ×", "at most 1.3 ×",
                 most=1.3)
        self.row(f"restore of {size} MiB, crun to davit", times("crun", "restore"), "{:.2f} ×")
        self.row(f"restore of {size} MiB, podman to davit", times("podman", "restore"), "{:.1f} ×")
        memory = self.memory.get(size)
        self.row(f"the daemon's memory beyond idle meanwhile, {size} MiB", memory and memory / MIB, "{:.0f} MiB",
                 f"at most {BUFFER_MIB + 32} MiB", most=BUFFER_MIB + 32)
        windows = self.p99.get(size)
        if windows:
            idle, busy = windows["idle"]["p99"], windows["checkpoint"]["p99"]
            self.row(f"tasks.get meanwhile, {size} MiB, p99 to idle ({busy:.0f} us to {idle:.0f} us)", busy / idle, "{:.2f} ×", "at most 2 ×",
                     most=2)
            self.row(f"the same while the bare pipeline is at work ({windows['pipeline']['p99']:.0f} us)", windows["pipeline"]["p99"] / idle,
                     "{:.2f} ×")

    def notes(self):
        out = []
        for size in self.sizes:
            words = []
            for who, what in (("davit", "total"), ("davit", "frozen"), ("pipeline", "total"), ("drain", "frozen"), ("crun", "total"),
                              ("containerd", "total"), ("podman", "total"), ("davit", "restore"), ("criu", "restore"), ("crun", "restore"),
                              ("podman", "restore")):
                list_ = self.get(size, who, what)
                if list_:
                    words.append(f"{who} {what} {sorted(list_)[len(list_) // 2]:.0f}")
            out.append(f"{size} MiB, ms: " + ", ".join(words))
            if self.stats.get(size):
                out.append(f"davit's phases, {size} MiB, ms: " + phases(self.stats[size]))
        out += [f"{hog.title}: {hog.note}" for hog in self.hogs if hog.note]
        return out


def phases(stats):
    names = stats[0]["phases"]
    return ", ".join(f"{n} {sorted(s['phases'][n] for s in stats)[len(stats) // 2] / 1000:.1f}" for n in names)
