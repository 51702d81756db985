"""Lines of a pipe that were read and not delivered."""

import json

import pytest

from permutive_worker.errors import OutputError
from permutive_worker.model import Delivery, End
from permutive_worker.outcomes.ndjson import LockedAppender
from permutive_worker.outcomes.returned import ReturnedWriter


async def test_lines_go_as_they_were_into_a_file_beside_the_dead_letters(tmp_path, make_entry):
    writer = ReturnedWriter(tmp_path / "dead-letters.ndjson")
    await writer.open()
    await writer.write([])
    assert not writer.path.exists()

    lines = [b'{ "type":"identify", "user_id":"k-1", "aliases":[]}', b"no json", b"\xff", b""]
    await writer.write([make_entry(line, End.RETURNED) for line in lines])
    await writer.close()

    assert writer.path == tmp_path / "dead-letters.returned.ndjson"
    assert writer.path.read_bytes() == b"\n".join(lines) + b"\n"


async def test_events_that_were_delivered_are_not_returned(tmp_path, make_entry):
    event = {"name": "Pageview", "time": "2026-01-31T12:00:00Z", "properties": {}}
    job = {"type": "segmentation", "user_id": "u", "events": [event | {"view_id": str(n)} for n in range(25)]}
    writer = ReturnedWriter(tmp_path / "letters")

    await writer.write([make_entry(json.dumps(job).encode(), End.RETURNED, part=1)])

    returned = json.loads((tmp_path / "letters.returned.ndjson").read_bytes())
    assert returned == job | {"events": job["events"][10:]}


def entry_at(make_entry, number, read_at=None):
    entry = make_entry(b"%d" % number, End.RETURNED)
    entry.delivery = Delivery(b"%d" % number, entry.delivery.origin, number, number)
    entry.read_at = number if read_at is None else read_at
    return entry


async def test_groups_of_one_stop_are_on_the_disk_at_once_and_in_input_order_at_the_end(tmp_path, make_entry):
    writer = ReturnedWriter(tmp_path / "letters")
    writer.path.write_bytes(b"of an earlier run\n3\n")
    await writer.write([entry_at(make_entry, number) for number in (5, 3, 6)])
    assert writer.path.read_bytes() == b"of an earlier run\n3\n3\n5\n6\n"
    LockedAppender(writer.path).append(b"of another worker\n")

    await writer.write([entry_at(make_entry, number) for number in (4, 1)])
    assert writer.path.read_bytes().endswith(b"\n1\n4\n")
    await writer.close()

    assert writer.path.read_bytes() == b"of an earlier run\n3\nof another worker\n1\n3\n4\n5\n6\n"
    assert [path.name for path in tmp_path.iterdir()] == ["letters.returned.ndjson"]


async def test_inputs_one_after_another_keep_their_order(tmp_path, make_entry):
    writer = ReturnedWriter(tmp_path / "letters")

    await writer.write([entry_at(make_entry, 1, read_at=20.0), entry_at(make_entry, 9, read_at=10.0)])

    assert writer.path.read_bytes() == b"9\n1\n"


async def test_a_file_that_somebody_took_is_left_alone(tmp_path, make_entry):
    writer = ReturnedWriter(tmp_path / "letters")
    await writer.write([entry_at(make_entry, 2)])
    writer.path.rename(tmp_path / "taken")
    await writer.write([entry_at(make_entry, 1)])

    await writer.close()

    assert ((tmp_path / "taken").read_bytes(), writer.path.read_bytes()) == (b"2\n", b"1\n")


async def test_what_cannot_be_written_is_said_to_be_lost(tmp_path, make_entry):
    lost = []
    writer = ReturnedWriter(tmp_path / "gone" / "letters", lost.append)

    with pytest.raises(OutputError, match=r"^2 lines that were read from a pipe are in no file"):
        await writer.write([entry_at(make_entry, number) for number in (1, 2)])

    assert lost == [2]
