"""A stderr that nobody reads: waited for once, then what is not taken is dropped."""

import os
import time

import pytest

from permutive_worker.cli import unread
from permutive_worker.cli.unread import Patient


@pytest.fixture
def pipe(monkeypatch):
    monkeypatch.setattr(unread, "WAIT_SECONDS", 0.2)
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def test_what_is_read_is_written_whole(pipe):
    read_fd, write_fd = pipe
    data = bytes(range(256)) * 100

    assert Patient(write_fd).write(data) == len(data)
    assert os.read(read_fd, 100_000) == data


def test_nobody_is_waited_for_twice_and_a_reader_that_comes_back_gets_what_comes_then(pipe):
    read_fd, write_fd = pipe
    patient = Patient(write_fd)
    before = 0
    for _ in range(50):  # more than any pipe holds
        before += patient.write(b"-" * 4096)
    began = time.process_time()
    for _ in range(1000):
        patient.write(b"nobody reads this\n")
    assert time.process_time() - began < 1

    held = len(os.read(read_fd, 1_000_000))
    assert 0 < held < before
    patient.write(b"somebody reads again\n")
    assert os.read(read_fd, 100) == b"somebody reads again\n"


def test_a_reader_that_is_gone_is_an_error():
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    with pytest.raises(BrokenPipeError):
        Patient(write_fd).write(b"x")
    os.close(write_fd)
