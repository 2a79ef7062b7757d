r"""Maps of regular expressions that cost time linear in the key, whatever the expressions are.

Kind: core.

A line is ``/expression/`` and a value; the first line whose expression is found in the key
answers. Python's own matcher would go back and forth, which some keys make take hours; here all
expressions of a map are one automaton whose states are made when they are first needed, so that
a key is read once, however many lines there are.

An expression is looked for anywhere in the key, which is lower case; ``^`` and ``$`` tie it to the
ends. It knows ``.``, ``[...]``, ``\d``, ``\w``, ``\s``, their opposites in upper case, groups,
``|``, ``*``, ``+``, ``?``, ``{m,n}``. It does not know references to groups and looking around.
Limits: MAX_NODES nodes a map, MAX_REPEAT repetitions, MAX_CACHED steps kept.
Source: SPEC row X208 (an addition to its types).
"""

from collections.abc import Callable, Iterable

import attrs

from libsmx.maptext import MapText, cut, read_map_text

MAX_NODES = 20_000
MAX_REPEAT = 255
MAX_CACHED = 50_000
MAX_DEPTH = 50

Test = Callable[[str], bool]

_CLASSES: dict[str, Test] = {
    "d": lambda char: "0" <= char <= "9",
    "w": lambda char: char.isalnum() or char == "_",
    "s": str.isspace,
}


@attrs.define
class _Node:
    """A state: goes on to ``then`` by one character, or (test is None) by none.

    ``when`` is ^ or $ where the step holds at that end of the key only; ``accepts`` is the number
    of a line.
    """

    test: Test | None = None
    then: list[int] = attrs.Factory(list)
    when: str = ""
    accepts: int = -1


@attrs.define(eq=False)
class _State:
    """A set of nodes, and what is known of it already."""

    nodes: frozenset[int]
    accepts: int
    """Line that is found here, -1 for none."""
    at_end: int
    """The same if the key ends here."""
    then: dict[str, "_State"] = attrs.Factory(dict)


class RegexTable:
    """Expressions and their values.

    Args:
        entries: expression between slashes, value.

    Raises:
        ValueError: an expression cannot be read, or all are too large.
    """

    def __init__(self, entries: dict[str, str]) -> None:
        self._values = list(entries.values())
        self._nodes: list[_Node] = []
        self._cached = 0
        self._states: dict[frozenset[int], _State] = {}
        starts = [_Parser(text, self._nodes).add(number) for number, text in enumerate(entries)]
        self._starts = frozenset(starts)
        self._begin = self._begin_state()
        self._restart = self._close(starts, "")

    def __len__(self) -> int:
        return len(self._values)

    def starts(self, prefix: str) -> bool:
        """Return True: an expression may match any key."""
        return bool(self._values) or not prefix

    def close(self) -> None:
        """Nothing is to be given back."""

    def get(self, key: str) -> str | None:
        """Return the value of the first line whose expression is found in a key."""
        best = len(self._values)
        state = self._begin
        for char in key:
            if 0 <= state.accepts < best:
                best = state.accepts
            state = state.then.get(char) or self._step(state, char)
        for accepts in (state.accepts, state.at_end):
            if 0 <= accepts < best:
                best = accepts
        return self._values[best] if best < len(self._values) else None

    def _step(self, state: _State, char: str) -> _State:
        """Return the state behind a character, and remember it."""
        if self._cached >= MAX_CACHED:
            self._cached = 0
            self._states.clear()
            self._begin = self._begin_state()
            state = self._state(state.nodes)
        reached = [
            target
            for number in state.nodes
            if (test := self._nodes[number].test) is not None and test(char)
            for target in self._nodes[number].then
        ]
        found = self._state(self._close(reached, "") | self._restart)
        state.then[char] = found
        self._cached += 1
        return found

    def _begin_state(self) -> _State:
        """Return the state before the key; if that is empty both its ends are here."""
        nodes = self._close(self._starts, "^")
        return _State(nodes, self._accepted(nodes), self._accepted(self._close(nodes, "^$")))

    def _state(self, nodes: frozenset[int]) -> _State:
        found = self._states.get(nodes)
        if found is None:
            ends = self._close(nodes, "$")
            found = _State(nodes, self._accepted(nodes), self._accepted(ends))
            self._states[nodes] = found
        return found

    def _accepted(self, nodes: frozenset[int]) -> int:
        return min((n for at in nodes if (n := self._nodes[at].accepts) >= 0), default=-1)

    def _close(self, nodes: Iterable[int], where: str) -> frozenset[int]:
        """Return the nodes that are reached without a character.

        Args:
            nodes: where to begin.
            where: the ends of the key that are here: ^, $, both or none.
        """
        seen: set[int] = set()
        waiting = list(nodes)
        while waiting:
            number = waiting.pop()
            if number in seen:
                continue
            seen.add(number)
            node = self._nodes[number]
            if node.test is None and (not node.when or node.when in where):
                waiting += node.then
        return frozenset(seen)


class _Parser:
    """Reads one expression into nodes; every method returns (first node, open ends)."""

    def __init__(self, text: str, nodes: list[_Node]) -> None:
        if len(text) < 3 or text[0] != "/" or text[-1] != "/":
            raise ValueError(f"{text[:40]!r}: write the expression between slashes")
        self._text = text[1:-1]
        self._at = 0
        self._depth = 0
        self._nodes = nodes

    def add(self, number: int) -> int:
        """Add the expression as that of a line; return its first node."""
        first, ends = self._either()
        if self._at < len(self._text):
            raise self._error("a closing parenthesis without its opening one")
        self._join(ends, self._node(_Node(accepts=number)))
        return first

    def _error(self, text: str) -> ValueError:
        return ValueError(f"/{self._text[:60]}/, character {self._at + 1}: {text}")

    def _node(self, node: _Node) -> int:
        if len(self._nodes) >= MAX_NODES:
            raise self._error(f"the expressions need more than {MAX_NODES} nodes together")
        self._nodes.append(node)
        return len(self._nodes) - 1

    def _join(self, ends: list[int], target: int) -> None:
        for end in ends:
            self._nodes[end].then.append(target)

    def _peek(self) -> str:
        return self._text[self._at] if self._at < len(self._text) else ""

    def _take(self) -> str:
        char = self._peek()
        if not char:
            raise self._error("the expression ends too early")
        self._at += 1
        return char

    def _either(self) -> tuple[int, list[int]]:
        """Branch | branch ..."""
        fork = self._node(_Node())
        first, ends = self._sequence()
        self._join([fork], first)
        while self._peek() == "|":
            self._at += 1
            first, more = self._sequence()
            self._join([fork], first)
            ends += more
        return fork, ends

    def _sequence(self) -> tuple[int, list[int]]:
        first = self._node(_Node())
        ends = [first]
        while self._peek() not in ("", "|", ")"):
            start, more = self._repeated()
            self._join(ends, start)
            ends = more
        return first, ends

    def _repeated(self) -> tuple[int, list[int]]:
        """An atom and what stands behind it: *, +, ?, {m,n}."""
        at = self._at
        first, ends = self._atom()
        low, high = self._count()
        if (low, high) == (1, 1):
            return first, ends
        if self._peek() in ("*", "+", "?", "{"):
            raise self._error("one repetition behind another; put the inner one into a group")
        behind, opening = self._at, self._node(_Node())
        now = [opening]
        exits: list[int] = []
        for number in range(max(low, high or low, 1)):
            self._at = at
            first, ends = self._atom()
            if number >= low:
                exits += now
            self._join(now, first)
            now = ends
        if high is None:
            loop = self._node(_Node())
            self._join(now, loop)
            self._join([loop], first)
            now = [loop]
            if low == 0:
                exits.append(opening)
        self._at = behind
        return opening, exits + now

    def _count(self) -> tuple[int, int | None]:
        """Return least and greatest number of an atom, None for any."""
        char = self._peek()
        if char not in ("*", "+", "?", "{"):
            return 1, 1
        self._at += 1
        if char != "{":
            return (0 if char in "*?" else 1), (1 if char == "?" else None)
        end = self._text.find("}", self._at)
        low, comma, high = self._text[self._at : max(end, self._at)].partition(",")
        if end < 0 or not low.isdecimal() or (high and not high.isdecimal()) or len(low + high) > 6:
            raise self._error("write a repetition as {3}, {2,5} or {2,}")
        self._at = end + 1
        most = int(low) if not comma else int(high) if high else None
        if int(low) > MAX_REPEAT or (most or 0) > MAX_REPEAT or (most or int(low)) < int(low):
            raise self._error(f"a repetition goes up to {MAX_REPEAT}, the smaller number first")
        return int(low), most

    def _atom(self) -> tuple[int, list[int]]:
        char = self._take()
        if char == "(":
            return self._group()
        if char in "^$":
            number = self._node(_Node(when=char))
            return number, [number]
        if char in "*+?{":
            raise self._error(f"{char} repeats nothing; write \\{char} for the character")
        if char == "[":
            test = self._class()
        elif char == ".":
            test = _any
        elif char == "\\":
            test = self._escape()
        else:
            test = _is(char)
        number = self._node(_Node(test))
        return number, [number]

    def _group(self) -> tuple[int, list[int]]:
        if self._text.startswith("?", self._at):
            if not self._text.startswith("?:", self._at):
                raise self._error("(?...) is known as (?:...) only")
            self._at += 2
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"groups are nested more than {MAX_DEPTH} deep")
        found = self._either()
        self._depth -= 1
        if self._peek() != ")":
            raise self._error("a closing parenthesis is missing")
        self._at += 1
        return found

    def _escape(self) -> Test:
        char = self._take()
        if char.lower() in _CLASSES:
            test = _CLASSES[char.lower()]
            return test if char.islower() else lambda one: not test(one)
        if char.isalnum():
            raise self._error(f"\\{char} is not known")
        return _is(char)

    def _class(self) -> Test:
        """The inside of [...]."""
        negative = self._peek() == "^"
        self._at += negative
        tests: list[Test] = []
        while not tests or self._peek() != "]":
            char = self._take()
            if char == "\\":
                tests.append(self._escape())
                continue
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("", "]"):
                self._at += 1
                last = self._take()
                if last == "\\" or last < char:
                    raise self._error("a range goes from the smaller character to the larger")
                tests.append(_range(char, last))
            else:
                tests.append(_is(char))
        self._at += 1
        return lambda one: any(test(one) for test in tests) is not negative


def _any(_: str) -> bool:
    return True


def _is(char: str) -> Test:
    folded = char.lower()
    return lambda one: one == folded


def _range(first: str, last: str) -> Test:
    return lambda one: first <= one <= last or first <= one.upper() <= last


def read_regex(lines: Iterable[bytes]) -> MapText:
    """Read a map of regular expressions."""
    found = read_map_text(lines, keep_case=True, check=_check)
    if not found.problems:
        try:
            RegexTable(found.entries)
        except ValueError as error:
            return attrs.evolve(found, problems=cut([str(error)]))
    return found


def _check(key: str, _: str) -> str:
    RegexTable({key: ""})
    return ""
