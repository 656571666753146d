"""What a client is told at the end of its data."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import ParamSpec

P = ParamSpec("P")


# mailbearer's own words. Postfix says something near, `250 2.0.0 Ok: queued as ID`, when it has accepted a message.
_QUEUED = re.compile(r"250 2\.0\.0 queued as \S+")


def is_queued(reply: str) -> bool:
    """Whether mailbearer has stored the message."""
    return _QUEUED.fullmatch(reply) is not None


def assert_queued(reply: str) -> None:
    """mailbearer has stored the message."""
    assert is_queued(reply), reply


def assert_delivered(reply: str) -> None:
    """The upstream has taken the message, and the reply is the upstream's."""
    assert reply.startswith("250 ") and not is_queued(reply), reply


def timed(action: Callable[P, str], *arguments: P.args, **named: P.kwargs) -> tuple[str, float]:
    """The reply to an action, and the seconds it took."""
    begin = time.monotonic()
    reply = action(*arguments, **named)
    return reply, time.monotonic() - begin
