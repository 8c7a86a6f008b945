# SPDX-License-Identifier: Apache-2.0
"""Checkpoints in the formats of others: podman's archives, folders of criu's, containerd's images; out and in."""

import io
import json
import os
import signal
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

from lib import images
from lib.checkpoints import criu_version
from lib.cli_images import make_image
from lib.daemon import wait_for
from lib.rootfs import CHECKOUT, program, spec
from lib.rpc import DEADLINE, Fd, RpcError

TOOLS = CHECKOUT / ".tools"
COUNT = ["/bin/sh", "-c", "i=0; while :; do i=$((i+1)); echo $i > /tmp/count.new; mv /tmp/count.new /tmp/count; sleep 0.05; done"]


def tool(name, *args):
    """One of those that tools/setup unpacks: crit, checkpointctl."""
    path = TOOLS / name
    if not path.exists():
        pytest.skip(f"{path} is not there (tools/setup unpacks it)")
    done = subprocess.run([str(path), *map(str, args)], capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 0, f"{name} {args}: {done.stdout} {done.stderr}"
    return done.stdout


def crit(path):
    return json.loads(tool("crit", "decode", "-i", path))["entries"]


def names_of_tasks(folder):
    """{pid: name} of all tasks in criu's images."""
    return {entry["pid"]: crit(folder / f"core-{entry['pid']}.img")[0]["tc"]["comm"] for entry in crit(folder / "pstree.img")}


def unpacked(data, folder):
    """An archive, through the system's tar, which also unpacks it."""
    folder.mkdir()
    subprocess.run(["tar", "-x", "-a", "-f", str(data), "-C", str(folder)], check=True)
    return folder


class Counter:
    """A container that counts in its /tmp/count.

    layers  whether it is on a snapshot of an image; else its root is a plain folder
    """

    def __init__(self, davit, rootfs, id="counter", image=None, change=None):
        self.davit, self.id, self.root = davit, id, Path(rootfs)
        container, root = {}, rootfs
        if image:
            davit.call("images.from_dir", path=str(rootfs), name=image, config={"Cmd": COUNT})
            chain = davit.call("images.unpack", name=image)["chain_id"]
            davit.call("snapshots.prepare", key=id, parent=chain)
            container, root = {"image": image, "snapshot_key": id, "snapshotter": "overlayfs"}, "rootfs"
        davit.create(id, COUNT, root, container=container)
        davit.call("tasks.start", container_id=id)
        if image:
            self.root = Path(f"/proc/{davit.status(id)['pid']}/root")
        if change:
            done = davit.exec(id, ["/bin/sh", "-ec", change])
            assert done[0]["exit_status"] == 0, done
        wait_for(lambda: self.count() > 3, what="the counter")

    def count(self):
        try:
            return int((self.root / "tmp/count").read_text())
        except FileNotFoundError:
            return 0

    def away(self, name="kept:1"):
        """A checkpoint that ends it; the task is deleted. The last count."""
        self.davit.call("tasks.checkpoint", container_id=self.id, name=name, options={"exit": True})
        self.davit.call("tasks.wait", container_id=self.id)
        self.davit.call("tasks.delete", container_id=self.id)

    def goes_on(self, image, **options):
        """Restores it from another image: it counts on from where it was."""
        was = self.count()
        assert was > 3
        self.davit.call("tasks.create", container_id=self.id, checkpoint=image, options=options)
        (self.root / "tmp/count").unlink()
        self.davit.call("tasks.start", container_id=self.id)
        wait_for(lambda: self.count() > 0, what="the first count")
        # one that began anew would be at its first numbers
        assert self.count() >= was
        self.davit.call("tasks.delete", container_id=self.id, kill=True)


@pytest.fixture
def counter(davit, rootfs, criu):
    made = Counter(davit, rootfs)
    made.away()
    return made


def exported(davit, format, path, name="kept:1", **more):
    size = davit.call("checkpoints.export", name=name, format=format, path=str(path), **more)["size"]
    return size


# criu's images

def test_criu_statistics(davit, busybox, criu):
    """What criu has measured is in what is exported, when it had said so before the image was made."""
    davit.launch("c", ["sleep", "100000"], busybox)
    davit.call("tasks.checkpoint", container_id="c", name="kept:1")
    exported(davit, "criu-dir", davit.base / "images")
    stats = crit(davit.base / "images/stats-dump")[0]["dump"]
    assert stats["freezing_time"] > 0 and stats["memdump_time"] > 0 and stats["pages_scanned"] >= stats["pages_written"] > 0
    assert 0 < stats["frozen_time"] < 60_000_000


def test_a_folder(davit, counter):
    folder = davit.base / "images"
    size = exported(davit, "criu-dir", folder)
    assert sum(path.stat().st_size for path in folder.iterdir()) == size
    assert names_of_tasks(folder)[1] == "sh"
    assert crit(folder / "stats-dump")[0]["dump"]["pages_written"] > 0
    assert json.loads((folder / "davit-checkpoint.json").read_text())["container"]["id"] == "counter"
    assert folder.stat().st_mode & 0o777 == 0o700
    counter.goes_on(str(folder))

    made = davit.call("checkpoints.import", path=str(folder), name="again:1")
    assert made["image"] == "again:1"
    labels = davit.call("images.get", name="again:1")["image"]["labels"]
    assert labels == {"containerd.io/checkpoint": "true"}  # not davit.checkpoint.local
    counter.goes_on("again:1")


def test_a_folder_that_is_not_empty_stays_as_it_is(davit, counter):
    folder = davit.base / "images"
    folder.mkdir()
    (folder / "mine").write_text("x")
    with pytest.raises(RpcError) as error:
        exported(davit, "criu-dir", folder)
    assert error.value.code == "already_exists" and error.value.details["argument"] == "path"
    assert os.listdir(folder) == ["mine"]
    (folder / "mine").unlink()
    exported(davit, "criu-dir", folder)
    assert (folder / "inventory.img").exists()


def test_a_folder_that_cannot_be_made(davit, counter):
    with pytest.raises(RpcError) as error:
        exported(davit, "criu-dir", davit.base / "no/such/folder")
    assert error.value.code == "not_found" and "no/such/folder" in error.value.message


@pytest.mark.parametrize("compression,magic", [("zstd", b"\x28\xb5\x2f\xfd"), ("gzip", b"\x1f\x8b"), ("none", b"core-1.img")])
def test_a_tar_of_images(davit, counter, compression, magic):
    """Through pipes, both ways."""
    read, write = os.pipe()
    pieces = []
    thread = threading.Thread(target=lambda: pieces.append(open(read, "rb").read()))
    thread.start()
    answer = davit.send("checkpoints.export", name="kept:1", format="criu-dir", stream=Fd(write), compression=compression)
    os.close(write)
    size = answer.result()["size"]
    thread.join()
    data = pieces[0]
    assert len(data) == size and data[:len(magic)] == magic or compression == "none"
    (davit.base / "data").write_bytes(data)
    folder = unpacked(davit.base / "data", davit.base / "out")
    assert names_of_tasks(folder)[1] == "sh"

    read, write = os.pipe()
    answer = davit.send("checkpoints.import", stream=Fd(read), name="again:1")
    os.close(read)
    with open(write, "wb") as pipe:
        pipe.write(data)
    assert answer.result()["image"] == "again:1"
    counter.goes_on("again:1")


def test_the_same_checkpoint_gives_the_same_bytes(davit, counter):
    for format in ("podman", "containerd", "criu-dir"):
        for name in ("a", "b"):
            with open(davit.base / name, "wb") as file:
                davit.call("checkpoints.export", name="kept:1", format=format, stream=Fd(file.fileno()))
        assert (davit.base / "a").read_bytes() == (davit.base / "b").read_bytes(), format


def test_images_of_criu_alone(davit, counter):
    """Without a record: what to hand in is read out of the images."""
    folder = davit.base / "images"
    exported(davit, "criu-dir", folder)
    (folder / "davit-checkpoint.json").unlink()
    index = davit.call("checkpoints.import", path=str(folder), name="bare:1", format="criu-dir")["index"]
    assert index["media_type"] == images.INDEX
    record = record_of(davit, "bare:1")
    assert record["container"]["id"] == "criu" and record["network"] == "shared" and record["network_key"] == "extNet"
    assert {mount["key"] for mount in record["mounts"]} == {mount["name"] for mount in record["mounts"]}


# podman

def record_of(davit, name):
    read = lambda digest: json.loads(davit.call("content.read", digest=digest)["data"])
    index = read(davit.call("images.get", name=name)["image"]["target"]["digest"])
    manifest = next(one for one in index["manifests"] if "artifactType" in one)
    return read(read(manifest["digest"])["config"]["digest"])


@pytest.fixture
def layered(davit, rootfs, criu):
    """A counter on a snapshot, with all that a diff can have."""
    (rootfs / "etc/old").mkdir(parents=True)
    (rootfs / "etc/old/hidden").write_text("hidden")
    (rootfs / "etc/gone").write_text("gone")
    (rootfs / "etc/kept").write_text("kept")
    made = Counter(davit, rootfs, image="localhost/box:1", change="""
        rm /etc/gone; rm -r /etc/old; mkdir /etc/old; echo new > /etc/old/new; echo changed > /etc/kept
        mkdir -m 750 /var/own; echo x > /var/own/file; ln -s file /var/own/link; ln /var/own/file /var/own/hard""")
    made.away()
    return made


def test_podmans_archive(davit, layered):
    path = davit.base / "archive.tar.zst"
    assert exported(davit, "podman", path) == path.stat().st_size
    folder = unpacked(path, davit.base / "out")
    config = json.loads((folder / "config.dump").read_text())
    assert (config["name"], config["rootfsImageName"], config["runtime"]) == ("counter", "localhost/box:1", "runc")
    assert len(config["id"]) == 64 and len(config["rootfsImageID"]) == 64 and config["command"] == COUNT
    dumped = json.loads((folder / "spec.dump").read_text())
    assert dumped["process"]["args"] == COUNT and dumped["annotations"]["io.container.manager"] == "libpod"
    assert (folder / "network.status").read_text() == "null"
    assert len(json.loads((folder / "checkpoint/descriptors.json").read_text())) == 3
    assert names_of_tasks(folder / "checkpoint")[1] == "sh"
    assert tarfile.open(folder / "devshm-checkpoint.tar").getnames() == []

    assert sorted(json.loads((folder / "deleted.files").read_text())) == ["/etc/gone", "/etc/old/hidden"]
    diff = tarfile.open(folder / "rootfs-diff.tar")
    files = {member.name.rstrip("/"): member for member in diff}
    assert not [name for name in files if ".wh." in name]
    assert diff.extractfile("etc/old/new").read() == b"new\n" and diff.extractfile("etc/kept").read() == b"changed\n"
    assert files["var/own"].mode & 0o777 == 0o750 and files["var/own/link"].linkname == "file"
    assert "etc/gone" not in files and {files["var/own/file"].islnk(), files["var/own/hard"].islnk()} == {True, False}


def test_checkpointctl_reads_it(davit, layered, criu):
    path = davit.base / "archive.tar"
    exported(davit, "podman", path, compression="gzip")
    shown = tool("checkpointctl", "show", path)
    assert "localhost/box:1" in shown and "counter" in shown and "Podman" in shown and "runc" in shown
    inspected = tool("checkpointctl", "inspect", "--all", path)
    # what it reads out of the processes' memory is not there with criu 4.2, whose page maps checkpointctl 1.3 does not know yet
    memory = ("[1]  /bin/sh -c i=0", "PATH=/usr/local/sbin") if criu_version(criu) < (4, 2) else ("[1]  ",)
    for text in ("counter", "CRIU dump statistics", "Root FS diff size", "Destination: /proc", *memory):
        assert text in inspected, inspected


def test_its_own_archive_of_podmans_kind(davit, layered):
    """Out and in again: the layer has its whiteouts again, and the process goes on."""
    path = davit.base / "archive.tar"
    exported(davit, "podman", path)
    davit.call("checkpoints.import", path=str(path), name="again:1")
    record = record_of(davit, "again:1")
    assert record["container"]["image"] == "localhost/box:1" and record["options"]["empty_namespaces"] == ["net"]
    assert {mount["kind"] for mount in record["mounts"]} <= {"bind", "null", "cgroup"}

    read = lambda digest: json.loads(davit.call("content.read", digest=digest)["data"])
    index = read(davit.call("images.get", name="again:1")["image"]["target"]["digest"])
    assert len(index["manifests"]) == 2  # the base is there again
    layer = next(layer for layer in read(index["manifests"][0]["digest"])["layers"] if "image.layer" in layer["mediaType"])
    chain = davit.call("images.unpack", name="localhost/box:1")["chain_id"]
    mounts = davit.call("snapshots.prepare", key="fresh", parent=chain)["mounts"]
    davit.call("diff.apply", diff={"media_type": layer["mediaType"], "digest": layer["digest"], "size": layer["size"]}, mounts=mounts)
    with images.mounted(davit, mounts) as root:
        root = Path(root)
        assert not (root / "etc/gone").exists() and not (root / "etc/old/hidden").exists()
        assert (root / "etc/old/new").read_text() == "new\n" and (root / "var/own/hard").read_text() == "x\n"
        was = int((root / "tmp/count").read_text())
    davit.call("containers.create", id="other", spec=spec(COUNT, "rootfs"), snapshot_key="fresh", snapshotter="overlayfs")
    davit.call("tasks.create", container_id="other", checkpoint="again:1")
    davit.call("tasks.start", container_id="other")
    count = Path(f"/proc/{davit.status('other')['pid']}/root/tmp/count")
    wait_for(lambda: int(count.read_text()) > was, what="counting on")
    assert int(count.read_text()) < was + 1000
    davit.call("tasks.delete", container_id="other", kill=True)


class Podman:
    """podman with a storage of its own, runc, and the criu of these tests."""

    def __init__(self, folder, criu):
        if not program("podman") or not program("runc"):
            pytest.skip("podman or runc is not installed (tools/setup --for bench installs runc)")
        self.folder = Path(folder)
        for name in ("home", "run", "tmp", "bin"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "bin/criu").write_text(f'#!/bin/sh\nexec {criu} "$@"\n')
        (self.folder / "bin/criu").chmod(0o755)
        self.env = {
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}:/usr/sbin:/sbin", "HOME": str(self.folder / "home"), "LANG": "C.UTF-8",
            "XDG_RUNTIME_DIR": str(self.folder / "run"), "TMPDIR": str(self.folder / "tmp"),
            "CONTAINERS_CONF": "/dev/null", "REGISTRIES_CONFIG_PATH": "/dev/null",
        }
        self.before = set(self.groups())

    @staticmethod
    def groups():
        """podman's parent groups, which it leaves behind."""
        return [*Path("/sys/fs/cgroup").glob("libpod_parent"), *Path("/sys/fs/cgroup").glob("*/libpod_parent")]

    def run(self, *args, check=True):
        done = subprocess.run(
            ["podman", "--root", str(self.folder / "storage"), "--runroot", str(self.folder / "run/storage"),
             "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "file", "--runtime", "runc",
             *map(str, args)], env=self.env, capture_output=True, text=True, timeout=DEADLINE)
        if check:
            logs = "".join(log.read_text()[-3000:] for log in (self.folder / "storage").glob("**/restore.log"))
            assert done.returncode == 0, f"podman {args}: {done.stdout} {done.stderr} {logs}"
        return done

    def image(self, root, name="localhost/box:1"):
        policy = self.folder / "home/.config/containers/policy.json"
        policy.parent.mkdir(parents=True)
        policy.write_text('{"default":[{"type":"insecureAcceptAnything"}]}')
        tar = self.folder / "image.tar"
        subprocess.run(["tar", "-C", str(root), "-cf", str(tar), "."], check=True)
        self.run("import", tar, name)
        return name

    def counter(self, image, name="counted"):
        """Runs the counter, and waits until it counts. Skips where podman cannot run containers."""
        done = self.run("run", "-d", "--name", name, "--network", "none", "--ulimit", "nofile=1024:1024",
                        "--ulimit", "nproc=1000:1000", image, *COUNT, check=False)
        if done.returncode:
            pytest.skip(f"podman runs no containers here: {done.stderr.strip().splitlines()[-1]}")
        wait_for(lambda: self.count(name) > 3, what="podman's counter")

    def root(self, name):
        return Path(self.run("mount", name).stdout.strip())

    def count(self, name):
        try:
            return int((self.root(name) / "tmp/count").read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def checkpoint(self, path, name="counted", *options):
        done = self.run("container", "checkpoint", "--export", path, *options, name, check=False)
        if done.returncode:
            pytest.skip(f"podman takes no checkpoints here: {done.stderr.strip().splitlines()[-1]}")

    def close(self):
        self.run("rm", "-fa", "-t", "0", check=False)
        self.run("umount", "-a", check=False)
        for folder in set(self.groups()) - self.before:
            for path, _, _ in os.walk(folder, topdown=False):
                os.rmdir(path)
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            if line.split()[4].startswith(str(self.folder)):
                subprocess.run(["umount", "-l", line.split()[4]], check=False)
        subprocess.run(["rm", "-rf", "--one-file-system", str(self.folder)], check=True)


@pytest.fixture
def podman(davit, criu):
    made = Podman(davit.base / "podman", criu)
    yield made
    made.close()


def restorable(folder, root, base):
    """A spec of davit's for a checkpoint of podman's: what podman bound is here ours."""
    made = json.loads((folder / "spec.dump").read_text())
    made["root"]["path"] = str(root)
    for mount in made["mounts"]:
        if mount["destination"] == "/dev/shm":
            mount.update(type="tmpfs", source="shm", options=["nosuid", "noexec", "nodev", "mode=1777", "size=65536000"])
        elif mount["type"] == "bind":
            source = base / ("bound" + mount["destination"].replace("/", "-"))
            source.write_text("of davit's\n")
            mount["source"] = str(source)
    del made["linux"]["cgroupsPath"], made["linux"]["resources"]
    return made


@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
def test_from_podman(davit, podman, rootfs, compression):
    """A real archive of podman's: its container goes on here."""
    (rootfs / "etc").mkdir(exist_ok=True)
    (rootfs / "etc/gone").write_text("x")
    podman.counter(podman.image(rootfs))
    podman.run("exec", "counted", "rm", "/etc/gone")
    path = davit.base / "archive.tar"
    podman.checkpoint(path, "counted", "--compress", compression)
    folder = unpacked(path, davit.base / "out")
    davit.call("checkpoints.import", path=str(path), name="foreign:1")
    record = record_of(davit, "foreign:1")
    assert record["container"]["id"] == "counted" and record["container"]["image"] == "localhost/box:1"
    assert "/dev/shm" in {mount["path"] for mount in record["mounts"]}

    subprocess.run(["tar", "-C", str(rootfs), "-xf", str(folder / "rootfs-diff.tar")], check=True)
    was = int((rootfs / "tmp/count").read_text())
    davit.call("containers.create", id="here", spec=restorable(folder, rootfs, davit.base))
    davit.call("tasks.create", container_id="here", checkpoint="foreign:1")
    davit.call("tasks.start", container_id="here")
    count = lambda: int((rootfs / "tmp/count").read_text())
    wait_for(lambda: count() > was, what="counting on")
    assert count() < was + 1000
    assert davit.exec("here", ["cat", "/etc/hosts"])[1] == "of davit's\n"
    davit.call("tasks.delete", container_id="here", kill=True)


def test_from_podman_without_what_it_had(davit, podman, rootfs):
    podman.counter(podman.image(rootfs))
    path = davit.base / "archive.tar"
    podman.checkpoint(path)
    davit.call("checkpoints.import", path=str(path), name="foreign:1")
    davit.call("containers.create", id="here", spec=spec(COUNT, str(rootfs)))
    with pytest.raises(RpcError) as error:
        davit.call("tasks.create", container_id="here", checkpoint="foreign:1")
    assert error.value.code in ("failed_precondition", "permission_denied")


def test_podman_goes_on_with_ours(davit, podman, rootfs, criu):
    name = podman.image(rootfs)
    archive = podman.folder / "saved.tar"
    podman.run("save", "--format", "oci-archive", "-o", archive, name)
    davit.call("images.import", path=str(archive), name=name)
    chain = davit.call("images.unpack", name=name)["chain_id"]
    davit.call("snapshots.prepare", key="ours", parent=chain)
    # as the command line makes them: with the hierarchies of cgroup
    cgroup = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}
    davit.launch("ours", COUNT, "rootfs", mounts=[*spec(COUNT)["mounts"], cgroup], container={"image": name, "snapshot_key": "ours", "snapshotter": "overlayfs"})
    count = Path(f"/proc/{davit.status('ours')['pid']}/root/tmp/count")
    wait_for(lambda: count.exists() and int(count.read_text()) > 3, what="the counter")
    davit.call("tasks.checkpoint", container_id="ours", name="kept:1")
    was = int(count.read_text())
    davit.call("tasks.delete", container_id="ours", kill=True)

    path = davit.base / "archive.tar.zst"
    exported(davit, "podman", path)
    podman.run("container", "restore", "--import", path, "--name", "theirs")
    wait_for(lambda: podman.count("theirs") > was, what="podman's counting on")
    assert podman.count("theirs") < was + 1000


# containerd

@pytest.fixture
def ctr(davit):
    """ctr(ARG…) → its output, with a containerd of this test's."""
    if not program("containerd") or not program("ctr"):
        pytest.skip("containerd is not installed (tools/setup --for bench installs it)")
    base = davit.base / "containerd"
    base.mkdir()
    (base / "config.toml").write_text(
        f'version = 2\nroot = "{base}/root"\nstate = "{base}/state"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        f'[grpc]\n  address = "{base}/sock"\n[ttrpc]\n  address = "{base}/ttrpc"\n')
    with open(base / "log", "wb") as log:
        process = subprocess.Popen(["containerd", "-c", str(base / "config.toml")], stdout=log, stderr=log)

    def run(*args, text=True):
        done = subprocess.run(["ctr", "-a", str(base / "sock"), *map(str, args)], capture_output=True, timeout=DEADLINE)
        assert done.returncode == 0, f"ctr {args}: {done.stderr.decode()}"
        return done.stdout.decode() if text else done.stdout

    try:
        wait_for((base / "sock").exists, what="containerd")
        yield run
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(DEADLINE)
        subprocess.run(["rm", "-rf", "--one-file-system", str(base)], check=True)


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def any_of(data):
    """(type URL, value) of a protobuf Any."""
    fields, at = {}, 0
    while at < len(data):
        tag, at = varint(data, at)
        size, at = varint(data, at)
        fields[tag >> 3] = data[at:at + size]
        at += size
    return fields[1].decode(), fields.get(2, b"")


def test_containerds_image(davit, layered, ctr):
    path = davit.base / "archive.tar"
    exported(davit, "containerd", path)
    ctr("image", "import", "--no-unpack", path)
    assert "kept:1" in ctr("image", "ls", "-q").split()
    get = lambda digest: ctr("content", "get", digest, text=False)
    target = next(line.split()[2] for line in ctr("image", "ls").splitlines() if line.startswith("kept:1"))
    index = json.loads(get(target))
    assert index["annotations"] == {
        "org.opencontainers.image.ref.name": "localhost/box:1",
        "io.containerd.checkpoint.runtime": "io.containerd.runc.v2", "io.containerd.checkpoint.snapshotter": "overlayfs"}
    by_type = {one["mediaType"]: one for one in index["manifests"]}
    assert all(one["platform"]["os"] == "linux" for one in index["manifests"])

    criu = tarfile.open(fileobj=io.BytesIO(get(by_type["application/vnd.containerd.container.criu.checkpoint.criu.tar"]["digest"])))
    (davit.base / "out").mkdir()
    criu.extractall(davit.base / "out")
    assert names_of_tasks(davit.base / "out")[1] == "sh"
    url, value = any_of(get(by_type["application/vnd.containerd.container.checkpoint.config.v1+proto"]["digest"]))
    assert url == "types.containerd.io/opencontainers/runtime-spec/1/Spec" and json.loads(value)["process"]["args"] == COUNT
    url, value = any_of(get(by_type["application/vnd.containerd.container.checkpoint.options.v1+proto"]["digest"]))
    assert url == "containerd.runc.v1.CheckpointOptions" and value[:2] == b"\x08\x01"  # exit
    layer = tarfile.open(fileobj=io.BytesIO(get(by_type["application/vnd.oci.image.layer.v1.tar+gzip"]["digest"])), mode="r:gz")
    assert "etc/.wh.gone" in layer.getnames() and "etc/old/new" in layer.getnames()
    base = json.loads(get(by_type[images.MANIFEST]["digest"]))
    assert get(base["layers"][0]["digest"]) and get(base["config"]["digest"])


def test_containerds_image_by_the_command_line(davit, busybox, criu, ctr, tmp_path):
    """What it writes without being asked for anything is what ctr reads."""
    make_image(davit, busybox)
    davit.cli("run", "-d", "--name", "c", "box", "sleep", "100000", check=True)
    davit.cli("checkpoint", "--name", "kept:2", "--export", tmp_path / "c.tar", "--format", "containerd", "c", check=True, timeout=DEADLINE * 2)
    ctr("image", "import", "--no-unpack", tmp_path / "c.tar")
    assert "kept:2" in ctr("image", "ls", "-q").split()
    davit.cli("checkpoint", "--export", tmp_path / "c.tar.gz", "--format", "containerd", "--export-compression", "gzip", "c", check=True, timeout=DEADLINE * 2)
    with tarfile.open(tmp_path / "c.tar.gz", "r:gz") as tar:
        assert "index.json" in tar.getnames()


# what is wrong

def test_arguments(davit, counter):
    def refused(method, **params):
        with pytest.raises(RpcError) as error:
            davit.call(method, **params)
        return error.value.code, error.value.details.get("argument")

    out = {"name": "kept:1", "path": str(davit.base / "x")}
    assert refused("checkpoints.export", **{**out, "name": "other:1"}, format="podman") == ("not_found", "name")
    assert refused("checkpoints.export", **out, format="zip") == ("invalid_argument", "format")
    assert refused("checkpoints.export", **out, format="podman", compression="lz4") == ("invalid_argument", "compression")
    assert refused("checkpoints.export", name="kept:1", format="podman") == ("invalid_argument", "path")
    assert refused("checkpoints.export", name="kept:1", format="podman", path="x") == ("invalid_argument", "path")
    assert refused("checkpoints.export", **out, format="podman", stream=Fd(2)) == ("invalid_argument", "stream")
    assert refused("checkpoints.import", format="containerd", path="/x") == ("unimplemented", "format")
    assert refused("checkpoints.import", path=str(davit.base / "nothing")) == ("not_found", "path")
    assert refused("checkpoints.import", path="/dev/null") == ("invalid_argument", "path")
    assert not (davit.base / "x").exists() and not list(davit.base.glob("*.tmp"))


def test_an_image_that_is_no_checkpoint(davit, rootfs):
    davit.call("images.from_dir", path=str(rootfs), name="box:1")
    with pytest.raises(RpcError) as error:
        exported(davit, "podman", davit.base / "x", name="box:1")
    assert error.value.code == "failed_precondition" and not (davit.base / "x").exists()


def test_a_reader_that_goes_away(davit, counter):
    read, write = os.pipe()
    os.close(read)
    answer = davit.send("checkpoints.export", name="kept:1", format="podman", stream=Fd(write))
    os.close(write)
    with pytest.raises(RpcError) as error:
        answer.result()
    assert error.value.code == "aborted"


def test_a_writer_that_does_nothing(davit):
    read, write = os.pipe()
    client = davit.client()
    try:
        answer = client.send("checkpoints.import", stream=Fd(read), timeout=200_000_000)
        with pytest.raises(RpcError) as error:
            answer.result()
        assert error.value.code == "deadline_exceeded"
    finally:
        os.close(read)
        os.close(write)


def test_progress(davit, counter):
    """Events say how far it is, when they are asked for."""
    exported(davit, "podman", davit.base / "x", compression="none")
    data = (davit.base / "x").read_bytes()
    fd, end = os.pipe()
    with davit.events() as events:
        pending = davit.rpc.send("checkpoints.import", stream=Fd(fd), name="again:1", progress="mine")
        os.close(fd)
        with os.fdopen(end, "wb", buffering=0) as out:
            half = len(data) // 2
            out.write(data[:half])
            told = events.next("/tasks/progress")
            out.write(data[half:])
        pending.result()
    assert told["event"]["progress"] == "mine" and told["event"]["phase"] == "read"
    assert 0 < told["event"]["done"] <= len(data)


def test_a_name_that_is_taken(davit, counter):
    exported(davit, "criu-dir", davit.base / "x")
    davit.call("checkpoints.import", path=str(davit.base / "x"), name="again:1")
    davit.call("checkpoints.import", path=str(davit.base / "x"), name="again:1")  # the same
    with pytest.raises(RpcError) as error:
        os.unlink(davit.base / "x/davit-checkpoint.json")
        davit.call("checkpoints.import", path=str(davit.base / "x"), name="again:1")
    assert error.value.code == "already_exists"


@pytest.fixture
def parts(davit, counter):
    """{name: bytes} of podman's archive."""
    exported(davit, "podman", davit.base / "good.tar", compression="none")
    with tarfile.open(davit.base / "good.tar") as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}


def text(change):
    """Changes a JSON document."""
    def apply(data):
        document = json.loads(data)
        return json.dumps(change(document) or document).encode()
    return apply


def replaced(old, new):
    assert len(old) == len(new)
    return lambda data: data.replace(old, new)


HOSTILE = {
    "a mount of the host's": ({"checkpoint/mountpoints-13.img": replaced(b"/proc/acpi", b"/../../etc")}, "leads|path|twice|absolute"),
    "a key of criu's own": ({"checkpoint/mountpoints-13.img": replaced(b"\x09/dev/null", b"\x09CRIU:AUTO")}, "CRIU|host|key"),
    "no inventory": ({"checkpoint/inventory.img": None}, "inventory.img"),
    "no spec": ({"spec.dump": None}, "spec.dump"),
    "no config": ({"config.dump": None}, "config.dump"),
    "a config that is no JSON": ({"config.dump": lambda data: b"{"}, "config.dump"),
    "a config that is a list": ({"config.dump": lambda data: b"[]"}, "config.dump: it is no object"),
    "keys twice": ({"config.dump": lambda data: b'{"name":"a","name":"b"}'}, "config.dump"),
    "a name that is none": ({"config.dump": text(lambda c: c.update(name="../../x"))}, "container.id"),
    "a terminal": ({"spec.dump": text(lambda s: s["process"].update(terminal=True))}, "terminal"),
    "descriptors that are none": ({"checkpoint/descriptors.json": lambda data: b'["pipe:[1]]:x","",""]'}, "stdio"),
    "image files cut off": ({"checkpoint/core-1.img": lambda data: data[:-1]}, "core-1.img"),
    "a whiteout in the diff": ({"rootfs-diff.tar": lambda data: images.tar({"etc/.wh.passwd": b""})}, "etc/.wh.passwd"),
    "a diff that is none": ({"rootfs-diff.tar": lambda data: b"x" * 2000}, "rootfs-diff.tar"),
    "deleted files that climb": ({"rootfs-diff.tar": lambda data: images.tar({"a": b""}),
                                  "deleted.files": lambda data: b'["/.wh.x"]'}, "deleted.files"),
    "files in /dev/shm": ({"devshm-checkpoint.tar": lambda data: images.tar({"a": b"x"})}, "/dev/shm"),
}


@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.replace(" ", "-"))
def test_hostile_content(davit, parts, case):
    changes, word = HOSTILE[case]
    changed = dict(parts)
    mounts = next(name for name in parts if "mountpoints-" in name)
    for name, change in changes.items():
        name = mounts if "mountpoints-" in name else name
        if change is None:
            del changed[name]
        else:
            changed[name] = change(changed.get(name, b""))
    assert changed != parts
    refused_archive(davit, images.tar(changed), word)


def refused_archive(davit, data, word):
    before = {image["name"] for image in davit.call("images.list")["images"]}
    (davit.base / "bad.tar").write_bytes(data)
    with pytest.raises(RpcError) as error:
        davit.call("checkpoints.import", path=str(davit.base / "bad.tar"), name="bad:1")
    assert error.value.code in ("failed_precondition", "resource_exhausted"), error.value
    assert any(part in error.value.message for part in word.split("|")), error.value.message
    assert {image["name"] for image in davit.call("images.list")["images"]} == before
    assert not davit.call("content.list_statuses")["statuses"]


ENTRIES = {
    "climbs": ({"name": "checkpoint/../../x.img"}, "leads out"),
    "absolute": ({"name": "/etc/x.img"}, "a name that cannot be"),
    "a symlink": ({"name": "checkpoint/parent", "type": tarfile.SYMTYPE, "linkname": "/"}, "neither a file nor a folder"),
    "a hard link": ({"name": "checkpoint/x.img", "type": tarfile.LNKTYPE, "linkname": "config.dump"}, "neither a file nor a folder"),
    "a device": ({"name": "checkpoint/x.img", "type": tarfile.CHRTYPE}, "neither a file nor a folder"),
    "a FIFO": ({"name": "config.dump", "type": tarfile.FIFOTYPE}, "neither a file nor a folder"),
    "a document twice": ({"name": "./config.dump"}, "twice"),
    "an image twice": ({"name": "checkpoint//inventory.img"}, "twice"),
    "an image's name": ({"name": "checkpoint/.hidden.img"}, "no image file"),
    "images in two places": ({"name": "inventory.img"}, "two places"),
}


@pytest.mark.parametrize("case", ENTRIES, ids=lambda case: case.replace(" ", "-"))
def test_hostile_entries(davit, parts, case):
    fields, word = ENTRIES[case]
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in parts.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        member = tarfile.TarInfo(fields["name"])
        for key, value in fields.items():
            setattr(member, key, value)
        tar.addfile(member)
    refused_archive(davit, data.getvalue(), word)


@pytest.mark.parametrize("data,word", [
    (b"", "empty"), (b"\0" * 10240, "none|empty|no tar|inventory"), (b"hello" * 1000, "no tar archive"),
    (b"\x28\xb5\x2f\xfd" + b"x" * 100, "damaged|no tar"),
], ids=["empty", "zeros", "text", "broken-zstd"])
def test_no_archive(davit, data, word):
    refused_archive(davit, data, word)


def test_archives_that_are_cut_off(davit, parts):
    data = images.tar(parts)
    for size in (1000, len(data) // 2, len(data) * 3 // 4):
        refused_archive(davit, data[:size], "damaged|inventory|ends|config.dump|spec.dump")
