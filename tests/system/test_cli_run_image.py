# SPDX-License-Identifier: Apache-2.0
"""Containers of images by the command line: their layers, what the image's config says, and what is left of them."""

import json
import os
import subprocess
import tarfile
import time

import pytest

from lib.cli import run as run_command
from lib.daemon import binary
from lib.cli_images import LONG, active, inspect, keys, lines, make_image
from lib.images import Image, archive, entry, tar
from lib.rpc import DEADLINE


@pytest.fixture
def box(davit, busybox):
    """An image of busybox without any config."""
    return make_image(davit, busybox)


# a container's whole life


def test_run(davit, box):
    result = davit.cli("run", "--rm", box, "sh", "-c", "echo hello; echo oops >&2; touch /made; exit 7")
    assert (result.returncode, result.stdout, result.stderr) == (7, "hello\n", "oops\n")
    assert active(davit) == []
    assert json.loads(davit.cli("leases", "--format", "json", check=True).stdout) == []


def test_each_has_its_own_layer(davit, box, busybox):
    for name in ("a", "b"):
        davit.cli("run", "--name", name, box, "sh", "-c", f"cat /made; echo {name} >/made; rm -f /etc/group", check=True)
    for name in ("a", "b"):
        assert davit.cli("start", "-a", name, check=True).stdout == name + "\n"
    assert davit.cli("run", "--rm", box, "ls", "/made").returncode == 1
    assert sorted(active(davit)) == ["a", "b"]
    assert (busybox / "etc/group").exists() and not (busybox / "made").exists()


def test_layer_outlives_the_task(davit, box):
    davit.cli("run", "--name", "c", box, "sh", "-c", "echo x >>/count; wc -l </count", check=True)
    assert davit.cli("start", "-a", "c", check=True).stdout.strip() == "2"
    davit.cli("gc", check=True)
    assert davit.cli("start", "-a", "c", check=True).stdout.strip() == "3"


def test_rm_takes_the_snapshot_along(davit, box):
    davit.cli("run", "--name", "c", box, "true", check=True)
    assert active(davit) == ["c"]
    davit.cli("rm", "c", check=True)
    assert active(davit) == []


def test_auto_removed_leaves_no_snapshot_after_gc(davit, box):
    with davit.events(filters=["topic==/containers/delete"]) as events:
        davit.cli("run", "-d", "--rm", "--name", "c", box, "true", check=True)
        events.next()
    davit.cli("gc", check=True)
    assert active(davit) == []
    assert davit.cli("run", "--rm", box, "echo", "still", check=True).stdout == "still\n"


def test_failed_run_leaves_nothing(davit, box):
    assert davit.cli("run", "--name", "c", box, "/nowhere").returncode == 127
    davit.cli("run", "-d", "--name", "taken", box, "sh", "-c", LONG, check=True)
    result = davit.cli("run", "--name", "taken", box, "true")
    assert result.returncode == 125 and "taken" in result.stderr
    assert active(davit) == ["taken"]
    assert davit.cli("exec", "taken", "echo", "alive", check=True).stdout == "alive\n"
    assert davit.cli("create", "--memory", "nonsense", box, "true").returncode == 125
    assert active(davit) == ["taken"]
    assert lines(davit.cli("leases", "-q", check=True)) == []


def test_a_snapshot_that_was_left_is_no_obstacle(davit, box):
    davit.cli("snapshots", "prepare", "c", check=True)
    davit.cli("run", "--name", "c", box, "touch", "/made", check=True)
    own = inspect(davit, "c")["snapshot_key"]
    assert own != "c" and own.startswith("c-")
    davit.cli("rm", "c", check=True)
    assert active(davit) == ["c"]


def test_many_at_once(davit, box):
    """The first of them unpack the image side by side."""
    many = [subprocess.Popen([binary(), "run", "--rm", "box", "sh", "-c", f"echo {i} >/file; cat /file"], env=davit.env,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for i in range(12)]
    for i, process in enumerate(many):
        out, err = process.communicate(timeout=DEADLINE * 2)
        assert (process.returncode, out, err) == (0, f"{i}\n", "")
    assert active(davit) == [] and len(keys(davit)) == 1


def test_create_and_start(davit, box):
    assert davit.cli("create", "--name", "c", box, "sh", "-c", "echo started", check=True).stdout == "c\n"
    davit.cli("gc", check=True)
    assert davit.cli("start", "-a", "c", check=True).stdout == "started\n"


@pytest.mark.parametrize("snapshotter", ["overlayfs", "native"])
def test_snapshotters(davit, rootfs, snapshotter):
    (rootfs / "data").mkdir()
    (rootfs / "data/seed").write_text("seed\n")
    make_image(davit, rootfs, "box", "-v", "/data", "--workdir", "/made")
    davit.cli("run", "--name", "c", "--snapshotter", snapshotter, "box", "sh", "-c", "pwd; cat /data/seed; echo x >/made/x", check=True)
    assert inspect(davit, "c")["snapshotter"] == snapshotter
    davit.cli("gc", check=True)
    assert davit.cli("start", "-a", "c", check=True).stdout == "/made\nseed\n"
    assert len(active(davit, "--snapshotter", snapshotter)) == 2
    davit.cli("rm", "c", check=True)
    assert active(davit, "--snapshotter", snapshotter) == []
    assert davit.cli("run", "--snapshotter", "none", "box", "true").returncode == 125
    assert davit.cli("run", "--snapshotter", "native", "--rootfs", rootfs, "true").returncode == 125


def test_ps_and_inspect_name_the_image(davit, box):
    davit.cli("tag", box, "localhost/shop/box:1.0", check=True)
    davit.cli("run", "-d", "--name", "c", "shop/box:1.0", "sh", "-c", LONG, check=True)
    header, row = lines(davit.cli("ps", check=True))
    assert header.split()[2] == "IMAGE" and row.split()[:2] == ["c", "localhost/shop/box:1.0"]
    record = inspect(davit, "c")
    assert (record["image"], record["snapshot_key"]) == ("localhost/shop/box:1.0", "c")
    assert record["snapshotter"] in ("overlayfs", "native")


@pytest.mark.parametrize("words, code, reason", [
    (["nothing:here", "true"], 125, "there is no image"),
    (["box", "/nowhere"], 127, "/nowhere"),
    (["box", "nowhere"], 127, "nowhere"),
    (["box", "/etc/passwd"], 126, "/etc/passwd"),
    (["box"], 125, "the image has none"),
    (["-u", "nobody-here", "box", "true"], 125, "nobody-here"),
    (["-v", "named:/data", "box", "true"], 125, "volumes by name are not supported"),
    (["-w", "/not/there", "box", "true"], 125, "/not/there"),
])
def test_failures(davit, box, words, code, reason):
    result = davit.cli("run", "--rm", *words)
    assert result.returncode == code, result.stderr
    assert reason in result.stderr and result.stderr.count("\n") == 1
    assert active(davit) == []


def test_without_a_tty_and_with_one(davit, box):
    with davit.terminal("run", "--rm", "-it", box, "sh") as t:
        t.expect(r"# ")
        t.send("tty\n")
        t.expect(r"/dev/pts/\d+")
        t.send("exit 3\n")
        assert t.wait() == 3


def test_as_a_member_of_the_group(make_davit, people, tmp_path_factory):
    """One who may call the daemon but is not root cannot look into snapshots: numbers do, names are refused."""
    davit = make_davit("--group", "nogroup")
    program = davit.base / "program"
    subprocess.run(["cp", binary(), program], check=True)
    program.chmod(0o755)
    make_image(davit, people, "box", "-e", "A=1")
    make_image(davit, people, "named", "--user", "www")
    make_image(davit, people, "volume", "-v", "/data")

    def nobody(*args):
        return run_command([program, *args], davit.env, user=65534, group=65534, extra_groups=[], cwd="/")

    assert nobody("run", "--rm", "-u", "33:34", "box", "sh", "-c", "id -u; id -g; echo $A").stdout == "33\n34\n1\n"
    assert nobody("run", "--rm", "box", "id", "-u").stdout == "0\n"
    result = nobody("run", "--rm", "named", "id")
    assert result.returncode == 125 and 'only root can look "www" up' in result.stderr
    result = nobody("run", "--rm", "volume", "id")
    assert result.returncode == 125 and "/data" in result.stderr and "only root" in result.stderr
    assert nobody("run", "--rm", "-v", f"{davit.base}:/data", "volume", "ls", "/data").returncode == 0
    assert active(davit) == []
    assert nobody("import", "/root/missing.tar").returncode == 125


# what the image's config says


@pytest.mark.parametrize("options, command, want", [
    ([], [], "e1 e2 c1 c2"),
    ([], ["a"], "e1 e2 a"),
    (["--entrypoint", "echo"], [], ""),
    (["--entrypoint", "echo"], ["a"], "a"),
    (["--entrypoint", '["echo", "n"]'], ["a"], "n a"),
    (["--entrypoint", ""], ["echo", "a"], "a"),
])
def test_entrypoint_and_cmd(davit, busybox, options, command, want):
    make_image(davit, busybox, config={"Entrypoint": ["echo", "e1", "e2"], "Cmd": ["c1", "c2"]})
    assert davit.cli("run", "--rm", *options, "box", *command, check=True).stdout == want + "\n"


def test_cmd_alone(davit, busybox):
    make_image(davit, busybox, "box", "--cmd", '["echo", "from", "cmd"]')
    assert davit.cli("run", "--rm", "box", check=True).stdout == "from cmd\n"
    assert davit.cli("run", "--rm", "box", "echo", "mine", check=True).stdout == "mine\n"


def test_environment(davit, busybox):
    make_image(davit, busybox, "box", "-e", "A=image", "-e", "B=image", "-e", "PATH=/usr/bin:/bin")
    (davit.base / "env").write_text("B=file\nC=file\n")
    shown = davit.cli("run", "--rm", "--env-file", davit.base / "env", "-e", "C=option", "box", "env", check=True).stdout
    env = dict(line.split("=", 1) for line in shown.splitlines())
    assert (env["A"], env["B"], env["C"]) == ("image", "file", "option")
    assert (env["PATH"], env["HOME"], env["container"]) == ("/usr/bin:/bin", "/root", "davit")


@pytest.fixture
def people(davit, rootfs):
    """The root file system of an image with users."""
    (rootfs / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nwww:x:33:34::/var/www:/bin/sh\n")
    (rootfs / "etc/group").write_text("root:x:0:\nweb:x:34:\nextra:x:55:www\nmore:x:56:root,www\nstaff:x:50:\n")
    return rootfs


@pytest.mark.parametrize("image_user, options, want", [
    ("www", [], "33 34 34 55 56 /var/www"),
    ("www:staff", [], "33 50 50 /var/www"),
    ("33", [], "33 34 34 55 56 /var/www"),
    ("77", [], "77 0 0 /"),
    ("77:78", [], "77 78 78 /"),
    ("www", ["-u", "root"], "0 0 0 56 /root"),
    ("", ["-u", "www"], "33 34 34 55 56 /var/www"),
])
def test_user(davit, people, image_user, options, want):
    make_image(davit, people, "box", "--user", image_user)
    shown = davit.cli("run", "--rm", *options, "box", "sh", "-c", 'echo $(id -u) $(id -g) $(id -G) "$HOME"', check=True)
    assert shown.stdout.strip() == want


def test_exec_has_the_user(davit, people):
    make_image(davit, people, "box", "--user", "www", "--workdir", "/etc", "-e", "A=image")
    davit.cli("run", "-d", "--name", "c", "box", "sh", "-c", LONG, check=True)
    assert davit.cli("exec", "c", "sh", "-c", "id -u; pwd; echo $A", check=True).stdout == "33\n/etc\nimage\n"
    assert davit.cli("exec", "-u", "root", "c", "sh", "-c", "id -u; echo $HOME", check=True).stdout == "0\n/root\n"
    assert davit.cli("exec", "-u", "www:staff", "c", "id", "-g", check=True).stdout == "50\n"


def test_user_of_the_merged_layers(davit, busybox):
    """The uppermost /etc/passwd counts, links from layer to layer are followed, and none leads out."""
    lower = tar({
        "bin/": entry(tarfile.DIRTYPE, mode=0o755), "data/": entry(tarfile.DIRTYPE, mode=0o755),
        "etc/": entry(tarfile.DIRTYPE, mode=0o755), "etc/passwd": b"web:x:1:1::/below:/bin/sh\n", "etc/group": b"lost:x:9:web\n",
        "data/passwd": b"web:x:7:8::/linked:/bin/sh\n",
    })
    shell = tar({
        "bin/busybox": (entry(mode=0o755), (busybox / "bin/busybox").read_bytes()),
        "bin/sh": entry(tarfile.SYMTYPE, linkname="busybox"), "bin/id": entry(tarfile.SYMTYPE, linkname="busybox"),
    })
    without = tar({"etc/.wh.group": b"", "etc/.wh.passwd": b""})
    top = tar({"etc/passwd": entry(tarfile.SYMTYPE, linkname="/data/passwd")})
    path = davit.base / "box.tar"
    path.write_bytes(archive(Image(lower, shell, without, top, User="web"), "box:1"))
    assert davit.cli("import", path, check=True).stdout == "box:1\n"
    shown = davit.cli("run", "--rm", "box:1", "sh", "-c", 'echo $(id -u) $(id -g) $(id -G) "$HOME"', check=True)
    assert shown.stdout == "7 8 8 /linked\n"


def test_passwd_that_leads_out(davit, rootfs):
    (rootfs / "etc/passwd").unlink()
    (rootfs / "etc/passwd").symlink_to("../../../../../../.." + str(davit.base / "host-passwd"))
    (davit.base / "host-passwd").write_text("evil:x:0:0::/:/bin/sh\n")
    make_image(davit, rootfs, "box", "--user", "evil")
    result = davit.cli("run", "--rm", "box", "id")
    assert result.returncode == 125 and 'no user "evil"' in result.stderr


def test_workdir(davit, rootfs, people):
    make_image(davit, people, "there", "--workdir", "/tmp")
    make_image(davit, people, "missing", "--workdir", "/made/for/me", "--user", "www")
    assert davit.cli("run", "--rm", "there", "pwd", check=True).stdout == "/tmp\n"
    assert davit.cli("run", "--rm", "-w", "/etc", "there", "pwd", check=True).stdout == "/etc\n"
    shown = davit.cli("run", "--rm", "missing", "sh", "-c", "pwd; stat -c '%u %g %a' .; touch mine && echo ok", check=True)
    assert shown.stdout == "/made/for/me\n33 34 755\nok\n"


def test_stop_signal(davit, busybox):
    make_image(davit, busybox, "box", "--stop-signal", "USR1")
    script = "trap 'echo got usr1; exit 5' USR1; echo ready; while :; do sleep 0.05; done"
    davit.cli("run", "-d", "--name", "c", "box", "sh", "-c", script, check=True)
    end = time.monotonic() + DEADLINE
    while "ready" not in davit.cli("logs", "c", check=True).stdout:
        assert time.monotonic() < end
        time.sleep(0.02)
    davit.cli("stop", "-t", "-1", "c", check=True)
    assert davit.cli("wait", "c", check=True).stdout == "5\n"
    assert "got usr1" in davit.cli("logs", "c", check=True).stdout


def test_labels(davit, busybox):
    make_image(davit, busybox, config={"Labels": {
        "app": "shop", "mine": "image", "davit.auto-remove": "true", "containerd.io/gc.root": "now",
    }})
    davit.cli("run", "--name", "c", "-l", "mine=option", "box", "true", check=True)
    labels = inspect(davit, "c")["labels"]
    assert (labels["app"], labels["mine"]) == ("shop", "option")
    assert not [key for key in labels if key.startswith(("davit.", "containerd.io/"))]


def test_volumes(davit, people):
    data = people / "data"
    data.mkdir()
    os.chown(data, 33, 34)
    data.chmod(0o2770)
    (data / "seed").write_text("from the image\n")
    make_image(davit, people, "box", "-v", "/data", "-v", "/empty/deep", "--user", "www")
    script = "cat /data/seed; stat -c '%u %g %a' /data /empty/deep; echo more >/data/new; echo x >/empty/deep/file; wc -l </data/new"
    shown = davit.cli("run", "--name", "c", "--read-only", "box", "sh", "-c", script, check=True).stdout
    assert shown == "from the image\n33 34 2770\n33 34 755\n1\n"
    # on disk, not in the layer, and no garbage as long as the container is there
    davit.cli("gc", check=True)
    assert len(active(davit)) == 3
    assert davit.cli("run", "--rm", "box", "ls", "/data", check=True).stdout == "seed\n"
    davit.cli("start", "c", check=True)
    davit.cli("wait", "c", check=True)
    davit.cli("rm", "c", check=True)
    assert active(davit) == []


def test_volumes_are_replaced_by_options(davit, rootfs):
    (rootfs / "data").mkdir()
    (rootfs / "data/seed").write_text("image\n")
    host = davit.base / "host"
    (host / "sub").mkdir(parents=True)
    (host / "mine").write_text("host\n")
    make_image(davit, rootfs, "box", "-v", "/data/", "-v", "/host/sub", "-v", "/proc", "-v", "/../up")
    assert davit.cli("run", "--rm", "-v", f"{host}:/data", "box", "ls", "/data", check=True).stdout == "mine\nsub\n"
    assert davit.cli("run", "--rm", "--tmpfs", "/data", "box", "ls", "/data", check=True).stdout == ""
    # an option may be mounted within a volume, and a volume within an option's folder
    shown = davit.cli("run", "--rm", "-v", f"{host}:/data/in", "-v", f"{host}:/host", "box", "sh", "-c",
                      "ls /data /data/in; touch /host/sub/x; test -e /proc/self && echo proc", check=True)
    assert shown.stdout == "/data:\nin\nseed\n\n/data/in:\nmine\nsub\nproc\n"
    assert list((host / "sub").iterdir()) == []
    assert active(davit) == []


def test_read_only_root(davit, box):
    result = davit.cli("run", "--rm", "--read-only", box, "sh", "-c", "touch /x; touch /tmp/y && echo tmp")
    assert "Read-only" in result.stderr and result.stdout == "tmp\n"


@pytest.mark.parametrize("config, reason", [
    ({"Cmd": "sh"}, "Cmd"),
    ({"Env": [1]}, "Env"),
    ({"Volumes": ["/a"]}, "Volumes"),
])
def test_damaged_config(davit, busybox, config, reason):
    path = davit.base / "bad.tar"
    path.write_bytes(archive(Image(tar({"bin/busybox": (busybox / "bin/busybox").read_bytes()}), **config), "bad:1"))
    imported = davit.cli("import", path)
    if imported.returncode == 0:  # a daemon may well refuse such an image at once
        result = davit.cli("run", "--rm", "bad:1", "true")
        assert result.returncode == 125 and reason in result.stderr
    assert active(davit) == []
