"""A gate in the path of a TCP connection: it can be closed, and it can listen in."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field

from .process import LOOPBACK, free_port

_TCP_ESTABLISHED = 1


@dataclass
class Passage:
    """One connection that went through the gate. `sent` is what the client has said so far."""

    client: socket.socket
    server: socket.socket
    sent: bytearray = field(default_factory=bytearray)

    @property
    def open(self) -> bool:
        """Whether the client has not ended it; the kernel's answer, so that no thread has to be waited for."""
        try:
            return self.client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_ESTABLISHED
        except OSError:
            return False

    def cut(self) -> None:
        for end in (self.client, self.server):
            with suppress(OSError):  # it may be over already
                end.shutdown(socket.SHUT_RDWR)


class Gate:
    """Forwards a port of its own to `target`.

    While it is closed, new connections are refused as if the server were not running, and open ones are cut. The
    server behind it goes on: so a token endpoint can be down for mailbearer while the mail server can still validate
    tokens, as it is at the big providers.
    """

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.passages: list[Passage] = []
        self.peak = 0  # the most passages that were open at the same time
        self._target = target
        self._lock = threading.Lock()
        # Holds the port while the gate is closed: a socket that is bound and does not listen refuses connections.
        self._holder = self._bound_socket()
        self._listener: socket.socket | None = None
        self.open()

    def open(self) -> None:
        if self._listener is not None:
            return
        listener = self._bound_socket()
        listener.listen(128)
        self._listener = listener
        threading.Thread(target=self._admit, args=(listener,), daemon=True).start()

    def close(self) -> None:
        listener, self._listener = self._listener, None
        if listener is None:
            return
        listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept()
        listener.close()
        with self._lock:
            passages = list(self.passages)
        for passage in passages:
            passage.cut()

    def stop(self) -> None:
        self.close()
        self._holder.close()

    def _bound_socket(self) -> socket.socket:
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((LOOPBACK, self.port))
        return bound

    def _admit(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            if self._listener is not listener:
                client.close()
                return
            try:
                server = socket.create_connection((LOOPBACK, self._target))
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            passage = Passage(client, server)
            with self._lock:
                self.passages.append(passage)
                self.peak = max(self.peak, sum(each.open for each in self.passages))
            threading.Thread(target=self._forward, args=(passage,), daemon=True).start()

    def _forward(self, passage: Passage) -> None:
        back = threading.Thread(target=_pump, args=(passage.server, passage.client, None), daemon=True)
        back.start()
        _pump(passage.client, passage.server, passage.sent)
        back.join()
        passage.client.close()
        passage.server.close()


def _pump(source: socket.socket, sink: socket.socket, record: bytearray | None) -> None:
    """Forwards until the source ends, then ends the sink: half-closed connections stay half-closed."""
    try:
        while data := source.recv(65536):
            if record is not None:
                record += data
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
