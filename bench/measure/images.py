# SPDX-License-Identifier: Apache-2.0
"""Images: a Debian of some 300 MB as an OCI archive with a gzip layer, imported and unpacked

davit (images.import and images.unpack), containerd (`ctr image import`, which unpacks) and podman (`podman load`), each with stores of
its own that are empty at each round. The archive is in the page cache; each syncs what it syncs.
"""

import contextlib
import os
import shutil
import subprocess
import time

from .common import ROOT, SETUP, Failed, Missing, Rows, in_turns, progress, quiet_disk, ratio, run
from .daemons import Containerd, Podman
from .davit import Daemon, Latency

LEAST_MB = 300
PACKAGES = "build-essential,python3,git"
NAME = "localhost/davit-bench:1"


def archive():
    """build/bench/image.tar, made once."""
    folder = ROOT / "build/bench"
    out, root, layout = folder / "image.tar", folder / "image-root", folder / "image-layout"
    if out.exists():
        return out
    folder.mkdir(parents=True, exist_ok=True)
    for program in ("umoci", "skopeo", "debootstrap"):
        if not shutil.which(program):
            raise Failed(f"{program} is not installed: {SETUP}")
    progress("making an image of a Debian (once)")
    try:
        if not root.exists():
            run([ROOT / "tools/debian-root", root, PACKAGES], timeout=1800)
        size = sum(f.lstat().st_size for f in root.rglob("*") if f.is_file() and not f.is_symlink())
        if size < LEAST_MB * 1000**2:
            raise Failed(f"the Debian in {root} has {size / 1e6:.0f} MB, {LEAST_MB} are wanted")
        shutil.rmtree(layout, ignore_errors=True)
        run(["umoci", "init", "--layout", layout])
        run(["umoci", "new", "--image", f"{layout}:1"])
        run(["umoci", "insert", "--image", f"{layout}:1", root, "/"], timeout=1800)
        new = out.with_suffix(".new")
        new.unlink(missing_ok=True)
        run(["skopeo", "copy", "--insecure-policy", f"oci:{layout}:1", f"oci-archive:{new}:{NAME}"], timeout=600)
        new.rename(out)
    finally:
        shutil.rmtree(layout, ignore_errors=True)
        if out.exists():
            shutil.rmtree(root, ignore_errors=True)
    return out


def warm(path):
    with open(path, "rb") as f:
        while f.read(1 << 20):
            pass


class DavitImages:
    name, title, note = "davit", "davit", ""

    def __init__(self, bench, folder):
        self.bench, self.folder = bench, folder

    def load(self, path, wait=None):
        """Milliseconds; wait(daemon) is called before, with the daemon that is about to do it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        daemon = Daemon(self.bench, self.folder)
        try:
            around = wait(daemon) if wait else contextlib.nullcontext()
            quiet_disk()
            with around:
                began = time.perf_counter()
                images = daemon.call("images.import", path=str(path))["images"]
                daemon.call("images.unpack", name=images[0]["name"])
                took = (time.perf_counter() - began) * 1000
            return took
        finally:
            daemon.close()
            shutil.rmtree(self.folder, ignore_errors=True)


class ContainerdImages:
    name, title, note = "containerd", "containerd, over ctr", ""

    def __init__(self, bench, folder):
        self.folder = folder
        Containerd(folder).close()  # whether it is there

    def load(self, path):
        shutil.rmtree(self.folder, ignore_errors=True)
        daemon = Containerd(self.folder)
        try:
            quiet_disk()
            took, _ = daemon.ctr("images", "import", path)
            return took * 1000
        finally:
            daemon.close()
            run(["rm", "-rf", "--one-file-system", self.folder], check=False)


class PodmanImages:
    name, title = "podman", "podman"

    def __init__(self, bench, folder):
        self.folder = folder
        podman = Podman(folder)
        self.note = podman.note
        podman.close()

    def load(self, path):
        run(["rm", "-rf", "--one-file-system", self.folder], check=False)
        podman = Podman(self.folder)
        try:
            quiet_disk()
            took, _ = podman.podman("load", "-i", path)
            return took * 1000
        finally:
            podman.close()
            run(["rm", "-rf", "--one-file-system", self.folder], check=False)


class Images(Rows):
    name = "images"

    def __init__(self, bench):
        super().__init__()
        self.bench = bench
        self.times, self.subjects, self.windows = {}, [], {}

    def run(self):
        path = archive()
        self.size = path.stat().st_size
        for cls in (DavitImages, ContainerdImages, PodmanImages):
            if not self.bench.wants(cls.name):
                continue
            try:
                self.subjects.append(cls(self.bench, self.bench.tmp / f"images-{cls.name}"))
            except Missing as e:
                self.bench.say_missing(cls.title, str(e))
        rounds = self.bench.options.image_rounds
        for round_ in range(rounds):
            for subject in in_turns(self.subjects, round_):
                warm(path)
                self.times.setdefault(subject.name, []).append(subject.load(path))
            progress(f"images, round {round_ + 1} of {rounds}")
        if self.bench.wants("davit"):
            warm(path)
            self.subjects[0].load(path, self.watched)

    @contextlib.contextmanager
    def watched(self, daemon):
        latency = Latency(daemon)
        try:
            with latency.window("idle"):
                time.sleep(5)
            with latency.window("import"):
                yield
            self.windows = latency.windows
        finally:
            latency.close()

    def finish(self):
        for name, list_ in self.times.items():
            self.record(name, "image_import_unpack", "ms", list_)
        for name, window in self.windows.items():
            self.records.append({**window, "bench": "davit", "name": f"image_tasks_get_{name}"})
        mine = self.times.get("davit")
        peers = [list_ for name, list_ in self.times.items() if name != "davit"]
        faster = [min(each) for each in zip(*peers)] if peers else None
        self.row(f"image of {self.size / 1e6:.0f} MB imported and unpacked, to the faster peer", ratio(mine, faster), "{:.2f} ×", "at most 1 ×",
                 most=1.0)
        for subject in self.subjects[1:]:
            self.row(f"the same, {subject.title} to davit", ratio(self.times.get(subject.name), mine), "{:.2f} ×")
        if self.windows:
            idle, busy = self.windows["idle"]["p99"], self.windows["import"]["p99"]
            self.row(f"tasks.get meanwhile, p99 to idle ({busy:.0f} us to {idle:.0f} us)", busy / idle, "{:.2f} ×", "at most 2 ×", most=2)

    def notes(self):
        words = [f"{s.title} {sorted(self.times[s.name])[len(self.times[s.name]) // 2]:.0f}" for s in self.subjects if s.name in self.times]
        return ["image, ms: " + ", ".join(words)] + [f"{s.title}: {s.note}" for s in self.subjects if s.note]
