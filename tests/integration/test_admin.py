import asyncio
import importlib.util
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import aiohttp
import msgspec
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

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


async def test_the_first_page_lists_the_others_and_all_of_them_answer(http):
    async with http.get("/") as response:
        paths = [line.split()[0] for line in (await response.text()).splitlines()]

    assert paths == ["/metrics", "/livez", "/readyz", "/status"]
    for path in paths:
        async with http.get(path) as response:
            assert response.status == 200, path


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
async def test_only_get_is_allowed(http, method):
    async with http.request(method, "/status") as response:
        assert response.status == 405
        assert response.headers["Allow"] == "GET"


@pytest.mark.parametrize("path", ["/", "/metrics", "/readyz", "/status", "/nothing"])
async def test_every_answer_has_the_safe_headers_and_no_banner(http, path):
    async with http.get(path) as response:
        assert response.headers["Content-Security-Policy"] == "default-src 'self'"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-store"
        assert "Server" not in response.headers


async def test_an_unknown_path_is_a_404_in_plain_text(http):
    async with http.get("/<script>") as response:
        assert (response.status, response.content_type) == (404, "text/plain")
        assert "script" not in await response.text()


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
