# SPDX-License-Identifier: Apache-2.0
"""The command line for the stores below images: content, snapshots, leases, gc; and what belongs to every command."""

import hashlib
import json
import re
import subprocess

import pytest

from lib.cli import run as run_command
from lib.daemon import CHECKOUT, binary
from lib.cli_images import active, keys, lines, make_image
from lib.images import Image, archive, tar

ROOT_LABEL = "containerd.io/gc.root"


@pytest.fixture
def box(davit, busybox):
    """An image of busybox without any config."""
    return make_image(davit, busybox)


# content


def blobs(davit):
    return json.loads(davit.cli("content", "--format", "json", check=True).stdout)


def test_content(davit, box):
    everything = blobs(davit)
    assert len(everything) == 3
    header, *rows = lines(davit.cli("content", "ls", check=True))
    assert header.split() == ["DIGEST", "SIZE", "CREATED", "LABELS"] and len(rows) == 3
    assert lines(davit.cli("content", "ls", "-q", check=True)) == [blob["digest"] for blob in everything]
    for blob in everything:
        data = davit.cli("content", "get", blob["digest"], check=True, text=False).stdout
        assert "sha256:" + hashlib.sha256(data).hexdigest() == blob["digest"] and len(data) == blob["size"]
        assert davit.cli("content", "get", blob["digest"][7:20], check=True, text=False).stdout == data
    assert davit.cli("content", "verify", *[blob["digest"] for blob in everything], check=True).returncode == 0
    digest = everything[0]["digest"]
    assert json.loads(davit.cli("content", "info", digest, check=True).stdout)[0]["digest"] == digest


def test_content_labels(davit, box):
    digest = blobs(davit)[0]["digest"]

    def labels():
        return json.loads(davit.cli("content", "info", digest, check=True).stdout)[0]["labels"]

    before = labels()
    davit.cli("content", "label", digest[:20], "app=shop", "tier=web", check=True)
    assert labels() == {**before, "app": "shop", "tier": "web"}
    assert lines(davit.cli("content", "-q", "--filter", "labels.app==shop", check=True)) == [digest]
    davit.cli("content", "label", digest, "app=", check=True)
    assert labels() == {**before, "tier": "web"}
    assert davit.cli("content", "label", digest, "novalue").returncode == 125


def test_content_that_is_damaged(davit, box):
    blob = max(blobs(davit), key=lambda blob: blob["size"])
    path = davit.root / "content/blobs/sha256" / blob["digest"][7:]
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    result = davit.cli("content", "verify", blob["digest"])
    assert result.returncode == 125 and blob["digest"] in result.stderr


def test_content_rm_and_missing(davit, box):
    digest = blobs(davit)[0]["digest"]
    assert davit.cli("content", "rm", digest, check=True).stdout == digest + "\n"
    for verb in ("get", "info", "verify", "rm"):
        assert davit.cli("content", verb, digest).returncode == 125
        assert davit.cli("content", verb, digest[:15]).returncode == 125
        assert davit.cli("content", verb, "zz").returncode == 125


def test_content_active(davit):
    writer = davit.client()
    writer.call("content.write", ref="half", action="write", data=b"12345", offset=0, total=10)
    header, row = lines(davit.cli("content", "active", check=True))
    assert header.split() == ["REF", "WRITTEN", "TOTAL", "STARTED"] and row.split()[:3] == ["half", "5", "B"]
    result = davit.cli("content", "abort", "half")
    assert result.returncode == 125 and "locked" in result.stderr
    writer.close()
    davit.call("server.stats")
    assert davit.cli("content", "abort", "half", check=True).stdout == "half\n"
    assert lines(davit.cli("content", "active", "-q", check=True)) == []
    assert davit.cli("content", "abort", "half").returncode == 125


# snapshots


def test_snapshots(davit, box):
    davit.cli("run", "--name", "c", box, "sh", "-c", "head -c 100000 /dev/zero >/big", check=True)
    header, *rows = lines(davit.cli("snapshots", check=True))
    assert header.split() == ["KEY", "PARENT", "KIND", "CREATED"] and len(rows) == 2
    base = keys(davit, "--filter", "kind==committed")[0]
    assert davit.cli("snapshots", "tree", check=True).stdout == f"{base}\n`- c\n"
    info = json.loads(davit.cli("snapshots", "info", "c", check=True).stdout)[0]
    assert (info["name"], info["parent"], info["kind"]) == ("c", base, "active")
    usage = json.loads(davit.cli("snapshots", "usage", "--format", "json", "c", check=True).stdout)[0]
    assert usage["key"] == "c" and usage["size"] >= 100000 and usage["inodes"] >= 1
    assert {row["key"] for row in json.loads(davit.cli("snapshots", "usage", "--format", "json", check=True).stdout)} == {"c", base}
    result = davit.cli("snapshots", "rm", base)
    assert result.returncode == 125 and "c" in result.stderr


def test_snapshot_mounts_can_be_typed(davit, box):
    davit.cli("run", "--name", "c", box, "sh", "-c", "echo inside >/made", check=True)
    point = davit.base / "a mount's point"
    point.mkdir()
    command = davit.cli("snapshots", "mounts", "c", point, check=True).stdout
    shown = subprocess.run(["unshare", "-m", "sh", "-c", f'{command} cat "$1"/made', "sh", point], capture_output=True, text=True)
    assert shown.stdout == "inside\n", shown.stderr


def test_mounts_of_many_layers_can_be_typed(davit):
    """More than mount(2) reads of absolute paths: of a writable snapshot and of a view, each with its first and last layer."""
    layers = [tar({f"file-{i}": str(i).encode()}) for i in range(160)]
    path = davit.base / "many.tar"
    path.write_bytes(archive(Image(*layers), "many"))
    davit.cli("import", path, check=True)
    base = keys(davit, "--filter", f"parent=={Image(*layers).chain[-2]}")[0]
    point = davit.base / "a point"
    point.mkdir()
    for kind in ("prepare", "view"):
        command = davit.cli("snapshots", kind, kind, base, check=True).stdout
        assert f"(cd {davit.root}/snapshots/overlayfs/ && mount -t overlay " in command and command.endswith(" overlay TARGET)\n")
        assert len(command) < 4096
        for target in (point, "a point"):
            command = davit.cli("snapshots", "mounts", kind, target, cwd=davit.base, check=True).stdout
            script = f'{command} cd "$1" && cat file-0 file-80 file-159 && ls | wc -l'
            shown = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", point], capture_output=True, text=True)
            assert shown.stdout == "080159160\n", shown.stderr


def test_snapshots_by_hand(davit, box):
    davit.cli("run", "--rm", box, "true", check=True)
    base = keys(davit)[0]
    assert davit.cli("snapshots", "prepare", "work", base, check=True).stdout.startswith("mount ")
    davit.cli("gc", check=True)
    assert keys(davit) == [base, "work"]
    davit.cli("snapshots", "commit", "--label", "app=shop", "work", "done", check=True)
    davit.cli("gc", check=True)
    davit.cli("snapshots", "view", "look", "done", check=True)
    labels = {row["name"]: row["labels"] for row in json.loads(davit.cli("snapshots", "info", "done", "look", check=True).stdout)}
    assert set(labels["done"]) == {"app", ROOT_LABEL} and set(labels["look"]) == {ROOT_LABEL}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", labels["look"][ROOT_LABEL])
    # what the caller says goes before
    davit.cli("snapshots", "prepare", "--label", ROOT_LABEL + "=mine", "own", check=True)
    davit.cli("snapshots", "prepare", "--label", "containerd.io/gc.expire=2001-02-03T04:05:06Z", "old", check=True)
    assert json.loads(davit.cli("snapshots", "info", "own", check=True).stdout)[0]["labels"] == {ROOT_LABEL: "mine"}
    davit.cli("gc", check=True)
    assert "old" not in keys(davit)
    davit.cli("snapshots", "rm", "own", check=True)
    tree = lines(davit.cli("snapshots", "tree", check=True))
    assert tree == [base, "`- done", "   `- look"]
    davit.cli("gc", check=True)
    assert len(keys(davit)) == 3
    davit.cli("snapshots", "rm", "look", "done", check=True)
    assert keys(davit) == [base]
    for words in (["rm", "missing"], ["info", "missing"], ["mounts", "missing"], ["prepare", "x", "missing"], ["what"], ["info"],
                  ["commit", "a"], ["tree", "x"], ["mounts", "a", "b", "c"], ["--snapshotter", "none", "ls"]):
        result = davit.cli("snapshots", *words)
        assert result.returncode == 125 and result.stderr.count("\n") == 1, words


# leases and gc


def test_leases(davit, box):
    assert davit.cli("leases", "create", "--label", "app=shop", "build", check=True).stdout == "build\n"
    random = davit.cli("leases", "create", "--expire", "2h", check=True).stdout.strip()
    header, *rows = lines(davit.cli("leases", check=True))
    assert header.split() == ["ID", "CREATED", "EXPIRES", "LABELS"]
    table = {row.split()[0]: row for row in rows}
    assert set(table) == {"build", random} and "never" in table["build"] and "app=shop" in table["build"]
    assert re.search(r"in (2 hours|About an hour|1\d\d minutes)", table[random])
    digest = blobs(davit)[0]["digest"]
    davit.cli("leases", "add", "build", "content", digest, check=True)
    davit.cli("leases", "add", "build", "snapshots/overlayfs", "some", check=True)
    davit.cli("leases", "drop", "build", "snapshots/overlayfs", "some", check=True)
    assert json.loads(davit.cli("leases", "resources", "build", "--format", "json", check=True).stdout) == [{"id": digest, "type": "content"}]
    davit.cli("rmi", box, check=True)
    davit.cli("gc", check=True)
    assert [blob["digest"] for blob in blobs(davit)][:1] == [digest] or digest in [blob["digest"] for blob in blobs(davit)]
    davit.cli("leases", "rm", "--sync", "build", random, check=True)
    assert blobs(davit) == [] and lines(davit.cli("leases", "-q", check=True)) == []


@pytest.mark.parametrize("words", [
    ["create", "--expire", "soon"], ["create", "--expire", "0"], ["create", "--expire", "99999999999d"], ["rm", "missing"],
    ["resources", "missing"], ["add", "missing", "content", "x"], ["create", "a", "b"], ["create", "bad name"],
])
def test_leases_that_fail(davit, words):
    result = davit.cli("leases", *words)
    assert result.returncode == 125 and result.stderr.count("\n") == 1


def test_gc(davit, box):
    davit.cli("run", "--rm", box, "true", check=True)
    assert "nothing to remove" in davit.cli("gc", check=True).stdout
    davit.call("images.delete", name=box)
    dry = davit.cli("gc", "--dry-run", check=True).stdout
    if "nothing" not in dry:  # it may have run by itself already
        assert re.match(r"would be removed: 3 blobs, 1 snapshot, [\d.]+ [kM]B \(", dry)
        assert len(blobs(davit)) == 3
    shown = json.loads(davit.cli("gc", "--format", "json", check=True).stdout)
    assert set(shown["removed"]) == {"content", "snapshots", "leases", "ingests"}
    assert blobs(davit) == [] and keys(davit) == []
    assert json.loads(davit.cli("gc", "status", check=True).stdout)
    assert davit.cli("gc", "what").returncode == 125


# what belongs to every command


COMMANDS = ["images", "import", "export", "image-from-dir", "tag", "rmi", "content", "snapshots", "leases", "gc"]


@pytest.mark.parametrize("command", COMMANDS)
def test_wrong_use(davit, command):
    result = davit.cli(command, "--no-such-option")
    assert result.returncode == 125 and f"davit {command} --help" in result.stderr
    assert davit.cli(command, "--help").returncode == 0


def test_every_command_has_a_manual_page(davit):
    text = davit.cli("help").stdout
    commands = re.findall(r"^  ([\w-]+) ", text.split("Options:")[0], re.M)
    assert set(COMMANDS) < set(commands)
    listed = (CHECKOUT / "docs/man/davit.1").read_text()
    for command in commands:
        page = CHECKOUT / "docs/man" / f"davit-{command}.{8 if command == 'serve' else 1}"
        assert f".It Cm {command}\n" in listed and f"davit-{command} " in listed
        if command == "serve":
            continue
        # its options are those of the program
        assert davit.cli("help", "--man", command, check=True).stdout.replace(".Bl -tag -width Ds\n.El\n", "") in page.read_text(), command


def test_completion_of_images(davit, box):
    script = davit.cli("completion", "bash", check=True).stdout
    (davit.base / "davit").symlink_to(binary().resolve())
    program = f'PATH={davit.base}:$PATH; {script}\nCOMP_WORDS=(davit run b); COMP_CWORD=2; _davit; echo "${{COMPREPLY[@]}}"'
    assert run_command(["bash", "-c", program], davit.env, check=True).stdout == "box\n"


def test_env_twins(davit, busybox):
    davit.cli("image-from-dir", busybox, "box", env={"DAVIT_IMAGE_FROM_DIR_CMD": '["echo", "twin"]'}, check=True)
    assert davit.cli("run", "--rm", "box", check=True).stdout == "twin\n"
