# SPDX-License-Identifier: Apache-2.0
"""Events as a stream that a test waits on.

    with davit.events() as events:                 # a connection and a subscription of its own
        davit.run("a", ["/bin/true"])
        exit = events.next("/tasks/exit", container_id="a")
        assert exit["event"]["exit_status"] == 0
"""

import time

from .rpc import DEADLINE, Client, Timeout


class Events:
    """`since`, `journal`, `filters` and `namespace` are those of events.subscribe.

    `seen`  every event that was read so far, in order of arrival
    `gaps`  the gap notifications: [{subscription, from, to}]
    """

    def __init__(self, path, **params):
        self.client = Client(path)
        self.seen, self.gaps = [], []
        self.position = 0  # of next(): how many of seen it has gone past
        self.info = self.client.call("events.subscribe", **params)
        self.subscription = self.info["subscription"]

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        self.client.close()

    def next(self, topic=None, timeout=DEADLINE, **fields):
        """The next event (after the one returned last) of this topic whose payload has these fields."""
        end = time.monotonic() + timeout
        while True:
            while self.position < len(self.seen):
                event = self.seen[self.position]
                self.position += 1
                if _matches(event, topic, fields):
                    return event
            if not self._read(max(0.0, end - time.monotonic())) and time.monotonic() >= end:
                topics = [(e["topic"], e["event"]) for e in self.seen[-20:]]
                raise Timeout(f"no event {topic} {fields} within {timeout} s; the last ones: {topics}")

    def find(self, topic=None, timeout=DEADLINE, **fields):
        """As next, but looks at all that was seen, from the beginning."""
        self.position = 0
        return self.next(topic, timeout, **fields)

    def drain(self, quiet=0.2):
        """Reads until nothing has come for `quiet` seconds; returns what came in."""
        start = len(self.seen)
        while self._read(quiet):
            pass
        return self.seen[start:]

    def topics(self, **fields):
        """The topics seen so far, in order, of events whose payload has these fields."""
        return [e["topic"] for e in self.seen if _matches(e, None, fields)]

    def gap(self, timeout=DEADLINE):
        """Waits for a gap notification."""
        end = time.monotonic() + timeout
        while not self.gaps:
            if not self._read(max(0.0, end - time.monotonic())) and time.monotonic() >= end:
                raise Timeout(f"no gap within {timeout} s")
        return self.gaps[-1]

    def _read(self, timeout):
        """Takes in what comes within `timeout`; False when nothing did."""
        came = bool(self.client.notifications) or self.client.pump(timeout)
        while self.client.notifications:
            method, params = self.client.notifications.popleft()
            (self.gaps if method == "gap" else self.seen).append(params[-1])
        return came


def _matches(event, topic, fields):
    if topic is not None and event["topic"] != topic:
        return False
    return all(event["event"].get(key) == value for key, value in fields.items())
