"""Processes and ports of the test bench: started in the foreground, waited for, ended by their process id."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

LOOPBACK = "127.0.0.1"
PATIENCE = 30.0
"""Seconds that anything on this machine may take before the bench calls it broken."""

# Outgoing connections get their ports from 32768 up; servers of the bench get theirs from below, so that no connection
# can take a server's port between the moment it was chosen and the moment it is bound.
_SERVER_PORTS = range(20_000, 32_000)
_given: set[int] = set()


class Timeout(AssertionError):
    """Something that should have happened did not happen in time."""


def free_port() -> int:
    """A loopback port on which nobody listens; never the same one twice."""
    while True:
        port = random.choice(_SERVER_PORTS)
        if port in _given:
            continue
        _given.add(port)
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        return port


def wait_until(what: str, condition: Callable[[], T | None], within: float = PATIENCE) -> T:
    """The first true value of `condition`, asked again and again until the deadline."""
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Timeout(f"not within {within:g} s: {what}")
        time.sleep(0.005)


def listens(port: int) -> bool:
    """Whether somebody accepts connections on this loopback port."""
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


class Daemon:
    """One process that stays up, in a session of its own so that no signal reaches it by accident.

    If the bench itself is killed, the kernel asks the process to end (setpriv replaces itself by the command, so the
    process id is the command's). Only Postfix escapes that, because its master changes users.
    """

    def __init__(
        self, name: str, command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "--", *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until_ready(self, ready: Callable[[], object]) -> None:
        """Waits for `ready`; a daemon that ends instead is reported with the last lines of its log."""

        def ready_or_dead() -> bool:
            if self._process.poll() is not None:
                raise AssertionError(f"{self.name} ended with {self._process.returncode}:\n{tail(self.log)}")
            return bool(ready())

        try:
            wait_until(f"{self.name} is ready", ready_or_dead)
        except Timeout as timeout:
            raise Timeout(f"{timeout}\n{tail(self.log)}") from None

    def stop(self) -> int:
        """Asks the process to end, and waits for it. Returns its exit status."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(self.pid, signal.SIGKILL)  # its own session: nobody else is in this group
                self._process.wait()
                raise AssertionError(f"{self.name} did not end when asked:\n{tail(self.log)}") from None
        return self._process.returncode

    def kill(self) -> None:
        """kill -9: the process gets no chance to do anything more."""
        self._process.kill()
        self._process.wait()


def tail(log: Path, lines: int = 40) -> str:
    """The last lines of a log, for a failure message."""
    if not log.exists():
        return f"(no {log.name})"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
