import asyncio
import gc
import importlib.util
import re
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import aiohttp
import msgspec
import pytest
from aiohttp.http import HttpProcessingError
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from permutive_worker.admin import door, events
from permutive_worker.admin import server as server_module
from permutive_worker.admin.server import AdminServer, parse_listen
from permutive_worker.errors import ConfigurationError
from permutive_worker.model import Reason
from permutive_worker.telemetry.counts import Counts
from permutive_worker.telemetry.metrics import build_registry
from permutive_worker.telemetry.status import LaneStatus, Status

LANE = LaneStatus("", 1, 0, 0, 2, 64, 0.0, 500.0, None, None, "closed", credentials_valid=True)
RUNNING = Status("running", "run-1", datetime(2026, 1, 2, tzinfo=UTC), 8.0, [LANE], 0, 300, 1024, 5, 10, 6)


class Worker:
    """What an admin server shows; tests change `status` and `counts`."""

    def __init__(self) -> None:
        self.counts = Counts("file", ["identify"])
        self.status = RUNNING

    def look(self) -> Status:
        return self.status

    def admin(self, listen: str, serve: Callable[..., AdminServer] = AdminServer) -> AdminServer:
        return serve(listen, build_registry(self.counts, self.look, "1.2.3"), self.look, self.counts)


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
async def admin(worker: Worker) -> AsyncIterator[AdminServer]:
    server = worker.admin("0")
    await server.start()
    yield server
    await server.close()


@pytest.fixture
async def http(admin: AdminServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(admin.url) as session:
        yield session


async def test_metrics_are_scraped_in_both_formats(http, worker):
    worker.counts.read = 7

    async with http.get("/metrics") as response:
        text = await response.text()
        assert response.headers["Content-Type"].startswith("text/plain; version=")
    async with http.get(
        "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}
    ) as response:
        openmetrics = await response.text()
        assert response.headers["Content-Type"].startswith("application/openmetrics-text")

    assert 'permutive_worker_jobs_read_total{source="file"} 7.0' in text
    assert len(list(parse_text(text))) == len(list(parse_openmetrics(openmetrics))) > 40


async def test_one_metric_can_be_asked_for(http):
    async with http.get("/metrics", params={"name[]": "permutive_worker_pending_bytes"}) as response:
        names = {family.name for family in parse_text(await response.text())}

    assert names == {"permutive_worker_pending_bytes"}


async def test_livez_says_ok_whatever_happens(http, worker):
    for state in ("starting", "draining", "ended"):
        worker.status = msgspec.structs.replace(RUNNING, state=state)
        async with http.get("/livez") as response:
            assert (response.status, await response.text()) == (200, "ok\n")


@pytest.mark.parametrize(
    ("state", "halted", "expected"),
    [
        ("running", False, (200, "ok\n")),
        ("running", True, (503, "halted\n")),
        ("starting", False, (503, "starting\n")),
        ("draining", True, (503, "draining\n")),
        ("ended", False, (503, "ended\n")),
    ],
)
async def test_readyz_says_why_not(http, worker, state, halted, expected):
    lane = msgspec.structs.replace(LANE, credentials_valid=not halted, halted=halted)
    worker.status = msgspec.structs.replace(RUNNING, state=state, lanes=[lane])

    async with http.get("/readyz") as response:
        assert (response.status, await response.text()) == expected


async def test_status_is_json_in_numbers(http, worker):
    worker.counts.read = 7
    worker.counts.kinds["identify"].delivered = 3
    worker.counts.dead_lettered[Reason.TOO_LARGE] = 1

    async with http.get("/status") as response:
        document = await response.json()

    assert document["state"] == "running"
    assert document["ready"] is True
    assert document["pending"] == {"ready": 1, "backoff": 0, "blocked": 0, "in_flight": 2, "settling": 0}
    assert document["progress"]["completed"] == 4
    assert document["counts"]["delivered"] == {"identify": 3}
    assert document["counts"]["dead_lettered"]["too_large"] == 1
    assert document["lanes"][0]["breaker"] == "closed"


async def test_the_first_page_names_the_others_and_all_of_them_answer(http):
    async with http.get("/", headers={"Accept": "application/json"}) as response:
        page = await response.text()
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"

    paths = re.findall(r'(?:href|src)="([^"]+)"', page)
    assert {"page.css", "page.js", "icon.png", "status", "metrics", "readyz", "livez"} == set(paths)
    for path in paths:
        async with http.get(f"/{path}") as response:
            assert response.status == 200, path


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
async def test_only_get_is_allowed(http, method):
    async with http.request(method, "/status") as response:
        assert response.status == 405
        assert response.headers["Allow"] == "GET"


@pytest.mark.parametrize("path", ["/", "/page.js", "/events", "/metrics", "/readyz", "/status", "/nothing"])
async def test_every_answer_has_the_safe_headers_and_no_banner(http, path):
    async with http.get(path) as response:
        assert response.headers["Content-Security-Policy"] == "default-src 'self'"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["X-Frame-Options"] == "DENY"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["Cache-Control"] == "no-store"
        assert "Server" not in response.headers


async def test_an_unknown_path_is_a_404_in_plain_text(http):
    async with http.get("/<script>") as response:
        assert (response.status, response.content_type) == (404, "text/plain")
        assert "script" not in await response.text()


async def next_event(response):
    """The document of the next event."""
    async for line in response.content:
        if line.startswith(b"data: "):
            return msgspec.json.decode(line.removeprefix(b"data: "))
    return None


async def test_events_are_the_status_again_and_again(http, worker):
    async with http.get("/events") as response, http.get("/status") as status:
        assert response.content_type == "text/event-stream"
        assert await response.content.readline() == b"retry: 2000\n"
        first = await next_event(response)
        worker.counts.read = 9
        second = await next_event(response)
        assert first.keys() == second.keys() == (await status.json()).keys()

    assert (first["conservation"]["read"], second["conservation"]["read"]) == (0, 9)
    assert first["sentence"]["text"] == "Delivering"


async def test_the_last_event_before_the_close_says_how_it_ended(http, admin, worker):
    async with http.get("/events") as response:
        assert (await next_event(response))["state"] == "running"
        worker.status = msgspec.structs.replace(RUNNING, state="ended", exit_code=3)
        async with asyncio.timeout(10):
            await admin.close()
            while (document := await next_event(response))["state"] == "running":
                pass
            assert await next_event(response) is None

    assert document["exit_code"] == 3
    assert document["sentence"]["text"] == "The worker has ended (exit 3): finished, with dead letters"


async def test_only_so_many_look_at_once_and_a_place_is_free_when_one_goes(http):
    async with AsyncExitStack() as stack:
        for _ in range(events.MOST_CLIENTS):
            response = await stack.enter_async_context(http.get("/events"))
            assert (await next_event(response))["state"] == "running"
        async with http.get("/events") as refused:
            assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
        response.close()
        async with asyncio.timeout(10):
            while True:
                async with http.get("/events") as response:
                    if response.status == 200:
                        break


async def test_nobody_is_asked_for_a_document_while_nobody_looks(worker, monkeypatch):
    looks = []
    server = AdminServer(
        "0",
        build_registry(worker.counts, worker.look, "1"),
        lambda: looks.append(1) or RUNNING,
        worker.counts,
    )
    monkeypatch.setattr(server_module, "_LOOK_SECONDS", 0.01)
    await server.start()
    async with aiohttp.ClientSession(server.url) as session:
        for _ in range(20):
            async with session.get("/livez") as response:
                await response.read()
        assert not looks
        async with session.get("/events") as response:
            await next_event(response)
            assert looks
    await server.close()


async def test_who_takes_nothing_is_cut_off(admin, monkeypatch):
    monkeypatch.setattr(events, "WRITE_SECONDS", 0.1)
    monkeypatch.setattr(admin._events, "_tell", lambda: b"x" * 1_000_000)
    host, port = parse_listen(admin.url.removeprefix("http://"))
    with socket.create_connection((host, port)) as client:
        client.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(30):
            while not admin._events.clients:
                await asyncio.sleep(0.01)
            while admin._events.clients:
                admin._events.publish()
                await asyncio.sleep(0.01)


async def test_connections_are_bounded_and_a_new_one_is_always_let_in(admin, http):
    host, port = parse_listen(admin.url.removeprefix("http://"))
    silent = [await asyncio.open_connection(host, port) for _ in range(2 * door.MOST_CONNECTIONS)]

    async with http.get("/livez") as response:
        assert response.status == 200
    assert len(admin._runner.server.connections) <= door.MOST_CONNECTIONS
    async with asyncio.timeout(5):
        with pytest.raises(ConnectionError):
            if await silent[0][0].read() == b"":
                raise ConnectionError
    for _, writer in silent:
        writer.close()


async def test_beyond_the_budget_of_a_second_answers_come_late(http, monkeypatch):
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(door, "BUDGET", 0)
    monkeypatch.setattr(door, "WAIT_SECONDS", 0.1)
    for path in ("/livez", "/", "/metrics", "/status"):
        began = loop.time()
        async with http.get(path) as response:
            assert response.status == 200, path
        assert loop.time() - began >= 0.09, path  # uvloop counts in whole milliseconds


async def test_a_probe_without_a_host_is_answered(admin):
    host, port = parse_listen(admin.url.removeprefix("http://"))
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET /livez HTTP/1.0\r\n\r\n")

    async with asyncio.timeout(5):
        assert b" 200 OK" in await reader.read()
    writer.close()


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1:1", 200), ("localhost", 200), ("[::1]:9000", 200), ("evil.example", 403)],
)
async def test_at_loopback_a_foreign_name_is_refused(http, host, expected):
    async with http.get("/status", headers={"Host": host}) as response:
        assert response.status == expected


async def test_elsewhere_any_name_will_do(worker):
    server = worker.admin("0.0.0.0:0")
    await server.start()
    url = server.url.replace("0.0.0.0", "127.0.0.1")
    async with (
        aiohttp.ClientSession(url) as session,
        session.get("/status", headers={"Host": "worker.example:9000"}) as response,
    ):
        assert response.status == 200
    await server.close()


async def test_a_body_that_nobody_asked_for_is_not_read(admin):
    host, port = parse_listen(admin.url.removeprefix("http://"))
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\nx")

    async with asyncio.timeout(5):
        assert b"ok\n" in await reader.read()
    writer.close()


async def test_what_is_no_http_is_a_400_that_leaves_nothing_in_the_log_or_the_memory(admin, caplog):
    def rings() -> int:
        return sum(isinstance(one, HttpProcessingError) for one in gc.get_objects())

    gc.collect()
    gc.disable()
    before = rings()  # of other tests, where something holds them
    try:
        for _ in range(20):
            reader, writer = await asyncio.open_connection(*parse_listen(admin.url.removeprefix("http://")))
            writer.write(b"GET /livez HTTP/1.1\r\nX: " + b"x" * 8300 + b"\r\n\r\n")
            async with asyncio.timeout(5):
                assert b" 400 " in await reader.read()
            writer.close()
        assert rings() - before <= 2  # what the last connection has not let go yet
    finally:
        gc.enable()
    assert not caplog.records


async def test_a_client_cannot_send_far_ahead(admin):
    for listening in admin._listening.sockets:
        bound = listening.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        assert bound <= 2 * 16384  # Linux doubles it, for its own bookkeeping


async def test_a_taken_port_is_one_sentence(admin, worker):
    port = admin.url.rpartition(":")[2]
    second = worker.admin(f":{port}")

    with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}: address already in use. Choose another"):
        await second.start()

    await second.close()


@pytest.mark.parametrize("listen", ["192.0.2.1:0", "no-such-host.invalid:0"])
async def test_an_address_that_is_not_ours_is_one_sentence(worker, listen):
    with pytest.raises(ConfigurationError, match=r"cannot listen on http://\S+: .+\. Choose another"):
        await worker.admin(listen).start()


async def test_ipv6_loopback(worker):
    server = worker.admin("[::1]:0")
    try:
        await server.start()
    except ConfigurationError as error:
        pytest.skip(str(error))

    async with aiohttp.ClientSession() as session, session.get(server.url + "/livez") as response:
        assert response.status == 200
    assert server.url.startswith("http://[::1]:")
    await server.close()


async def test_close_frees_the_port_and_may_come_twice(worker):
    server = worker.admin("0")
    await server.start()
    url = server.url
    await server.close()
    await server.close()

    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(url)


async def test_close_without_start(worker):
    server = worker.admin("9000")

    await server.close()

    assert server.url == "http://127.0.0.1:9000"


async def test_a_silent_client_does_not_hold_up_the_close(admin):
    host, port = parse_listen(admin.url.removeprefix("http://"))
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET /livez HTTP/1.1\r\n")
    await writer.drain()

    async with asyncio.timeout(5):
        await admin.close()

    assert await reader.read() == b""
    writer.close()


async def test_metrics_are_served_by_an_older_prometheus_client_too(worker, monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client.aiohttp", None)
    spec = importlib.util.spec_from_file_location("admin_server_of_old", server_module.__file__)
    older = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(older)

    server = worker.admin("0", older.AdminServer)
    await server.start()
    async with aiohttp.ClientSession(server.url) as session, session.get("/metrics") as response:
        text = await response.text()
        assert response.headers["Content-Type"].startswith("text/plain; version=")
    await server.close()

    assert "permutive_worker_jobs_read_total" in text


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("9000", ("127.0.0.1", 9000)),
        (":9000", ("127.0.0.1", 9000)),
        ("0", ("127.0.0.1", 0)),
        ("0.0.0.0:9000", ("0.0.0.0", 9000)),
        ("localhost:9000", ("localhost", 9000)),
        ("[::1]:9000", ("::1", 9000)),
        ("[::]:9000", ("::", 9000)),
    ],
)
def test_addresses(listen, expected):
    assert parse_listen(listen) == expected


@pytest.mark.parametrize(
    "listen",
    ["", ":", "host", "host:", "::1:9000", "host:70000", "host:-1", "host:²", "[::1]", "http://a:9000"],
)
def test_what_is_no_address_is_one_sentence(listen):
    with pytest.raises(ConfigurationError, match="is no address to listen on: give HOST:PORT"):
        parse_listen(listen)
