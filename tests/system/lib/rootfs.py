# SPDX-License-Identifier: Apache-2.0
"""Root file systems, OCI specs and bundles."""

import copy
import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
TOOLS = CHECKOUT / ".tools"

#: podman's default set, which is davit's too.
CAPABILITIES = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
]

_SPEC = {
    "ociVersion": "1.2.0",
    "process": {
        "terminal": False,
        "user": {"uid": 0, "gid": 0},
        "args": ["/bin/true"],
        "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
        "cwd": "/",
        "capabilities": {kind: CAPABILITIES for kind in ("bounding", "effective", "permitted")},
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        "noNewPrivileges": True,
    },
    "root": {"path": "rootfs", "readonly": False},
    "hostname": "davit-test",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
         "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
    ],
    "linux": {
        "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
        "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    },
}


def spec(args, root="rootfs", /, **changes):
    """An OCI config as a dict, to be changed further at will.

    spec(["sh", "-c", "id"], rootfs, process={"user": {"uid": 7, "gid": 7}}, hostname="h")

    A change that is a dict is merged into what is there, anything else replaces it.
    """
    made = copy.deepcopy(_SPEC)
    made["process"]["args"] = list(args)
    made["root"]["path"] = str(root)
    _merge(made, changes)
    return made


def _merge(into, changes):
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def process(args, **changes):
    """An OCI process, for tasks.exec."""
    made = copy.deepcopy(_SPEC["process"])
    made["args"] = list(args)
    _merge(made, changes)
    return made


def bundle(folder, config):
    """Writes config.json into a folder (made if need be) and returns the folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    return folder


def make_busybox(folder):
    """A root file system of Debian's static busybox with all its applets as links."""
    program = shutil.which("busybox")
    if not program:
        raise FileNotFoundError("busybox is not installed (package busybox-static)")
    folder = Path(folder)
    for name in ("bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "var"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "tmp").chmod(0o1777)
    for alias in ("sbin", "usr"):
        (folder / alias).symlink_to("bin" if alias == "sbin" else ".")
    shutil.copy(program, folder / "bin/busybox")
    applets = subprocess.run([program, "--list"], check=True, capture_output=True, text=True).stdout.split()
    for applet in applets:
        if applet != "busybox":
            (folder / "bin" / applet).symlink_to("busybox")
    (folder / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
    (folder / "etc/group").write_text("root:x:0:\ntty:x:5:\nnogroup:x:65534:\n")
    return folder


def debian_root(name="debian-root", packages=""):
    """A minimal Debian and these packages, made once by tools/debian-root and kept in .tools. Not to be written to."""
    folder = TOOLS / name
    TOOLS.mkdir(exist_ok=True)
    with open(TOOLS / f".{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "etc/os-release").exists():
            more = [packages] if packages else []
            subprocess.run([str(CHECKOUT / "tools/debian-root"), str(folder), *more], check=True, capture_output=True, text=True)
    return folder


def debian_programs(target):
    """A root file system of Debian's redis-server and python3 alone, with what they are linked to, so that an image of it is
    made in a moment. tools/check makes the Debian that it is taken from."""
    root = debian_root("debian-root-programs", "python3,redis-server")
    library = next((root / "usr/lib").glob("python3.*/lib-dynload")).parent.relative_to(root)
    programs = ["usr/bin/python3", "usr/bin/redis-server", "usr/bin/sh"]
    linked = [*programs, *(str(path.relative_to(root)) for path in (root / library).glob("lib-dynload/*.so"))]
    listed = subprocess.run(["chroot", str(root), "ldd", *("/" + name for name in linked)], check=True, capture_output=True, text=True).stdout
    libraries = {word.lstrip("/") for word in listed.split() if word.startswith("/") and not word.endswith(":")}
    leave = ("test", "__pycache__", "idlelib", "lib2to3", "ensurepip", "distutils", "pydoc_data")
    packed = subprocess.run(["tar", "-C", str(root), "-ch", *(f"--exclude={library}/{name}" for name in leave), "--exclude=__pycache__",
                             *programs, *sorted(libraries), str(library), "etc/passwd", "etc/group"], check=True, capture_output=True).stdout
    target = Path(target)
    for name in ("dev", "proc", "root", "run", "srv", "sys", "tmp"):
        (target / name).mkdir(parents=True)
    subprocess.run(["tar", "-C", str(target), "-x"], check=True, input=packed)
    (target / "bin").symlink_to("usr/bin")
    return target


def copy_root(source, target):
    """A copy that a container may write to; shares blocks where the file system can."""
    subprocess.run(["cp", "-a", "--reflink=auto", str(source), str(target)], check=True)
    return Path(target)


def overlay(lower, folder):
    """Mounts a writable overlay over `lower` below `folder`; returns the mount point (unmount it)."""
    folder = Path(folder)
    for name in ("upper", "work", "merged"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={lower},upperdir={folder}/upper,workdir={folder}/work"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(folder / "merged")], check=True)
    return folder / "merged"


def program(name):
    """Path of a program of the host, or None."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
