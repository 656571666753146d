"""mailbearer as an administrator meets it: a configuration file and a command."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import quote

from . import parts
from .bench import Bench
from .browser import Page, enter_code, sign_in
from .configuration import Account, Server, compose
from .process import PATIENCE, Daemon, free_port, listens, wait_until

PASSWORD = "old-printers-never-forget"  # throw-away: a credential of this run only


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
        server = Server(
            self.data, self.confirm_within_seconds, self.port, self.network_port if self.serves_network else None
        )
        text = compose(self.bench, server, self.accounts, self.upstream_host, _password_hash())
        self.configuration.write_text(text)
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
        self._daemon = Daemon("mailbearer", self._command("serve"), self.folder / "mailbearer.log")
        ports = [self.port, self.network_port] if self.serves_network else [self.port]
        self._daemon.wait_until_ready(lambda: all(listens(port) for port in ports))

    def stop(self) -> None:
        status = self._running().stop()
        self._daemon = None
        if status != 0:
            raise AssertionError(f"mailbearer ended with {status} when it was asked to stop")

    def kill(self) -> None:
        """kill -9, as a power cut would."""
        self._running().kill()
        self._daemon = None

    def check(self) -> None:
        """`mailbearer check`: fails unless it finds the configuration right."""
        self._run("check")

    def status(self) -> object:
        """`mailbearer status --json`."""
        return json.loads(self._run("status", "--json"))

    def login(self, account: Account) -> None:
        """`mailbearer login`, with a script in the place of the person and of the browser."""
        status, printed = self._login(account, account.mailbox)
        _assert_signed_in(status, printed)

    def login_by_pasting(self, account: Account) -> None:
        """The same for a person whose browser is on another machine: the redirect ends nowhere, its URL is pasted."""
        status, printed = self._login(account, account.mailbox, paste=True)
        _assert_signed_in(status, printed)

    def login_by_code(self, account: Account) -> None:
        """`mailbearer login` with the grant device_code: the code is typed on another device."""
        output = self.folder / "login.log"
        with output.open("wb") as log:
            process = subprocess.Popen(
                self._command("login", account.mailbox), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            page, code = wait_until("mailbearer login prints page and code", lambda: _page_and_code(output, process))
            enter_code(page, code, account.mailbox, self.bench.authorization.tls())
            process.wait(timeout=PATIENCE)
        finally:
            process.kill()
            process.wait()
        _assert_signed_in(process.returncode, output.read_text())

    def login_refused(self, account: Account, person: str) -> str:
        """`mailbearer login` at which another person signs in: what it prints when it refuses that."""
        status, printed = self._login(account, person)
        if status != 77:
            raise AssertionError(f"mailbearer login ended with {status} and not with 77:\n{printed}")
        return printed

    def logout(self, account: Account) -> str:
        """`mailbearer logout`, and what it prints."""
        return self._run("logout", account.mailbox)

    def _login(self, account: Account, person: str, paste: bool = False) -> tuple[int, str]:
        """The exit status of `mailbearer login`, and all that it printed."""
        output = self.folder / "login.log"
        nothing = self.bench.new_folder("no-browser")  # a PATH without a browser: the URL is printed, nothing opens
        with output.open("wb") as log:
            process = subprocess.Popen(
                self._command("login", account.mailbox),
                stdin=subprocess.PIPE if paste else subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={"PATH": str(nothing)},
            )
        try:
            address = wait_until("mailbearer login prints the address", lambda: _first_address(output, process))
            # The server takes the suggested mailbox without asking; another person picks another one.
            address = address.replace(quote(account.mailbox), quote(person))
            last: Page = sign_in(address, person, self.bench.authorization.tls(), follow_to_loopback=not paste)
            process.communicate(f"{last.url}\n".encode() if paste else None, timeout=PATIENCE)
        finally:
            process.kill()
            process.wait()
        return process.returncode, output.read_text()

    def _running(self) -> Daemon:
        assert self._daemon, "mailbearer does not run"
        return self._daemon

    def _command(self, *arguments: str) -> list[str]:
        return [str(parts.mailbearer()), *arguments, "--config", str(self.configuration)]

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(self._command(*arguments), capture_output=True, text=True, timeout=PATIENCE)
        if done.returncode != 0:
            raise AssertionError(f"mailbearer {arguments[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout


def _assert_signed_in(status: int, printed: str) -> None:
    if status != 0:
        raise AssertionError(f"mailbearer login ended with {status}:\n{printed}")


@cache
def _password_hash() -> str:
    command = [str(parts.mailbearer()), "credential", "hash"]
    done = subprocess.run(command, input=PASSWORD + "\n", capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode != 0 or not done.stdout.startswith("$argon2id$"):
        raise AssertionError(f"mailbearer credential hash: {done.returncode} {done.stdout!r} {done.stderr!r}")
    return done.stdout.strip()


def _first_address(output: Path, process: subprocess.Popen[bytes]) -> str | None:
    printed = output.read_text()
    # A line is complete only with its end: half an address would be a wrong one.
    if found := re.search(r"(https://\S+)\s", printed):
        return found.group(1)
    if process.poll() is not None:
        raise AssertionError(f"mailbearer login ended with {process.returncode}:\n{printed}")
    return None


def _page_and_code(output: Path, process: subprocess.Popen[bytes]) -> tuple[str, str] | None:
    printed = output.read_text()
    if found := re.search(r"page +(https://\S+)\s+code +(\S+)\s", printed):
        return found.group(1), found.group(2)
    if process.poll() is not None:
        raise AssertionError(f"mailbearer login ended with {process.returncode}:\n{printed}")
    return None
