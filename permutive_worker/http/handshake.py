"""Connects as an attempt does, up to the first byte it would send: TCP, the tunnel of a proxy, TLS."""

import asyncio
import socket
import ssl
from collections.abc import Mapping
from typing import Any, Final

from yarl import URL

from permutive_worker.errors import UnreachableError
from permutive_worker.http.names import Names

MAX_HEAD_BYTES: Final = 16 * 1024  # of a proxy's answer


async def shake_hands(
    base: URL,
    proxy: URL | None,
    proxy_headers: Mapping[str, str],
    tls: ssl.SSLContext,
    timeout_seconds: float,
) -> None:
    """Connect once, and close.

    Raises:
        UnreachableError: one sentence that says where it ended and why.

    Cancellation: safe.
    """
    target = proxy or base
    what = f"the {'proxy' if proxy else 'API host'} {target.host}:{target.port}"
    try:
        async with asyncio.timeout(timeout_seconds):
            reader, writer = await _connect(target, tls)
            try:
                # TLS within the TLS of an https proxy is left to the first attempt.
                if proxy is not None and base.scheme == "https" and proxy.scheme == "http":
                    await _tunnel(reader, writer, base, proxy_headers, what)
                    what = f"the API host {base.host}:{base.port}"
                    await writer.start_tls(tls, server_hostname=base.host)
            finally:
                # To close TLS in order waits for the other side, half a minute if it does not care.
                writer.close() if base.scheme == "http" else writer.transport.abort()
    except ssl.SSLError as error:
        raise UnreachableError(f"{what} cannot be reached: {_fault(error)}") from None
    except OSError as error:  # a timeout is one, too
        silent = "no answer" if isinstance(error, TimeoutError) else "it closes the connection"
        raise UnreachableError(f"{what} cannot be reached: {error.strerror or silent}") from None
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        raise UnreachableError(f"{what} cannot be reached: it does not answer as a proxy does") from None


async def _connect(target: URL, tls: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Raises OSError, that of the last address of the host."""
    host, port = target.host or "", target.port or 0
    encrypted: dict[str, Any] = {"ssl": tls, "server_hostname": host} if target.scheme == "https" else {}
    failed: OSError = OSError(0, "it has no address")
    for address in await Names().resolve(host, port, socket.AF_UNSPEC):
        try:
            return await asyncio.open_connection(address["host"], port, limit=MAX_HEAD_BYTES, **encrypted)
        except OSError as error:
            failed = error
    raise failed


async def _tunnel(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    base: URL,
    headers: Mapping[str, str],
    what: str,
) -> None:
    host = base.raw_host or ""
    where = f"[{host}]:{base.port}" if ":" in host else f"{host}:{base.port}"
    lines = [
        f"CONNECT {where} HTTP/1.1",
        f"Host: {where}",
        *(f"{name}: {text}" for name, text in headers.items()),
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode("ascii"))
    head = await reader.readuntil(b"\r\n\r\n")
    status = head[9:12]
    if not status.startswith(b"2"):
        code = status.decode("ascii", "replace") if status.isdigit() else "no HTTP"
        raise UnreachableError(f"{what} does not connect to the API host {where}: it answered {code}")


def _fault(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = error.verify_message.rstrip(".")
        return (
            f"its certificate is not trusted ({reason}); "
            "if a proxy inspects TLS here, name a file with its authority in http.ca_file"
        )
    return f"TLS fails ({error.reason or type(error).__name__})"
