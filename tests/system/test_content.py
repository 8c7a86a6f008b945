# SPDX-License-Identifier: Apache-2.0
"""The content service: writing, going on after a death, reading, labels, lists, namespaces, full disks."""

import hashlib
import json
import os
import random
import socket
import stat
import subprocess
import time

import pytest

from lib.daemon import wait_for
from lib.rpc import Closed, RpcError

HELLO = b"hello\n"
NONE = "sha256:" + "0" * 64


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def noise(size, seed=1):
    return random.Random(seed).randbytes(size)


def fails(code, call, *args, **params):
    with pytest.raises(RpcError) as error:
        call(*args, **params)
    assert error.value.code == code, error.value
    return error.value


def put(rpc, data, ref="put", **params):
    """A blob in one request."""
    return rpc.call("content.write", ref=ref, action="commit", data=data, **params)["digest"]


def blob(davit, name):
    return davit.root / "content/blobs/sha256" / name.removeprefix("sha256:")


def ingests(davit):
    return sorted(p.name for p in (davit.root / "content/ingest").iterdir())


# ---- the usual way


def test_write_and_read(davit):
    data = noise(1_000_003)
    with davit.events() as events:
        offset, ref = 0, "layer-1"
        for start in range(0, len(data), 300_000):
            part = data[start : start + 300_000]
            answer = davit.call("content.write", ref=ref, action="write", offset=offset, data=part, total=len(data), expected=digest(data))
            offset += len(part)
            assert answer["offset"] == offset
            assert answer["total"] == len(data)
            assert answer["digest"] == digest(data[:offset])
            assert answer["updated_at"] >= answer["started_at"] > 1e18
        status = davit.call("content.status", ref=ref)["status"]
        assert (status["ref"], status["offset"], status["total"], status["expected"]) == (ref, len(data), len(data), digest(data))
        assert davit.call("content.list_statuses")["statuses"] == [status]
        assert davit.call("content.list")["contents"] == []
        fails("not_found", davit.call, "content.info", digest=digest(data))

        done = davit.call("content.write", ref=ref, action="commit", total=len(data), expected=digest(data), labels={"a": "1", "none": ""})
        assert (done["digest"], done["offset"], done["total"]) == (digest(data), len(data), len(data))
        event = events.next("/content/create")
        assert event["event"] == {"digest": digest(data), "size": len(data)}
        assert event["namespace"] == "default"
    info = davit.call("content.info", digest=digest(data))["info"]
    assert (info["digest"], info["size"], info["labels"]) == (digest(data), len(data), {"a": "1"})
    assert info["created_at"] == info["updated_at"] > 1e18
    assert davit.call("content.list")["contents"] == [info]
    assert davit.call("content.verify", digest=digest(data)) == {}
    fails("not_found", davit.call, "content.status", ref=ref)
    assert ingests(davit) == []
    file = blob(davit, digest(data))
    assert file.read_bytes() == data
    assert file.stat().st_mode & 0o7777 == 0o444

    read = davit.call("content.read", digest=digest(data))
    assert read == {"data": data, "eof": True}
    assert davit.call("content.read", digest=digest(data), offset=1000, size=5) == {"data": data[1000:1005], "eof": False}
    assert davit.call("content.read", digest=digest(data), offset=len(data) - 3, size=5) == {"data": data[-3:], "eof": True}
    assert davit.call("content.read", digest=digest(data), offset=len(data)) == {"data": b"", "eof": True}
    fails("out_of_range", davit.call, "content.read", digest=digest(data), offset=len(data) + 1)
    fails("invalid_argument", davit.call, "content.read", digest=digest(data), offset=-1)
    fails("not_found", davit.call, "content.read", digest=NONE)

    with davit.events() as events:
        assert davit.call("content.delete", digest=digest(data)) == {}
        assert events.next("/content/delete")["event"] == {"digest": digest(data), "size": len(data)}
    assert not file.exists()
    for method in ("info", "delete", "verify", "read", "update"):
        assert digest(data) in fails("not_found", davit.call, f"content.{method}", digest=digest(data)).message


def test_read_fd(davit):
    data = noise(5 << 20)
    name = put(davit.rpc, data)
    result, fds = davit.rpc.call_fds("content.read", digest=name, fd=True)
    try:
        assert (result["fd"], result["size"], len(fds)) == ("fd:0", len(data), 1)
        assert os.pread(fds[0], len(data), 0) == data
        with pytest.raises(OSError):
            os.write(fds[0], b"x")
        # and it outlives the content
        davit.call("content.delete", digest=name)
        assert os.pread(fds[0], 10, 100) == data[100:110]
    finally:
        for fd in fds:
            os.close(fd)
    fails("not_found", davit.rpc.call_fds, "content.read", digest=name, fd=True)


def test_chunks_of_a_large_one(davit):
    data = noise((4 << 20) + 17)
    name = put(davit.rpc, data)
    first = davit.call("content.read", digest=name)
    assert (len(first["data"]), first["eof"]) == (4 << 20, False)
    second = davit.call("content.read", digest=name, offset=4 << 20, size=1 << 40)
    assert second["eof"] and first["data"] + second["data"] == data
    assert len(davit.call("content.read", digest=name, size=(4 << 20) + 1)["data"]) == 4 << 20


def test_empty_content(davit):
    assert put(davit.rpc, b"") == digest(b"")
    assert davit.call("content.read", digest=digest(b"")) == {"data": b"", "eof": True}
    assert davit.call("content.info", digest=digest(b""))["info"]["size"] == 0


def test_pipelined(davit):
    """Many in flight: their order holds, and all of one frame's size goes through."""
    data = noise(20 << 20)
    sizes = [15 << 20, 1, 70_000, 300, 1 << 20]
    pending, at = [], 0
    while at < len(data):
        size = sizes[len(pending) % len(sizes)]
        pending.append(davit.send("content.write", ref="r", action="write", data=data[at : at + size]))
        at += size
    commit = davit.send("content.write", ref="r", action="commit", expected=digest(data), total=len(data))
    offsets = [p.result()["offset"] for p in pending]
    assert offsets == sorted(offsets) and offsets[-1] == len(data)
    assert commit.result()["digest"] == digest(data)
    davit.call("content.verify", digest=digest(data))


def test_several_refs_of_one_connection(davit):
    parts = {f"ref-{n}": noise(200_000, n) for n in range(20)}
    pending = [davit.send("content.write", ref=r, action="write", data=d[i * 50_000 : (i + 1) * 50_000]) for i in range(4) for r, d in parts.items()]
    pending += [davit.send("content.write", ref=r, action="commit", expected=digest(d)) for r, d in parts.items()]
    for p in pending:
        p.result()
    assert [c["digest"] for c in davit.call("content.list")["contents"]] == sorted(digest(d) for d in parts.values())


# ---- what is refused


def test_wrong_arguments(davit):
    write = lambda **params: fails("invalid_argument", davit.call, "content.write", **params).message
    assert "ref" in write(action="write")
    assert "ref" in write(ref="", action="write")
    assert "ref" in write(ref="x" * 4097, action="write")
    assert "action" in write(ref="r")
    assert "none of stat, write and commit" in write(ref="r", action="burn")
    assert "offset" in write(ref="r", action="write", offset=-1)
    assert "total" in write(ref="r", action="write", total=-1)
    assert "expected" in write(ref="r", action="write", data=HELLO, expected="sha256:abc")
    assert "expected" in write(ref="r", action="stat", expected="sha256:abc")
    assert "data" in write(ref="r", action="write", data=7)
    for wrong in ("", "sha256:abc", "../../../etc/passwd", "sha256:" + "A" * 64):
        for method in ("info", "update", "delete", "verify", "read"):
            assert "digest" in fails("invalid_argument", davit.call, f"content.{method}", digest=wrong).message
    assert "sha512" in fails("invalid_argument", davit.call, "content.info", digest="sha512:" + "0" * 128).message
    for method in ("status", "abort"):
        fails("invalid_argument", davit.call, f"content.{method}", ref="")
        assert "nope" in fails("not_found", davit.call, f"content.{method}", ref="nope").message
    assert davit.call("content.list_statuses")["statuses"] == []
    assert put(davit.rpc, HELLO, ref="x" * 4096) == digest(HELLO)


def test_offsets(davit):
    write = lambda **params: davit.call("content.write", ref="r", action="write", **params)
    message = fails("out_of_range", write, offset=5, data=b"x").message
    assert "offset" in message and "5" in message
    write(offset=0, data=b"abc")
    fails("out_of_range", write, offset=2, data=b"x")
    fails("out_of_range", write, offset=4, data=b"x")
    assert write(offset=3, data=b"def")["offset"] == 6
    assert write()["offset"] == 6
    # back to the beginning
    answer = write(offset=0, data=b"hel")
    assert (answer["offset"], answer["digest"]) == (3, digest(b"hel"))
    # without an offset: where it is
    assert write(data=b"lo\n")["digest"] == digest(HELLO)
    davit.call("content.write", ref="r", action="commit", offset=6, expected=digest(HELLO))


def test_commit_checks(davit):
    commit = lambda **params: davit.call("content.write", ref="r", action="commit", **params)
    davit.call("content.write", ref="r", action="write", data=HELLO)
    for total in (5, 7):
        message = fails("failed_precondition", commit, total=total).message
        assert "size 6" in message and str(total) in message
    message = fails("failed_precondition", commit, expected=NONE).message
    assert digest(HELLO) in message and NONE in message
    assert not blob(davit, digest(HELLO)).exists()
    # nothing is lost: what was right can be said again; what was wrong is not kept
    status = davit.call("content.status", ref="r")["status"]
    assert (status["offset"], status["total"], status["expected"]) == (6, 0, "")
    fails("failed_precondition", davit.call, "content.write", ref="new", action="commit", data=b"new", expected=NONE)
    assert davit.call("content.status", ref="new")["status"]["expected"] == ""
    davit.call("content.write", ref="new", action="commit")
    assert davit.call("content.write", ref="r", action="stat")["offset"] == 6
    assert commit(total=6, expected=digest(HELLO))["digest"] == digest(HELLO)
    # what was said at the first write counts at the commit
    davit.call("content.write", ref="r", action="write", data=b"abc", total=4, expected=NONE)
    assert "expected was 4" in fails("failed_precondition", commit).message
    assert NONE in fails("failed_precondition", commit, data=b"d").message


def test_totals(davit):
    write = lambda **params: davit.call("content.write", ref="r", action="write", **params)
    write(data=b"abc", total=5)
    message = fails("out_of_range", write, data=b"defg").message
    assert "total of 5" in message
    fails("aborted", write, data=b"d")  # the one before was lost
    assert write(offset=3, data=b"d")["offset"] == 4
    # another total is another content
    answer = write(data=HELLO, total=6)
    assert (answer["offset"], answer["total"], answer["digest"]) == (6, 6, digest(HELLO))
    assert put(davit.rpc, b"", ref="r") == digest(HELLO)


def test_already_exists(davit):
    put(davit.rpc, HELLO)
    for action in ("stat", "write", "commit"):
        assert digest(HELLO) in fails("already_exists", davit.call, "content.write", ref="r", action=action, data=HELLO, expected=digest(HELLO)).message
    # found out at the commit only
    fails("already_exists", put, davit.rpc, HELLO)
    # in the middle
    davit.call("content.write", ref="r", action="write", data=b"hel")
    fails("already_exists", davit.call, "content.write", ref="r", action="write", data=b"lo\n", expected=digest(HELLO))
    assert davit.call("content.list_statuses")["statuses"] == []
    assert ingests(davit) == []
    # what was sent behind it, in the same breath, does not become another content
    parts = [davit.send("content.write", ref="r", action="write", data=HELLO, expected=digest(HELLO))]
    parts += [davit.send("content.write", ref="r", action="write", data=b"more") for _ in range(5)]
    parts += [davit.send("content.write", ref="r", action="commit", expected=digest(HELLO))]
    fails("already_exists", parts[0].result)
    assert fails_with(parts[-1]) in ("already_exists", "aborted")
    assert davit.call("content.list_statuses")["statuses"] == []
    assert [c["digest"] for c in davit.call("content.list")["contents"]] == [digest(HELLO)]


def fails_with(pending):
    with pytest.raises(RpcError) as error:
        pending.result()
    return error.value.code


def test_expected_joins_the_lease(davit):
    put(davit.rpc, HELLO)
    lease = davit.call("leases.create", id="keep")["lease"]["id"]
    fails("already_exists", davit.call, "content.write", ref="r", action="write", expected=digest(HELLO), lease=lease)
    other = put(davit.rpc, b"other", lease=lease)
    davit.call("content.write", ref="pending", action="write", data=b"x", lease=lease)
    resources = davit.call("leases.list_resources", id=lease)["resources"]
    assert sorted((r["type"], r["id"]) for r in resources) == sorted([("content", digest(HELLO)), ("content", other), ("ingests", "pending")])
    fails("not_found", davit.call, "content.write", ref="r", action="write", data=b"y", lease="nope")


# ---- one writer a ref


def test_locked(davit):
    first, second = davit.client(), davit.client()
    first.call("content.write", ref="r", action="write", data=b"hel")
    for action in ("stat", "write", "commit"):
        message = fails("unavailable", second.call, "content.write", ref="r", action=action, data=b"x").message
        assert "ref r locked" in message
    fails("unavailable", second.call, "content.abort", ref="r")
    # everybody sees it, and other namespaces have their own
    assert second.call("content.status", ref="r")["status"]["offset"] == 3
    second.call("content.write", ref="r", action="write", data=b"x", namespace="other")
    # free by a commit
    first.call("content.write", ref="r", action="commit", data=b"lo\n", expected=digest(HELLO))
    second.call("content.write", ref="r", action="write", data=b"x")
    # by an abort
    fails("unavailable", first.call, "content.write", ref="r", action="write", data=b"x")
    assert second.call("content.abort", ref="r") == {}
    fails("not_found", first.call, "content.status", ref="r")
    first.call("content.write", ref="r", action="write", data=b"abc")
    # by the end of the connection
    first.close()
    assert second.call("content.write", ref="r", action="stat")["offset"] == 3
    assert second.call("content.write", ref="r", action="write", data=b"def")["offset"] == 6


def test_handed_over_at_once(davit):
    """The end of a connection may be seen after the next one's request."""
    sent = 0
    for n in range(50):
        client = davit.client()
        answer = client.call("content.write", ref="r", action="write", data=b"x" * 1000)
        sent += 1000
        assert answer["offset"] == sent
        if n % 3 == 0:
            # requests in flight are still done
            client.send("content.write", ref="r", action="write", data=b"y" * 1000)
            sent += 1000
            time.sleep(0.01)
        client.close()


def test_stat_of_a_ref_that_nobody_writes(davit):
    stat = lambda **params: davit.call("content.write", ref="r", action="stat", **params)
    assert stat() == {"offset": 0, "total": 0, "started_at": 0, "updated_at": 0, "digest": ""}
    assert davit.call("content.list_statuses")["statuses"] == []
    other = davit.client()
    other.call("content.write", ref="r", action="write", data=b"abc", total=10)
    other.close()
    assert (stat()["offset"], stat()["total"]) == (3, 10)
    # with another total a write would begin anew
    assert stat(total=11)["offset"] == 0
    assert stat()["offset"] == 3
    # looking does not take it
    third = davit.client()
    assert third.call("content.write", ref="r", action="write", data=b"def")["digest"] == digest(b"abcdef")
    # its owner is told the same
    assert third.call("content.write", ref="r", action="stat", total=11)["offset"] == 0
    assert third.call("content.write", ref="r", action="stat")["digest"] == digest(b"abcdef")


def test_abort_and_write_in_one_breath(davit):
    davit.client().call("content.write", ref="r", action="write", data=b"abc", namespace="other")
    for _ in range(30):
        pending = [davit.send("content.write", ref="r", action="write", data=b"abc"), davit.send("content.abort", ref="r"),
                   davit.send("content.write", ref="r", action="write", data=b"x"), davit.send("content.abort", ref="r")]
        assert [p.result().get("offset") for p in pending] == [3, None, 1, None]
    fails("not_found", davit.call, "content.abort", ref="r")


def test_half_closed_connection_ends(davit):
    """A writer that nobody will go on with does not keep a connection whose client sends no more."""
    client = davit.client()
    client.call("content.write", ref="r", action="write", data=b"abc")
    client.sock.shutdown(socket.SHUT_WR)
    client.wait_closed()
    assert davit.call("content.write", ref="r", action="write", data=b"def")["offset"] == 6


def test_most_writers_of_a_connection(davit):
    pending = [davit.send("content.write", ref=f"r{n}", action="write", data=b"x") for n in range(256)]
    for p in pending:
        p.result()
    assert "256" in fails("resource_exhausted", davit.call, "content.write", ref="more", action="write", data=b"x").message
    davit.call("content.abort", ref="r7")
    davit.call("content.write", ref="more", action="write", data=b"x")
    davit.client().call("content.write", ref="r7", action="write", data=b"x")
    # files are closed when the connection ends
    before = davit.client().call("server.info")["pid"]
    davit.rpc.close()
    wait_for(lambda: davit.fd_count(before) < 100, what="the writers' files to be closed")
    davit.connect()
    assert len(davit.call("content.list_statuses")["statuses"]) == 257


def test_fire_and_forget(davit):
    """Notifications are done although nobody waits, also when the connection has ended."""
    client = davit.client()
    data = noise(3 << 20)
    for at in range(0, len(data), 1 << 20):
        client.notify("content.write", ref="r", action="write", offset=at, data=data[at : at + (1 << 20)])
    client.notify("content.write", ref="r", action="commit", expected=digest(data))
    client.close()
    wait_for(lambda: blob(davit, digest(data)).exists(), what="the content")
    wait_for(lambda: [c["digest"] for c in davit.call("content.list")["contents"]] == [digest(data)], what="its record")


# ---- going on


@pytest.mark.parametrize("how", ["client", "reactor", "daemon", "orderly"])
def test_resume(davit, how):
    data = noise(2_500_000)
    client = davit.client()
    client.call("content.write", ref="r", action="write", data=data[:1_000_000], total=len(data), expected=digest(data))
    started = client.call("content.status", ref="r")["status"]["started_at"]
    if how == "client":
        client.close()
    elif how == "reactor":
        davit.kill_reactor()
    elif how == "daemon":
        for pid in davit.pids():
            os.kill(pid, 9)
        davit.process.wait()
        davit.start()
    else:
        assert davit.stop() == 0
        davit.start()
    stat = davit.call("content.write", ref="r", action="stat")
    assert (stat["offset"], stat["total"], stat["started_at"]) == (1_000_000, len(data), started)
    assert stat["digest"] == digest(data[:1_000_000])
    assert davit.call("content.status", ref="r")["status"]["expected"] == digest(data)
    answer = davit.call("content.write", ref="r", action="write", offset=1_000_000, data=data[1_000_000:])
    assert (answer["offset"], answer["digest"]) == (len(data), digest(data))
    davit.call("content.write", ref="r", action="commit")
    assert davit.call("content.read", digest=digest(data))["data"] == data
    davit.call("content.verify", digest=digest(data))


def test_what_was_committed_lasts(davit):
    """kill -9 at any moment: whoever was told so finds it, whole."""
    told = set()
    for round_ in range(4):
        client = davit.client()
        pending = [client.send("content.write", ref=f"r{n}", action="commit", offset=0, data=b"%d-%d " % (round_, n) * 5000) for n in range(60)]
        for p in pending[: 5 + 7 * round_]:
            told.add(p.result()["digest"])
        for pid in davit.pids():
            os.kill(pid, 9)
        try:
            for p in pending:
                told.add(p.result()["digest"])
        except (Closed, OSError):
            pass
        davit.process.wait()
        davit.start()
        there = {c["digest"] for c in davit.call("content.list")["contents"]}
        assert told <= there
        for name in there:
            davit.call("content.verify", digest=name)
        # no file without a record, no record without a file
        assert {"sha256:" + p.name for p in blob(davit, "").iterdir()} == there


def test_what_is_sent_behind_a_failure_leaves_no_hole(davit):
    """The first request hashes what is there, and fails then; the others have been read long before."""
    client = davit.client()
    part = noise(8 << 20)
    for _ in range(8):
        client.call("content.write", ref="r", action="write", data=part)
    davit.kill_reactor()
    first = davit.send("content.write", ref="r", action="write", data=b"first", lease="nope")
    behind = [davit.send("content.write", ref="r", action="write", data=b"second"), davit.send("content.write", ref="r", action="commit")]
    stat = davit.send("content.write", ref="r", action="stat")
    fails("not_found", first.result)
    for pending in behind:
        fails("aborted", pending.result)
    assert stat.result()["offset"] == 8 * len(part)
    assert davit.call("content.list")["contents"] == []


def test_while_a_writer_lives_the_rest_answers(davit):
    data = noise(8 << 20)
    writer = davit.client()
    pending = [writer.send("content.write", ref="r", action="write", data=data) for _ in range(6)]
    for _ in range(20):
        davit.call("server.info", deadline=5)
    assert pending[-1].result()["offset"] == 6 * len(data)


# ---- records


def test_update(davit):
    name = put(davit.rpc, HELLO, labels={"a": "1", "b": "2"})
    update = lambda **params: davit.call("content.update", digest=name, **params)["info"]
    assert update(labels={"c": "3"})["labels"] == {"c": "3"}
    info = update(labels={"a": "1", "c": "ignored"}, mask=["labels.a"])
    assert info["labels"] == {"a": "1", "c": "3"}
    assert info["updated_at"] > info["created_at"]
    assert update(labels={}, mask=["labels.a", "labels.x.y"])["labels"] == {"c": "3"}
    assert update(labels={"x.y/z": "dots"}, mask=["labels.x.y/z"])["labels"] == {"c": "3", "x.y/z": "dots"}
    fails("invalid_argument", update, labels={}, mask=["size"])
    fails("not_found", davit.call, "content.update", digest=NONE, labels={})
    many = {f"key{n}": "v" for n in range(1024)}
    assert len(update(labels=many)["labels"]) == 1024
    fails("resource_exhausted", update, labels={"more": "1"}, mask=["labels.more"])
    davit.kill_reactor()
    assert davit.call("content.info", digest=name)["info"]["labels"] == many


def test_list_and_filters(davit):
    names = sorted(put(davit.rpc, b"x" * n, ref=f"r{n}", labels={"parity": "even" if n % 2 == 0 else "odd"}) for n in range(1, 21))
    list_ = lambda **params: davit.call("content.list", **params)
    assert [c["digest"] for c in list_()["contents"]] == names
    assert len(list_(filters=["labels.parity==even"])["contents"]) == 10
    assert [c["size"] for c in list_(filters=["size==7"])["contents"]] == [7]
    assert [c["digest"] for c in list_(filters=[f"digest=={names[3]}"])["contents"]] == [names[3]]
    assert len(list_(filters=["size==3", "size==4,labels.parity==even", "size==5,labels.parity==even"])["contents"]) == 2
    fails("invalid_argument", list_, filters=["size=="])
    seen, after = [], ""
    while True:
        page = list_(limit=7, after=after)
        seen += [c["digest"] for c in page["contents"]]
        if "next" not in page:
            break
        after = page["next"]
    assert seen == names
    assert list_(fields=["size"], limit=1)["contents"][0].keys() == {"size"}

    for n in range(5):
        davit.call("content.write", ref=f"open/{n}", action="write", data=b"x")
    statuses = lambda **params: [s["ref"] for s in davit.call("content.list_statuses", **params)["statuses"]]
    assert statuses() == [f"open/{n}" for n in range(5)]
    assert statuses(filters=["ref==open/3"]) == ["open/3"]
    assert statuses(filters=["ref~=open.[12]$"]) == ["open/1", "open/2"]
    assert statuses(after="open/2", limit=1) == ["open/3"]


def test_namespaces(davit):
    name = put(davit.rpc, HELLO)
    fails("not_found", davit.call, "content.info", digest=name, namespace="other")
    assert davit.call("content.list", namespace="other")["contents"] == []
    with davit.events() as events:
        # what another namespace has is given at once
        fails("already_exists", davit.call, "content.write", ref="r", action="write", expected=name, namespace="other")
        assert events.next("/content/create")["namespace"] == "other"
    inode = blob(davit, name).stat().st_ino
    assert davit.call("content.update", digest=name, labels={"mine": "1"}, namespace="other")["info"]["labels"] == {"mine": "1"}
    assert davit.call("content.info", digest=name)["info"]["labels"] == {}
    davit.call("content.write", ref="r", action="commit", data=HELLO, namespace="third")
    assert blob(davit, name).stat().st_ino == inode
    davit.call("content.delete", digest=name)
    davit.call("content.delete", digest=name, namespace="third")
    davit.call("content.verify", digest=name, namespace="other")
    davit.call("content.delete", digest=name, namespace="other")
    assert not blob(davit, name).exists()


def test_damage(davit):
    data = noise(100_000)
    name = put(davit.rpc, data)
    with open(blob(davit, name), "r+b") as file:
        file.seek(500)
        file.write(b"!")
    error = fails("failed_precondition", davit.call, "content.verify", digest=name)
    assert name in error.message and digest(data[:500] + b"!" + data[501:]) in error.message
    os.truncate(blob(davit, name), 10)
    for method in ("read", "verify"):
        assert "damaged" in fails("failed_precondition", davit.call, f"content.{method}", digest=name).message
    blob(davit, name).unlink()
    assert "not there any more" in fails("failed_precondition", davit.call, "content.read", digest=name).message
    # the way out that it names
    fails("already_exists", put, davit.rpc, data)
    assert davit.call("content.read", digest=name)["data"] == data


OTHERS = {
    "fifo": os.mkfifo,
    "folder": lambda path: (os.mkdir(path), (path / "x").write_text("x")),
    "link": lambda path: os.symlink("/dev/zero", path),
    "socket": lambda path: os.mknod(path, stat.S_IFSOCK | 0o600),
    "device": lambda path: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5)),
}


@pytest.mark.parametrize("what", OTHERS)
def test_no_file_in_the_place_of_a_blob(davit, what):
    name = put(davit.rpc, HELLO)
    other = put(davit.rpc, noise(100))
    blob(davit, name).unlink()
    OTHERS[what](blob(davit, name))
    for method, params in (("read", {}), ("read", {"fd": True}), ("verify", {})):
        error = fails("failed_precondition", davit.call, f"content.{method}", digest=name, **params)
        assert name in error.message and "no regular file" in error.message
    davit.call("content.verify", digest=other)
    # the way out that it names
    fails("already_exists", put, davit.rpc, HELLO)
    assert davit.call("content.read", digest=name)["data"] == HELLO
    # or it is deleted
    blob(davit, name).unlink()
    OTHERS[what](blob(davit, name))
    davit.call("content.delete", digest=name)
    assert not os.path.lexists(blob(davit, name))
    # one that nobody has
    OTHERS[what](blob(davit, name))
    assert davit.stop() == 0
    davit.start()
    assert not os.path.lexists(blob(davit, name))


@pytest.mark.parametrize("what", OTHERS)
@pytest.mark.parametrize("where", ["ref", "data", "startedat", "expected", "total", "updatedat", "", "index.json", ".index.json.new"])
def test_odd_entries_keep_no_daemon_from_starting(davit, where, what):
    name = put(davit.rpc, HELLO)
    davit.call("content.write", ref="good", action="write", data=HELLO)
    other = davit.client()
    other.call("content.write", ref="odd", action="write", data=HELLO, total=100, expected=NONE)
    folder = davit.root / "content/ingest" / digest(b"default/odd").removeprefix("sha256:")
    assert davit.stop() == 0
    path = davit.root / "content" / where if "index" in where else folder / where if where else folder.with_name("x")
    if os.path.lexists(path):
        path.unlink()
    OTHERS[what](path)
    davit.start()
    assert davit.call("content.read", digest=name)["data"] == HELLO
    refs = {s["ref"] for s in davit.call("content.list_statuses")["statuses"]}
    assert refs - {"odd"} == {"good"}
    if where in ("ref", "data"):
        assert "odd" not in refs and "content/ingest" in davit.log_text()
    if "index" in where:
        assert os.path.isfile(davit.root / "content/index.json")
    # the ref can be written to, whatever is there, or says what to do
    try:
        davit.call("content.write", ref="odd", action="commit", offset=0, data=noise(100), expected=digest(noise(100)), total=100)
    except RpcError:
        davit.call("content.abort", ref="odd")
        davit.call("content.write", ref="odd", action="commit", data=noise(100))
    davit.call("content.verify", digest=digest(noise(100)))


def test_verify_tells_how_far_it_is(davit):
    data = noise(1 << 20)
    name = put(davit.rpc, data)
    davit.call("content.verify", digest=name, progress="mine")


def test_after_a_lost_database_nothing_is_thrown_away(davit):
    name = put(davit.rpc, HELLO)
    assert davit.stop() == 0
    for file in davit.root.glob("meta.db*"):
        file.unlink()
    davit.start()
    assert blob(davit, name).exists()


# ---- a full disk


def test_full_disk(make_davit):
    davit = make_davit(start=False)
    davit.root.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=700", "davit-test", str(davit.root)])
    if mounted.returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    davit.cleanups.append(lambda: subprocess.run(["umount", "-l", str(davit.root)], check=True))
    davit.start()
    kept = put(davit.rpc, HELLO)
    data = noise(30 << 20)
    step = 3 << 20
    at = 0
    with pytest.raises(RpcError) as error:
        while True:
            at = davit.call("content.write", ref="r", action="write", offset=at, data=data[at : at + step])["offset"]
    assert error.value.code == "resource_exhausted" and "No space left" in error.value.message
    assert error.value.details["errname"] == "ENOSPC"
    # nothing of it is there, what was is, and it goes on where it says
    assert davit.call("content.read", digest=kept)["data"] == HELLO
    fails("aborted", davit.call, "content.write", ref="r", action="write", data=b"x")
    stat = davit.call("content.write", ref="r", action="stat")
    assert at <= stat["offset"] < len(data)
    assert stat["digest"] == digest(data[: stat["offset"]])
    assert [c["digest"] for c in davit.call("content.list")["contents"]] == [kept]
    subprocess.run(["mount", "-o", "remount,size=64m", str(davit.root)], check=True)
    at = stat["offset"]
    while at < len(data):
        at = davit.call("content.write", ref="r", action="write", offset=at, data=data[at : at + step])["offset"]
    davit.call("content.write", ref="r", action="commit", expected=digest(data), total=len(data))
    davit.call("content.verify", digest=digest(data))


# ---- what other programs see


def test_layout(davit):
    content = davit.root / "content"
    assert json.loads((content / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((content / "index.json").read_text())
    assert (index["schemaVersion"], index["manifests"]) == (2, [])
    assert (content / "index.json").stat().st_mode & 0o777 == 0o644
    davit.call("content.write", ref="some/ref", action="write", data=HELLO, total=10)
    name = hashlib.sha256(b"default/some/ref").hexdigest()
    assert ingests(davit) == [name]
    folder = content / "ingest" / name
    assert (folder / "ref").read_text() == "default/some/ref"
    assert (folder / "total").read_text() == "10"
    assert (folder / "data").read_bytes() == HELLO
    assert int((folder / "startedat").read_text()) > 1e18
