# SPDX-License-Identifier: Apache-2.0
"""The OCI spec's `process`, field by field, of a container's init and of execs."""

import ctypes
import os
import re
import resource
import socket

import pytest

from lib.daemon import Reader, wait_for
from lib.rpc import Fd, RpcError

CAPS = {name: number for number, name in enumerate((
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW").split())}
SETS = {"inheritable": "CapInh", "permitted": "CapPrm", "effective": "CapEff", "bounding": "CapBnd", "ambient": "CapAmb"}
CAP_SYS_RESOURCE = 24
LIBC = ctypes.CDLL(None, use_errno=True)
IOPRIO_GET = 252 if os.uname().machine == "x86_64" else 31


def refused(code, call, *args, **params):
    with pytest.raises(RpcError) as error:
        call(*args, **params)
    assert error.value.code == code, error.value
    return error.value


def shell(davit, rootfs, script, **more):
    ended, text = davit.run(["sh", "-c", script], rootfs, **more)
    assert ended["exit_status"] == 0, (ended, text)
    return text


def status_of(pid):
    with open(f"/proc/{pid}/status") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def mask(*names):
    return sum(1 << CAPS[name] for name in names)


def started_exec(davit, id, args, exec_id="e", **process):
    spec = {"args": args, "cwd": "/", "env": ["PATH=/bin"], **process}
    davit.call("tasks.exec", container_id=id, exec_id=exec_id, spec=spec)
    return davit.call("tasks.start", container_id=id, exec_id=exec_id)["pid"]


# arguments, environment, folder


def test_arguments_and_environment(davit, rootfs):
    odd = ["a b", "", "ümlaut", "new\nline", "$HOME", "'\""]
    ended, text = davit.run(["printf", "[%s]", *odd], rootfs)
    assert ended["exit_status"] == 0 and text == "".join(f"[{word}]" for word in odd)
    text = shell(davit, rootfs, "env", process={"env": ["PATH=/bin", "A=1", "B=x y=z", "EMPTY=", "A=2"]})
    lines = text.splitlines()
    assert "B=x y=z" in lines and "EMPTY=" in lines and "HOME=/root" in lines
    assert "A=2" in lines
    names = {line.split("=")[0] for line in lines}
    assert names <= {"PATH", "A", "B", "EMPTY", "HOME", "PWD", "SHLVL", "OLDPWD", "_"}, names
    assert "HOME=/elsewhere" in shell(davit, rootfs, "env", process={"env": ["PATH=/bin", "HOME=/elsewhere"]})


def test_home_is_the_users(davit, rootfs):
    with open(rootfs / "etc/passwd", "a") as file:
        file.write("worker:x:1234:1234:w:/work/er:/bin/sh\n")
    assert shell(davit, rootfs, "echo $HOME", process={"user": {"uid": 1234, "gid": 1234}}) == "/work/er\n"
    assert shell(davit, rootfs, "echo $HOME", process={"user": {"uid": 4321, "gid": 0}}) == "/\n"


def test_arguments_of_a_megabyte(davit, rootfs):
    ended, text = davit.run(["sh", "-c", "for a in \"$@\"; do n=$((n + ${#a})); done; echo $n", "sh", *["x" * 100000] * 9], rootfs)
    assert (ended["exit_status"], text) == (0, "900000\n")


def test_path_is_the_containers(davit, rootfs):
    (rootfs / "tools").mkdir()
    (rootfs / "tools/mine").write_text("#!/bin/sh\necho mine $0\n")
    (rootfs / "tools/mine").chmod(0o755)
    ended, text = davit.run(["mine"], rootfs, process={"env": ["PATH=/bin:/tools"]})
    assert (ended["exit_status"], text) == (0, "mine /tools/mine\n")
    error = refused("not_found", davit.run, ["mine"], rootfs, process={"env": ["PATH=/bin"]})
    assert error.details["exit_code"] == 127


def test_cwd(davit, rootfs):
    (rootfs / "deep/er").mkdir(parents=True)
    (rootfs / "link").symlink_to("/deep/er")
    assert shell(davit, rootfs, "pwd -P", process={"cwd": "/deep/er"}) == "/deep/er\n"
    assert shell(davit, rootfs, "pwd -P", process={"cwd": "/link"}) == "/deep/er\n"
    refused("invalid_argument", davit.run, ["pwd"], rootfs, process={"cwd": "deep"})
    # a folder that only the user may enter
    (rootfs / "own").mkdir(mode=0o700)
    os.chown(rootfs / "own", 77, 77)
    assert shell(davit, rootfs, "pwd", process={"cwd": "/own", "user": {"uid": 77, "gid": 77}}) == "/own\n"


# user


def test_user(davit, rootfs):
    user = {"uid": 1000, "gid": 1001, "additionalGids": [5, 44, 70000], "umask": 0o027}
    text = shell(davit, rootfs, "id -u; id -g; id -G; umask; touch /tmp/f; stat -c %a:%u:%g /tmp/f", process={"user": user})
    assert text.splitlines() == ["1000", "1001", "1001 5 44 70000", "0027", "640:1000:1001"]
    text = shell(davit, rootfs, "id -u; id -g; id -G; umask")
    assert text.splitlines() == ["0", "0", "0", "0022"]


def test_user_of_an_exec(davit, rootfs):
    pid = davit.launch("c", ["sleep", "1000"], rootfs, process={"user": {"uid": 9, "gid": 8, "additionalGids": [7]}})
    status = status_of(pid)
    assert status["Uid"].split() == ["9"] * 4 and status["Gid"].split() == ["8"] * 4 and status["Groups"].split() == ["7"]
    pid = started_exec(davit, "c", ["sleep", "1000"], user={"uid": 11, "gid": 12, "additionalGids": [13, 14], "umask": 0o077})
    status = status_of(pid)
    assert status["Uid"].split() == ["11"] * 4 and status["Gid"].split() == ["12"] * 4
    assert status["Groups"].split() == ["13", "14"] and status["Umask"] == "0077"


# capabilities


def test_capabilities(davit, rootfs):
    given = {
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SETUID"],
        "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
        "effective": ["CAP_CHOWN"],
        "inheritable": ["CAP_KILL", "CAP_NET_RAW"],
        "ambient": ["CAP_NET_RAW"],
    }
    # a user that is not root has after exec what is ambient
    user = {"uid": 5, "gid": 5}
    pid = davit.launch("c", ["sleep", "1000"], rootfs, process={"user": user, "capabilities": given})
    status = status_of(pid)
    got = {key: int(status[name], 16) for key, name in SETS.items()}
    assert got == {
        "bounding": mask("CHOWN", "KILL", "NET_RAW", "SETUID"), "inheritable": mask("KILL", "NET_RAW"),
        "ambient": mask("NET_RAW"), "permitted": mask("NET_RAW"), "effective": mask("NET_RAW"),
    }
    # root has what is bounding or inheritable
    pid = started_exec(davit, "c", ["sleep", "1000"], capabilities=given)
    status = status_of(pid)
    assert int(status["CapBnd"], 16) == mask("CHOWN", "KILL", "NET_RAW", "SETUID")
    # ambient is not empty: with a root user the set-user-ID rule of root still holds
    assert int(status["CapInh"], 16) == mask("KILL", "NET_RAW")
    # an exec that says nothing has the container's
    pid = started_exec(davit, "c", ["sleep", "1000"], exec_id="f", user=user)
    assert {key: int(status_of(pid)[name], 16) for key, name in SETS.items()} == got


def test_no_capabilities(davit, rootfs):
    pid = davit.launch("c", ["sleep", "1000"], rootfs, process={"capabilities": {"bounding": [], "effective": [], "permitted": []}})
    status = status_of(pid)
    assert [int(status[name], 16) for name in SETS.values()] == [0] * 5
    text = davit.exec("c", ["sh", "-c", "chown 5 /tmp; echo $?"], capabilities={"bounding": [], "effective": [], "permitted": []})[1]
    assert text.splitlines()[-1] == "1"


def test_capabilities_that_are_none(davit, rootfs):
    error = refused("invalid_argument", davit.run, ["true"], rootfs, process={"capabilities": {"bounding": ["CAP_FLY"]}})
    assert "CAP_FLY" in error.message and "bounding" in error.message
    for sets, names in (({"effective": ["CAP_KILL"]}, ("effective", "permitted")),
                        ({"inheritable": ["CAP_KILL"]}, ("inheritable", "bounding"))):
        empty = {"bounding": [], "permitted": [], "effective": []}
        error = refused("invalid_argument", davit.run, ["true"], rootfs, id=names[0], process={"capabilities": {**empty, **sets}})
        assert all(name in error.message for name in names) and error.details["argument"] == "process.capabilities"


def test_ambient_needs_inheritable(davit, rootfs):
    """The default specs of runc and crun name ambient capabilities that are not inheritable: without effect, as there."""
    sets = {kind: ["CAP_KILL"] for kind in ("bounding", "effective", "permitted", "ambient")}
    pid = davit.launch("c", ["sleep", "1000"], rootfs, process={"capabilities": sets})
    assert int(status_of(pid)["CapAmb"], 16) == 0 and int(status_of(pid)["CapEff"], 16) == mask("KILL")


# limits


def has_capability(number):
    return int(status_of("self")["CapEff"], 16) >> number & 1


def test_rlimits(davit, rootfs):
    limits = {
        "RLIMIT_NOFILE": (100, 200), "RLIMIT_NPROC": (1000, 2000), "RLIMIT_CORE": (0, 0), "RLIMIT_STACK": (1 << 20, 1 << 21),
        "RLIMIT_AS": (1 << 40, 2**64 - 1), "RLIMIT_CPU": (1000, 2000), "RLIMIT_DATA": (1 << 30, 1 << 31),
        "RLIMIT_FSIZE": (1 << 20, 1 << 20), "RLIMIT_LOCKS": (10, 20), "RLIMIT_MEMLOCK": (4096, 8192),
        "RLIMIT_MSGQUEUE": (1, 2), "RLIMIT_NICE": (3, 4), "RLIMIT_RSS": (1 << 30, 1 << 30), "RLIMIT_RTPRIO": (5, 6),
        "RLIMIT_RTTIME": (10**6, 2 * 10**6), "RLIMIT_SIGPENDING": (7, 8),
    }
    names = {"RLIMIT_LOCKS": 10, "RLIMIT_SIGPENDING": 11, "RLIMIT_MSGQUEUE": 12, "RLIMIT_NICE": 13, "RLIMIT_RTPRIO": 14, "RLIMIT_RTTIME": 15}
    numbers = {kind: names.get(kind, getattr(resource, kind, None)) for kind in limits}
    for kind, number in numbers.items():
        ours = resource.getrlimit(number)[1]
        if not has_capability(CAP_SYS_RESOURCE) and 0 <= ours < limits[kind][1]:
            rlimits = [{"type": kind, "soft": 1, "hard": ours + 1}]
            error = refused("permission_denied", davit.create, kind, ["true"], rootfs, process={"rlimits": rlimits})
            assert error.details["step"] == "setrlimit" and kind in error.message
            limits[kind] = (ours, ours)
    rlimits = [{"type": kind, "soft": soft, "hard": hard} for kind, (soft, hard) in limits.items()]
    pid = davit.launch("c", ["sleep", "1000"], rootfs, process={"rlimits": rlimits})
    for kind, (soft, hard) in limits.items():
        number = numbers[kind]
        got = tuple(value if value >= 0 else 2**64 - 1 for value in resource.prlimit(pid, number))
        assert got == (soft, hard), kind
    # an exec without limits of its own has the container's
    pid = started_exec(davit, "c", ["sleep", "1000"])
    assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (100, 200)
    pid = started_exec(davit, "c", ["sleep", "1000"], exec_id="f", rlimits=[{"type": "RLIMIT_NOFILE", "soft": 50, "hard": 60}])
    assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (50, 60)


def test_rlimits_that_are_none(davit, rootfs):
    for limit in ({"type": "RLIMIT_FUN", "soft": 1, "hard": 1}, {"type": "RLIMIT_NOFILE", "soft": 2, "hard": 1},
                  {"type": "RLIMIT_NOFILE", "soft": -1, "hard": 1}, {"soft": 1, "hard": 1}):
        error = refused("invalid_argument", davit.run, ["true"], rootfs, process={"rlimits": [limit]})
        assert "rlimits[0]" in error.message, error


# privileges and priorities


def test_no_new_privileges(davit, rootfs):
    for wanted in (True, False):
        pid = davit.launch(str(wanted), ["sleep", "1000"], rootfs, process={"noNewPrivileges": wanted})
        assert status_of(pid)["NoNewPrivs"] == str(int(wanted))
        pid = started_exec(davit, str(wanted), ["sleep", "1000"])
        assert status_of(pid)["NoNewPrivs"] == str(int(wanted))


def test_oom_score_adj(davit, rootfs):
    pid = davit.launch("c", ["sleep", "1000"], rootfs, process={"oomScoreAdj": 321})
    assert open(f"/proc/{pid}/oom_score_adj").read() == "321\n"
    pid = started_exec(davit, "c", ["sleep", "1000"])
    assert open(f"/proc/{pid}/oom_score_adj").read() == "321\n"
    pid = started_exec(davit, "c", ["sleep", "1000"], exec_id="f", oomScoreAdj=400)
    assert open(f"/proc/{pid}/oom_score_adj").read() == "400\n"
    if has_capability(CAP_SYS_RESOURCE):
        pid = started_exec(davit, "c", ["sleep", "1000"], exec_id="g", oomScoreAdj=-17)
        assert open(f"/proc/{pid}/oom_score_adj").read() == "-17\n"
    else:
        error = refused("permission_denied", davit.create, "d", ["true"], rootfs, process={"oomScoreAdj": -17})
        assert "CAP_SYS_RESOURCE" in error.message
    refused("invalid_argument", davit.run, ["true"], rootfs, process={"oomScoreAdj": 1001})


def test_io_priority(davit, rootfs):
    pid = davit.launch("c", ["sleep", "1000"], rootfs, process={"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 6}})
    assert LIBC.syscall(IOPRIO_GET, 1, pid) == 2 << 13 | 6
    pid = started_exec(davit, "c", ["sleep", "1000"], ioPriority={"class": "IOPRIO_CLASS_IDLE"})
    assert LIBC.syscall(IOPRIO_GET, 1, pid) == 3 << 13
    refused("invalid_argument", davit.run, ["true"], rootfs, process={"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8}})
    refused("invalid_argument", davit.run, ["true"], rootfs, process={"ioPriority": {"class": "FAST"}})


def test_scheduling_is_not_the_daemons(davit, rootfs):
    """The reactor is scheduled as one who is woken often; what it starts is as anybody else."""
    reactor = davit.info["pid"]
    assert os.sched_getscheduler(reactor) & os.SCHED_RESET_ON_FORK and os.getpriority(os.PRIO_PROCESS, reactor) < 0
    pid = davit.launch("c", ["sleep", "1000"], rootfs)
    for started in (pid, started_exec(davit, "c", ["sleep", "1000"])):
        assert os.sched_getscheduler(started) == os.SCHED_OTHER
        assert os.getpriority(os.PRIO_PROCESS, started) == 0


def test_scheduler(davit, rootfs):
    pid = davit.launch("c", ["sleep", "1000"], rootfs, process={"scheduler": {"policy": "SCHED_BATCH", "nice": 7}})
    assert os.sched_getscheduler(pid) == os.SCHED_BATCH
    assert os.getpriority(os.PRIO_PROCESS, pid) == 7
    pid = started_exec(davit, "c", ["sleep", "1000"], scheduler={"policy": "SCHED_IDLE"})
    assert os.sched_getscheduler(pid) == os.SCHED_IDLE
    pid = started_exec(davit, "c", ["sleep", "1000"], exec_id="f",
                       scheduler={"policy": "SCHED_OTHER", "nice": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK"]})
    assert os.sched_getscheduler(pid) & ~os.SCHED_RESET_ON_FORK == os.SCHED_OTHER
    assert os.sched_getscheduler(pid) & os.SCHED_RESET_ON_FORK
    error = refused("invalid_argument", davit.run, ["true"], rootfs, process={"scheduler": {"policy": "SCHED_FIFO"}})
    assert "priority" in error.message
    refused("unimplemented", davit.run, ["true"], rootfs, process={"scheduler": {"policy": "SCHED_ISO"}})


def test_realtime_scheduler(davit, rootfs):
    """As the cgroup allows it: a v1 cgroup without a real-time share refuses."""
    try:
        pid = davit.launch("c", ["sleep", "1000"], rootfs, process={"scheduler": {"policy": "SCHED_RR", "priority": 11}})
    except RpcError as error:
        assert error.details["errname"] == "EPERM" and error.details["step"] == "scheduler", error
        return
    assert os.sched_getscheduler(pid) == os.SCHED_RR
    assert os.sched_getparam(pid).sched_priority == 11


def test_exec_affinity(davit, rootfs):
    cpus = sorted(os.sched_getaffinity(0))
    last = cpus[-1]
    pid = davit.launch("c", ["sleep", "1000"], rootfs, process={"execCPUAffinity": {"initial": str(last), "final": str(last)}})
    assert os.sched_getaffinity(pid) == set(cpus)  # it is for execs alone
    pid = started_exec(davit, "c", ["sleep", "1000"], execCPUAffinity={"initial": str(cpus[0]), "final": str(last)})
    assert os.sched_getaffinity(pid) == {last}
    pid = started_exec(davit, "c", ["sleep", "1000"], exec_id="f", execCPUAffinity={"initial": str(cpus[0])})
    assert os.sched_getaffinity(pid) == {cpus[0]}
    refused("invalid_argument", davit.call, "tasks.exec", container_id="c", exec_id="g",
            spec={"args": ["true"], "cwd": "/", "execCPUAffinity": {"final": "1-"}})


# terminal


def pty_of(davit, name):
    """A console socket; returns (our end, the daemon's)."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


def read_tty(master, wanted):
    data = b""

    def more():
        nonlocal data
        try:
            data += os.read(master, 4096)
        except OSError:
            return True
        return wanted in data

    wait_for(more)
    return data


def test_console_size_and_terminal(davit, rootfs):
    ours, theirs = pty_of(davit, "c")
    script = "tty; stty size; tty </dev/console; ls -l /dev/console | cut -c1; cat /proc/self/stat | cut -d' ' -f7; echo over"
    davit.create("c", ["sh", "-c", script], rootfs, process={"terminal": True, "consoleSize": {"width": 91, "height": 17}},
                 stdio={"console": Fd(theirs)})
    theirs.close()
    _, fds, _, _ = socket.recv_fds(ours, 4096, 4)
    davit.call("tasks.start", container_id="c")
    text = read_tty(fds[0], b"over").decode().replace("\r", "")
    assert text.splitlines()[:4] == ["/dev/pts/0", "17 91", "/dev/console", "c"], text
    assert int(text.splitlines()[4]) != 0  # it is the controlling terminal
    os.close(fds[0])
    ours.close()
    # width and height of the call win
    ours, theirs = pty_of(davit, "c")
    davit.create("d", ["sh", "-c", "stty size; echo over"], rootfs, process={"terminal": True, "consoleSize": {"width": 91, "height": 17}},
                 stdio={"console": Fd(theirs), "width": 33, "height": 44})
    theirs.close()
    _, fds, _, _ = socket.recv_fds(ours, 4096, 4)
    davit.call("tasks.start", container_id="d")
    assert read_tty(fds[0], b"over").decode().split()[:2] == ["44", "33"]
    os.close(fds[0])
    ours.close()


def test_terminal_of_another_user(davit, rootfs):
    """The user owns the terminal and may open it by its name."""
    ours, theirs = pty_of(davit, "c")
    davit.create("c", ["sh", "-c", "stat -c %u $(tty); echo x > $(tty) && echo written; echo over"], rootfs,
                 process={"terminal": True, "user": {"uid": 55, "gid": 55}}, stdio={"console": Fd(theirs)})
    theirs.close()
    _, fds, _, _ = socket.recv_fds(ours, 4096, 4)
    davit.call("tasks.start", container_id="c")
    text = read_tty(fds[0], b"over").decode()
    assert text.split() == ["55", "x", "written", "over"]
    os.close(fds[0])
    ours.close()


# what the daemon does not pass on


def test_a_clean_process(davit, rootfs):
    """No fds, no ignored or blocked signals, a session of its own, no parent that can be signalled."""
    out = Reader()
    davit.create("c", ["sh", "-c", "ls -l /proc/$$/fd; cat /proc/self/status; cat /proc/self/stat"], rootfs,
                 stdio={"stdout": Fd(out.write_fd), "stderr": Fd(out.write_fd)})
    out.close_write()
    pid = davit.call("tasks.start", container_id="c")["pid"]
    davit.call("tasks.wait", container_id="c")
    text = out.text()
    fds = dict(re.findall(r" (\d+) -> (\S+)", text))
    assert set(fds) == {"0", "1", "2"} and fds["0"] == "/dev/null", text
    for name in ("SigBlk", "SigIgn", "SigPnd", "ShdPnd"):
        assert re.search(rf"{name}:\t0{{16}}\n", text), text
    davit.remove("c")
    assert shell(davit, rootfs, "cut -d' ' -f4-6 /proc/1/stat").split() == ["0", "1", "1"]


def test_exec_is_clean_too(davit, rootfs):
    davit.launch("c", ["sleep", "1000"], rootfs)
    ended, text = davit.exec("c", ["sh", "-c", "ls -l /proc/$$/fd; cat /proc/self/status; cat /proc/self/stat"])
    fds = re.findall(r" (\d+) -> ", text)
    assert set(fds) == {"0", "1", "2"}, text
    for name in ("SigBlk", "SigIgn"):
        assert re.search(rf"{name}:\t0{{16}}\n", text), text
    fields = text.splitlines()[-1].split()
    assert fields[3] != "1" and fields[5] != "1"  # a session of its own
