"""Whatever happens to messages, those of one group leave in order, one at a time, and none is forgotten."""

from hypothesis import given
from hypothesis import strategies as st

from permutive_worker.control.in_turn import InTurn

STEPS = st.lists(
    st.tuples(st.sampled_from(["offer", "offer", "done", "drop"]), st.integers(0, 9)), max_size=100
)


@given(STEPS)
def test_groups_leave_in_order_and_one_at_a_time(steps):
    turns, out, queues = InTurn(), [], {group: [] for group in range(3)}
    for number, (what, choice) in enumerate(steps):
        if what == "offer":
            group = choice % 3
            queues[group].append((group, number))
            if turns.offer((group, number), group):
                out.append((group, number))
            assert not turns.offer((group, number), group)
        elif out:
            place = out.pop(choice % len(out))
            queue = queues[place[0]]
            assert queue[0] == place
            if what == "done":
                queue.pop(0)
                following = turns.done(place)
                assert following == (queue[0] if queue else None)
                out += [following] if following else []
            else:
                assert turns.drop(place) == queue[1:]
                queue.clear()
        assert sorted(out) == sorted(queue[0] for queue in queues.values() if queue)
        assert turns.done("unknown") is None
        assert turns.drop("unknown") == []
