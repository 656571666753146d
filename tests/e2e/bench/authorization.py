"""The authorization server of one run, as the bench sees it: its clients, its gate, and what it has done."""

from __future__ import annotations

import json
import ssl
import time
import urllib.parse
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import parts
from .certificates import CertificateAuthority
from .gate import Gate
from .process import LOOPBACK, Daemon, free_port, listens, wait_until

TENANT = "contoso.test"
SCOPE = "https://outlook.office.com/SMTP.Send"
APPLICATION_SCOPE = "https://outlook.office365.com/.default"
INTROSPECTOR = ("mail-server", "introspection-secret-for-tests")


@dataclass(frozen=True)
class Client:
    """One client registration. `mailbox` is whom a client without a user (client_credentials) speaks for."""

    id: str
    grants: tuple[str, ...]
    access_token_seconds: int = 3600
    secret: str | None = None
    mailbox: str | None = None
    grant: str | None = None
    """How mailbearer calls its first grant, where the protocol has another name for it."""


class AuthorizationServer:
    """oidc-provider behind a gate. mailbearer and the browser come through the gate; the mail server does not, so that
    it can validate tokens while the token endpoint is down."""

    def __init__(
        self, folder: Path, authority: CertificateAuthority, clients: list[Client], mailboxes: list[str]
    ) -> None:
        folder.mkdir()
        self._authority = authority
        self._port = free_port()
        self.gate = Gate(self._port)
        self.issuer = f"https://localhost:{self.gate.port}"
        self.authorize_url = f"{self.issuer}/{TENANT}/oauth2/v2.0/authorize"
        self.token_url = f"{self.issuer}/{TENANT}/oauth2/v2.0/token"
        self.device_url = f"{self.issuer}/{TENANT}/oauth2/v2.0/devicecode"
        self.revoke_url = f"{self.issuer}/revoke"
        self.introspection_url = f"https://{':'.join(INTROSPECTOR)}@localhost:{self._port}/introspect"

        settings = folder / "settings.json"
        settings.write_text(
            json.dumps(
                {
                    "issuer": self.issuer,
                    "host": LOOPBACK,
                    "port": self._port,
                    "certificate": str(authority.server_certificate),
                    "key": str(authority.server_key),
                    "tenant": TENANT,
                    "modules": str(parts.NODE_MODULES.parent),
                    "mailboxes": mailboxes,
                    "scopes": [SCOPE, APPLICATION_SCOPE],
                    "redirect_uris": REDIRECT_URIS,
                    "introspector": {"id": INTROSPECTOR[0], "secret": INTROSPECTOR[1]},
                    "clients": [asdict(client) for client in clients],
                },
                indent=2,
            )
        )
        self.daemon = Daemon(
            "authorization server",
            [parts.NODE, parts.BENCH / "authorization_server.mjs", settings],
            folder / "authorization-server.log",
        )

    def wait_until_ready(self) -> None:
        self.daemon.wait_until_ready(lambda: listens(self._port))

    def grants(self, client: str) -> list[str]:
        """The grants that the token endpoint has given to this client, in order."""
        return [entry["grant"] for entry in self._state(client)["grants"] if "error" not in entry]

    def refused_grants(self, client: str) -> list[str]:
        """What the token endpoint has refused to this client, as `grant: error`."""
        return [f"{entry['grant']}: {entry['error']}" for entry in self._state(client)["grants"] if "error" in entry]

    def wait_until_expired(self, client: Client) -> None:
        """Waits until every access token that this client has got so far is worthless."""
        end = self._state(client.id)["access_tokens_expire_at"]
        wait_until("the access tokens expire", lambda: time.time() >= end, within=client.access_token_seconds + 5)

    def revoke_access_tokens(self, client: str) -> None:
        """Makes every access token of this client worthless at once; refresh tokens stay."""
        self._control("revoke-access-tokens", client)

    def stop(self) -> None:
        self.gate.stop()
        self.daemon.stop()

    def tls(self) -> ssl.SSLContext:
        """What a client of this server trusts: the authority of this run, and nothing else."""
        return ssl.create_default_context(cafile=str(self._authority.certificate))

    def _state(self, client: str) -> dict[str, Any]:
        return self._control("state", client)

    def _control(self, what: str, client: str) -> dict[str, Any]:
        query = urllib.parse.urlencode({"client": client})
        url = f"https://localhost:{self._port}/control/{what}?{query}"
        with urllib.request.urlopen(url, context=self.tls(), timeout=10) as answer:
            state: dict[str, Any] = json.load(answer)
            return state


# A native application listens on a loopback port of its choice; the server ignores the port, not the path.
REDIRECT_URIS = ["http://localhost/", "http://127.0.0.1/", "http://localhost/callback", "http://127.0.0.1/callback"]
