"""The clients that nobody here wrote: swaks, curl, Python's smtplib, and .NET's System.Net.Mail.SmtpClient."""

from __future__ import annotations

import os
import smtplib
import ssl
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import parts
from .configuration import Account
from .relay import PASSWORD, Relay

CLIENT_TIMEOUT = 60.0


@dataclass(frozen=True)
class Route:
    """Where a client submits, as whom, and whether it insists on STARTTLS with a verified certificate."""

    relay: Relay
    account: Account
    encrypted: bool
    port: int | None = None
    """Another port than the relay's first listener."""
    password: str | None = PASSWORD
    """None for a client that does not authenticate."""

    @property
    def submission_port(self) -> int:
        return self.port or self.relay.port


class Refused(Exception):
    """The relay refused; the text is what the client reports."""


def swaks(route: Route, sender: str, recipient: str, raw: Path) -> None:
    # swaks takes a last line of a single dot in its file for the end of the data, so that is what it gets.
    ended = raw.with_suffix(".swaks")
    text = raw.read_bytes()
    ended.write_bytes(text + (b"" if text.endswith(b"\r\n") else b"\r\n") + b".\r\n")
    tls = ["--tls", "--tls-verify", "--tls-ca-path", route.relay.certificate] if route.encrypted else []
    _run(
        "swaks", "--server", "localhost", "--port", route.submission_port, "--ehlo", "swaks.client.test",
        "--auth", "LOGIN", "--auth-user", route.account.credential, "--auth-password", route.password, *tls,
        "--from", sender, "--to", recipient, "--data", f"@{ended}",
    )  # fmt: skip


def curl(route: Route, sender: str, recipient: str, raw: Path) -> None:
    tls = ["--ssl-reqd", "--cacert", route.relay.certificate] if route.encrypted else []
    _run(
        "curl", "--disable", "--silent", "--show-error", "--noproxy", "*", *tls,
        "--url", f"smtp://localhost:{route.submission_port}/curl.client.test",
        "--user", f"{route.account.credential}:{route.password}",
        "--mail-from", sender, "--mail-rcpt", recipient, "--upload-file", raw,
    )  # fmt: skip


def python_smtplib(route: Route, sender: str, recipient: str, raw: Path) -> None:
    submit(route, sender, recipient, raw.read_bytes())


def submit(route: Route, sender: str, recipient: str, raw: bytes) -> str:
    """One message with smtplib. Returns the reply to the end of data, as `250 2.0.0 text`."""
    try:
        with smtplib.SMTP("localhost", route.submission_port, "smtplib.client.test", CLIENT_TIMEOUT) as session:
            if route.encrypted:
                session.starttls(context=ssl.create_default_context(cafile=str(route.relay.certificate)))
            if route.password is not None:
                session.login(route.account.credential, route.password)
            return _transaction(session, sender, recipient, raw)
    except smtplib.SMTPResponseException as refusal:
        raise Refused(f"{refusal.smtp_code} {refusal.smtp_error!r}") from None


def _transaction(session: smtplib.SMTP, sender: str, recipient: str, raw: bytes) -> str:
    session.ehlo_or_helo_if_needed()
    # smtplib.sendmail() keeps the last reply for itself, and the reply is what many scenarios are about.
    _accepted(session.mail(sender, [f"size={len(raw)}", "body=8bitmime"]))
    _accepted(session.rcpt(recipient))
    return _accepted(session.data(raw))


def _accepted(reply: tuple[int, bytes]) -> str:
    code, text = reply
    line = f"{code} {text.decode()}"
    if code != 250:
        raise Refused(line)
    return line


def dotnet(
    route: Route, sender: str, recipient: str, program: Path, subject: str, body: Path, attachment: Path
) -> None:
    """.NET composes its message itself; `program` is what `build_dotnet_client` has built."""
    environment = {"LD_LIBRARY_PATH": str(parts.DOTNET_OPENSSL), "DOTNET_CLI_TELEMETRY_OPTOUT": "1"}
    if route.encrypted:
        environment["SSL_CERT_FILE"] = str(route.relay.certificate)
    _run(
        parts.DOTNET, "exec", "--runtimeconfig", program.with_suffix(".runtimeconfig.json"), program,
        "localhost", route.submission_port, "starttls" if route.encrypted else "plain",
        route.account.credential, route.password, sender, recipient, subject, body, attachment,
        environment=environment,
    )  # fmt: skip


def build_dotnet_client(folder: Path) -> Path:
    """Compiles clients/SendMail.cs with mcs against the assemblies of the runtime that will run it."""
    program = folder / "SendMail.dll"
    assemblies = [
        "System.Private.CoreLib", "System.Runtime", "System.Runtime.Extensions", "System.Runtime.InteropServices",
        "System.IO.FileSystem", "System.Console", "System.Net.Mail", "System.Net.Primitives",
        "System.Text.Encoding.Extensions", "System.Collections.Specialized", "System.ObjectModel",
    ]  # fmt: skip
    _run(
        "mcs", "-nologo", "-nostdlib", "-noconfig", f"-out:{program}",
        *(f"-r:{parts.DOTNET_FRAMEWORK / name}.dll" for name in assemblies), parts.HERE / "clients" / "SendMail.cs",
    )  # fmt: skip
    program.with_suffix(".runtimeconfig.json").write_text(
        '{"runtimeOptions": {"framework": {"name": "Microsoft.NETCore.App", "version": "3.1.0"},'
        ' "configProperties": {"System.Globalization.Invariant": true}}}'
    )
    return program


def _run(*command: object, environment: dict[str, str] | None = None) -> None:
    words: Sequence[str] = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, timeout=CLIENT_TIMEOUT, env={**os.environ, **(environment or {})})
    if done.returncode != 0:
        report = (done.stdout + done.stderr).decode(errors="replace")
        raise Refused(f"{words[0]} ended with {done.returncode}:\n{report[-3000:]}")
