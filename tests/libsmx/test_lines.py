"""Lines and data: exact ends, no smuggling, however the bytes are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libsmx.lines import DataReader, DotStuffer, LineError, LineFault, LineReader


def read_lines(chunks, limit=2048):
    """Feed chunks; return lines and faults in order."""
    reader, found = LineReader(limit), []
    for chunk in chunks:
        reader.feed(chunk)
        while True:
            try:
                line = reader.next_line()
            except LineError as error:
                found.append(error.kind)
                if error.kind is not LineFault.TOO_LONG:
                    return found
                continue
            if line is None:
                break
            found.append(line)
    return found


def cuts(data):
    """Return data whole, in single bytes, and cut at every place."""
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]


LINES = [
    (b"", []),
    (b"NOOP\r\n", [b"NOOP"]),
    (b"\r\n", [b""]),
    (b"A\r\nB\r\nC", [b"A", b"B"]),
    (b"A\n", [LineFault.BARE_LF]),
    (b"\n", [LineFault.BARE_LF]),
    (b"A\r\nB\nC\r\n", [b"A", LineFault.BARE_LF]),
    (b"A\rB\r\n", [LineFault.BARE_CR]),
    (b"A\r\r\n", [LineFault.BARE_CR]),
    (b"x" * 19 + b"\r\nB\r\n", [LineFault.TOO_LONG, b"B"]),
    (b"x" * 18 + b"\r\nB\r\n", [b"x" * 18, b"B"]),
    (b"x" * 50 + b"\r\nB\r\n", [LineFault.TOO_LONG, b"B"]),
    (b"x" * 50 + b"\ny\r\r\nB\r\n", None),
]


@pytest.mark.parametrize(("data", "lines"), LINES)
def test_lines_are_read_however_the_bytes_arrive(data, lines):
    for chunks in cuts(data):
        found = read_lines(chunks, limit=20)
        if lines is None:
            # an overlong line with a bare LF: refused, one way or the other
            assert found[0] in {LineFault.TOO_LONG, LineFault.BARE_LF}
        else:
            assert found == lines


def test_endless_line_is_given_up_and_never_kept():
    reader = LineReader()
    kinds = []
    for _ in range(2000):
        reader.feed(b"x" * 1000)
        try:
            assert reader.next_line() is None
        except LineError as error:
            kinds.append(error.kind)
        assert len(reader._buffer) <= 4096
    assert kinds[0] is LineFault.TOO_LONG
    assert set(kinds[1:]) == {LineFault.ENDLESS}


@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"\r", b"\n", b"\r\n", b"x" * 30])))
def test_any_bytes_are_lines_or_faults_within_bounds(chunks):
    for found in read_lines(chunks, limit=25):
        assert isinstance(found, LineFault) or (len(found) <= 23 and b"\n" not in found)


def read_data(chunks):
    """Feed chunks; return content and rest, or the fault."""
    reader, content = DataReader(), []
    for at, chunk in enumerate(chunks):
        try:
            part, done, rest = reader.feed(chunk)
        except LineError as error:
            return error.kind
        content.append(part)
        if done:
            return b"".join(content), rest + b"".join(chunks[at + 1 :])
        assert rest == b""
        assert len(reader._carry) <= 4
    return b"".join(content), None


DATA = [
    (b".\r\n", (b"", b"")),
    (b".\r\nQUIT\r\n", (b"", b"QUIT\r\n")),
    (b"a\r\n.\r\nQUIT\r\n", (b"a\r\n", b"QUIT\r\n")),
    (b"\r\n.\r\n", (b"\r\n", b"")),
    (b"a\r\n..b\r\n...\r\n.\r\n", (b"a\r\n.b\r\n..\r\n", b"")),
    (b"..\r\n.\r\n", (b".\r\n", b"")),
    (b".a\r\n.\r\n", (b"a\r\n", b"")),
    (b"a.\r\n.\r\n", (b"a.\r\n", b"")),
    (b"a\r\n. \r\n.\r\n", (b"a\r\n \r\n", b"")),
    (b"a\r\n.\x00\r\n.\r\n", (b"a\r\n\x00\r\n", b"")),
    (b"a\r\n\x00.\r\n.\r\n", (b"a\r\n\x00.\r\n", b"")),
    (b"a\r\n.\r\n.\r\n", (b"a\r\n", b".\r\n")),
    (b"a\xc2\x85.\xe2\x80\xa8.\r\n.\r\n", (b"a\xc2\x85.\xe2\x80\xa8.\r\n", b"")),
    (b"a\r\n.\r\nMAIL\n", (b"a\r\n", b"MAIL\n")),
]


@pytest.mark.covers("X002")
@pytest.mark.parametrize(("data", "want"), DATA)
def test_data_is_read_however_the_bytes_arrive(data, want):
    for chunks in cuts(data):
        assert read_data(chunks) == want


BREAKS = [b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\0\n", b"\n\n", b"\r\r", b"\n\r\n"]


@pytest.mark.covers("X002")
@pytest.mark.parametrize("before", [b"\r\n", *BREAKS])
@pytest.mark.parametrize("after", [b"\r\n", *BREAKS])
@pytest.mark.parametrize("dot", [b".", b"..", b". ", b"\0.", b".\t"])
def test_only_crlf_dot_crlf_ends_data(before, after, dot):
    """Every other pair of line ends around the dot is refused: the smuggling table."""
    if (before, after) == (b"\r\n", b"\r\n"):
        return
    data = b"Subject: x\r\n\r\nhello" + before + dot + after + b"MAIL FROM:<evil@a.example>\r\n"
    for chunks in cuts(data):
        assert read_data(chunks) in {LineFault.BARE_CR, LineFault.BARE_LF}


@pytest.mark.parametrize("size", [998, 1000, 2048, 4096, 8192, 65536])
@pytest.mark.parametrize("off", [-3, -2, -1, 0, 1])
def test_dot_at_the_edge_of_a_buffer_is_seen(size, off):
    data = b"x" * (size + off) + b"\r\n.\r\nQUIT\r\n"
    chunks = [data[i : i + size] for i in range(0, len(data), size)]
    assert read_data(chunks) == (b"x" * (size + off) + b"\r\n", b"QUIT\r\n")


contents = st.lists(
    st.sampled_from([b".", b"..", b"\r\n", b"a", b"\r\n.", b"text", b"\0", b"\xff"]) | st.binary()
).map(lambda parts: b"".join(parts).replace(b"\r\n", b"\n").replace(b"\r", b"")
      .replace(b"\n", b"\r\n"))  # fmt: skip


@given(contents, st.integers(1, 7), st.integers(1, 7))
def test_what_is_stuffed_reads_back(content, out_step, in_step):
    stuffer = DotStuffer()
    parts = [content[i : i + out_step] for i in range(0, len(content), out_step)]
    wire = b"".join([stuffer.encode(part) for part in parts]) + stuffer.end()
    chunks = [wire[i : i + in_step] for i in range(0, len(wire), in_step)]
    if content and not content.endswith(b"\r\n"):
        content += b"\r\n"
    assert read_data(chunks) == (content, b"")


@given(st.lists(st.binary(max_size=20) | st.sampled_from([b"\r\n.", b".", b"\r", b"\r\n"])))
def test_any_bytes_are_content_or_a_fault(chunks):
    whole = b"".join(chunks)
    found = read_data(chunks)
    if isinstance(found, LineFault):
        assert found in {LineFault.BARE_CR, LineFault.BARE_LF}
    elif found[1] is None:
        assert b"\r\n.\r\n" not in b"\r\n" + whole
    else:
        assert whole.endswith(b".\r\n" + found[1])


@pytest.mark.parametrize(("content", "end"), [
    (b"", b".\r\n"),
    (b"a\r\n", b".\r\n"),
    (b"a", b"\r\n.\r\n"),
    (b"a\n", b"\r\n.\r\n"),
    (b"a\r", b"\r\n.\r\n"),
])  # fmt: skip
def test_end_of_data_stands_on_a_line_of_its_own(content, end):
    stuffer = DotStuffer()
    for at in range(len(content)):
        stuffer.encode(content[at : at + 1])
    assert stuffer.end() == end


def test_dot_after_a_lone_lf_is_doubled_too():
    stuffer = DotStuffer()
    assert stuffer.encode(b"a\n.\nb\n") + stuffer.encode(b".\n") == b"a\n..\nb\n..\n"
