"""Everything that one run starts: a temporary folder, an authority, the authorization server and the upstream."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from .authorization import AuthorizationServer, Client
from .certificates import CertificateAuthority
from .process import tail
from .upstream import Upstream

ALICE = "alice@contoso.test"
SCANNER = "scanner@contoso.test"
ROBOT = "robot@contoso.test"

SHORT_LIFE_SECONDS = 5
"""Long enough to deliver a message with, short enough to wait for its end."""

# The client registrations. All secrets are throw-away and exist in this run only.
DESKTOP = Client("desktop", grants=("authorization_code", "refresh_token"))
TELEVISION = Client(
    "television", grants=("urn:ietf:params:oauth:grant-type:device_code", "refresh_token"), grant="device_code"
)
BRIEF_DAEMON = Client(
    "brief-daemon",
    grants=("client_credentials",),
    access_token_seconds=3,
    secret="daemon-secret-for-tests",
    mailbox=ROBOT,
)
SHORT_LIVED = Client(
    "short-lived", grants=("authorization_code", "refresh_token"), access_token_seconds=SHORT_LIFE_SECONDS
)
DAEMON = Client("daemon", grants=("client_credentials",), secret="daemon-secret-for-tests", mailbox=ROBOT)
SHORT_LIVED_DAEMON = Client(
    "short-lived-daemon",
    grants=("client_credentials",),
    access_token_seconds=SHORT_LIFE_SECONDS,
    secret="daemon-secret-for-tests",
    mailbox=ROBOT,
)


class Bench:
    """Use as a context: what it has started is stopped at the end, whatever happened."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mailbearer-e2e-"))
        self.folder.chmod(0o755)  # the mail servers work in it under users of their own
        self._started: list[AuthorizationServer | Upstream] = []

    def __enter__(self) -> Bench:
        try:
            self.authority = CertificateAuthority(self.folder / "certificates")
            self.authorization = AuthorizationServer(
                self.folder / "authorization",
                self.authority,
                [DESKTOP, TELEVISION, SHORT_LIVED, DAEMON, SHORT_LIVED_DAEMON, BRIEF_DAEMON],
                [ALICE, SCANNER, ROBOT],
            )
            self._started.append(self.authorization)
            self.upstream = Upstream(self.folder / "upstream", self.authority, self.authorization)
            self._started.append(self.upstream)
            for part in self._started:
                part.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        for part in reversed(self._started):
            part.stop()
        self._started.clear()

    def new_folder(self, name: str) -> Path:
        """An empty folder, private to root as the data of a daemon should be."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))

    def logs(self) -> str:
        """The last lines of every log of the run, for a failure report."""
        logs = sorted(log for log in self.folder.rglob("*.log") if "mail" not in log.relative_to(self.folder).parts)
        return "\n".join(f"--- {log.relative_to(self.folder)}\n{tail(log)}" for log in logs)

    def discard(self) -> None:
        """Removes the folder, when there is nothing in it to look into."""
        shutil.rmtree(self.folder)
