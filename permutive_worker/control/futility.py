"""Tells that slowing down does not help: throttles stay as dense while the pace falls.

A limit refuses a share of 1 - limit/pace. Of a pace of which it refuses 70 % at most, a quarter is below it and meets
no throttle. So if throttles there are about as dense as far above, they say nothing of the rate: an API
that refuses one request of ten, or each job's first attempt, does so at any pace.
"""

import math
from typing import Final

OCTAVES: Final = 3  # a level is an octave of paces: between two so far apart lies a factor of four at least
MOST_SHARE: Final = 0.7
LEAST_SHARE: Final = (
    0.05  # a smaller one is learned from throttles below a rate that is proven: `control.noise`
)
LIKE: Final = 0.5  # of what is expected: a few throttles tell it no better
LEAST_TURNS: Final = 3  # of a level
CALM: Final = 40  # answers in a row that were none: it has ended. By chance so many come once in 70 at 10 %
MEMORY: Final = 200  # answers of a level
RECENT: Final = 100  # answers; a share that was found does not outlive its throttles
# A limit that is passed keeps them up. So a share that was found is tried again, at a quarter of the pace.
BELIEVED_SECONDS: Final = 20.0
TRIAL_ANSWERS: Final = 60
TRIAL_LIKE: Final = (
    0.25  # of the share: with 10 % so few come by chance once in 70 trials; a limit brings none
)


class Futility:
    """Pure. Hears of every throttle, and in sums of the other answers.

    Attributes:
        share: of throttles that come at any pace; 0 while none are known.
        pace: requests a second, the highest at which it was seen.
    """

    __slots__ = ("_calm", "_found_at", "_levels", "_recent", "_trial", "pace", "share")

    def __init__(self) -> None:
        self.share = self.pace = 0.0
        self._found_at = -math.inf
        self._trial: _Level | None = None
        self._levels: dict[int, _Level] = {}
        self._calm = 0
        self._recent = 0.0

    def others(self, answers: int, pace: float) -> None:
        """So many answers were no throttles."""
        if self._trial is not None:
            self._trial.note(answers, 0, pace)
        self._calm += answers
        self._recent *= (1 - 1 / RECENT) ** answers
        self.share = min(self.share, 2 * self._recent)
        if self._calm >= CALM and not self.share:
            self._levels.clear()
        else:
            self._level(pace).note(answers, 0, pace)

    def throttled(self, pace: float, now: float) -> bool:
        """A throttle came. Return whether that has told that slowing down is futile."""
        level = self._level(pace)
        level.note(0, 1, pace)
        level.turns += self._calm > 0
        self._calm = 0
        self._recent += (1 - self._recent) / RECENT
        if self._trial is not None:
            self._trial.note(0, 1, pace)
            return False
        above = self._as_dense_far_above(_octave(pace))
        if above is None:
            return False
        below = [level for octave, level in self._levels.items() if octave < above]
        share = sum(level.throttles for level in below) / sum(level.answers for level in below)
        self.share = self._recent = min(MOST_SHARE, share)
        self.pace, self._found_at = self._levels[above].pace, now
        self._levels.clear()
        return True

    def is_due(self, now: float) -> bool:
        """Whether the share was found so long ago that it must be tried."""
        return self.share > 0.0 and now > self._found_at + BELIEVED_SECONDS

    def begin_trial(self) -> None:
        """From now on the pace is a quarter."""
        self._trial = _Level()

    def end_trial(self, now: float) -> bool | None:
        """Return whether there are such throttles at that pace too, None while that is not known."""
        trial = self._trial
        if trial is None or trial.answers < TRIAL_ANSWERS:
            return None
        futile = 0.0 < TRIAL_LIKE * self.share <= trial.share
        self.forget()
        if futile:
            self._found_at, self.share = now, min(MOST_SHARE, trial.share)
            self._recent = self.share
        return futile

    def forget(self) -> None:
        """Nothing is known, and nothing is tried."""
        self.share, self._trial = 0.0, None
        self._levels.clear()

    def _level(self, pace: float) -> "_Level":
        return self._levels.setdefault(_octave(pace), _Level())

    def _as_dense_far_above(self, octave: int) -> int | None:
        """The highest level, far above this one, whose throttles were about as dense."""
        here = self._levels[octave]
        if not here.is_mixed:
            return None
        for above in sorted(self._levels, reverse=True):
            level = self._levels[above]
            if above >= octave + OCTAVES and level.is_mixed and here.share >= LIKE * level.share:
                return above
        return None


class _Level:
    """What an octave of paces met."""

    __slots__ = ("answers", "pace", "throttles", "turns")

    def __init__(self) -> None:
        self.answers = self.throttles = self.pace = 0.0
        self.turns = 0.0  # throttles after something else

    @property
    def is_mixed(self) -> bool:
        """Throttles among the rest, as dice would mix them; a window that is used up throttles all at once."""
        turns = max(LEAST_TURNS, LIKE * (1 - self.share) * self.throttles)
        return self.turns >= turns and LEAST_SHARE <= self.share <= MOST_SHARE

    @property
    def share(self) -> float:
        return self.throttles / self.answers

    def note(self, others: int, throttles: int, pace: float) -> None:
        self.answers += others + throttles
        self.throttles += throttles
        self.pace = max(self.pace, pace)
        if self.answers > MEMORY:
            self.answers, self.throttles, self.turns = self.answers / 2, self.throttles / 2, self.turns / 2


def _octave(pace: float) -> int:
    return math.frexp(pace)[1]
