"""One content filter as a machine: what to send it at a stage, what its answers mean.

Kind: core.

The shell (smtps/milterio.py) sends what ``ask`` and the others return, and while ``waiting``
gives each packet to ``take`` until that is over. A filter that has answered for the rest of the
message or of the session is not asked any more.
Limits: MAX_CHANGES changes a message, their texts bounded by packets; a replaced body has the
size that the caller allows.
Source: libmilter/docs (smfi_*, xxfi_*), sendmail/milter.c; SPEC D45.
"""

import re

import attrs

from libsmx.reply import Reply
from smtps import milterwire as wire
from smtps.effects import Said, Step
from smtps.milterwire import MilterError, Options, Packet

MAX_CHANGES = 10_000
_REPLY_RE = re.compile(r"([45][0-9][0-9])(?:[ -](?:([45]\.[0-9]{1,3}\.[0-9]{1,3})(?: |$))?(.*))?")
_REJECT = {
    "connect": Reply(554, "5.7.1", "Connection refused by a content filter"),
    "end": Reply(554, "5.7.1", "Message refused by a content filter"),
}
_COMMAND_REFUSED = Reply(550, "5.7.1", "Refused by a content filter")
_TEMPFAIL = Reply(451, "4.7.1", "Refused for now by a content filter, try again later")
_SHUTDOWN = Reply(421, "4.7.1", "Session ended by a content filter")
_EARLY = frozenset(("connect", "helo"))
_CONTENT = frozenset(("header", "eoh", "body", "end"))

ACTIONS = {
    "header": wire.ADD_HEADERS | wire.CHANGE_HEADERS,
    "body": wire.CHANGE_BODY,
    "recipients": wire.ADD_RCPT | wire.DELETE_RCPT | wire.ADD_RCPT_PAR,
    "sender": wire.CHANGE_SENDER,
    "quarantine": wire.QUARANTINE,
}
"""Word of the option changes -> what is offered to the filter."""
_NEEDS = {
    b"h": wire.ADD_HEADERS, b"i": wire.ADD_HEADERS, b"m": wire.CHANGE_HEADERS,
    b"b": wire.CHANGE_BODY, b"+": wire.ADD_RCPT, b"2": wire.ADD_RCPT_PAR,
    b"-": wire.DELETE_RCPT, b"e": wire.CHANGE_SENDER, b"q": wire.QUARANTINE,
}  # fmt: skip


@attrs.define
class Filter:
    """One filter in one session.

    Attributes:
        actions: what it may change.
        options: as negotiated, None before.
        stage: the one whose answer is awaited, empty: none is.
        said: what it answered at that stage.
        accepted: it takes everything that still comes of the session.
        passed: it takes everything that still comes of the message.
        skipped: it wants no more of the body.
        changes: packets that change the message, in their order.
        ignored: how many such packets were not allowed.
    """

    actions: int
    options: Options | None = None
    stage: str = ""
    said: Said = attrs.field(factory=Said)
    accepted: bool = False
    passed: bool = False
    skipped: bool = False
    changes: list[Packet] = attrs.Factory(list)
    ignored: int = 0

    @property
    def waiting(self) -> bool:
        """True while an answer is due."""
        return bool(self.stage)

    @property
    def idle(self) -> bool:
        """True where nothing more of this message is told to the filter."""
        return self.accepted or self.passed

    @property
    def leading_space(self) -> bool:
        """Whether header values keep the blank behind the colon."""
        return bool(self._protocol & wire.LEADING_SPACE)

    @property
    def _protocol(self) -> int:
        return self.options.protocol if self.options is not None else 0

    def hello(self) -> bytes:
        """Return the beginning of the negotiation, whose answer is due."""
        self.stage = "negotiation"
        return wire.encode_hello(self.actions)

    def wants(self, stage: str) -> bool:
        """Tell whether the filter is told of this stage."""
        return not self.idle and not self._protocol & wire.NO_STEP.get(stage, 0)

    def ask(self, step: Step, port: int = 0) -> bytes:
        """Return what tells the filter of a step of the dialogue, empty: nothing.

        Args:
            step: the step.
            port: of the client.
        """
        if step.stage == "mail":
            self.begin()
        if not self.wants(step.stage) or (step.stage == "data" and self._version < 4):
            return b""
        if step.stage == "connect":
            packet = wire.encode_connect(step.words[0], step.words[1], port)
        else:
            packet = wire.encode_words(wire.COMMANDS[step.stage], step.words)
        self._expect(step.stage)
        return wire.encode_macros(step.stage, step.macros) + packet

    @property
    def _version(self) -> int:
        return self.options.version if self.options is not None else 0

    def begin(self) -> None:
        """Forget the message before."""
        self.passed = self.skipped = False
        self.changes, self.ignored = [], 0

    def header(self, name: str, value: str) -> bytes:
        """Return what tells a header field; value as it stands behind the colon."""
        if not self.wants("header"):
            return b""
        shown = value if self.leading_space else value.removeprefix(" ")
        self._expect("header")
        return wire.encode_words(b"L", (name, shown.replace("\r\n", "\n")))

    def end_header(self) -> bytes:
        """Return what tells the end of the header."""
        if not self.wants("eoh"):
            return b""
        self._expect("eoh")
        return wire.encode(b"N")

    def body(self, chunk: bytes) -> bytes:
        """Return what tells a piece of body, at most CHUNK bytes."""
        if self.skipped or not self.wants("body"):
            return b""
        self._expect("body")
        return wire.encode(b"B", chunk)

    def end(self, macros: tuple[tuple[str, str], ...]) -> bytes:
        """Return what tells the end of the message; only then may it be changed."""
        if self.idle:
            return b""
        self._expect("end")
        return wire.encode_macros("end", macros) + wire.encode(b"E")

    def _expect(self, stage: str) -> None:
        self.said = Said()
        if not self._protocol & wire.NO_REPLY.get(stage, 0):
            self.stage = stage

    def take(self, packet: Packet) -> bytes | None:
        """Handle one packet; afterwards ``waiting`` tells whether the answer is complete.

        Returns:
            A piece of a new body, else None.

        Raises:
            MilterError: it may not come here.
        """
        stage, command = self.stage, packet.command
        if not stage:
            raise MilterError(f"sends {command!r} unasked")
        if stage == "negotiation":
            self.options = wire.read_options(packet, self.actions)
            self.stage = ""
        elif command == b"p":
            return None  # it is still busy
        elif command in _NEEDS:
            return packet.data if self._change(packet) else None
        else:
            self._conclude(stage, packet)
            self.stage = ""
        return None

    def _change(self, packet: Packet) -> bool:
        """Note a change; True for a piece of body, which is not kept here."""
        if self.stage != "end":
            raise MilterError(f"wants to change the message at stage {self.stage}")
        options = self.options
        if options is None or not options.actions & self.actions & _NEEDS[packet.command]:
            self.ignored += 1
            return False
        if packet.command == b"b":
            return True
        if len(self.changes) >= MAX_CHANGES:
            raise MilterError(f"asks for more than {MAX_CHANGES} changes")
        self.changes.append(packet)
        return False

    def _conclude(self, stage: str, packet: Packet) -> None:
        """Take the answer that ends a stage."""
        command = packet.command
        if command == b"c":
            return
        if command == b"a":
            self.accepted = stage in _EARLY
            self.passed = stage not in _EARLY and stage != "rcpt"
        elif command == b"s" and stage == "body" and self._protocol & wire.SKIP_OFFERED:
            self.skipped = True
        elif command == b"d" and stage not in _EARLY:
            self.said = Said(discard=True)
            self.passed = True
        elif command == b"r":
            key = "end" if stage in _CONTENT or stage == "data" else stage
            self.said = Said(_REJECT.get(key, _COMMAND_REFUSED))
        elif command == b"t":
            self.said = Said(_TEMPFAIL)
        elif command == b"y":
            self.said = Said(_read_reply(packet))
        elif command in {b"4", b"f"}:
            self.said = Said(_SHUTDOWN if command == b"4" else _TEMPFAIL)
        else:
            raise MilterError(f"answers {command!r} at stage {stage}")


def _read_reply(packet: Packet) -> Reply:
    """Return the reply that a filter chose; what is none becomes a plain refusal."""
    lines = packet.words()[0].replace("%%", "%").split("\r\n")
    found = [_REPLY_RE.fullmatch(line) for line in lines]
    first = found[0]
    if first is None:
        raise MilterError("chooses a reply that is none")
    code, status = int(first[1]), first[2] or ""
    if status[:1] not in ("", first[1][0]):
        status = ""
    text = "\n".join((one[3] or "") if one is not None else "" for one in found[:50])
    return Reply(code, status or f"{code // 100}.7.1", text or "Refused by a content filter")
