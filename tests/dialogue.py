"""Sessions from any loopback address, each its own client, and the maps that judge them."""

import contextlib
import smtplib
import socket
import subprocess
import threading


def make_map(system, name, text):
    """Make a map beside the configuration."""
    path = system.dir / name
    subprocess.run([system.programs / "createmap", path], input=text.encode(), check=True, cwd="/")
    return path


def dialogue(system, client, *commands):
    """Codes and texts of a session from a client address, the greeting first."""
    replies = []
    with socket.create_connection(
        ("127.0.0.1", system.port), timeout=60, source_address=(client, 0)
    ) as sock:
        reader = sock.makefile("rb")

        def reply():
            while True:
                line = reader.readline().decode()
                if not line or line[3:4] != "-":
                    return line.strip()

        replies.append(reply())
        with contextlib.suppress(OSError):
            for command in commands:
                sock.sendall(command.encode() + b"\r\n")
                replies.append(reply())
    return replies


def ask(system, client, sender, *rcpts):
    """Replies to MAIL and to each RCPT."""
    return dialogue(
        system, client, "EHLO c.test", f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{to}>" for to in rcpts)
    )[2:]


def send(system, client, sender, *rcpts):
    """Send a message; return recipients that were refused."""
    with smtplib.SMTP("127.0.0.1", system.port, source_address=(client, 0), timeout=60) as smtp:
        return smtp.sendmail(sender, list(rcpts), f"Subject: {sender}\r\n\r\nx\r\n")


@contextlib.contextmanager
def no_names():
    """Run a name server that knows no name and says so at once; yields its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(0.1)
        done = threading.Event()

        def serve():
            while not done.is_set():
                try:
                    data, peer = sock.recvfrom(2000)
                except TimeoutError:
                    continue
                end = data.index(b"\0", 12) + 5
                counts = b"\0\1" + bytes(6)
                sock.sendto(data[:2] + b"\x81\x83" + counts + data[12:end], peer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield sock.getsockname()[1]
        finally:
            done.set()
            thread.join()
