"""Files read one after another, also the broken ones."""

import asyncio
import gzip
import os
import tracemalloc
from pathlib import Path

import pytest

from permutive_worker.errors import InputError, UsageError
from permutive_worker.sources.files import FileSource
from permutive_worker.sources.formats import HEAD_BYTES

MiB = 1024 * 1024


def source_of(*paths, max_line_bytes=MiB):
    return FileSource([Path(path) for path in paths], max_line_bytes)


def writing_to(fifo):
    """A raw file; opened so that it does not wait for the reader."""
    return open(os.open(fifo, os.O_RDWR), "wb", buffering=0)


async def read(source):
    """The lines, and the error that came after them."""
    deliveries = []
    try:
        while received := await source.receive(MiB):
            deliveries += received
    except InputError as error:
        return deliveries, str(error)
    return deliveries, None


async def read_file(*paths):
    source = source_of(*paths)
    await source.open()
    deliveries, error = await read(source)
    assert len(await source.receive(MiB)) == 0
    await source.close()
    return [delivery.raw for delivery in deliveries], error


async def test_positions_name_the_file_and_the_line(tmp_path):
    (tmp_path / "a").write_bytes(b"1\n2\n")
    (tmp_path / "b").write_bytes(b"3")
    source = source_of(tmp_path / "a", tmp_path / "b")
    await source.open()

    deliveries, _ = await read(source)

    assert [delivery.position for delivery in deliveries] == [
        f"{tmp_path}/a:1",
        f"{tmp_path}/a:2",
        f"{tmp_path}/b:1",
    ]
    assert deliveries[0].origin is deliveries[1].origin
    assert (source.bytes_read(), source.bytes_total()) == (5, 5)
    await source.close()


async def test_a_file_without_lines_is_passed_over(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "b").write_bytes(b"1\n")

    assert await read_file(tmp_path / "a", tmp_path / "b", tmp_path / "a") == ([b"1"], None)


async def test_broken_files_do_not_keep_the_others_from_being_read(tmp_path):
    text = b"1\n2\n" * 50
    (tmp_path / "cut.gz").write_bytes(gzip.compress(text + b"a fragment")[:-8])
    (tmp_path / "damaged.gz").write_bytes(b"\x1f\x8bno gzip at all")
    (tmp_path / "vanished").touch()
    (tmp_path / "sound").write_bytes(b"3\n")
    names = ("cut.gz", "damaged.gz", "vanished", "sound")
    source = source_of(*(tmp_path / name for name in names))
    await source.open()
    (tmp_path / "vanished").unlink()

    deliveries, error = await read(source)

    assert [delivery.raw for delivery in deliveries] == [b"1", b"2"] * 50 + [b"3"]
    assert error.replace(f"{tmp_path}/", "").splitlines() == [
        "cut.gz ends in the middle of its gzip data: get the whole of it and run it again (lines 1 to 100 were read)",
        "damaged.gz holds damaged gzip data: get a sound copy and run it again",
        "vanished cannot be read: No such file or directory",
    ]
    assert await read(source) == ([], None)
    await source.close()


async def test_an_error_while_reading_is_an_input_error(tmp_path):
    (tmp_path / "sound").write_bytes(b"1\n")
    (tmp_path / "link").symlink_to("sound")
    source = source_of(tmp_path / "link")
    await source.open()
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("/proc/self/mem")  # there is nothing at address 0: EIO

    assert await read(source) == ([], f"{tmp_path}/link cannot be read: Input/output error")
    await source.close()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("gone", "gone cannot be read: No such file or directory"),
        ("folder", "folder cannot be read: Is a directory"),
        ("jobs.zst", "jobs.zst is zstd data, which is not read: use `zstdcat FILE | permutive-worker run -`"),
    ],
)
async def test_open_refuses_what_cannot_be_read(tmp_path, monkeypatch, name, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "jobs.zst").write_bytes(b"\x28\xb5\x2f\xfd123")
    (tmp_path / "sound").write_bytes(b"1\n")
    source = source_of("sound", name)

    with pytest.raises(UsageError) as error:
        await source.open()

    assert str(error.value) == sentence
    await source.close()


async def test_a_file_that_became_another_format_is_an_input_error(tmp_path):
    (tmp_path / "a").write_bytes(b"1\n")
    source = source_of(tmp_path / "a")
    await source.open()
    (tmp_path / "a").write_bytes(b"BZh91AY")

    _, error = await read(source)

    assert "`bzcat FILE | permutive-worker run -`" in error
    await source.close()


async def test_interrupt_reads_no_further_and_leaves_the_rest(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 99 + b"\n" + b"y" * 1_000_000)
    (tmp_path / "b").write_bytes(b"1\n")
    source = source_of(tmp_path / "a", tmp_path / "b")
    await source.open()
    (first,) = await source.receive(1)

    source.interrupt()

    assert first.raw == b"x" * 99
    assert await read(source) == ([], None)
    assert source.bytes_read() < 1_000_000
    await source.close()


async def test_interrupt_gives_what_was_split(tmp_path):
    (tmp_path / "a").write_bytes(b"1\n2\n3\na fragment")
    source = source_of(tmp_path / "a")
    await source.open()
    await source.receive(1)

    source.interrupt()
    deliveries, error = await read(source)

    assert ([delivery.raw for delivery in deliveries], error) == ([b"2", b"3"], None)
    await source.close()


async def test_a_fifo_is_read_from_its_writer_to_its_end(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    source = source_of(tmp_path / "fifo")
    await source.open()
    receiving = asyncio.create_task(source.receive(MiB))
    await asyncio.sleep(0)

    with writing_to(tmp_path / "fifo") as writer:
        writer.write(b"1\n2")
        assert [delivery.raw for delivery in await receiving] == [b"1"]

    assert [delivery.raw for delivery in await source.receive(MiB)] == [b"2"]
    assert len(await source.receive(MiB)) == 0
    assert (source.rereadable, source.bytes_total()) == (False, None)
    await source.close()


async def test_a_fifo_nobody_writes_to_is_interrupted_and_closed(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for end in (FileSource.interrupt, FileSource.close):
        source = source_of(tmp_path / "fifo")
        await source.open()
        receiving = asyncio.create_task(source.receive(MiB))
        await asyncio.sleep(0)

        if end is FileSource.interrupt:
            source.interrupt()
        else:
            await source.close()

        assert len(await receiving) == 0
        await source.close()


async def test_a_fragment_of_a_fifo_is_given_at_an_interrupt(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    source = source_of(tmp_path / "fifo")
    await source.open()
    with writing_to(tmp_path / "fifo") as writer:
        writer.write(b"1\na fragment")
        await source.receive(MiB)

        source.interrupt()
        (fragment,) = await source.receive(MiB)

    assert fragment.raw == b"a fragment"
    assert len(await source.receive(MiB)) == 0
    await source.close()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
async def test_a_huge_line_is_never_held(tmp_path, pack):
    (tmp_path / "a").write_bytes(pack(b"\0" * 50 * MiB + b"\nnext\n"))
    source = source_of(tmp_path / "a")
    await source.open()

    tracemalloc.start()
    try:
        huge, following = (await read(source))[0]
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert (len(huge.raw), huge.oversize_bytes) == (HEAD_BYTES, 50 * MiB)
    assert (following.raw, following.place, following.number) == (b"next", 50 * MiB + 1, 2)
    assert peak_bytes < 5 * MiB
    await source.close()


async def test_a_file_of_empty_lines_takes_bounded_memory(tmp_path):
    (tmp_path / "a").write_bytes(b"\n" * 1_200_000)
    source = source_of(tmp_path / "a")
    await source.open()
    count = 0

    tracemalloc.start()
    try:
        while received := await source.receive(MiB):
            assert len(received) <= 1_000
            count += len(received)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert count == 1_200_000
    assert peak_bytes < 40 * MiB  # one block of 256 KiB may hold 262,144 empty lines
    await source.close()
