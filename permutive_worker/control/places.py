"""How many requests may be in flight: as many as are wanted, while the loop and the API keep up.

Three bounds, and the least of them holds:

    wanted    4 + 2 x pace x latency: what the pace can use (Little's law), twice, so that latency that grows is seen
              and followed. While all places are taken and answers come, more are added to the 4: a few hung
              attempts must not hold the places that the others need. No bound before the first answer.
    turned    what the loop turns well. More places than it turns in a few milliseconds, or than keep it
              busy all the time, bring nothing: they wait for each other, the working set leaves the cache
              (measured: 256 places cost a fifth more CPU a job than 32), and probes, pauses and stops come
              late. A slow server makes the loop neither late nor busy: it gets all the places.
    borne     halved when half of the last 20 attempts timed out, once for all that was sent before; free again
              within a second of answers. A server that hangs does not get all places thrown at it again.

Throttles are the pace's business and change nothing here; timeouts are not the pace's.
"""

import math
from collections import deque
from typing import Final

from permutive_worker.control.recent import Recent

FIRST: Final = 32
LEAST: Final = 16  # that the loop turns, however late it is
LEAST_BORNE: Final = 2
SPARE: Final = 4
HEADROOM: Final = 2.0
LATE_SECONDS: Final = 0.003
EARLY_SECONDS: Final = 0.0015
FULLY_BUSY: Final = 0.98  # of the time; a loop that waits a fiftieth of it has an answer to wait for
NEARLY_BUSY: Final = 0.93
SAMPLES: Final = 5  # the median of so many: one slow sync to the disk says nothing of the places


class Places:
    """Pure: lags, rates and times are arguments."""

    __slots__ = (
        "_borne",
        "_busy",
        "_halved_at",
        "_lags",
        "_late",
        "_most",
        "_spare",
        "_turned",
        "heard",
        "limit",
        "troubled",
    )

    def __init__(self, max_in_flight: int) -> None:
        self._most = max_in_flight
        self._borne = max_in_flight
        self._turned = min(max_in_flight, FIRST)
        self._spare = SPARE
        self._halved_at = -math.inf
        self._late = Recent()
        self._lags: deque[float] = deque(maxlen=SAMPLES)
        self._busy: deque[float] = deque(maxlen=SAMPLES)
        self.limit = self._turned
        self.heard = False  # whoever hears an answer sets it: an attribute, for it is set for every job
        self.troubled = False  # else there is no need to tell of answers

    def __repr__(self) -> str:
        return f"<Places {self.limit} of {self._most}>"

    def set_most(self, max_in_flight: int) -> None:
        """Obey another bound from now on; what is in flight beyond it lands before more is sent."""
        self._borne = min(self._borne, max_in_flight) if self.troubled else max_in_flight
        self._most = max_in_flight
        self._turned = min(self._turned, max_in_flight)
        self.limit = min(self.limit, max_in_flight)

    def answered(self) -> None:
        """An attempt had an answer, whatever it says."""
        self._late.had_not()

    def timed_out(self, sent_at: float, now: float) -> None:
        """No answer came in time to an attempt that was sent at `sent_at`."""
        if sent_at < self._halved_at:
            return
        self.troubled = True
        self._late.had()
        if self._late.mostly:
            self._late.forget()
            self._halved_at = now
            self._borne = self.limit = max(min(LEAST_BORNE, self._most), self.limit // 2)

    def look(
        self,
        lag_seconds: float,
        in_flight: int,
        per_second: float,
        latency_seconds: float,
        busy: float = 0.0,
    ) -> bool:
        """Look again, some twenty times a second; True if there are more places now.

        Args:
            lag_seconds: how late the loop was.
            in_flight: how many places are taken.
            per_second: the pace.
            latency_seconds: of answers, smoothed; 0 when none is known.
            busy: the share of the time since the last look that the loop worked.
        """
        before = self.limit
        full = in_flight >= before
        self._lags.append(lag_seconds)
        self._busy.append(busy)
        if full:
            self._turn()
        if self.heard:
            self._hear(full=full)
        self.limit = min(self._turned, self._borne, self._wanted(per_second, latency_seconds))
        return self.limit > before

    def _hear(self, *, full: bool) -> None:
        """Answers came since the last look."""
        self.heard = False
        self._spare = self._more(self._spare) if full else max(SPARE, self._spare * 19 // 20)
        if self.troubled:
            self._borne = self._more(self._borne)
            self.troubled = self._borne < self._most or self._late.any

    def _more(self, places: int) -> int:
        return min(self._most, places * 5 // 4 + 1)

    def _wanted(self, per_second: float, latency_seconds: float) -> int:
        if not latency_seconds:
            return self._most
        return self._spare + int(min(self._most, HEADROOM * per_second * latency_seconds))

    def _turn(self) -> None:
        if len(self._lags) < SAMPLES:
            return
        lag, busy = sorted(self._lags)[SAMPLES // 2], sorted(self._busy)[SAMPLES // 2]
        if lag > LATE_SECONDS or busy > FULLY_BUSY:
            self._turned = max(min(LEAST, self._most), min(self._turned, self.limit) * 3 // 4)
            self._lags.clear()
            self._busy.clear()
        elif lag < EARLY_SECONDS and busy < NEARLY_BUSY:
            self._turned = self._more(self._turned)
