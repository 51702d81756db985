"""Kafka as it is reached: topics that are made, TLS, users. The broker is no imitation."""

import pytest
import trustme
from support.kafka_broker import Tansu
from support.program import program
from support.receiving import receive

from permutive_worker.errors import ConfigurationError
from permutive_worker.model import Settlement
from permutive_worker.sources.address import parse_address
from permutive_worker.sources.kafka_link import PARAMETERS, configuration

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

LINES = [b'{"n":%d}' % number for number in range(2000)]


@pytest.fixture
def broker(tmp_path):
    (tmp_path / "broker").mkdir()
    return Tansu(tmp_path / "broker")


@pytest.fixture
async def started(broker):
    await broker.start()
    yield broker
    await broker.stop()


@pytest.fixture
def certificates(tmp_path, broker):
    """The broker's own, and the authorities: the one that signed it, and another."""
    good, other = trustme.CA(), trustme.CA()
    broker.tls = tmp_path / "broker.pem"
    good.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(broker.tls)
    for name, authority in (("good", good), ("other", other)):
        authority.cert_pem.write_to_path(tmp_path / f"{name}.pem")
    return tmp_path


async def test_makes_the_topic_confirms_the_lines_and_reads_them_once(tmp_path, started):
    (tmp_path / "a.ndjson").write_bytes(b"\n".join(LINES))
    refused = await program("enqueue", "a.ndjson", started.url, cwd=tmp_path, env={})
    ended = await program("enqueue", "--create", "a.ndjson", started.url, cwd=tmp_path, env={})

    assert (refused.code, "--create" in refused.text) == (78, True)
    assert (ended.code, "2,000 lines confirmed" in ended.text) == (0, True), ended.text
    source = started.source()
    await source.open()
    received = await receive(source, len(LINES))
    source.settle([(delivery, Settlement.ACK) for delivery in received])
    await source.flush()
    await source.close()
    assert sorted(delivery.raw for delivery in received) == sorted(LINES)
    assert source.unconfirmed == 0


async def test_the_certificate_of_the_broker_is_checked(broker, certificates):
    await broker.start()
    told = {}
    for name in ("good", "other"):
        broker.parameters = f"&tls=yes&ca={certificates / name}.pem"
        source = broker.source()
        try:
            await source.open()
        except ConfigurationError as error:
            told[name] = str(error)
        await source.close()
    await broker.stop()

    assert told.keys() == {"other"}
    assert "cannot agree on TLS: check ?tls= and ?ca=" in told["other"]


async def test_a_user_that_the_broker_does_not_know_is_refused(broker, monkeypatch):
    monkeypatch.setenv("PERMUTIVE_WORKER_SOURCE__PASSWORD", "marker-password-77")
    broker.users = True
    await broker.start()
    broker.parameters = "&mechanism=SCRAM-SHA-256"
    monkeypatch.setattr(Tansu, "url", broker.url.replace("://", "://somebody@"))
    source = broker.source()
    try:
        with pytest.raises(ConfigurationError, match="refuses user or password") as caught:
            await source.open()
    finally:
        await source.close()
        await broker.stop()

    assert "marker-password" not in str(caught.value)
    assert "somebody" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("kafka://h/t", {"bootstrap.servers": "h:9092"}),
        ("kafka://h:1/t?brokers=i:2,j:3", {"bootstrap.servers": "h:1,i:2,j:3"}),
        ("kafka://[::1]:1/t", {"bootstrap.servers": "[::1]:1"}),
        ("kafka://h/t?tls=yes", {"security.protocol": "SSL"}),
        ("kafka://h/t?tls=yes&ca=/ca.pem", {"security.protocol": "SSL", "ssl.ca.location": "/ca.pem"}),
        (
            "kafka://u%40x@h/t?mechanism=SCRAM-SHA-512",
            {
                "security.protocol": "SASL_PLAINTEXT",
                "sasl.mechanism": "SCRAM-SHA-512",
                "sasl.username": "u@x",
                "sasl.password": "secret",
            },
        ),
        ("kafka://u@h/t?tls=yes", {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"}),
    ],
)
def test_the_url_reaches_the_library(url, expected):
    address = parse_address(url, {"PERMUTIVE_WORKER_SOURCE__PASSWORD": "secret" if "@" in url else ""})
    settings = configuration(address, address.take(PARAMETERS))

    assert settings | expected == settings
    assert ("security.protocol" in settings) == ("security.protocol" in expected)
