"""The watermark against the naive way: a set of offsets."""

from hypothesis import given
from hypothesis import strategies as st

from permutive_worker.control.watermark import METADATA_CHARS, Watermark, parse_metadata

# What is done to a partition: the next message comes (after a gap), or one that came is settled.
STEPS = st.lists(
    st.tuples(st.sampled_from(["fetch", "fetch", "settle"]), st.integers(0, 3), st.integers(0, 1000)),
    max_size=200,
)


def play(watermark, steps):
    """Yield after each step what is open, and how far was read."""
    open_offsets, position = [], watermark.position
    for what, gap, choice in steps:
        if what == "fetch":
            offset = position + gap
            position = offset + 1
            if watermark.fetch(offset):
                open_offsets.append(offset)
        elif open_offsets:
            offset = open_offsets.pop(choice % len(open_offsets))
            assert watermark.settle(offset)
            assert not watermark.settle(offset)
        yield open_offsets, position


@given(st.integers(0, 10**12), STEPS)
def test_the_base_is_the_first_offset_that_is_not_done(base, steps):
    watermark = Watermark(base)
    for open_offsets, position in play(watermark, steps):
        assert watermark.base == min(open_offsets, default=position)
        assert watermark.position == position
        assert watermark.pending == len(open_offsets)
        assert watermark.span == position - watermark.base


@given(STEPS)
def test_done_is_what_is_not_open(steps):
    watermark = Watermark(0)
    for open_offsets, position in play(watermark, steps):
        assert [offset for offset in range(position) if not watermark.is_done(offset)] == sorted(open_offsets)
        assert not watermark.is_done(position)


@given(STEPS)
def test_runs_are_merged_and_above_the_base(steps):
    watermark = Watermark(0)
    for _ in play(watermark, steps):
        ends = watermark.base
        for begin, end in watermark.runs():
            assert ends < begin < end
            ends = end


@given(st.integers(0, 10**6), STEPS, STEPS)
def test_the_next_owner_delivers_what_is_open_and_nothing_else(base, steps, more):
    first = Watermark(base)
    open_offsets, position = [*play(first, steps), ([], base)][-2 if steps else -1]

    read_to, runs = parse_metadata(first.base, first.metadata())
    second = Watermark(first.base, runs)
    delivered = [offset for offset in range(first.base, position) if second.fetch(offset)]

    assert delivered == sorted(open_offsets)
    assert read_to == position
    for open_again, position in play(second, more):
        assert second.base == min([*delivered, *open_again], default=position)


@given(st.text())
def test_text_of_others_says_nothing(text):
    read_to, runs = parse_metadata(7, text)
    assert read_to >= 7
    assert all(7 < begin < end for begin, end in runs)


def test_what_does_not_fit_is_left_out():
    watermark = Watermark(0)
    for offset in range(10_000):
        watermark.fetch(offset)
    for offset in range(1, 10_000, 2):
        watermark.settle(offset)

    text = watermark.metadata()
    _, runs = parse_metadata(0, text)

    assert len(text) <= METADATA_CHARS
    assert runs == watermark.runs()[: len(runs)]
    assert len(runs) > 500
