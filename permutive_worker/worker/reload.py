"""Other settings for a worker that runs: which it can take, and how its limits follow.

What was learned of the API stays: the pace it was found to allow, a pause, a halt. A lower bound of places holds
as they become free. What a limiter has saved up or in hand is void, so that a second that begins after the change
holds the new rate and burst at most.
"""

import math
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec

from permutive_worker.config import KEYS, Key, RateLimit, Settings
from permutive_worker.http.gate import Gate
from permutive_worker.limits.local import LocalLimiter
from permutive_worker.limits.shared import SharedLimiter
from permutive_worker.ports import Limiter

AT_ONCE: Final = 1e6  # requests a second: whoever waits for a permit of a limit that is gone waits no longer


class Taken(NamedTuple):
    """What became of new settings: those in force now, the keys that changed, and those that wait for a restart."""

    settings: Settings
    changed: list[str]
    needs_restart: list[str]


def take_over(old: Settings, wanted: Settings) -> Taken:
    """Return `old` with what of `wanted` a running worker can take.

    Raises:
        ConfigurationError: that does not go with the rest of `old`.
    """
    differing = [key for key in KEYS.values() if _value(old, key) != _value(wanted, key)]
    sections = {
        key.section: msgspec.structs.replace(
            getattr(old, key.section),
            **{
                one.field: _value(wanted, one)
                for one in differing
                if one.reloads and one.section == key.section
            },
        )
        for key in differing
    }
    return Taken(
        msgspec.structs.replace(old, **sections),
        [key.name for key in differing if key.reloads],
        [key.name for key in differing if not key.reloads],
    )


def change_limits(gates: Iterable[Gate], old: Settings, new: Settings, now: float) -> None:
    """Let these gates, which were made for `old`, obey `new`."""
    for gate in gates:
        same = old.rate_limit == new.rate_limit
        gate.change(
            gate.limiter if same else _changed(gate.limiter, new.rate_limit),
            new.rate_limit.rate_per_second or math.inf,
            new.delivery.max_in_flight,
            now,
        )


def _changed(limiter: Limiter | None, limit: RateLimit) -> Limiter | None:
    rate = limit.rate_per_second
    if isinstance(limiter, SharedLimiter):  # then there is a rate: Settings sees to it
        limiter.change(rate, limit.burst or max(1.0, rate / 20))
        return limiter
    if isinstance(limiter, LocalLimiter):
        limiter.change(rate or AT_ONCE, limit.burst)
        return limiter if rate else None
    return LocalLimiter(rate, limit.burst) if rate else None


def _value(settings: Settings, key: Key) -> Any:
    return getattr(getattr(settings, key.section), key.field)
