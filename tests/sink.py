"""An SMTP or LMTP server for tests, written apart from smx: records what it gets, errs on order.

It is deliberately plain (a thread a connection, one reply a line) and shares no code with the
programs under test.
"""

import socket
import socketserver
import threading

import attrs

EXTENSIONS = ("PIPELINING", "8BITMIME", "SIZE 100000000", "ENHANCEDSTATUSCODES")


@attrs.define
class Message:
    """One transaction as it arrived."""

    sender: str
    rcpts: list
    data: bytes
    helo: str = ""
    params: str = ""


class Sink:
    """Listens on a loopback address; use as a context manager.

    Args:
        host: address to listen on.
        port: 0 for any.
        lmtp: speak LMTP: one reply a recipient after the dot.
        replies: verb -> function(argument) -> reply line or None for the usual one; the verbs
            are CONNECT, EHLO, MAIL, RCPT, DATA, DOT (argument: the recipient in LMTP).
        extensions: lines after the first of the EHLO reply.
        path: a Unix socket instead of host and port.
    """

    def __init__(self, host="127.0.0.1", port=0, *, lmtp=False, replies=None, path=None,
                 extensions=EXTENSIONS):  # fmt: skip
        self.lmtp = lmtp
        self.replies = replies or {}
        self.extensions = extensions
        self.messages = []
        self.params = []  # of every RCPT
        self.sessions = 0
        self.open = 0
        self.most_open = 0
        self.lock = threading.Lock()
        self.arrived = threading.Condition(self.lock)
        sink = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                sink.serve(self)

            def finish(self):
                try:
                    super().finish()
                except OSError:
                    pass

        base = socketserver.ThreadingUnixStreamServer if path else socketserver.ThreadingTCPServer

        class Server(base):
            address_family = (
                socket.AF_UNIX if path else socket.AF_INET6 if ":" in host else socket.AF_INET
            )
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 512

            def handle_error(self, request, client_address):
                pass  # a peer that was killed resets its connection

        self.server = Server(path or (host, port), Handler)
        self.host = host
        self.port = None if path else self.server.server_address[1]
        self.address = path or f"{host}:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def reply(self, handler, verb, argument, usual):
        made = self.replies.get(verb)
        text = (made(argument) if made else None) or usual
        handler.wfile.write(text.encode() + b"\r\n")
        return text.startswith(("2", "3"))

    def serve(self, handler):
        with self.lock:
            self.sessions += 1
            self.open += 1
            self.most_open = max(self.most_open, self.open)
        try:
            self.dialogue(handler)
        except (OSError, ValueError):
            pass
        finally:
            with self.lock:
                self.open -= 1

    def dialogue(self, handler):
        if not self.reply(handler, "CONNECT", "", "220 sink.test"):
            return
        helo, message = "", None
        while line := handler.rfile.readline(4096):
            verb, _, argument = line.decode("utf-8", "replace").strip().partition(" ")
            verb = verb.upper()
            if verb in {"EHLO", "LHLO", "HELO"}:
                helo = f"{verb} {argument}"
                lines = ["sink.test", *(self.extensions if verb != "HELO" else ())]
                usual = "\r\n".join(f"250-{text}" for text in lines[:-1])
                self.reply(
                    handler,
                    "EHLO",
                    argument,
                    (usual + "\r\n" if usual else "") + f"250 {lines[-1]}",
                )
            elif verb == "MAIL":
                address, _, params = argument[6:].partition("> ")
                if self.reply(handler, "MAIL", argument, "250 2.1.0 ok"):
                    message = Message(address.rstrip(">"), [], b"", helo, params)
            elif verb == "RCPT":
                address, _, params = argument[4:].partition(">")
                with self.lock:
                    self.params.append(params.strip())
                if self.reply(handler, "RCPT", address, "250 2.1.5 ok") and message:
                    message.rcpts.append(address)
            elif verb == "DATA":
                if not message or not message.rcpts:
                    handler.wfile.write(b"503 5.5.1 no recipients\r\n")
                elif self.reply(handler, "DATA", "", "354 go"):
                    self.receive(handler, message)
                    message = None
            elif verb == "RSET":
                message = None
                handler.wfile.write(b"250 2.0.0 ok\r\n")
            elif verb == "QUIT":
                handler.wfile.write(b"221 2.0.0 bye\r\n")
                return
            else:
                handler.wfile.write(b"502 5.5.1 what?\r\n")

    def receive(self, handler, message):
        lines = []
        while True:
            line = handler.rfile.readline()
            if not line:
                return
            if line == b".\r\n":
                break
            lines.append(line[1:] if line.startswith(b".") else line)
        message.data = b"".join(lines)
        if not self.lmtp:
            if self.replies.get("DOT") and (text := self.replies["DOT"]("")):
                handler.wfile.write(text.encode() + b"\r\n")
                return
            self.record(message)
            handler.wfile.write(b"250 2.0.0 taken\r\n")
            return
        taken = []
        out = []
        for rcpt in message.rcpts:
            text = (self.replies.get("DOT") or (lambda _: None))(rcpt) or "250 2.0.0 taken"
            out.append(text)
            if text.startswith("2"):
                taken.append(rcpt)
        if taken:
            self.record(attrs.evolve(message, rcpts=taken))
        handler.wfile.write("".join(f"{text}\r\n" for text in out).encode())

    def record(self, message):
        with self.lock:
            self.messages.append(message)
            self.arrived.notify_all()

    def wait(self, count, deadline_s=60):
        """Wait for that many messages and return them all."""
        with self.lock:
            if not self.arrived.wait_for(lambda: len(self.messages) >= count, deadline_s):
                raise AssertionError(f"{len(self.messages)} of {count} messages arrived")
            return list(self.messages)
