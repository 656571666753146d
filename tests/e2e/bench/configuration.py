"""The configuration file of one relay, as an administrator would write it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from .authorization import APPLICATION_SCOPE, SCOPE, Client
from .bench import Bench
from .messages import RELAY_HOSTNAME
from .process import LOOPBACK
from .upstream import MAX_SESSIONS


@dataclass(frozen=True)
class Account:
    """One `[[account]]`, with the credential of the same name that may use it."""

    mailbox: str
    client: Client
    delivery: str = "confirm"

    @property
    def credential(self) -> str:
        """The user name that local clients of this account log in with."""
        return self.mailbox.partition("@")[0]


@dataclass(frozen=True)
class Server:
    """What the `[server]` and `[[listener]]` tables say."""

    data: Path
    confirm_within_seconds: int
    port: int
    network_port: int | None
    """A second listener, for clients on loopback that do not authenticate."""


def compose(bench: Bench, server: Server, accounts: list[Account], upstream_host: str, password_hash: str) -> str:
    """The whole file. Secrets go to files of their own beside the data folder."""
    tables = [_server(server), _listener(server.port)]
    if server.network_port:
        tables.append(_network_listener(server.network_port, accounts[0]))
    for scopes in {_scopes(account) for account in accounts}:
        tables.append(_provider(bench, upstream_host, scopes))
    for account in accounts:
        tables += [_account(account, server.data.parent), _credential(account, password_hash)]
    return "\n".join(tables)


def _server(server: Server) -> str:
    return f"""\
[server]
hostname = "{RELAY_HOSTNAME}"
data_dir = "{server.data}"
confirm_within = "{server.confirm_within_seconds}s"
"""


def _listener(port: int) -> str:
    return f"""\
[[listener]]
address = "{LOOPBACK}:{port}"
tls = "starttls"
auth = "required"
"""


def _network_listener(port: int, account: Account) -> str:
    return f"""\
[[listener]]
address = "{LOOPBACK}:{port}"
tls = "off"
auth = "off"
[[listener.network]]
from = ["{LOOPBACK}/32"]
account = "{account.mailbox}"
"""


# A provider asks for one set of scopes, so a program that signs in as itself has a provider of its own.


def _scopes(account: Account) -> tuple[str, ...]:
    return (APPLICATION_SCOPE,) if account.client.secret else (SCOPE, "openid", "email", "offline_access")


def _provider_name(scopes: tuple[str, ...]) -> str:
    return "lab-applications" if APPLICATION_SCOPE in scopes else "lab"


def _provider(bench: Bench, host: str, scopes: tuple[str, ...]) -> str:
    return f"""\
[[provider]]
name = "{_provider_name(scopes)}"
smtp = {{ host = "{host}", port = {bench.upstream.gate.port}, tls = "starttls" }}
authorize_url = "{bench.authorization.authorize_url}"
token_url = "{bench.authorization.token_url}"
device_url = "{bench.authorization.device_url}"
revoke_url = "{bench.authorization.revoke_url}"
issuer = "{bench.authorization.issuer}"
scopes = {json.dumps(scopes)}
ca_file = "{bench.authority.certificate}"
limits = {{ sessions = {MAX_SESSIONS}, messages_per_minute = 100000, recipients_per_day = 1000000 }}
"""


def _account(account: Account, folder: Path) -> str:
    client = account.client
    table = f"""\
[[account]]
mailbox = "{account.mailbox}"
provider = "{_provider_name(_scopes(account))}"
client_id = "{client.id}"
grant = "{client.grant or client.grants[0]}"
sender = "keep"
delivery = "{account.delivery}"
"""
    if client.secret:
        secret = folder / f"{client.id}.secret"
        secret.touch(mode=0o600)
        secret.write_text(client.secret)
        table += f'client_secret = {{ file = "{secret}" }}\n'
    return table


def _credential(account: Account, password_hash: str) -> str:
    return f"""\
[[credential]]
name = "{account.credential}"
password_hash = "{password_hash}"
account = "{account.mailbox}"
may_send_as = ["*@contoso.test"]
"""
