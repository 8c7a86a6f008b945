# SPDX-License-Identifier: Apache-2.0
"""The command line: plain runs, and a terminal that a test types into."""

import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from fcntl import ioctl

from .rpc import DEADLINE, Timeout


def run(argv, env, *, input=None, timeout=DEADLINE, check=False, **more):
    """Runs a command and returns a CompletedProcess with text (bytes with text=False)."""
    more.setdefault("text", True)
    result = subprocess.run(
        [str(a) for a in argv], env=env, input=input, stdin=subprocess.DEVNULL if input is None else None,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout, **more,
    )
    if check:
        assert result.returncode == 0, f"{argv} ended with {result.returncode}: {result.stderr}"
    return result


class Terminal:
    """A command on a terminal of its own.

        with davit.terminal("run", "-it", "--rootfs", rootfs, "sh") as t:
            t.expect(r"# ")
            t.send("tty\\n")
            t.expect(r"/dev/pts/\\d+")
            t.send("exit 3\\n")
            assert t.wait() == 3
    """

    def __init__(self, argv, env, width=80, height=24):
        self.output = b""  # all that the terminal has shown
        self.position = 0
        self.master, slave = pty.openpty()
        self.resize(width, height)
        try:
            self.process = subprocess.Popen(
                [str(a) for a in argv], env=env, stdin=slave, stdout=slave, stderr=slave,
                start_new_session=True, preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0),
            )
        finally:
            os.close(slave)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.master >= 0:
            os.close(self.master)
            self.master = -1

    def resize(self, width, height):
        ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def send(self, text):
        os.write(self.master, text if isinstance(text, bytes) else text.encode())

    def signal(self, number=signal.SIGINT):
        self.process.send_signal(number)

    def hangup(self):
        """Closes the terminal, as a lost connection does."""
        os.close(self.master)
        self.master = -1

    def _read(self, timeout):
        readable, _, _ = select.select([self.master], [], [], timeout)
        if not readable:
            return None
        try:
            data = os.read(self.master, 65536)
        except OSError:  # EIO: nobody has the other end open
            data = b""
        self.output += data
        return data

    def expect(self, pattern, timeout=DEADLINE):
        """Waits for text (a regular expression) after what was expected last; returns the match."""
        compiled = re.compile(pattern.encode() if isinstance(pattern, str) else pattern)
        end = time.monotonic() + timeout
        while True:
            match = compiled.search(self.output, self.position)
            if match:
                self.position = match.end()
                return match
            left = end - time.monotonic()
            if left <= 0 or self._read(left) == b"":
                raise Timeout(f"{pattern!r} did not come; the terminal shows {self.output[-2000:]!r}")

    def wait(self, timeout=DEADLINE):
        """Reads to the end; the exit code."""
        end = time.monotonic() + timeout
        while self._read(max(0.0, min(0.1, end - time.monotonic()))) != b"":
            if self.process.poll() is not None and not select.select([self.master], [], [], 0)[0]:
                break
            if time.monotonic() > end:
                raise Timeout(f"the command has not ended; the terminal shows {self.output[-2000:]!r}")
        return self.process.wait(max(0.1, end - time.monotonic()))
