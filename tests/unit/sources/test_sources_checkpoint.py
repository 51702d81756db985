"""The record on the disk: what is torn is dropped, what is wrong is refused, and nobody else has it."""

import os
import stat
from datetime import UTC, datetime

import pytest

from permutive_worker.control.unsettled import Fragment, Place, Reading
from permutive_worker.errors import ConfigurationError, OutputError, UsageError
from permutive_worker.sources.checkpoint import forget_checkpoint, lock_checkpoint
from permutive_worker.sources.record import (
    VERSION,
    CorruptRecord,
    Generation,
    Record,
    decode_records,
    encode_record,
)


def record(number=1, finished=False):
    reading = Reading(Place(3, 2), Place(number * 10, number), [2, 5], Fragment(30, 4, 9))
    generation = Generation(7, 100, "ab", number * 10, "cd", reading)
    at = datetime(2026, 1, 2, tzinfo=UTC) if finished else None
    return Record(VERSION, "/jobs.ndjson", "https://api default", "process 7 on host-1", at, [generation])


LINES = [encode_record(record(number)) for number in (1, 2, 3)]


def test_a_record_is_read_as_it_was_written():
    assert decode_records(encode_record(record(9, finished=True))) == record(9, finished=True)


def test_the_last_line_counts():
    assert decode_records(b"".join(LINES)) == record(3)


@pytest.mark.parametrize(
    "tail",
    [b"", LINES[2][:-1][:20], LINES[2][:1], b"\0" * 4096, LINES[2][:30] + b"\0" * 100, LINES[2][:30] + b"\n"],
    ids=["none", "cut", "one byte", "NULs", "cut and NULs", "cut with a line end"],
)
def test_a_torn_last_line_is_dropped(tail):
    assert decode_records(b"".join(LINES[:2]) + tail) == record(2)


def test_a_last_line_that_lacks_only_its_line_end_is_whole():
    assert decode_records(b"".join(LINES)[:-1]) == record(3)


def test_every_cut_of_the_last_line_gives_this_or_the_last_but_one():
    for kept in range(len(LINES[1])):
        assert decode_records(LINES[0] + LINES[1][:kept]) in (record(1), record(2))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is empty"),
        (b"\n", "it is empty"),
        (LINES[0][:40], "line 1 is damaged"),
        (b"\0" * 100, "line 1 is damaged"),
        (b"{}\n", "line 1 is damaged"),
        (LINES[0].replace(b"jobs", b"bobs"), "line 1 is damaged"),
        (LINES[0] + LINES[1].replace(b"jobs", b"bobs") + LINES[2], "line 2 is damaged"),
        (LINES[0] + b"\n" + LINES[2], "line 2 is damaged|it is empty"),
        (encode_record(Record(VERSION + 1, "", "", "", None, [])), "another version"),
        (LINES[0] + encode_record(Record(VERSION + 1, "", "", "", None, [])), "another version"),
    ],
)
def test_anything_else_that_is_wrong_is_corrupt(data, why):
    with pytest.raises(CorruptRecord, match=why):
        decode_records(data)


def test_a_new_checkpoint_is_private_and_says_the_first_record(tmp_path):
    path = tmp_path / "state" / "x.checkpoint"

    checkpoint = lock_checkpoint(path, "jobs", record(1))

    assert checkpoint.record is None
    assert decode_records(path.read_bytes()) == record(1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    checkpoint.close()


def test_one_that_is_only_looked_at_is_not_made(tmp_path):
    checkpoint = lock_checkpoint(tmp_path / "state" / "x", "jobs", None)

    assert checkpoint.record is None
    assert list(tmp_path.iterdir()) == []


def test_the_second_is_refused_also_after_the_file_was_replaced(tmp_path):
    path = tmp_path / "x"
    first = lock_checkpoint(path, "jobs.ndjson", record(1))
    for order in (1, 2):
        with pytest.raises(
            UsageError,
            match=r"another worker, process 7 on host-1, is delivering jobs.ndjson \(it has .*x locked\)",
        ):
            lock_checkpoint(path, "jobs.ndjson", record(1))
        first.replace(encode_record(record(2)), order)

    with pytest.raises(UsageError):
        forget_checkpoint(path, "jobs.ndjson")
    first.close()
    second = lock_checkpoint(path, "jobs.ndjson", record(1))

    assert second.record == record(2)
    second.close()


def test_what_was_appended_is_carried_over_to_a_file_that_replaces_it_with_an_earlier_moment(tmp_path):
    path = tmp_path / "x"
    checkpoint = lock_checkpoint(path, "jobs", record(1))
    earlier = checkpoint.prepare(lambda: record(2), 1)
    checkpoint.append(encode_record(record(3)), 2)

    checkpoint.replace(earlier, 1)

    assert [decode_records(line) for line in path.read_bytes().splitlines(keepends=True)] == [
        record(2),
        record(3),
    ]
    checkpoint.close()


def test_a_moment_that_was_overtaken_or_comes_after_the_end_is_not_written(tmp_path):
    path = tmp_path / "x"
    checkpoint = lock_checkpoint(path, "jobs", record(1))
    checkpoint.append(encode_record(record(3)), 2)
    checkpoint.append(encode_record(record(2)), 1)
    assert checkpoint.prepare(lambda: record(2), 1) is None
    checkpoint.close()
    checkpoint.append(encode_record(record(4)), 4)
    checkpoint.replace(encode_record(record(4)), 4)

    assert checkpoint.prepare(lambda: record(4), 4) is None
    assert decode_records(path.read_bytes()) == record(3)


def test_a_directory_that_vanished_is_an_output_error(tmp_path):
    path = tmp_path / "state" / "x"
    checkpoint = lock_checkpoint(path, "jobs", record(1))
    path.unlink()
    path.parent.rmdir()

    with pytest.raises(OutputError, match=r"cannot write the checkpoint .*No such file or directory"):
        checkpoint.replace(encode_record(record(2)), 1)
    checkpoint.close()


def test_a_full_disk_leaves_whole_lines(tmp_path):
    import resource

    path = tmp_path / "x"
    checkpoint = lock_checkpoint(path, "jobs", record(1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, before[1]))
    try:
        with pytest.raises(OutputError, match="cannot write the checkpoint"):
            checkpoint.append(encode_record(record(2)), 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert path.read_bytes() == encode_record(record(1))
    checkpoint.close()


def test_a_place_that_cannot_be_written_is_configuration(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(ConfigurationError, match="--state-dir"):
        lock_checkpoint(tmp_path / "file" / "x", "jobs", record(1))


def test_a_corrupt_one_is_refused_and_can_be_forgotten(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"rubbish\n")

    with pytest.raises(ConfigurationError, match=r"checkpoint of jobs cannot be trusted.*--restart"):
        lock_checkpoint(path, "jobs", record(1))
    forget_checkpoint(path, "jobs")
    forget_checkpoint(path, "jobs")

    assert not os.path.exists(path)
