"""A file, its reader, its checkpoint and crashes, against a model: nothing is lost, nothing is done twice in one life."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from permutive_worker.control.unsettled import FIRST, Place, Unsettled
from permutive_worker.model import Delivery
from permutive_worker.sources.record import VERSION, Generation, Record, decode_records, encode_record


class Machine(RuleBasedStateMachine):
    """Lines are their lengths; a line of length n takes n + 1 bytes, the last one perhaps only n."""

    @initialize(lengths=st.lists(st.integers(1, 9), max_size=30))
    def begin(self, lengths):
        self.lengths = lengths
        self.unended = False  # the last line has no line end
        self.done: set[tuple[int, int]] = set()  # (number, length) with a durable outcome
        self.disk = b""
        self.live(Unsettled())
        self.save(synced=True)

    def live(self, unsettled):
        self.unsettled = unsettled
        self.pending: dict[int, Delivery] = {}
        self.given: set[int] = set()
        self.at_end = False

    def place(self, number):
        return Place(sum(self.lengths[: number - 1]) + number - 1, number)

    @precondition(lambda self: not self.at_end)
    @rule(count=st.integers(1, 8))
    def read(self, count):
        reading = self.unsettled.reading
        assert reading == self.place(reading.number)
        last = min(len(self.lengths), reading.number + count - 1)
        lines = [
            Delivery(b"x" * self.lengths[number - 1], None, self.place(number).offset, number)
            for number in range(reading.number, last + 1)
        ]
        if not lines:
            return
        at_end = self.unended and last == len(self.lengths)
        then = self.place(last + 1)
        then = Place(then.offset - at_end, then.number)
        for line in self.unsettled.receive(lines, then, unended=at_end):
            assert line.number not in self.given, "given twice in one life"
            self.given.add(line.number)
            self.pending[line.number] = line
        self.at_end = at_end  # then it reads nothing more in this life

    @precondition(lambda self: self.pending)
    @rule(data=st.data(), ends=st.sampled_from(["delivered", "dead-lettered", "failed"]))
    def settle(self, data, ends):
        number = data.draw(st.sampled_from(sorted(self.pending)))
        if ends == "failed":  # it backs off: nothing is told the source
            return
        line = self.pending.pop(number)
        self.done.add((number, len(line.raw)))
        self.unsettled.settle([number])

    @rule(synced=st.booleans())
    def save(self, synced):
        snapshot = self.unsettled.snapshot()
        record = Record(VERSION, "in", "out", "worker", None, [Generation(1, 2, "", 3, "", snapshot)])
        self.disk = encode_record(record) if synced else self.disk + encode_record(record)

    @rule(torn=st.booleans(), grown=st.lists(st.integers(1, 9), max_size=4), fragment=st.integers(-2, 3))
    def crash_and_restart(self, torn, grown, fragment):
        if torn:
            self.disk += b"0123456789abcdef {"
        if self.unended and fragment >= 0:  # the writer ends its line, longer than it was or not
            self.lengths[-1] += fragment
            self.unended = False
        if not self.unended and grown:
            self.lengths += grown
            self.unended = fragment < 0
        reading = decode_records(self.disk).generations[0].reading
        self.live(Unsettled(reading))
        self.save(synced=True)

    @precondition(lambda self: not self.pending and not self.unended)
    @rule(grown=st.lists(st.integers(1, 9), min_size=1, max_size=4))
    def grow(self, grown):
        self.lengths += grown

    @invariant()
    def nothing_is_lost(self):
        """What is not done is in this life's hands, or would be given by a life that began from the disk."""
        for begin in (None, decode_records(self.disk).generations[0].reading):
            if begin is None:
                known, ahead = set(self.pending), self.unsettled
            else:
                known, ahead = set(), Unsettled(begin)
            given = self.what_is_given_by(ahead)
            for number, length in enumerate(self.lengths, 1):
                assert (number, length) in self.done or number in known or number in given, number

    def what_is_given_by(self, unsettled):
        twin = Unsettled(unsettled.snapshot()) if unsettled is self.unsettled else unsettled
        reading = twin.reading
        lines = [
            Delivery(b"x" * self.lengths[number - 1], None, self.place(number).offset, number)
            for number in range(reading.number, len(self.lengths) + 1)
        ]
        return {line.number for line in twin.receive(lines, self.place(len(self.lengths) + 1))}


TestCheckpoint = Machine.TestCase
TestCheckpoint.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_a_fragment_that_has_grown_is_read_again_as_a_whole():
    unsettled = Unsettled()
    unsettled.receive([Delivery(b"ab", None, 0, 1)], Place(2, 2), unended=True)
    unsettled.settle([1])

    resumed = Unsettled(unsettled.snapshot())

    assert resumed.reading == FIRST
    whole = Delivery(b"abc", None, 0, 1)
    assert resumed.receive([whole], Place(4, 2)) == [whole]
    assert resumed.snapshot().next == Place(4, 2)
