# SPDX-License-Identifier: Apache-2.0
"""criu as davit starts it, to be started again by hand.

What options a container needs is davit's to find out; so its criu's command line is read from /proc while it runs, and the same
is given to the bare pipeline (bench/pipeline.c) and to plain dumps and restores.
"""

import contextlib
import re
import threading
import time
from pathlib import Path

from .common import Failed, lines, values


def children(pid):
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            yield from map(int, task.read_text().split())


def find(reactor, verb):
    """(pid, arguments from the verb on) of the reactor's criu. None: there is none now."""
    for pid in children(reactor):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
            if verb in words and any(w.startswith("--images-dir=") for w in words):
                return pid, words[words.index(verb):]
    return None


class Watch(threading.Thread):
    """with Watch(reactor, "dump") as w: …; then w.arguments"""

    def __init__(self, reactor, verb):
        super().__init__(daemon=True)
        self.reactor, self.verb, self.over, self.arguments = reactor, verb, False, None

    def run(self):
        while not self.over and not self.arguments:
            found = find(self.reactor, self.verb)
            if found:
                self.arguments = found[1]
            time.sleep(0.002)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc):
        self.over = True
        self.join()
        if exc[0] is None and not self.arguments:
            raise Failed(f"davit's criu {self.verb} was not seen")


def elsewhere(arguments, folder, stream):
    """The same with another folder for images and logs, with the stream or without; no hooks."""
    kept = [a for a in arguments if a != "--stream" and not a.startswith(("--images-dir=", "--work-dir=", "--action-script="))]
    return [kept[0], f"--images-dir={folder}", f"--work-dir={folder}", *(["--stream"] if stream else []), *kept[1:]]


class ByHand:
    """run: a folder of a tmpfs that criu sees as /run."""

    def __init__(self, bench, run):
        self.bench, self.run = bench, run
        run.mkdir()

    def dump(self, arguments, folder, *options):
        """Into folder as files (-p), to nowhere, or compressed and synced (-o FOLDER): {name: value}."""
        folder.mkdir(exist_ok=True)
        words = elsewhere(arguments, folder, "-p" not in options)
        printed = lines([self.bench.binaries / "pipeline", "-i", folder, "-k", self.run, *options, "--", self.bench.criu, *words])
        return values(printed)

    def restore(self, daemon, pid, folder, runs=1):
        """From a folder, with what the criu that davit holds now has for the task `pid`: milliseconds, the median."""
        held = find(daemon.reactor(), "restore")
        if not held:
            raise Failed("davit holds no criu restore")
        criu, arguments = held
        fds = []
        for at, word in enumerate(arguments):
            if word == "--inherit-fd":
                match = re.fullmatch(r"fd\[(\d+)\]:extNet", arguments[at + 1])
                if not match:
                    raise Failed(f"the restore by hand has nothing for {arguments[at + 1]}")
                fds += ["-f", f"{match[1]}:net"]
        printed = lines([self.bench.binaries / "again", "-P", criu, "-I", pid, "-w", folder / "criu.pid", "-n", runs, *fds, "--",
                         self.bench.criu, *elsewhere(arguments, folder, False)])
        return values(printed)["restore"]
