# SPDX-License-Identifier: Apache-2.0
"""The store against a model: random operations, kill -9 at random moments, collections in between.

A failure tells its seed and the last steps. To run that walk again, or another one, or longer:

    DAVIT_STORE_SEED=1234 DAVIT_STORE_SECONDS=120 pytest tests/system/test_store_property.py

tools/soak-store runs walk after walk.
"""

import os
import time

import pytest

from lib.store_model import Wrong
from lib.store_walk import Walk

SECONDS = float(os.environ.get("DAVIT_STORE_SECONDS") or 15)


def seed(number):
    """The seed of the environment, else one that changes from day to day: over time all are tried."""
    return os.environ.get("DAVIT_STORE_SEED") or f"{int(time.time()) // 86400}.{number}"


def walk(davit, number, **more):
    walk = Walk(davit, seed(number), **more)
    print(f"DAVIT_STORE_SEED={walk.seed}")
    walk.run(seconds=SECONDS)
    print(f"{walk.steps} steps, {walk.ran} operations, {walk.answered} answered, killed {walk.killed} times")
    # a walk that did next to nothing has not shown anything
    assert walk.answered >= 20, "too few operations were answered; is the machine this slow?"
    return walk


@pytest.mark.timeout(180 + 10 * SECONDS)
def test_store_is_what_was_answered(make_davit):
    """Without kills: each answer is as the model says, and a collection leaves exactly what is reachable."""
    walk(make_davit(), 1, kills=0)


@pytest.mark.timeout(180 + 10 * SECONDS)
def test_store_outlives_kills(make_davit):
    """kill -9 of the reactor or of the whole daemon: what was acknowledged is there, all else is whole or not at all."""
    assert walk(make_davit(), 2, kills=0.2).killed


def test_a_walk_notices(davit):
    """What happens behind the model's back is found: the tests above can fail."""
    walk = Walk(davit, seed(3), kills=0)
    put = dict(namespace="one", action="commit", labels={"containerd.io/gc.root": "1"})
    kept = davit.call("content.write", ref="r1", data=b"kept", **put)["digest"]
    with pytest.raises(Wrong, match="nobody has made"):
        walk.compare()
    walk.model.apply({("content", "one", kept): {"size": 4, "labels": put["labels"]}})
    walk.compare()
    walk.check_disk(exact=True)

    file = davit.root / "content/blobs/sha256" / kept.removeprefix("sha256:")
    file.rename(davit.base / "aside")
    with pytest.raises(Wrong, match="rows without blobs"):
        walk.check_disk(timeout=0)
    (davit.base / "aside").rename(file)
    (davit.root / "snapshots/native/77/fs").mkdir(parents=True)
    with pytest.raises(Wrong, match="folders without rows.*77"):
        walk.check_disk(timeout=0)
    davit.call("snapshots.cleanup", snapshotter="native")
    walk.check_disk()

    davit.call("content.delete", namespace="one", digest=kept)
    with pytest.raises(Wrong, match="is lost"):
        walk.compare()
    with pytest.raises(Wrong, match="rows too many"):
        walk.model.apply({("content", "one", kept): None})
        davit.call("content.write", ref="r2", data=b"kept", **put)
        walk.check_disk(exact=True, timeout=0)
