"""mailbearer as an administrator meets it: a configuration file and a command."""

from __future__ import annotations

import ipaddress
import json
import re
import subprocess
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from . import parts
from .authorization import APPLICATION_SCOPE, SCOPE, Client
from .bench import Bench
from .browser import sign_in
from .messages import RELAY_HOSTNAME
from .process import LOOPBACK, PATIENCE, Daemon, free_port, listens, wait_until
from .upstream import MAX_SESSIONS

PASSWORD = "old-printers-never-forget"  # throw-away: a credential of this run only


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


@dataclass
class Relay:
    """A mailbearer with a data folder of its own. Use as a context: it runs inside, and is stopped at the end."""

    bench: Bench
    accounts: list[Account]
    serves_network: bool = False
    """Whether it has a second listener, for clients on loopback that do not authenticate."""

    confirm_within_seconds: int = 20
    """How long a client in confirm mode waits for the upstream's verdict."""
    upstream_host: str = "localhost"
    """The name that the upstream's certificate must have."""

    port: int = field(default_factory=free_port)
    network_port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.folder = self.bench.new_folder("relay")
        self.data = self.folder / "data"
        self.configuration = self.folder / "mailbearer.toml"
        self.configuration.write_text(self._configuration())
        self._daemon: Daemon | None = None

    def __enter__(self) -> Relay:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._daemon:
            self.stop()

    @property
    def certificate(self) -> Path:
        """The self-signed certificate that mailbearer has made for itself: what its clients are told to trust."""
        return self.data / "tls" / "certificate.pem"

    def start(self) -> None:
        command = [parts.mailbearer(), "serve", "--config", self.configuration]
        self._daemon = Daemon("mailbearer", command, self.folder / "mailbearer.log")
        ports = [self.port, self.network_port] if self.serves_network else [self.port]
        self._daemon.wait_until_ready(lambda: all(listens(port) for port in ports))

    def stop(self) -> None:
        daemon, self._daemon = self._daemon, None
        status = daemon.stop()
        if status != 0:
            raise AssertionError(f"mailbearer ended with {status} when it was asked to stop")

    def kill(self) -> None:
        """kill -9, as a power cut would."""
        daemon, self._daemon = self._daemon, None
        daemon.kill()

    def check(self) -> str:
        return self._run("check")

    def status(self) -> object:
        return json.loads(self._run("status", "--json"))

    def login(self, account: Account) -> str:
        """`mailbearer login`, with a script in the place of the person. Returns what the browser shows last."""
        return self._login(account, paste=False)

    def login_by_pasting(self, account: Account) -> None:
        """The same for a person whose browser is on another machine: the redirect ends nowhere, its URL is pasted."""
        self._login(account, paste=True)

    def _login(self, account: Account, paste: bool) -> str:
        command = [str(parts.mailbearer()), "login", account.mailbox, "--config", str(self.configuration)]
        empty = self.bench.new_folder("no-browser")  # a PATH without a browser: the URL is printed, nothing opens
        output = self.folder / "login.log"
        with output.open("wb") as log, subprocess.Popen(
            command,
            stdin=subprocess.PIPE if paste else subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={"PATH": str(empty)},
        ) as process:
            try:
                address = wait_until("mailbearer login prints the address", lambda: _first_address(output, process))
                last = sign_in(address, account.mailbox, self.bench.authorization.tls(), follow_to_loopback=not paste)
                if paste:
                    process.stdin.write(f"{last.url}\n".encode())
                    process.stdin.flush()
                status = process.wait(timeout=PATIENCE)
            finally:
                process.kill()
        if status != 0:
            raise AssertionError(f"mailbearer login ended with {status}:\n{output.read_text()}")
        return last.text

    def _run(self, *arguments: str) -> str:
        command = [parts.mailbearer(), *arguments, "--config", self.configuration]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=PATIENCE)
        if done.returncode != 0:
            raise AssertionError(f"mailbearer {arguments[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def _configuration(self) -> str:
        network = self._network_listener() if self.serves_network else ""
        return (
            f"""\
[server]
hostname = "{RELAY_HOSTNAME}"
data_dir = "{self.data}"
confirm_within = "{self.confirm_within_seconds}s"

[[listener]]
address = "{LOOPBACK}:{self.port}"
tls = "starttls"
auth = "required"
"""
            + network
            + self._provider("lab", [SCOPE, "offline_access"])
            + self._provider("lab-applications", [APPLICATION_SCOPE])
            + "".join(self._account(account) for account in self.accounts)
        )

    def _network_listener(self) -> str:
        return f"""
[[listener]]
address = "{LOOPBACK}:{self.network_port}"
tls = "off"
auth = "off"
[[listener.network]]
from = ["{ipaddress.ip_network(LOOPBACK)}"]
account = "{self.accounts[0].mailbox}"
"""

    def _provider(self, name: str, scopes: list[str]) -> str:
        authorization = self.bench.authorization
        return f"""
[[provider]]
name = "{name}"
smtp = {{ host = "{self.upstream_host}", port = {self.bench.upstream.gate.port}, tls = "starttls" }}
authorize_url = "{authorization.authorize_url}"
token_url = "{authorization.token_url}"
scopes = {json.dumps(scopes)}
ca_file = "{self.bench.authority.certificate}"
limits = {{ sessions = {MAX_SESSIONS}, messages_per_minute = 100000, recipients_per_day = 1000000 }}
"""

    def _account(self, account: Account) -> str:
        client = account.client
        lines = [
            "[[account]]",
            f'mailbox = "{account.mailbox}"',
            f'provider = "{"lab-applications" if client.secret else "lab"}"',
            f'client_id = "{client.id}"',
            f'grant = "{client.grants[0]}"',
            'sender = "keep"',
            f'delivery = "{account.delivery}"',
        ]
        if client.secret:
            secret = self.folder / f"{client.id}.secret"
            secret.touch(mode=0o600)
            secret.write_text(client.secret)
            lines.append(f'client_secret = {{ file = "{secret}" }}')
        lines += [
            "",
            "[[credential]]",
            f'name = "{account.credential}"',
            f'password_hash = "{_password_hash()}"',
            f'account = "{account.mailbox}"',
            'may_send_as = ["*@contoso.test"]',
        ]
        return "\n" + "\n".join(lines) + "\n"


@cache
def _password_hash() -> str:
    command = [str(parts.mailbearer()), "credential", "hash"]
    done = subprocess.run(command, input=PASSWORD + "\n", capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode != 0 or not done.stdout.startswith("$argon2id$"):
        raise AssertionError(f"mailbearer credential hash: {done.returncode} {done.stdout!r} {done.stderr!r}")
    return done.stdout.strip()


def _first_address(output: Path, process: subprocess.Popen) -> str | None:
    printed = output.read_text()
    if found := re.search(r"https://\S+", printed):
        return found.group()
    if process.poll() is not None:
        raise AssertionError(f"mailbearer login ended with {process.returncode}:\n{printed}")
    return None
