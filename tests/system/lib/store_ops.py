# SPDX-License-Identifier: Apache-2.0
"""All operations of a random walk, and the choice among them."""

from .store_op import Skip
from .store_op_content import (
    Abort, Collect, ContainerCreate, ContainerDelete, ContentDelete, ContentLabels, LeaseAdd, LeaseCreate, LeaseDelete,
    LeaseRemove, Put, Read,
)
from .store_op_image import FromDir, ImageCreate, ImageDelete, ImageUpdate, Import, ImportDocker, Unpack
from .store_op_snapshot import Apply, Commit, Diff, Prepare, Remove, SnapshotLabels, View

OPS = (
    Put, Abort, ContentLabels, ContentDelete, Read, ImageCreate, ImageUpdate, ImageDelete, Import, ImportDocker, FromDir, Unpack,
    Prepare, View, Commit, Remove, SnapshotLabels, Apply, Diff, LeaseCreate, LeaseDelete, LeaseAdd, LeaseRemove,
    ContainerCreate, ContainerDelete, Collect,
)


def choose(walk, rng):
    """An operation that has something to do."""
    while True:
        kind = rng.choices(OPS, [op.weight for op in OPS])[0]
        try:
            return kind(walk, rng)
        except Skip:
            continue
