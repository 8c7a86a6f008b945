# SPDX-License-Identifier: Apache-2.0
"""checkpoint, restore and checkpoints by the command line, with real criu."""

import array
import fcntl
import json
import os
import re
import subprocess
import tarfile
import termios

import pytest

from lib.cli import run as run_command
from lib.cli_images import active, inspect, lines, make_image
from lib.daemon import binary, wait_for
from lib.rpc import DEADLINE

#: Counts in its memory, until somebody makes /stop.
COUNT = "i=0; while [ ! -e /stop ]; do i=$((i+1)); echo $i >/count; sleep 0.02; done; echo at $i; exit 7"

#: Knows what /token said when it began, has no file open meanwhile, and says it at its end.
REMEMBER = "read x </token; : >/ready; while [ ! -e /stop ]; do sleep 0.02; done; echo $x"

pytestmark = pytest.mark.usefixtures("criu")


def ioctl_pending(file):
    """Bytes in a pipe that nobody has read yet."""
    buf = array.array("i", [0])
    fcntl.ioctl(file.fileno(), termios.FIONREAD, buf)
    return buf[0]


@pytest.fixture
def box(davit, busybox):
    return make_image(davit, busybox)


def count(davit, name):
    """The count of a running container, once there is one."""
    def number():
        text = davit.cli("exec", name, "cat", "/count").stdout.strip()
        return int(text) if text else None
    return wait_for(number, what=f"a count of {name}")


def counter(davit, box="box", name="c", *options, at_least=3):
    davit.cli("run", "-d", "--name", name, *options, box, "sh", "-c", COUNT, check=True)
    wait_for(lambda: count(davit, name) >= at_least, what="a count")


def ready(davit, name="c"):
    wait_for(lambda: davit.cli("exec", name, "test", "-e", "/ready").returncode == 0, what=f"{name} having begun")


def remembers(davit, name, token):
    davit.cli("exec", name, "touch", "/stop", check=True)
    davit.cli("wait", name, check=True)
    assert davit.cli("logs", name, check=True).stdout == token + "\n"


def checkpoint(davit, *args):
    return davit.cli("checkpoint", *args, check=True, timeout=DEADLINE * 2).stdout.strip()


def goes_on(davit, name, since):
    """It counts, and not from the beginning."""
    first = count(davit, name)
    assert first >= since
    wait_for(lambda: count(davit, name) > first, what=f"{name} counting on")


def refused(davit, *args, code=125):
    """The one line of an error."""
    result = davit.cli(*args, timeout=DEADLINE * 2)
    assert result.returncode == code and result.stderr.startswith("davit: "), result
    first = result.stderr.splitlines()[0]
    assert all(line.startswith("  ") for line in result.stderr.splitlines()[1:]), result.stderr
    return first


def nothing_left(davit, containers=()):
    """Nothing but these containers, with a snapshot each."""
    assert sorted(lines(davit.cli("ps", "-aq", check=True))) == sorted(containers)
    assert active(davit) == sorted(containers)
    assert lines(davit.cli("leases", "-q", check=True)) == []
    assert not [name for name in lines(davit.cli("images", "-q", check=True)) if name.startswith("davit-restore")]


def listed(davit, *options):
    return json.loads(davit.cli("checkpoints", "--format", "json", *options, check=True).stdout)


# a checkpoint's whole life


def test_life(davit, box):
    counter(davit, box)
    made = davit.cli("checkpoint", "--name", "ck", "c", check=True)
    assert (made.stdout, made.stderr) == ("ck\n", "")
    since = count(davit, "c")
    assert since >= 3
    labels = davit.call("images.get", name="ck")["image"]["labels"]
    assert labels == {"containerd.io/checkpoint": "true", "davit.checkpoint.local": "true"}
    assert davit.cli("restore", "-d", "--name", "copy", "ck", check=True, timeout=DEADLINE * 2).stdout == "copy\n"
    goes_on(davit, "copy", 3)
    goes_on(davit, "c", since)
    assert inspect(davit, "copy")["image"] == "box"
    nothing_left(davit, ["c", "copy"])
    davit.cli("exec", "copy", "touch", "/stop", check=True)
    assert davit.cli("wait", "copy", check=True).stdout.strip() == "7"
    assert davit.cli("logs", "copy", check=True).stdout.startswith("at ")
    # it is a container as any other: started again it begins anew
    davit.cli("rm", "copy", check=True)
    assert davit.cli("rmi", "ck", check=True).stdout == "ck\n"
    assert listed(davit) == []
    nothing_left(davit, ["c"])


def test_exit_and_the_same_name(davit, box):
    counter(davit, box)
    davit.cli("checkpoint", "--exit", "--name", "ck", "c", check=True)
    assert davit.cli("wait", "c", check=True).stdout.strip() == "137"
    error = refused(davit, "restore", "ck")
    assert "there is a container c already" in error and "--name" in error and "davit rm c" in error
    davit.cli("rm", "c", check=True)
    nothing_left(davit)
    with subprocess.Popen([binary(), "restore", "ck"], env=davit.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as front:
        wait_for(lambda: "c" in lines(davit.cli("ps", "-q")), what="the container")
        goes_on(davit, "c", 3)
        davit.cli("exec", "c", "touch", "/stop", check=True)
        out, err = front.communicate(timeout=DEADLINE)
    assert front.returncode == 7 and re.fullmatch(r"at \d+\n", out) and err == ""
    assert int(out.split()[1]) > 3
    nothing_left(davit, ["c"])


def test_stats_and_lists(davit, box):
    counter(davit, box)
    made = davit.cli("checkpoint", "-v", "--name", "localhost/ck:1", "c", check=True)
    assert re.fullmatch(r"frozen for [\d.]+ m?s, [\d.]+ m?s in all; [\d.]+ [kM]B in [\d.]+ [kM]B \([\d.]+ to 1\), [\d.]+ [kMG]?B/s\n", made.stderr)
    named = checkpoint(davit, "c")
    assert re.fullmatch(r"containerd\.io/checkpoint/c:[\dT.Z-]+", named)
    rows = listed(davit)
    assert sorted(row["name"] for row in rows) == sorted([named, "localhost/ck:1"])
    for row in rows:
        assert row["container"] == "c" and row["image"] == "box" and row["local"] is True
        assert row["size"] > 0 and row["stats"]["frozen_us"] > 0 and row["stats"]["bytes_in"] > row["size"]
    assert sorted(lines(davit.cli("checkpoints", "-q", check=True))) == sorted([named, "localhost/ck:1"])
    table = lines(davit.cli("checkpoints", check=True))
    assert table[0].split() == ["NAME", "CONTAINER", "CREATED", "SIZE", "RATIO", "FROZEN"]
    assert len(table) == 3 and all(" c " in line and line.endswith("s") for line in table[1:])
    assert lines(davit.cli("checkpoints", "-q", "-f", "name==localhost/ck:1", check=True)) == ["localhost/ck:1"]
    # an image that is none is not there
    assert "box" not in davit.cli("checkpoints", check=True).stdout
    davit.cli("rmi", "ck:1", check=True)
    assert lines(davit.cli("checkpoints", "-q", check=True)) == [named]


def test_names_of_checkpoints(davit, box):
    counter(davit, box)
    named = checkpoint(davit, "--name", "localhost/team/ck", "c")
    digest = davit.call("images.get", name=named)["image"]["target"]["digest"]
    for i, text in enumerate(["ck", "team/ck:latest", digest[7:15], digest]):
        davit.cli("restore", "-d", "--name", f"r{i}", text, check=True, timeout=DEADLINE * 2)
    assert refused(davit, "checkpoint", "--name", named, "c").count("exists") == 1


def test_changed_files(davit, box):
    """The layer of the container: new, changed and removed files, and one that is open."""
    script = ("echo new >/new; echo changed >/etc/hostname; rm /etc/group; mkdir /dir; ln -s /new /dir/link; chmod 4711 /new;"
              "exec 3>/open; echo before >&3; touch /ready; while [ ! -e /stop ]; do sleep 0.02; done; echo after >&3; cat /open; ls /etc")
    davit.cli("run", "-d", "--name", "c", box, "sh", "-c", script, check=True)
    wait_for(lambda: davit.cli("exec", "c", "test", "-e", "/ready").returncode == 0, what="the files")
    davit.cli("checkpoint", "--exit", "--name", "ck", "c", check=True)
    davit.cli("rm", "c", check=True)
    davit.cli("gc", check=True)
    davit.cli("restore", "-d", "--name", "r", "ck", check=True, timeout=DEADLINE * 2)
    look = "cat /new /etc/hostname; readlink /dir/link; stat -c %a /new; test -e /etc/group || echo gone; touch /stop"
    assert lines(davit.cli("exec", "r", "sh", "-c", look, check=True)) == ["new", "changed", "/new", "4711", "gone"]
    davit.cli("wait", "r", check=True)
    out = lines(davit.cli("logs", "r", check=True))
    assert out[:2] == ["before", "after"] and "group" not in out


def test_again_and_again(davit, box):
    """A restored one is checkpointed and restored, and counts on each time."""
    counter(davit, box)
    for round in range(3):
        since = count(davit, "c")
        davit.cli("checkpoint", "--exit", "--name", f"ck{round}", "c", check=True)
        davit.cli("rm", "c", check=True)
        davit.cli("restore", "-d", f"ck{round}", check=True, timeout=DEADLINE * 2)
        goes_on(davit, "c", since)
    nothing_left(davit, ["c"])


# stdio


def test_stdin(davit, box):
    front = subprocess.Popen([binary(), "run", "-i", "--name", "c", box, "sh", "-c", "x=kept; read a; read b; echo $x $a $b"],
                             env=davit.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    front.stdin.write(b"one\n")
    front.stdin.flush()
    wait_for(lambda: "c" in lines(davit.cli("ps", "-q")), what="the container")
    # the pipe is empty when it has the line
    wait_for(lambda: ioctl_pending(front.stdin) == 0, what="a line that was read")
    davit.cli("checkpoint", "--exit", "--name", "ck", "c", check=True)
    front.stdin.close()
    assert front.wait(DEADLINE) == 137
    front.stdout.close()
    front.stderr.close()
    davit.cli("rm", "c", check=True)
    result = davit.cli("restore", "--rm", "ck", input="two\n", timeout=DEADLINE * 2)
    assert (result.returncode, result.stdout) == (0, "kept one two\n"), result
    nothing_left(davit)


def test_terminal(davit, box):
    with davit.terminal("run", "-it", "--name", "c", box, "sh") as t:
        t.expect("# ")
        t.send("x=kept\n")
        t.expect("# ")
        davit.cli("checkpoint", "--exit", "--name", "ck", "c", check=True)
        assert t.wait() == 137
    davit.cli("rm", "c", check=True)
    with davit.terminal("restore", "--rm", "ck", width=100, height=30) as t:
        wait_for(lambda: "c" in lines(davit.cli("ps", "-q")), what="the container")
        t.send("echo $x-$x; stty size; exit 5\n")
        t.expect("kept-kept")
        t.expect("30 100")
        assert t.wait() == 5
    nothing_left(davit)


def test_rm(davit, box):
    counter(davit, box)
    davit.cli("checkpoint", "--name", "ck", "c", check=True)
    with davit.events(filters=["topic==/containers/delete"]) as events:
        davit.cli("restore", "-d", "--rm", "--name", "r", "ck", check=True, timeout=DEADLINE * 2)
        davit.cli("exec", "r", "touch", "/stop", check=True)
        events.next()
    davit.cli("gc", check=True)
    nothing_left(davit, ["c"])


def test_progress(davit, box):
    """On a terminal: a line while it works, which is gone afterwards, and what there is to say."""
    counter(davit, box)
    with davit.terminal("checkpoint", "--name", "ck", "c", env={"TERM": "xterm"}) as t:
        t.expect("Checkpointing c")
        t.expect("\x1b\\[K")
        t.expect(r"frozen for .* in all; .* to 1\), .*/s\r\n")
        t.expect("ck\r\n")
        assert t.wait() == 0
    with davit.terminal("restore", "-d", "--name", "r", "ck", env={"TERM": "xterm"}) as t:
        t.expect("Restoring r")
        t.expect("\x1b\\[K")
        t.expect("r\r\n")
        assert t.wait() == 0
    goes_on(davit, "r", 3)


# options


def test_options_of_checkpoint(davit, box, tmp_path):
    counter(davit, box)
    work = tmp_path / "work"
    work.mkdir()
    checkpoint(davit, "--name", "a", "--leave-running", "--tcp-established", "--ext-unix-sk", "--shell-job", "--file-locks",
               "--link-remap", "--cgroups-mode", "ignore", "--network-lock", "skip", "--compression", "none", "--stall-timeout", "0",
               "--work-path", work, "c")
    checkpoint(davit, "--name", "b", "--level", "19", "--empty-ns", "network", "c")
    rows = {row["name"]: row for row in listed(davit)}
    options = rows["a"]["options"]
    assert all(options[key] for key in ("open_tcp", "external_unix_sockets", "shell_job", "file_locks", "link_remap", "left_running"))
    assert options["cgroups_mode"] == "ignore" and options["empty_namespaces"] == []
    assert rows["b"]["options"]["empty_namespaces"] == ["net"] and not rows["b"]["options"]["open_tcp"]
    assert rows["a"]["size"] > 2 * rows["b"]["size"]
    assert (work / "criu.log").exists()
    goes_on(davit, "c", 3)
    for name in ("a", "b"):
        davit.cli("restore", "-d", "--name", f"of-{name}", name, check=True, timeout=DEADLINE * 2)
        goes_on(davit, f"of-{name}", 3)


@pytest.mark.parametrize("args,said", [
    (["--exit", "--leave-running"], "exclude each other"),
    (["--compression", "gzip"], "none of zstd, none"),
    (["--network-lock", "x"], "none of iptables, nftables, skip"),
    (["--cgroups-mode", "x"], "none of ignore,"),
    (["--level", "20"], "--level"),
    (["--level", "x"], "--level"),
    (["--level", "3", "--compression", "none"], "--level is for"),
    (["--stall-timeout", "-1"], "--stall-timeout"),
    (["--format", "podman"], "--format is for --export"),
    (["--export", "f", "--format", "zip"], "davit-oci, podman, containerd or criu-dir"),
    (["--export-compression", "gzip"], "--export-compression is for --export"),
    (["--export", "f", "--export-compression", "gzip"], "is for archives in the formats"),
    (["--export", "f", "--format", "criu-dir", "--export-compression", "gzip"], "is for archives in the formats"),
    (["--export", "f", "--format", "podman", "--export-compression", "xz"], "gzip"),
    (["--export", "f", "--image-path", "d"], "--image-path"),
    (["--name", "n", "--image-path", "d"], "--image-path"),
    (["--export", "/nowhere/at/all"], "No such file"),
    (["--empty-ns", "pid"], "network"),
    (["--name", ""], "name"),
])
def test_wrong_options_of_checkpoint(davit, box, args, said, tmp_path):
    counter(davit, box)
    result = davit.cli("checkpoint", *args, "c", cwd=tmp_path)
    assert result.returncode == 125 and said in result.stderr and result.stdout == "", result
    assert davit.status("c")["status"] == "running" and listed(davit) == [] and os.listdir(tmp_path) == []


def test_what_cannot_be_checkpointed(davit, box):
    assert "no container" in refused(davit, "checkpoint", "c") or "not found" in refused(davit, "checkpoint", "c")
    davit.cli("create", "--name", "c", box, "true", check=True)
    assert "c" in refused(davit, "checkpoint", "c")
    davit.cli("start", "-a", "c", check=True)
    assert "stopped" in refused(davit, "checkpoint", "c")


def test_paused(davit, box):
    counter(davit, box)
    davit.cli("pause", "c", check=True)
    davit.cli("checkpoint", "--name", "ck", "c", check=True)
    davit.cli("restore", "-d", "--name", "r", "ck", check=True, timeout=DEADLINE * 2)
    goes_on(davit, "r", 3)
    davit.cli("resume", "c", check=True)


def test_env_twins(davit, box):
    counter(davit, box)
    davit.cli("checkpoint", "c", env={"DAVIT_CHECKPOINT_NAME": "twin"}, check=True)
    davit.cli("restore", "twin", env={"DAVIT_RESTORE_NAME": "r", "DAVIT_RESTORE_DETACH": "true"}, check=True, timeout=DEADLINE * 2)
    goes_on(davit, "r", 3)


@pytest.mark.parametrize("options,said", [
    (["--tcp-established"], "without established connections"),
    (["--tcp-established", "--tcp-close"], "exclude each other"),
    (["-v", "/tmp:/nothing"], "nothing mounted at /nothing"),
    (["-v", "nonsense"], "SOURCE:DESTINATION"),
    (["-v", "/does/not/exist:/x"], "No such file"),
    (["--device", "/dev/null:/dev/other"], "no device /dev/other"),
    (["--rootfs", "/does/not/exist"], "No such file"),
    (["--network", "nonsense"], "none of none, host"),
    (["--network", "container:nobody"], "nobody"),
    (["--name", "not a name"], "id"),
    (["--stall-timeout", "soon"], "--stall-timeout"),
])
def test_wrong_options_of_restore(davit, box, options, said):
    counter(davit, box)
    checkpoint(davit, "--name", "ck", "c")
    assert said in refused(davit, "restore", "--name", "r", *options, "ck")
    nothing_left(davit, ["c"])


def test_work_path_of_restore(davit, box, tmp_path):
    """One and the same folder for several: criu writes its log anew and takes no offence at what it left there."""
    counter(davit, box)
    checkpoint(davit, "--name", "ck", "c")
    for name in ("r1", "r2"):
        davit.cli("restore", "-d", "--name", name, "--stall-timeout", "60", "--work-path", str(tmp_path), "ck", check=True,
                  timeout=DEADLINE * 2)
        goes_on(davit, name, 3)
        assert (tmp_path / "criu.log").exists()


def test_tcp_close(davit, box):
    counter(davit, box)
    checkpoint(davit, "--name", "ck", "c")
    davit.cli("restore", "-d", "--name", "r", "--tcp-close", "ck", check=True, timeout=DEADLINE * 2)
    goes_on(davit, "r", 3)


# what is not in a checkpoint


def test_folder_as_root(davit, rootfs):
    token = rootfs / "token"
    token.write_text("one\n")
    davit.cli("run", "-d", "--name", "c", "--rootfs", rootfs, "sh", "-c", REMEMBER, check=True)
    ready(davit)
    token.write_text("two\n")
    davit.cli("checkpoint", "--exit", "--name", "ck", "c", check=True)
    davit.cli("rm", "c", check=True)
    davit.cli("restore", "-d", "ck", check=True, timeout=DEADLINE * 2)
    remembers(davit, "c", "one")
    davit.cli("rm", "c", check=True)
    (rootfs / "stop").unlink()
    moved = rootfs.rename(rootfs.parent / "moved")
    error = refused(davit, "restore", "ck")
    assert str(rootfs) in error and "--rootfs DIR" in error
    davit.cli("restore", "-d", "--rootfs", moved, "ck", check=True, timeout=DEADLINE * 2)
    remembers(davit, "c", "one")


def test_archive_of_a_folder(make_davit, davit, rootfs, busybox):
    """A checkpoint without any image, imported elsewhere: the folder has to be given."""
    (rootfs / "token").write_text("one\n")
    davit.cli("run", "-d", "--name", "c", "--rootfs", rootfs, "sh", "-c", REMEMBER, check=True)
    ready(davit)
    archive = davit.base / "ck.tar"
    davit.cli("checkpoint", "--exit", "--name", "ck", "--export", archive, "c", check=True, timeout=DEADLINE * 2)
    other = make_davit()
    assert other.cli("import", "--name", "ck", archive, check=True).stderr == ""
    for text in (archive, "ck"):
        error = refused(other, "restore", "--name", "r", text)
        assert "--rootfs DIR" in error and "not made by this daemon" in error
    other.cli("restore", "-d", "--name", "r", "--rootfs", rootfs, "ck", check=True, timeout=DEADLINE * 2)
    remembers(other, "r", "one")
    assert "--rootfs" in refused(davit, "restore", "--name", "r", "--rootfs", "/does/not/exist", "ck")


def test_bind_mounts(davit, box, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        (folder / "here").write_text(folder.name)
    counter(davit, box, "c", "-v", f"{one}:/data")
    davit.cli("checkpoint", "--exit", "--name", "ck", "c", check=True)
    davit.cli("restore", "-d", "--name", "a", "ck", check=True, timeout=DEADLINE * 2)
    davit.cli("restore", "-d", "--name", "b", "-v", f"{two}:/data", "ck", check=True, timeout=DEADLINE * 2)
    for name, text in (("a", "one"), ("b", "two")):
        assert davit.cli("exec", name, "cat", "/data/here", check=True).stdout == text
    davit.cli("rm", "-f", "a", check=True)
    one.rename(tmp_path / "gone")
    error = refused(davit, "restore", "--name", "a", "ck")
    assert f"{one}, is not there any more" in error and "-v SOURCE:/data" in error
    nothing_left(davit, ["b", "c"])


def test_volumes(davit, rootfs):
    """A volume of the image: each container has its own, with what was in it."""
    make_image(davit, rootfs, "box", "-v", "/data")
    counter(davit)
    davit.cli("exec", "c", "sh", "-c", "echo kept >/data/file; chmod 700 /data", check=True)
    davit.cli("checkpoint", "--exit", "--name", "ck", "c", check=True)
    davit.cli("restore", "-d", "--name", "r", "ck", check=True, timeout=DEADLINE * 2)
    assert lines(davit.cli("exec", "r", "sh", "-c", "cat /data/file; stat -c %a /data; echo more >>/data/file", check=True)) == ["kept", "700"]
    davit.cli("rm", "c", check=True)
    davit.cli("gc", check=True)
    assert lines(davit.cli("exec", "r", "cat", "/data/file", check=True)) == ["kept", "more"]
    error = refused(davit, "restore", "ck")
    assert "the volume at /data went with the old container" in error and "-v SOURCE:/data" in error
    (rootfs.parent / "data").mkdir()
    davit.cli("restore", "-d", "-v", f"{rootfs.parent}/data:/data", "ck", check=True, timeout=DEADLINE * 2)
    davit.cli("rm", "-f", "r", "c", check=True)
    davit.cli("gc", check=True)
    assert active(davit) == []


def test_network_of_another(davit, box):
    davit.cli("run", "-d", "--name", "net", box, "sleep", "1000", check=True)
    counter(davit, box, "c", "--network", "container:net")
    davit.cli("checkpoint", "--exit", "--name", "ck", "c", check=True)
    assert "say which one it is to have now with --network" in refused(davit, "restore", "--name", "r", "ck")
    for network in ("container:net", "none"):
        davit.cli("restore", "-d", "--name", "r", "--network", network, "ck", check=True, timeout=DEADLINE * 2)
        inside = [davit.cli("exec", name, "readlink", "/proc/self/ns/net", check=True).stdout for name in ("net", "r")]
        assert (inside[0] == inside[1]) == (network != "none")
        davit.cli("rm", "-f", "r", check=True)


def test_host_network(davit, box):
    counter(davit, box, "c", "--network", "host")
    davit.cli("checkpoint", "--exit", "--name", "ck", "c", check=True)
    assert "host's network" in refused(davit, "restore", "--name", "r", "--network", "none", "ck")
    davit.cli("restore", "-d", "--name", "r", "ck", check=True, timeout=DEADLINE * 2)
    assert davit.cli("exec", "r", "readlink", "/proc/self/ns/net", check=True).stdout.strip() == os.readlink("/proc/self/ns/net")


def test_native_snapshots(davit, rootfs):
    """There is no layer of what changed: that is said."""
    (rootfs / "token").write_text("one\n")
    make_image(davit, rootfs)
    davit.cli("run", "-d", "--name", "c", "--snapshotter", "native", "box", "sh", "-c", REMEMBER, check=True)
    ready(davit)
    davit.cli("checkpoint", "--exit", "--name", "ck", "c", check=True)
    result = davit.cli("restore", "-d", "--name", "r", "ck", check=True, timeout=DEADLINE * 2)
    assert "no layer of changed files" in result.stderr
    assert inspect(davit, "r")["snapshotter"] == "native"
    remembers(davit, "r", "one")


# failures


def test_nothing_to_restore(davit, box, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("this is no archive\n" * 1000)
    with tarfile.open(tmp_path / "other.tar", "w") as tar:
        tar.add(tmp_path / "text", "some/file")
    davit.cli("export", "-o", tmp_path / "box.tar", box, check=True)
    assert "neither a checkpoint nor a file" in refused(davit, "restore", "nothing")
    assert "No such file" in refused(davit, "restore", "/does/not/exist")
    assert "box is an image, but no checkpoint" in refused(davit, "restore", "box")
    assert "but no checkpoint" in refused(davit, "restore", tmp_path / "box.tar")
    assert "no archive of a checkpoint" in refused(davit, "restore", tmp_path / "text")
    assert "no archive of a checkpoint" in refused(davit, "restore", tmp_path / "other.tar")
    refused(davit, "restore", tmp_path / "empty")
    refused(davit, "restore")
    nothing_left(davit)


def test_failed_restore_leaves_nothing(davit, box, tmp_path):
    """criu does not find the files that it needs."""
    counter(davit, box)
    davit.cli("checkpoint", "--exit", "--name", "ck", "c", check=True)
    (tmp_path / "empty").mkdir()
    for front in ([], ["-d"]):
        result = davit.cli("restore", *front, "--name", "r", "--rootfs", tmp_path / "empty", "ck", timeout=DEADLINE * 2)
        assert result.returncode == 125 and result.stderr.startswith("davit: cannot restore ck: "), result
        nothing_left(davit, ["c"])


def test_created_one_is_removed(davit, rootfs):
    """A restored task that nobody has started can be killed and deleted."""
    (rootfs / "token").write_text("one\n")
    make_image(davit, rootfs)
    davit.cli("run", "-d", "--name", "c", "box", "sh", "-c", REMEMBER, check=True)
    ready(davit)
    davit.cli("checkpoint", "--exit", "--name", "ck", "c", check=True)
    davit.call("tasks.delete", container_id="c")
    for end in ("kill", "rm"):
        davit.call("tasks.create", container_id="c", checkpoint="ck")
        assert davit.status("c")["status"] == "created"
        if end == "kill":
            davit.call("tasks.kill", container_id="c", signal="KILL")
            assert davit.call("tasks.wait", container_id="c")["exit_status"] == 137
            davit.call("tasks.delete", container_id="c")
    davit.cli("rm", "-f", "c", check=True)
    nothing_left(davit)


# archives and folders


def test_export(davit, box, tmp_path):
    counter(davit, box)
    made = davit.cli("checkpoint", "--name", "ck", "--export", "ck.tar", "c", cwd=tmp_path, check=True)
    assert made.stdout == "ck\n" and os.listdir(tmp_path) == ["ck.tar"]
    with tarfile.open(tmp_path / "ck.tar") as tar:
        assert {"oci-layout", "index.json"} < set(tar.getnames())
    # the same bytes are this daemon's own, whatever they are called
    assert davit.cli("import", "--name", "imported", tmp_path / "ck.tar", check=True).stdout == "imported\n"
    assert {row["name"]: row["local"] for row in listed(davit)} == {"ck": True, "imported": True}
    davit.cli("rmi", "ck", "imported", check=True)
    davit.cli("restore", "-d", "--name", "r", "./ck.tar", cwd=tmp_path, check=True, timeout=DEADLINE * 2)
    goes_on(davit, "r", 3)
    davit.cli("rm", "-f", "r", check=True)
    davit.cli("restore", "-d", "--name", "r", "ck.tar", cwd=tmp_path, check=True, timeout=DEADLINE * 2)
    assert listed(davit) == []
    nothing_left(davit, ["c", "r"])


def test_export_to_stdout(davit, box, tmp_path):
    counter(davit, box)
    result = davit.cli("checkpoint", "--name", "ck", "--export", "-", "c", text=False, check=True)
    (tmp_path / "ck.tar").write_bytes(result.stdout)
    with tarfile.open(tmp_path / "ck.tar") as tar:
        assert "index.json" in tar.getnames()
    with davit.terminal("checkpoint", "--export", "-", "c") as t:
        t.expect("not for a terminal")
        assert t.wait() == 125
    assert [row["name"] for row in listed(davit)] == ["ck"]


def test_export_that_fails(davit, box):
    """The checkpoint is there, and that is said."""
    counter(davit, box)
    error = refused(davit, "checkpoint", "--exit", "--name", "ck", "--export", "/dev/full", "c")
    assert "cannot export the checkpoint to /dev/full" in error and "the image ck" in error
    davit.cli("rm", "c", check=True)
    davit.cli("restore", "-d", "ck", check=True, timeout=DEADLINE * 2)
    goes_on(davit, "c", 3)


@pytest.mark.parametrize("format,back", [("podman", True), ("criu-dir", True), ("containerd", False)])
def test_other_forms(davit, rootfs, format, back, tmp_path):
    (rootfs / "token").write_text("one\n")
    make_image(davit, rootfs)
    davit.cli("run", "-d", "--name", "c", "box", "sh", "-c", REMEMBER, check=True)
    ready(davit)
    out = tmp_path / "out"
    davit.cli("checkpoint", "--name", "ck", "--export", out, "--format", format, "c", check=True, timeout=DEADLINE * 2)
    assert out.is_dir() == (format == "criu-dir")
    davit.cli("rmi", "ck", check=True)
    if not back:
        refused(davit, "restore", "--name", "r", out)
        nothing_left(davit, ["c"])
        return
    davit.cli("restore", "-d", "--name", "r", out, check=True, timeout=DEADLINE * 2)
    nothing_left(davit, ["c", "r"])
    remembers(davit, "r", "one")


def test_image_path(davit, rootfs, tmp_path):
    """criu's own folder, and a restore from it; a relative path is the caller's."""
    (rootfs / "token").write_text("one\n")
    make_image(davit, rootfs)
    davit.cli("run", "-d", "--name", "c", "box", "sh", "-c", REMEMBER, check=True)
    ready(davit)
    made = davit.cli("checkpoint", "--image-path", "dir", "c", cwd=tmp_path, check=True)
    assert made.stdout == f"{tmp_path}/dir\n" and listed(davit) == []
    assert {"inventory.img", "davit-checkpoint.json"} < set(os.listdir(tmp_path / "dir"))
    result = davit.cli("restore", "-d", "--name", "r", tmp_path / "dir", check=True, timeout=DEADLINE * 2)
    assert "no layer of changed files" in result.stderr
    remembers(davit, "r", "one")
    davit.cli("rm", "r", check=True)
    (tmp_path / "dir/davit-checkpoint.json").write_text('{"container": {"id": 5}}')
    assert "container.id is missing or of a wrong type" in refused(davit, "restore", "--name", "s", tmp_path / "dir")
    nothing_left(davit, ["c"])


# checkpoints from elsewhere


@pytest.fixture
def elsewhere(make_davit, busybox):
    """Another daemon, and a function that makes an archive of a container of its."""
    other = make_davit()
    make_image(other, busybox)

    def make(path, *options):
        counter(other, "box", "c", *options)
        other.cli("checkpoint", "--exit", "--name", "ck", "--export", path, "c", check=True, timeout=DEADLINE * 2)
        other.cli("rm", "c", check=True)
        other.cli("rmi", "ck", check=True)
        return path
    return make


def test_foreign_of_defaults(elsewhere, davit, tmp_path):
    """What `run` gives without options needs no trust, and no image here."""
    archive = elsewhere(tmp_path / "ck.tar", "--label", "own=1", "--memory", "64m", "--tmpfs", "/scratch")
    davit.cli("restore", "-d", archive, check=True, timeout=DEADLINE * 2)
    goes_on(davit, "c", 3)
    assert inspect(davit, "c")["labels"].get("own") == "1"
    assert lines(davit.cli("images", "-q", check=True)) == []
    # the root file system is there still, without any image
    davit.cli("gc", check=True)
    goes_on(davit, "c", 3)
    nothing_left(davit, ["c"])
    davit.cli("import", "--name", "ck", archive, check=True)
    assert [(row["name"], row["local"]) for row in listed(davit)] == [("ck", False)]


@pytest.mark.parametrize("options,said,given", [
    (["-v", "/etc:/data"], "-v SOURCE:/data", ["-v", "/usr:/data"]),
    (["--device", "/dev/loop-control"], "the device /dev/loop-control", None),
    (["--device", "/dev/kmsg"], "the device /dev/kmsg", ["--device", "/dev/kmsg"]),
    (["--cap-add", "NET_ADMIN"], "the capability CAP_NET_ADMIN", None),
    (["--seccomp", "unconfined"], "without a seccomp profile", None),
    (["--network", "host"], "the host's namespace of the kind network", None),
    (["--pid", "host"], "the host's namespace of the kind pid", None),
    (["--privileged"], "the checkpoint was not made by this daemon", None),
], ids=lambda value: None)
def test_foreign_refusals(elsewhere, davit, tmp_path, options, said, given):
    if options[0] == "--device" and not os.path.exists(options[1]):
        pytest.skip(f"the host has no {options[1]}")
    try:
        archive = elsewhere(tmp_path / "ck.tar", *options)
    except AssertionError as error:
        if "--pid" in options or "--privileged" in options:
            pytest.skip(f"criu does not dump such a container: {error}")
        raise
    for way in (archive, "imported"):
        if way == "imported":
            davit.cli("import", "--name", "imported", archive, check=True)
        error = refused(davit, "restore", "--name", "r", way)
        assert said in error and "--trust" in error and "not made by this daemon" in error, error
    nothing_left(davit)
    if given:
        davit.cli("restore", "-d", "--name", "r", *given, archive, check=True, timeout=DEADLINE * 2)
        goes_on(davit, "r", 3)
    if "--privileged" in options:
        return
    davit.cli("restore", "-d", "--name", "t", "--trust", archive, check=True, timeout=DEADLINE * 2)
    goes_on(davit, "t", 3)


def test_foreign_hooks(make_davit, davit, busybox, tmp_path):
    """A checkpoint of one's own keeps its hooks, one from elsewhere loses them."""
    other = make_davit()
    hooked = {}
    for daemon in (davit, other):
        make_image(daemon, busybox)
        daemon.cli("create", "--name", "c", "box", "sh", "-c", COUNT, check=True)
        spec = inspect(daemon, "c")["spec"]
        hooked[daemon] = daemon.base / "hooked"
        spec["hooks"] = {"poststop": [{"path": "/bin/sh", "args": ["sh", "-c", f"echo x >>{hooked[daemon]}"]}]}
        daemon.call("containers.update", id="c", spec=spec, mask=["spec"])
        daemon.cli("start", "c", check=True)
        wait_for(lambda: count(daemon, "c") >= 3, what="a count")
        daemon.cli("checkpoint", "--exit", "--name", "ck", "--export", daemon.base / "ck.tar", "c", check=True, timeout=DEADLINE * 2)
        daemon.cli("rm", "c", check=True)
        assert hooked[daemon].read_text() == "x\n"
    davit.cli("restore", "-d", "--name", "own", "ck", check=True, timeout=DEADLINE * 2)
    davit.cli("rm", "-f", "own", check=True)
    assert hooked[davit].read_text() == "x\nx\n"
    result = davit.cli("restore", "-d", "--name", "foreign", other.base / "ck.tar", check=True, timeout=DEADLINE * 2)
    assert "the hooks of the checkpoint's container are left out" in result.stderr
    assert "hooks" not in inspect(davit, "foreign")["spec"]
    davit.cli("rm", "-f", "foreign", check=True)
    davit.cli("restore", "-d", "--name", "trusted", "--trust", other.base / "ck.tar", check=True, timeout=DEADLINE * 2)
    davit.cli("rm", "-f", "trusted", check=True)
    assert hooked[other].read_text() == "x\nx\n"


def test_label_is_of_the_target(elsewhere, davit, box, tmp_path):
    """Another target under the name of a local checkpoint is as foreign as before; a further name of one is local."""
    counter(davit, box)
    checkpoint(davit, "--name", "ck", "c")
    davit.cli("tag", "ck", "other", check=True)
    assert {row["name"]: row["local"] for row in listed(davit)} == {"ck": True, "other": True}
    assert "davit.checkpoint.local" in davit.call("images.get", name="other")["image"]["labels"]
    archive = elsewhere(tmp_path / "ck.tar", "-v", "/etc:/data")
    davit.cli("import", "--name", "ck", archive, check=True)
    davit.cli("import", "--name", "foreign", archive, check=True)
    davit.cli("tag", "foreign", "other", check=True)
    assert not any(row["local"] for row in listed(davit))
    for name in ("ck", "other", "foreign"):
        assert "not made by this daemon" in refused(davit, "restore", "--name", "r", name)


def test_archive_smuggles_no_names(elsewhere, davit, box, tmp_path):
    """A restore of an archive leaves images alone, however the archive calls its own."""
    archive = elsewhere(tmp_path / "ck.tar")
    before = davit.call("images.list")["images"]
    davit.cli("restore", "-d", archive, check=True, timeout=DEADLINE * 2)
    assert davit.call("images.list")["images"] == before


# help and completion


@pytest.mark.parametrize("command", ["checkpoint", "restore", "checkpoints"])
def test_help(davit, command):
    text = davit.cli(command, "--help", check=True).stdout
    assert text.startswith(f"Usage: davit {command}")
    result = davit.cli(command, "--nonsense")
    assert result.returncode == 125 and f"davit {command} --help" in result.stderr


def test_completion(davit, box):
    counter(davit, box)
    checkpoint(davit, "--name", "my-checkpoint", "c")
    script = davit.cli("completion", "bash", check=True).stdout
    (davit.base / "davit").symlink_to(binary().resolve())
    program = f'PATH={davit.base}:$PATH; {script}\nCOMP_WORDS=(davit restore my); COMP_CWORD=2; _davit; echo "${{COMPREPLY[@]}}"'
    assert run_command(["bash", "-c", program], davit.env, check=True, cwd="/").stdout == "my-checkpoint\n"
    for shell in ("zsh", "fish"):
        assert "davit checkpoints --quiet" in davit.cli("completion", shell, check=True).stdout
