"""Each client delivers, over plaintext AUTH and over STARTTLS AUTH, and every byte arrives."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench import clients
from bench.bench import ALICE, DAEMON, ROBOT, Bench
from bench.clients import Refused, Route, submit
from bench.configuration import Account
from bench.gate import Gate
from bench.messages import assert_arrived, awkward, plain
from bench.relay import Relay

from . import scenario

ACCOUNT = Account(ROBOT, DAEMON)

SendFile = Callable[[Route, str, str, Path], None]


def _delivers_files(bench: Bench, client: str, send: SendFile, encrypted: bool) -> str:
    """A client that is given a file must deliver that file, byte for byte."""
    messages = awkward()
    with Relay(bench, [ACCOUNT]) as relay:
        route = Route(relay, ACCOUNT, encrypted)
        for number, message in enumerate(messages):
            recipient = f"{client}-{'tls' if encrypted else 'plain'}-{number}@fabrikam.test"
            raw = relay.folder / "message.eml"
            raw.write_bytes(message.raw)
            send(route, ROBOT, recipient, raw)
            try:
                [arrived] = bench.upstream.wait_for(recipient)
                assert_arrived(arrived, message.expected)
            except AssertionError as failure:
                raise AssertionError(f"{message.name}: {failure}") from None
    return f"{len(messages)} messages"


@scenario("swaks delivers over plaintext AUTH, byte for byte")
def swaks_plain(bench: Bench) -> str:
    return _delivers_files(bench, "swaks", clients.swaks, encrypted=False)


@scenario("swaks delivers over STARTTLS AUTH, byte for byte")
def swaks_starttls(bench: Bench) -> str:
    return _delivers_files(bench, "swaks", clients.swaks, encrypted=True)


@scenario("curl delivers over plaintext AUTH, byte for byte")
def curl_plain(bench: Bench) -> str:
    return _delivers_files(bench, "curl", clients.curl, encrypted=False)


@scenario("curl delivers over STARTTLS AUTH, byte for byte")
def curl_starttls(bench: Bench) -> str:
    return _delivers_files(bench, "curl", clients.curl, encrypted=True)


@scenario("Python smtplib delivers over plaintext AUTH, byte for byte")
def smtplib_plain(bench: Bench) -> str:
    return _delivers_files(bench, "smtplib", clients.python_smtplib, encrypted=False)


@scenario("Python smtplib delivers over STARTTLS AUTH, byte for byte")
def smtplib_starttls(bench: Bench) -> str:
    return _delivers_files(bench, "smtplib", clients.python_smtplib, encrypted=True)


# .NET is given a subject, a text and an attachment and writes the message itself. What it has written is taken from
# the wire: the plaintext session goes through a gate that listens in, and what arrives must equal that, byte for byte.
# Inside TLS nobody can listen, so there the message must equal the plaintext one, apart from the two things that .NET
# makes anew for every message: its Date and its MIME boundary.

DOTNET_SUBJECT = "Bestellung Nº 4711: Grüße aus Zürich"
DOTNET_TEXT = ".\r\n..\r\nLiebe Kundin,\r\n\r\n" + "ein sehr langer Satz, " * 100 + "\r\n日本語\r\n.\r\n"
DOTNET_ATTACHMENT = bytes(range(256)) * 300
DOTNET_FORGETS = ("Message-ID",)


@scenario(".NET SmtpClient delivers over plaintext AUTH, byte for byte what it put on the wire")
def dotnet_plain(bench: Bench) -> None:
    _dotnet_written_and_arrived(bench)


@scenario(".NET SmtpClient delivers over STARTTLS AUTH, the same but for Date and boundary")
def dotnet_starttls(bench: Bench) -> None:
    written = _dotnet_written_and_arrived(bench)
    recipient = "dotnet-tls@fabrikam.test"
    with Relay(bench, [ACCOUNT]) as relay:
        _dotnet(relay, Route(relay, ACCOUNT, encrypted=True), recipient)
        [arrived] = bench.upstream.wait_for(recipient)
    trace, _, message = arrived.partition(b"MIME-Version:")
    expected = _without_novelty(written).replace(b"dotnet-plain@", b"dotnet-tls@")
    assert_arrived(trace + _without_novelty(b"MIME-Version:" + message), expected, DOTNET_FORGETS)


def _dotnet_written_and_arrived(bench: Bench) -> bytes:
    """Sends with .NET over plaintext, listens in, compares with what arrives, and returns it."""
    recipient = "dotnet-plain@fabrikam.test"
    before = len(bench.upstream.arrivals(recipient))
    with Relay(bench, [ACCOUNT]) as relay:
        tap = Gate(relay.port)
        try:
            _dotnet(relay, Route(relay, ACCOUNT, encrypted=False, port=tap.port), recipient)
            [passage] = tap.passages
            written = _data_of(bytes(passage.sent))
            assert any(each.endswith(written) for each in bench.upstream.wait_for(recipient, before + 1))
            arrived = next(each for each in bench.upstream.arrivals(recipient) if each.endswith(written))
            assert_arrived(arrived, written, DOTNET_FORGETS)
        finally:
            tap.stop()
    return written


def _dotnet(relay: Relay, route: Route, recipient: str) -> None:
    text, attachment = relay.folder / "text.txt", relay.folder / "order.bin"
    text.write_bytes(DOTNET_TEXT.encode())
    attachment.write_bytes(DOTNET_ATTACHMENT)
    program = clients.build_dotnet_client(relay.folder)
    clients.dotnet(route, ROBOT, recipient, program, DOTNET_SUBJECT, text, attachment)


def _data_of(session: bytes) -> bytes:
    """The message inside the client's side of one recorded SMTP session, with the dots of the transfer taken out."""
    [data] = re.findall(rb"\r\nDATA\r\n(.*?\r\n)\.\r\n", session, re.DOTALL)
    return re.sub(rb"^\.", b"", data, flags=re.MULTILINE)


def _without_novelty(message: bytes) -> bytes:
    message = re.sub(rb"^Date: [^\r]*", b"Date: (then)", message, count=1, flags=re.MULTILINE)
    boundary = re.search(rb"boundary=([^\r;]+)", message)
    assert boundary, "a message with an attachment has a boundary"
    return message.replace(boundary.group(1).strip(b'"'), b"(boundary)")


# --- The edges of what a client may do ----------------------------------------------------------------------------


@scenario("a client of a listed network delivers without AUTH")
def network_client(bench: Bench) -> None:
    recipient, message = "network@fabrikam.test", plain()
    with Relay(bench, [ACCOUNT], serves_network=True) as relay:
        route = Route(relay, ACCOUNT, encrypted=False, port=relay.network_port, password=None)
        submit(route, ROBOT, recipient, message.raw)
        [arrived] = bench.upstream.wait_for(recipient)
        assert_arrived(arrived, message.expected)


@scenario("a wrong password is refused with 535, and no AUTH with 530")
def wrong_password(bench: Bench) -> None:
    recipient = "nobody@fabrikam.test"
    with Relay(bench, [ACCOUNT]) as relay:
        route = Route(relay, ACCOUNT, encrypted=False)
        for password, code in (("wrong", "535"), (None, "530")):
            try:
                submit(replace(route, password=password), ROBOT, recipient, plain().raw)
            except Refused as refusal:
                assert str(refusal).startswith(code), refusal
            else:
                raise AssertionError(f"accepted with password {password!r}")
    assert bench.upstream.arrivals(recipient) == []


@scenario("a sender that is not the token's user: the client gets the provider's 5xx")
def foreign_sender(bench: Bench) -> None:
    recipient = "send-as@fabrikam.test"
    with Relay(bench, [ACCOUNT]) as relay:
        try:
            submit(Route(relay, ACCOUNT, encrypted=False), ALICE, recipient, plain().raw)
        except Refused as refusal:
            assert str(refusal).startswith("554") and "SendAsDenied" in str(refusal), refusal
        else:
            raise AssertionError("accepted")
    assert bench.upstream.arrivals(recipient) == []
