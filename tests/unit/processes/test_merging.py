from datetime import UTC, datetime

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from permutive_worker.model import Reason
from permutive_worker.processes.merging import add, give_back_pending, merged_status
from permutive_worker.processes.messages import Farewell, Frames, Report, frame
from permutive_worker.telemetry.counts import Counts
from permutive_worker.telemetry.status import HaltStatus, LaneStatus, LineStatus, Status

EARLY, LATE = datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC)
LANE = LaneStatus("", 1, 2, 3, 4, 64, 100.0, 50.0, None, None, "closed", credentials_valid=True)
STATUS = Status("running", "run-1", EARLY, 8.0, [LANE], 5, 300, 1024, 6, 10, 40, held=1)


def counted(read, delivered, dead):
    counts = Counts("file", ["identify", "event"])
    counts.read = read
    counts.kinds["identify"].delivered = delivered
    counts.dead_lettered[Reason.REJECTED] = dead
    for _ in range(delivered):
        counts.kinds["identify"].answered(418, 0.2)
    counts.rate_limit_wait_seconds = 0.5
    counts.last_delivery_at = EARLY if delivered else None
    return counts


def sent(counts, status=STATUS):
    """As it comes out of the other end of the socket."""
    (report,) = Frames(Report, Farewell).feed(frame(Report(vars(counts), status)))
    return report


def test_counts_survive_the_way_and_add_up():
    total = counted(10, 4, 1)
    total.checkpoint_at = EARLY
    other = counted(7, 2, 3)
    other.checkpoint_at = LATE

    add(total, sent(other).counts)

    assert (total.read, total.delivered, total.dead) == (17, 6, 4)
    assert total.kinds["identify"].codes[418] == 6
    assert total.kinds["identify"].duration.count == 6
    assert total.kinds["identify"].duration.total == 6 * 0.2
    assert total.dead_lettered[Reason.REJECTED] == 4
    assert (total.rate_limit_wait_seconds, total.last_delivery_at, total.checkpoint_at) == (1.0, EARLY, LATE)
    assert (total.source, total.kinds.keys()) == ("file", {"identify", "event"})


def test_every_count_is_added_and_nothing_else_changes():
    counts = counted(10, 4, 1)
    nothing = Counts("file", ["identify", "event"])
    add(nothing, sent(counts).counts)

    assert frame(Report(vars(nothing), STATUS)) == frame(Report(vars(counts), STATUS))


def test_what_was_added_is_not_shared():
    first, second = counted(1, 1, 0), Counts("file", ["identify", "event"])
    add(second, vars(first))
    add(second, vars(first))

    assert (first.read, first.kinds["identify"].duration.count) == (1, 1)


def test_what_a_dead_process_had_in_hand_is_returned():
    counts = counted(10, 4, 1)
    give_back_pending(counts, 5)

    assert counts.read == counts.ended


@given(st.lists(st.integers(1, 50), min_size=1, max_size=5), st.data())
def test_frames_are_found_however_they_are_cut(counts, data):
    stream = b"".join(frame(Farewell(code)) for code in counts)
    frames, found = Frames(Report, Farewell), []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        found += frames.feed(stream[:cut])
        stream = stream[cut:]

    assert [one.exit_code for one in found] == counts


def test_lanes_of_one_workspace_are_one_lane_and_what_is_pending_adds_up():
    held = msgspec.structs.replace(
        LANE,
        paused_until=LATE,
        pause_reason="retry_after",
        breaker="half_open",
        credentials_valid=False,
        halted=True,
        halts=[HaltStatus(None, 401, LATE, 2)],
        longest_line=LineStatus("jobs-2.ndjson:7", 9, 900),
    )
    older = msgspec.structs.replace(held, paused_until=EARLY, halts=[HaltStatus(None, 401, EARLY, 1)])
    other = msgspec.structs.replace(LANE, workspace="other")
    statuses = [
        msgspec.structs.replace(STATUS, lanes=lanes) for lanes in ([LANE, other], [held], [older, other])
    ]

    merged = merged_status(statuses, run_id="run-2", total=None)

    lane, second = merged.lanes
    assert sum(merged.pending.values()) == sum(sum(one.pending.values()) for one in statuses)
    assert (merged.run_id, merged.total, merged.pending_bytes_limit) == ("run-2", None, 3072)
    assert (lane.max_in_flight, lane.rate_ceiling, lane.rate_effective) == (192, 300.0, 150.0)
    assert (lane.paused_until, lane.pause_reason, lane.breaker) == (LATE, "retry_after", "half_open")
    assert (lane.credentials_valid, lane.halted) == (False, True)
    assert [halt.since for halt in lane.halts] == [EARLY]
    assert lane.longest_line.position == "jobs-2.ndjson:7"
    assert (second.workspace, second.ready) == ("other", 2)
    assert merged.ready  # the other workspace moves
    assert not merged_status([statuses[1], STATUS]).ready


def test_the_state_is_that_of_who_still_does_something():
    def state(*states):
        return merged_status([msgspec.structs.replace(STATUS, state=one) for one in states]).state

    assert state("running", "starting") == "running"
    assert state("ended", "draining", "running") == "running"  # one is at the end of its files
    assert state("ended", "draining") == "draining"
    assert state("ended", "starting") == "starting"
    assert state("ended", "ended") == "ended"
