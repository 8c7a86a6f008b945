# SPDX-License-Identifier: Apache-2.0
"""containerd and podman in folders of their own, and crun where it refuses the host's cgroups."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .common import CGROUP, Failed, end_process, need, run, unmount_below

CRUN_NOTE = "without the v2 hierarchy, which it refuses beside v1"


def without_v2():
    """What a command is prefixed with on a host with both versions of cgroups, and what is to be said of it."""
    if (CGROUP / "unified").is_mount():
        return ("unshare", "-m", "sh", "-c", 'umount /sys/fs/cgroup/unified && exec "$@"', "sh"), CRUN_NOTE
    return (), ""


class Containerd:
    """env: with criu in its PATH"""

    def __init__(self, base, env=None):
        need("containerd", "ctr", "runc")
        base.mkdir()
        self.base, self.socket = base, base / "sock"
        (base / "config.toml").write_text(
            f'version = 2\nroot = "{base}/root"\nstate = "{base}/state"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'[grpc]\n  address = "{self.socket}"\n[ttrpc]\n  address = "{self.socket}.ttrpc"\n')
        self.log = open(base / "log", "w+")
        self.env = env
        self.process = subprocess.Popen(["containerd", "--config", str(base / "config.toml")], stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log, start_new_session=True, env=env)
        for _ in range(200):
            if self.socket.exists() and not self.ctr("version", check=False)[1].returncode:
                return
            time.sleep(0.05)
        self.log.seek(0)
        said = self.log.read()[-2000:]
        self.close()
        raise Failed("containerd does not start:\n" + said)

    def ctr(self, *args, check=True):
        return run(["ctr", "-a", self.socket, *args], check=check, env=self.env)

    def close(self):
        end_process(self.process)
        self.log.close()
        unmount_below(self.base)


class Podman:
    """overlay where that works, else vfs, which copies whole layers: said loudly."""

    def __init__(self, base, env=None, runtime="runc"):
        need("podman", runtime)
        base.mkdir()
        self.base, self.env, self.note = base, env, ""
        self.run = Path(tempfile.mkdtemp(prefix="davit-bench-"))  # it takes no longer path than 50 characters
        self.prefix = without_v2()[0] if "crun" in runtime else ()
        for driver in ("overlay", "vfs"):
            self.command = [*self.prefix, "podman", "--root", base / "root", "--runroot", self.run / "run", "--tmpdir", self.run / "tmp",
                            "--storage-driver", driver, "--cgroup-manager", "cgroupfs", "--events-backend", "none", "--runtime", runtime]
            _, r = self.podman("info", check=False)
            if not r.returncode:
                break
            run(["rm", "-rf", "--one-file-system", base / "root"], check=False)
        else:
            self.close()
            raise Failed("podman does not start:\n" + r.stderr[-2000:])
        if driver == "vfs":
            self.note = "WITH THE vfs DRIVER, which copies whole layers: overlay does not work here"
            print(f"podman {self.note}", file=sys.stderr)

    def podman(self, *args, check=True):
        return run([*self.command, *args], check=check, env=self.env)

    # its own default asks for more than a process may have where that is less than usual
    LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")

    def close(self):
        with contextlib.suppress(Failed):
            self.podman("rm", "-f", "-t", "0", "-a", check=False)
        unmount_below(self.base)
        unmount_below(self.run)
        shutil.rmtree(self.run, ignore_errors=True)


def path_with(folder):
    """An environment in which the programs of this folder come first."""
    return {**os.environ, "PATH": f"{folder}:{os.environ.get('PATH', '/usr/sbin:/usr/bin:/sbin:/bin')}"}
