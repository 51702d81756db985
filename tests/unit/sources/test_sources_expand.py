"""Which files an input means."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from permutive_worker.errors import UsageError
from permutive_worker.sources.files import expand_inputs


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names):
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def expand(*inputs, exclude=()):
    return [str(path) for path in expand_inputs(inputs, [Path(name) for name in exclude])]


def test_paths_keep_the_order_of_the_command_line(here):
    touch("b", "a.txt")

    assert expand("b", "a.txt") == ["b", "a.txt"]


def test_a_directory_means_its_lines_sorted_and_no_more(here):
    touch("in/b.ndjson", "in/a.jsonl.gz", "in/c.json", "in/.d.ndjson", "in/e.txt", "in/f/g.ndjson")
    Path("in/h.json").mkdir()

    assert expand("in") == ["in/a.jsonl.gz", "in/b.ndjson", "in/c.json"]


def test_a_glob_means_its_files_sorted(here):
    touch("b1.x", "a1.x", "d/e/c1.x", ".h1.x", "d/c2.y")
    Path("c1.x").mkdir()

    assert expand("*1.x") == ["a1.x", "b1.x"]
    assert expand("**/*1.x") == ["a1.x", "b1.x", "d/e/c1.x"]
    assert expand("d/**") == ["d/c2.y", "d/e/c1.x"]


def test_a_name_that_looks_like_a_glob_is_a_name(here):
    touch("jobs[1].ndjson", "jobs1.ndjson")

    assert expand("jobs[1].ndjson") == ["jobs[1].ndjson"]


def test_the_same_file_is_read_once_however_it_is_named(here):
    touch("in/a.ndjson", "in/b.ndjson")
    Path("link").symlink_to("in/b.ndjson")

    assert expand("link", "in/a.ndjson", "in", "./in/../in/a.ndjson", "in/*") == ["link", "in/a.ndjson"]


def test_what_the_run_writes_is_never_read(here):
    touch("jobs.ndjson", "dead-letters.ndjson")
    Path("link.ndjson").symlink_to("dead-letters.ndjson")
    own = ["./dead-letters.ndjson", "not-made-yet.ndjson"]

    assert expand(".", exclude=own) == ["jobs.ndjson"]
    assert expand("*.ndjson", exclude=own) == ["jobs.ndjson"]
    assert expand("jobs.ndjson", "dead-letters.ndjson", exclude=own) == ["jobs.ndjson"]


def test_only_what_the_run_writes_is_an_error(here):
    touch("dead-letters.ndjson")

    with pytest.raises(UsageError, match=r"dead-letters.ndjson: only this run's own outputs are there"):
        expand("dead-letters.ndjson", exclude=["dead-letters.ndjson"])


def test_no_inputs_are_no_files():
    assert expand() == []


def test_a_fifo_and_a_device_are_inputs(here):
    os.mkfifo("fifo")

    assert expand("fifo", "/dev/null") == ["fifo", "/dev/null"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("gone.ndjson", "gone.ndjson does not exist: name a file, a directory or a glob"),
        ("file/below", "file/below does not exist: name a file, a directory or a glob"),
        ("dangling", "dangling does not exist: name a file, a directory or a glob"),
        ("*.nothing", "*.nothing matches no file"),
        (
            "empty",
            "the directory empty holds no input: looked for *.ndjson, *.jsonl and *.json, also with .gz",
        ),
        ("-", "- is stdin, which stands alone: name either it or files"),
        ("loop", "loop cannot be read: Too many levels of symbolic links"),
    ],
)
def test_an_input_that_means_nothing_is_an_error(here, text, sentence):
    touch("file")
    Path("empty").mkdir()
    Path("dangling").symlink_to("gone")
    Path("loop").symlink_to("loop")

    with pytest.raises(UsageError) as error:
        expand(text)

    assert str(error.value) == sentence


@pytest.fixture
def locked_directory():
    """A directory the test may not read, whoever runs it."""
    parent = tempfile.mkdtemp(dir="/tmp")
    locked = os.path.join(parent, "locked")
    os.mkdir(locked)
    os.chmod(parent, 0o755)
    os.chmod(locked, 0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield locked
    os.seteuid(user)
    os.chmod(locked, 0o700)
    shutil.rmtree(parent)


def test_a_directory_that_may_not_be_read_is_an_error(locked_directory):
    for text in (locked_directory, f"{locked_directory}/jobs.ndjson"):
        with pytest.raises(UsageError, match=r"cannot be read: Permission denied"):
            expand(text)
