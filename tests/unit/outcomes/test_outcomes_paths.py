"""One file for two things, by whatever name."""

import os

import pytest

from permutive_worker.errors import ConfigurationError
from permutive_worker.outcomes.paths import own_files, refuse_shared_files


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    "outputs",
    [
        ("d.ndjson", "d.ndjson", None, None),
        ("d.ndjson", "./folder/../d.ndjson", None, None),
        ("d.ndjson", None, "d.ndjson", None),
        ("d.ndjson", "r.ndjson", "r.ndjson", None),
        ("d.ndjson", "d.returned.ndjson", None, None),
        ("there.ndjson", "symbolic.ndjson", None, None),
        ("there.ndjson", "hard.ndjson", None, None),
        ("d.ndjson", "symbolic-to-nothing.ndjson", "nothing.ndjson", None),
        ("d.ndjson", None, "s.prom", "s.prom"),
    ],
)
def test_two_outputs_in_one_file_are_refused(here, outputs):
    (here / "there.ndjson").touch()
    (here / "symbolic.ndjson").symlink_to("there.ndjson")
    (here / "hard.ndjson").hardlink_to(here / "there.ndjson")
    (here / "symbolic-to-nothing.ndjson").symlink_to("nothing.ndjson")

    with pytest.raises(ConfigurationError, match="are the same file: name two"):
        refuse_shared_files(*outputs)


def test_devices_and_pipes_may_be_shared(here):
    os.mkfifo(here / "pipe")
    refuse_shared_files("/dev/null", "/dev/null", "/dev/null", None)
    refuse_shared_files("pipe", "pipe", None, None)


@pytest.mark.parametrize(
    "name", ["r.ndjson", "./r.ndjson", "d.ndjson", "s.json", "m.prom", "symbolic.ndjson"]
)
def test_an_input_that_is_an_output_is_refused(here, name):
    for file in ("r.ndjson", "d.ndjson", "s.json", "m.prom"):
        (here / file).touch()
    (here / "symbolic.ndjson").symlink_to("r.ndjson")

    with pytest.raises(ConfigurationError, match=r"the input .* are the same file"):
        own_files(["other.ndjson", name], "d.ndjson", "r.ndjson", "s.json", "m.prom")


def test_what_was_returned_may_be_named_and_is_left_out_of_folders_else(here):
    returned = here / "d.returned.ndjson"
    returned.touch()

    assert returned.name in map(str, own_files(["."], "d.ndjson", None, None, None))
    assert returned.name not in map(str, own_files([str(returned)], "d.ndjson", None, None, None))
