"""The append protocol: whole groups or nothing, among other processes."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from permutive_worker.errors import ConfigurationError, OutputError
from permutive_worker.outcomes.ndjson import LockedAppender, prove_writable, take_for_replay


def test_the_file_is_made_with_the_first_group_for_its_owner_only(tmp_path):
    path = tmp_path / "letters.ndjson"
    appender = LockedAppender(path)
    assert not path.exists()

    appender.append(b"1\n2\n")

    assert path.read_bytes() == b"1\n2\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@given(before=st.binary(max_size=40) | st.sampled_from([b"1\n" + b"x" * 200_000, b"x" * 65_536]))
def test_a_torn_tail_is_moved_aside_whatever_was_in_the_file(tmp_path_factory, before):
    path = tmp_path_factory.mktemp("torn") / "letters.ndjson"
    path.write_bytes(before)
    whole, line_end, tail = before.rpartition(b"\n")

    LockedAppender(path).append(b"new\n")

    assert path.read_bytes() == whole + line_end + b"new\n"
    torn = path.with_name("letters.ndjson.torn")
    assert (torn.read_bytes() if torn.exists() else b"") == (tail + b"\n" if tail else b"")


def test_torn_tails_gather_one_a_line_in_a_file_of_their_owner(tmp_path):
    path = tmp_path / "letters.ndjson"
    for tail in (b"first", b"second"):
        with path.open("ab") as file:
            file.write(tail)
        LockedAppender(path).append(b"new\n")

    torn = tmp_path / "letters.ndjson.torn"
    assert torn.read_bytes() == b"first\nsecond\n"
    assert stat.S_IMODE(torn.stat().st_mode) == 0o600


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_that_was_renamed_away_is_started_anew(tmp_path, durable):
    path = tmp_path / "letters.ndjson"
    appender = LockedAppender(path, durable=durable)
    appender.append(b"1\n")

    path.rename(tmp_path / "away")
    appender.append(b"2\n")
    appender.sync()
    appender.close()
    appender.append(b"3\n")

    assert (tmp_path / "away").read_bytes() == b"1\n"
    assert path.read_bytes() == b"2\n3\n"


def test_a_directory_that_is_gone_is_said_with_path_reason_and_remedy(tmp_path):
    path = tmp_path / "gone" / "letters.ndjson"

    with pytest.raises(OutputError, match=r"letters\.ndjson: No such file or directory; make its directory"):
        LockedAppender(path).append(b"1\n")


def test_an_error_leaves_the_lock_to_others(tmp_path):
    path = tmp_path / "letters.ndjson"
    appender = LockedAppender(path)
    appender.append(b"1\n")
    (tmp_path / "letters.ndjson.torn").mkdir()
    path.write_bytes(b"torn")

    with pytest.raises(OutputError):
        appender.append(b"2\n")

    (tmp_path / "letters.ndjson.torn").rmdir()
    LockedAppender(path).append(b"3\n")
    assert path.read_bytes() == b"3\n"


def test_a_device_is_written_to_as_it_is():
    appender = LockedAppender(Path("/dev/null"))
    appender.prove()
    appender.append(b"1\n")
    appender.close()
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_pipe_whose_reader_is_gone_is_an_error_and_no_endless_wait(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    appender = LockedAppender(path)
    appender.prove()
    appender.append(b"1\n")
    assert os.read(reader, 10) == b"1\n"

    os.close(reader)
    with pytest.raises(OutputError, match="Broken pipe"):
        appender.append(b"2\n")


def test_proving_leaves_nothing_behind(tmp_path):
    prove_writable(tmp_path / "letters.ndjson")

    assert list(tmp_path.iterdir()) == []


def test_proving_leaves_a_file_as_it_is(tmp_path):
    path = tmp_path / "letters.ndjson"
    path.write_bytes(b"1\ntorn")

    prove_writable(path)

    assert path.read_bytes() == b"1\ntorn"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("directory", "name a file, not a directory"),
        ("file/letters.ndjson", "name a path below a directory"),
        ("a/b/letters.ndjson", "make its directory"),
    ],
)
def test_what_cannot_be_written_is_said_before_the_run(tmp_path, place, reason):
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").touch()

    with pytest.raises(ConfigurationError, match=reason):
        prove_writable(tmp_path / place)


def test_nothing_to_replay_is_none(tmp_path):
    assert take_for_replay(tmp_path / "letters.ndjson") is None


def test_a_replay_takes_whole_lines_away_from_a_writer(tmp_path):
    path = tmp_path / "letters.ndjson"
    appender = LockedAppender(path)
    appender.append(b"1\n")
    with path.open("ab") as file:
        file.write(b"torn")

    taken = take_for_replay(path)
    appender.append(b"2\n")

    assert taken == tmp_path / "letters.ndjson.replaying"
    assert taken.read_bytes() == b"1\n"
    assert (tmp_path / "letters.ndjson.torn").read_bytes() == b"torn\n"
    assert path.read_bytes() == b"2\n"


def test_what_a_killed_replay_left_comes_first(tmp_path):
    path = tmp_path / "letters.ndjson"
    path.write_bytes(b"new\n")
    left = tmp_path / "letters.ndjson.replaying"
    left.write_bytes(b"old\n")

    assert take_for_replay(path) == left
    assert path.read_bytes() == b"new\n"

    left.unlink()
    assert take_for_replay(path) == left
    assert left.read_bytes() == b"new\n"


WRITE = """
import sys
from pathlib import Path
from permutive_worker.outcomes.ndjson import LockedAppender

writer, path, groups = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
sys.stdin.readline()  # all begin together
appender = LockedAppender(path)
for group in range(groups):
    appender.append(b"".join(b"%s-%d-%d %s\\n" % (writer.encode(), group, line, b"x" * 500) for line in range(5)))
"""


def test_no_line_is_lost_or_torn_among_four_writers_and_a_renamer(tmp_path):
    path = tmp_path / "letters.ndjson"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    groups = 60
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITE, str(number), path, str(groups)],
            stdin=subprocess.PIPE,
            env=environment,
        )
        for number in range(4)
    ]
    for writer in writers:
        writer.stdin.write(b"go\n")
        writer.stdin.close()

    taken_files = []
    while any(writer.poll() is None for writer in writers):
        if taken := take_for_replay(path):
            # A replay would run for long; the next one may not touch what it has.
            taken_files.append(taken.rename(tmp_path / f"taken-{len(taken_files)}"))
    assert [writer.returncode for writer in writers] == [0, 0, 0, 0]

    files = [*taken_files, *([path] if path.exists() else [])]
    lines = b"".join(file.read_bytes() for file in files).splitlines()
    expected = {
        f"{writer}-{group}-{line} {'x' * 500}".encode()
        for writer in range(4)
        for group in range(groups)
        for line in range(5)
    }
    assert len(lines) == len(expected)
    assert set(lines) == expected
    assert len(taken_files) > 1
    assert not (tmp_path / "letters.ndjson.torn").exists()
