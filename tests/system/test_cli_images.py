# SPDX-License-Identifier: Apache-2.0
"""The command line for images: their names, images, tag, rmi, import, export, image-from-dir, and progress."""

import json
import os
import re
import signal
import stat
import subprocess
import tarfile
import time

import pytest

from lib.daemon import binary
from lib.cli_images import LONG, fed, keys, lines, make_image
from lib.images import ARCHITECTURE, INDEX, REF_NAME, Image, archive, descriptor, digest, dumps, layout, tar, write_folder
from lib.rpc import DEADLINE, RpcError


@pytest.fixture
def box(davit, busybox):
    """An image of busybox without any config."""
    return make_image(davit, busybox)


# names


def test_short_names(davit, box):
    davit.cli("tag", box, "docker.io/library/debian:latest", check=True)
    davit.cli("tag", box, "quay.io/team/tool:1.0", check=True)
    for name in ("debian", "debian:latest", "library/debian", "docker.io/library/debian", "tool:1.0", "team/tool:1.0", "box:latest"):
        assert davit.cli("run", "--rm", name, "echo", name, check=True).stdout == name + "\n"
    for name in ("debian:12", "tool", "ox", "docker.io/tool:1.0"):
        assert davit.cli("run", "--rm", name, "true").returncode == 125


def test_ambiguous_names(davit, busybox, rootfs):
    (rootfs / "other").write_text("another image")
    make_image(davit, busybox, "docker.io/library/box:latest")
    make_image(davit, rootfs, "localhost/box:latest")
    result = davit.cli("run", "--rm", "box", "true")
    assert result.returncode == 125
    assert "docker.io/library/box:latest" in result.stderr and "localhost/box:latest" in result.stderr
    davit.cli("run", "--rm", "localhost/box", "test", "-e", "/other", check=True)
    make_image(davit, busybox, "box")
    assert davit.cli("run", "--rm", "box", "test", "-e", "/other").returncode == 1


def test_digests(davit, box):
    image = json.loads(davit.cli("images", "--format", "json", check=True).stdout)[0]
    digest = image["target"]["digest"]
    for name in (digest, digest[:12], digest[7:19], f"box@{digest}"):
        assert davit.cli("run", "--rm", name, "echo", "x", check=True).stdout == "x\n"
    assert davit.cli("tag", digest[7:20], "second", check=True).stdout == "second\n"
    # a digest with two names is no name to remove
    result = davit.cli("rmi", digest)
    assert result.returncode == 125 and "box" in result.stderr and "second" in result.stderr
    davit.cli("rmi", "second", check=True)
    davit.cli("rmi", digest[7:15], check=True)
    assert lines(davit.cli("images", "-q", check=True)) == []


# lists, tag, rmi


def test_images(davit, box):
    davit.cli("tag", box, "alias", check=True)
    header, *rows = lines(davit.cli("images", check=True))
    assert header.split() == ["NAME", "DIGEST", "SIZE", "UNPACKED", "SHARED", "CREATED"]
    assert [row.split()[0] for row in rows] == ["alias", "box"]
    assert re.match(r"alias +[0-9a-f]{12} +[\d.]+ [kM]B +([\d.]+ [kM]?B|-) +[\d.]+ [kM]B +", rows[0])
    assert lines(davit.cli("images", "-q", check=True)) == ["alias", "box"]
    assert lines(davit.cli("images", "-q", "--filter", "name==box", check=True)) == ["box"]
    assert "sha256:" in davit.cli("images", "--no-trunc", check=True).stdout
    first = json.loads(davit.cli("images", "--format", "json", check=True).stdout)[0]
    assert first["name"] == "alias" and first["usage"]["size"] > 0 and first["usage"]["shared"] == first["usage"]["size"]
    assert davit.cli("images", "--format", "yaml").returncode == 125
    assert davit.cli("images", "--filter", "=").returncode == 125
    assert lines(davit.cli("--namespace", "other", "images", "-q", check=True)) == []


def test_tag(davit, busybox, rootfs):
    (rootfs / "second").write_text("x")
    make_image(davit, busybox, "first")
    make_image(davit, rootfs, "second")
    assert davit.cli("tag", "first", "name", check=True).stdout == "name\n"
    assert davit.cli("run", "--rm", "name", "ls", "/second").returncode == 1
    davit.cli("tag", "second", "name", check=True)
    davit.cli("run", "--rm", "name", "ls", "/second", check=True)
    davit.cli("tag", "name", "name", check=True)
    assert davit.cli("tag", "missing", "name").returncode == 125


def test_rmi(davit, box):
    davit.cli("run", "-d", "--name", "c", box, "sh", "-c", LONG, check=True)
    result = davit.cli("rmi", box)
    assert result.returncode == 2 and "container c" in result.stderr
    assert lines(davit.cli("images", "-q", check=True)) == [box]
    assert davit.cli("rmi", "-f", box, check=True).stdout == "box\n"
    assert lines(davit.cli("images", "-q", check=True)) == []
    assert davit.cli("inspect", "c").returncode == 125
    davit.cli("gc", check=True)
    assert keys(davit) == [] and lines(davit.cli("content", "-q", check=True)) == []
    assert davit.cli("rmi", box).returncode == 1
    assert davit.cli("rmi", "-f", box).returncode == 0


def test_rmi_of_a_used_image_by_another_name(davit, box):
    davit.cli("tag", box, "alias", check=True)
    davit.cli("run", "--name", "c", box, "true", check=True)
    davit.cli("rmi", "alias", check=True)
    davit.cli("start", "-a", "c", check=True)


# import and export


def test_round_trip_by_pipes(davit, make_davit, box):
    """davit export | davit import, into another daemon and the same."""
    def digest(daemon):
        return json.loads(daemon.cli("images", "--format", "json", check=True).stdout)[0]["target"]["digest"]

    other = make_davit()
    for target in (other, davit):
        before = digest(davit)
        source = subprocess.Popen([binary(), "export", "box"], env=davit.env, stdout=subprocess.PIPE)
        result = fed(target, source.stdout, "import", "-")
        source.stdout.close()
        assert source.wait(DEADLINE) == 0
        assert (result.returncode, result.stdout, result.stderr) == (0, "box\n", "")
        assert digest(target) == before
    assert other.cli("run", "--rm", "box", "echo", "arrived", check=True).stdout == "arrived\n"


@pytest.mark.parametrize("format", ["oci", "docker"])
def test_export_to_a_file(davit, make_davit, box, format):
    path = davit.base / "out.tar"
    path.write_text("what was there before")
    davit.cli("tag", box, "box:2", check=True)
    result = davit.cli("export", "--format", format, "-o", path, box, "box:2", check=True)
    assert (result.stdout, result.stderr) == ("", "")
    with tarfile.open(path) as tar:
        names = tar.getnames()
    assert "oci-layout" in names and "index.json" in names and ("manifest.json" in names) == (format == "docker")
    assert sorted(os.listdir(davit.base)) == sorted(set(os.listdir(davit.base)) - {p for p in os.listdir(davit.base) if p.endswith(".part")})
    other = make_davit()
    assert sorted(lines(other.cli("import", path, check=True))) == ["box", "box:2"]


def test_export_that_fails(davit, box):
    path = davit.base / "out.tar"
    path.write_text("what was there before")
    before = sorted(os.listdir(davit.base))
    assert davit.cli("export", "-o", path, "missing").returncode == 125
    assert davit.cli("export", "-o", path, "--format", "zip", box).returncode == 125
    assert davit.cli("export", "-o", davit.base / "no/folder", box).returncode == 125
    assert path.read_text() == "what was there before" and sorted(os.listdir(davit.base)) == before
    assert davit.cli("export", "-o", "/dev/full", box).returncode == 125
    davit.cli("export", "-o", "/dev/null", box, check=True)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with davit.terminal("export", box) as t:
        t.expect("not for a terminal")
        assert t.wait() == 125


def test_import_kinds(davit, make_davit, box):
    """A file, a file whose beginning was read, a pipe, a folder, and compressed ones."""
    path = davit.base / "box.tar"
    davit.cli("export", "-o", path, box, check=True)
    subprocess.run(["gzip", "-k", path], check=True)
    subprocess.run(["zstd", "-q", "-k", path], check=True)
    folder = davit.base / "layout"
    folder.mkdir()
    subprocess.run(["tar", "-C", folder, "-xf", path], check=True)
    for source in (path, f"{path}.gz", f"{path}.zst", folder, os.path.relpath(folder)):
        davit.cli("rmi", "-f", "box", check=True)
        assert davit.cli("import", source, check=True).stdout == "box\n"
    with open(path, "rb") as file:
        assert fed(davit, file, "import", "-").stdout == "box\n"
    assert davit.cli("run", "--rm", "box", "echo", "x", check=True).stdout == "x\n"


def test_import_names(davit, box):
    path = davit.base / "box.tar"
    davit.cli("export", "-o", path, box, check=True)
    assert davit.cli("import", "--name", "renamed:1", path, check=True).stdout == "renamed:1\n"
    imported = json.loads(davit.cli("import", "--format", "json", path, check=True).stdout)
    assert [image["name"] for image in imported] == ["box"]
    davit.cli("tag", box, "second", check=True)
    davit.cli("export", "-o", path, box, "second", check=True)
    assert sorted(lines(davit.cli("import", path, check=True))) == ["box", "second"]


def test_import_unpacks(davit, box):
    path = davit.base / "box.tar"
    davit.cli("export", "-o", path, box, check=True)
    davit.cli("rmi", box, check=True)
    davit.cli("gc", check=True)
    assert keys(davit) == []
    davit.cli("import", "--no-unpack", path, check=True)
    assert keys(davit) == []
    davit.cli("import", path, check=True)
    assert len(keys(davit)) == 1


def test_import_that_fails(davit):
    bad = davit.base / "bad.tar"
    bad.write_bytes(b"this is no archive" * 1000)
    empty = davit.base / "empty"
    empty.mkdir()
    for source, reason in ((bad, "bad.tar"), (davit.base / "missing", "No such file"), (empty, "empty")):
        result = davit.cli("import", source)
        assert result.returncode == 125 and reason in result.stderr and result.stderr.count("\n") == 1
    assert davit.cli("import", "--platform", "linux/amd64", "--all-platforms", bad).returncode == 125
    assert davit.cli("import", "-", input="").returncode == 125
    with davit.terminal("import", "-") as t:
        t.expect("stdin is a terminal")
        assert t.wait() == 125
    assert lines(davit.cli("images", "-q", check=True)) == []


def test_foreign_platform(davit, busybox):
    path = davit.base / "far.tar"
    path.write_bytes(archive(Image(tar({"file": b"x"}), architecture="s390x"), "far:1"))
    result = davit.cli("import", path)
    if result.returncode == 0:
        result = davit.cli("run", "--rm", "far:1", "true")
        assert result.returncode in (125, 126, 127)
    else:
        assert "s390x" in result.stderr


def test_one_platform_of_several(davit):
    """What is imported for another platform is unpacked, exported and told by that platform."""
    mine, far = Image(tar({"file": b"x"})), Image(tar({"file": b"y"}), architecture="s390x")
    index = dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        one.descriptor(platform={"os": "linux", "architecture": architecture})
        for one, architecture in ((mine, ARCHITECTURE), (far, "s390x"))]})
    top = descriptor(INDEX, index, annotations={REF_NAME: "both:1"})
    folder = write_folder(davit.base / "both", layout([top], {digest(index): index, **mine.blobs, **far.blobs}))
    result = davit.cli("import", "--platform", "linux/s390x", folder)
    assert (result.returncode, result.stdout, result.stderr) == (0, "both:1\n", "")
    assert keys(davit) == [far.chain[0]]
    assert davit.call("images.usage", name="both:1")["unpacked"]
    # who does not say which gets the one that is there
    path = davit.base / "docker.tar"
    davit.cli("export", "--format", "docker", "-o", path, "both:1", check=True)
    davit.cli("rmi", "both:1", check=True)
    davit.cli("import", path, check=True)
    assert davit.call("images.get", name="both:1")["image"]["target"]["digest"] == far.digest
    davit.cli("import", "--no-unpack", "--platform", "linux/s390x", folder, check=True)
    # but nothing else is run, or written, than what was meant
    for words in (("run", "--rm", "both:1", "true"), ("export", "--platform", "linux/" + ARCHITECTURE, "-o", path, "both:1")):
        result = davit.cli(*words)
        assert result.returncode == 125 and f"the image for linux/{ARCHITECTURE}, " in result.stderr, result.stderr
        assert "(there is: linux/s390x)" in result.stderr, result.stderr
    davit.cli("rmi", "both:1", check=True)
    davit.cli("import", "--no-unpack", "--all-platforms", folder, check=True)
    assert davit.call("images.unpack", name="both:1", platform="linux/s390x")["chain_id"] == far.chain[0]
    assert davit.call("images.unpack", name="both:1")["chain_id"] == mine.chain[0]
    with pytest.raises(RpcError) as error:
        davit.call("images.unpack", name="both:1", platform="linux/riscv64")
    assert error.value.code == "not_found" and error.value.details["argument"] == "platform", error.value


# progress


def test_progress_on_a_terminal(davit, box):
    path = davit.base / "box.tar"
    davit.cli("export", "-o", path, box, check=True)
    with davit.terminal("import", path, width=100) as t:
        assert t.wait() == 0
        shown = t.output
    assert b"\rImporting box.tar" in shown and b"\x1b[K" in shown
    # the line is erased before the names are printed, and nothing else is left on the screen
    assert screen(shown) == ["box"]
    # a line is as wide as the terminal at most, and is never broken
    for frame in re.split(rb"\r(?!\n)", shown.split(b"box\r\n")[0]):
        assert len(frame.replace(b"\x1b[K", b"")) < 100 and b"\n" not in frame


def screen(data):
    """Lines that a terminal shows after this output, of what is used here: \\r, \\n, erase to the line's end."""
    shown, column = [""], 0
    for token in re.findall(r"\x1b\[K|\r|\n|[^\x1b\r\n]", data.decode()):
        if token == "\x1b[K":
            shown[-1] = shown[-1][:column]
        elif token == "\r":
            column = 0
        elif token == "\n":
            shown.append("")
            column = 0
        else:
            shown[-1] = shown[-1][:column].ljust(column) + token + shown[-1][column + 1:]
            column += 1
    return [line.rstrip() for line in shown if line.rstrip()]


def test_progress_nowhere_else(davit, box):
    path = davit.base / "box.tar"
    assert davit.cli("export", "-o", path, box, check=True).stderr == ""
    assert davit.cli("import", path, check=True).stderr == ""
    with davit.terminal("import", path, env={"TERM": "dumb"}) as t:
        assert t.wait() == 0
        assert t.output == b"box\r\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt(davit, number):
    """Of an import that cannot end: the line is erased, the daemon is told, the program ends by the signal."""
    fifo = davit.base / "fifo"
    os.mkfifo(fifo)
    writer = os.open(fifo, os.O_RDWR)
    try:
        os.write(writer, b"\0" * 512)
        with davit.terminal("import", fifo) as t:
            t.expect("Importing fifo")
            if number == signal.SIGINT:
                t.send(b"\x03")
            else:
                t.signal(number)
            assert t.wait() == -number
            assert screen(t.output)[-1:] == ["davit: cannot import %s: interrupted" % fifo]
        assert davit.call("server.stats") is not None
    finally:
        os.close(writer)
    assert lines(davit.cli("images", "-q", check=True)) == []


def test_interrupted_export_leaves_no_file(davit, rootfs):
    with open(rootfs / "large", "wb") as file:
        file.write(os.urandom(8 << 20))
    make_image(davit, rootfs)
    fifo = davit.base / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        before = sorted(os.listdir(davit.base))
        process = subprocess.Popen([binary(), "export", "-o", fifo, "box"], env=davit.env, stderr=subprocess.PIPE, text=True)
        end = time.monotonic() + DEADLINE
        while True:  # until the export has filled the pipe
            try:
                if os.read(reader, 1):
                    break
            except BlockingIOError:
                pass
            assert time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == -signal.SIGINT
        assert "interrupted" in process.stderr.read()
        assert sorted(os.listdir(davit.base)) == before
    finally:
        process.stderr.close()
        os.close(reader)


# image-from-dir


def test_image_from_dir(davit, busybox):
    result = davit.cli("image-from-dir", "--cmd", "sh", "--label", "app=shop", busybox, "box", check=True)
    assert (result.stdout, result.stderr) == ("box\n", "")
    image = json.loads(davit.cli("image-from-dir", "--format", "json", busybox, "box", check=True).stdout)
    assert image["name"] == "box"
    tar = davit.base / "files.tar"
    subprocess.run(["tar", "-C", busybox, "-cf", tar, "."], check=True)
    davit.cli("image-from-dir", tar, "tarred", check=True)
    with open(tar, "rb") as file:
        assert fed(davit, file, "image-from-dir", "-", "piped").stdout == "piped\n"
    assert davit.cli("run", "--rm", "piped", "echo", "x", check=True).stdout == "x\n"
    assert davit.cli("run", "--rm", "tarred", "echo", "x", check=True).stdout == "x\n"


@pytest.mark.parametrize("words, reason", [
    (["/nowhere", "box"], "/nowhere"),
    (["--config", "{", ".", "box"], "--config"),
    (["--config", "[]", ".", "box"], "--config"),
    (["--config", '{"Cmd": "sh"}', ".", "box"], "Cmd"),
    (["--workdir", "rel", ".", "box"], "--workdir"),
    (["--volume", "rel", ".", "box"], "--volume"),
    (["--stop-signal", "NONE", ".", "box"], "NONE"),
    (["--cmd", "[1]", ".", "box"], "--cmd"),
    (["--label", "=x", ".", "box"], "--label"),
    (["."], "argument is missing"),
    ([".", ""], ""),
])
def test_image_from_dir_that_fails(davit, words, reason):
    result = davit.cli("image-from-dir", *words, cwd=davit.base / "tmp")
    assert result.returncode == 125 and reason in result.stderr and result.stderr.count("\n") == 1
    assert lines(davit.cli("images", "-q", check=True)) == []


def test_whole_config(davit, busybox):
    path = davit.base / "config.json"
    path.write_text(json.dumps({"author": "me", "config": {"Cmd": ["echo", "file"], "Env": ["A=1"]}}))
    davit.cli("image-from-dir", "--config", path, "-e", "B=2", busybox, "box", check=True)
    assert davit.cli("run", "--rm", "box", check=True).stdout == "file\n"
    shown = davit.cli("run", "--rm", "box", "env", check=True).stdout
    assert "A=1\n" in shown and "B=2\n" in shown
