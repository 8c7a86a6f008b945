# SPDX-License-Identifier: Apache-2.0
"""Garbage collection: bench/gc, a program of its own, and its numbers as rows."""

import json
import sys

from .common import ROOT, Rows, progress, run


class Collection(Rows):
    name = "gc"

    def __init__(self, bench):
        super().__init__()
        self.bench, self.runs = bench, []

    def run(self):
        progress("garbage collection of a large store")
        _, r = run([sys.executable, ROOT / "bench/gc", "--binary", self.bench.binaries / "davit", "--folder", self.bench.tmp], timeout=1800)
        self.runs = [json.loads(line) for line in r.stdout.splitlines() if line.startswith("{")]

    def finish(self):
        for got in self.runs:
            self.records.append({"bench": "gc", "name": "gc " + got["run"], "unit": "s", "value": got["seconds"], **got})
            name = f"gc, {got['run']}"
            self.row(name, got["seconds"], "{:.2f} s")
            for method in ("version", "tasks.get"):
                alone, during = got["alone"][method]["p99_us"], got["during"][method]["p99_us"]
                if alone:
                    self.row(f"{method} meanwhile, {got['run']}, p99 to idle ({during} us to {alone} us)", during / alone, "{:.2f} ×")

    def notes(self):
        return []
