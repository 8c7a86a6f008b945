# SPDX-License-Identifier: Apache-2.0
"""What a container can hold, through a checkpoint with real criu and back.

Most of it is done by the zoo (kit/zoo.c): each of its kinds sets something up, and compares after the restore."""

import fcntl
import os
import socket
import struct
import subprocess
import termios

import pytest

from lib import leaks
from lib.checkpoints import COUNT, criu_version, kernel_version, may_raise_limits, nothing_left, ps
from lib.daemon import Reader, wait_for
from lib.rootfs import spec
from lib.rpc import DEADLINE, Fd, RpcError

#: Mount table of a container without what differs from run to run.
TABLE = "cut -d' ' -f4- /proc/self/mountinfo | sed 's/ shared:[0-9]*//; s/ master:[0-9]*//; s/ - / /' | awk '{print $2, $3}' | sort"


def base_mounts():
    return spec(["true"])["mounts"]


@pytest.fixture
def inet(criu):
    if kernel_version() >= (6, 16) and criu_version(criu) < (4, 2):
        pytest.skip("criu older than 4.2 cannot dump internet sockets on this kernel (6.16 or newer)")


def refused(zoo, code="failed_precondition", **options):
    """The message of a checkpoint that fails; the task runs on as it was, and nothing is left of the try."""
    with pytest.raises(RpcError) as error:
        zoo.checkpoint(exit=True, **options)
    assert error.value.code == code, error.value
    assert zoo.davit.status(zoo.id)["status"] == "running"
    nothing_left(zoo.davit)
    return error.value.message


def there_and_back(zoo, checkpoint={}, restore={}):
    """Checkpointed with exit, restored, checkpointed again while it runs on, restored from that, and asked."""
    zoo.back(zoo.away(**checkpoint)["image"], **restore)
    again = zoo.away(**checkpoint)["image"]
    zoo.back(again, **restore)
    zoo.all_ok()


@pytest.mark.parametrize("kinds", [
    ["tree", "threads", "timers", "signals", "status", "seccomp", "times", "pidfd"],
    ["shm", "sysv", "maps"],
    ["epoll", "inotify", "pipes", "files", "deleted", "netlink"],
    ["unix", "inflight"],
], ids=["processes", "memory", "files", "unix"])
def test_kinds(zoo, kinds):
    there_and_back(zoo(*kinds))


@pytest.mark.parametrize("kind,option,word", [
    ("locks", "file_locks", "file locks"),
    ("linked", "link_remap", "deleted but has other names"),
])
def test_needs_an_option(zoo, kind, option, word):
    made = zoo(kind)
    assert f"give the option {option}" in (message := refused(made)) and word in message
    there_and_back(made, {option: True})


def test_links_of_one_that_runs_on(zoo, tmp_path):
    """criu takes back the names that it gives to deleted files: a checkpoint without them could never be restored."""
    made = zoo("linked")
    for options in ({}, {"image_path": str(tmp_path / "images")}):
        with pytest.raises(RpcError) as error:
            made.checkpoint(link_remap=True, **options)
        assert error.value.code == "failed_precondition" and "link_remap" in error.value.message and "option exit" in error.value.message
    assert not (tmp_path / "images").exists()
    made.all_ok()


def test_ids_of_another_user(zoo, davit):
    made = zoo("ids", "status", process={"user": {"uid": 0, "gid": 0, "additionalGids": [5, 7], "umask": 0o27}})
    if may_raise_limits():
        there_and_back(made)
    else:
        assert "CAP_SYS_RESOURCE" in refused(made)
        made.all_ok()


def test_user_and_groups_of_the_spec(zoo):
    if not may_raise_limits():
        pytest.skip("criu cannot dump processes of other users here: it has no CAP_SYS_RESOURCE")
    made = zoo("status", process={
        "user": {"uid": 1000, "gid": 1001, "additionalGids": [5, 7], "umask": 0o27}, "oomScoreAdj": 123,
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 512, "soft": 256}, {"type": "RLIMIT_CORE", "hard": 0, "soft": 0}]})
    there_and_back(made)


def test_attributes_of_the_process(zoo):
    made = zoo("status", process={
        "user": {"uid": 0, "gid": 0, "additionalGids": [5, 7]}, "oomScoreAdj": 123, "cwd": "/var",
        "env": ["PATH=/bin", "A=b c", "EMPTY="],
        "capabilities": {kind: ["CAP_KILL", "CAP_CHOWN"] for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")},
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 512, "soft": 256}, {"type": "RLIMIT_CORE", "hard": 0, "soft": 0}]})
    there_and_back(made)


# what criu cannot do is said in words

def test_io_uring_is_refused(zoo):
    made = zoo("uring")
    if b"no io_uring" in made.out.data:
        pytest.skip(made.out.data.decode().splitlines()[0])
    assert "uses io_uring" in refused(made)
    made.all_ok()


def test_message_queue_is_refused(zoo):
    made = zoo("mqueue")
    assert "POSIX message queue" in refused(made)
    made.all_ok()


# the internet

def test_listening_and_datagrams(zoo, inet):
    there_and_back(zoo("listen", "udp"))


def test_tcp_needs_open_tcp(zoo, inet):
    made = zoo("tcp")
    assert "give the option open_tcp" in refused(made)
    there_and_back(made, {"open_tcp": True})


def test_tcp_close(zoo, inet):
    made = zoo("tcpgone", "listen")
    made.back(made.away(open_tcp=True)["image"], tcp_close=True)
    made.all_ok()


# mounts


def test_read_only_root_masks_and_binds(davit, zoo, rootfs):
    """Also submounts, single files, and a volume that has another source when it is restored."""
    outer, ro, other = davit.base / "outer", davit.base / "ro", davit.base / "other"
    for folder in (outer, ro, other):
        folder.mkdir()
    (outer / "sub").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "sub", outer / "sub"], check=True)
    davit.cleanups.append(lambda: subprocess.run(["umount", "-l", outer / "sub"], check=True))
    (outer / "a").write_text("outer")
    (outer / "sub/b").write_text("inner")
    (ro / "c").write_text("read-only")
    (other / "c").write_text("another")
    file = davit.base / "file"
    file.write_text("single")
    for name in ("outer", "ro"):
        (rootfs / name).mkdir()
    (rootfs / "tmp/x").touch()
    mounts = base_mounts() + [
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["size=4m"]},
        {"destination": "/outer", "type": "bind", "source": str(outer), "options": ["rbind", "rw"]},
        {"destination": "/ro", "type": "bind", "source": str(ro), "options": ["bind", "ro"]},
        {"destination": "/etc/passwd", "type": "bind", "source": str(file), "options": ["bind", "ro"]},
    ]
    look = ("cat /outer/a /outer/sub/b /ro/c /etc/passwd; for i in / /ro /etc/passwd /proc/sys/kernel/hostname /proc/acpi/x; do "
            "(echo x > $i/x || echo x > $i) 2>/dev/null && echo writable $i; done; echo w > /outer/w && echo w > /outer/sub/w && echo done; "
            "head -c 1 /proc/kcore; ls /proc/acpi /sys/firmware")
    made = zoo("files", "deleted", root=rootfs, mounts=mounts, root_={"readonly": True})
    before = davit.exec("zoo", ["sh", "-c", look])[1]
    table = davit.exec("zoo", ["sh", "-c", TABLE])[1]
    assert before.startswith("outerinnerread-onlysingle") and "writable" not in before and "done" in before
    image = made.away()["image"]
    made.back(image)
    assert davit.exec("zoo", ["sh", "-c", look])[1] == before
    assert davit.exec("zoo", ["sh", "-c", TABLE])[1] == table
    image = made.away()["image"]
    made.back(image, external_mounts={"/ro": str(other)})
    assert davit.exec("zoo", ["sh", "-c", look])[1] == before.replace("read-only", "another")
    made.all_ok()


# streams

#: Says a line every moment, from a variable in its memory, and repeats what it reads.
ECHO = ["sh", "-c", "while read line; do echo got $line; done; echo end of input"]


def fifo(davit, name):
    os.mkfifo(path := davit.base / name)
    return str(path)


def numbers(text):
    """That they rise by one, from one, without a hole."""
    found = [int(line) for line in text.split()]
    assert found == list(range(1, len(found) + 1))
    return len(found)


def counted(rootfs, more_than=3):
    """Waits until COUNT has come further than this; where it is."""
    def at():
        try:
            number = int((rootfs / "tmp/count").read_text() or 0)
        except FileNotFoundError:
            return 0
        return number if number > more_than else 0
    return wait_for(at, what="the count")


def move(davit, id="c", options={}, restore={}, **stdio):
    """Checkpointed with exit, and restored into the same container with these streams."""
    image = davit.call("tasks.checkpoint", container_id=id, options={"exit": True, **options})["image"]
    davit.call("tasks.wait", container_id=id)
    davit.call("tasks.delete", container_id=id)
    davit.call("tasks.create", container_id=id, checkpoint=image, options=restore, **stdio)
    davit.call("tasks.start", container_id=id)
    return image


def test_log(davit, rootfs, criu):
    """Not a line is lost or comes twice, over two restores."""
    davit.launch("c", COUNT, rootfs, stdio={"stdout": "log:", "stderr": "log:"})
    at = 0
    for _ in range(2):
        at = counted(rootfs, at + 3)
        move(davit, stdout="log:", stderr="log:")
    at = counted(rootfs, at + 3)
    davit.call("tasks.kill", container_id="c", signal="SIGKILL")
    davit.call("tasks.wait", container_id="c")
    assert numbers(davit.cli("logs", "c").stdout) >= at


def test_files_as_streams(davit, rootfs, criu):
    (davit.base / "in").write_text("one\ntwo\n")
    davit.launch("c", COUNT, rootfs, stdio={"stdout": f"file://{davit.base}/first"})
    wait_for(lambda: (davit.base / "first").read_text().count("\n") > 3, what="the count")
    move(davit, stdout=f"file://{davit.base}/second")
    wait_for(lambda: (davit.base / "second").exists() and (davit.base / "second").read_text().count("\n") > 3, what="the count goes on")
    davit.call("tasks.delete", container_id="c", kill=True)
    numbers((davit.base / "first").read_text() + (davit.base / "second").read_text())


def test_fifos(davit, rootfs, criu):
    """New ones at each restore; the keepers are there: who opens late misses nothing, and nobody's end ends the program."""
    first, second = fifo(davit, "in1"), fifo(davit, "out1")
    davit.launch("c", ECHO, rootfs, stdio={"stdin": first, "stdout": second})
    with open(first, "w") as to, open(second) as out:
        to.write("a\n")
        to.flush()
        assert out.readline() == "got a\n"
        third, fourth = fifo(davit, "in2"), fifo(davit, "out2")
        move(davit, stdin=third, stdout=fourth)
        assert out.read() == ""  # nobody writes there any more
    for word in ("b", "c"):
        with open(third, "w") as to:
            to.write(word + "\n")
    both = os.open(third, os.O_RDWR | os.O_NONBLOCK)
    wait_for(lambda: not struct.unpack("i", fcntl.ioctl(both, termios.FIONREAD, bytes(4)))[0], what="both words to be read")
    os.close(both)
    with open(fourth) as out:
        assert out.readline() + out.readline() == "got b\ngot c\n"
        assert davit.status("c")["stdin"] == third and davit.status("c")["stdout"] == fourth
        davit.call("tasks.close_io", container_id="c")
        assert out.read() == "end of input\n"
    assert davit.call("tasks.wait", container_id="c")["exit_status"] == 0


def test_passed_fds_and_none(davit, rootfs, criu):
    out, (read, write) = Reader(), os.pipe()
    davit.launch("c", ECHO, rootfs, stdio={"stdin": Fd(read), "stdout": Fd(out.write_fd)})
    os.close(read)
    os.write(write, b"a\n")
    wait_for(lambda: b"got a" in out.data, what="an answer")
    read, new = os.pipe()
    again = Reader()
    move(davit, stdin=Fd(read), stdout=Fd(again.write_fd))
    os.close(read)
    assert out.text() == "got a\n"
    os.write(new, b"b\n")
    os.close(new)
    assert davit.call("tasks.wait", container_id="c")["exit_status"] == 0
    assert again.text() == "got b\nend of input\n"
    os.close(write)
    # null streams stay so, and a stream that was there may be none
    davit.launch("d", ["sh", "-c", "while :; do echo x || exit 3; read y; sleep 0.02; done"], rootfs)
    move(davit, "d")
    move(davit, "d", stdout=f"file://{davit.base}/none")
    assert davit.status("d")["status"] == "running"


def test_a_stream_that_is_aside(davit, rootfs, criu):
    """While a shell has its output redirected, another file is where the container's stream was; it is found all the same."""
    script = "while :; do { while [ ! -e /go ]; do sleep 0.02; done; rm /go; } >/aside; echo went; done"
    out = Reader()
    davit.launch("c", ["sh", "-c", script], rootfs, stdio={"stdout": Fd(out.write_fd)})
    out.close_write()
    wait_for((rootfs / "aside").exists, what="the redirection")
    for _ in range(2):
        out = Reader()
        move(davit, stdout=Fd(out.write_fd))
        out.close_write()
        (rootfs / "go").touch()
        wait_for(lambda: b"went" in out.data, what="a word from the restored")
    # for good, it is the container's own affair
    davit.launch("d", ["sh", "-c", "exec >/own; while :; do echo x; sleep 0.02; done"], rootfs, stdio={"stdout": "log:"})
    wait_for((rootfs / "own").exists, what="its own file")
    move(davit, "d", stdout="log:")
    assert davit.status("d")["status"] == "running"


# terminals


class Shell:
    """Attached to a container's terminal."""

    def __init__(self, davit, id="c"):
        self.sock, theirs = socket.socketpair()
        davit.call("tasks.attach", container_id=id, stream=Fd(theirs.fileno()))
        theirs.close()
        self.sock.settimeout(DEADLINE)

    def ask(self, command):
        """What the command prints; both the echo and the answer end with a word that is not in the command."""
        self.sock.sendall(command.encode() + b"; echo do''ne$?.\n")
        text = b""
        while b"done" not in text or b"." not in text.split(b"done")[1]:
            data = self.sock.recv(65536)
            assert data, text
            text += data
        return text[:text.index(b"done")].decode()  # without the prompt, which may have come with it or not


def test_terminal(davit, rootfs, criu):
    """The size is the new one; job control, the controlling terminal, what is attached, a second checkpoint of the restored."""
    davit.launch("c", ["sh"], rootfs, stdio={"terminal": True, "width": 80, "height": 25})
    shell = Shell(davit)
    assert "25 80" in shell.ask("stty size; X=remembered")
    shell.ask("sleep 1000 & sleep 2000 & cd /tmp")
    shell.ask("stty -ixany")
    before = shell.ask("stty -a | tail -n +2")
    for width in (100, 101):
        move(davit, terminal=True, width=width, height=30)
        while shell.sock.recv(65536):  # until the old terminal has hung up
            continue
        shell = Shell(davit)
        assert f"30 {width}" in shell.ask("stty size")
        assert "remembered /tmp" in shell.ask("echo $X $PWD; tty")
        assert shell.ask("stty -a | tail -n +2").splitlines()[-8:] == before.splitlines()[-8:]
        assert shell.ask("jobs").count("sleep") == 2
        davit.call("tasks.resize_pty", container_id="c", width=90, height=20)
        assert "20 90" in shell.ask("stty size")
        assert "is a terminal" in shell.ask("test -t 0 && echo is a terminal > /dev/tty")
    # the restored session still has its foreground group: ^C and ^Z reach the job, not the shell
    shell.sock.sendall(b"sleep 3000\n")
    wait_for(lambda: any("sleep 3000" in leaks.cmdline(pid) for pid in ps(davit, "c")), what="the job")
    shell.sock.sendall(b"\x1a")
    assert "Stopped" in shell.ask("jobs")
    shell.ask("kill -9 %1 %2 %3; wait")
    shell.sock.sendall(b"exit 7\nexit 7\n")  # the first one may still find a stopped job
    assert davit.call("tasks.wait", container_id="c")["exit_status"] == 7


def terminals(davit):
    """[(command, the number of its controlling terminal's device; 0 for none)]"""
    davit.call("tasks.pause", container_id="c")
    found = []
    for pid in ps(davit, "c"):
        with open(f"/proc/{pid}/stat") as file:
            found.append((leaks.cmdline(pid), int(file.read().rsplit(")", 1)[1].split()[4])))
    davit.call("tasks.resume", container_id="c")
    return found


def test_controlling_terminal_of_children(davit, rootfs, criu):
    """Who was born before the checkpoint has it too, and finds it as /dev/tty; another session's has it not."""
    davit.launch("c", ["sh"], rootfs, stdio={"terminal": True})
    shell = Shell(davit)
    shell.ask("sleep 1000 & setsid sleep 2000 & (while [ ! -e /tmp/go ]; do sleep 0.02; done; echo of a child > /dev/tty; echo $? > /tmp/told) & true")
    for _ in range(2):
        move(davit, terminal=True)
        found = terminals(davit)
        with_one = [(command, number) for command, number in found if command != "sleep 2000"]
        assert len(with_one) >= 3 and all(number for _, number in with_one), found
        assert len({number for _, number in with_one}) == 1 and ("sleep 2000", 0) in found, found
        while shell.sock.recv(65536):
            continue
        shell = Shell(davit)
    (rootfs / "tmp/go").write_text("")
    wait_for(lambda: (rootfs / "tmp/told").exists() and (rootfs / "tmp/told").read_text(), what="the child's word")
    assert (rootfs / "tmp/told").read_text() == "0\n"
    davit.call("tasks.delete", container_id="c", kill=True)


def test_terminal_is_needed_again(davit, rootfs, criu):
    davit.launch("c", ["sh"], rootfs, stdio={"terminal": True})
    image = davit.call("tasks.checkpoint", container_id="c", options={"exit": True})["image"]
    davit.call("tasks.delete", container_id="c", kill=True)
    with pytest.raises(RpcError) as error:
        davit.call("tasks.create", container_id="c", checkpoint=image)
    assert error.value.code == "failed_precondition" and "terminal" in error.value.message
    nothing_left(davit, ["c"])


def test_terminal_to_a_log(davit, rootfs, criu):
    davit.launch("c", COUNT, rootfs, stdio={"terminal": True, "stdout": "log:"})
    at = counted(rootfs)
    move(davit, terminal=True, stdout="log:")
    at = counted(rootfs, at + 3)
    davit.call("tasks.kill", container_id="c", signal="SIGKILL")
    davit.call("tasks.wait", container_id="c")
    assert numbers(davit.cli("logs", "c").stdout) >= at


# networks


@pytest.fixture
def netns(davit):
    """netns() → path of a new network namespace, gone after the test."""
    def make(name):
        name = f"{davit.name}-{name}"
        subprocess.run(["ip", "netns", "add", name], check=True)
        davit.cleanups.append(lambda: subprocess.run(["ip", "netns", "delete", name], check=True))
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        return f"/run/netns/{name}"
    return make


def net_of(pid):
    return os.stat(f"/proc/{pid}/ns/net").st_ino


def networked(network):
    """The spec's namespaces with this one as network."""
    return {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")] + ([{"type": "network", **network}] if network is not None else [])}


def ip(pid, *args):
    return subprocess.run(["nsenter", "-t", str(pid), "-n", "ip", *args], check=True, capture_output=True, text=True).stdout


def test_empty_network_is_made_anew(davit, zoo):
    made = zoo("status")
    before = net_of(made.pid)
    made.back(made.away()["image"])
    assert net_of(made.pid) not in (before, net_of("self"))
    assert "LOOPBACK,UP" in ip(made.pid, "link") and "127.0.0.1/8" in ip(made.pid, "addr")
    made.all_ok()


def test_network_with_addresses_and_rules(davit, zoo, inet):
    """What was set up in the container's own network is in the checkpoint."""
    made = zoo("tcp", "listen")
    ip(made.pid, "addr", "add", "10.9.8.7/24", "dev", "lo")
    ip(made.pid, "link", "add", "pair0", "type", "veth", "peer", "name", "pair1")
    ip(made.pid, "addr", "add", "10.1.1.1/24", "dev", "pair0")
    for name in ("pair0", "pair1"):
        ip(made.pid, "link", "set", name, "up")
    ip(made.pid, "route", "add", "10.2.0.0/16", "via", "10.1.1.9")
    made.back(made.away(open_tcp=True)["image"])
    text = ip(made.pid, "addr")
    assert "10.9.8.7/24" in text and "10.1.1.1/24" in text
    assert "10.2.0.0/16 via 10.1.1.9 dev pair0" in ip(made.pid, "route")
    made.all_ok()


def test_rules_alone(davit, zoo, netns):
    """nft tables in a network that has nothing but the loopback: not lost, and not left out in silence."""
    made = zoo("status")
    subprocess.run(["nsenter", "-t", str(made.pid), "-n", "nft",
                    "add table inet zoo; add chain inet zoo c; add rule inet zoo c tcp dport 4321 drop"], check=True)
    image = made.away()["image"]
    with pytest.raises(RpcError) as error:
        made.back(image)
    assert error.value.code == "failed_precondition" and "rules of nftables" in error.value.message
    nothing_left(davit, ["zoo"])
    made.back(image, network_namespace=netns("a"))
    made.all_ok()


def test_veth(davit, zoo, netns):
    """One end outside: who restores sets up another network, as who creates has."""
    made = zoo("status")
    name = f"v{os.getpid() % 100000}"
    subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(made.pid)], check=True)
    ip(made.pid, "addr", "add", "10.1.1.1/24", "dev", "eth0")
    image = made.away()["image"]
    with pytest.raises(RpcError) as error:
        made.back(image)
    assert error.value.code == "failed_precondition" and "give it as options.network_namespace" in error.value.message
    nothing_left(davit, ["zoo"])
    path = netns("a")
    made.back(image, network_namespace=path)
    assert net_of(made.pid) == os.stat(path).st_ino
    made.all_ok()


def test_network_by_path(davit, zoo, netns, inet):
    first, second = netns("a"), netns("b")
    subprocess.run(["nsenter", f"--net={second}", "ip", "addr", "add", "10.3.3.3/24", "dev", "lo"], check=True)
    made = zoo("listen", "tcp", linux=networked({"path": first}))
    image = made.away(open_tcp=True)["image"]
    made.back(image)
    assert net_of(made.pid) == os.stat(first).st_ino
    image = made.away(open_tcp=True)["image"]
    made.back(image, network_namespace=second)
    assert net_of(made.pid) == os.stat(second).st_ino
    made.all_ok()


def test_own_network_into_another(davit, zoo, netns, inet):
    path = netns("a")
    made = zoo("listen")
    made.back(made.away()["image"], network_namespace=path)
    assert net_of(made.pid) == os.stat(path).st_ino
    ip(made.pid, "addr", "add", "10.3.3.3/24", "dev", "lo")
    made.back(made.away()["image"])
    assert net_of(made.pid) != os.stat(path).st_ino
    made.all_ok()


def test_host_network(davit, zoo, inet):
    made = zoo("listen", linux=networked(None))
    image = made.away()["image"]
    made.back(image)
    assert net_of(made.pid) == net_of("self")
    made.all_ok()
    # never because the checkpoint says so: the spec has to
    davit.call("containers.create", id="own", spec=spec(["true"], made.root))
    with pytest.raises(RpcError) as error:
        davit.call("tasks.create", container_id="own", checkpoint=image)
    assert error.value.code == "permission_denied" and "network" in error.value.message


def test_empty_namespaces(davit, zoo):
    """The network's content is left out on demand."""
    made = zoo("status")
    ip(made.pid, "link", "add", "pair0", "type", "veth", "peer", "name", "pair1")
    made.back(made.away(empty_namespaces=["network"])["image"])
    assert "pair0" not in ip(made.pid, "link")
    made.all_ok()


@pytest.fixture
def outside(davit):
    """A UNIX socket outside, and what a container needs to reach it: by the same path, since criu knows no other."""
    folder = davit.base / "outside"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(folder / "sock"))
        made.settimeout(DEADLINE)
        yield made, {"mounts": base_mounts() + [{"destination": str(folder), "type": "bind", "source": str(folder), "options": ["bind", "rw"]}],
                     "process": {"env": ["PATH=/bin", f"OUTSIDE={folder}/sock"]}}


def test_unix_socket_to_outside(zoo, outside):
    sock, spec = outside
    made = zoo("outside", linux=networked(None), **spec)
    assert sock.recv(100) == b"before"
    assert "give the option external_unix_sockets" in refused(made)
    there_and_back(made, {"external_unix_sockets": True})
    assert sock.recv(100) == b"after"


def test_unix_socket_to_another_network(zoo, outside):
    """criu does not see it."""
    sock, spec = outside
    made = zoo("outside", **spec)
    assert "of another network namespace" in refused(made, external_unix_sockets=True)
    assert sock.recv(100) == b"before"
    made.all_ok()
    assert sock.recv(100) == b"after"


# other namespaces


def test_user_namespace(davit, zoo, rootfs):
    subprocess.run(["chown", "-hR", "100000:100000", str(rootfs)], check=True)
    maps = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    linux = {"namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "user")], "uidMappings": maps, "gidMappings": maps}
    (rootfs / "zoo").chmod(0o755)
    there_and_back(zoo("status", "ids", "files", "shm", linux=linux))


def test_hosts_pids(davit, zoo):
    """--pid host: the pids have to be free at the restore."""
    made = zoo("status", "pipes", linux={"namespaces": [{"type": kind} for kind in ("network", "ipc", "uts", "mount")]})
    before = made.pid
    image = made.checkpoint()["image"]
    davit.call("containers.create", id="copy", spec=spec(["true"], made.root, linux={"namespaces": [{"type": kind} for kind in ("network", "ipc", "uts", "mount")]}))
    with pytest.raises(RpcError) as error:
        davit.call("tasks.create", container_id="copy", checkpoint=image)
    assert error.value.code == "failed_precondition" and "process id of the checkpoint is taken" in error.value.message
    nothing_left(davit, ["copy"])
    made.back(made.away()["image"])
    assert made.pid == before
    made.all_ok()


@pytest.mark.parametrize("kind", ["pid", "ipc"])
def test_namespaces_of_another_container(davit, zoo, rootfs, kind):
    pid = davit.launch("host", ["sleep", "1000"], rootfs)
    kinds = [{"type": name} for name in ("network", "pid", "ipc", "uts", "mount") if name != kind]
    made = zoo("status", linux={"namespaces": [*kinds, {"type": kind, "path": f"/proc/{pid}/ns/{kind}"}]})
    assert {"pid": "pid namespace of another one", "ipc": "shares the ipc namespace of another"}[kind] in refused(made)
    made.all_ok()


def test_hosts_uts_and_ipc(davit, zoo):
    made = zoo("status", linux={"namespaces": [{"type": kind} for kind in ("pid", "network", "mount")]}, hostname=None)
    made.back(made.away()["image"])
    made.all_ok()


def test_cgroup_namespace(davit, zoo):
    kinds = [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")]
    made = zoo("status", linux={"namespaces": kinds}, mounts=base_mounts() + [
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}])
    look = ["sh", "-c", "cat /proc/self/cgroup; ls -R /sys/fs/cgroup | head -500"]
    before = davit.exec("zoo", look)[1]
    made.back(made.away()["image"])
    assert davit.exec("zoo", look)[1] == before
    assert os.stat(f"/proc/{made.pid}/ns/cgroup").st_ino != os.stat("/proc/self/ns/cgroup").st_ino
    made.all_ok()


def test_time_namespace(davit, zoo):
    kinds = [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "time")]
    made = zoo("times", "timers", linux={"namespaces": kinds, "timeOffsets": {"boottime": {"secs": 864000}, "monotonic": {"secs": 100000}}})
    made.back(made.away()["image"])
    assert float(davit.exec("zoo", ["cat", "/proc/uptime"])[1].split()[0]) > 864000
    made.all_ok()


def test_seccomp_of_the_spec(davit, zoo):
    """Still there after the restore; and a process without does not get into a container that asks for it."""
    seccomp = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99}]}
    made = zoo("status", "seccomp", "threads", linux={"seccomp": seccomp})
    made.back(made.away()["image"])
    status = dict(line.split(":\t", 1) for line in open(f"/proc/{made.pid}/status").read().splitlines() if ":\t" in line)
    assert status["Seccomp"] == "2" and status["Seccomp_filters"] == "1" and status["NoNewPrivs"] == "1"
    assert os.strerror(99) in davit.exec("zoo", ["sh", "-c", "mkdir /tmp/no 2>&1"])[1]
    made.all_ok()


def test_process_without_seccomp_is_refused(davit, zoo):
    made = zoo("status")
    image = made.away()["image"]
    davit.call("containers.create", id="strict", spec=spec(["true"], made.root, linux={"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}}))
    with pytest.raises(RpcError) as error:
        davit.call("tasks.create", container_id="strict", checkpoint=image)
    assert error.value.code == "permission_denied" and "seccomp" in error.value.message
    nothing_left(davit, ["strict"])


def test_limits_are_those_of_the_live_spec(davit, zoo):
    made = zoo("status", linux={"resources": {"pids": {"limit": 50}, "memory": {"limit": 64 << 20}}})
    image = made.away()["image"]
    davit.call("containers.create", id="small", spec=spec(["true"], made.root, linux={"resources": {"pids": {"limit": 20}, "memory": {"limit": 32 << 20}}}))
    made.id = "small"
    made.back(image)
    limits = [open(folder + "/pids.max").read() for folder in leaks.cgroup_dirs(davit.cgroup_parent)
              if folder.endswith("/small") and os.path.exists(folder + "/pids.max")]
    assert limits == ["20\n"]
    assert made.pid in [pid for folder in leaks.cgroup_dirs(davit.cgroup_parent) if folder.endswith("/small") for pid in leaks.cgroup_procs(folder)]
    made.all_ok()
