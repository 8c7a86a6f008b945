# SPDX-License-Identifier: Apache-2.0
"""Images and snapshots by the command line."""

import json
import subprocess

from .daemon import binary
from .rpc import DEADLINE

#: A shell's script that runs until it is killed.
LONG = "while sleep 1; do :; done"


def lines(result):
    return result.stdout.splitlines()


def make_image(davit, folder, name="box", *options, **config):
    """image-from-dir with a config of OCI's names."""
    more = ["--config", json.dumps(config)] if config else []
    davit.cli("image-from-dir", *more, *options, folder, name, check=True)
    return name


def fed(davit, file, *args):
    """A command whose stdin is this file or pipe."""
    return subprocess.run([binary(), *args], env=davit.env, stdin=file, capture_output=True, text=True, timeout=DEADLINE * 2)


def keys(davit, *options):
    return lines(davit.cli("snapshots", "ls", "--quiet", *options, check=True))


def active(davit, *options):
    return keys(davit, "--filter", "kind==active", *options)


def inspect(davit, name):
    return json.loads(davit.cli("inspect", name, check=True).stdout)[0]
