"""Files that grow, are renamed, are cut and come again, while they are followed; in time that jumps."""

import asyncio
import gzip
import os
from contextlib import asynccontextmanager

import pytest
from support.jump_loop import run_jumping

from permutive_worker.errors import ConfigurationError, UsageError
from permutive_worker.model import Settlement
from permutive_worker.sources.follow import FollowSource
from permutive_worker.sources.tracked import CheckpointStore

ACK, RETRY = Settlement.ACK, Settlement.RETRY


@pytest.fixture
def path(tmp_path):
    (tmp_path / "log").write_bytes(b"1\n2\n")
    return tmp_path / "log"


def append(path, text):
    with path.open("ab") as file:
        file.write(text)


class Life:
    """One run that follows files."""

    def __init__(self, paths, **more):
        store = CheckpointStore(paths[0].parent / "state", "out", **more)
        self.source = FollowSource(paths, 1_000, store)
        self.deliveries = []

    async def lines(self, count, settlement=ACK):
        """Wait for so many lines; never more come."""
        got = []
        while len(got) < count:
            got += await self.source.receive(1_000)
        self.source.settle([(one, settlement) for one in got])
        self.deliveries += got
        return [one.raw for one in got]

    async def nothing(self):
        """Ten seconds in which nothing comes."""
        receiving = asyncio.create_task(self.source.receive(1_000))
        await asyncio.sleep(10)
        assert not receiving.done()
        receiving.cancel()
        await asyncio.wait([receiving])


@asynccontextmanager
async def following(*paths, **more):
    life = Life(list(paths), **more)
    await life.source.open()
    try:
        yield life
        life.source.interrupt()
        assert await life.source.receive(1_000) == ()

        async def synced():
            pass

        await life.source.remembered.save_synced(synced)
        await life.source.remembered.save_idle(synced)
    finally:
        await life.source.close()


def follow(test):
    """Run a test on the jumping loop."""

    def run(path):
        run_jumping(test(path))

    run.__name__ = test.__name__
    return run


@follow
async def test_what_is_appended_is_given_and_there_is_no_end(path):
    async with following(path) as life:
        assert await life.lines(2) == [b"1", b"2"]
        await life.nothing()
        append(path, b"3\n4\n")
        assert await life.lines(2) == [b"3", b"4"]
        assert (life.source.finite, life.source.bytes_read(), life.source.bytes_total()) == (False, 8, None)


@follow
async def test_a_line_waits_for_its_end_also_over_a_restart(path):
    append(path, b"a beg")
    async with following(path) as life:
        assert await life.lines(2) == [b"1", b"2"]
        await life.nothing()
        append(path, b"inning and")
        await life.nothing()
    async with following(path) as life:
        append(path, b" an end\n")
        assert await life.lines(1) == [b"a beginning and an end"]
        assert life.deliveries[0].position == f"{path}:3"


@follow
async def test_a_renamed_file_is_read_to_its_end_then_the_new_one(path):
    async with following(path) as life:
        assert await life.lines(2) == [b"1", b"2"]
        path.rename(path.with_name("log.1"))
        await life.nothing()  # there is no new one yet
        append(path.with_name("log.1"), b"3\nlast without end")
        assert await life.lines(1) == [b"3"]
        path.write_bytes(b"4\n")
        assert await life.lines(2) == [b"last without end", b"4"]
        append(path, b"5\n")
        assert await life.lines(1) == [b"5"]
        assert life.deliveries[-1].position == f"{path}:2"


@follow
async def test_lines_of_a_renamed_file_that_are_not_done_are_found_again(path):
    async with following(path) as life:
        await life.lines(2, RETRY)
        path.rename(path.with_name("log.1"))
        path.write_bytes(b"3\n")
        assert await life.lines(1) == [b"3"]
    append(path, b"4\n")

    async with following(path) as life:
        assert await life.lines(3) == [b"1", b"2", b"4"]
    async with following(path) as life:
        await life.nothing()


@follow
async def test_a_file_that_was_renamed_while_nobody_followed_is_found_by_its_inode(path):
    async with following(path) as life:
        await life.lines(2)
    append(path, b"3\n")
    path.rename(path.with_name("log.1"))
    path.write_bytes(b"4\n")

    async with following(path) as life:
        assert await life.lines(2) == [b"3", b"4"]


@follow
async def test_a_file_that_is_gone_for_good_is_refused(path):
    async with following(path) as life:
        await life.lines(2)
    path.rename(path.parent / "state" / "log")
    path.write_bytes(b"4\n")

    with pytest.raises(ConfigurationError, match="not in its directory any more"):
        async with following(path):
            pass
    async with following(path, restart=True) as life:
        assert await life.lines(1) == [b"4"]


@follow
async def test_a_file_that_was_cut_is_read_from_its_first_byte(path):
    async with following(path) as life:
        await life.lines(2)
        path.with_name("copy").write_bytes(path.read_bytes())
        os.truncate(path, 0)
        await life.nothing()
        append(path, b"3\n")
        assert await life.lines(1) == [b"3"]
    append(path, b"4\n")

    async with following(path) as life:
        assert await life.lines(1) == [b"4"]


@follow
async def test_lines_that_were_cut_off_before_they_were_done_are_not_forgotten_in_silence(path):
    async with following(path) as life:
        await life.lines(2, RETRY)
        os.truncate(path, 0)
        await life.nothing()

    with pytest.raises(ConfigurationError, match="--restart"):
        async with following(path):
            pass


@follow
async def test_several_files_are_followed_in_turns(path):
    other = path.with_name("other")
    other.write_bytes(b"a\n")
    async with following(path, other) as life:
        assert sorted(await life.lines(3)) == [b"1", b"2", b"a"]
        append(other, b"b\n")
        assert await life.lines(1) == [b"b"]
        append(path, b"3\n")
        assert await life.lines(1) == [b"3"]


@follow
async def test_a_rotation_every_now_and_then_leaves_no_files_open(path):
    async with following(path) as life:
        await life.lines(2)
        before = len(os.listdir("/proc/self/fd"))
        for number in range(20):
            path.rename(path.with_name(f"log.{number}"))
            path.write_bytes(b"x\n")
            await life.lines(1)
            await life.nothing()
            await life.source.remembered.save()
        assert len(os.listdir("/proc/self/fd")) <= before + 1


@follow
async def test_what_cannot_be_followed_is_refused(path):
    os.mkfifo(path.with_name("fifo"))
    path.with_name("packed").write_bytes(gzip.compress(b"1\n"))
    for name, says in (("fifo", "no regular file"), ("packed", "compressed"), ("missing", "cannot be read")):
        with pytest.raises(UsageError, match=says):
            async with following(path.with_name(name)):
                pass


@follow
async def test_two_followers_are_refused(path):
    async with following(path):
        with pytest.raises(UsageError, match="another worker"):
            async with following(path):
                pass
