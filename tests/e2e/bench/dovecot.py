"""Dovecot: checks tokens by asking the authorization server, and delivers to Maildirs."""

from __future__ import annotations

import pwd
from pathlib import Path

from .authorization import AuthorizationServer
from .certificates import CertificateAuthority
from .process import LOOPBACK, Daemon

# The only account that mail is written as. Debian has it, and it owns nothing.
MAIL_USER = pwd.getpwnam("nobody")


def start_dovecot(folder: Path, authority: CertificateAuthority, authorization: AuthorizationServer) -> Daemon:
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
  args = uid={MAIL_USER.pw_uid} gid={MAIL_USER.pw_gid} home={folder}/mail/%u allow_all_users=yes
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
