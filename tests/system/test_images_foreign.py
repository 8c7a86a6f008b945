# SPDX-License-Identifier: Apache-2.0
"""Images between davit and others: umoci, skopeo, buildah and podman write what davit reads, and the other way round.

No network: every image is made of busybox, or of the tests' Debian.
"""

import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from lib import images
from lib import rootfs as roots
from lib.rpc import Fd


class Tools:
    """The other programs, in a folder of their own."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.policy = self.folder / "policy.json"
        self.policy.write_text('{"default":[{"type":"insecureAcceptAnything"}]}')
        for name in ("home", "run", "tmp"):
            (self.folder / name).mkdir()
        self.env = {
            "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "HOME": str(self.folder / "home"), "LANG": "C.UTF-8",
            "XDG_RUNTIME_DIR": str(self.folder / "run"), "TMPDIR": str(self.folder / "tmp"),
            "REGISTRIES_CONFIG_PATH": "/dev/null", "CONTAINERS_CONF": "/dev/null",
        }

    def __call__(self, program, *args):
        if not roots.program(program):
            pytest.skip(f"{program} is not installed (tools/setup installs it)")
        done = subprocess.run([program, *map(str, args)], env=self.env, capture_output=True, text=True)
        assert done.returncode == 0, f"{program} {args}: {done.stderr}"
        return done.stdout

    def storage(self):
        """Options of buildah and podman: storage of this test."""
        return ["--root", self.folder / "storage", "--runroot", self.folder / "run/storage", "--storage-driver", "vfs"]

    def skopeo(self, command, *args):
        return self("skopeo", "--policy", self.policy, command, *args)


@pytest.fixture
def tools(davit):
    folder = davit.base / "tools"
    folder.mkdir()
    made = Tools(folder)
    yield made
    # what vfs has unpacked may be read-only
    subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=True)


@pytest.fixture
def content(davit, rootfs):
    """busybox with what file systems have: owners, modes, links, odd names."""
    (rootfs / "etc/owned").write_text("x" * 5000)
    os.chown(rootfs / "etc/owned", 1234, 5678)
    (rootfs / "etc/owned").chmod(0o640)
    os.link(rootfs / "etc/owned", rootfs / "etc/linked")
    (rootfs / "etc/dangling").symlink_to("/nowhere/at/all")
    (rootfs / "var/ünïcödé name").write_text("ö")
    (rootfs / "bin/busybox").chmod(0o4755)
    (rootfs / ("var/" + "long" * 50)).write_text("long")
    # some round to whole seconds, others cut
    for path in rootfs.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000), follow_symlinks=False)
    return rootfs


def unpacked_tree(davit, name, **params):
    """What a container of the image would see."""
    chain = davit.call("images.unpack", name=name, **params)["chain_id"]
    mounts = davit.call("snapshots.view", key="look", parent=chain, labels={"containerd.io/gc.root": "test"}, **params)["mounts"]
    try:
        with images.mounted(davit, mounts) as folder:
            return images.tree(folder)
    finally:
        davit.call("snapshots.remove", key="look", **params)


def same(found, expected):
    """Compares trees, with a message that can be read."""
    wrong = {p: (found.get(p), expected.get(p)) for p in {*found, *expected} if found.get(p) != expected.get(p)}
    assert not wrong, dict(list(wrong.items())[:10])


def umoci_change(tools, layout, bundle, change):
    """A further layer."""
    tools("umoci", "unpack", "--image", f"{layout}:box", bundle)
    change(bundle / "rootfs")
    tools("umoci", "repack", "--image", f"{layout}:box", bundle)
    shutil.rmtree(bundle)


def umoci_layout(tools, content, more=None):
    """An OCI layout with the image `box` of one layer, or two, made by umoci; and what its root is like."""
    layout, bundle = tools.folder / "layout", tools.folder / "bundle"
    tools("umoci", "init", "--layout", layout)
    tools("umoci", "new", "--image", f"{layout}:box")
    umoci_change(tools, layout, bundle, lambda root: subprocess.run(["cp", "-a", f"{content}/.", str(root)], check=True))
    tools("umoci", "config", "--image", f"{layout}:box", "--config.cmd", "/bin/sh", "--config.env", "A=b")
    if more:
        umoci_change(tools, layout, bundle, more)
    tools("umoci", "unpack", "--image", f"{layout}:box", bundle)
    return layout, images.tree(bundle / "rootfs")


def change(root):
    """A second layer: something new, something changed, something gone, a folder that is another one now."""
    (root / "new").mkdir(mode=0o711)
    (root / "new/file").write_text("new")
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (root / "etc/dangling").unlink()
    shutil.rmtree(root / "var")
    (root / "var").mkdir()
    (root / "var/only").write_text("only")


def digest_of_layout(layout):
    return json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]


@pytest.mark.parametrize("snapshotter", ["overlayfs", "native"])
def test_umoci_layout(davit, tools, content, snapshotter):
    layout, expected = umoci_layout(tools, content, change)
    made = davit.call("images.import", path=str(layout))["images"]
    assert [(i["name"], i["target"]["digest"]) for i in made] == [("box", digest_of_layout(layout))]
    found = unpacked_tree(davit, "box", snapshotter=snapshotter)
    same(found, expected)
    assert "var/only" in found and "etc/dangling" not in found and "var/ünïcödé name" not in found


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
def test_skopeo_archive(davit, tools, content, kind):
    layout, expected = umoci_layout(tools, content, change)
    archive = tools.folder / "archive.tar"
    tools.skopeo("copy", f"oci:{layout}:box", f"{kind}:{archive}:docker.io/library/box:1")
    made = davit.call("images.import", path=str(archive))["images"]
    assert [i["name"] for i in made] == ["docker.io/library/box:1"]
    if kind == "oci-archive":
        assert made[0]["target"]["digest"] == digest_of_layout(layout)
    same(unpacked_tree(davit, "docker.io/library/box:1"), expected)


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive", "oci"])
def test_buildah(davit, tools, content, kind):
    buildah = lambda command, *args: tools("buildah", *tools.storage(), command, *args)
    container = buildah("from", "scratch").strip()
    buildah("add", container, content, "/")
    buildah("config", "--cmd", "/bin/sh", "--env", "A=b", "--workingdir", "/etc", container)
    target = tools.folder / "made"
    buildah("commit", "--signature-policy", tools.policy, container, f"{kind}:{target}:box")
    davit.call("images.import", path=str(target), name="box")
    # it gives all of it to root
    same(unpacked_tree(davit, "box"), {path: (what[0], 0, 0, *what[3:]) for path, what in images.tree(content).items()})
    image = davit.call("images.get", name="box")["image"]
    manifest = json.loads(davit.call("content.read", digest=image["target"]["digest"])["data"])
    config = json.loads(davit.call("content.read", digest=manifest["config"]["digest"])["data"])
    assert config["config"]["Cmd"] == ["/bin/sh"] and config["config"]["WorkingDir"] == "/etc"


def export(davit, target, *names, **params):
    davit.call("images.export", names=list(names), path=str(target), **params)
    return target


def test_export_to_skopeo_and_umoci(davit, tools, content):
    """What davit writes is, digest for digest, what it has read."""
    layout, expected = umoci_layout(tools, content, change)
    davit.call("images.import", path=str(layout))
    archive = export(davit, tools.folder / "out.tar", "box")
    found = json.loads(tools.skopeo("inspect", "--raw", f"oci-archive:{archive}:box"))
    assert found == json.loads(tools.skopeo("inspect", "--raw", f"oci:{layout}:box"))
    back = tools.folder / "back"
    tools.skopeo("copy", "--preserve-digests", f"oci-archive:{archive}", f"oci:{back}:again")
    assert digest_of_layout(back) == digest_of_layout(layout)
    unpacked = tools.folder / "unpacked"
    unpacked.mkdir()
    with tarfile.open(archive) as tar:
        tar.extractall(unpacked)
    assert tools("umoci", "list", "--layout", unpacked).split() == ["box"]
    tools("umoci", "unpack", "--image", f"{unpacked}:box", tools.folder / "bundle2")
    same(images.tree(tools.folder / "bundle2/rootfs"), expected)


def test_export_to_docker_readers(davit, tools, content):
    """A zstd layer is unpacked on the way, for readers that know none."""
    davit.call("images.from_dir", path=str(content), name="localhost/box:1", config={"Cmd": ["/bin/sh"]})
    archive = export(davit, tools.folder / "out.tar", "localhost/box:1", format="docker")
    found = json.loads(tools.skopeo("inspect", "--config", f"docker-archive:{archive}"))
    assert found["config"]["Cmd"] == ["/bin/sh"]
    layout = tools.folder / "layout"
    tools.skopeo("copy", f"docker-archive:{archive}:localhost/box:1", f"oci:{layout}:box")
    tools("umoci", "unpack", "--image", f"{layout}:box", tools.folder / "bundle")
    same(images.tree(tools.folder / "bundle/rootfs"), images.tree(content))
    podman = lambda command, *args: tools("podman", *tools.storage(), "--cgroup-manager", "cgroupfs", command, *args)
    assert "localhost/box:1" in podman("load", "--signature-policy", tools.policy, "-i", archive)
    mounted = Path(podman("image", "mount", "localhost/box:1").strip())
    try:
        same(images.tree(mounted), images.tree(content))
    finally:
        podman("image", "unmount", "localhost/box:1")


def test_export_oci_to_podman(davit, tools, content):
    davit.call("images.from_dir", path=str(content), name="localhost/box:2", config={"Cmd": ["/bin/sh"]})
    archive = export(davit, tools.folder / "out.tar", "localhost/box:2")
    podman = lambda command, *args: tools("podman", *tools.storage(), "--cgroup-manager", "cgroupfs", command, *args)
    assert "localhost/box:2" in podman("load", "--signature-policy", tools.policy, "-i", archive)


def test_content_is_a_layout(davit, tools, content):
    """--root/content can be read as it is."""
    layout, expected = umoci_layout(tools, content)
    davit.call("images.import", path=str(layout))
    davit.call("images.import", path=str(layout), name="other/name:2", namespace="second")
    store = davit.root / "content"
    assert sorted(tools("umoci", "list", "--layout", store).split()) == ["box", "second/other/name:2"]
    assert tools.skopeo("inspect", "--raw", f"oci:{store}:box") == tools.skopeo("inspect", "--raw", f"oci:{layout}:box")
    tools.skopeo("copy", f"oci:{store}:box", f"oci:{tools.folder / 'copy'}:box")
    tools("umoci", "unpack", "--image", f"{store}:box", tools.folder / "bundle2")
    same(images.tree(tools.folder / "bundle2/rootfs"), expected)
    davit.call("images.delete", name="box")
    assert tools("umoci", "list", "--layout", store).split() == ["second/other/name:2"]
    # umoci and skopeo have left it as it was
    davit.call("images.delete", name="other/name:2", namespace="second", sync=True)
    assert davit.call("content.list", namespace="second")["contents"] == []


def test_debian(davit, tools, debian_lower):
    """One that is not small: a folder, an image, snapshots, an archive, another reader."""
    made = davit.call("images.from_dir", path=str(debian_lower), name="debian", deadline=120)["image"]
    same(unpacked_tree(davit, "debian"), images.tree(debian_lower))
    usage = davit.call("images.usage", name="debian")
    assert usage["unpacked"] > usage["size"] > 10 << 20
    archive = export(davit, tools.folder / "out.tar", "debian")
    assert json.loads(tools.skopeo("inspect", f"oci-archive:{archive}"))["Digest"] == made["target"]["digest"]
    fd = os.open(archive, os.O_RDONLY)
    again = davit.call("images.import", stream=Fd(fd), namespace="other")["images"]
    os.close(fd)
    assert again[0]["target"] == made["target"]
