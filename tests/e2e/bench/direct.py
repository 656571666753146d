"""Straight to the upstream, without mailbearer: a token from the token endpoint, and XOAUTH2 by hand.

The scenarios about the bench itself use this, to show that the upstream really looks at tokens.
"""

from __future__ import annotations

import base64
import json
import smtplib
import urllib.parse
import urllib.request

from .authorization import APPLICATION_SCOPE, Client
from .bench import Bench


def access_token(bench: Bench, client: Client) -> str:
    """A fresh access token by the client_credentials grant."""
    form = {
        "grant_type": "client_credentials",
        "client_id": client.id,
        "client_secret": client.secret,
        "scope": APPLICATION_SCOPE,
    }
    request = urllib.parse.urlencode(form).encode()
    tls = bench.authorization.tls()
    with urllib.request.urlopen(bench.authorization.token_url, request, context=tls, timeout=10) as answer:
        return str(json.load(answer)["access_token"])


class Session:
    """One SMTP session with the upstream, past EHLO and STARTTLS. Use as a context."""

    def __init__(self, bench: Bench) -> None:
        self._smtp = smtplib.SMTP("localhost", bench.upstream.gate.port, timeout=30)
        self.offered_before_tls = set(self._mechanisms())
        self._smtp.starttls(context=bench.authorization.tls())
        self.offered = set(self._mechanisms())

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._smtp.close()

    def xoauth2(self, user: str, token: str) -> int:
        """The code of the final reply to AUTH XOAUTH2."""
        self._smtp.docmd("AUTH", "XOAUTH2")
        answer = base64.b64encode(f"user={user}\1auth=Bearer {token}\1\1".encode()).decode()
        code, _ = self._smtp.docmd(answer)
        return self._smtp.docmd("")[0] if code == 334 else code

    def login(self, user: str, password: str) -> int:
        """The code of the final reply to AUTH LOGIN."""
        self._smtp.docmd("AUTH", "LOGIN")
        self._smtp.docmd(base64.b64encode(user.encode()).decode())
        return self._smtp.docmd(base64.b64encode(password.encode()).decode())[0]

    def send(self, sender: str, recipient: str, raw: bytes) -> tuple[int, str]:
        """The reply to the end of the data."""
        self._smtp.mail(sender)
        self._smtp.rcpt(recipient)
        code, text = self._smtp.data(raw)
        return code, text.decode()

    def _mechanisms(self) -> list[str]:
        self._smtp.ehlo()
        return self._smtp.esmtp_features.get("auth", "").split()
