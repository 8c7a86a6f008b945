# SPDX-License-Identifier: Apache-2.0
"""One task that is checkpointed and restored again and again, and what that leaves behind.

The task (kit/digest) has a twin outside that is never checkpointed: both make the same steps, and after each restore
what they say of their memory must be the same. Each round goes on under the other of two ids, on a snapshot made from
the checkpoint's writable layer, while the one before is removed; then its checkpoint is deleted too. So after any number
of rounds there must be as much of everything as after the first ones: fds, threads, processes, mounts, cgroups, leases,
ingests, blobs, snapshots, files of the store. Memory of the daemon may grow by a bounded amount."""

import os
import statistics
import subprocess
from pathlib import Path

from . import leaks
from .checkpoints import KIT, criu_left
from .daemon import Reader, wait_for
from .moves import Moves
from .rootfs import copy_root
from .rpc import Fd, Timeout

#: What the daemon's memory may have grown by: buffers of the allocator, and then so much a round (KiB).
RSS_ONCE, RSS_EACH = 4096, 8
#: What files of the store that never shrink (the database, the journal of its changes) may have grown by (KiB).
STORE_ONCE = 4096
#: Threads of pools start when there is more to do than those that run can take, and have an fd or so each.
SLACK = {"threads of the reactor": 5, "fds of the reactor": 5}


def build_task(target):
    """The task, as one static program."""
    subprocess.run(
        ["gcc", "-std=gnu11", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-Werror", "-static", "-o", str(target),
         str(KIT / "digest/digest.c"), "-lpthread"], check=True, capture_output=True, text=True)
    return target


def _status(pid, field):
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1])


def _store_size(folder):
    """KiB on the disk, and how many files and folders."""
    size = count = 0
    for path, folders, files in os.walk(folder):
        for name in (*folders, *files):
            try:
                size += os.lstat(os.path.join(path, name)).st_blocks // 2
                count += 1
            except FileNotFoundError:
                continue
    return size, count


class Rounds:
    """`say`: what to call with a line about what was measured."""

    def __init__(self, davit, busybox, program, say=lambda line: None):
        self.davit, self.say, self.rounds, self.rss = davit, say, 0, []
        self.info = davit.info
        root = copy_root(busybox, davit.base / "soak-image")
        copy_root(program, root / "digest")
        davit.call("images.from_dir", path=str(root), name="soak")
        self.moves = Moves(davit, "soak")
        self.id = "task0"
        self.out, (self.stdin, self.ask_fd) = Reader(), os.pipe()
        self.stdio = {"stdin": Fd(self.stdin), "stdout": Fd(self.out.write_fd)}
        self.lines = 0
        self.moves.begin(self.id, ["/digest", "/steps"], **self.stdio)
        self.twin = subprocess.Popen([str(program), str(davit.base / "twin")], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.still = self.step().split()[1]

    def step(self):
        """One step of both; what the task says of its memory."""
        os.write(self.ask_fd, b"\n")
        self.lines += 1
        wait_for(lambda: self.out.data.count(b"\n") >= self.lines, what="the task's answer")
        said = self.out.data.splitlines()[-1].decode()
        self.twin.stdin.write(b"\n")
        self.twin.stdin.flush()
        expected = self.twin.stdout.readline().decode().strip()
        assert said == expected, (self.rounds, said, expected)
        return said

    def round(self):
        """Checkpointed, restored under the other id beside the original's removal, and asked."""
        old, self.id = self.id, "task1" if self.id == "task0" else "task0"
        made = self.moves.checkpoint(old, exit=True)
        written = []
        self.moves.copy(self.id, made, look=lambda folder: written.append((folder / "steps").read_bytes()))
        assert int.from_bytes(written[0], "little") == self.lines
        self.moves.restore(self.id, made, beside=old, stdio=self.stdio)
        self.davit.call("images.delete", name=made["image"])
        self.step()
        self.rounds += 1
        self.rss.append(_status(self.info["pid"], "VmRSS"))

    def measure(self):
        """How much there is of everything, after all garbage is gone."""
        call, state = self.davit.call, str(self.davit.state)
        call("gc.run")
        call("snapshots.cleanup", snapshotter="overlayfs")
        call("gc.run")
        wait_for(lambda: not criu_left(self.davit), what="an empty STATE/criu")
        pids = {"reactor": self.info["pid"], "guardian": self.info["guardian_pid"]}
        size, files = _store_size(self.davit.root)
        found = {
            **{f"fds of the {name}": self.davit.fd_count(pid) for name, pid in pids.items()},
            **{f"threads of the {name}": _status(pid, "Threads") for name, pid in pids.items()},
            "processes": len(leaks.processes_with(state)) + sum(len(leaks.children(pid)) for pid in pids.values()) + len(leaks.children()),
            "mounts": len(leaks.mounts()),
            "mounts that the daemon sees": len(Path(f"/proc/{pids['reactor']}/mountinfo").read_text().splitlines()),
            "cgroups": len(leaks.cgroup_dirs(self.davit.cgroup_parent)),
            "containers": len(call("containers.list")["containers"]),
            "images": len(call("images.list")["images"]),
            "leases": len(call("leases.list")["leases"]),
            "ingests": len(call("content.list_statuses")["statuses"]),
            "blobs": len(call("content.list")["contents"]),
            "snapshots": len(call("snapshots.list", snapshotter="overlayfs")["snapshots"]),
            "files of the store": files,
            "files of the state": _store_size(state)[1],
        }
        return found, size

    def run(self, rounds, warm):
        """So many rounds, of which the first `warm` may bring what stays."""
        for _ in range(warm):
            self.round()
        before, size = self.measure()
        for _ in range(rounds - warm):
            self.round()

        def grown_by(now):
            return {name: (before[name], now[name]) for name in before if abs(now[name] - before[name]) > SLACK.get(name, 0)}

        def settled():
            """What was just removed may take a moment to be gone; a leak stays."""
            now = self.measure()
            return None if grown_by(now[0]) else now

        try:
            after, end_size = wait_for(settled, timeout=20)
        except Timeout:
            after, end_size = self.measure()
        differs = grown_by(after)
        part = max(1, (rounds - warm) // 4)
        grown = statistics.median(self.rss[-part:]) - statistics.median(self.rss[warm:warm + part])
        last = self.step().split()
        for name, count in after.items():
            self.say(f"{name:30} {before[name]:8} {count:8}")
        self.say(f"{'store, KiB':30} {size:8} {end_size:8}")
        self.say(f"{'memory of the reactor, KiB':30} {self.rss[warm]:8} {self.rss[-1]:8}")
        self.say(f"{'digest that does not change':30} {self.still} {last[1]}")
        assert last[1] == self.still
        assert not differs, f"grew over {rounds - warm} rounds: {differs}"
        assert end_size - size <= STORE_ONCE, (size, end_size)
        assert grown <= RSS_ONCE + RSS_EACH * (rounds - warm), (grown, self.rss)

    def end(self):
        self.davit.call("tasks.delete", container_id=self.id, kill=True)
        self.close()

    def close(self):
        """What is not the daemon's."""
        if self.twin:
            self.twin.communicate()
            os.close(self.ask_fd)
            os.close(self.stdin)
            self.out.close_write()
            self.twin = None
