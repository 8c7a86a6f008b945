# SPDX-License-Identifier: Apache-2.0
"""Containers on snapshots of an image, which move to other ids by their checkpoints.

    moves = Moves(davit, "an-image")
    moves.begin("a", ["program"])                   # containers.create, tasks.create, tasks.start
    made = moves.checkpoint("a", exit=True)
    moves.copy("b", made)                           # a container with the writable layer of the checkpoint
    moves.restore("b", made, beside="a")            # while a is removed
"""

import json

from .images import mounted
from .rootfs import spec
from .rpc import RpcError


class Moves:
    """`changes`: to the spec of all containers."""

    def __init__(self, davit, image, **changes):
        self.davit, self.image, self.changes = davit, image, changes
        self.chain = davit.call("images.unpack", name=image, snapshotter="overlayfs")["chain_id"]

    def _container(self, id, args, layer=None):
        """The mounts of its snapshot; a lease holds that until the container does."""
        call, lease = self.davit.call, f"{id}.lease"
        call("leases.create", id=lease)
        mounts = call("snapshots.prepare", snapshotter="overlayfs", key=id, parent=self.chain, lease=lease)["mounts"]
        if layer:
            call("diff.apply", diff=layer, mounts=mounts)
        call("containers.create", id=id, spec=spec(args, **self.changes), image=self.image, snapshotter="overlayfs", snapshot_key=id)
        call("leases.delete", id=lease)
        return mounts

    def begin(self, id, args, before=lambda pid: None, **stdio):
        """Starts it and returns its pid; `before` is called when its namespaces are there and it does not run yet."""
        self._container(id, args)
        return self.again(id, before, **stdio)

    def again(self, id, before=lambda pid: None, **stdio):
        """Its program from the beginning, in the container that is there."""
        before(self.davit.call("tasks.create", container_id=id, **stdio)["pid"])
        return self.davit.call("tasks.start", container_id=id)["pid"]

    def checkpoint(self, id, **options):
        return self.davit.call("tasks.checkpoint", container_id=id, options=options)

    def document(self, descriptor):
        path = self.davit.root / "content/blobs/sha256" / descriptor["digest"].removeprefix("sha256:")
        return json.loads(path.read_text())

    def layer(self, made):
        """The descriptor of the writable layer in a checkpoint."""
        found = self.document(self.document(made["index"])["manifests"][0])["layers"][-1]
        assert found["mediaType"] == "application/vnd.oci.image.layer.v1.tar+zstd", found
        return {"media_type": found["mediaType"], "digest": found["digest"], "size": found["size"]}

    def copy(self, id, made, args=("false",), look=lambda folder: None):
        """A container whose files are those of the checkpoint; `look` gets them mounted."""
        with mounted(self.davit, self._container(id, list(args), self.layer(made))) as folder:
            look(folder)

    def restore(self, id, made, beside=None, stdio=None, **options):
        """Its pid. The task `beside`, its container and its snapshot go meanwhile; how that task ended is in `removed`."""
        call, send = self.davit.call, self.davit.send
        going = beside and send("tasks.delete", container_id=beside, kill=True)
        coming = send("tasks.create", container_id=id, checkpoint=made["image"], options=options, **(stdio or {}))
        if beside:
            self.removed = going.result()
            going = send("containers.delete", id=beside)
        coming.result()
        pid = call("tasks.start", container_id=id)["pid"]
        if beside:
            going.result()
            try:
                call("snapshots.remove", snapshotter="overlayfs", key=beside)
            except RpcError as error:
                assert error.code == "not_found", error  # collected already
        return pid
