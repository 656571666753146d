"""The upstream of one run: Postfix takes submissions, Dovecot checks tokens and delivers to Maildirs.

It behaves as Exchange Online does where it matters: AUTH only inside TLS, `LOGIN XOAUTH2` on offer although LOGIN never
succeeds, and a sender that is not the token's user refused only after the data.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socketserver
import subprocess
import threading
from pathlib import Path

from . import parts
from .authorization import AuthorizationServer
from .certificates import CertificateAuthority
from .gate import Gate
from .process import LOOPBACK, Daemon, free_port, listens, wait_until

RECIPIENT_DOMAIN = "fabrikam.test"
MAX_SESSIONS = 3
"""Concurrent sessions that Exchange Online allows to one mailbox; the gate in front of Postfix counts them."""

# The only account that mail is written as. Debian has it, and it owns nothing.
_MAIL_USER = pwd.getpwnam("nobody")


class Upstream:
    """Postfix and Dovecot in one temporary folder, on one port behind a gate."""

    def __init__(self, folder: Path, authority: CertificateAuthority, authorization: AuthorizationServer) -> None:
        folder.mkdir()
        self._folder = folder
        self._port = free_port()
        self._mail = folder / "mail"
        self._mail.mkdir()
        os.chown(self._mail, _MAIL_USER.pw_uid, _MAIL_USER.pw_gid)

        self._sender_policy = SenderPolicy()
        self._dovecot = _start_dovecot(folder, authority, authorization)
        self._postfix = _start_postfix(folder, authority, self._port, self._sender_policy.port)
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


def _start_dovecot(folder: Path, authority: CertificateAuthority, authorization: AuthorizationServer) -> Daemon:
    (folder / "no-passwords").touch()
    (folder / "dovecot-oauth2.conf").write_text(
        f"""\
introspection_mode = post
introspection_url = {authorization.introspection_url}
force_introspection = yes
username_attribute = username
active_attribute = active
active_value = true
tls_ca_cert_file = {authority.certificate}
"""
    )
    configuration = folder / "dovecot.conf"
    configuration.write_text(
        f"""\
protocols = lmtp
listen = {LOOPBACK}
base_dir = {folder}/dovecot
state_dir = {folder}/dovecot
log_path = {folder}/dovecot.log
auth_verbose = yes
ssl = no

# LOGIN is offered and never succeeds; nothing about a token is remembered, so that a revoked one fails at once.
auth_mechanisms = login xoauth2
auth_cache_size = 0
auth_failure_delay = 0
passdb {{
  driver = oauth2
  mechanisms = xoauth2
  args = {folder}/dovecot-oauth2.conf
}}
passdb {{
  driver = passwd-file
  mechanisms = login
  args = {folder}/no-passwords
}}
userdb {{
  driver = static
  args = uid={_MAIL_USER.pw_uid} gid={_MAIL_USER.pw_gid} home={folder}/mail/%u allow_all_users=yes
}}

# The Maildir keeps the bytes of the wire: CRLF stays CRLF, and one Received line (of Postfix) is enough.
mail_location = maildir:~/Maildir
mail_save_crlf = yes
lmtp_add_received_header = no

service auth {{
  unix_listener {folder}/sasl {{
    mode = 0666
  }}
}}
service lmtp {{
  unix_listener {folder}/lmtp {{
    mode = 0666
  }}
}}
# No growing pauses after failed logins: all clients of the bench share one address.
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
"""
    )
    return Daemon("Dovecot", ["dovecot", "-F", "-c", configuration], folder / "dovecot.log")


def _start_postfix(folder: Path, authority: CertificateAuthority, port: int, policy_port: int) -> Daemon:
    configuration, queue, data = folder / "postfix", folder / "queue", folder / "data"
    for each in (configuration, queue, data):
        each.mkdir()
    shutil.chown(data, "postfix")
    (configuration / "main.cf").write_text(
        f"""\
compatibility_level = 3.6
queue_directory = {queue}
data_directory = {data}
maillog_file = {folder}/postfix.log
maillog_file_prefixes = {folder}
inet_interfaces = {LOOPBACK}
inet_protocols = ipv4
myhostname = upstream.{RECIPIENT_DOMAIN}
mydestination =
local_recipient_maps =
alias_maps =
mynetworks = 192.0.2.1/32

smtpd_tls_security_level = encrypt
smtpd_tls_auth_only = yes
smtpd_tls_cert_file = {authority.server_certificate}
smtpd_tls_key_file = {authority.server_key}
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {folder}/sasl
smtpd_sasl_security_options =
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions =
smtpd_end_of_data_restrictions = check_policy_service inet:{LOOPBACK}:{policy_port}

# Room for the AUTH line of a real token, and no hand on what a client has written.
line_length_limit = 16384
message_size_limit = 52428800
virtual_mailbox_limit = 0
local_header_rewrite_clients =
message_drop_headers =
lmtp_line_length_limit = 0
virtual_mailbox_domains = {RECIPIENT_DOMAIN}
virtual_transport = lmtp:unix:{folder}/lmtp
"""
    )
    # service type private unpriv chroot wakeup maxproc command
    services = [
        f"{LOOPBACK}:{port} inet n - n - 100 smtpd",
        "pickup unix n - n 60 1 pickup",
        "cleanup unix n - n - 0 cleanup",
        "qmgr unix n - n 300 1 qmgr",
        "tlsmgr unix - - n 1000? 1 tlsmgr",
        "rewrite unix - - n - - trivial-rewrite",
        "bounce unix - - n - 0 bounce",
        "defer unix - - n - 0 bounce",
        "trace unix - - n - 0 bounce",
        "verify unix - - n - 1 verify",
        "flush unix n - n 1000? 0 flush",
        "proxymap unix - - n - - proxymap",
        "showq unix n - n - - showq",
        "error unix - - n - - error",
        "retry unix - - n - - error",
        "discard unix - - n - - discard",
        "lmtp unix - - n - - lmtp",
        "anvil unix - - n - 1 anvil",
        "scache unix - - n - 1 scache",
        "postlog unix-dgram n - n - 1 postlogd",
    ]
    (configuration / "master.cf").write_text("\n".join(services) + "\n")
    # `postfix check` makes the folders of the queue. `postfix start-fg` would start the master as a child of a shell;
    # started directly, the process that is stopped at the end is the master itself.
    checked = subprocess.run(["postfix", "-c", configuration, "check"], capture_output=True, text=True)
    if checked.returncode != 0:
        raise AssertionError(f"postfix check: {checked.stdout}{checked.stderr}")
    return Daemon("Postfix", [parts.POSTFIX_MASTER, "-c", configuration, "-s"], folder / "postfix-start.log")


class SenderPolicy:
    """A Postfix policy service: a user may send as himself only. Asked after the data, where Exchange refuses."""

    def __init__(self) -> None:
        self.port = free_port()
        self._server = _PolicyServer((LOOPBACK, self.port), _PolicySession)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _PolicyServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


class _PolicySession(socketserver.StreamRequestHandler):
    """Requests are lines of name=value, ended by an empty line; so is the answer."""

    def handle(self) -> None:
        request: dict[str, str] = {}
        for line in self.rfile:
            name, separator, value = line.decode().rstrip("\n").partition("=")
            if separator:
                request[name] = value
                continue
            user, sender = request.get("sasl_username", ""), request.get("sender", "")
            self.wfile.write(f"action={_verdict(user, sender)}\n\n".encode())
            request = {}


def _verdict(user: str, sender: str) -> str:
    if user.lower() == sender.lower():
        return "DUNNO"
    return (
        f"554 5.2.252 SendAsDenied; {user} not allowed to send as {sender}; "
        "STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied"
    )
