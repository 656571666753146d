"""The upstream of one run: Postfix takes submissions, Dovecot checks tokens and delivers to Maildirs.

It behaves as Exchange Online does where it matters: AUTH only inside TLS, `LOGIN XOAUTH2` on offer although LOGIN never
succeeds, and a sender that is not the token's user refused only after the data.
"""

from __future__ import annotations

import os
from pathlib import Path

from .authorization import AuthorizationServer
from .certificates import CertificateAuthority
from .dovecot import MAIL_USER, start_dovecot
from .gate import Gate
from .postfix import start_postfix
from .process import free_port, listens, wait_until
from .sender_policy import SenderPolicy

MAX_SESSIONS = 3
"""Concurrent sessions that Exchange Online allows to one mailbox; the gate in front of Postfix counts them."""


class Upstream:
    """Postfix and Dovecot in one temporary folder, on one port behind a gate."""

    def __init__(self, folder: Path, authority: CertificateAuthority, authorization: AuthorizationServer) -> None:
        folder.mkdir()
        self._folder = folder
        self._port = free_port()
        self._mail = folder / "mail"
        self._mail.mkdir()
        os.chown(self._mail, MAIL_USER.pw_uid, MAIL_USER.pw_gid)

        self._sender_policy = SenderPolicy()
        self._dovecot = start_dovecot(folder, authority, authorization)
        self._postfix = start_postfix(folder, authority, self._port, self._sender_policy.port)
        self.gate = Gate(self._port)

    def wait_until_ready(self) -> None:
        self._dovecot.wait_until_ready(lambda: (self._folder / "sasl").exists() and (self._folder / "lmtp").exists())
        self._postfix.wait_until_ready(lambda: listens(self._port))

    def arrivals(self, recipient: str) -> list[bytes]:
        """Every message that has arrived for this address, byte for byte as the Maildir holds it."""
        return [file.read_bytes() for file in (self._mail / recipient / "Maildir" / "new").glob("*")]

    def wait_for(self, recipient: str, count: int = 1, within: float = 60.0) -> list[bytes]:
        """Waits until at least `count` messages have arrived for this address."""

        def arrived() -> list[bytes] | None:
            messages = self.arrivals(recipient)
            return messages if len(messages) >= count else None

        return wait_until(f"{count} message(s) for {recipient}", arrived, within)

    def stop(self) -> None:
        self.gate.stop()
        self._postfix.stop()
        self._dovecot.stop()
        self._sender_policy.stop()
