# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: containers that hold things (kit/zoo.c), and their way through a checkpoint and back."""

import os
import subprocess
from pathlib import Path

from . import leaks
from .daemon import Reader, wait_for
from .rpc import Fd

KIT = Path(__file__).resolve().parents[1] / "kit"
#: A program that prints one number after the other, from a variable in its memory: tests see that it goes on.
COUNT = ["sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; echo $i > /tmp/count; sleep 0.02; done"]


def build_zoo(target):
    """The zoo, as one static program."""
    subprocess.run(
        ["gcc", "-std=gnu11", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-Werror", "-static", "-o", str(target),
         *sorted(map(str, KIT.glob("*.c"))), "-lpthread", "-lrt"], check=True, capture_output=True, text=True)
    return target


class Zoo:
    """A container with the zoo in it.

    out     Reader of its stdout (a new one after each restore)
    pid     of the zoo itself, on the host
    """

    def __init__(self, davit, root, *kinds, id="zoo", options=None, stdio=None, **more):
        self.davit, self.root, self.kinds, self.id = davit, root, kinds, id
        self.more, self.stdio = more, stdio or {}
        if "root_" in more:  # of the spec
            more["root"] = {"path": str(root), **more.pop("root_")}
        self.out = Reader()
        try:
            self.pid = davit.launch(id, ["/zoo", *kinds], root, **more, stdio={"stdout": Fd(self.out.write_fd), **self.stdio})
        finally:
            self.out.close_write()
        self.wait_text("ready")

    def wait_text(self, text):
        """Waits for it in the output."""
        def seen():
            if text.encode() in self.out.data:
                return True
            assert self.davit.status(self.id)["status"] != "stopped", self.out.data.decode()
            return False
        wait_for(seen, what=f"{text!r} in the output")

    def checkpoint(self, **options):
        """tasks.checkpoint's result; the name of the image is in "image"."""
        return self.davit.call("tasks.checkpoint", container_id=self.id, options=options)

    def away(self, **options):
        """A checkpoint with exit: the result, when the task is deleted."""
        made = self.checkpoint(exit=True, **options)
        ended = self.davit.call("tasks.wait", container_id=self.id)
        assert ended["exit_status"] == 137, ended
        self.davit.call("tasks.delete", container_id=self.id)
        self.out.bytes()
        return made

    def back(self, image, start=True, stdio=None, **options):
        """Restores it into the same container and starts it."""
        self.out = Reader()
        try:
            self.davit.call("tasks.create", container_id=self.id, checkpoint=image, options=options,
                            stdout=Fd(self.out.write_fd), **self.stdio, **(stdio or {}))
        finally:
            self.out.close_write()
        if start:
            self.pid = self.davit.call("tasks.start", container_id=self.id)["pid"]
        return self

    def check(self):
        """Asks it: {kind: what is lost, or "ok"}; the task is stopped after."""
        self.davit.call("tasks.kill", container_id=self.id, signal="SIGUSR1")
        ended = self.davit.call("tasks.wait", container_id=self.id)
        lines = [line for line in self.out.text().splitlines() if ": " in line]
        found = dict(line.split(": ", 1) for line in lines)
        assert ended["exit_status"] == sum(text != "ok" for text in found.values()), (ended, lines)
        return found

    def all_ok(self):
        assert self.check() == dict.fromkeys(self.kinds, "ok")


def ps(davit, id):
    """[pid on the host] of all processes of a container."""
    return [process["pid"] for process in davit.call("tasks.list_pids", container_id=id)["processes"]]


def criu_left(davit):
    """What is below STATE/criu."""
    folder = davit.state / "criu"
    return sorted(os.listdir(folder)) if folder.exists() else []


def nothing_left(davit, ids=()):
    """No criu, no folder of a run, no cgroup of these containers, nobody frozen."""
    wait_for(lambda: not criu_left(davit), what="an empty STATE/criu")
    running = leaks.wait_gone(leaks.processes_with(str(davit.state / "criu")), 5)
    assert not running, [(leaks.process_state(pid), leaks.cmdline(pid)) for pid in running]
    for id in ids:
        found = [folder for folder in leaks.cgroup_dirs(davit.cgroup_parent) if folder.endswith("/" + id)]
        assert not found, found


def criu_version(program):
    text = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
    return tuple(int(part) for part in text.split("Version:")[1].split()[0].split(".")[:2])


def kernel_version():
    return tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])


def may_raise_limits():
    """Whether we, and so criu, have CAP_SYS_RESOURCE: without, criu cannot read the limits of another user's process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:"))
    return bool(int(line.split()[1], 16) >> 24 & 1)
