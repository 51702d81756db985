"""Every test of a coroutine runs on asyncio and on uvloop."""

import asyncio
import functools
import inspect
import os
import signal
import sys

import pytest
import uvloop
from hypothesis import settings

settings.register_profile("default", deadline=None, max_examples=100, derandomize=True)
settings.load_profile("default")


def pytest_sessionstart():
    """Who starts a run by `nohup` or `&` ignores signals, and so would the programs that the tests start."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


FIXTURES_SECONDS = 120.0  # more than the fixtures of a test may take; see also faulthandler_timeout


def pytest_asyncio_loop_factories(config, item):
    factories = {"uvloop": uvloop.new_event_loop}
    if not item.get_closest_marker("process"):  # the program chooses its own loop
        factories = {"asyncio": asyncio.new_event_loop} | factories
    return {name: functools.partial(watched_loop, config, item, make) for name, make in factories.items()}


def watched_loop(config, item, make):
    """A loop that ends the run, and says what its tasks wait for, if it outlives its test by far.

    A fixture that hangs, or the end of the loop, is not ended by `limited`, nor by pytest-timeout's signal.
    """
    loop = make()
    loop.call_later(seconds_of(config, item) + FIXTURES_SECONDS, end_run, config, item, loop)
    return loop


def end_run(config, item, loop):
    config.pluginmanager.getplugin("capturemanager").suspend_global_capture(in_=True)
    print(f"\n{item.nodeid}: its fixtures or the end of its loop hang", file=sys.stderr)
    for task in asyncio.all_tasks(loop):
        print(task, *awaits(task.get_coro()), sep="\n    ", file=sys.stderr, flush=True)
    os._exit(1)


def awaits(coroutine):
    """Where it waits, and where what it waits for waits."""
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        yield f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}"
        coroutine = coroutine.cr_await


def pytest_collection_modifyitems(config, items):
    """End a coroutine that hangs, and so its fixtures and processes: the signal of pytest-timeout does not, on uvloop."""
    for item in items:
        if inspect.iscoroutinefunction(item.obj):
            item.obj = limited(item.obj, seconds_of(config, item))


def seconds_of(config, item):
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0] if marker else config.getini("timeout"))


def limited(test, seconds):
    @functools.wraps(test)
    async def limited_test(*arguments, **fixtures):
        async with asyncio.timeout(seconds):
            await test(*arguments, **fixtures)

    return limited_test


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the keys or proxies of the person who runs it."""
    for name in list(os.environ):
        if name.startswith("PERMUTIVE_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
