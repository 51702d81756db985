"""What each broker's own file gives to `QueueSource`: the talk with that broker, and nothing else."""

from collections.abc import Hashable, Sequence
from typing import Final, Protocol

from permutive_worker.model import Delivery

FETCH_SECONDS: Final = 0.5  # a stop waits for the fetch under way, and must end the input within 1 s


class Broker(Protocol):
    """One queue at one broker.

    `QueueSource` calls `fetch` from one task, `acknowledge` and `give_back` from another, `keep` and `lag`
    from two more, so they overlap; none of them is called while the link is away, and none is
    cancelled but at the end. All of them raise LinkError if the link broke, with a sentence without
    user and password: then `connect` is called again, until it works.

    Attributes:
        kind: a metric label, from a closed set: redis, nats, kafka …
        where: for sentences: `redis://host:6379/jobs`, never with user-info.
        keep_seconds: how often `keep` is called; inf: never.
        redeliveries: messages given by `fetch` that the broker had given to somebody before.
    """

    kind: str
    where: str
    keep_seconds: float
    redeliveries: int

    async def connect(self) -> None:
        """Connect and see that the queue is there; what is left of an old link is dropped.

        Raises:
            UnreachableError: nobody answers (69 at the start).
            ConfigurationError: wrong name, password or permission (78 at the start; while running tried again).
        """
        ...

    async def fetch(self, max_count: int) -> Sequence[Delivery]:
        """Return messages, `()` if none came within FETCH_SECONDS.

        `raw` is the whole message, `place` what tells it from all others. A message that is given again
        has an equal place wherever the broker can tell, and is then settled by its newest handle;
        `QueueSource` passes it on only if it is not in hand already.
        """
        ...

    async def acknowledge(self, places: Sequence[Hashable]) -> int:
        """Never again. Returns how many the broker will give again all the same: duplicates to come."""
        ...

    async def give_back(self, places: Sequence[Hashable]) -> None:
        """Let any worker take them at once, this one too."""
        ...

    async def keep(self, places: Sequence[Hashable]) -> None:
        """Tell the broker that we live and still work on these; may be none."""
        ...

    async def lag(self) -> int | None:
        """Messages nobody was given yet; None: this broker cannot say."""
        ...

    async def close(self) -> None:
        """Leave nothing that another worker must wait for. Never raises; may be called twice, or unconnected."""
        ...


class QueueOrigin:
    """Positions such as `redis:jobs/1700000-0`."""

    def __init__(self, name: str) -> None:
        """`name` is kind and queue: `redis:jobs`."""
        self._name = name

    def position(self, delivery: Delivery) -> str:
        """Built from the delivery's place: text, bytes, a number, or a tuple of them."""
        place = delivery.place
        parts = place if isinstance(place, tuple) else (place,)
        return "/".join([self._name, *(_text(part) for part in parts)])


def _text(part: object) -> str:
    return part.decode(errors="replace") if isinstance(part, bytes) else str(part)
