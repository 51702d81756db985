"""A server that answers every request at once, so that what is measured is the client.

    python tests/bench/sink.py [--port 8080] [--throttle-seconds 20]

Prints its URL, then answers each POST with the same small JSON: 200, or 429 for the first
`--throttle-seconds` after a client has connected. A GET of any path tells what it has done so far:
`{"requests": …, "cpu_seconds": …}`; that is how the benchmarks know that no row waited for the sink.

It understands just enough HTTP/1.1 for that: keep-alive, pipelining, bodies with a Content-Length.
"""

import argparse
import asyncio
import json
import re
import time
from typing import Final, cast

import uvloop

USER: Final = b'{"user_id":"7b2c9c1e-5a40-4e0f-9d3f-1f0a3c6f8e21"}'
# As large as refusals get on the way through a gateway: the worker keeps some of it for each job that waits.
QUOTA: Final = (
    b'{"request_id":"0e4c7d0a-55a1-4f0f-8c5e-2a9d1b7c6e43","error":{"status":"rate_limited","code":4,'
    b'"cause":"too many requests","message":"%b"}}' % (b"The rate limit of the workspace is exceeded. " * 20)
)
QUOTA_HEADERS: Final = (
    b"Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nServer: gateway\r\nVia: 1.1 gateway\r\nVary: Origin\r\n"
    b"Access-Control-Allow-Origin: *\r\nCache-Control: private, no-store\r\nX-Content-Type-Options: nosniff\r\n"
    b'Strict-Transport-Security: max-age=31536000; includeSubDomains\r\nAlt-Svc: h3=":443"; ma=2592000\r\n'
    b"X-Request-Id: 0e4c7d0a-55a1-4f0f-8c5e-2a9d1b7c6e43\r\n"
)
CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def answer(status: bytes, body: bytes, headers: bytes = b"") -> bytes:
    head = b"HTTP/1.1 %b\r\n%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % (status, headers, len(body)) + body


OK: Final = answer(b"200 OK", USER)
THROTTLED: Final = answer(b"429 Too Many Requests", QUOTA, QUOTA_HEADERS)


class Tally:
    """What all connections share: the answer they give, and how many they gave."""

    def __init__(self, throttle_seconds: float) -> None:
        self.requests = 0
        self.answer = THROTTLED if throttle_seconds else OK
        self._throttle_seconds = throttle_seconds

    def connected(self) -> None:
        if self._throttle_seconds:
            asyncio.get_running_loop().call_later(self._throttle_seconds, self._relent)
            self._throttle_seconds = 0

    def _relent(self) -> None:
        self.answer = OK

    def told(self) -> bytes:
        done = {"requests": self.requests, "cpu_seconds": time.process_time()}
        return answer(b"200 OK", json.dumps(done).encode())


class Connection(asyncio.Protocol):
    """One client. Requests with the same head as the one before, the usual case, are not parsed again."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._rest = b""
        self._head = b"\0"  # no request begins with it
        self._body_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass
        self._tally.connected()

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        start = requests = 0
        while end := self._end_of_request(data, start):
            requests += 1
            start = end
        self._rest = data[start:]
        if requests:
            self._reply(requests)

    def _end_of_request(self, data: bytes, start: int) -> int:
        """The offset after the request that begins at `start`, 0 if it is not all there."""
        if not data.startswith(self._head, start) and not self._read_head(data, start):
            return 0
        end = start + len(self._head) + self._body_bytes
        return end if end <= len(data) else 0

    def _read_head(self, data: bytes, start: int) -> bool:
        end = data.find(b"\r\n\r\n", start) + 4
        if end < 4:
            return False
        self._head = data[start:end]
        length = CONTENT_LENGTH.search(self._head)
        self._body_bytes = int(length[1]) if length else 0
        return True

    def _reply(self, requests: int) -> None:
        tally = self._tally
        if self._head.startswith(b"GET "):
            self._transport.write(tally.told())
            return
        tally.requests += requests
        self._transport.write(tally.answer * requests)


async def serve(port: int, throttle_seconds: float) -> None:
    tally = Tally(throttle_seconds)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(tally), "127.0.0.1", port, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description="Answers every request at once, for benchmarks.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--throttle-seconds", type=float, default=0.0)
    asked = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(asked.port, asked.throttle_seconds))


if __name__ == "__main__":
    main()
