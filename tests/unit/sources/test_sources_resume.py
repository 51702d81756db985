"""Files that are read again by a later run, which knows what is done."""

import gzip
from pathlib import Path

import pytest

from permutive_worker.errors import ConfigurationError, InputError, InputTakenError, UsageError
from permutive_worker.model import Settlement
from permutive_worker.sources.files import FileSource
from permutive_worker.sources.tracked import CheckpointStore

ACK, RETRY = Settlement.ACK, Settlement.RETRY
LINES = [b'{"user_id":"%d"}' % number for number in range(5_000)]


@pytest.fixture(params=[bytes, gzip.compress], ids=["plain", "gzip"])
def pack(request):
    return request.param


@pytest.fixture
def path(tmp_path):
    return tmp_path / "jobs"


def text_of(lines):
    return b"".join(line + b"\n" for line in lines)


def store(path, destination="https://api default", **more):
    return CheckpointStore(path.parent / "state", destination, **more)


async def nothing():
    pass


async def life(*paths, settle=lambda number: True, read=None, save=True, **more):
    """One run; the raw lines it gave. `read` lines at most; `settle` says which numbers are done."""
    source = FileSource(list(paths), 10_000, store(paths[0], **more))
    given = []
    try:
        await source.open()
        while (read is None or len(given) < read) and (deliveries := await source.receive(700)):
            given += [one.raw for one in deliveries]
            source.settle([(one, ACK if settle(one.number) else RETRY) for one in deliveries])
        source.interrupt()
        if save:
            await source.remembered.save_synced(nothing)
            await source.remembered.save_idle(nothing)
    finally:
        await source.close()
    life.source = source
    return given


async def test_what_is_done_is_not_given_again(path, pack):
    path.write_bytes(pack(text_of(LINES)))

    first = await life(path, read=2_000)
    second = await life(path)

    assert first + second == LINES


async def test_lines_that_are_not_done_are_given_again_and_only_those(path, pack):
    path.write_bytes(pack(text_of(LINES)))
    first = await life(path, settle=lambda number: number % 1_000 != 7, read=3_500)

    second = await life(path, settle=lambda number: number != 2_007)
    third = await life(path)

    assert second[:4] == [LINES[6], LINES[1_006], LINES[2_006], LINES[3_006]]
    assert second[4:] == LINES[len(first) :]
    assert third == [LINES[2_006]]


async def test_a_life_that_saved_nothing_changes_nothing(path, pack):
    path.write_bytes(pack(text_of(LINES)))
    await life(path, read=1_000)
    lost = await life(path, read=500, save=False)

    again = await life(path)

    assert again[: len(lost)] == lost


async def test_a_file_that_is_all_done_is_in_the_next_quick_checkpoint_too(path, pack):
    path.write_bytes(pack(text_of(LINES[:5])))
    source = FileSource([path], 10_000, store(path))
    await source.open()
    deliveries = await source.receive(10_000)
    assert await source.receive(10_000) == ()
    source.settle([(one, ACK) for one in deliveries])

    await source.remembered.save()

    await source.close()
    assert await life(path) == []


async def test_a_finished_file_is_passed_over_and_the_others_go_on(path, pack):
    other = path.with_name("other")
    path.write_bytes(pack(text_of(LINES[:10])))
    other.write_bytes(pack(text_of(LINES[10:20])))
    await life(path)

    assert await life(path, other) == LINES[10:20]
    (notice,) = life.source.remembered.notices
    assert notice.startswith(f"{path} was already delivered on 20")
    assert notice.endswith("--restart to send it again")
    assert await life(path, other) == []
    assert life.source.bytes_read() == life.source.bytes_total() == life.source.remembered.before_bytes


async def test_restart_forgets_the_inputs_that_are_given(path):
    other = path.with_name("other")
    path.write_bytes(text_of(LINES[:3]))
    other.write_bytes(text_of(LINES[3:6]))
    await life(path, other)

    assert await life(path, restart=True) == LINES[:3]
    assert await life(path, other) == []


async def test_another_destination_is_another_matter(path):
    path.write_bytes(text_of(LINES[:3]))
    await life(path)

    assert await life(path, destination="http://127.0.0.1 default") == LINES[:3]


async def test_a_grown_file_goes_on(path, pack):
    path.write_bytes(pack(text_of(LINES[:50])))
    await life(path)
    with path.open("ab") as file:
        file.write(pack(text_of(LINES[50:60])))

    assert await life(path) == LINES[50:60]
    assert await life(path) == []


@pytest.mark.parametrize(
    ("more", "given"),
    [
        (b"", []),
        (b"\nnew\n", [b"new"]),
        (b"\r\nnew\n", [b"new"]),
        (b" grown\nnew\n", [b"last grown", b"new"]),
    ],
)
async def test_a_last_line_without_line_end_is_given_again_only_if_it_has_grown(path, more, given):
    path.write_bytes(b"first\nlast")
    assert await life(path) == [b"first", b"last"]
    with path.open("ab") as file:
        file.write(more)

    assert await life(path) == given
    assert await life(path) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text[:-1], "was truncated since"),
        (lambda text: b"x" + text[1:], "was replaced since"),
        (lambda text: text[:9_600] + b"x" * 100 + text[9_700:], "was replaced since"),
    ],
    ids=["shorter", "another head", "another text before the position"],
)
async def test_another_file_is_refused(path, change, says):
    path.write_bytes(text_of(LINES))
    got = await life(path, read=540)
    assert 10_000 < len(text_of(got)) < 10_500
    path.write_bytes(change(path.read_bytes()))

    with pytest.raises(ConfigurationError, match=says) as error:
        await life(path)
    assert "--restart" in str(error.value)
    assert len(await life(path, restart=True)) > 4_990


async def test_a_copy_of_the_file_is_the_same_file(path):
    path.write_bytes(text_of(LINES))
    got = await life(path, read=500)
    text = path.read_bytes()
    path.unlink()
    path.write_bytes(text)

    assert got + await life(path) == LINES


async def test_a_damaged_file_is_not_finished(path):
    path.write_bytes(gzip.compress(text_of(LINES))[:-8])
    with pytest.raises(InputError):
        await life(path)
    source = FileSource([path], 10_000, store(path))
    await source.open()
    with pytest.raises(InputError):
        while given := await source.receive(10_000):
            source.settle([(one, ACK) for one in given])
    await source.remembered.save_idle(nothing)
    await source.close()

    with pytest.raises(InputError, match="ends in the middle"):
        await life(path)


async def test_two_at_once_are_refused(path):
    path.write_bytes(text_of(LINES[:3]))
    first = FileSource([path], 10_000, store(path))
    await first.open()

    with pytest.raises(UsageError, match=r"another worker, process \d+ on .*, is delivering"):
        await life(path)
    await first.close()

    assert await life(path) == LINES[:3]


async def test_restart_forgets_nothing_while_one_of_the_inputs_is_taken(path):
    other = path.with_name("other")
    for one in (path, other):
        one.write_bytes(text_of(LINES[:3]))
    assert len(await life(path, other)) == 6
    other.write_bytes(text_of(LINES[:4]))
    holder = FileSource([other], 10_000, store(path))
    await holder.open()

    with pytest.raises(UsageError, match="another worker"):
        await life(path, other, restart=True)
    await holder.close()

    assert await life(path) == []  # still delivered
    assert await life(path, other, restart=True) == LINES[:3] + LINES[:4]


async def test_an_input_that_another_worker_took_meanwhile_is_told_as_that(path, monkeypatch):
    monkeypatch.setattr("permutive_worker.sources.remembered.LOCK_LOOKS", 1)
    other = path.with_name("other")
    for one in (path, other):
        one.write_bytes(text_of(LINES[:3]))
    source = FileSource([path, other], 10_000, store(path))
    await source.open()
    holder = FileSource([other], 10_000, store(path))
    await holder.open()

    assert [one.raw for one in await source.receive(10_000)] == LINES[:3]
    with pytest.raises(InputTakenError, match="another worker") as taken:
        await source.receive(10_000)

    assert taken.value.exit_code == 64
    await source.close()
    await holder.close()


async def test_many_small_files_take_few_descriptors(tmp_path):
    import os

    paths = []
    for number in range(250):
        (tmp_path / f"{number}").write_bytes(LINES[number] + b"\n")
        paths.append(Path(tmp_path / f"{number}"))
    source = FileSource(paths, 10_000, store(paths[0]))
    await source.open()
    before, given = len(os.listdir("/proc/self/fd")), []

    for _ in range(90):
        given += await source.receive(100)
    assert len(os.listdir("/proc/self/fd")) < before + 200
    source.settle([(one, ACK) for one in given])
    await source.remembered.save_idle(nothing)
    while more := await source.receive(100):
        source.settle([(one, ACK) for one in more])
        await source.remembered.save_idle(nothing)
        given += more
    await source.close()

    assert sorted(one.raw for one in given) == sorted(LINES[:250])


async def test_identifiers_are_not_in_the_checkpoint(path):
    path.write_bytes(text_of([b'{"user_id":"marker-of-a-person"}'] * 20))
    await life(path, read=1)

    (checkpoint,) = (path.parent / "state").iterdir()
    assert b"marker" not in checkpoint.read_bytes()
