# SPDX-License-Identifier: Apache-2.0
"""Whole lives of containers, one after the other and side by side; and what only davit is asked."""

import statistics
import shutil
import time

from .common import Missing, Rows, compile_static, in_turns, lines, median, need, progress, ratio, settle
from .daemons import Containerd as Daemon_
from .daemons import without_v2
from .davit import Daemon


class Subject:
    """Somebody who runs containers: life(n) and side_by_side(n, j) answer lines of a bench program."""

    note = ""

    def close(self):
        pass


class Floor(Subject):
    name = "floor"
    title = "bare kernel (floor)"

    def __init__(self, bench):
        self.command = [compile_static(bench.tmp, "floor"), "-r", bench.rootfs]

    def life(self, n):
        return lines([*self.command, "-n", n])

    def side_by_side(self, n, j):
        return lines([*self.command, "-n", n, "-j", j])


class Davit(Subject):
    name = title = "davit"

    def __init__(self, bench):
        self.bench = bench
        self.daemon = Daemon(bench, bench.tmp / "davit")

    def life(self, n):
        return self.daemon.program("lifecycle", self.bench.bundle_true, "-n", n)

    def side_by_side(self, n, j):
        return self.daemon.program("lifecycle", self.bench.bundle_true, "-n", n, "-j", j)

    def close(self):
        self.daemon.close()


class Command(Subject):
    """A runtime that is a program: one call is a whole life."""

    def spawn(self, *args):
        return lines([*self.prefix, self.bench.binaries / "spawn", *args, self.name, *self.command])

    prefix = ()

    def life(self, n):
        return self.spawn("-n", n)

    def side_by_side(self, n, j):
        return self.spawn("-n", n, "-j", j)


class Crun(Command):
    name = title = "crun"

    def __init__(self, bench):
        need("crun")
        self.bench = bench
        self.prefix, self.note = without_v2()
        self.command = ["crun", "--root", bench.tmp / "crun", "--cgroup-manager=cgroupfs", "run", "--bundle",
                        bench.bundle_true, "{}"]


class Runc(Command):
    name = title = "runc"

    def __init__(self, bench):
        need("runc")
        self.bench = bench
        self.command = ["runc", "--root", bench.tmp / "runc", "run", "--bundle", bench.bundle_true, "{}"]


class Containerd(Command):
    name = "containerd"
    title = "containerd + runc"
    note = "over its own client, ctr"

    def __init__(self, bench):
        self.bench = bench
        self.daemon = Daemon_(bench.tmp / "containerd")
        self.command = ["ctr", "-a", self.daemon.socket, "run", "--rm", "--config", bench.bundle_true / "config.json", "--rootfs", "{}"]

    def close(self):
        self.daemon.close()


SUBJECTS = [Floor, Davit, Crun, Runc, Containerd]


class Lives(Rows):
    name = "lives"

    def __init__(self, bench):
        super().__init__()
        self.bench = bench
        self.subjects = []
        self.lives = {}  # name: medians of the rounds
        self.parts = {}  # davit's steps
        self.rates = {}

    def run(self):
        try:
            for cls in SUBJECTS:
                if not self.bench.wants(cls.name):
                    continue
                try:
                    self.subjects.append(cls(self.bench))
                except Missing as e:
                    self.bench.say_missing(cls.title, str(e))
            self.measure()
        finally:
            for subject in self.subjects:
                subject.close()
            for name in ("davit", "containerd"):
                shutil.rmtree(self.bench.tmp / name, ignore_errors=True)

    def measure(self):
        o = self.bench.options
        for round_ in range(-1, o.rounds):  # the first is to warm up, and is not counted
            # each with what the kernel still takes apart of the one before out of its way
            for subject in in_turns(self.subjects, round_):
                n = max(2, o.lives if subject.name in ("floor", "davit") else o.lives // 4)
                settle()
                for line in subject.life(2 if round_ < 0 else n):
                    if round_ < 0:
                        continue
                    store = self.lives if line["name"] == "life" else self.parts
                    key = subject.name if line["name"] == "life" else line["name"]
                    store.setdefault(key, []).append(line["value"])
            progress(f"lives, round {round_ + 1} of {o.rounds}")
        for round_ in range(max(1, o.rounds // 3)):
            for subject in in_turns(self.subjects, round_):
                settle()
                n = max(2, o.lives // (2 if subject.name in ("floor", "davit") else 8))
                for line in subject.side_by_side(n, o.side_by_side):
                    if line["name"] == "side_by_side":
                        self.rates.setdefault(subject.name, []).append(line["value"])
            progress(f"{o.side_by_side} side by side, round {round_ + 1}")

    def ratio(self, a, b):
        """Median over the rounds of a's life to b's in the same round."""
        lives = {**self.lives, "task": self.parts.get("task_life", [])}
        return ratio(lives.get(a), lives.get(b))

    def finish(self):
        j = self.bench.options.side_by_side
        for name, list_ in self.lives.items():
            self.record(name, "life", "ms", list_)
        for name, list_ in self.parts.items():
            self.record("davit", name, "ms", list_)
        for name, list_ in self.rates.items():
            self.record(name, "side_by_side", "lives/s", list_)
        # over RPC: create, start, exit event, delete; the whole life has the container's record around it as well
        self.row("life of a task, davit to the floor", self.ratio("task", "floor"), "{:.2f} ×", "at most 1.5 ×", most=1.5)
        self.row("whole life, davit to the floor", self.ratio("davit", "floor"), "{:.2f} ×")
        self.row("crun's whole life to that of a davit task", self.ratio("crun", "task"), "{:.2f} ×", "at least 2 ×", least=2)
        self.row("whole life, crun to davit", self.ratio("crun", "davit"), "{:.2f} ×")
        if self.rates.get("davit") and self.rates.get("floor"):
            beside = statistics.median(self.rates["davit"]) / statistics.median(self.rates["floor"])
            self.row(f"{j} side by side, davit to the floor", beside, "{:.2f} ×", "at least 0.7 ×", least=0.7)
        self.row("whole life, runc to davit", self.ratio("runc", "davit"), "{:.1f} ×")
        self.row("whole life, containerd to davit", self.ratio("containerd", "davit"), "{:.1f} ×")

    def notes(self):
        if not self.parts:
            return []
        return ["davit's steps, ms: " + ", ".join(f"{k} {median(v):.2f}" for k, v in self.parts.items())]


class Alone(Rows):
    """What only davit is asked, of a daemon that has just started, so that idle is idle."""

    name = "alone"

    def __init__(self, bench):
        super().__init__()
        self.bench = bench

    def run(self):
        o = self.bench.options
        folder = self.bench.tmp / "davit"
        daemon = Daemon(self.bench, folder)
        try:
            time.sleep(1)
            progress(f"davit alone: memory with {o.containers} containers, exits, round trips, content")
            self.records += daemon.program("memory", self.bench.bundle_sleep, "-n", o.containers)
            self.records += daemon.program("exit_event", self.bench.bundle_sleep, "-n", 100)
            self.records += daemon.program("roundtrip", self.bench.bundle_sleep)
            content = self.bench.tmp / "content"  # on the same file system as the daemon's root
            content.mkdir(exist_ok=True)
            self.records += lines([self.bench.binaries / "content_write", "-s", daemon.socket, "-d", content, "-r", 5])
        finally:
            daemon.close()
            shutil.rmtree(folder, ignore_errors=True)

    def value(self, name):
        return next((line["value"] for line in self.records if line["name"] == name), None)

    def finish(self):
        idle = self.value("idle_pss")
        n = self.bench.options.containers
        self.row("idle, guardian and reactor (PSS)", idle and idle / 1024, "{:.1f} MiB", "at most 8 MiB", most=8)
        self.row(f"each of {n} running containers", self.value("pss_per_container"), "{:.1f} KiB", "at most 16 KiB", most=16)
        self.row("exit to event, median", self.value("exit_to_event"), "{:.0f} us", "under 150 us", under=150)
        self.row("tasks.get, median", self.value("tasks_get"), "{:.0f} us", "under 40 us", under=40)
        self.row("512 MiB by content.write, to read, hash, write and sync in a plain loop", self.value("content_write_to_plain"),
                 "{:.2f} ×", "at least 0.7 ×", least=0.7)
        self.row("content.write, small, to its durable commit, median", self.value("content_commit"), "{:.1f} ms")
        self.row("tasks.get, many in flight", self.value("tasks_get_pipelined"), "{:,.0f} answers/s", "at least 100,000", least=100000)

    def notes(self):
        return []
