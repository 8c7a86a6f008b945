# SPDX-License-Identifier: Apache-2.0
"""The command line as a user has it: real containers, real terminals, a daemon that is started or dies."""

import json
import os
import re
import signal
import subprocess
import termios
import time

import pytest

from lib import leaks
from lib.cli import run as run_command
from lib.daemon import binary

DETACH = b"\x10\x11"


def wait_for(condition, timeout=10.0):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


# running


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_exit_code(davit, rootfs, code):
    result = davit.cli("run", "--rm", "--rootfs", rootfs, "sh", "-c", f"echo out; echo err >&2; exit {code}")
    assert (result.returncode, result.stdout, result.stderr) == (code, "out\n", "err\n")
    assert davit.cli("ps", "-aq").stdout == ""


def test_signalled(davit, rootfs):
    result = davit.cli("run", "--rm", "--rootfs", rootfs, "sh", "-c", "sh -c 'kill -9 $$'; exit $?")
    assert result.returncode == 137


def test_missing_program(davit, rootfs):
    result = davit.cli("run", "--rootfs", rootfs, "nosuch")
    assert result.returncode == 127
    assert result.stderr.startswith("davit: cannot run ")
    assert result.stderr.count("\n") == 1
    (rootfs / "data").write_text("no program")
    assert davit.cli("run", "--rootfs", rootfs, "/data").returncode == 126
    (rootfs / "data").chmod(0o755)
    assert davit.cli("run", "--rootfs", rootfs, "/data").returncode == 126
    # what never ran leaves nothing behind
    assert davit.cli("ps", "-aq").stdout == ""


@pytest.mark.parametrize(
    "arguments, part",
    [
        (["run"], "nothing to run"),
        (["run", "--nosuch"], "unknown option --nosuch"),
        (["run", "alpine", "true"], "there is no image \"alpine\""),
        (["run", "--rootfs", "/nosuch", "true"], "/nosuch"),
        (["run", "--rootfs", "/", "--bundle", "/", "true"], "exclude each other"),
        (["nosuch"], "there is no command"),
        (["exec", "nosuch", "true"], "'davit ps -a'"),
        (["ps", "extra"], "unexpected argument"),
        (["rpc", "no.such"], "'davit describe'"),
        (["rpc", "version", "[]"], "JSON object"),
        (["rpc", "version", "{"], "line 1"),
    ],
)
def test_errors(davit, arguments, part):
    result = davit.cli(*arguments)
    assert result.returncode == 125
    assert part in result.stderr
    assert result.stderr.startswith("davit: ") and result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_stdin(davit, rootfs):
    assert davit.cli("run", "--rm", "-i", "--rootfs", rootfs, "cat", input="data\n").stdout == "data\n"
    assert davit.cli("run", "--rm", "--rootfs", rootfs, "cat", input="data\n").stdout == ""


def test_large_output(davit, rootfs):
    result = davit.cli("run", "--rm", "--rootfs", rootfs, "sh", "-c", "dd if=/dev/zero bs=1M count=32 2>/dev/null", text=False)
    assert len(result.stdout) == 32 << 20


def test_signals_are_passed_on(davit, rootfs):
    process = subprocess.Popen(
        [binary(), "run", "--rm", "--rootfs", rootfs, "sh", "-c", "trap 'echo got; exit 9' TERM; echo ready; while :; do sleep 0.05; done"],
        env=davit.env, stdout=subprocess.PIPE, text=True,
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "got\n"
    process.stdout.close()
    assert process.wait(10) == 9


def test_environment_and_user(davit, rootfs):
    (rootfs / "etc").mkdir(exist_ok=True)
    (rootfs / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nalice:x:1000:1001::/home/alice:/bin/sh\n")
    (rootfs / "etc/group").write_text("root:x:0:\nalice:x:1001:\nstaff:x:50:alice\n")
    result = davit.cli(
        "run", "--rm", "--rootfs", rootfs, "-u", "alice", "-e", "A=1", "-e", "FROM_CALLER", "--hostname", "box", "-w", "/tmp",
        "sh", "-c", "id -u; id -G; echo $HOME $A $FROM_CALLER; hostname; pwd; grep CapEff /proc/self/status", env={"FROM_CALLER": "x y"},
    )
    lines = result.stdout.splitlines()
    assert lines[0] == "1000" and set(lines[1].split()) == {"1001", "50"}
    assert lines[2:5] == ["/home/alice 1 x y", "box", "/tmp"]
    assert lines[5].split()[1].strip("0") == ""


def test_tight_by_default(davit, rootfs):
    result = davit.cli(
        "run", "--rm", "--rootfs", rootfs, "sh", "-c",
        "grep -E '^(CapEff|Seccomp):' /proc/self/status; echo 1 >/proc/sys/kernel/panic; mount -t tmpfs t /mnt; "
        "cat /proc/kcore | head -c 1; ls /sys/class/net; ls /sys/firmware",
    )
    lines = result.stdout.split("\n")
    assert lines[0].split() == ["CapEff:", "00000000800405fb"]
    assert lines[1].split() == ["Seccomp:", "2"]
    assert lines[2:] == ["lo", ""]
    assert "Read-only file system" in result.stderr


def test_options_reach_the_kernel(davit, rootfs):
    result = davit.cli(
        "run", "--rm", "--read-only", "--tmpfs", "/scratch:size=1m", "-v", f"{davit.base}:/base:ro", "--ulimit", "nofile=64:128",
        "--cap-drop", "all", "--pids-limit", "20", "--device", "/dev/null:/dev/hole", "--rootfs", rootfs, "sh", "-c",
        "touch /x; touch /base/x; touch /scratch/x /tmp/x && echo wrote; ulimit -n; grep CapBnd /proc/self/status; echo gone >/dev/hole && echo hole",
    )
    lines = result.stdout.splitlines()
    assert lines[0] == "wrote" and lines[1] == "64"
    assert lines[2].split()[1].strip("0") == ""
    assert lines[3] == "hole"
    assert result.stderr.count("Read-only file system") == 2


def test_bundle(davit, rootfs):
    bundle = davit.base / "bundle"
    bundle.mkdir()
    spec = {
        "ociVersion": "1.0.2",
        "root": {"path": str(rootfs)},
        "process": {"args": ["echo", "from bundle"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}},
        "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}]},
    }
    (bundle / "config.json").write_text(json.dumps(spec))
    assert davit.cli("run", "--rm", "--bundle", bundle).stdout == "from bundle\n"
    assert davit.cli("run", "--rm", "--bundle", bundle, "-e", "A=1", "sh", "-c", "echo $A").stdout == "1\n"
    (bundle / "config.json").write_text('{"a": 1, "a": 2}')
    result = davit.cli("run", "--bundle", bundle)
    assert result.returncode == 125 and "config.json" in result.stderr


def test_cidfile_and_names(davit, rootfs):
    cid = davit.base / "cid"
    davit.cli("run", "-d", "--cidfile", cid, "--rootfs", rootfs, "sleep", "100", check=True)
    name = cid.read_text()
    assert re.fullmatch(r"[a-z]+_[a-z]+", name)
    assert davit.cli("ps", "-q").stdout == name + "\n"
    assert davit.cli("run", "--cidfile", cid, "--rootfs", rootfs, "true").returncode == 125
    result = davit.cli("run", "--name", name, "--rootfs", rootfs, "true")
    assert result.returncode == 125 and "exists" in result.stderr
    davit.cli("rm", "-f", name, check=True)


def test_init(davit, rootfs):
    result = davit.cli("run", "--rm", "--init", "--rootfs", rootfs, "sh", "-c", "cat /proc/1/comm; exit 4", env={"PATH": "/usr/bin:/bin"})
    if result.returncode == 125:
        assert "catatonit or tini" in result.stderr
        pytest.skip("this host has no static init")
    assert (result.returncode, result.stdout) == (4, "davit-init\n")


# in the background


def test_background(davit, rootfs):
    assert davit.cli("run", "-d", "--name", "web", "--rootfs", rootfs, "sh", "-c", "echo out; echo err >&2; exit 3").stdout == "web\n"
    assert davit.cli("wait", "web").stdout == "3\n"
    wait_for(lambda: davit.cli("logs", "web").stderr == "err\n")
    assert davit.cli("logs", "web").stdout == "out\n"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|\+00:00) out\n", davit.cli("logs", "-t", "web").stdout)
    assert davit.cli("ps", "-q").stdout == ""
    line = davit.cli("ps", "-a").stdout.splitlines()[1]
    assert "Exited (3)" in line and "echo out" in line
    assert davit.cli("rm", "web").stdout == "web\n"
    assert davit.cli("rm", "web").returncode == 1
    assert davit.cli("rm", "-f", "web").returncode == 0


def test_logs_follow(davit, rootfs):
    davit.cli("run", "-d", "--name", "c", "--rootfs", rootfs, "sh", "-c", "for i in 1 2 3 4 5; do echo line $i; sleep 0.1; done", check=True)
    result = davit.cli("logs", "-f", "c")
    assert result.stdout == "".join(f"line {i}\n" for i in range(1, 6))
    assert davit.cli("logs", "--tail", "2", "c").stdout == "line 4\nline 5\n"
    assert davit.cli("logs", "--tail", "0", "c").stdout == ""


def test_logs_rotate_while_followed(davit, rootfs):
    davit.cli(
        "run", "-d", "--name", "c", "--log-opt", "max-size=64k", "--rootfs", rootfs,
        "sh", "-c", "sleep 0.5; i=0; while [ $i -lt 3000 ]; do echo number $i; i=$((i+1)); [ $((i % 100)) = 0 ] && sleep 0.02; done", check=True,
    )
    lines = davit.cli("logs", "-f", "c").stdout.splitlines()
    assert lines == [f"number {i}" for i in range(3000)]
    kept = davit.cli("logs", "c").stdout.splitlines()
    assert 0 < len(kept) < 3000 and kept[-1] == "number 2999"


def test_logs_of_a_foreground_container(davit, rootfs):
    davit.cli("run", "--name", "c", "--rootfs", rootfs, "true", check=True)
    result = davit.cli("logs", "c")
    assert result.returncode == 125 and "run -d" in result.stderr


def test_create_start_again(davit, rootfs):
    davit.cli("create", "--name", "c", "--rootfs", rootfs, "sh", "-c", "echo hello; exit 5", check=True)
    assert "Created" in davit.cli("ps", "-a").stdout
    for _ in range(2):
        result = davit.cli("start", "-a", "c")
        assert (result.returncode, result.stdout) == (5, "hello\n")
    assert davit.cli("start", "c").stdout == "c\n"
    assert davit.cli("wait", "c").stdout == "5\n"


def test_stop(davit, rootfs):
    trap = "trap 'exit 44' USR1; while :; do sleep 0.05; done"
    davit.cli("run", "-d", "--name", "kind", "--stop-signal", "USR1", "--rootfs", rootfs, "sh", "-c", trap, check=True)
    davit.cli("run", "-d", "--name", "deaf", "--rootfs", rootfs, "sleep", "1000", check=True)
    time.sleep(0.3)
    begin = time.monotonic()
    assert set(davit.cli("stop", "-t", "1", "kind", "deaf").stdout.split()) == {"kind", "deaf"}
    assert 0.9 < time.monotonic() - begin < 5
    assert davit.cli("wait", "kind", "deaf").stdout == "44\n137\n"
    assert davit.cli("stop", "kind").returncode == 0


def test_stop_of_a_paused_container(davit, rootfs):
    trap = "trap 'exit 3' TERM; while :; do sleep 0.05; done"
    davit.cli("run", "-d", "--name", "c", "--rootfs", rootfs, "sh", "-c", trap, check=True)
    time.sleep(0.3)
    davit.cli("pause", "c", check=True)
    assert "Paused" in davit.cli("ps").stdout
    davit.cli("stop", "c", check=True)
    assert davit.cli("wait", "c").stdout == "3\n"


def test_kill_and_rm(davit, rootfs):
    davit.cli("run", "-d", "--name", "c", "--rootfs", rootfs, "sleep", "1000", check=True)
    result = davit.cli("rm", "c")
    assert result.returncode == 2 and "rm -f" in result.stderr
    assert davit.cli("kill", "-s", "NOPE", "c").returncode == 125
    davit.cli("kill", "c", check=True)
    assert davit.cli("wait", "c").stdout == "137\n"
    davit.cli("rm", "c", check=True)


def test_rm_after_the_end(davit, rootfs):
    davit.cli("run", "-d", "--rm", "--name", "c", "--rootfs", rootfs, "true", check=True)
    wait_for(lambda: davit.cli("ps", "-aq").stdout == "")


def test_rm_frees_the_name_at_once(davit, rootfs):
    for _ in range(5):
        davit.cli("run", "--rm", "--name", "same", "--rootfs", rootfs, "true", check=True)


# exec


def test_exec(davit, rootfs):
    davit.cli("run", "-d", "--name", "c", "-e", "A=1", "--rootfs", rootfs, "sleep", "1000", check=True)
    result = davit.cli("exec", "-e", "B=2", "-w", "/tmp", "c", "sh", "-c", "echo $A $B; pwd; exit 6")
    assert (result.returncode, result.stdout) == (6, "1 2\n/tmp\n")
    assert davit.cli("exec", "-i", "c", "cat", input="data").stdout == "data"
    assert davit.cli("exec", "c", "nosuch").returncode == 127
    assert davit.cli("exec", "c", "/etc").returncode == 126
    exec_id = davit.cli("exec", "-d", "c", "sleep", "1000").stdout.strip()
    rows = json.loads(davit.cli("top", "--format", "json", "c").stdout)
    assert [(row["command"], row["exec_id"]) for row in rows] == [(["sleep", "1000"], None), (["sleep", "1000"], exec_id)]
    assert rows[0]["pid"] == 1
    result = davit.cli("exec", "-u", "1234:77", "c", "sh", "-c", "id -u; id -g; grep CapEff /proc/self/status")
    assert result.stdout.split()[:2] == ["1234", "77"]
    assert result.stdout.split()[3].strip("0") == ""
    davit.cli("rm", "-f", "c", check=True)


def test_exec_terminal(davit, rootfs):
    davit.cli("run", "-d", "--name", "c", "--rootfs", rootfs, "sleep", "1000", check=True)
    with davit.terminal("exec", "-it", "c", "sh", width=91, height=33) as t:
        t.expect("# ")
        t.send("tty; stty size\n")
        t.expect(r"/dev/pts/\d+\r\n33 91\r\n")
        t.send("exit 8\n")
        assert t.wait() == 8
    davit.cli("rm", "-f", "c", check=True)


# terminals


def test_terminal(davit, rootfs):
    with davit.terminal("run", "--rm", "-it", "--rootfs", rootfs, "sh", width=77, height=21) as t:
        t.expect("# ")
        t.send("stty size\n")
        t.expect(r"21 77\r\n")
        t.resize(100, 40)
        t.signal(signal.SIGWINCH)
        t.send("stty size\n")
        t.expect(r"40 100\r\n")
        t.send("sleep 1000\n")
        time.sleep(0.3)
        t.send(b"\x03")
        t.expect("# ")
        t.send("exit 5\n")
        assert t.wait() == 5


def test_first_bytes_of_a_terminal(davit, rootfs):
    for _ in range(10):
        with davit.terminal("run", "--rm", "-t", "--rootfs", rootfs, "echo", "quick") as t:
            assert t.wait() == 0
            assert t.output == b"quick\r\n"


def test_detach_and_attach(davit, rootfs):
    with davit.terminal("run", "-it", "--name", "c", "--rootfs", rootfs, "sh") as t:
        t.expect("# ")
        t.send("echo fir''st\n")
        t.expect("first")
        t.send(DETACH)
        assert t.wait() == 0
    with davit.terminal("attach", "c") as t:
        t.expect("first")  # replayed
        t.send("exit 4\n")
        assert t.wait() == 4
    assert davit.cli("attach", "c").returncode == 125
    davit.cli("rm", "c", check=True)


def test_terminal_is_put_back(davit, rootfs):
    for end in ("exit\n", DETACH):
        with davit.terminal("run", "-it", "--rm", "--rootfs", rootfs, "sh") as t:
            before = termios.tcgetattr(t.master)
            t.expect("# ")
            assert not termios.tcgetattr(t.master)[3] & termios.ICANON
            t.send(end)
            t.process.wait(10)
            assert termios.tcgetattr(t.master)[:4] == before[:4]


def test_lost_terminal(davit, rootfs):
    """The container runs on, and the command ends."""
    with davit.terminal("run", "-it", "--name", "c", "--rootfs", rootfs, "sh", "-c", "trap '' HUP; while :; do sleep 0.1; done") as t:
        wait_for(lambda: "Up" in davit.cli("ps").stdout)
        t.hangup()
        t.process.wait(10)
    assert davit.cli("ps", "-q").stdout == "c\n"
    davit.cli("rm", "-f", "c", check=True)


def test_terminal_fed_by_a_pipe(davit, rootfs):
    result = davit.cli("run", "--rm", "-it", "--rootfs", rootfs, "sh", input="echo pi''ped\nexit 3\n")
    assert result.returncode == 3 and "piped" in result.stdout
    result = davit.cli("run", "--rm", "-it", "--rootfs", rootfs, "cat", input="no line end")
    assert result.returncode == 0 and "no line end" in result.stdout


# the daemon dies


def test_foreground_outlives_the_reactor(davit, rootfs):
    process = subprocess.Popen(
        [binary(), "run", "--rm", "--name", "c", "--rootfs", rootfs, "sh", "-c", "echo ready; sleep 1; exit 6"],
        env=davit.env, stdout=subprocess.PIPE, text=True,
    )
    assert process.stdout.readline() == "ready\n"
    davit.kill_reactor()
    assert process.wait(10) == 6
    process.stdout.close()
    assert davit.cli("ps", "-aq").stdout == ""


def test_terminal_outlives_the_reactor(davit, rootfs):
    with davit.terminal("run", "-it", "--rm", "--rootfs", rootfs, "sh") as t:
        t.expect("# ")
        davit.kill_reactor()
        t.send("echo al''ive\n")
        t.expect("alive")
        t.send("exit 2\n")
        assert t.wait() == 2


def test_wait_and_stop_outlive_the_reactor(davit, rootfs):
    davit.cli("run", "-d", "--name", "c", "--rootfs", rootfs, "sh", "-c", "trap 'sleep 1; exit 3' TERM; while :; do sleep 0.05; done", check=True)
    time.sleep(0.3)
    waiting = subprocess.Popen([binary(), "wait", "c"], env=davit.env, stdout=subprocess.PIPE, text=True)
    stopping = subprocess.Popen([binary(), "stop", "c"], env=davit.env, stdout=subprocess.PIPE, text=True)
    time.sleep(0.4)
    davit.kill_reactor()
    assert waiting.communicate(timeout=10)[0] == "3\n"
    assert stopping.communicate(timeout=10)[0] == "c\n"
    assert stopping.returncode == 0


def test_events_outlive_the_reactor(davit, rootfs):
    process = subprocess.Popen([binary(), "events", "--since", "0", "--format", "json"], env=davit.env, stdout=subprocess.PIPE, text=True)
    davit.cli("create", "--name", "a", "--rootfs", rootfs, "true", check=True)
    davit.kill_reactor()
    davit.cli("create", "--name", "b", "--rootfs", rootfs, "true", check=True)
    seen = []
    while not seen or seen[-1]["topic"] != "/containers/create" or seen[-1]["event"]["id"] != "b":
        seen.append(json.loads(process.stdout.readline()))
    process.kill()
    process.wait()
    process.stdout.close()
    assert [e["seq"] for e in seen] == list(range(seen[0]["seq"], seen[0]["seq"] + len(seen)))
    assert [e["event"]["id"] for e in seen if e["topic"] == "/containers/create"] == ["a", "b"]


# the rest


def test_ps_inspect_filter(davit, rootfs):
    davit.cli("create", "--name", "a", "-l", "app=shop", "--rootfs", rootfs, "true", check=True)
    davit.cli("create", "--name", "b", "--rootfs", rootfs, "true", check=True)
    assert davit.cli("ps", "-aq", "--filter", "labels.app==shop").stdout == "a\n"
    rows = json.loads(davit.cli("ps", "-a", "--format", "json").stdout)
    assert [(r["id"], r["status"], r["command"]) for r in rows] == [("a", "created", ["true"]), ("b", "created", ["true"])]
    (record,) = json.loads(davit.cli("inspect", "a").stdout)
    assert record["labels"] == {"app": "shop"} and record["task"] is None
    assert record["spec"]["root"]["path"] == str(rootfs)


def test_namespaces(davit, rootfs):
    davit.cli("namespaces", "create", "team", "-l", "k=v", check=True)
    davit.cli("-n", "team", "create", "--name", "c", "--rootfs", rootfs, "true", check=True)
    assert davit.cli("ps", "-aq").stdout == ""
    assert davit.cli("ps", "-aq", env={"DAVIT_NAMESPACE": "team"}).stdout == "c\n"
    assert davit.cli("namespaces", "rm", "team").returncode == 125
    davit.cli("-n", "team", "rm", "c", check=True)
    davit.cli("namespaces", "rm", "team", check=True)
    assert "team" not in davit.cli("namespaces", "-q").stdout


def test_environment_twins(davit, rootfs):
    env = {"DAVIT_RUN_RM": "1", "DAVIT_RUN_ENV": "A=1\nB=two words", "DAVIT_RUN_ROOTFS": str(rootfs)}
    assert davit.cli("run", "sh", "-c", "echo $A $B", env=env).stdout == "1 two words\n"
    assert davit.cli("ps", "-aq").stdout == ""


def test_rpc_and_describe(davit):
    assert json.loads(davit.cli("rpc", "version").stdout)["version"]
    assert json.loads(davit.cli("rpc", "namespaces.create", "-", input='{"name": "x"}').stdout)["namespace"]["name"] == "x"
    names = [m["name"] for m in json.loads(davit.cli("describe", "--format", "json").stdout)["methods"]]
    assert "tasks.create" in names
    assert "container_id" in davit.cli("describe", "tasks.create").stdout
    assert "## tasks.create" in davit.cli("describe", "--format", "markdown").stdout
    assert davit.cli("describe", "no.such").returncode == 125


def test_version_without_a_daemon(davit):
    result = davit.cli("version", "--format", "json", env={"DAVIT_SOCKET": "/nosuch/sock", "DAVIT_AUTOSTART": "1"})
    answer = json.loads(result.stdout)
    assert answer["client"]["version"] and answer["server"] is None
    assert json.loads(davit.cli("version", "--format", "json").stdout)["server"]["version"] == answer["client"]["version"]


def test_doctor(davit):
    result = davit.cli("doctor", "--format", "json")
    findings = {(f["group"], f["name"]): f for f in json.loads(result.stdout)}
    assert result.returncode == 0
    assert findings["kernel", "pidfd"]["level"] == "ok"
    assert str(davit.socket) in findings["daemon", "socket"]["detail"]
    assert "cgroups" in davit.cli("doctor").stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(davit, shell):
    script = davit.cli("completion", shell, check=True).stdout
    assert "--stop-signal" in script or "stop-signal" in script
    try:
        result = run_command([shell, "-n"], dict(davit.env), input=script)
    except FileNotFoundError:
        pytest.skip(f"{shell} is not installed")
    assert (result.returncode, result.stderr) == (0, "")


def test_help_names_every_command(davit):
    text = davit.cli("help").stdout
    for command in re.findall(r"^  ([\w-]+) ", text.split("Options:")[0], re.M):
        result = davit.cli("help", command)
        assert result.returncode == 0 and result.stdout.startswith(f"Usage: davit {command}")


# starting a daemon


@pytest.fixture
def no_daemon(make_davit):
    """A daemon that a command has to start; ended after the test."""
    davit = make_davit(start=False)
    davit.env.update(
        DAVIT_AUTOSTART="1", DAVIT_ROOT=str(davit.root), DAVIT_STATE=str(davit.state), DAVIT_CGROUP_PARENT=davit.cgroup_parent,
        SECRET="not for the daemon",
    )
    yield davit
    pids = leaks.processes_with(str(davit.socket))
    if pids:
        davit.cli("rpc", "server.shutdown", '{"kill": true}')
    assert not leaks.wait_gone(pids, 10)


def stat(pid):
    """The fields after the name: state, parent, group, session."""
    return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()


def guardians(davit):
    """Daemons that are nobody's child: the tests are a subreaper, so they come to us."""
    return [pid for pid in leaks.processes_with(str(davit.socket)) if stat(pid)[1] == str(os.getpid())]


def test_autostart(no_daemon):
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)
    run_command([binary(), "ps"], no_daemon.env, check=True, close_fds=False, cwd=no_daemon.base)
    os.close(write_end)
    # nothing of the caller has been kept open
    assert os.read(read_end, 1) == b""
    os.close(read_end)
    (guardian,) = guardians(no_daemon)
    assert os.readlink(f"/proc/{guardian}/cwd") == "/"
    assert stat(guardian)[3] != str(os.getsid(0))
    with open(f"/proc/{guardian}/environ") as file:
        environment = file.read()
    assert "SECRET" not in environment and "HOME=" not in environment
    with open(f"/proc/{guardian}/cgroup") as file:
        for line in file:
            assert line.rstrip("\n").split(":", 2)[2] == "/"
    assert json.loads(no_daemon.cli("rpc", "server.info").stdout)["guardian_pid"] == guardian


def test_autostart_of_many(no_daemon):
    processes = [subprocess.Popen([binary(), "ps", "-q"], env=no_daemon.env) for _ in range(8)]
    assert [p.wait(30) for p in processes] == [0] * 8
    assert len(guardians(no_daemon)) == 1


def test_autostart_is_refused(no_daemon):
    result = no_daemon.cli("ps", env={"DAVIT_AUTOSTART": "0"})
    assert result.returncode == 125 and "davit serve" in result.stderr
    assert not guardians(no_daemon)


def test_autostart_that_fails(no_daemon):
    result = no_daemon.cli("ps", env={"DAVIT_JOURNAL_SIZE": "nonsense"})
    assert result.returncode == 125
    assert "nonsense" in result.stderr and "daemon.log" in result.stderr
    assert not guardians(no_daemon)
