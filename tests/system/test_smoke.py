# SPDX-License-Identifier: Apache-2.0
"""Whether anything works at all: a daemon, a container, the command line."""

import pytest

from lib.rpc import RpcError


def test_version(davit):
    answer = davit.call("version")
    assert answer["version"]
    assert "revision" in answer and "api" in answer


def test_info(davit):
    info = davit.info
    assert info["root"] == str(davit.root)
    assert info["state"] == str(davit.state)
    assert info["socket"] == str(davit.socket)
    assert info["pid"] != info["guardian_pid"]
    assert set(davit.pids()) >= {info["pid"], info["guardian_pid"]}


def test_unknown_method(davit):
    with pytest.raises(RpcError) as error:
        davit.call("no.such.method")
    assert error.value.code == "unimplemented"


def test_unknown_argument(davit):
    with pytest.raises(RpcError) as error:
        davit.call("version", colour="red")
    assert error.value.code == "invalid_argument"
    assert "colour" in error.value.message


def test_container(davit, rootfs):
    ended, text = davit.run(["sh", "-c", "echo hello; exit 7"], rootfs)
    assert text == "hello\n"
    assert ended["exit_status"] == 7
    assert ended["exit_reason"] == "exited"


def test_input(davit, rootfs):
    ended, text = davit.run(["cat"], rootfs, input="from outside\n")
    assert (ended["exit_status"], text) == (0, "from outside\n")


def test_exec(davit, rootfs):
    davit.launch("c", ["sleep", "1000"], rootfs)
    ended, text = davit.exec("c", ["sh", "-c", "echo $0; exit 3", "inside"])
    assert (ended["exit_status"], text) == (3, "inside\n")
    assert davit.remove("c")["exit_status"] == 137


def test_events(davit, rootfs):
    with davit.events() as events:
        davit.run(["true"], rootfs, id="c")
        events.next("/tasks/delete", container_id="c")
        assert events.topics(container_id="c") == ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]
        numbers = [event["seq"] for event in events.seen]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_many_in_flight(davit):
    pending = [davit.send("version") for _ in range(100)]
    assert all(p.result()["version"] for p in reversed(pending))


def test_command_line(davit, rootfs):
    shown = davit.cli("run", "--rm", "--rootfs", rootfs, "sh", "-c", "echo out; echo err >&2; exit 5")
    assert (shown.returncode, shown.stdout, shown.stderr) == (5, "out\n", "err\n")


def test_debian(davit, debian):
    ended, text = davit.run(["/bin/cat", "/etc/debian_version"], debian)
    assert ended["exit_status"] == 0
    assert text.strip()
