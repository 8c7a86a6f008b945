# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the system tests. Each test has a daemon of its own; see lib/ for its helpers.

    davit            a running daemon (lib.daemon.Daemon)
    make_davit       a function that makes further ones, or one that is not started yet
    rootfs           a busybox root file system that this test may write to
    busybox          the same, shared by all tests: not to be written to
    debian           a minimal Debian that this test may write to
    criu             path of a criu that works here; skips the test if there is none
    zoo              a function that makes a container full of things to be checkpointed (lib.checkpoints.Zoo)
    cgroup2          skips the test unless the host has cgroup v2 alone

Options of the daemon are given by a mark:  @pytest.mark.davit("--journal-size", "1m")
After each test, failed or not, the daemon is ended and whatever is left of it is an error.
"""

import os
import shutil
from pathlib import Path

import pytest

from lib import checkpoints, leaks
from lib import rootfs as roots
from lib.daemon import CHECKOUT, Daemon, binary

LOGS = CHECKOUT / "build" / "test-logs"


def pytest_configure(config):
    config.addinivalue_line("markers", "davit(*options): options of this test's daemon")
    leaks.become_subreaper()


def pytest_collection_modifyitems(config, items):
    reason = None
    if os.geteuid() != 0:
        reason = "the system tests need root"
    elif not binary().exists():
        reason = f"{binary()} is not built"
    if reason:
        pytest.exit(f"no system test can run: {reason}", returncode=2)


def pytest_report_header(config):
    return f"davit: {binary()}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    setattr(item, "report_" + report.when, report)
    if report.failed:
        for daemon in getattr(item, "daemons", []):
            text = daemon.log_text() or getattr(daemon, "last_log", "")
            report.sections.append((f"log of {daemon.name}", text[-20000:]))


@pytest.fixture
def make_davit(request):
    """make_davit(*options, start=True, env={}) → Daemon, ended and checked after the test."""
    daemons = request.node.daemons = []

    def make(*options, start=True, env=None):
        marked = [option for mark in request.node.iter_markers("davit") for option in mark.args]
        daemon = Daemon(*marked, *options, env=env)
        daemons.append(daemon)
        if start:
            daemon.start()
        return daemon

    yield make

    failed = any(getattr(getattr(request.node, "report_" + when, None), "failed", False) for when in ("setup", "call"))
    wrong = []
    # All daemons are ended before anything is compared: each sees the others' containers.
    for daemon in reversed(daemons):
        wrong += [f"{daemon.name}: {sentence}" for sentence in daemon.close()]
    if failed or wrong:
        LOGS.mkdir(parents=True, exist_ok=True)
        for daemon in daemons:
            (LOGS / f"{request.node.name.replace('/', '_')[:150]}.log").write_text(daemon.last_log)
    if wrong:
        pytest.fail("left after the test:\n  " + "\n  ".join(wrong), pytrace=False)


@pytest.fixture
def davit(make_davit):
    return make_davit()


@pytest.fixture(scope="session")
def busybox(tmp_path_factory):
    if not roots.program("busybox"):
        pytest.skip("busybox-static is not installed")
    folder = tmp_path_factory.mktemp("busybox") / "rootfs"
    for parent in folder.parents:
        if parent == Path("/tmp"):
            break
        parent.chmod(0o755)  # users of a container have to get through
    return roots.make_busybox(folder)


@pytest.fixture
def rootfs(davit, busybox):
    return roots.copy_root(busybox, davit.base / "rootfs")


@pytest.fixture(scope="session")
def debian_lower():
    if not roots.program("debootstrap"):
        pytest.skip("debootstrap is not installed")
    return roots.debian_root()


@pytest.fixture
def debian(davit, debian_lower):
    return davit.overlay(debian_lower)


@pytest.fixture(scope="session")
def criu():
    path = os.environ.get("DAVIT_CRIU") or str(CHECKOUT / ".tools/criu")
    path = shutil.which(path)
    if not path:
        pytest.skip("there is no criu that works on this kernel (tools/setup says why)")
    return path


@pytest.fixture(scope="session")
def zoo_program(tmp_path_factory):
    if not shutil.which("gcc"):
        pytest.skip("gcc is not installed")
    return checkpoints.build_zoo(tmp_path_factory.mktemp("zoo") / "zoo")


@pytest.fixture
def zoo(davit, rootfs, criu, zoo_program):
    """zoo(KIND…, …) → a lib.checkpoints.Zoo that is ready."""
    shutil.copy(zoo_program, rootfs / "zoo")
    return lambda *kinds, **more: checkpoints.Zoo(davit, more.pop("root", rootfs), *kinds, **more)


@pytest.fixture(scope="session")
def cgroup2():
    if len(leaks.cgroup_mounts()) != 1 or not os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        pytest.skip("the host has cgroup v1 controllers; tests/vm runs this one on v2 alone")
