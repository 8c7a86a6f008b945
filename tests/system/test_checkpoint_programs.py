# SPDX-License-Identifier: Apache-2.0
"""Programs of Debian, checkpointed while they work and restored under another id: nothing that was acknowledged is lost.

Whoever writes counts the answers that have come. What was checkpointed is frozen at one moment, so each counter in the
restored program is what was acknowledged, or one more: the write whose answer was still on its way."""

import contextlib
import ctypes
import json
import os
import re
import socket
import subprocess
import threading

import pytest

from lib.checkpoints import criu_version, kernel_version, nothing_left
from lib.daemon import Reader, wait_for
from lib.moves import Moves
from lib.restore_rounds import Rounds, build_task
from lib.rootfs import debian_programs, program
from lib.rpc import DEADLINE, Fd

ADDRESS = ("10.9.8.7", 6379)
REDIS = ["redis-server", "--bind", ADDRESS[0], "--protected-mode", "no", "--dir", "/srv", "--save", "",
         "--logfile", "log", "--appendonly", "yes", "--appendfsync", "always"]
ENV = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/root"]


@pytest.fixture(scope="session")
def programs(tmp_path_factory):
    if not program("debootstrap"):
        pytest.skip("debootstrap is not installed")
    return debian_programs(tmp_path_factory.mktemp("programs") / "root")


@pytest.fixture
def moves(davit, criu, programs):
    if kernel_version() >= (6, 16) and criu_version(criu) < (4, 2):
        pytest.skip("criu older than 4.2 cannot dump internet sockets on this kernel (6.16 or newer)")
    davit.call("images.from_dir", path=str(programs), name="programs")
    return Moves(davit, "programs", process={"env": ENV})


# redis


def network(pid):
    """An address on a pair of devices of the container's own."""
    for line in ("link set lo up", "link add eth0 type veth peer name eth1", f"addr add {ADDRESS[0]}/24 dev eth0",
                 "link set eth0 up", "link set eth1 up"):
        subprocess.run(["nsenter", "-t", str(pid), "-n", "ip", *line.split()], check=True)


class Redis:
    """A connection in the network of a process."""

    def __init__(self, pid):
        # a thread, since it enters the namespace
        self.sock, self.reason = None, OSError("no socket")
        thread = threading.Thread(target=self._connect, args=(pid,))
        thread.start()
        thread.join()
        if not self.sock:
            raise self.reason
        self.file = self.sock.makefile("rb")

    def _connect(self, pid):
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            with open(f"/proc/{pid}/ns/net") as net:
                if libc.setns(net.fileno(), 0x40000000):  # CLONE_NEWNET
                    raise OSError(ctypes.get_errno(), "setns")
            self.sock = socket.create_connection(ADDRESS, DEADLINE)
        except OSError as error:
            self.reason = error

    def ask(self, *words):
        """The answer, an int, or a str, also of an error; None when the connection has ended."""
        parts = [str(word).encode() for word in words]
        try:
            self.sock.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
            line = self.file.readline()
            if not line.endswith(b"\r\n"):
                return None
            if line[:1] == b"$":
                return self.file.read(int(line[1:]) + 2)[:-2].decode()
        except OSError:
            return None
        return int(line[1:]) if line[:1] == b":" else line.decode().strip().removeprefix("+")

    def close(self):
        self.file.close()
        self.sock.close()


class Writers:
    """Clients that write as fast as they are answered.

    acked   what each was answered last
    wrong   answers other than the next number
    """

    def __init__(self, pid, begin=(0, 0, 0)):
        self.acked, self.wrong = list(begin), []
        self.clients = [Redis(pid) for _ in begin]
        self.threads = [threading.Thread(target=self._write, args=(i,), daemon=True) for i in range(len(begin))]
        for thread in self.threads:
            thread.start()

    def _write(self, i):
        while (answer := self.clients[i].ask("INCR", f"counter{i}")) is not None:
            if answer != self.acked[i] + 1:
                self.wrong.append((i, self.acked[i], answer))
                break
            self.acked[i] = answer
            if self.clients[i].ask("SET", f"last{i}", answer) != "OK":
                break

    def further(self, by=100):
        """Waits until each was answered so many times more; what was acknowledged."""
        first = list(self.acked)
        wait_for(lambda: self.wrong or all(now >= before + by for now, before in zip(self.acked, first)), what="answers")
        assert not self.wrong
        return list(self.acked)

    def end(self):
        """All that was ever acknowledged."""
        for client in self.clients:
            with contextlib.suppress(OSError):  # ENOTCONN, when the other side has gone
                client.sock.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(DEADLINE)
            assert not thread.is_alive()
        for client in self.clients:
            client.close()
        assert not self.wrong
        return list(self.acked)


def ready(pid):
    """A connection, when redis takes one."""
    def connected():
        try:
            client = Redis(pid)
        except ConnectionRefusedError:
            return None
        if client.ask("PING") == "PONG":  # and not that it loads
            return client
        client.close()
        return None
    client = wait_for(connected, what="redis")
    client.close()


def counters(pid):
    client = Redis(pid)
    found = [int(client.ask("GET", f"counter{i}")) for i in range(3)]
    last = [int(client.ask("GET", f"last{i}")) for i in range(3)]
    assert all(n - 1 <= at <= n for n, at in zip(found, last)), (found, last)
    assert "aof_last_write_status:ok" in client.ask("INFO", "persistence")
    client.close()
    return found


def increments(folder):
    """How often each counter is raised in the files that redis appends to."""
    text = b"".join(path.read_bytes() for path in sorted((folder / "srv/appendonlydir").glob("*.incr.aof")))
    return [len(re.findall(rb"INCR\r\n\$8\r\ncounter%d\r\n" % i, text)) for i in range(3)]


def between(low, found, high):
    assert all(a <= b <= c for a, b, c in zip(low, found, high)), (low, found, high)


@pytest.mark.parametrize("exit", [True, False], ids=["exit", "leave_running"])
def test_redis(davit, moves, exit):
    pid = moves.begin("redis", REDIS, before=network)
    ready(pid)
    writers = Writers(pid)
    low = writers.further()
    made = moves.checkpoint("redis", exit=exit, open_tcp=True)
    if exit:
        low = high = writers.end()
    else:
        high = writers.further()  # on the same connections
    on_disk = []
    moves.copy("other", made, REDIS, look=lambda folder: on_disk.extend(increments(folder)))
    pid = moves.restore("other", made, beside="redis", tcp_close=exit)
    assert moves.removed["exit_status"] == 137
    if not exit:
        writers.end()
    found = counters(pid)
    between(low, found, [n + 1 for n in high])
    # what redis has answered it had appended before; the files are of the same moment as the memory
    between(low, on_disk, found)

    writers = Writers(pid, found)
    writers.further()
    last = writers.end()
    found = counters(pid)
    between(last, found, [n + 1 for n in last])
    davit.call("tasks.kill", container_id="other", signal="SIGTERM")
    assert davit.call("tasks.wait", container_id="other")["exit_status"] == 0
    davit.call("tasks.delete", container_id="other")
    # and a redis that knows nothing but those files
    pid = moves.again("other", before=network)
    ready(pid)
    assert counters(pid) == found
    davit.call("tasks.delete", container_id="other", kill=True)
    nothing_left(davit, ["redis", "other"])


#: Clients of a redis in the same container. They never connect twice; at each line of its input it says how far they are.
CLIENTS = """
import json, os, socket, sys, threading, time
host, port, redis = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
if os.fork() == 0:
    os.execvp(redis[0], redis)
done, wrong = [0] * 4, []
def connect():
    while True:
        try:
            return socket.create_connection((host, port))
        except ConnectionRefusedError:
            time.sleep(0.01)
def write(i):
    sock = connect()
    file = sock.makefile("rb")
    try:
        while True:
            sock.sendall(b"INCR counter%d\\r\\n" % i)
            if (answer := file.readline()) != b":%d\\r\\n" % (done[i] + 1):
                raise ValueError((i, done[i], answer))
            done[i] += 1
    except Exception as error:
        wrong.append(repr(error))
for i in range(len(done)):
    threading.Thread(target=write, args=(i,), daemon=True).start()
for line in sys.stdin:
    print(json.dumps({"done": done, "wrong": wrong}), flush=True)
"""


def test_redis_and_its_clients(davit, moves):
    """Connections between the processes of a container stay, through two restores."""
    out, (stdin, to) = Reader(), os.pipe()
    stdio, asked = {"stdin": Fd(stdin), "stdout": Fd(out.write_fd)}, 0

    def answers():
        """The next line that the clients say."""
        nonlocal asked
        os.write(to, b"\n")
        asked += 1
        wait_for(lambda: out.data.count(b"\n") >= asked, what="an answer")
        said = json.loads(out.data.splitlines()[asked - 1])
        assert not said["wrong"]
        return said["done"]

    def further(since, by=100):
        return wait_for(lambda: (now := answers()) and all(a >= b + by for a, b in zip(now, since)) and now, what="more answers")

    moves.begin("a", ["python3", "-c", CLIENTS, *map(str, ADDRESS), *REDIS], before=network, **stdio)
    at = further([0] * 4)
    for before, after in (("a", "b"), ("b", "c")):
        made = moves.checkpoint(before, exit=True, open_tcp=True)
        moves.copy(after, made)
        pid = moves.restore(after, made, beside=before, stdio=stdio)
        at = further(at)
    client = Redis(pid)
    between(at, [int(client.ask("GET", f"counter{i}")) for i in range(4)], further(at))
    client.close()
    davit.call("tasks.delete", container_id="c", kill=True)
    out.bytes()
    os.close(stdin)
    os.close(to)
    nothing_left(davit, ["a", "b", "c"])


# a program on a terminal

#: Threads, an epoll loop, a listening and established TCP sockets, a UNIX pair, a timer, and a terminal. Each line
#: "op N" must be the next number and is acknowledged; "report" says how far everything is.
PROGRAM = """
import hashlib, json, select, signal, socket, struct, sys, termios, threading
wrong, ticks, ops = [], 0, 0
mode = termios.tcgetattr(0)
mode[3] &= ~termios.ECHO
termios.tcsetattr(0, termios.TCSANOW, mode)

def tick(*_):
    global ticks
    ticks += 1
signal.signal(signal.SIGALRM, tick)
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)

def guarded(run, *args):
    def body():
        try:
            run(*args)
        except Exception as error:
            wrong.append(f"{run.__name__}: {error!r}")
    threading.Thread(target=body, daemon=True).start()

listening = socket.create_server(("127.0.0.1", 4000))
left, right = socket.socketpair()
served = {}

# answers each number with the next, if it is the one that must come on that connection
def serve():
    epoll, socks = select.epoll(), {}
    def add(sock):
        socks[sock.fileno()] = sock
        epoll.register(sock.fileno(), select.EPOLLIN)
    add(listening)
    add(right)
    while True:
        for fd, _ in epoll.poll():
            if fd == listening.fileno():
                add(listening.accept()[0])
                continue
            number, = struct.unpack("<Q", socks[fd].recv(8, socket.MSG_WAITALL))
            if number != served.get(fd, 0):
                raise ValueError((fd, number, served))
            served[fd] = number + 1
            socks[fd].sendall(struct.pack("<Q", number + 1))

done, sums = [0] * 3, [hashlib.sha256() for _ in range(3)]
def client(i, sock):
    while True:
        sock.sendall(struct.pack("<Q", done[i]))
        answer, = struct.unpack("<Q", sock.recv(8, socket.MSG_WAITALL))
        if answer != done[i] + 1:
            raise ValueError((i, done[i], answer))
        sums[i].update(b"%d " % answer)
        done[i] = answer

guarded(serve)
for i in range(2):
    guarded(client, i, socket.create_connection(("127.0.0.1", 4000)))
guarded(client, 2, left)
print("ready", flush=True)
for line in sys.stdin:
    word, *rest = line.split()
    if word == "op":
        if int(rest[0]) != ops + 1:
            wrong.append(f"op {rest} after {ops}")
        ops += 1
        print("ack", ops, flush=True)
    elif word == "report":
        print("report", json.dumps({"ops": ops, "done": list(done), "ticks": ticks, "wrong": wrong,
            "threads": threading.active_count()}), flush=True)
    elif word == "end":
        print("ended", flush=True)
        break
"""


class Typist:
    """Types operations on a container's terminal, the next when the one before is acknowledged. It counts from `acked`."""

    def __init__(self, davit, id, acked):
        self.acked, self.wrong = acked, []
        self.sock, theirs = socket.socketpair()
        davit.call("tasks.attach", container_id=id, stream=Fd(theirs.fileno()))
        theirs.close()
        self.sock.settimeout(DEADLINE)
        self.file = self.sock.makefile("rb")

    def ask(self, text):
        """The rest of the next line that begins with such a word; None when the terminal has hung up."""
        word = {"op": b"ack ", "report": b"report ", "end": b"ended"}[text.split()[0]]
        try:
            self.sock.sendall(text.encode() + b"\n")
            while line := self.file.readline():
                if line.startswith(word):
                    return line[len(word):].decode()
        except ConnectionError:
            pass
        return None

    def report(self):
        said = json.loads(self.ask("report"))
        assert said["wrong"] == [] and said["threads"] == 5, said
        return said

    def type(self):
        """From now on, in a thread."""
        def run():
            while (answer := self.ask(f"op {self.acked + 1}")) is not None:
                if int(answer) != self.acked + 1:
                    self.wrong.append((self.acked, answer))
                    return
                self.acked += 1
        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def further(self, by=100):
        first = self.acked
        wait_for(lambda: self.wrong or self.acked >= first + by, what="acknowledgements")
        assert not self.wrong

    def end(self):
        """Of the typing, when the terminal hangs up."""
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive() and not self.wrong
        self.file.close()
        self.sock.close()
        return self.acked


def test_python_on_a_terminal(davit, moves):
    terminal = {"terminal": True, "width": 80, "height": 25}
    moves.begin("a", ["python3", "-c", PROGRAM], **terminal)
    typist = Typist(davit, "a", 0)
    while b"ready" not in typist.file.readline():
        continue
    before = typist.report()
    for old, new in (("a", "b"), ("b", "c")):
        typist.type()
        typist.further()
        made = moves.checkpoint(old, exit=True, open_tcp=True)
        acked = typist.end()
        moves.copy(new, made)
        moves.restore(new, made, beside=old, stdio=terminal)
        typist = Typist(davit, new, acked)
        after = typist.report()
        assert after["ops"] - acked in (0, 1)
        assert all(now >= then for now, then in zip(after["done"], before["done"])) and after["ticks"] >= before["ticks"], (before, after)
        typist.acked = after["ops"]
        # all of it goes on: each thread, the epoll, the timer
        before = wait_for(lambda: (said := typist.report()) and said["ticks"] > after["ticks"] and
                          all(now > then for now, then in zip(said["done"], after["done"])) and said, what="all going on")
    assert typist.ask("end") is not None
    assert davit.call("tasks.wait", container_id="c")["exit_status"] == 0
    typist.file.close()
    typist.sock.close()
    davit.call("tasks.delete", container_id="c")
    nothing_left(davit, ["a", "b", "c"])


# again and again


def test_rounds(davit, busybox, criu, tmp_path):
    """tools/soak-restore has the long form."""
    rounds = Rounds(davit, busybox, build_task(tmp_path / "digest"))
    try:
        rounds.run(12, warm=4)
        rounds.end()
    finally:
        rounds.close()
    nothing_left(davit, ["task0", "task1"])
