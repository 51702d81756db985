"""Standard input in all its forms."""

import asyncio
import gzip
import os
import select
import sys

import pytest

from permutive_worker.errors import InputError, UsageError
from permutive_worker.sources.reader import READ_BYTES
from permutive_worker.sources.stdin import StdinSource


@pytest.fixture
def pipe():
    """A pipe: what the source reads, and a raw file to write to it."""
    fd, write_fd = os.pipe()
    with open(write_fd, "wb", buffering=0) as writer:
        yield fd, writer
    os.close(fd)


async def opened(fd):
    source = StdinSource(1_000, fd=fd)
    await source.open()
    return source


async def receive_raws(source):
    return [delivery.raw for delivery in await source.receive(100_000)]


async def test_lines_are_given_as_soon_as_they_are_written(pipe):
    fd, writer = pipe
    source = await opened(fd)

    for line in (b"1", b"2", b"3"):
        writer.write(line + b"\n")
        assert await receive_raws(source) == [line]
    writer.close()

    assert await receive_raws(source) == []
    await source.close()


async def test_positions_count_lines(pipe):
    fd, writer = pipe
    source = await opened(fd)
    writer.write(b"1\n2\n")

    assert [delivery.position for delivery in await source.receive(1_000)] == ["stdin:1", "stdin:2"]
    await source.close()


async def test_a_receive_cancelled_while_it_waits_loses_nothing(pipe):
    fd, writer = pipe
    source = await opened(fd)
    for _ in range(3):
        receiving = asyncio.create_task(source.receive(1_000))
        await asyncio.sleep(0)
        receiving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receiving

    writer.write(b"1\n")

    assert await receive_raws(source) == [b"1"]
    await source.close()


async def test_interrupt_ends_a_wait_and_gives_the_fragment(pipe):
    fd, writer = pipe
    source = await opened(fd)
    writer.write(b"1\na fragment")
    assert await receive_raws(source) == [b"1"]
    receiving = asyncio.create_task(receive_raws(source))
    await asyncio.sleep(0)

    source.interrupt()

    assert await receiving == [b"a fragment"]
    assert await receive_raws(source) == []
    await source.close()


async def test_interrupt_leaves_the_pipe_alone(pipe):
    fd, writer = pipe
    source = await opened(fd)
    source.interrupt()
    writer.write(b"1\n")

    assert await receive_raws(source) == []
    assert os.read(fd, 10) == b"1\n"
    await source.close()


async def test_close_ends_a_wait_and_leaves_the_descriptor_open(pipe):
    fd, writer = pipe
    source = await opened(fd)
    receiving = asyncio.create_task(source.receive(1_000))
    await asyncio.sleep(0)

    await source.close()
    await receiving
    writer.write(b"1\n")

    assert os.read(fd, 10) == b"1\n"


async def test_a_writer_is_held_up_until_lines_are_taken(pipe):
    fd, writer = pipe
    os.set_blocking(writer.fileno(), False)
    source = await opened(fd)
    written = 0

    for _ in range(50):
        while count := writer.write(b"a line\n" * 1_000):
            written += count
        assert await source.receive(1)

    assert written <= 2 * READ_BYTES + 1024 * 1024  # one block in hand, one ahead, and what a pipe may hold
    await source.close()


async def test_a_descriptor_that_does_not_block_is_waited_for(pipe):
    fd, writer = pipe
    os.set_blocking(fd, False)
    source = await opened(fd)
    receiving = asyncio.create_task(receive_raws(source))
    await asyncio.sleep(0)

    writer.write(b"1\n")

    assert await receiving == [b"1"]
    await source.close()


async def test_a_terminal_is_read_line_by_line_to_its_end():
    keyboard, terminal = os.openpty()
    source = await opened(terminal)
    os.write(keyboard, b"1\n")

    assert await receive_raws(source) == [b"1"]
    os.write(keyboard, b"\x04")
    assert await receive_raws(source) == []
    await source.close()
    os.close(keyboard)
    os.close(terminal)


async def test_a_redirected_file_is_read_from_where_it_stands(tmp_path):
    (tmp_path / "a").write_bytes(b"1\n2\n3")
    fd = os.open(tmp_path / "a", os.O_RDONLY)
    os.read(fd, 2)
    source = await opened(fd)

    assert await receive_raws(source) == [b"2"]
    assert await receive_raws(source) == [b"3"]
    assert await receive_raws(source) == []
    assert source.bytes_read() == 3
    await source.close()
    os.close(fd)


async def test_dev_null_is_the_end():
    fd = os.open(os.devnull, os.O_RDONLY)
    source = await opened(fd)

    assert await receive_raws(source) == []
    await source.close()
    os.close(fd)


@pytest.mark.parametrize("fd", [0, 1_000_000])
async def test_a_closed_stdin_is_a_usage_error(monkeypatch, fd):
    monkeypatch.setattr(sys, "stdin", None)  # as Python sets it when it starts without one
    source = StdinSource(1_000, fd=fd)

    with pytest.raises(UsageError, match=r"^standard input is closed: pipe lines into it or name a file$"):
        await source.open()

    await source.close()


async def test_a_format_that_is_not_read_is_an_input_error(pipe):
    fd, writer = pipe
    source = await opened(fd)
    writer.write(b"\x28")
    writer.write(b"\xb5\x2f\xfd and more")

    with pytest.raises(InputError, match=r"^stdin is zstd data.*`zstdcat FILE"):
        await source.receive(1_000)

    assert await receive_raws(source) == []
    await source.close()


async def test_a_cut_gzip_gives_all_that_was_read_also_the_fragment(pipe):
    fd, writer = pipe
    source = await opened(fd)
    writer.write(gzip.compress(b"1\na fragment")[:-8])
    writer.close()

    assert await receive_raws(source) == [b"1"]
    assert await receive_raws(source) == [b"a fragment"]
    with pytest.raises(InputError, match=r"^stdin ends in the middle .* \(lines 1 to 1 were read\)$"):
        await source.receive(1_000)
    assert await receive_raws(source) == []
    await source.close()


async def test_an_interrupt_waits_for_the_end_of_a_line_and_leaves_the_next(pipe):
    fd, writer = pipe
    source = await opened(fd)
    writer.write(b"1\n2 be")
    assert await receive_raws(source) == [b"1"]
    receiving = asyncio.create_task(receive_raws(source))
    source.interrupt()
    await asyncio.sleep(0)

    writer.write(b"gun\n3\n")

    assert await receiving == [b"2 begun"]
    assert await receive_raws(source) == []
    await source.close()
    assert os.read(fd, 10) == b"3\n"


async def test_a_second_interrupt_does_not_wait_for_it(pipe, monkeypatch):
    monkeypatch.setattr("permutive_worker.sources.reader.FINISH_LINE_SECONDS", 3600)
    fd, writer = pipe
    source = await opened(fd)
    writer.write(b"a fragment")
    receiving = asyncio.create_task(receive_raws(source))
    while select.select([fd], [], [], 0)[0]:  # until it was read
        await asyncio.sleep(0.001)
    source.interrupt()
    source.interrupt()

    assert await receiving == [b"a fragment"]
    await source.close()
