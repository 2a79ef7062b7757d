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
        refusals: replies that said "later", at any command.
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
        self.refusals = 0
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
        self.expect(250, client.mail(f"n{number}@client.example"))
        for index in range(self.rcpts):
            self.expect(250, client.rcpt(f"r{index}@dest.example"))
        data = f"X-Number: {number}\r\n\r\n".encode() + self.body * self.lines
        client.putcmd("data")
        self.expect(354, client.getreply())
        with self.lock:
            self.doubtful.add(number)
        client.send(data + b".\r\n")
        code, _ = client.getreply()
        with self.lock:
            # 4yz after the dot says "try again", not "it will not arrive": a server that lost
            # its queue manager during the commit cannot know.
            if code == 250:
                self.acked.add(number)
            else:
                self.refusals += 1
            if not 400 <= code < 500:
                self.doubtful.discard(number)

    def expect(self, wanted, reply):
        """End the session unless a command was taken."""
        if reply[0] != wanted:
            with self.lock:
                self.refusals += 1
            raise smtplib.SMTPServerDisconnected("refused")


def numbers(messages):
    """The numbers of messages that a sink got, one for each recipient of each copy."""
    return [
        (NUMBER.search(message.data)[1].decode(), rcpt)
        for message in messages
        for rcpt in message.rcpts
    ]
