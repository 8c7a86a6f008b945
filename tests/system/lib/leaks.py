# SPDX-License-Identifier: Apache-2.0
"""What a daemon may leave behind, and finding it.

A Snapshot is taken before a daemon starts; `leaks` compares after it ended. Orphaned processes are
found because the test process is a child subreaper: whatever loses its parent becomes its child.
"""

import ctypes
import os
import signal
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


def become_subreaper():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def cgroup_mounts():
    """Mount points of all cgroup hierarchies of this host."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        kind = fields[fields.index("-") + 1]
        if kind in ("cgroup", "cgroup2") and not os.path.islink(fields[4]):
            found.append(fields[4])
    return found


def cgroup_dirs(name):
    """Every cgroup at or below /NAME, in all hierarchies, deepest first."""
    found = []
    for mount in cgroup_mounts():
        for folder, _, _ in os.walk(os.path.join(mount, name.lstrip("/")), topdown=False):
            found.append(folder)
    return found


def cgroup_procs(folder):
    try:
        return [int(pid) for pid in Path(folder, "cgroup.procs").read_text().split()]
    except OSError:
        return []


def mounts():
    """(mount point, kind) of every mount of this namespace."""
    found = set()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        found.add((fields[4], fields[fields.index("-") + 1]))
    return found


def children(pid=None):
    """Pids of the children of a process (default: this one)."""
    found = []
    try:
        for thread in os.listdir(f"/proc/{pid or os.getpid()}/task"):
            text = Path(f"/proc/{pid or os.getpid()}/task/{thread}/children").read_text()
            found += [int(child) for child in text.split()]
    except OSError:
        pass
    return found


def process_state(pid):
    """"R", "S", "Z" and so on; None when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return None


def cmdline(pid):
    try:
        text = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        return text or "[" + Path(f"/proc/{pid}/comm").read_text().strip() + "]"
    except OSError:
        return "(gone)"


def processes_with(text):
    """Pids of processes (not zombies, not this one) that have `text` in their command line."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid() and process_state(entry) not in (None, "Z"):
            try:
                if text.encode() in Path(f"/proc/{entry}/cmdline").read_bytes():
                    found.append(int(entry))
            except OSError:
                continue
    return found


def reap():
    """Collects zombies that became our children (never those of Popen objects, which are not dead
    to Python before it has waited for them: callers pass through subprocess first)."""
    for pid in children():
        if process_state(pid) == "Z":
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                continue


def kill_all(pids, timeout=10):
    """SIGKILL and wait until they are gone."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    wait_gone(pids, timeout)


def wait_gone(pids, timeout):
    """Waits until none of these processes runs any more; returns those that still do."""
    end = time.monotonic() + timeout
    pids = list(pids)
    while pids:
        pids = [pid for pid in pids if process_state(pid) not in (None, "Z")]
        if not pids or time.monotonic() > end:
            break
        time.sleep(0.01)
    return pids


class Snapshot:
    """State of the host that a test must not change."""

    def __init__(self):
        self.mounts = mounts()
        self.children = set(children())

    def leaks(self, base, cgroup, ours=()):
        """A list of sentences about what is left. `base` is the test's folder, `cgroup` its parent
        cgroup, `ours` are children of this process that may live on. Everything found is removed."""
        found = []
        base = str(base)

        stray = [p for p in children() if p not in self.children and p not in ours and process_state(p) != "Z"]
        stray += [p for p in processes_with(base) if p not in stray and p not in ours]
        for folder in cgroup_dirs(cgroup):
            stray += [p for p in cgroup_procs(folder) if p not in stray]
        for pid in stray:
            found.append(f"process {pid} still runs: {cmdline(pid)}")
        kill_all(stray)
        reap()

        for point, kind in sorted(mounts() - self.mounts, reverse=True):
            if base in point:
                found.append(f"mount {kind} at {point}")
                _umount(point)

        for folder in cgroup_dirs(cgroup):
            # PARENT and PARENT/NAMESPACE may stay: they are the daemon's, not a container's.
            below = folder.split(cgroup, 1)[1].strip("/")
            if below.count("/") >= 1:
                found.append(f"cgroup {folder}")
            _rmdir(folder)

        for folder in ("/run", "/run/netns", "/tmp", "/var/tmp", "/dev/shm"):
            for name in _names(folder):
                if os.path.basename(base) in name and os.path.join(folder, name) != base:
                    found.append(f"file {folder}/{name}")
        for name in _names(os.path.join(base, "tmp")):
            found.append(f"temporary file {name} in the daemon's TMPDIR")
        return found


def _names(folder):
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _umount(point):
    libc = ctypes.CDLL(None, use_errno=True)
    libc.umount2(point.encode(), 2)  # MNT_DETACH


def _rmdir(folder):
    for _ in range(200):
        try:
            os.rmdir(folder)
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.01)  # a killed process leaves its cgroup a moment after it is gone
