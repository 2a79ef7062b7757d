"""Messages to bytes and back, for every message there is."""

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libsmx import wire, wire_control, wirebase
from libsmx.envelope import Envelope, Recipient
from libsmx.errors import PeerError
from libsmx.rcb import HEADER, MAX_FRAME, FrameReader, encode

ALL = frozenset(wirebase.NUMBERS)


def plain(cls):
    """A value of a message class with every field at something simple."""
    if cls is Envelope:
        return Envelope(
            ta_id="S000000000006B1D200", cdb_id="S000000000006B1D200", sender="a@b.example",
            rcpts=[Recipient(idx=0, address="c@d.example")], size=10, received_at=1.5,
        )  # fmt: skip
    values = {}
    for field in msgspec.inspect.type_info(cls).fields:
        values[field.encode_name] = simple(field.type)
    return cls(**values)


def simple(kind):
    info = msgspec.inspect
    match kind:
        case info.StrType():
            return "" if kind.pattern else "text"[: kind.max_length]
        case info.IntType():
            return kind.ge or 0
        case info.FloatType():
            return 1.5
        case info.BoolType():
            return True
        case info.ListType():
            return [simple(kind.item_type)]
        case info.DataclassType():
            return plain(kind.cls)
        case info.UnionType():
            return None
    raise AssertionError(kind)


@pytest.mark.parametrize("cls", sorted(ALL, key=lambda cls: cls.__name__))
def test_every_message_survives_the_wire(cls):
    value = plain(cls)
    data = encode(value, 7)
    assert list(FrameReader(ALL).feed(data)) == [(value, 7)]
    reader = FrameReader(ALL)
    got = [found for at in range(len(data)) for found in reader.feed(data[at : at + 1])]
    assert got == [(value, 7)]
    assert reader.pending == 0


def test_every_message_is_on_some_channel_and_every_channel_known():
    sent = frozenset().union(*wire.CHANNELS.values())
    assert sent == ALL
    for sender, receiver in wire.CHANNELS:
        assert (receiver, sender) in wire.CHANNELS


def test_mcp_has_no_channel():
    assert not [pair for pair in wire.CHANNELS if "mcp" in pair]


@given(st.lists(st.sampled_from(sorted(ALL, key=lambda c: c.__name__)), max_size=5), st.data())
def test_frames_may_be_cut_anywhere(classes, data):
    values = [plain(cls) for cls in classes]
    stream = b"".join(encode(value, 3) for value in values)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    reader = FrameReader(ALL)
    got = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += [message for message, _ in reader.feed(stream[start:end])]
    assert got == values


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_give_messages_or_a_peer_error(data):
    try:
        for message, _ in FrameReader(ALL).feed(data):
            assert type(message) in ALL
    except PeerError:
        pass


@given(st.sampled_from(sorted(ALL, key=lambda c: c.__name__)), st.binary(max_size=60))
def test_any_payload_gives_the_message_or_a_peer_error(cls, payload):
    frame = HEADER.pack(len(payload) + 5, wirebase.NUMBERS[cls], 1) + payload
    try:
        for message, _ in FrameReader(ALL).feed(frame):
            assert isinstance(message, cls)
    except PeerError:
        pass


def test_limits_are_checked_before_anything_is_read():
    with pytest.raises(PeerError, match="at most"):
        list(FrameReader(ALL).feed(HEADER.pack(MAX_FRAME + 1, 1, 0)))
    with pytest.raises(PeerError, match="not accepted"):
        list(FrameReader(frozenset({wire_control.Done})).feed(HEADER.pack(5, 1, 0)))


@pytest.mark.parametrize(
    "change",
    [{"ta_id": "../../etc/passwd"}, {"size": -1}, {"sender": "x" * 2000}, {"ta_id": 5}],
)
def test_values_out_of_bounds_are_refused(change):
    envelope = attrs.asdict(plain(Envelope)) | change
    payload = msgspec.msgpack.encode({"envelope": envelope})
    frame = HEADER.pack(len(payload) + 5, wirebase.NUMBERS[wire.TaCommit], 1) + payload
    with pytest.raises(PeerError, match="TaCommit"):
        list(FrameReader(ALL).feed(frame))
