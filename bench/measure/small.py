# SPDX-License-Identifier: Apache-2.0
"""Checkpoints and restores of a task of 1 MiB in a network namespace of its own: what is not memory

Beside it the leanest criu by hand (davit's options: no network lock, the network namespace handed in from outside, /run a tmpfs; plain
files in a tmpfs, nothing hashed or synced) and crun into a tmpfs. Of a round each counts with its median.
"""

import contextlib

from .checkpoints import MIB, Place, Task, phases
from .common import Missing, Rows, in_turns, median, progress, ratio
from .davit import Daemon
from .hogs import CrunHog

KIB = MIB
RUNS = 10


class Small(Rows):
    name = "small"

    def __init__(self, bench):
        super().__init__()
        self.bench = bench
        self.times, self.stats, self.crun = {}, [], None

    def add(self, who, what, value):
        self.times.setdefault((who, what), []).append(value)

    def run(self):
        with contextlib.ExitStack() as stack:
            place = Place(self.bench, self.name)
            stack.callback(place.close)
            self.daemon = Daemon(self.bench, place.tmp / "davit")
            stack.callback(self.daemon.close)
            if self.bench.wants("crun"):
                try:
                    self.crun = CrunHog(place)
                    stack.callback(self.crun.close)
                except Missing as e:
                    self.bench.say_missing(CrunHog.title, str(e))
            rounds = self.bench.options.checkpoint_rounds
            for round_ in range(-1, rounds):  # the first is to warm up, and is not counted
                self.round(place, round_, 2 if round_ < 0 else RUNS)
                progress(f"small checkpoints, round {round_ + 1} of {rounds}")

    def round(self, place, round_, runs):
        times = {}

        def note(who, what, value):
            times.setdefault((who, what), []).append(value)

        task = Task(place, self.daemon, KIB)
        try:
            for n in range(runs):
                for who in in_turns(["criu", "davit"], n):
                    out = place.by_hand.dump(task.arguments, place.shm / "plain", "-p") if who == "criu" else task.checkpoint()
                    note(who, "total", out["total"])
                    note(who, "frozen", out["frozen"])
                    if who == "davit" and round_ >= 0:
                        self.stats.append(out["stats"])
            task.checkpoint(keep=True)
            for n in range(runs):
                davit, hand = task.restore(runs=0 if n else runs)
                note("davit", "restore", davit)
                if hand:
                    note("criu", "restore", hand)
            task.verify()
            task.forget()
        finally:
            task.remove()
        for _ in range(max(1, runs // 2) if self.crun else 0):
            try:
                self.crun.start(KIB)
                note("crun", "total", self.crun.checkpoint())
                note("crun", "restore", self.crun.restore())
            finally:
                self.crun.end()
        if round_ >= 0:
            for (who, what), list_ in times.items():
                self.add(who, what, median(list_))

    def finish(self):
        get = self.times.get
        for (who, what), list_ in self.times.items():
            self.record(who, f"checkpoint_small_{what}", "ms", list_)
        self.row("checkpoint of a small task, to the leanest criu by hand", ratio(get(("davit", "total")), get(("criu", "total"))), "{:.2f} ×",
                 "at most 1.3 ×", most=1.3)
        self.row("restore of a small task, to the leanest criu by hand", ratio(get(("davit", "restore")), get(("criu", "restore"))), "{:.2f} ×",
                 "at most 1.3 ×", most=1.3)
        self.row("checkpoint of a small task, crun to davit", ratio(get(("crun", "total")), get(("davit", "total"))), "{:.1f} ×",
                 "at least 2 ×", least=2)
        self.row("restore of a small task, crun to davit", ratio(get(("crun", "restore")), get(("davit", "restore"))), "{:.1f} ×",
                 "at least 2 ×", least=2)

    def notes(self):
        words = [f"{who} {what} {median(list_):.1f}" for (who, what), list_ in self.times.items()]
        return ["a small task, ms: " + ", ".join(words)] + (["davit's phases, ms: " + phases(self.stats)] if self.stats else [])
