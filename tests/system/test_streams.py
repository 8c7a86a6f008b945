# SPDX-License-Identifier: Apache-2.0
"""Standard streams of every kind: fds, FIFOs, files, logs, terminals."""

import hashlib
import os
import re
import select
import socket
import struct
import threading
from fcntl import ioctl
from termios import TIOCGWINSZ

import pytest

from lib.daemon import Reader, wait_for
from lib.rootfs import process
from lib.rpc import DEADLINE, Fd, RpcError


def refused(code, call, *args, **params):
    with pytest.raises(RpcError) as error:
        call(*args, **params)
    assert error.value.code == code, error.value
    return error.value


def fifo(davit, name):
    path = davit.base / name
    os.mkfifo(path)
    return str(path)


def read_all(fd):
    data = b""
    while chunk := os.read(fd, 65536):
        data += chunk
    os.close(fd)
    return data


# FIFOs


def test_fifos(davit, rootfs):
    names = {kind: fifo(davit, kind) for kind in ("stdin", "stdout", "stderr")}
    davit.create("c", ["sh", "-c", "while read x; do echo out $x; echo err $x >&2; done"], rootfs, stdio=names)
    assert {kind: davit.status("c")[kind] for kind in names} == names
    davit.call("tasks.start", container_id="c")
    out, err = (os.open(names[kind], os.O_RDONLY) for kind in ("stdout", "stderr"))
    for word in ("one", "two"):  # a writer that comes and goes is no end of file
        with open(names["stdin"], "w") as stdin:
            stdin.write(word + "\n")
    davit.call("tasks.close_io", container_id="c")
    assert davit.call("tasks.wait", container_id="c")["exit_status"] == 0
    assert read_all(out) == b"out one\nout two\n"
    assert read_all(err) == b"err one\nerr two\n"


def test_reader_that_never_comes(davit, rootfs):
    """Neither create nor start waits for it, and the container gets no SIGPIPE."""
    out = fifo(davit, "out")
    davit.launch("c", ["sh", "-c", "echo hello; exit 3"], rootfs, stdio={"stdout": out})
    assert davit.call("tasks.wait", container_id="c")["exit_status"] == 3


def test_reader_that_leaves(davit, rootfs):
    """A client that was there and went is a SIGPIPE, as in any pipeline."""
    out = fifo(davit, "out")
    reader = os.open(out, os.O_RDONLY | os.O_NONBLOCK)
    davit.launch("c", ["sh", "-c", "while :; do echo x || exit 77; sleep 0.01; done"], rootfs, stdio={"stdout": out})
    select.select([reader], [], [], DEADLINE)
    os.close(reader)
    ended = davit.call("tasks.wait", container_id="c")
    assert ended["exit_status"] in (77, 141), ended


def test_late_reader_that_leaves(davit, rootfs):
    out = fifo(davit, "out")
    davit.launch("c", ["sh", "-c", "while :; do echo x || exit 77; sleep 0.01; done"], rootfs, stdio={"stdout": out})
    reader = os.open(out, os.O_RDONLY)
    assert os.read(reader, 1)
    os.close(reader)
    ended = davit.call("tasks.wait", container_id="c")
    assert ended["exit_status"] in (77, 141), ended


def test_a_path_that_is_no_fifo(davit, rootfs):
    (davit.base / "plain").write_text("")
    error = refused("invalid_argument", davit.create, "c", ["true"], rootfs, stdio={"stdout": str(davit.base / "plain")})
    assert "not a FIFO" in error.message
    error = refused("not_found", davit.call, "tasks.create", container_id="c", stdout="/nowhere/fifo")
    assert error.details["path"] == "/nowhere/fifo" and error.details["errname"] == "ENOENT"
    refused("invalid_argument", davit.call, "tasks.create", container_id="c", stdin="log:")
    refused("invalid_argument", davit.call, "tasks.create", container_id="c", stdout="relative")


# files and fds


def test_files(davit, rootfs):
    (davit.base / "in").write_text("typed\n")
    (davit.base / "out").write_text("before\n")
    davit.create("c", ["cat"], rootfs, stdio={"stdin": f"file://{davit.base}/in", "stdout": f"file://{davit.base}/out"})
    davit.call("tasks.start", container_id="c")
    davit.call("tasks.wait", container_id="c")
    assert (davit.base / "out").read_text() == "before\ntyped\n"


def test_a_hundred_megabytes(davit, rootfs):
    out = Reader()
    davit.create("c", ["sh", "-c", "dd if=/dev/urandom bs=1048576 count=100 2>/dev/null | tee /data"], rootfs,
                 stdio={"stdout": Fd(out.write_fd)})
    out.close_write()
    davit.call("tasks.start", container_id="c")
    data = out.bytes(timeout=120)
    assert len(data) == 100 << 20
    with open(rootfs / "data", "rb") as file:
        assert hashlib.sha256(data).digest() == hashlib.file_digest(file, "sha256").digest()
    assert davit.call("tasks.wait", container_id="c")["exit_status"] == 0


def test_no_fd_of_the_daemon_comes_along(davit, rootfs):
    ended, text = davit.run(["sh", "-c", "ls /proc/self/fd"], rootfs)
    assert text.split() == ["0", "1", "2", "3"]  # 3: ls reads the folder
    davit.launch("c", ["sleep", "1000"], rootfs)
    _, text = davit.exec("c", ["ls", "/proc/self/fd"])
    assert text.split() == ["0", "1", "2", "3"]
    _, text = davit.exec("c", ["ls", "/proc/1/fd"])
    assert text.split() == ["0", "1", "2"]


# logs


LINE = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (stdout|stderr) ([FP]) (.*)$")


def test_log(davit, rootfs):
    davit.launch("c", ["sh", "-c", "echo one; echo two >&2; printf three"], rootfs, stdio={"stdout": "log:", "stderr": "log:"})
    davit.call("tasks.wait", container_id="c")
    path = davit.status("c")["stdout"]
    assert path.startswith("log:" + str(davit.root / "logs"))
    path = path[4:]
    wait_for(lambda: os.path.exists(path) and "three" in open(path).read())
    lines = [LINE.match(line).groups() for line in open(path).read().splitlines()]
    assert sorted(lines)[0:2] == [("stderr", "F", "two"), ("stdout", "F", "one")]
    assert [line[2] for line in lines if line[0] == "stdout"] == ["one", "three"]
    assert davit.cli("logs", "c").stdout == "one\nthree\n" or "two" in davit.cli("logs", "c").stdout


def test_log_follow(davit, rootfs):
    davit.launch("c", ["sh", "-c", "for i in 1 2 3 4 5; do echo line $i; sleep 0.1; done"], rootfs, stdio={"stdout": "log:"})
    shown = davit.cli("logs", "-f", "c")
    assert shown.stdout == "".join(f"line {i}\n" for i in range(1, 6)), shown.stderr
    assert shown.returncode == 0
    assert davit.cli("logs", "--tail", "2", "c").stdout == "line 4\nline 5\n"


def test_log_rotation(davit, rootfs):
    davit.create("c", ["sh", "-c", "i=0; while [ $i -lt 3000 ]; do echo 0123456789012345678901234567890123456789; i=$((i+1)); done"],
                 rootfs, stdio={"stdout": "log:", "options": {"log_max_size": 65536}})
    davit.call("tasks.start", container_id="c")
    davit.call("tasks.wait", container_id="c")
    path = davit.status("c")["stdout"][4:]
    wait_for(lambda: os.path.exists(path + ".1") and os.path.exists(path))
    assert os.path.getsize(path) <= 65536 + 200 and os.path.getsize(path + ".1") <= 65536 + 200


# terminals


class Attached:
    def __init__(self, davit, id, **more):
        self.sock, theirs = socket.socketpair()
        davit.call("tasks.attach", container_id=id, stream=Fd(theirs.fileno()), **more)
        theirs.close()
        self.sock.settimeout(DEADLINE)
        self.text = b""

    def expect(self, word):
        while word not in self.text:
            data = self.sock.recv(65536)
            assert data, f"{word!r} did not come: {self.text!r}"
            self.text += data

    def to_end(self):
        while data := self.sock.recv(65536):
            self.text += data
        return self.text


def test_terminal(davit, rootfs):
    davit.create("c", ["sh"], rootfs, stdio={"terminal": True, "width": 101, "height": 33})
    client = Attached(davit, "c")
    davit.call("tasks.start", container_id="c")
    client.sock.sendall(b"stty size; tty; test -t 0 && test -t 1 && test -t 2 && echo is$((40+2))\n")
    client.expect(b"is42")
    assert b"33 101" in client.text
    davit.call("tasks.resize_pty", container_id="c", width=120, height=40)
    client.sock.sendall(b"stty size\n")
    client.expect(b"40 120")
    # another one gets what was shown before, and both what comes
    other = Attached(davit, "c")
    other.expect(b"is42")
    other.sock.sendall(b"echo both$((1+1))\n")
    other.expect(b"both2")
    client.expect(b"both2")
    # a hangup detaches and harms nobody
    other.sock.close()
    client.sock.sendall(b"exit 4\n")
    client.to_end()
    assert davit.call("tasks.wait", container_id="c")["exit_status"] == 4


def test_terminal_size_at_start(davit, rootfs):
    davit.create("c", ["stty", "size"], rootfs, process={"terminal": True, "consoleSize": {"width": 77, "height": 22}})
    client = Attached(davit, "c")
    davit.call("tasks.start", container_id="c")
    assert b"22 77" in client.to_end()


def test_terminal_of_an_exec(davit, rootfs):
    davit.launch("c", ["sleep", "1000"], rootfs)
    refused("failed_precondition", davit.call, "tasks.resize_pty", container_id="c", width=1, height=1)
    davit.call("tasks.exec", container_id="c", exec_id="e", spec=process(["sh", "-c", "stty size; cat"]), terminal=True, width=90, height=30)
    davit.call("tasks.start", container_id="c", exec_id="e")
    client = Attached(davit, "c", exec_id="e")
    client.expect(b"30 90")
    client.sock.sendall(b"back\n")
    client.expect(b"back\r\nback")  # the terminal's echo, and cat's
    davit.call("tasks.close_io", container_id="c", exec_id="e")  # end of file, as ctrl-d
    client.to_end()
    assert davit.call("tasks.wait", container_id="c", exec_id="e")["exit_status"] == 0


def test_terminal_with_fifos(davit, rootfs):
    typed, shown = fifo(davit, "typed"), fifo(davit, "shown")
    davit.create("c", ["sh", "-c", "read x; echo got $x"], rootfs, stdio={"terminal": True, "stdin": typed, "stdout": shown})
    davit.call("tasks.start", container_id="c")
    out = os.open(shown, os.O_RDONLY)
    with open(typed, "w") as stdin:
        stdin.write("word\n")
    text = b""
    while b"got word" not in text:
        select.select([out], [], [], DEADLINE)
        text += os.read(out, 1000)
    os.close(out)
    davit.call("tasks.wait", container_id="c")


def test_terminal_to_log_and_file(davit, rootfs):
    davit.launch("c", ["echo", "logged"], rootfs, stdio={"terminal": True, "stdout": "log:"})
    davit.call("tasks.wait", container_id="c")
    path = davit.status("c")["stdout"][4:]
    wait_for(lambda: os.path.exists(path) and "logged" in open(path).read())
    davit.launch("d", ["echo", "filed"], rootfs, stdio={"terminal": True, "stdout": f"file://{davit.base}/shown"})
    davit.call("tasks.wait", container_id="d")
    wait_for(lambda: (davit.base / "shown").exists() and "filed" in (davit.base / "shown").read_text())


def test_console_socket(davit, rootfs):
    mine, theirs = socket.socketpair()
    davit.create("c", ["sh", "-c", "read x; echo got $x"], rootfs,
                 stdio={"terminal": True, "console": Fd(theirs.fileno()), "width": 66, "height": 11})
    theirs.close()
    _, fds, _, _ = socket.recv_fds(mine, 100, 1)
    master = fds[0]
    assert struct.unpack("HHHH", ioctl(master, TIOCGWINSZ, b"\0" * 8))[:2] == (11, 66)
    davit.call("tasks.start", container_id="c")
    os.write(master, b"word\n")
    text = b""
    while b"got word" not in text:
        text += os.read(master, 1000)
    os.close(master)
    davit.call("tasks.wait", container_id="c")


def test_much_through_a_terminal(davit, rootfs):
    davit.create("c", ["sh", "-c", "seq 1 100000; sleep 0.2"], rootfs, stdio={"terminal": True})
    client = Attached(davit, "c")
    davit.call("tasks.start", container_id="c")
    text = client.to_end().replace(b"\r", b"")
    assert text == b"".join(b"%d\n" % n for n in range(1, 100001))


def test_client_that_does_not_read(davit, rootfs):
    """One attached client that never reads holds up neither the program nor another client."""
    davit.create("c", ["sh", "-c", "seq 1 500000; echo the end"], rootfs, stdio={"terminal": True})
    Attached(davit, "c")
    client = Attached(davit, "c")
    davit.call("tasks.start", container_id="c")
    text = b""
    while data := client.sock.recv(1 << 20):
        text = (text + data)[-100:]
    assert b"the end" in text
    davit.call("tasks.wait", container_id="c")


def test_replay_is_the_last_64_kib(davit, rootfs):
    davit.launch("c", ["sh", "-c", "seq 1 50000; echo ready; read x"], rootfs, stdio={"terminal": True})

    def replayed():
        client = Attached(davit, "c")
        client.sock.setblocking(False)
        try:
            return client.sock.recv(1 << 20)
        except BlockingIOError:
            return b""

    wait_for(lambda: b"ready" in replayed())
    text = replayed()
    assert 60000 < len(text) <= 65536 and text.endswith(b"50000\r\nready\r\n")


def test_attach_without_terminal(davit, rootfs):
    davit.launch("c", ["sleep", "1000"], rootfs)
    mine, theirs = socket.socketpair()
    refused("failed_precondition", davit.call, "tasks.attach", container_id="c", stream=Fd(theirs.fileno()))


def test_many_streams_at_once(davit, rootfs):
    """Twenty containers, each with a pipe that is read late: nothing is lost and nobody waits for another."""
    readers = []
    for n in range(20):
        read_fd, write_fd = os.pipe()
        davit.create(f"c{n}", ["sh", "-c", f"seq 1 20000; echo {n}"], rootfs, stdio={"stdout": Fd(write_fd)})
        os.close(write_fd)
        davit.call("tasks.start", container_id=f"c{n}")
        readers.append(read_fd)
    texts = [None] * 20

    def drain(n):
        texts[n] = read_all(readers[n])

    threads = [threading.Thread(target=drain, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert [text.splitlines()[-1] for text in texts] == [b"%d" % n for n in range(20)]
    assert all(text.count(b"\n") == 20001 for text in texts)


def test_logs_go_with_their_container(davit, rootfs):
    """Also: what two ids together spell is not another container's log."""
    for name in ("a", "a.b"):
        davit.launch(name, ["sh", "-c", f"echo of {name}; sleep 1000"], rootfs, stdio={"stdout": "log:"})
    davit.call("tasks.exec", container_id="a", exec_id="b", spec=process(["echo", "of the exec"]), stdout="log:")
    davit.call("tasks.start", container_id="a", exec_id="b")
    davit.call("tasks.wait", container_id="a", exec_id="b")
    paths = [davit.status("a")["stdout"], davit.status("a.b")["stdout"], davit.status("a", "b")["stdout"]]
    for path, word in zip(paths, ("of a\n", "of a.b\n", "of the exec\n")):
        wait_for(lambda: os.path.exists(path[4:]) and open(path[4:]).read().endswith(word))
        assert len(open(path[4:]).read().splitlines()) == 1
    davit.remove("a")
    wait_for(lambda: not os.path.exists(os.path.dirname(paths[0][4:])))
    assert os.path.exists(paths[1][4:])


def test_size_of_an_exec_that_was_added(davit, rootfs):
    davit.launch("c", ["sleep", "1000"], rootfs)
    davit.call("tasks.exec", container_id="c", exec_id="e", spec=process(["sh", "-c", "stty size; sleep 1000"]), terminal=True)
    davit.call("tasks.resize_pty", container_id="c", exec_id="e", width=111, height=22)
    davit.call("tasks.start", container_id="c", exec_id="e")
    Attached(davit, "c", exec_id="e").expect(b"22 111")


def test_terminals_fifo_ends_with_the_terminal(davit, rootfs):
    """A client that reads to the end of file before it deletes is not left waiting."""
    shown = fifo(davit, "shown")
    davit.create("c", ["echo", "all of it"], rootfs, stdio={"terminal": True, "stdout": shown})
    reader = os.open(shown, os.O_RDONLY)
    davit.call("tasks.start", container_id="c")
    assert read_all(reader) == b"all of it\r\n"
    assert davit.status("c")["status"] in ("running", "stopped")


def test_fifo_after_a_create_that_failed(davit, rootfs):
    """What was opened between the two is no client of the second one."""
    out = fifo(davit, "out")
    with pytest.raises(RpcError):
        davit.create("c", ["/nothing"], rootfs, stdio={"stdout": out})
    os.close(os.open(out, os.O_RDONLY | os.O_NONBLOCK))
    davit.call("containers.delete", id="c")
    davit.launch("c", ["sh", "-c", "sleep 0.3; echo here || exit 7"], rootfs, stdio={"stdout": out})
    reader = os.open(out, os.O_RDONLY)
    assert read_all(reader) == b"here\n"
    assert davit.call("tasks.wait", container_id="c")["exit_status"] == 0
