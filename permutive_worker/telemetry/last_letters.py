"""The last dead letters: what a person on call looks at first, and nothing that says of whom they are."""

from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from permutive_worker.model import Entry
from permutive_worker.telemetry.status import LetterStatus

KEPT: Final = 20
_POSITION_CHARACTERS: Final = 200  # the end of it, where the line number is


class LastLetters:
    """Filled for each group of dead letters, never for what is delivered."""

    def __init__(self) -> None:
        self._letters: deque[LetterStatus] = deque(maxlen=KEPT)

    @property
    def latest(self) -> list[LetterStatus]:
        """The newest last."""
        return list(self._letters)

    def add(self, entries: Sequence[Entry], at: datetime) -> None:
        """Keep what became dead letters at this moment; of a large group, the last ones."""
        for entry in entries[-KEPT:]:
            self._letters.append(
                LetterStatus(
                    at=at,
                    type=entry.kind or None,
                    reason=entry.reason.value if entry.reason is not None else "internal",
                    status=entry.response.status if entry.response is not None else None,
                    code=entry.error.code if entry.error is not None else None,
                    position=entry.delivery.position[-_POSITION_CHARACTERS:],
                )
            )
