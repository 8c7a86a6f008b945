# SPDX-License-Identifier: Apache-2.0
"""Seccomp filters: actions, arguments, architectures, execs, and a listener that answers system calls."""

import array
import fcntl
import json
import os
import socket
import struct
import threading

import pytest

from lib.rpc import RpcError

ARCH = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}.get(os.uname().machine)
# ioctls of seccomp_unotify(2)
NOTIF_RECV, NOTIF_SEND = 0xC0502100, 0xC0182101


def refused(code, call, *args, **params):
    with pytest.raises(RpcError) as error:
        call(*args, **params)
    assert error.value.code == code, error.value
    return error.value


def profile(*rules, default="SCMP_ACT_ALLOW", **more):
    return {"defaultAction": default, "architectures": [ARCH], "syscalls": list(rules), **more}


def rule(action, *names, **more):
    return {"names": list(names), "action": action, **more}


def run(davit, rootfs, script, seccomp, **more):
    return davit.run(["sh", "-c", script], rootfs, linux={"seccomp": seccomp}, **more)


MKDIR = ("mkdir", "mkdirat")


def test_errno(davit, rootfs):
    ended, text = run(davit, rootfs, "mkdir /tmp/x; echo $?; touch /tmp/y && echo fine", profile(rule("SCMP_ACT_ERRNO", *MKDIR, errnoRet=28)))
    assert "No space left on device" in text and text.endswith("1\nfine\n")
    ended, text = run(davit, rootfs, "mkdir /tmp/x", profile(rule("SCMP_ACT_ERRNO", *MKDIR)))
    assert "Operation not permitted" in text and ended["exit_status"] == 1


@pytest.mark.parametrize("action", ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP"])
def test_kill(davit, rootfs, action):
    ended, text = davit.run(["mkdir", "/tmp/x"], rootfs, linux={"seccomp": profile(rule(action, *MKDIR))})
    assert (ended["exit_reason"], ended["signal"], ended["exit_status"]) == ("signaled", 31, 159)
    assert not (rootfs / "tmp/x").exists()


def test_log_and_allow(davit, rootfs):
    ended, text = run(davit, rootfs, "mkdir /tmp/x && echo made", profile(rule("SCMP_ACT_LOG", *MKDIR)))
    assert text == "made\n"


def test_default_denies(davit, rootfs):
    """All that is not named is refused; what the runtime itself needs before the exec works all the same."""
    allowed = ("execve exit exit_group write brk arch_prctl set_tid_address set_robust_list rseq prlimit64 readlinkat readlink getrandom mprotect "
               "mmap munmap prctl uname getuid geteuid getgid getegid setuid setgid rt_sigprocmask rt_sigaction openat open read close fstat newfstatat").split()
    ended, text = davit.run(["echo", "hello"], rootfs,
                            linux={"seccomp": profile(rule("SCMP_ACT_ALLOW", *allowed), default="SCMP_ACT_ERRNO")})
    assert text == "hello\n", ended


def test_arguments(davit, rootfs):
    """kill(pid, SIGUSR1) is refused, other signals are not."""
    only = profile(rule("SCMP_ACT_ERRNO", "kill", errnoRet=13, args=[{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}]))
    ended, text = run(davit, rootfs, "sleep 100 & p=$!; kill -USR1 $p; echo $?; kill -TERM $p; echo $?", only)
    assert "Permission denied" in text and text.split()[-2:] == ["1", "0"]


def test_state_and_exec(davit, rootfs):
    davit.launch("c", ["sleep", "1000"], rootfs, linux={"seccomp": profile(rule("SCMP_ACT_ERRNO", *MKDIR))})
    pid = davit.status("c")["pid"]
    assert "Seccomp:\t2" in open(f"/proc/{pid}/status").read()
    ended, text = davit.exec("c", ["sh", "-c", "mkdir /tmp/x; grep Seccomp: /proc/self/status"])
    assert "Operation not permitted" in text and text.endswith("Seccomp:\t2\n")


def test_without_no_new_privileges(davit, rootfs):
    ended, text = run(davit, rootfs, "mkdir /tmp/x || grep NoNewPrivs /proc/self/status", profile(rule("SCMP_ACT_ERRNO", *MKDIR)),
                      process={"noNewPrivileges": False})
    assert text.endswith("NoNewPrivs:\t0\n")


def test_other_architectures(davit, rootfs):
    other = ["SCMP_ARCH_X86", "SCMP_ARCH_X32"] if ARCH == "SCMP_ARCH_X86_64" else ["SCMP_ARCH_ARM"]
    ended, text = run(davit, rootfs, "mkdir /tmp/x || echo no", {**profile(rule("SCMP_ACT_ERRNO", *MKDIR)), "architectures": [ARCH, *other]})
    assert text.endswith("no\n")


def test_unknown_system_calls_are_passed_over(davit, rootfs):
    ended, text = run(davit, rootfs, "mkdir /tmp/x || echo no", profile(rule("SCMP_ACT_ERRNO", *MKDIR, "a_call_of_the_future")))
    assert text.endswith("no\n")


@pytest.mark.parametrize("change, word", [
    ({"defaultAction": "SCMP_ACT_DANCE"}, "SCMP_ACT_DANCE"),
    ({"architectures": ["SCMP_ARCH_PDP11"]}, "SCMP_ARCH_PDP11"),
    ({"flags": ["SECCOMP_FILTER_FLAG_FAST"]}, "SECCOMP_FILTER_FLAG_FAST"),
    ({"syscalls": [rule("SCMP_ACT_NOTHING", "mkdir")]}, "SCMP_ACT_NOTHING"),
    ({"syscalls": [rule("SCMP_ACT_ERRNO", "mkdir", args=[{"index": 7, "value": 0, "op": "SCMP_CMP_EQ"}])]}, "index"),
    ({"syscalls": [rule("SCMP_ACT_ERRNO", "mkdir", args=[{"index": 1, "value": 0, "op": "SCMP_CMP_XX"}])]}, "SCMP_CMP_XX"),
    ({"syscalls": [rule("SCMP_ACT_NOTIFY", "mkdir")]}, "listenerPath"),
    ({"defaultAction": None}, "defaultAction"),
])
def test_bad_profiles(davit, rootfs, change, word):
    error = refused("invalid_argument", run, davit, rootfs, "true", {**profile(), **change})
    assert word in error.message and "seccomp" in error.message, error


class Agent:
    """Takes one listener, and answers every call it tells of with an errno."""

    def __init__(self, path, errno):
        self.errno, self.state, self.calls = errno, None, 0
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(path))
        self.listener.listen()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        connection, _ = self.listener.accept()
        data, fds = b"", []
        while True:
            more, new, _, _ = socket.recv_fds(connection, 65536, 4)
            fds += new
            if not more:
                break
            data += more
        connection.close()
        self.state, self.fds = json.loads(data), len(fds)
        while True:
            notification = array.array("B", bytes(80))
            try:
                fcntl.ioctl(fds[0], NOTIF_RECV, notification)
                identifier = struct.unpack_from("Q", notification)[0]
                self.calls += 1
                fcntl.ioctl(fds[0], NOTIF_SEND, struct.pack("QqiI", identifier, 0, -self.errno, 0))
            except OSError:
                break
        os.close(fds[0])

    def close(self):
        self.listener.close()


@pytest.mark.parametrize("privileges", [True, False])
def test_listener(davit, rootfs, privileges):
    agent = Agent(davit.base / "agent", 88)  # ENOTSOCK: nobody else answers that
    seccomp = profile(rule("SCMP_ACT_NOTIFY", *MKDIR), listenerPath=str(davit.base / "agent"), listenerMetadata="note")
    out = davit.base / "out"
    out.write_text("")
    davit.create("c", ["sh", "-c", "mkdir /tmp/x; echo $?; sleep 0.2"], rootfs, linux={"seccomp": seccomp}, annotations={"a": "b"},
                 process={"noNewPrivileges": privileges}, stdio={"stdout": f"file://{out}", "stderr": f"file://{out}"})
    pid = davit.call("tasks.start", container_id="c")["pid"]
    assert davit.call("tasks.wait", container_id="c")["exit_status"] == 0
    assert "Socket operation on non-socket" in out.read_text() and out.read_text().endswith("1\n")
    davit.remove("c")
    agent.thread.join(10)
    assert agent.calls == 1 and agent.fds == 1
    state = agent.state
    assert state["pid"] == pid and state["fds"] == ["seccompFd"] and state["metadata"] == "note"
    assert state["state"]["id"] == "c" and state["state"]["pid"] == pid and state["state"]["annotations"] == {"a": "b"}
    agent.close()


def test_listener_that_is_not_there(davit, rootfs):
    seccomp = profile(rule("SCMP_ACT_NOTIFY", *MKDIR), listenerPath=str(davit.base / "nobody"))
    with pytest.raises(RpcError) as error:
        run(davit, rootfs, "true", seccomp)
    assert error.value.details["path"] == str(davit.base / "nobody") and error.value.details["errname"] == "ENOENT"
    davit.remove("c1")
    assert davit.run(["true"], rootfs)[0]["exit_status"] == 0
