"""Lines are counted as a run would see them."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from permutive_worker.cli.plan import size
from permutive_worker.cli.tally import KEPT, Tally
from permutive_worker.jobs.decode import Decoder
from permutive_worker.model import Delivery
from permutive_worker.sources.reader import NamedOrigin

LINES = [
    b'{"type":"identify","user_id":"u","aliases":[]}',
    b'{"type":"cohort.delete","id":"c"}',
    b"",
    b" ",
    b"{",
    b"[]",
    b'{"type":"identify"}',
    b"\xff",
]


def deliveries(lines):
    origin = NamedOrigin("jobs")
    return [Delivery(line, origin, number=number) for number, line in enumerate(lines, 1)]


@given(st.lists(st.one_of(st.sampled_from(LINES), st.binary(max_size=20)), max_size=200))
def test_every_line_is_a_job_blank_or_invalid(lines):
    tally = Tally(Decoder())

    tally.add(deliveries(lines))

    assert tally.lines == len(lines) == sum(tally.jobs.values()) + tally.blank + tally.invalid_lines
    assert sum(tally.requests.values()) == sum(tally.jobs.values())
    assert tally.text_bytes == sum(len(line) + 1 for line in lines)
    assert all(len(found.first) == min(found.lines, KEPT) for found in tally.invalid.values())


def test_what_is_kept_does_not_grow():
    tally = Tally(Decoder())
    tally.add(deliveries(LINES * 10))
    some = len(msgspec.json.encode([tally.invalid, tally.no_uuid]))

    tally.add(deliveries(LINES * 1000))

    assert len(msgspec.json.encode([tally.invalid, tally.no_uuid])) < some * 2


@pytest.mark.parametrize(
    ("count_bytes", "told"),
    [(0, "0 bytes"), (999, "999 bytes"), (59_300_000, "59.3 MB"), (4e16, "40,000.0 TB")],
)
def test_sizes_as_a_person_says_them(count_bytes, told):
    assert size(count_bytes) == told
