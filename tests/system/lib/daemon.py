# SPDX-License-Identifier: Apache-2.0
"""A davit daemon of a test's own, in its own root, state folder, socket and parent cgroup."""

import errno
import os
import select
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from . import cli, leaks, rootfs
from .events import Events
from .rpc import DEADLINE, Client, Closed, Fd, RpcError, Timeout

CHECKOUT = rootfs.CHECKOUT

#: The group below its own into which a daemon moves when that one was delegated to it.
LEAF = "davit-daemon"


def binary():
    """The program under test: $DAVIT_BINARY, else what `tools/zig build` has made."""
    return Path(os.environ.get("DAVIT_BINARY") or CHECKOUT / "zig-out/bin/davit")


class Daemon:
    """
    base      folder of this daemon: root, state, sock, log, and whatever the test puts there
    root, state, socket, cgroup_parent, log    what it was started with
    process   the Popen of the guardian that was started last
    rpc       a Client that is connected once the daemon is ready
    env       environment in which the command line finds this daemon
    delegated whether it is started inside its parent cgroup, as systemd's Delegate=yes does ($DAVIT_TEST_DELEGATED)
    """

    def __init__(self, *options, env=None):
        self.snapshot = leaks.Snapshot()
        self.base = Path(tempfile.mkdtemp(prefix="davit-test-"))
        self.name = self.base.name
        self.base.chmod(0o755)  # a container's users may have to reach its rootfs
        self.root, self.state = self.base / "root", self.base / "state"
        self.socket, self.log = self.base / "sock", self.base / "log"
        self.cgroup_parent = "/" + self.name
        self.delegated = bool(os.environ.get("DAVIT_TEST_DELEGATED"))
        self.options = list(options)
        (self.base / "tmp").mkdir()
        self.env = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "TERM": "xterm",
            "LANG": "C.UTF-8",
            "TMPDIR": str(self.base / "tmp"),
            "DAVIT_SOCKET": str(self.socket),
            "DAVIT_AUTOSTART": "0",
            "ASAN_OPTIONS": "detect_leaks=1:handle_abort=1",
            "UBSAN_OPTIONS": "print_stacktrace=1",
            **(env or {}),
        }
        criu = os.environ.get("DAVIT_CRIU") or CHECKOUT / ".tools/criu"
        if Path(criu).exists():
            self.env.setdefault("DAVIT_CRIU", str(criu))
        self.process = None
        self.processes = []  # every Popen that this object made
        self.rpc = None
        self.notifications = []  # sd_notify datagrams, in order
        self.notify = None
        self.cleanups = []
        self._clients = []
        self._names = 0

    # the daemon's life

    def start(self, *more, wait=True):
        """Starts it (again) and, unless wait=False, waits until it says that it is ready."""
        if self.notify is None:
            self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self.notify.bind(str(self.base / "notify"))
        argv = [
            str(binary()), "serve", "--root", str(self.root), "--state", str(self.state),
            "--socket", str(self.socket), "--cgroup-parent", self.cgroup_parent, *self.options, *more,
        ]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                argv, env={**self.env, "NOTIFY_SOCKET": str(self.base / "notify")}, cwd="/",
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=self._join_delegated if self.delegated else None,
            )
        self.processes.append(self.process)
        if wait:
            self.wait_ready()
            self.connect()
        return self

    def _join_delegated(self):
        """In the child: makes the parent cgroup as systemd does that of a unit, and joins it."""
        folder = "/sys/fs/cgroup" + self.cgroup_parent
        os.makedirs(folder, exist_ok=True)
        os.setxattr(folder, "trusted.delegate", b"1")
        try:
            Path(folder, "cgroup.procs").write_text("0")
        except OSError as error:
            # It hands controllers down: an earlier daemon was here (systemd's DelegateSubgroup=).
            if error.errno != errno.EBUSY:
                raise
            Path(folder, LEAF, "cgroup.procs").write_text("0")

    def wait_notify(self, text, timeout=DEADLINE, process=None):
        """Waits for the next sd_notify message that has this line beginning, "READY=1" or "MAINPID="."""
        pidfd = os.pidfd_open(process.pid) if process and process.poll() is None else -1
        end = time.monotonic() + timeout
        try:
            while True:
                watched = [self.notify] + ([pidfd] if pidfd >= 0 else [])
                readable, _, _ = select.select(watched, [], [], max(0.0, end - time.monotonic()))
                if self.notify in readable:
                    message = self.notify.recv(4096).decode()
                    self.notifications.append(message)
                    if any(line.startswith(text) for line in message.splitlines()):
                        return message
                elif readable or (process and process.poll() is not None):
                    raise AssertionError(f"the daemon ended with {process.wait()}:\n{self.log_text()}")
                if time.monotonic() >= end:
                    raise Timeout(f"no {text} within {timeout} s:\n{self.log_text()}")
        finally:
            if pidfd >= 0:
                os.close(pidfd)

    def wait_ready(self, timeout=DEADLINE):
        return self.wait_notify("READY=1", timeout, self.process)

    def connect(self):
        """Makes `rpc` anew."""
        if self.rpc:
            self.rpc.close()
        self.rpc = Client(self.socket)
        return self.rpc

    def client(self, **options):
        """Another connection, closed at the end of the test."""
        made = Client(self.socket, **options)
        self._clients.append(made)
        return made

    @property
    def info(self):
        """server.info: has `pid` (the reactor) and `guardian_pid`."""
        return self.call("server.info")

    def stop(self, timeout=DEADLINE):
        """Ends the daemon by SIGTERM and leaves its containers running; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def kill_reactor(self):
        """kill -9 of the reactor, as a crash does, and waits until the next one is ready."""
        os.kill(self.info["pid"], signal.SIGKILL)
        self.reconnect()

    def reconnect(self, timeout=DEADLINE):
        """Waits until the daemon answers on a new connection."""
        end = time.monotonic() + timeout
        while True:
            try:
                self.connect().call("version", deadline=max(0.1, end - time.monotonic()))
                return self.rpc
            except (OSError, Closed):
                if time.monotonic() > end:
                    raise
                time.sleep(0.005)

    def pids(self):
        """Pids of all of this daemon's own processes."""
        return leaks.processes_with(str(self.state))


    def fd_count(self, pid=None):
        """Open fds of the reactor."""
        return len(os.listdir(f"/proc/{pid or self.info['pid']}/fd"))

    def log_text(self):
        try:
            return self.log.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def close(self):
        """Ends the daemon and all that is in it; returns what is wrong then, as sentences."""
        wrong = []
        ran = self.process is not None and bool(self.pids())
        if ran:
            try:
                with Client(self.socket) as client:
                    client.send("server.shutdown", kill=True).result(20)
            except Closed:
                pass  # it may be gone before its answer is
            except (OSError, Timeout, RpcError) as error:
                wrong.append(f"server.shutdown failed: {error!r}")
            if leaks.wait_gone(self.pids(), 20 if not wrong else 1):
                wrong.append("the daemon does not end")
                leaks.kill_all(self.pids())
        for client in [*self._clients, *([self.rpc] if self.rpc else [])]:
            client.close()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for undo in reversed(self.cleanups):
            undo()
        if self.notify:
            self.notify.close()
        wrong += self.snapshot.leaks(self.base, self.cgroup_parent)
        text = self.last_log = self.log_text()
        for sign in ("AddressSanitizer", "LeakSanitizer", "runtime error:", "assertion", "Assertion", "panic"):
            if sign in text:
                wrong.append(f"the daemon's log has {sign!r}")
        subprocess.run(["rm", "-rf", "--one-file-system", str(self.base)], check=False)
        return wrong

    # calls

    def call(self, method, **params):
        return self.rpc.call(method, **params)

    def send(self, method, **params):
        return self.rpc.send(method, **params)

    def events(self, **params):
        """A subscription on a connection of its own (lib.events.Events). Use it in a with statement."""
        made = Events(self.socket, **params)
        self._clients.append(made)
        return made

    # containers

    def unique(self, prefix="c"):
        self._names += 1
        return f"{prefix}{self._names}"

    def create(self, id, args, root, /, *, namespace=None, container=None, stdio=None, **changes):
        """containers.create and tasks.create: returns the pid of the waiting init.

        changes    to the spec (lib.rootfs.spec)
        container  further arguments of containers.create
        stdio      stdin, stdout, stderr, terminal, … of tasks.create
        """
        more = {"namespace": namespace} if namespace else {}
        self.call("containers.create", id=id, spec=rootfs.spec(args, root, **changes), **(container or {}), **more)
        return self.call("tasks.create", container_id=id, **(stdio or {}), **more)["pid"]

    def launch(self, id, args, root, /, **more):
        """create and tasks.start: the container runs. Returns the pid."""
        self.create(id, args, root, **more)
        namespace = {"namespace": more["namespace"]} if more.get("namespace") else {}
        return self.call("tasks.start", container_id=id, **namespace)["pid"]

    def run(self, args, root, /, *, id=None, input=None, remove=True, **more):
        """The whole life of a container. Returns (exit answer of tasks.wait, stdout and stderr as text)."""
        id = id or self.unique()
        namespace = {"namespace": more["namespace"]} if more.get("namespace") else {}
        out = Reader()
        stdin_read, stdin_write = os.pipe() if input is not None else (-1, -1)
        stdio = {"stdout": Fd(out.write_fd), "stderr": Fd(out.write_fd)}
        if input is not None:
            stdio["stdin"] = Fd(stdin_read)
        try:
            self.create(id, args, root, stdio=stdio, **more)
            out.close_write()
            if input is not None:
                threading.Thread(target=_feed, args=(stdin_write, input), daemon=True).start()
                stdin_write = -1  # the thread closes it: that is the end of file
            waiting = self.send("tasks.wait", container_id=id, **namespace)
            self.call("tasks.start", container_id=id, **namespace)
            ended = waiting.result()
        finally:
            out.close_write()
            for fd in (stdin_read, stdin_write):
                if fd >= 0:
                    os.close(fd)
        text = out.text()
        if remove:
            self.remove(id, namespace=more.get("namespace"))
        return ended, text

    def exec(self, id, args, *, exec_id=None, namespace=None, **changes):
        """A whole exec: (answer of tasks.wait, its output)."""
        exec_id = exec_id or self.unique("e")
        more = {"namespace": namespace} if namespace else {}
        out = Reader()
        try:
            self.call(
                "tasks.exec", container_id=id, exec_id=exec_id, spec=rootfs.process(args, **changes),
                stdout=Fd(out.write_fd), stderr=Fd(out.write_fd), **more,
            )
        finally:
            out.close_write()
        self.call("tasks.start", container_id=id, exec_id=exec_id, **more)
        ended = self.call("tasks.wait", container_id=id, exec_id=exec_id, **more)
        self.call("tasks.delete_process", container_id=id, exec_id=exec_id, **more)
        return ended, out.text()

    def remove(self, id, namespace=None, kill=True):
        """Deletes task (killed unless kill=False) and container; returns the task's exit answer or None."""
        more = {"namespace": namespace} if namespace else {}
        ended = None
        try:
            ended = self.call("tasks.delete", container_id=id, kill=kill, **more)
        except RpcError as error:
            if error.code != "not_found":
                raise
        self.call("containers.delete", id=id, **more)
        return ended

    def status(self, id, exec_id=None, namespace=None):
        """tasks.get's process."""
        more = {"namespace": namespace} if namespace else {}
        if exec_id:
            more["exec_id"] = exec_id
        return self.call("tasks.get", container_id=id, **more)["process"]

    def overlay(self, lower):
        """A writable overlay over a root file system, unmounted when the daemon has ended."""
        point = rootfs.overlay(lower, self.base / self.unique("overlay"))
        self.cleanups.append(lambda: subprocess.run(["umount", "-l", str(point)], check=False))
        return point

    # the command line

    def cli(self, *args, **more):
        """Runs `davit ARGS…` against this daemon: a CompletedProcess (lib.cli.run)."""
        env = {**self.env, **more.pop("env", {})}
        return cli.run([binary(), *args], env, **more)

    def terminal(self, *args, width=80, height=24, env=None):
        """`davit ARGS…` on a terminal (lib.cli.Terminal). Use it in a with statement."""
        return cli.Terminal([binary(), *args], {**self.env, **(env or {})}, width, height)


class Reader:
    """A pipe that a thread drains, so that no writer ever waits for the test."""

    def __init__(self):
        self.read_fd, self.write_fd = os.pipe()
        self.data = bytearray()  # so that adding to it does not copy all of it
        self.thread = threading.Thread(target=self._drain, daemon=True)
        self.thread.start()

    def _drain(self):
        while chunk := os.read(self.read_fd, 65536):
            self.data += chunk

    def close_write(self):
        if self.write_fd >= 0:
            os.close(self.write_fd)
            self.write_fd = -1

    def bytes(self, timeout=DEADLINE):
        """All output, once every writer has closed its end."""
        self.close_write()
        self.thread.join(timeout)
        if self.thread.is_alive():
            raise Timeout(f"somebody still holds the pipe open; so far: {self.data[-2000:]!r}")
        if self.read_fd >= 0:
            os.close(self.read_fd)
            self.read_fd = -1
        return bytes(self.data)

    def text(self, timeout=DEADLINE):
        return self.bytes(timeout).decode(errors="replace")


def _feed(fd, data):
    try:
        view = memoryview(data.encode() if isinstance(data, str) else data)
        while view:
            view = view[os.write(fd, view):]
    except BrokenPipeError:
        pass
    finally:
        os.close(fd)


def wait_for(predicate, timeout=DEADLINE, what="the condition"):
    """Polls, for what no event tells. Returns predicate's first true value."""
    end = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            raise Timeout(f"{what} did not hold within {timeout} s")
        time.sleep(0.01)
