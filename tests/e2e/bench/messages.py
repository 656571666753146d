"""Messages that a relay is likely to damage, and the comparison that notices."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass

RELAY_HOSTNAME = "relay.contoso.test"


@dataclass(frozen=True)
class Message:
    """`raw` is the file a client is given; `expected` is what must arrive below the trace fields."""

    name: str
    raw: bytes

    @property
    def expected(self) -> bytes:
        # A message on the wire ends with CRLF, whether its file does or not.
        return self.raw if self.raw.endswith(b"\r\n") else self.raw + b"\r\n"


def plain(text: str = "Toner is low.") -> Message:
    """A message as short as a device's."""
    return _message("plain", [text.encode()])


def awkward() -> list[Message]:
    """One message for each way in which relays have damaged mail."""
    return [
        _message("leading dots", [b".", b"..", b"...", b".hidden", b"", b".", b"a.b", b"."]),
        _message("long lines", [b"x" * 998, b"<td>" * 1000 + b".", b"short"]),
        _message("eight bits", ["Grüße aus Zürich, 日本語, 🖨".encode(), bytes(range(0x80, 0x100))]),
        _message("blanks", [b"\ttab ", b" ", b"\t", b"ends with blanks \t "]),
        _message("empty lines at the end", [b"text", b"", b"", b""]),
        _message("no newline at the end", [b"text", b"the last line just stops"], end=b""),
        _message("no body", []),
        _message("large", [b"%07d %s" % (number, b"0123456789abcdef" * 4) for number in range(4_000)]),
    ]


def _message(name: str, lines: list[bytes], end: bytes = b"\r\n") -> Message:
    header = (
        "From: Scanner <scanner@contoso.test>\r\n"
        "To: somebody@fabrikam.test\r\n"
        f"Subject: {name}\r\n"
        "Date: Mon, 23 Nov 2026 12:00:00 +0000\r\n"
        f"Message-ID: <{uuid.uuid4()}@contoso.test>\r\n"
        "X-Folded: one\r\n\ttwo\r\n   three\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        "Content-Transfer-Encoding: 8bit\r\n"
        "\r\n"
    ).encode()
    return Message(name, header + b"\r\n".join(lines) + (end if lines else b""))


def assert_arrived(arrived: bytes, expected: bytes, repaired: tuple[str, ...] = ()) -> None:
    """Fails unless `arrived` is `expected`, byte for byte, below the trace fields of a way through the relay.

    These are the Return-Path and Delivered-To of Dovecot, the Received of Postfix, and the one Received of mailbearer,
    which also adds the fields in `repaired`: those that RFC 5322 asks for and the client has left out.
    """
    if not arrived.endswith(expected):
        raise AssertionError(f"the message was changed on its way: {_first_difference(arrived, expected)}")
    trace = arrived[: len(arrived) - len(expected)].decode()
    fields = re.sub(r"\r\n[ \t]+", " ", trace).splitlines()
    names = [field.partition(":")[0] for field in fields]
    if names != ["Return-Path", "Delivered-To", "Received", "Received", *repaired]:
        raise AssertionError(f"unexpected trace fields: {fields}")
    if f"by {RELAY_HOSTNAME}" not in fields[3]:
        raise AssertionError(f"not the Received field of mailbearer: {fields[3]}")


def _first_difference(arrived: bytes, expected: bytes) -> str:
    """Where two messages part, seen from the end: the beginning of what arrived has the trace fields in it."""
    same = 0
    for ours, theirs in zip(reversed(arrived), reversed(expected)):
        if ours != theirs:
            break
        same += 1
    window = slice(max(0, len(arrived) - same - 60), len(arrived) - same + 20)
    wanted = slice(max(0, len(expected) - same - 60), len(expected) - same + 20)
    return f"arrived ...{arrived[window]!r}... instead of ...{expected[wanted]!r}..., {same} bytes before the end"
