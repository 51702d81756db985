"""One partition: what is delivered, read again, committed."""

import pytest

pytest.importorskip("confluent_kafka")

from permutive_worker.sources.kafka_partition import AGAIN_SECONDS, Partition


def given(partition, offsets):
    return [offset for offset in offsets if partition.accept(offset)]


def test_reads_on_at_what_was_committed_and_leaves_out_what_is_done():
    partition = Partition(10, "1:8:2+3,", 100)

    assert given(partition, range(10, 20)) == [10, 11, 15, 16, 17, 18, 19]
    assert partition.read_before == 18


def test_more_than_max_uncommitted_is_not_delivered_and_read_again_when_there_is_room():
    partition = Partition(0, None, 4)
    assert given(partition, range(8)) == [0, 1, 2, 3]
    assert partition.is_full

    for offset in (1, 2, 3):
        partition.settle(offset)
    partition.plan(0.0)
    assert partition.is_full
    assert partition.sought() is None

    partition.settle(0)
    partition.plan(0.0)
    assert not partition.is_full
    assert partition.sought() == 4
    assert given(partition, range(4, 6)) == [4, 5]


def test_what_was_given_back_is_read_again_and_nothing_else():
    partition = Partition(0, None, 100)
    given(partition, range(10))
    partition.settle(5)
    partition.give_back((3, 5, 7), 0.0)
    assert partition.in_hand == 10 - 1 - 2

    partition.plan(AGAIN_SECONDS / 2)
    assert partition.sought() is None
    partition.plan(AGAIN_SECONDS)
    assert partition.sought() == 3
    assert given(partition, range(3, 12)) == [3, 7, 10, 11]
    partition.plan(10 * AGAIN_SECONDS)
    assert partition.sought() is None


def test_what_was_given_back_is_not_committed():
    partition = Partition(0, None, 100)
    given(partition, range(4))
    partition.give_back((1,), 0.0)
    for offset in (0, 2, 3):
        partition.settle(offset)

    assert partition.due(with_text=True) == (1, "1:3:1+2,")
    assert partition.due(with_text=False) == (1, "")


def test_what_is_gone_from_the_log_is_not_waited_for():
    partition = Partition(0, None, 100)
    given(partition, range(4))
    partition.give_back((0, 1, 2), 0.0)
    partition.plan(AGAIN_SECONDS)
    assert partition.sought() == 0

    assert given(partition, [2, 3]) == [2]  # the first two are gone
    partition.settle(2)
    partition.settle(3)
    assert partition.due(with_text=False) == (4, "")


def test_a_log_that_begins_anew_is_told_from_one_that_is_read_again():
    partition = Partition(100, None, 100)
    given(partition, range(100, 110))
    partition.give_back((102,), 0.0)
    partition.plan(AGAIN_SECONDS)
    partition.sought()
    assert not partition.begins_anew(102)
    given(partition, range(102, 110))

    assert partition.begins_anew(0)
    partition.restart(0)
    assert given(partition, range(3)) == [0, 1, 2]


def test_messages_that_were_dropped_are_read_again():
    partition = Partition(None, None, 100)
    partition.read_again()
    assert partition.sought() < 0  # the beginning: nothing was ever committed

    given(partition, range(3))
    partition.read_again()
    assert given(partition, [5]) == []
    assert partition.sought() == 3
