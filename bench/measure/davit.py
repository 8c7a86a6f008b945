# SPDX-License-Identifier: Apache-2.0
"""A davit daemon of a bench's own, a client of it, and tasks.get at a steady rate beside other work."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from .common import ROOT, SETUP, Failed, end_process, lines

sys.path.insert(0, str(ROOT / "tests/system"))

from lib.rpc import Client, Closed, RpcError  # noqa: E402

PARENT = "/davit-bench"


class Daemon:
    """
    folder    of this daemon: root, state, sock and log
    client    connected
    call(…)   a call; an error of davit's ends the bench with its words
    """

    def __init__(self, bench, folder, *options):
        self.bench, self.folder = bench, folder
        self.binary = bench.binaries / "davit"
        self.socket, self.root, self.state = folder / "sock", folder / "root", folder / "state"
        if not self.binary.exists():
            raise Failed(f"{self.binary} is not built: tools/zig build && tools/zig build bench")
        folder.mkdir(exist_ok=True)
        self.log = open(folder / "log", "w+")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("DAVIT_")}
        criu = ["--criu", str(bench.criu)] if bench.criu else []
        self.process = subprocess.Popen(
            [str(self.binary), "serve", "--root", str(self.root), "--state", str(self.state), "--socket", str(self.socket),
             "--cgroup-parent", PARENT, *criu, *map(str, options)],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=environment, start_new_session=True)
        end = time.monotonic() + 20
        while True:
            try:
                self.client = Client(self.socket)
                self.info = self.client.call("server.info")
                return
            except (OSError, Closed):
                if time.monotonic() > end or self.process.poll() is not None:
                    end_process(self.process)
                    raise Failed("the daemon does not start:\n" + self.said()) from None
                time.sleep(0.02)

    def said(self):
        self.log.seek(0)
        return self.log.read()[-4000:]

    def call(self, method, deadline=900, **params):
        try:
            return self.client.call(method, deadline=deadline, **params)
        except RpcError as e:
            log = "\n".join(e.details.get("log") or [])
            raise Failed(f"{method}: {e.code}: {e.message}\n{log}") from None

    def timed(self, method, **params):
        """(milliseconds, result) by this client's clock."""
        began = time.perf_counter_ns()
        result = self.call(method, **params)
        return (time.perf_counter_ns() - began) / 1e6, result

    def program(self, name, bundle, *args):
        return lines([self.bench.binaries / name, "-s", self.socket, "-b", bundle, *args])

    def start_task(self, name, bundle):
        self.call("containers.create", id=name, bundle=str(bundle))
        self.call("tasks.create", container_id=name)
        return self.call("tasks.start", container_id=name)["pid"]

    def remove(self, name):
        for method, params in (("tasks.delete", {"container_id": name, "kill": True}), ("containers.delete", {"id": name})):
            with contextlib.suppress(RpcError):
                self.client.call(method, **params)

    def reactor(self):
        return self.info["pid"]

    def close(self):
        with contextlib.suppress(RpcError, Closed, OSError):
            self.client.call("server.shutdown", kill=True)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            print("davit did not end in 20 s: killed", file=sys.stderr)
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        with contextlib.suppress(OSError):
            self.client.close()
        self.log.close()


class Latency:
    """tasks.get at a steady rate in a process of its own; what it prints for each window is in `windows`."""

    RATE = 1000

    def __init__(self, daemon):
        self.process = subprocess.Popen(
            [str(daemon.bench.binaries / "latency"), "-s", str(daemon.socket), "-b", str(daemon.bench.bundle_sleep), "-r", str(self.RATE)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.windows = {}
        if not self.process.stdout.readline():
            raise Failed("bench/latency does not start")

    @contextlib.contextmanager
    def window(self, name):
        self.process.stdin.write(f"{name}\n")
        yield
        self.process.stdin.write("-\n")
        line = json.loads(self.process.stdout.readline() or "{}")
        if line.get("name") != name:
            raise Failed(f"bench/latency has ended in the window {name}")
        self.windows[name] = line

    def p99(self, name):
        return self.windows[name]["p99"] if name in self.windows else None

    def close(self):
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def peak_memory(pid, reset=False):
    """KiB: the most that was resident at once; reset begins anew."""
    status = Path(f"/proc/{pid}/status")
    if reset:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))


def need_criu(bench):
    if not bench.criu:
        raise Failed(f"there is no criu that works on this kernel: {SETUP}")
