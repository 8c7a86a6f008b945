# SPDX-License-Identifier: Apache-2.0
"""A damaged database: the daemon starts, says what was lost, and what can be had back is there."""

import os
import random
import signal
import sqlite3

import pytest

from lib.rpc import RpcError

PAGE = 4096


@pytest.mark.parametrize("name", [
    "meta.db", "meta.db-wal", "meta.db-shm", "meta.db.switch", "id",
    "reserve", "meta.db.check", "meta.db.switch.new", "id.new", "content/oci-layout", "trash/x", "snapshots/native/x"])
def test_a_fifo_keeps_no_start_waiting(davit, name):
    """The daemon starts, or says which one it is."""
    digest = davit.call("content.write", ref="r", action="commit", data=b"x")["digest"]
    assert davit.stop() == 0
    path = davit.root / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    davit.start(wait=False)
    try:
        davit.wait_ready()
    except AssertionError:
        assert davit.process.wait() == 1
        line = next(line for line in davit.log_text().splitlines() if "cannot start: " in line)
        assert name.removesuffix("-shm") in line
        path.unlink()
        davit.start()
    else:
        davit.connect()
    assert davit.call("content.read", digest=digest)["data"] == b"x"


@pytest.fixture
def box(davit, busybox):
    """An image of busybox, and a container of it that has run."""
    davit.cli("image-from-dir", busybox, "box", check=True)
    davit.cli("image-from-dir", busybox, "second/box:2", check=True)
    assert davit.cli("run", "--name", "first", "box", "sh", "-c", "echo kept >/file", check=True).returncode == 0
    return "box"


def names(davit, **params):
    return sorted(image["name"] for image in davit.call("images.list", **params)["images"])


def damage(davit, change):
    """Stops the daemon, lets `change` alter the bytes of the database, starts it again; the new part of its log."""
    assert davit.stop() == 0
    path = davit.root / "meta.db"
    assert not (davit.root / "meta.db-wal").exists()
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    before = len(davit.log_text())
    davit.start()
    return davit.log_text()[before:]


def aside(davit):
    return sorted(p.name for p in davit.root.iterdir() if p.name.startswith("meta.db.damaged-") and not p.name.endswith(("-wal", "-shm")))


def works(davit):
    assert davit.cli("run", "--rm", "box", "sh", "-c", "echo alive", check=True).stdout == "alive\n"


def test_header(davit, box):
    log = damage(davit, lambda data: data.__setitem__(slice(0, 100), b"x" * 100))
    assert "is damaged" in log and "1 containers" in log and "2 images" in log
    assert len(aside(davit)) == 1
    assert names(davit) == ["box:latest", "second/box:2"] or names(davit) == ["box", "second/box:2"]
    works(davit)
    # nothing else was hit: the container and its file are there
    davit.cli("start", "first")
    assert [c["id"] for c in davit.call("containers.list", fields=["id"])["containers"]] == ["first"]


def test_truncated(davit, box):
    before = names(davit)
    log = damage(davit, lambda data: data.__delitem__(slice(3 * PAGE, None)))
    assert "is damaged" in log and "lost:" in log
    assert names(davit) == before
    works(davit)


def test_gone(davit, box):
    before = names(davit)
    assert davit.stop() == 0
    os.unlink(davit.root / "meta.db")
    davit.start()
    assert "is empty, the store is not" in davit.log_text()
    assert names(davit) == before
    works(davit)


def test_pages(davit, box):
    """Pages at random places, several times over."""
    before = names(davit)
    rebuilt = 0
    for seed in range(6):
        rng = random.Random(seed)

        def change(data):
            for _ in range(3):
                at = rng.randrange(1, len(data) // PAGE) * PAGE
                data[at : at + PAGE] = rng.randbytes(PAGE)

        rebuilt += "is damaged" in damage(davit, change)
        assert names(davit) == before, seed
        works(davit)
    assert rebuilt and len(aside(davit)) == rebuilt


def test_log(davit, box):
    """The write-ahead log of a daemon that was killed, changed afterwards."""
    before = names(davit)
    pid = davit.info["guardian_pid"]
    davit.cli("tag", "box", "third", check=True)
    os.kill(pid, signal.SIGSTOP)  # so that nobody starts the next one in between
    reactor = davit.info["pid"]
    os.kill(reactor, signal.SIGKILL)
    log = davit.root / "meta.db-wal"
    data = bytearray(log.read_bytes())
    assert len(data) > PAGE
    data[:32] = b"y" * 32
    log.write_bytes(data)
    os.kill(pid, signal.SIGCONT)
    davit.reconnect()
    assert "parts of its log" in davit.log_text()
    assert [n for n in names(davit) if not n.startswith("third")] == before and len(names(davit)) == 3
    works(davit)


def test_newer_and_foreign_stay(davit):
    """Refused, and not touched."""
    assert davit.stop() == 0
    path = davit.root / "meta.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    before = path.read_bytes()
    davit.start(wait=False)
    assert davit.process.wait(60) != 0
    assert "newer davit" in davit.log_text() and path.read_bytes() == before
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA application_id = 7")
    db.close()
    before = path.read_bytes()
    davit.start(wait=False)
    assert davit.process.wait(60) != 0
    assert "another program" in davit.log_text() and path.read_bytes() == before
    assert aside(davit) == []


def fill(davit):
    """Makes the database too large to be looked at as a whole at each start."""
    assert davit.stop() == 0
    path = davit.root / "meta.db"
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO leases VALUES ('default', 'large', '{}', 1, 0)")
        db.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000) "
            "INSERT INTO lease_resources SELECT 'default', 'large', 'images', printf('%0200d', i) FROM n"
        )
    db.close()
    assert path.stat().st_size > 5 << 20
    davit.start()


def zero_page_with(text):
    def change(data):
        at = data.index(text) // PAGE * PAGE
        data[at : at + PAGE] = bytes(PAGE)

    return change


def test_large_and_needed_at_the_start(davit, box):
    before = names(davit)
    fill(davit)
    log = damage(davit, zero_page_with(b"second/box"))
    assert "is damaged" in log and names(davit) == before
    works(davit)


def test_found_while_running(davit, box):
    """Damage that only a request meets is an error of that request; the next start repairs it."""
    before = names(davit)
    fill(davit)
    assert "is damaged" not in damage(davit, zero_page_with(b"%0200d" % 15000))
    works(davit)

    def held():
        found, after = 0, {}
        while True:
            page = davit.call("leases.list_resources", id="large", **after)
            found += len(page["resources"])
            if "next" not in page:
                return found
            after = {"after": page["next"]}

    with pytest.raises(RpcError) as error:
        held()
    assert error.value.code == "failed_precondition" and "damaged" in error.value.message
    davit.stop()
    davit.start()
    assert "is damaged" in davit.log_text()
    assert 29900 < held() < 30000
    assert names(davit) == before
    works(davit)
