"""TLS to real brokers: the right CA, a wrong one, none, and what is told of it."""

import pytest
from support.brokers import Certificate, Nats, Rabbit, Redis, answers, free_port
from support.program import KEY, program

from permutive_worker.config import Input, Settings
from permutive_worker.model import Settlement
from permutive_worker.worker.queues import open_publisher, open_queue

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

PASSWORD = "marker-password-5d1f"
VARIABLE = "PERMUTIVE_WORKER_SOURCE__PASSWORD"


class Secured:
    """A broker that wants TLS and a password: its URL without `ca`, and the path of its CA."""

    def __init__(self, folder):
        self.folder = folder
        self.certificate = Certificate(folder)
        self.password = PASSWORD

    async def redis(self):
        self.broker, port = Redis(self.folder), free_port()
        files = self.certificate
        await self.broker.start(
            *("--tls-port", port, "--tls-cert-file", files.chain, "--tls-key-file", files.key),
            *("--tls-ca-cert-file", files.ca, "--tls-auth-clients", "no", "--requirepass", PASSWORD),
        )
        await answers(port)
        self.url = f"rediss://127.0.0.1:{port}/0?stream=jobs&"

    async def nats(self):
        self.broker, files = Nats(self.folder), self.certificate
        await self.broker.start(
            *("--tls", "--tlscert", files.chain, "--tlskey", files.key, "--user", "ann", "--pass", PASSWORD)
        )
        self.url = f"tls://ann@127.0.0.1:{self.broker.port}/JOBS/workers?"

    async def rabbitmq(self):
        self.broker = Rabbit(self.folder)
        await self.broker.start()
        server = Rabbit.server
        await answers(server.tls_port)
        self.certificate, self.password = server.certificate, "guest"
        self.url = f"amqps://127.0.0.1:{server.tls_port}/{self.broker.queue}?"


@pytest.fixture(params=["redis", "nats", "rabbitmq"])
async def secured(request, tmp_path, monkeypatch):
    (tmp_path / "broker").mkdir()
    made = Secured(tmp_path / "broker")
    await getattr(made, request.param)()
    monkeypatch.setenv(VARIABLE, made.password)
    yield made
    await made.broker.stop()


async def test_jobs_travel_over_tls_to_who_trusts_the_broker(secured):
    url = f"{secured.url}ca={secured.certificate.ca}"
    publisher = open_publisher(url, create=True)
    await publisher.open()
    assert await publisher.publish([b"1", b"2"]) == 2
    await publisher.close()

    source = open_queue(Settings(input=Input(create=True)), url)
    await source.open()
    received = []
    while len(received) < 2:
        received += await source.receive(1000)
    source.settle([(delivery, Settlement.ACK) for delivery in received])
    await source.flush()
    await source.close()

    assert [delivery.raw for delivery in received] == [b"1", b"2"]
    assert source.queue.unconfirmed == 0


async def test_a_broker_that_is_not_trusted_is_told_in_a_sentence_without_the_password(secured, tmp_path):
    (tmp_path / "other").mkdir()
    other = Certificate(tmp_path / "other")
    for ca in [f"ca={other.ca}", ""]:
        ended = await program(
            *("run", "--log-level", "debug", "--create", secured.url + ca),
            cwd=tmp_path,
            env={"PERMUTIVE_API_KEY": KEY, VARIABLE: PASSWORD},
        )

        assert (ended.code, "its certificate is not trusted" in ended.text) == (78, True), ended.text
        assert PASSWORD not in ended.text
        assert "Traceback" not in ended.text


async def test_a_ca_that_is_no_file_is_told_in_a_sentence(secured, tmp_path):
    for ca in [tmp_path / "absent.pem", tmp_path]:
        ended = await program(
            *("run", "--create", f"{secured.url}ca={ca}"), cwd=tmp_path, env={"PERMUTIVE_API_KEY": KEY}
        )

        assert (ended.code, str(ca) in ended.text) == (78, True), ended.text
        assert "Traceback" not in ended.text
