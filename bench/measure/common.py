# SPDX-License-Identifier: Apache-2.0
"""What the parts of bench/run share: running programs, numbers, the order of rounds."""

import contextlib
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
CGROUP = Path("/sys/fs/cgroup")
SETUP = "sudo tools/setup --for bench"


class Failed(Exception):
    pass


class Missing(Exception):
    """A peer is not there: said loudly, and the run goes on without it."""


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    else:
        print(text, file=sys.stderr, flush=True)


def settle():
    """Network namespaces and cgroups go in the background, after their last process: a second is ample for forty."""
    time.sleep(1)


def quiet_disk():
    """Nobody's writing is to be paid for by the next."""
    os.sync()


def in_turns(things, round_):
    """There and back, so that nobody always comes after the same."""
    return things[::-1] if round_ % 2 else things


def run(command, timeout=600, check=True, env=None, **more):
    """(seconds, CompletedProcess) of a command without input."""
    command = [str(c) for c in command]
    began = time.perf_counter()
    r = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout,
                       env=env, **more)
    took = time.perf_counter() - began
    if check and r.returncode:
        said = (r.stderr.strip() or r.stdout.strip() or f"ended with {r.returncode}")[-2000:]
        raise Failed(f"{' '.join(command)}\n{said}")
    return took, r


def lines(command, timeout=600, env=None):
    """Output lines of JSON of a bench program."""
    _, r = run(command, timeout, env=env)
    return [json.loads(line) for line in r.stdout.splitlines() if line.startswith("{")]


def values(printed):
    """{name: value} of the lines of a bench program."""
    return {line["name"]: line["value"] for line in printed}


def compile_static(folder, name):
    """A bench program without libraries: for a root file system that has none, or so that none weighs on its clone."""
    out = folder / name
    source = ROOT / f"bench/{name}.c"
    for compiler in (["cc"], ["gcc"], ["clang"], [str(ROOT / "tools/zig"), "cc", "-target",
                                                  f"{platform.machine()}-linux-musl"]):
        if shutil.which(compiler[0]):
            subprocess.run([*compiler, "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-static", "-o", str(out), str(source)],
                           check=True)
            return out
    raise Failed(f"no C compiler for bench/{name}.c: {SETUP}")


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            raise Missing(f"{program} is not installed")


def median(list_):
    return statistics.median(list_) if list_ else None


def ratio(above, below):
    """Median over the rounds of one's number to the other's in the same round."""
    pairs = [(x, y) for x, y in zip(above or [], below or []) if x is not None and y]
    return statistics.median(x / y for x, y in pairs) if pairs else None


def end_process(process, seconds=20):
    """Asks a process to end, waits, and ends its group if it does not."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def unmount_below(folder):
    """Whatever is still mounted there, the last first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in reversed([p for p in points if p == str(folder) or p.startswith(f"{folder}/")]):
        subprocess.run(["umount", "-l", point], stderr=subprocess.DEVNULL)


class Rows:
    """Rows of the table with goals: (what, measured, goal, met); and the numbers as records for the lines of JSON."""

    def __init__(self):
        self.rows, self.records = [], []

    def record(self, bench, name, unit, list_):
        if list_:
            ordered = sorted(list_)
            self.records.append({"bench": bench, "name": name, "unit": unit, "value": statistics.median(list_), "n": len(list_),
                                 "min": ordered[0], "max": ordered[-1]})

    def row(self, what, value, form, goal="", most=None, least=None, under=None):
        """most, least, under: what the value is held against; without, the row only says."""
        if value is None:
            return
        met = None
        if most is not None:
            met = value <= most
        if least is not None:
            met = value >= least
        if under is not None:
            met = value < under
        self.rows.append((what, form.format(value), goal, met))
