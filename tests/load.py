"""Clients that send numbered messages and remember what they were told."""

import re
import smtplib
import threading
import time

NUMBER = re.compile(rb"^X-Number: (\S+)\r?$", re.MULTILINE)


class Load:
    """Sends messages from several threads until told to stop.

    Attributes:
        acked: numbers answered 250: they must arrive.
        doubtful: numbers whose answer was "later" or never seen: they may arrive.
    """

    def __init__(self, port, *, clients=5, per_session=20, rcpts=1, size=1000, pause_s=0.0):
        self.port = port
        self.per_session = per_session
        self.rcpts = rcpts
        self.body = b"x" * 70 + b"\r\n"
        self.lines = size // 72
        self.pause_s = pause_s
        self.acked = set()
        self.doubtful = set()
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.threads = [
            threading.Thread(target=self.run, args=(number,), daemon=True)
            for number in range(clients)
        ]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exc):
        self.stop()

    def stop(self):
        """Finish the messages under way."""
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def run(self, client_number):
        count = 0
        while not self.stopping.is_set():
            try:
                with smtplib.SMTP("127.0.0.1", self.port, timeout=30) as client:
                    client.ehlo()
                    for _ in range(self.per_session):
                        if self.stopping.is_set():
                            return
                        count += 1
                        self.one(client, f"{client_number}.{count}")
                        time.sleep(self.pause_s)
            except (OSError, smtplib.SMTPException):
                time.sleep(0.05)

    def one(self, client, number):
        """Send one message; what is not answered is doubtful from the dot on."""
        if client.mail(f"n{number}@client.example")[0] != 250:
            raise smtplib.SMTPServerDisconnected("refused")
        for index in range(self.rcpts):
            if client.rcpt(f"r{index}@dest.example")[0] != 250:
                raise smtplib.SMTPServerDisconnected("refused")
        data = f"X-Number: {number}\r\n\r\n".encode() + self.body * self.lines
        client.putcmd("data")
        if client.getreply()[0] != 354:
            raise smtplib.SMTPServerDisconnected("refused")
        with self.lock:
            self.doubtful.add(number)
        client.send(data + b".\r\n")
        code, _ = client.getreply()
        with self.lock:
            # 4yz after the dot says "try again", not "it will not arrive": a server that lost
            # its queue manager during the commit cannot know.
            if code == 250:
                self.acked.add(number)
            if not 400 <= code < 500:
                self.doubtful.discard(number)


def numbers(messages):
    """The numbers of messages that a sink got, one for each recipient of each copy."""
    return [
        (NUMBER.search(message.data)[1].decode(), rcpt)
        for message in messages
        for rcpt in message.rcpts
    ]
