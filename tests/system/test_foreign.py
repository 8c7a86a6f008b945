# SPDX-License-Identifier: Apache-2.0
"""Clients with no davit code in them: a script with PyPI's msgpack, and neovim."""

import subprocess
import sys
from pathlib import Path

import pytest

from lib.rootfs import program

FOREIGN = Path(__file__).parent / "foreign"
LIFE = "/tasks/create /tasks/start /tasks/exit /tasks/delete\n42\n"


def shown(argv, env=None):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_python(davit, rootfs):
    assert shown([sys.executable, FOREIGN / "container.py", davit.socket, rootfs]) == LIFE


def test_neovim(davit, rootfs):
    nvim = program("nvim")
    if not nvim:
        pytest.skip("neovim is not installed")
    run = f"arg = {{ [1] = '{davit.socket}', [2] = '{rootfs}' }}; dofile('{FOREIGN / 'container.lua'}')"
    script = f"lua local ok, e = pcall(function() {run} end); if not ok then io.stderr:write(e); vim.cmd('cquit') end"
    assert shown([nvim, "--headless", "--clean", "-c", script, "-c", "qall!"], davit.env) == LIFE
