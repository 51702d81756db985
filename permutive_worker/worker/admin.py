"""Opens the admin server where one is asked for: first of all, so that it can say how the run ended."""

from collections.abc import Callable
from contextlib import AsyncExitStack

from permutive_worker import __version__
from permutive_worker.ports import Clock
from permutive_worker.telemetry.counts import Counts
from permutive_worker.telemetry.metrics import build_registry
from permutive_worker.telemetry.status import Look


async def open_admin(
    stack: AsyncExitStack,
    listen: str | None,
    counts: Counts,
    look: Look,
    clock: Clock,
    on_end: Callable[[BaseException | None], None],
) -> None:
    """Listen until the stack is closed; `on_end` is told with what error, and then all who look are.

    Raises:
        ConfigurationError: `listen` cannot be listened on.
    """
    if listen is None:
        return
    from permutive_worker.admin.server import AdminServer

    server = AdminServer(listen, build_registry(counts, look, __version__), look, counts, clock)
    await server.start()

    async def close(_kind: object, error: BaseException | None, _trace: object) -> None:
        on_end(error)
        await server.close()

    stack.push_async_exit(close)
