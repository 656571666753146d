"""Postfix: takes submissions inside TLS, with AUTH as Dovecot says, and hands them to Dovecot's LMTP."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from . import parts
from .certificates import CertificateAuthority
from .process import LOOPBACK, Daemon

RECIPIENT_DOMAIN = "fabrikam.test"


def start_postfix(folder: Path, authority: CertificateAuthority, port: int, policy_port: int) -> Daemon:
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
