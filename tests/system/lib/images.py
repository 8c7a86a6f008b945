# SPDX-License-Identifier: Apache-2.0
"""Images, OCI layouts and docker archives, made by hand."""

import gzip
import hashlib
import io
import json
import os
import platform
import subprocess
import tarfile
from contextlib import contextmanager
from pathlib import Path

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
REF_NAME = "org.opencontainers.image.ref.name"
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def dumps(value):
    return json.dumps(value, separators=(",", ":")).encode()


def entry(kind=tarfile.REGTYPE, **fields):
    """A TarInfo: entry(tarfile.SYMTYPE, linkname="x", mode=0o777)."""
    info = tarfile.TarInfo()
    info.type = kind
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def tar(files, format=tarfile.PAX_FORMAT):
    """{name: bytes, TarInfo or (TarInfo, bytes)}, or a list of such pairs, as the bytes of a tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as made:
        for name, data in files.items() if isinstance(files, dict) else files:
            info, data = data if isinstance(data, tuple) else (data, b"") if isinstance(data, tarfile.TarInfo) else (entry(mode=0o644), data)
            info.name = name
            if info.isreg():
                info.size = len(data)
            made.addfile(info, io.BytesIO(data) if info.isreg() else None)
    return out.getvalue()


def descriptor(media_type, data, **more):
    return {"mediaType": media_type, "digest": digest(data), "size": len(data), **more}


def chain_ids(diff_ids):
    chain = []
    for diff_id in diff_ids:
        chain.append(digest(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return chain


class Image:
    """
    layers    tars as bytes; packed: what the blobs are; every second one is gzip
    config    bytes; manifest: bytes; blobs: {digest: bytes} of all of it
    """

    def __init__(self, *layers, architecture=ARCHITECTURE, diff_ids=None, **config):
        self.layers = list(layers)
        self.packed = [gzip.compress(layer, mtime=0) if i % 2 else layer for i, layer in enumerate(layers)]
        self.diff_ids = diff_ids or [digest(layer) for layer in layers]
        self.chain = chain_ids(self.diff_ids)
        self.config = dumps({
            "architecture": architecture, "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": self.diff_ids},
        })
        self.manifest = dumps({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, self.config),
            "layers": [descriptor(LAYER + ("+gzip" if i % 2 else ""), data) for i, data in enumerate(self.packed)],
        })
        self.digest = digest(self.manifest)
        self.blobs = {digest(data): data for data in (*self.packed, self.config, self.manifest)}

    def descriptor(self, name=None, **more):
        if name:
            more["annotations"] = {REF_NAME: name}
        return descriptor(MANIFEST, self.manifest, **more)


def layout(manifests, blobs):
    """The files of an OCI layout: descriptors of index.json, and {digest: bytes}."""
    return {
        "oci-layout": LAYOUT,
        "index.json": dumps({"schemaVersion": 2, "manifests": manifests}),
        **{"blobs/sha256/" + name.removeprefix("sha256:"): data for name, data in blobs.items()},
    }


def archive(image, name=None):
    """The tar of a layout with one image."""
    return tar(layout([image.descriptor(name)], image.blobs))


def docker_archive(image, *tags):
    """The tar of what `docker save` wrote for long."""
    config = digest(image.config).removeprefix("sha256:") + ".json"
    layers = {f"{i:064x}/layer.tar": data for i, data in enumerate(image.layers)}
    listed = [{"Config": config, "RepoTags": list(tags), "Layers": list(layers)}]
    return tar({config: image.config, **layers, "manifest.json": dumps(listed)})


def write_folder(folder, files):
    for name, data in files.items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return Path(folder)


def passed(data):
    """An fd of a file with these bytes, to be closed."""
    fd = os.memfd_create("archive", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


@contextmanager
def mounted(davit, mounts):
    """What snapshots.view or prepare answered, mounted at a folder of this test."""
    folder = Path(davit.base, "mnt")
    folder.mkdir(exist_ok=True)
    done = 0
    try:
        for mount in mounts:
            options = [option for option in mount["options"] if option not in ("rbind", "bind")]
            bind = ["--bind"] if len(options) != len(mount["options"]) else ["-t", mount["type"]]
            subprocess.run(["mount", *bind, *(["-o", ",".join(options)] if options else []), mount["source"], str(folder)],
                           check=True)
            done += 1
        yield folder
    finally:
        for _ in range(done):
            subprocess.run(["umount", str(folder)], check=True)


def tree(folder):
    """{path: what it is} of all that is in a folder, with owner, mode, and content, target or device."""
    found = {}
    folder = Path(folder)
    for path in sorted(folder.rglob("*"), key=str):
        st = path.lstat()
        kind = (st.st_mode, st.st_uid, st.st_gid)
        if path.is_symlink():
            found[str(path.relative_to(folder))] = (*kind, os.readlink(path))
        elif path.is_file():
            found[str(path.relative_to(folder))] = (*kind, digest(path.read_bytes()), int(st.st_mtime))
        else:
            found[str(path.relative_to(folder))] = (*kind, st.st_rdev)
    return found
