r"""The grammar of smx.conf: bytes to a tree of entries, each with its place.

Kind: core.

    entries ::= entry *                        entry ::= option | section
    option  ::= name "=" ( value ";" | "{" [ value { "," value } ] "}" [ ";" ] )
    section ::= keyword [ name ] "{" entries "}" [ ";" ]
    value   ::= quoted string * | number with unit * | bare word

``#`` outside of quotes begins a comment. In quotes a backslash stands before ``"`` and ``\``,
and makes ``\n`` and ``\t``. The parser is total: any bytes give a tree and a list of problems.
After a problem it goes on behind the next ``;`` or ``}`` of the same level, so that one run
shows all mistakes.
Limits: 1 MB, 20 levels, 100 problems, names of 64 characters.
Source: SPEC rows X085-X095, X099, X103; D06, D08.
"""

import re
from typing import NoReturn

import attrs

MAX_FILE = 1_000_000
MAX_DEPTH = 20
MAX_PROBLEMS = 100
MAX_NAME = 64

_TOKEN_RE = re.compile(
    r"""(?P<space>[ \t\r\n\f\v]+|\#[^\n]*)
      | (?P<mark>[{}=;,])
      | (?P<string>"(?:[^"\\\n]|\\[^\n])*")
      | (?P<word>[^\x00-\x20{}=;,"\#\x7f\ud800-\udfff]+)
      | (?P<bad>.)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE_RE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"\\": "\\", '"': '"', "n": "\n", "t": "\t"}
_END = "end of file"


@attrs.frozen
class Place:
    """Where something stands.

    Attributes:
        origin: file name, or the command-line option it came from.
        line: from 1; 0 where the origin has no lines.
        column: from 1, in characters.
    """

    origin: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        """Return ``file:line:column``, or the origin alone."""
        return f"{self.origin}:{self.line}:{self.column}" if self.line else self.origin


@attrs.frozen
class Problem:
    """One mistake: where, and what with its remedy."""

    place: Place
    text: str

    def __str__(self) -> str:
        """Return the finished line."""
        return f"{self.place}: {self.text}"


@attrs.frozen
class Value:
    """One value, with adjacent strings joined and units still in the text."""

    text: str
    place: Place


@attrs.frozen
class Option:
    """``name = value;`` or ``name = { value, ... }``."""

    name: str
    values: tuple[Value, ...]
    braced: bool
    place: Place


@attrs.frozen
class Section:
    """``keyword [name] { ... }``."""

    keyword: str
    name: str | None
    entries: tuple["Option | Section", ...]
    place: Place


Entry = Option | Section


@attrs.frozen
class _Token:
    kind: str  # mark, string, broken (a string that does not end), word or end
    text: str
    place: Place
    end: Place


class _Mistake(Exception):
    """Leaves the entry that is being parsed; the problem is noted already."""


def parse(data: bytes, origin: str) -> tuple[tuple[Entry, ...], list[Problem]]:
    """Parse a whole file.

    Args:
        data: the content.
        origin: file name for the places.

    Returns:
        The entries that could be understood, and the problems in the order of the file.
    """
    if len(data) > MAX_FILE:
        problem = Problem(Place(origin), f"the file is larger than {MAX_FILE} bytes")
        return (), [problem]
    # undecodable bytes become lone surrogates, which the lexer refuses outside of comments
    text = data.decode("utf-8-sig", "surrogateescape")
    problems: list[Problem] = []
    parser = _Parser(_Lexer(text, origin, problems).tokens(), problems)
    entries = parser.entries(depth=0)
    if len(problems) > MAX_PROBLEMS:
        last = Problem(problems[MAX_PROBLEMS].place, "too many problems, the rest is not shown")
        problems[MAX_PROBLEMS:] = [last]
    problems.sort(key=lambda problem: (problem.place.line, problem.place.column))
    return entries, problems


class _Lexer:
    """Cuts the text into tokens; what is none becomes a problem and is left out."""

    def __init__(self, text: str, origin: str, problems: list[Problem]) -> None:
        self._text = text
        self._origin = origin
        self._problems = problems

    def tokens(self) -> list[_Token]:
        """Return all tokens and a last one of kind end."""
        found: list[_Token] = []
        line, start = 1, 0
        at = 0
        while at < len(self._text):
            match = _TOKEN_RE.match(self._text, at)
            if match is None:  # the last alternative takes anything
                break
            kind, text = str(match.lastgroup), match[0]
            place = Place(self._origin, line, at - start + 1)
            at = match.end()
            if kind == "space":
                if "\n" in text:
                    line += text.count("\n")
                    start = match.start() + text.rindex("\n") + 1
            elif kind == "bad":
                at = self._skip_bad(match.start(), place)
                if text == '"':
                    found.append(_Token("broken", "", place, place))  # so that a value is there
            else:
                if kind == "string":
                    text = self._unescape(text[1:-1], place)
                found.append(_Token(kind, text, place, Place(self._origin, line, at - start + 1)))
        end = Place(self._origin, line, at - start + 1)
        found.append(_Token("end", _END, end, end))
        return found

    def _skip_bad(self, at: int, place: Place) -> int:
        """Note what cannot begin a token and return the place to go on."""
        char = self._text[at]
        if char == '"':
            line_end = self._text.find("\n", at)
            self._note(place, "the string does not end on its line; close it and go on with "
                       "another string on the next line")  # fmt: skip
            return line_end if line_end >= 0 else len(self._text)
        if "\ud800" <= char <= "\udfff":
            self._note(place, "the file is not UTF-8 here")
        else:
            self._note(place, f"unexpected character {char!r}")
        while at < len(self._text) and _is_bad(self._text[at]):
            at += 1
        return at

    def _unescape(self, text: str, place: Place) -> str:
        for char in text:
            if _is_bad(char):
                what = "a byte that is not UTF-8" if char > "\x7f" else repr(char)
                self._note(place, f"the string holds {what}")
                break
        if "\\" not in text:
            return text
        for char in _ESCAPE_RE.findall(text):
            if char not in _ESCAPES:
                self._note(
                    place, f"unknown escape \\{char} in a string; for a backslash write \\\\"
                )
        return _ESCAPE_RE.sub(lambda match: _ESCAPES.get(match[1], match[1]), text)

    def _note(self, place: Place, text: str) -> None:
        if len(self._problems) <= MAX_PROBLEMS:
            self._problems.append(Problem(place, text))


def _is_bad(char: str) -> bool:
    """Tell whether a character may stand in a comment only."""
    return (
        (char < " " and char not in "\t\r\n\f\v") or char == "\x7f" or "\ud800" <= char <= "\udfff"
    )


class _Parser:
    """Recursive descent; the tokens end with one of kind end, which is never passed."""

    def __init__(self, tokens: list[_Token], problems: list[Problem]) -> None:
        self._tokens = tokens
        self._problems = problems
        self._at = 0
        self._in_list = False

    def entries(self, depth: int) -> tuple[Entry, ...]:
        """Parse up to the brace that closes this level (not passed) or the end of the file."""
        found: list[Entry] = []
        while True:
            token = self._peek()
            if token.kind == "end":
                break
            if token.text == "}" and token.kind == "mark":
                if depth:
                    break
                self._note(token.place, "'}' closes nothing")
                self._at += 1
                continue
            try:
                found.append(self._entry(depth))
            except _Mistake:
                self._recover()
        return tuple(found)

    def _entry(self, depth: int) -> Entry:
        head = self._peek()
        if head.kind != "word":
            self._fail(head, "the name of an option or section")
        if len(head.text) > MAX_NAME:
            self._fail(head, f"a name of at most {MAX_NAME} characters")
        self._at += 1
        follow = self._peek()
        if self._take("="):
            return self._option(head)
        name = None
        if follow.kind in ("word", "string"):
            if len(follow.text) > MAX_NAME:
                self._fail(follow, f"a name of at most {MAX_NAME} characters")
            self._at += 1
            name = follow.text
        if not self._take("{"):
            self._fail(self._peek(), f"'=' or '{{' after {head.text}" if name is None else "'{'")
        return self._section(head, name, depth)

    def _section(self, head: _Token, name: str | None, depth: int) -> Section:
        if depth >= MAX_DEPTH:
            self._note(head.place, f"sections are nested more than {MAX_DEPTH} deep")
            self._at -= 1  # at the brace, so that recovery skips the whole section
            raise _Mistake
        entries = self.entries(depth + 1)
        if self._take("}"):
            self._take(";")
        else:
            self._note(
                self._peek().place,
                f"'}}' is missing for {head.text} from line {head.place.line}",
            )
        return Section(head.text, name, entries, head.place)

    def _option(self, head: _Token) -> Option:
        if not self._take("{"):
            value = self._value(head)
            self._semicolon(head)
            return Option(head.text, (value,), braced=False, place=head.place)
        values: list[Value] = []
        self._in_list = True
        if not self._take("}"):
            while True:
                values.append(self._value(head))
                if self._take("}"):
                    break
                if not self._take(","):
                    self._fail(self._peek(), "',' or '}' in the list")
        self._in_list = False
        self._take(";")
        return Option(head.text, tuple(values), braced=True, place=head.place)

    def _value(self, head: _Token) -> Value:
        """Parse 1..n tokens: strings are joined, numbers with units are kept (D08)."""
        first = self._at
        while self._peek().kind in ("word", "string", "broken"):
            self._at += 1
        tokens = self._tokens[first : self._at]
        if not tokens:
            self._fail(self._peek(), f"a value for {head.text}")
        if len(tokens) > 1 and self._peek().text in ("=", "{"):
            # the semicolon was forgotten and the next entry read as part of the value
            tokens = self._give_back(tokens)
        place = tokens[0].place
        if all(token.kind != "word" for token in tokens):
            return Value("".join(token.text for token in tokens), place)
        numbers = all(token.kind == "word" for token in tokens) and tokens[0].text[0].isdigit()
        if len(tokens) == 1 or numbers:
            return Value(" ".join(token.text for token in tokens), place)
        self._note(
            tokens[1].place, f"{head.text} has more than one word; put the value into quotes"
        )
        raise _Mistake

    def _give_back(self, tokens: list[_Token]) -> list[_Token]:
        """Return the tokens of the value alone, and go back to the first behind it."""
        last_line = tokens[-1].place.line
        keep = [token for token in tokens if token.place.line != last_line]
        keep = keep or tokens[:-1]
        self._at -= len(tokens) - len(keep)
        return keep

    def _semicolon(self, head: _Token) -> None:
        last = self._tokens[self._at - 1]
        if not self._take(";") and last.kind != "broken":
            # nothing is skipped: what follows is the next entry, or closes the section
            token = self._peek()
            self._note(last.end, f"';' is missing after the value of {head.text}")
            if token.text in ("=", ","):
                raise _Mistake

    def _recover(self) -> None:
        """Skip to behind the ';' that ends this entry, or to the '}' that ends its section."""
        depth = 1 if self._in_list else 0
        in_list, self._in_list = self._in_list, False
        while True:
            token = self._peek()
            if token.kind == "end":
                return
            mark = token.text if token.kind == "mark" else ""
            if mark == "}" and depth == 0:
                return
            self._at += 1
            depth += (mark == "{") - (mark == "}")
            if (depth == 0 and mark in (";", "}")) or (in_list and mark == ";"):
                self._take(";")
                return

    def _peek(self) -> _Token:
        return self._tokens[self._at]

    def _take(self, mark: str) -> bool:
        token = self._tokens[self._at]
        if token.kind == "mark" and token.text == mark:
            self._at += 1
            return True
        return False

    def _fail(self, token: _Token, expected: str) -> NoReturn:
        found = token.text if token.kind == "end" else repr(token.text[:40])
        self._note(token.place, f"found {found} instead of {expected}")
        raise _Mistake

    def _note(self, place: Place, text: str) -> None:
        if len(self._problems) <= MAX_PROBLEMS:
            self._problems.append(Problem(place, text))
