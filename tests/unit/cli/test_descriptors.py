"""Too few descriptors are found before a run."""

import resource

import pytest

from permutive_worker.cli import descriptors
from permutive_worker.cli.descriptors import ensure_descriptors
from permutive_worker.config import Delivery, Settings
from permutive_worker.errors import ConfigurationError

NEEDED = 64 + 200 + 256


class Limits:
    """Stands for the module `resource`."""

    RLIMIT_NOFILE, RLIM_INFINITY = resource.RLIMIT_NOFILE, resource.RLIM_INFINITY

    def __init__(self, soft, hard):
        self.now = (soft, hard)

    def getrlimit(self, _which):
        return self.now

    def setrlimit(self, _which, limits):
        self.now = limits


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((1024, 4096), (1024, 4096)),
        ((-1, -1), (-1, -1)),
        ((20, 4096), (NEEDED, 4096)),
        ((256, -1), (NEEDED, -1)),  # macOS
    ],
)
def test_the_soft_limit_is_raised_if_that_is_needed(before, after, monkeypatch):
    limits = Limits(*before)
    monkeypatch.setattr(descriptors, "resource", limits)

    ensure_descriptors(Settings(), 1)

    assert limits.now == after


@pytest.mark.parametrize(("hard", "says"), [(300, "--max-in-flight 36"), (12, r"\(ulimit -n\)$")])
def test_a_hard_limit_that_is_too_low_is_refused(hard, says, monkeypatch):
    monkeypatch.setattr(descriptors, "resource", Limits(12, hard))

    with pytest.raises(ConfigurationError, match=says):
        ensure_descriptors(Settings(), 1)


def test_the_advice_is_enough(monkeypatch):
    monkeypatch.setattr(descriptors, "resource", Limits(300, 300))

    ensure_descriptors(Settings(delivery=Delivery(max_in_flight=36)), 1)
