"""Every test of a coroutine runs on asyncio and on uvloop."""

import asyncio
import functools
import inspect

import pytest
import uvloop
from hypothesis import settings

settings.register_profile("default", deadline=None, max_examples=100, derandomize=True)
settings.load_profile("default")


def pytest_asyncio_loop_factories(config, item):
    if item.get_closest_marker("process"):  # the program chooses its own loop
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def pytest_collection_modifyitems(config, items):
    """End a coroutine that hangs, and so its fixtures and processes: the signal of pytest-timeout does not, on uvloop."""
    for item in items:
        if inspect.iscoroutinefunction(item.obj):
            marker = item.get_closest_marker("timeout")
            item.obj = limited(item.obj, marker.args[0] if marker else float(config.getini("timeout")))


def limited(test, seconds):
    @functools.wraps(test)
    async def limited_test(*arguments, **fixtures):
        async with asyncio.timeout(seconds):
            await test(*arguments, **fixtures)

    return limited_test


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the keys or proxies of the person who runs it."""
    import os

    for name in list(os.environ):
        if name.startswith("PERMUTIVE_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
