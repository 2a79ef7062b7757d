"""A content filter whose every answer is written down in the test.

It speaks the milter protocol with its own code, so that it shares no mistake with the server.
"""

import socket
import struct
import threading

import attrs

STAGES = {"C": "connect", "H": "helo", "M": "mail", "R": "rcpt", "T": "data", "L": "header",
          "N": "eoh", "B": "body", "E": "end", "O": "hello"}  # fmt: skip


def packet(command, data=b""):
    """One packet."""
    return struct.pack(">I", len(data) + 1) + command.encode() + data


def hello(actions=0xFF, protocol=0, version=6):
    """Answer to the negotiation."""
    return packet("O", struct.pack(">III", version, actions, protocol))


def header(name, value):
    """Add a header field."""
    return packet("h", name.encode() + b"\0" + value.encode() + b"\0")


def insert(at, name, value):
    """Insert a header field."""
    return packet("i", struct.pack(">I", at) + name.encode() + b"\0" + value.encode() + b"\0")


def change(number, name, value):
    """Change a header field."""
    return packet("m", struct.pack(">I", number) + name.encode() + b"\0" + value.encode() + b"\0")


def text(command, *words):
    """A packet of texts."""
    return packet(command, b"".join(word.encode() + b"\0" for word in words))


GO = packet("c")
STALL = object()
"""Answer nothing at all."""
HANG_UP = object()
"""Close the connection."""


@attrs.define(slots=False)
class ScriptedFilter:
    """A filter on a socket; ``answers`` says what it sends at each stage.

    An answer is bytes, or a list of them: one for each time that the stage comes; the last one
    stays.
    """

    answers: dict = attrs.Factory(dict)
    seen: list = attrs.Factory(list)
    """(stage, data) in order; macros as ("macro", data), aborts as ("abort", b"")."""
    sessions: int = 0
    port: int = 0

    def listen(self, address):
        """Serve on a path or a (host, port); return itself."""
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self._gate = socket.socket(family)
        self._gate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._gate.bind(address)
        self._gate.listen(20)
        self.port = 0 if isinstance(address, str) else self._gate.getsockname()[1]
        self._ends = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def close(self):
        """End it, and every connection."""
        self._gate.shutdown(socket.SHUT_RDWR)
        self._gate.close()
        for end in self._ends:
            end.close()

    def stages(self):
        """The stages seen, without macros."""
        return [stage for stage, _ in self.seen if stage != "macro"]

    def words(self, stage):
        """The texts of every packet of a stage."""
        return [data.decode("utf-8", "replace").split("\0")[:-1]
                for one, data in self.seen if one == stage]  # fmt: skip

    def _serve(self):
        while True:
            try:
                sock, _ = self._gate.accept()
            except OSError:
                return
            self.sessions += 1
            self._ends.append(sock)
            threading.Thread(target=self._talk, args=(sock,), daemon=True).start()

    def _talk(self, sock):
        with sock, sock.makefile("rb") as stream:
            while True:
                try:
                    head = stream.read(4)
                    if len(head) < 4:
                        return
                    body = stream.read(struct.unpack(">I", head)[0])
                except (OSError, ValueError):
                    return
                command, data = chr(body[0]), body[1:]
                if command == "Q":
                    self.seen.append(("quit", b""))
                    return
                if command in "DA":
                    self.seen.append(("macro" if command == "D" else "abort", data))
                    continue
                stage = STAGES[command]
                self.seen.append((stage, data))
                answer = self.answers.get(stage, hello() if stage == "hello" else GO)
                if isinstance(answer, list):
                    answer = answer.pop(0) if len(answer) > 1 else answer[0]
                if answer is HANG_UP:
                    return
                if answer is not STALL:
                    try:
                        sock.sendall(answer)
                    except OSError:
                        return
