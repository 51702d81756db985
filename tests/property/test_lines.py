"""Lines are the same however the bytes arrive."""

import gzip
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from permutive_worker.errors import InputError
from permutive_worker.sources.formats import HEAD_BYTES, GzipDecoder, LineSplitter, decoder_for
from permutive_worker.sources.reader import NamedOrigin

BOM = b"\xef\xbb\xbf"

texts = st.lists(
    st.sampled_from([b"\n", b"\r\n", b"\r", BOM, b"a", b"{}", b'{"user_id":"x"}', b"y" * 30, b"\xff\x00"]),
    max_size=40,
).map(b"".join)


def cut(data, cuts):
    """`data` in pieces that begin at `cuts`."""
    edges = sorted({0, *(cut % (len(data) + 1) for cut in cuts), len(data)})
    return [data[begin:end] for begin, end in pairwise(edges)]


def reference(text, max_line_bytes):
    """What a whole-file reading gives: raw, offset, number, oversize_bytes."""
    lines, offset = [], 0
    for number, line in enumerate(text.split(b"\n"), 1):
        raw = line.removeprefix(BOM) if number == 1 else line
        raw = raw.removesuffix(b"\r")
        oversize = len(raw) > max_line_bytes
        lines.append((raw[:HEAD_BYTES] if oversize else raw, offset, number, len(raw) if oversize else 0))
        offset += len(line) + 1
    return lines if text and not text.endswith(b"\n") else lines[:-1]


def as_tuples(lines):
    return [(line.raw, line.place, line.number, line.oversize_bytes) for line in lines]


def gunzip(pieces):
    """The text, and whether it ended well."""
    decoder, text = GzipDecoder("x"), b""
    try:
        for piece in pieces:
            for block in decoder.feed(piece):
                text += block
        decoder.finish()
    except InputError:
        return text, False
    return text, True


@given(texts, st.lists(st.integers(0, 2_000)), st.sampled_from([1, 5, 40, 5_000]))
def test_any_blocks_give_the_same_lines(text, cuts, max_line_bytes):
    splitter = LineSplitter(NamedOrigin("x"), max_line_bytes)

    lines = [line for block in cut(text, cuts) for line in splitter.feed(block)] + splitter.finish()

    assert as_tuples(lines) == reference(text, max_line_bytes)


@given(texts, st.integers(0, 40))
def test_reading_resumed_at_a_line_gives_the_rest(text, given_lines):
    whole = reference(text, 1_000)
    splitter = LineSplitter(NamedOrigin("x"), 1_000)
    first = (splitter.feed(text) + splitter.finish())[:given_lines]
    offset = whole[len(first)][1] if len(first) < len(whole) else len(text)

    resumed = LineSplitter(NamedOrigin("x"), 1_000, offset=offset, number=len(first) + 1)

    assert as_tuples(first + resumed.feed(text[offset:]) + resumed.finish()) == whole


@given(
    st.lists(st.tuples(texts, st.integers(0, 9), st.integers(0, 3)), min_size=1, max_size=5),
    st.lists(st.integers(0, 2_000)),
)
def test_gzip_members_cut_anywhere_give_their_text(members, cuts):
    stored = b"".join(gzip.compress(text, level) + b"\0" * padding for text, level, padding in members)

    assert gunzip(cut(stored, cuts)) == (b"".join(text for text, _, _ in members), True)


@given(st.lists(texts, min_size=1, max_size=3), st.integers(0, 2_000), st.lists(st.integers(0, 2_000)))
def test_gzip_cut_short_gives_a_prefix_and_says_so(members, length, cuts):
    stored = [gzip.compress(text) for text in members]
    whole = b"".join(stored)
    length %= len(whole)
    ends = [len(b"".join(stored[: count + 1])) for count in range(len(stored))]

    text, ended_well = gunzip(cut(whole[:length], cuts))

    assert b"".join(members).startswith(text)
    assert text.startswith(
        b"".join(member for member, end in zip(members, ends, strict=True) if end <= length)
    )
    assert ended_well == (length in ends)


@given(texts, st.integers(0, 2_000), st.integers(1, 255))
def test_damaged_gzip_never_crashes_and_never_hides_it(text, at, flip):
    stored = bytearray(gzip.compress(text, mtime=0))
    stored[at % len(stored)] ^= flip

    got, ended_well = gunzip([bytes(stored)])

    assert not ended_well or got == text


@given(st.binary(max_size=20))
def test_any_first_bytes_are_text_gzip_or_refused(head):
    try:
        decoder = decoder_for(head, "x")
        assert b"".join(decoder.feed(head)) == (b"" if isinstance(decoder, GzipDecoder) else head)
    except InputError as error:
        assert str(error).startswith("x ")
