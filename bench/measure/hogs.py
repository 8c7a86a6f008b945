# SPDX-License-Identifier: Apache-2.0
"""The same full task (bench/hog.c) with other runtimes: started, checkpointed, restored, ended.

Each runs only while it is measured. Times are in milliseconds. A restore of None means that this runtime has none to compare.
"""

import contextlib
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

from .bundle import spec, write_bundle
from .common import ROOT, Failed, Missing, quiet_disk, run
from .daemons import Containerd, Podman, path_with, without_v2

FULL = "hog-full"


def wait_full(pid, seconds=120):
    end = time.monotonic() + seconds
    comm = Path(f"/proc/{pid}/comm")
    while True:
        try:
            if comm.read_text().strip() == FULL:
                return
        except OSError:
            raise Failed(f"the task {pid} of bench/hog ended while it filled its memory") from None
        if time.monotonic() > end:
            raise Failed(f"the task {pid} of bench/hog does not fill its memory in {seconds} s")
        time.sleep(0.01)


class Hog:
    note = ""

    def __init__(self, place):
        """place: an object with criu_path (an environment), tmp, shm, rootfs"""
        self.place = place
        self.env = place.criu_path

    def close(self):
        pass


class CrunHog(Hog):
    name, title = "crun", "crun, into a tmpfs"

    def __init__(self, place):
        super().__init__(place)
        for program in (ROOT / ".tools/crun", "crun"):
            if shutil.which(program) and "+CRIU" in run([program, "--version"])[1].stdout:
                break
        else:
            raise Missing("no crun that can checkpoint (Debian 12's cannot)")
        prefix, self.note = without_v2()
        self.command = [*prefix, program, "--root", place.tmp / "crun-hog", "--cgroup-manager=cgroupfs"]
        self.folder = place.shm / "crun"
        self.ids, self.fds = 0, []

    def crun(self, *args, check=True):
        """With pipes as all of its streams: a file of outside would stop the dump. The task keeps them."""
        streams = [os.pipe() for _ in range(2)]
        self.fds += [fd for pair in streams for fd in pair]
        began = time.perf_counter()
        r = subprocess.run([str(w) for w in [*self.command, *args]], stdin=streams[0][0], stdout=streams[1][1], stderr=streams[1][1],
                           env=self.env, timeout=600)
        took = (time.perf_counter() - began) * 1000
        if check and r.returncode:
            os.set_blocking(streams[1][0], False)
            said = ""
            with contextlib.suppress(BlockingIOError):
                said = os.read(streams[1][0], 65536).decode(errors="replace")
            log = "\n".join(f"{f.name}: {line}" for f in self.folder.glob("work/*.log")
                            for line in f.read_text(errors="replace").splitlines() if "Error" in line)
            raise Failed(f"crun {' '.join(map(str, args))}: {said}{log}")
        return took

    def start(self, kib):
        self.ids += 1
        self.id = f"davit-bench-hog-{self.ids}"
        self.bundle = self.place.tmp / f"crun-bundle-{self.ids}"
        config = spec(self.place.rootfs, ["/bin/hog", str(kib)])
        del config["linux"]["resources"]  # with them crun cannot restore on cgroup v1
        write_bundle(self.bundle, config)
        pidfile = self.place.tmp / "crun.pid"
        self.crun("run", "-d", "--bundle", self.bundle, "--pid-file", pidfile, self.id)
        wait_full(int(pidfile.read_text()))

    def checkpoint(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "work").mkdir(parents=True)
        return self.crun("checkpoint", "--leave-running", "--manage-cgroups-mode=ignore", "--image-path", self.folder / "img", "--work-path", self.folder / "work", self.id)

    def restore(self):
        self.crun("delete", "-f", self.id, check=False)
        took = self.crun("restore", "-d", "--manage-cgroups-mode=ignore", "--bundle", self.bundle, "--image-path", self.folder / "img", "--work-path", self.folder / "work",
                         self.id)
        return took

    def end(self):
        if not self.ids:
            return
        self.crun("delete", "-f", self.id, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
        while self.fds:
            os.close(self.fds.pop())

    close = end


class ContainerdHog(Hog):
    name, title = "containerd", "containerd + runc, into its store"

    def __init__(self, place):
        super().__init__(place)
        self.daemon = Containerd(place.tmp / "containerd-hog", self.env)
        self.ids = 0
        self.id = None

    def start(self, kib):
        self.ids += 1
        self.id = f"davit-bench-hog-{self.ids}"
        config = self.place.tmp / "containerd-hog.json"
        config.write_text(json.dumps(spec(self.place.rootfs, ["/bin/hog", str(kib)])))
        self.daemon.ctr("run", "-d", "--null-io", "--config", config, self.id)
        tasks = self.daemon.ctr("tasks", "ls")[1].stdout.split()
        wait_full(int(tasks[tasks.index(self.id) + 1]))

    def checkpoint(self):
        quiet_disk()
        return self.daemon.ctr("tasks", "checkpoint", self.id)[0] * 1000

    def restore(self):
        return None

    def end(self):
        if not self.id:
            return
        self.daemon.ctr("tasks", "rm", "-f", self.id, check=False)
        self.daemon.ctr("containers", "rm", self.id, check=False)
        names = self.daemon.ctr("images", "ls", "-q")[1].stdout.split()
        if names:
            self.daemon.ctr("images", "rm", "--sync", *names)
        self.id = None

    def close(self):
        with contextlib.suppress(Failed):
            self.end()
        self.daemon.close()


class PodmanHog(Hog):
    name, title = "podman", "podman + runc, exported"

    def __init__(self, place):
        super().__init__(place)
        self.podman = Podman(place.tmp / "podman-hog", self.env)
        self.note = self.podman.note
        self.archive = place.tmp / "podman-hog.tar"
        image = place.tmp / "podman-image.tar"
        run(["tar", "-C", place.rootfs, "-cf", image, "."])
        self.podman.podman("import", image, "hog:1")
        image.unlink()

    def start(self, kib):
        self.podman.podman("run", "-d", "--name", "hog", "--network", "none", *self.podman.LIMITS, "hog:1", "/bin/hog", str(kib))
        wait_full(int(self.podman.podman("inspect", "-f", "{{.State.Pid}}", "hog")[1].stdout))

    def checkpoint(self):
        quiet_disk()
        return self.podman.podman("container", "checkpoint", "--leave-running", "--export", self.archive, "hog")[0] * 1000

    def restore(self):
        self.podman.podman("rm", "-f", "-t", "0", "hog")
        return self.podman.podman("container", "restore", "--import", self.archive, "--name", "hog")[0] * 1000

    def end(self):
        self.podman.podman("rm", "-f", "-t", "0", "hog", check=False)
        self.archive.unlink(missing_ok=True)

    def close(self):
        self.podman.close()
        self.archive.unlink(missing_ok=True)


HOGS = [CrunHog, ContainerdHog, PodmanHog]
