"""Formats by their first bytes, gzip, and where each line begins."""

import gzip
import zlib

import pytest

from permutive_worker.errors import InputError
from permutive_worker.sources.formats import (
    HEAD_BYTES,
    PIECE_BYTES,
    GzipDecoder,
    LineSplitter,
    PlainDecoder,
    decoder_for,
    is_undecided,
    refusal,
)
from permutive_worker.sources.reader import NamedOrigin


def splitter(max_line_bytes=1_000, **resumed):
    return LineSplitter(NamedOrigin("x"), max_line_bytes, **resumed)


def split(*blocks, max_line_bytes=1_000):
    lines = splitter(max_line_bytes)
    return [line for block in blocks for line in lines.feed(block)] + lines.finish()


def raws(*blocks):
    return [line.raw for line in split(*blocks)]


def gunzip(stored, block_bytes=1 << 20):
    """The pieces, and the error that ended them."""
    decoder, pieces = GzipDecoder("x.gz"), []
    try:
        for at in range(0, len(stored), block_bytes):
            pieces += decoder.feed(stored[at : at + block_bytes])
        decoder.finish()
    except InputError as error:
        return pieces, str(error)
    return pieces, None


def test_lines_have_their_offset_and_number():
    lines = split(b"ab\nc\n", b"\nde")

    assert [(line.raw, line.place, line.number) for line in lines] == [
        (b"ab", 0, 1),
        (b"c", 3, 2),
        (b"", 5, 3),
        (b"de", 6, 4),
    ]


def test_a_position_is_name_and_line_number():
    assert split(b"a\nb\n")[1].position == "x:2"


def test_no_line_after_the_last_line_end():
    assert raws(b"a\n") == [b"a"]
    assert raws(b"") == raws() == []


@pytest.mark.parametrize("blocks", [[b"a\r\nb\r\n\r\nc\r\n"], [b"a\r", b"\nb\r\n\r", b"\nc", b"\r", b"\n"]])
def test_carriage_returns_before_line_ends_go(blocks):
    lines = split(*blocks)

    assert [line.raw for line in lines] == [b"a", b"b", b"", b"c"]
    assert [line.place for line in lines] == [0, 3, 6, 8]


def test_a_carriage_return_within_a_line_stays():
    assert raws(b"a\rb\nc\rd\n") == [b"a\rb", b"c\rd"]


def test_bom_of_the_first_line_goes():
    assert raws(b"\xef", b"\xbb\xbfa\n\xef\xbb\xbfb\n") == [b"a", b"\xef\xbb\xbfb"]
    assert raws(b"\xef\xbb\xbf") == [b""]


def test_bom_is_kept_where_reading_is_resumed():
    assert splitter(offset=5, number=3).feed(b"\xef\xbb\xbfa\n")[0].raw == b"\xef\xbb\xbfa"


def test_resumed_lines_count_on():
    lines = splitter(offset=100, number=8)

    (line,) = lines.feed(b"abc\nd")

    assert (line.place, line.number) == (100, 8)
    assert (lines.offset, lines.number) == (104, 9)


@pytest.mark.parametrize("block_bytes", [1, 7, 10_000])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b""])
def test_a_line_at_the_bound_is_whole_and_one_beyond_is_cut(ending, block_bytes):
    text = b"\xef\xbb\xbf" + b"a" * 5_000 + b"\n" + b"b" * 5_001 + b"\n" + b"c" * 5_000 + ending
    blocks = [text[at : at + block_bytes] for at in range(0, len(text), block_bytes)]

    lines = split(*blocks, max_line_bytes=5_000)

    assert [(line.raw, line.oversize_bytes) for line in lines] == [
        (b"a" * 5_000, 0),
        (b"b" * HEAD_BYTES, 5_001),
        (b"c" * 5_000, 0),
    ]


def test_an_oversize_line_within_one_block_is_cut():
    lines = split(b"a\n" + b"b" * 11 + b"\r\n" + b"c" * 10 + b"\n", max_line_bytes=10)

    assert [(line.raw, line.oversize_bytes) for line in lines] == [
        (b"a", 0),
        (b"b" * 11, 11),
        (b"c" * 10, 0),
    ]


def test_the_line_after_an_oversize_one_has_its_offset():
    lines = split(b"x" * 9_000, b"x" * 9_000 + b"\nnext", max_line_bytes=100)

    assert [(line.place, line.number, line.oversize_bytes) for line in lines] == [
        (0, 1, 18_000),
        (18_001, 2, 0),
    ]


def test_formats_are_told_by_their_first_bytes():
    assert isinstance(decoder_for(gzip.compress(b"x"), "x.ndjson"), GzipDecoder)
    assert isinstance(decoder_for(b'{"a":1}', "x.gz"), PlainDecoder)


@pytest.mark.parametrize(
    ("head", "tool"),
    [
        (b"\x28\xb5\x2f\xfd\x04", "zstdcat"),
        (b"BZh91AY", "bzcat"),
        (b"\xfd7zXZ\x00\x00", "xzcat"),
        (b"PK\x03\x04\x14", "unzip -p"),
    ],
)
def test_other_formats_are_refused_with_the_tool_that_reads_them(head, tool):
    with pytest.raises(InputError, match=f"jobs.bin is .* data.*`{tool} FILE . permutive-worker run -`"):
        decoder_for(head, "jobs.bin")

    assert is_undecided(head[:2])
    assert refusal(head[:1], "jobs.bin") is None


@pytest.mark.parametrize("head", [b"{", b"\n", b"\xef", b" ", b"\x1f\x8b", b"\x1f\x00"])
def test_text_is_decided_on_with_its_first_byte(head):
    assert not is_undecided(head)


def test_gzip_members_and_padding():
    stored = (
        gzip.compress(b"one\n") + b"\0" * 700 + gzip.compress(b"") + gzip.compress(b"two\n") + b"\0" * 512
    )

    for block_bytes in (1, 13, 10_000):
        pieces, error = gunzip(stored, block_bytes)

        assert b"".join(pieces) == b"one\ntwo\n"
        assert error is None


def test_a_gzip_bomb_comes_in_bounded_pieces():
    pieces, error = gunzip(gzip.compress(b"\0" * (10 * PIECE_BYTES + 1)))

    assert [len(piece) for piece in pieces] == [PIECE_BYTES] * 10 + [1]
    assert error is None


def test_tiny_gzip_members_come_together():
    pieces, error = gunzip(b"".join(gzip.compress(b"%d\n" % number) for number in range(1_000)))

    assert pieces == [b"".join(b"%d\n" % number for number in range(1_000))]
    assert error is None


def test_a_cut_gzip_gives_what_is_there_and_says_so():
    text = b'{"user_id":"a"}\n' * 1_000

    pieces, error = gunzip(gzip.compress(text)[:-9])

    assert b"".join(pieces) == text
    assert error == "x.gz ends in the middle of its gzip data: get the whole of it and run it again"


def test_a_wrong_checksum_gives_all_the_text_and_an_error():
    text = b'{"user_id":"a"}\n' * 1_000
    stored = bytearray(gzip.compress(text))
    stored[-6] ^= 1

    pieces, error = gunzip(bytes(stored))

    assert b"".join(pieces) == text
    assert error == "x.gz holds damaged gzip data: get a sound copy and run it again"


def test_damage_in_the_middle_gives_the_text_before_it():
    text = b"".join(b'{"user_id":"%08d"}\n' % number for number in range(1_000))
    sound = zlib.compressobj(wbits=31)
    before = sound.compress(text) + sound.flush(zlib.Z_SYNC_FLUSH)

    pieces, error = gunzip(before + b"\xff" * 50)

    assert b"".join(pieces) == text
    assert "damaged" in error


def test_anything_but_padding_after_gzip_is_damage():
    pieces, error = gunzip(gzip.compress(b"text\n") + b"garbage")

    assert pieces == [b"text\n"]
    assert "damaged" in error
