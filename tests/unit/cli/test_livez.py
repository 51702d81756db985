"""The health check of the container, as the container calls it."""

import asyncio
import subprocess
import sys

import pytest
from aiohttp import web

from permutive_worker.cli.livez import is_alive


async def asked(status: int, host: str = "127.0.0.1", listen: str = "0.0.0.0") -> bool:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=status)

    application = web.Application()
    application.router.add_get("/livez", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, host, 0).start()
    try:
        return await asyncio.to_thread(is_alive, f"{listen}:{runner.addresses[0][1]}")
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(("status", "alive"), [(200, True), (503, False)])
async def test_the_answer_decides(status, alive):
    assert await asked(status) is alive


@pytest.mark.parametrize(
    ("host", "listen"), [("127.0.0.1", ""), ("127.0.0.2", "127.0.0.2"), ("::1", "[::]"), ("::1", "[::1]")]
)
async def test_it_asks_where_the_worker_listens(host, listen):
    assert await asked(200, host, listen)


def test_nobody_who_listens_is_not_alive():
    assert not is_alive("127.0.0.1:1")


@pytest.mark.parametrize(("listen", "code"), [("", 0), ("127.0.0.1:1", 1)])
def test_the_exit_code_tells(listen, code):
    ended = subprocess.run(
        [sys.executable, "-m", "permutive_worker.cli.livez"],
        env={"PERMUTIVE_WORKER_ADMIN__LISTEN": listen},
        check=False,
    )

    assert ended.returncode == code
