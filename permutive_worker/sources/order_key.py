"""What a queue that keeps order must keep together: the jobs of one user."""

from hashlib import blake2b

from permutive_worker.jobs.decode import Decoder, Fault


class OrderKeys:
    """Keys for lines: equal for the jobs of one user, and saying nothing about who it is."""

    def __init__(self) -> None:
        self._decoder = Decoder()

    def of(self, line: bytes) -> str | None:
        """Return 32 hex digits; None: the line may go anywhere."""
        job = self._decoder.decode(line)
        user = None if isinstance(job, Fault) else job.user()
        return None if user is None else blake2b(repr(user).encode(), digest_size=16).hexdigest()
