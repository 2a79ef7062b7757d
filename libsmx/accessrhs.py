"""Entries of the access map: tags, and what a right-hand side says.

Kind: core. createmap checks with it, the resolver obeys it.

::

    RHS ::= ["quick:"] decision | "cont"
    decision ::= "relay" | "ok" | "reject" | "discard" | "error:" XYZ [A.B.C] text
    RHS of protectedrcpt: ::= restriction {" " restriction}
    restriction ::= "from:" address | "cltaddr:" address | "list:" alias

Tags and words are read in any case; the text of an error is kept as it stands. Every function is
total: any text gives a value or ValueError with a text that says what to write instead.
Source: README 3.9.3, 3.10.2; SPEC rows X274-X299, X402-X406; decisions D21, D54, D55.
"""

import enum
import re

import attrs

from libsmx.maptext import fold

MAX_ERROR = 480
"""Longest text of an error; RFC 5321 4.5.3.1.5 gives a reply line 512 bytes."""
MAX_RESTRICTIONS = 100
BUILT_IN_TAGS = (
    "from", "to", "cltaddr", "cltname", "cltresolve", "mxbadip", "certissuer", "certsubject",
    "protectedrcpt",
)  # fmt: skip
RELAY_TAGS = frozenset({"to", "cltaddr", "cltname", "certissuer", "certsubject"})
"""Tags for which relay means something (SPEC row X293)."""
RESOLVE_KEYS = ("ok", "no", "tempptr", "tempa")

_ERROR_RE = re.compile(r"([0-9]{3})(?:[ \t]+([245]\.[0-9]{1,3}\.[0-9]{1,3}))?(?:[ \t]+(.*))?")
_KEY_RE = re.compile(r"([a-z][a-z0-9_-]*):(.+)")
_NET_RE = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){0,3}|ipv6:[0-9a-f:.]+")
_WORDS = ", ".join(("relay", "ok", "reject", "discard", "cont", "error:XYZ A.B.C text"))


class Action(enum.Enum):
    """What an entry wants; the value is the word in the map."""

    RELAY = "relay"
    OK = "ok"
    ERROR = "error"
    DISCARD = "discard"
    CONT = "cont"


@attrs.frozen
class Rule:
    """A right-hand side.

    Attributes:
        action: what to do; reject is an error.
        quick: the modifier stood before it.
        code, status, text: of an error.
    """

    action: Action
    quick: bool = False
    code: int = 0
    status: str = ""
    text: str = ""

    @property
    def mark(self) -> str:
        """Return ok, relay, quick:ok or quick:relay, "" for everything else."""
        if self.action not in (Action.OK, Action.RELAY):
            return ""
        return f"quick:{self.action.value}" if self.quick else self.action.value


CONT = Rule(Action.CONT)
_REJECT = Rule(Action.ERROR, code=550, status="5.7.0", text="Rejected.")


def parse_rhs(value: str) -> Rule:
    """Return what a right-hand side says.

    Raises:
        ValueError: it says nothing that is known.
    """
    text = value.strip()
    quick = text[:6].lower() == "quick:"
    if quick:
        text = text[6:].lstrip()
    word = text.lower()
    if word[:6] == "error:":
        return attrs.evolve(_parse_error(text[6:].strip()), quick=quick)
    if word == "reject":
        return attrs.evolve(_REJECT, quick=quick)
    try:
        action = Action(word)
    except ValueError:
        action = None
    if action is None or action is Action.ERROR:
        raise ValueError(f"{value[:40]!r} is none of {_WORDS}")
    if quick and action is Action.CONT:
        raise ValueError("quick: cannot stand before cont")
    return Rule(action, quick)


def _parse_error(text: str) -> Rule:
    found = _ERROR_RE.fullmatch(text)
    if found is None or found[1][0] not in "45":
        raise ValueError(f"error:{text[:30]!r} needs a reply code from 400 to 599")
    code, status, words = int(found[1]), found[2], (found[3] or "").strip()
    if status is None:
        status = f"{code // 100}.0.0"
    elif status[0] != found[1][0]:
        raise ValueError(f"enhanced code {status} is of another class than {code}")
    if len(words) > MAX_ERROR:
        raise ValueError(f"the text of the error is longer than {MAX_ERROR} characters")
    if any(not " " <= char <= "~" for char in words):
        raise ValueError("the text of the error holds a character that is not printable ASCII")
    return Rule(Action.ERROR, code=code, status=status, text=words or "Rejected.")


@attrs.frozen
class Restriction:
    """One word of a protected recipient's entry: ``kind`` is from, cltaddr or list."""

    kind: str
    value: str
    """Folded; "" for ``from:<>``."""


def parse_restrictions(value: str) -> tuple[Restriction, ...]:
    """Return the restrictions of a protected recipient, in order.

    Raises:
        ValueError: one of them is none.
    """
    words = value.split()
    if len(words) > MAX_RESTRICTIONS:
        raise ValueError(f"more than {MAX_RESTRICTIONS} restrictions")
    found = []
    for word in words:
        kind, colon, rest = word.partition(":")
        if not colon or not rest or kind.lower() not in ("from", "cltaddr", "list"):
            raise ValueError(
                f"{word[:40]!r} is no restriction; write from:ADDR, cltaddr:ADDR or list:ALIAS"
            )
        if rest.startswith("<") and rest.endswith(">"):
            rest = rest[1:-1]
        found.append(Restriction(kind.lower(), fold(rest)))
    if not found:
        raise ValueError("there is no restriction")
    return tuple(found)


def check_entry(key: str, value: str) -> str:
    """Check one entry of an access map; return a warning, "" where nothing is odd.

    Raises:
        ValueError: the entry cannot be obeyed.
    """
    found = _KEY_RE.fullmatch(fold(key))
    if found is None:
        raise ValueError(f"key {key[:40]!r} needs a tag, as from:, to: or cltaddr:")
    tag, rest = found.groups()
    if tag == "protectedrcpt":
        parse_restrictions(value)
        return ""
    rule = parse_rhs(value)
    if rule.action is Action.RELAY and tag not in RELAY_TAGS:
        return f"{tag}: cannot permit relaying; the entry will be taken as cont"
    return _odd_key(tag, rest)


def _odd_key(tag: str, rest: str) -> str:
    """Return why a key will never be found, "" where it may be."""
    if tag == "cltresolve" and rest not in RESOLVE_KEYS:
        return f"cltresolve: knows {', '.join(RESOLVE_KEYS)} only"
    if tag in ("cltaddr", "mxbadip") and not _NET_RE.fullmatch(rest):
        return f"{rest[:40]} is no address or leading part of one; write 10.1, or IPv6:2001:db8"
    domain = rest if tag == "cltname" else rest.rpartition("@")[2] if "@" in rest else ""
    if not domain.isascii():
        return f"{rest[:40]} is looked up with its domain in A-labels (xn--...)"
    if tag in ("from", "to") and "@" not in rest and "." in rest:
        return f"{rest[:40]} is looked up as a local part; a domain needs an @ before it"
    return ""
