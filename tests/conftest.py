"""Every test of a coroutine runs on asyncio and on uvloop."""

import asyncio

import pytest
import uvloop
from hypothesis import settings

settings.register_profile("default", deadline=None, max_examples=100, derandomize=True)
settings.load_profile("default")


def pytest_asyncio_loop_factories(config, item):
    if item.get_closest_marker("process"):  # the program chooses its own loop
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the keys or proxies of the person who runs it."""
    import os

    for name in list(os.environ):
        if name.startswith("PERMUTIVE_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
