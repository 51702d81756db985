"""Tells throttles that speak of the rate from those that come at any rate.

An API may answer 429 for reasons of its own: a limit for each user, a busy shard, a rolling deploy. Whoever
slows down for each of them ends at a crawl (simulated: 400/s allowed, 1 % of answers 429: 10 % used).
The rule: throttles that come while the pace is below what the API has proven to take say nothing of the rate.

    proven     from one throttle to the next a bucket that was empty let so many a second through, so it
               fills at least so fast
    low        the pace is below that, and the last cut is long enough ago for a bucket to have gained
    share      of the answers while low that were throttles, in blocks of 50; more than 5 in a block mean
               that the limit has fallen, and are no evidence
    assumed    a share that others found to come at any pace (`control.futility`)
    score      a CUSUM: a throttle adds 1, any other answer takes twice the odds of one away
    threshold  1 while the share is nothing: every throttle counts. Else so high that noise alone reaches it
               once in 30 s: for Poisson throttles e^θ = 1 + 2θ gives θ = 1.256; denser ones have a smaller θ.
               Source: Lorden 1971, Procedures for reacting to a change in distribution.
"""

import math
from typing import Final

LOW: Final = 0.97  # of what is proven; a bucket gains 3 % then, more than timers are late
GAIN_SECONDS: Final = 0.3
LONE: Final = 20  # others since the throttle before: not the density of a limit that has fallen
FADING: Final = 0.99  # of what is proven, with each throttle: limits change
LEAST_STRETCH_SECONDS: Final = 0.25
BLOCK: Final = 50
MOST_IN_A_BLOCK: Final = 5
MOST_SHARE: Final = 0.05  # an API that refuses more than that has a limit
LEAST_EVIDENCE: Final = 3  # throttles; one or two may be a mistake of `proven`
DOUBT_THROTTLES: Final = 2  # added to the evidence: too small a share lets noise cut
DOUBT_ANSWERS: Final = 100
MEMORY_ANSWERS: Final = 10_000
SECONDS_BETWEEN_MISTAKES: Final = 30.0
_THETA: Final = 1.256


class Noise:
    """Pure. Hears of every throttle and, in sums, of the other answers to what was sent after the last cut."""

    __slots__ = (
        "_block",
        "_block_throttles",
        "_cut_at",
        "_evidence",
        "_others",
        "_score",
        "_stretch",
        "_stretch_at",
        "_throttles",
        "_while_low",
        "assumed",
        "filled",
        "is_new",
        "proven",
        "share",
    )

    def __init__(self) -> None:
        self.share = 0.0
        self.assumed = 0.0
        self.is_new = False  # the share was nothing before the last answer
        self.proven = 0.0  # requests a second
        self.filled = 0.0  # requests a second, between the last two throttles; 0: they do not tell
        self._stretch = 0  # others since the last throttle
        self._stretch_at = -math.inf
        self._cut_at = -math.inf
        self._block = self._block_throttles = 0
        self._evidence = self._while_low = 0.0
        self._score = 0.0
        self._throttles = self._others = 0  # since the score was 0

    def __repr__(self) -> str:
        return f"<Noise {self.share:.2%} score={self._score:.1f}>"

    def others(self, answers: int, pace: float, now: float) -> None:
        """So many answers were no throttles, at a pace of so many requests a second."""
        self.is_new = False
        self._stretch += answers
        self._others += answers
        self._score -= 2 * self.share / (1 - self.share) * answers
        if self._score <= 0:
            self._start_score()
        if self._is_low(pace, now):
            self._note(answers, 0)

    def speaks_of_the_rate(self, pace: float, now: float, round_trip_seconds: float, *, dear: bool) -> bool:
        """A throttle came at this pace: whether to slow down for it.

        `dear`: each costs a pause, so none is let pass only to learn from it.
        """
        self.is_new = False
        explained = self._is_low(pace, now)
        if explained:
            self._note(0, 1)
        # With a share the score decides; before that, a lone throttle while low only gathers evidence.
        explained = explained and self._stretch >= LONE and not dear
        self._score += 1
        self._throttles += 1
        self._end_stretch(now, round_trip_seconds)
        return self._score >= self._threshold(pace) and not explained

    def assume(self, share: float, pace: float = 0.0) -> None:
        """So many throttles come at any pace; this one met no more than they. 0: that is over, with all that was learned."""
        if not share:
            self._evidence = self._while_low = 0.0
        self.assumed = share
        self.proven = max(self.proven, pace)
        self._start_score()
        self._learn()

    def cut(self, now: float) -> float:
        """The pace is cut. Return the share of throttles beyond the noise since they became frequent, 0 if few."""
        throttles, answers = self._throttles, self._throttles + self._others
        self._start_score()
        self._cut_at = now
        if self.share:
            self.proven = 0.0  # with noise it was no empty bucket, and this is the limit
        return max(0.0, throttles / answers - self.share) if throttles >= LEAST_EVIDENCE else 0.0

    def forget(self) -> None:
        """The limit has fallen: what was proven is not true any more."""
        self.proven = 0.0
        self._block = self._block_throttles = 0

    def _is_low(self, pace: float, now: float) -> bool:
        return pace < LOW * self.proven and now > self._cut_at + GAIN_SECONDS

    def _threshold(self, pace: float) -> float:
        expected = SECONDS_BETWEEN_MISTAKES * self.share * pace
        # The root of s·e^θ + (1 - s)·e^(-2sθ/(1-s)) = 1, from below: within a fifth up to a share of 0.7.
        theta = _THETA * (1 - self.share) ** 1.5
        return 1.0 + math.log(expected) / theta if expected > 1 else 1.0

    def _start_score(self) -> None:
        self._score, self._throttles, self._others = 0.0, 0, 0

    def _end_stretch(self, now: float, round_trip_seconds: float) -> None:
        seconds, others = now - self._stretch_at, self._stretch
        if self._stretch_at == self._cut_at:
            seconds -= round_trip_seconds  # answers to what was sent before a cut are not told
        told = seconds >= LEAST_STRETCH_SECONDS and others >= LONE
        self.filled = others / seconds if told else 0.0
        if told:
            self.proven = max(FADING * self.proven, self.filled)
        self._stretch, self._stretch_at = 0, now

    def _note(self, others: int, throttles: int) -> None:
        self._block += others + throttles
        self._block_throttles += throttles
        if self._block < BLOCK:
            return
        if self._block_throttles <= MOST_IN_A_BLOCK * self._block / BLOCK:
            self._evidence += self._block_throttles
            self._while_low += self._block
        else:
            self._evidence = self._while_low = 0.0
        self._block = self._block_throttles = 0
        self._learn()

    def _learn(self) -> None:
        if self._while_low > MEMORY_ANSWERS:
            self._while_low, self._evidence = self._while_low / 2, self._evidence / 2
        before, self.share = self.share, self.assumed
        if self._evidence >= LEAST_EVIDENCE:
            share = (self._evidence + DOUBT_THROTTLES) / (self._while_low + DOUBT_ANSWERS)
            self.share = max(self.assumed, min(MOST_SHARE, share))
        self.is_new = self.share > 0.0 == before
