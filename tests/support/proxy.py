"""A proxy that tunnels: CONNECT, then bytes both ways."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class TunnelProxy:
    def __init__(self, answer: bytes, to: str | None) -> None:
        self.heads: list[bytes] = []
        self.url = ""
        self._answer = answer
        self._to = to

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        writer.write(self._answer)
        if not self._answer.startswith(b"HTTP/1.1 200"):
            await writer.drain()
            return
        wanted = self._to or head.split()[1].decode()
        host, _, port = wanted.rpartition("/")[2].rpartition(":")
        there, to_there = await asyncio.open_connection(host, int(port))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_copy(reader, to_there))
                group.create_task(_copy(there, writer))
        finally:
            to_there.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def tunnel_proxy(
    answer: bytes = b"HTTP/1.1 200 Connected\r\n\r\n", to: str | None = None
) -> AsyncIterator[TunnelProxy]:
    """`to`: the URL of where every tunnel leads, whoever was asked for."""
    proxy = TunnelProxy(answer, to)
    tasks: set[asyncio.Task] = set()

    async def on_connect(reader, writer):
        tasks.add(asyncio.current_task())
        with suppress(asyncio.CancelledError, asyncio.IncompleteReadError):
            await proxy.serve(reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(on_connect, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
