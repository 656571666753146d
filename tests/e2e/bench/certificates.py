"""A private certificate authority for one run. Its keys are throw-away and never leave the temporary folder."""

from __future__ import annotations

import subprocess
from pathlib import Path


class CertificateAuthority:
    """Made with openssl; signs one server certificate for `localhost`, and for no other name."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.certificate = folder / "ca.pem"
        self.server_certificate = folder / "localhost.pem"
        self.server_key = folder / "localhost.key"

        key, request, extensions = folder / "ca.key", folder / "localhost.csr", folder / "localhost.ext"
        extensions.write_text("subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n")
        new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        _openssl(
            "req", "-x509", *new_key, "-keyout", key, "-out", self.certificate, "-days", "2",
            "-subj", "/CN=mailbearer end-to-end test authority",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip
        _openssl("req", *new_key, "-keyout", self.server_key, "-out", request, "-subj", "/CN=localhost")
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", key, "-CAcreateserial",
            "-days", "2", "-extfile", extensions, "-out", self.server_certificate,
        )  # fmt: skip


def _openssl(*arguments: str | Path) -> None:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"openssl {arguments[0]}: {done.stderr}")
