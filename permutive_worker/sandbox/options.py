"""What a sandbox can be told, in one frozen value."""

from dataclasses import dataclass, field

from permutive_worker.sandbox import faults, quota


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """How the imitation behaves.

    Attributes:
        rate_limit_per_second: requests let through a second, 0 for all of them; the others get 429.
        burst: most that pass at once; none means a tenth of the rate, at least 1.
        retry_after_seconds: sent as `Retry-After` with each 429; none by default, as Permutive has none.
        latency_seconds: the least time from having read a request to answering it.
        faults: what goes wrong, see `faults`.
        seed: of the faults and of every id made up.
        api_keys: the keys that are valid; none means that any key is.
        public_keys: keys that are valid, but refused with 403 where Permutive asks for a private one.
        strict_ids: refuse a `user_id`, `view_id` or `session_id` that is no UUID, as the schema has it.
        keep_bodies: keep plain ids and whole bodies in the ledger, instead of hashes.
        ledger_limit: most entries the ledger keeps one by one; the sums go on.
        page_size: segments on one page of a list.

    """

    rate_limit_per_second: float = 0
    burst: float | None = None
    retry_after_seconds: float | None = None
    latency_seconds: float = 0
    faults: str = "none"
    seed: int = 0
    api_keys: frozenset[str] | None = field(default=None, repr=False)
    public_keys: frozenset[str] = field(default=frozenset(), repr=False)
    strict_ids: bool = False
    keep_bodies: bool = False
    ledger_limit: int = 1_000_000
    page_size: int = 100

    def __post_init__(self) -> None:
        """Refuse what cannot be meant, before anything listens.

        Raises:
            ValueError: with one sentence saying which value and why (`faults.ProfileError` for the profile).

        """
        faults.parse_profile(self.faults)
        quota.TokenBucket(self.rate_limit_per_second, self.burst)
        if not 0 <= self.latency_seconds < float("inf"):
            raise ValueError("the latency must be 0 or more seconds")
        if self.retry_after_seconds is not None and not 0 <= self.retry_after_seconds < float("inf"):
            raise ValueError("Retry-After must be 0 or more seconds")
        if self.ledger_limit < 0 or self.page_size < 1:
            raise ValueError("the ledger limit must be at least 0 and a page hold at least one segment")
