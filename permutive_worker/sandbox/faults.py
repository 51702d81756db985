"""What goes wrong, and when: decided from a seed, the number of the request and the seconds since the first.

Pure and deterministic: the same seed and the same profile fail the same requests, however fast they come.

    kind        what the client sees                                       was the request taken?
    a status    an error envelope with that status                         no
    `reset`     the connection is reset after the request was read         every other one
    `truncate`  the right status, less than Content-Length says, the end   yes
    `hang`      nothing, until it goes or five minutes have passed         no

A profile is a comma list of names (`NAMED`) and of `kind=share`, for example `revoked,500=0.1,reset=0.02`.
`event:403=1` is for the requests of one endpoint, as the ledger names them, and `@TEXT:403=1` for those with that
text in their body, one user's for example; what fits there comes before what is for all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

RESET: Final = "reset"
TRUNCATE: Final = "truncate"
HANG: Final = "hang"

_WORD: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one request.

    `kind` is empty when nothing does; `status` is 0 unless an error is answered; `processed` says whether
    the request takes effect all the same.
    """

    kind: str = ""
    status: int = 0
    processed: bool = True
    retry_after_seconds: float | None = None


NOTHING: Final = Fault()


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time in which every request gets `fault`: once, or again every `period_seconds`."""

    fault: Fault
    start_seconds: float
    end_seconds: float
    period_seconds: float = 0

    def covers(self, seconds: float) -> bool:
        within = seconds % self.period_seconds if self.period_seconds else seconds
        return self.start_seconds <= within < self.end_seconds


@dataclass(frozen=True, slots=True)
class Profile:
    """Windows, looked at first, and shares: (kind, upper bound of its slice of 0..1), bounds rising.

    `scoped` has shares that are only for some requests, by endpoint or `@TEXT`.
    """

    text: str
    windows: tuple[Window, ...] = ()
    slices: tuple[tuple[str, float], ...] = ()
    scoped: tuple[tuple[str, tuple[tuple[str, float], ...]], ...] = ()


_STORM: Final = Window(Fault("429", 429, processed=False, retry_after_seconds=2), 1, 4, period_seconds=10)
_REVOKED: Final = Window(Fault("401", 401, processed=False), 3, 8)

_WINDOWS: Final[Mapping[str, Window]] = MappingProxyType({"storm": _STORM, "revoked": _REVOKED})
_SHARES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "none": "",
        "flaky": "500=0.1,502=0.03,503=0.05,504=0.02",
        "resets": "reset=0.05",
        "truncated": "truncate=0.05",
        "hangs": "hang=0.02",
        "lossy": "500=0.1,reset=0.02,hang=0.01,429=0.01,truncate=0.001",
    }
)

NAMED: Final = ("none", "storm", "flaky", "resets", "truncated", "hangs", "revoked", "lossy")


class ProfileError(ValueError):
    """The text is no profile; the message says what would be one."""


def parse_profile(text: str) -> Profile:
    """Read a comma list of profile names and `kind=share`.

    Raises:
        ProfileError: an unknown name or kind, a share outside 0..1, or shares that add up to more than 1.

    """
    windows: list[Window] = []
    shares: dict[str, dict[str, float]] = {"": {}}  # by scope
    for word in _words(text):
        if word in _WINDOWS:
            windows.append(_WINDOWS[word])
        else:
            scope, _, share_text = word.rpartition(":")
            kind, share = _parse_share(share_text)
            of_scope = shares.setdefault(scope, {})
            of_scope[kind] = of_scope.get(kind, 0.0) + share
    for_all = _slices(shares.pop(""))
    scoped = tuple((scope, _slices(of_scope)) for scope, of_scope in shares.items())
    return Profile(text, tuple(windows), for_all, scoped)


def _words(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    expanded = (_SHARES.get(word, word) for word in words if word)
    return [word for group in expanded for word in group.split(",") if word]


def _parse_share(word: str) -> tuple[str, float]:
    kind, equals, number = word.partition("=")
    if not equals:
        raise ProfileError(
            f"{word!r} is no fault profile; known are {', '.join(NAMED)}, or kind=share such as 500=0.1"
        )
    if kind not in (RESET, TRUNCATE, HANG) and not (
        kind.isascii() and kind.isdigit() and 400 <= int(kind) <= 599
    ):
        raise ProfileError(
            f"{kind!r} is no fault; known are {RESET}, {TRUNCATE}, {HANG} and a status from 400 to 599"
        )
    return kind, _parse_number(kind, number)


def _parse_number(kind: str, number: str) -> float:
    try:
        share = float(number)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ProfileError(f"the share of {kind} must be a number from 0 to 1, such as {kind}=0.05")
    return share


def _slices(shares: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    bound, slices = 0.0, []
    for kind, share in shares.items():
        bound += share
        slices.append((kind, bound))
    if bound > 1 + 1e-9:  # the error of adding floats
        raise ProfileError(f"the shares add up to {bound:g}; they may not exceed 1")
    return tuple(slices)


class Faults:
    """Decides, for each request by its number, what goes wrong with it."""

    __slots__ = ("_profile", "_seed")

    def __init__(self, profile: Profile, seed: int) -> None:
        self._profile = profile
        self._seed = seed

    def __repr__(self) -> str:
        return f"Faults({self._profile.text!r}, seed={self._seed})"

    def decide(self, number: int, seconds_since_first: float, endpoint: str = "", body: bytes = b"") -> Fault:
        """Return the fault of request `number` (from 1), arriving so long after the first one."""
        for window in self._profile.windows:
            if window.covers(seconds_since_first):
                return window.fault
        for scope, slices in self._profile.scoped:
            if _fits(scope, endpoint, body):
                return self._drawn(number, slices)
        if self._profile.slices:
            return self._drawn(number, self._profile.slices)
        return NOTHING

    def _drawn(self, number: int, slices: tuple[tuple[str, float], ...]) -> Fault:
        word = _mixed(self._seed, number)
        point = (word >> 11) / (1 << 53)
        for kind, bound in slices:
            if point < bound:
                return _fault(kind, processed=bool(word & 1))
        return NOTHING


def _fits(scope: str, endpoint: str, body: bytes) -> bool:
    return scope[1:].encode() in body if scope.startswith("@") else scope == endpoint


def _fault(kind: str, *, processed: bool) -> Fault:
    if kind == RESET:
        return Fault(RESET, processed=processed)
    if kind == TRUNCATE:
        return Fault(TRUNCATE)
    if kind == HANG:
        return Fault(HANG, processed=False)
    return Fault(kind, int(kind), processed=False)


def _mixed(seed: int, number: int) -> int:
    """Return 64 well-mixed bits: splitmix64, since a new `random.Random` costs ten times as much."""
    word = (seed * 0xD1342543DE82EF95 + number * 0x9E3779B97F4A7C15) & _WORD
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _WORD
    return word ^ (word >> 31)
