"""Lines of a pipe that were read and not delivered."""

import json

from permutive_worker.model import End
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
