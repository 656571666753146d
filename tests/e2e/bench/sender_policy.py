"""Who may send as whom: the one thing that Postfix asks us, after the data of each message."""

from __future__ import annotations

import socketserver
import threading

from .process import LOOPBACK, free_port


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
