"""Real brokers, each on a private port with a private folder, and what a test asks of one.

A class for each, and its name in BROKERS. Where a broker is not installed the test is skipped with the
reason; where CI is set that is a failure.
"""

import asyncio
import atexit
import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import trustme
from support.kafka_mock import KafkaMock

from permutive_worker.config import Input, Settings
from permutive_worker.sources.queue import QueueSource
from permutive_worker.worker.queues import open_publisher, open_queue

START_SECONDS = 30.0  # a loaded machine with two cores


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def need(program: str, folder: str | None = None) -> str:
    """The path of a program, else the test does not run."""
    path = shutil.which(program, path=folder)
    if path is None:
        told = f"{program} is not installed"
        if os.environ.get("CI"):
            pytest.fail(told)
        pytest.skip(told)
    return path


def need_module(name: str) -> Any:
    """A package that the tests need, else the test does not run."""
    try:
        return importlib.import_module(name)
    except ImportError:
        told = f"{name} is not installed"
        pytest.fail(told) if os.environ.get("CI") else pytest.skip(told)


async def answers(port: int) -> None:
    """Wait until something listens."""
    async with asyncio.timeout(START_SECONDS):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            writer.close()
            return


class Broker:
    """A queue that a test can use, and a server that it can kill. `start` and `url` are each broker's own.

    Attributes:
        lease_seconds: after that what a dead worker held is given to others (with some seconds more).
        has_lag: it can say how many messages nobody was given.
        more_duplicates: beside what was in flight when a worker is killed (Kafka: max_uncommitted).
        moved_duplicates: of workers that were not killed.
        survives: a killed server that is started again knows what it knew.
        keeps_acks: also the acks of the last moments.
        most_jobs: that can be asked of it without waiting for minutes.
        calm_workers: so many can pause with nothing delivered twice.
        takes_empty: a message may have no bytes.
        hands_over: what a worker on hold does not take goes to the others.
    """

    lease_seconds = 2.0
    has_lag = True
    survives = True
    keeps_acks = True
    takes_empty = True
    hands_over = True
    more_duplicates = 0
    moved_duplicates = 0
    most_jobs = 1_000_000
    calm_workers = 2
    keys: Mapping[str, str] = MappingProxyType({})  # what a worker needs in its environment
    url: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: asyncio.subprocess.Process | None = None

    def serve_many(self) -> None:
        """Before the start: several workers will come."""

    async def start(self) -> None:
        raise NotImplementedError

    async def run(self, *command: object, env: dict[str, str] | None = None) -> None:
        with (self.folder / "broker.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *map(str, command), cwd=self.folder, stdout=log, stderr=log, env=env
            )

    async def kill(self) -> None:
        """As a power cut of the broker."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def stop(self) -> None:
        if self.process is not None and self.process.returncode is None:
            await self.kill()

    def source(self, max_line_bytes: int = 100_000) -> QueueSource:
        source = open_queue(Settings(input=Input(create=True)), self.url)
        assert isinstance(source, QueueSource)
        source._max_line_bytes = max_line_bytes
        return source

    async def publish(self, lines: Sequence[bytes]) -> None:
        publisher = open_publisher(self.url, create=True)
        await publisher.open()
        assert await publisher.publish(lines) == len(lines)
        await publisher.close()

    async def orphan(self, count: int) -> None:
        """Let another process take at least `count` messages, and kill it."""
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            Path(__file__).with_name("queue_child.py"),
            self.url,
            str(count),
            stdout=asyncio.subprocess.PIPE,
        )
        assert child.stdout is not None
        try:
            assert await child.stdout.readline() == b"holding\n"
        finally:
            child.kill()
            await child.wait()


class Certificate:
    """Of 127.0.0.1, by a CA of our own: paths of PEM files."""

    def __init__(self, folder: Path) -> None:
        self.ca, self.chain, self.key = (folder / f"{name}.pem" for name in ("ca", "chain", "key"))
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        authority.cert_pem.write_to_path(self.ca)
        issued.private_key_pem.write_to_path(self.key)
        for pem in issued.cert_chain_pems:
            pem.write_to_path(self.chain, append=True)


class Redis(Broker):
    async def start(self, *options: object) -> None:
        await self.run(
            need("redis-server"),
            *("--port", self.port, "--bind", "127.0.0.1", "--dir", self.folder, "--save", ""),
            *("--appendonly", "yes", "--appendfsync", "always", *options),
        )
        await answers(self.port)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0?stream=jobs&idle={self.lease_seconds:g}"


class Nats(Broker):
    keeps_acks = False  # nats-server writes them to disk a little later

    async def start(self, *options: object) -> None:
        await self.run(
            need("nats-server"),
            *("-js", "-sd", self.folder / "jetstream", "-p", self.port, "-a", "127.0.0.1", *options),
        )
        await answers(self.port)

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}/JOBS/workers?ack_wait={self.lease_seconds:g}"


class Rabbit(Broker):
    """One server for all tests, since it takes ten seconds to start; a queue for each."""

    # RabbitMQ 3.10 writes down who leads a quorum queue some seconds after it was made: one that is
    # killed before has no leader ever again.
    settle_seconds = 6.0
    server: "RabbitServer | None" = None

    async def start(self) -> None:
        if Rabbit.server is None:
            Rabbit.server = RabbitServer()
        await Rabbit.server.start()
        self.queue = f"jobs-{self.folder.parent.name}-{self.folder.name}"

    async def kill(self) -> None:
        assert Rabbit.server is not None
        await asyncio.sleep(self.settle_seconds)
        Rabbit.server.kill()

    async def stop(self) -> None:
        """It goes on, for the next test."""

    @property
    def url(self) -> str:
        assert Rabbit.server is not None
        return f"amqp://127.0.0.1:{Rabbit.server.port}/{self.queue}"


class RabbitServer:
    """A node with its own port mapper, home and data; gone when the tests are over.

    Its users are guest, who may do everything, and poor, who may enter the vhost and do nothing.
    """

    definitions: Mapping[str, Any] = MappingProxyType(
        {
            "vhosts": [{"name": "/"}],
            "users": [{"name": name, "password": name, "tags": ""} for name in ("guest", "poor")],
            "permissions": [
                {"vhost": "/", "user": name, "configure": what, "write": what, "read": what}
                for name, what in (("guest", ".*"), ("poor", "^$"))
            ],
        }
    )

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rabbit-"))
        self.port, self.mapper_port, self.tls_port = free_port(), free_port(), free_port()
        self.certificate = Certificate(self.folder)
        self.mapper: subprocess.Popen | None = None
        self.node: subprocess.Popen | None = None
        atexit.register(self.end)

    async def start(self) -> None:
        """Start what is not running. (The script of Debian in /usr/sbin changes to another user.)"""
        program = need("rabbitmq-server", "/usr/lib/rabbitmq/bin")
        if self.mapper is None:
            self.mapper = self._run(need("epmd"), "-port", self.mapper_port, "-address", "127.0.0.1")
            await answers(self.mapper_port)
        if self.node is None:
            (self.folder / "plugins").write_text("[].")
            (self.folder / "definitions.json").write_text(json.dumps(dict(self.definitions)))
            (self.folder / "rabbitmq.conf").write_text(
                f"load_definitions = {self.folder / 'definitions.json'}\n"
                f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}\n"
                f"ssl_options.certfile = {self.certificate.chain}\n"
                f"ssl_options.keyfile = {self.certificate.key}\n"
            )
            self.node = self._run(program)
        await answers(self.port)

    def _run(self, *command: object) -> subprocess.Popen:
        own = {
            "HOME": self.folder,
            "ERL_EPMD_PORT": self.mapper_port,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": "tests@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": self.port,
            "RABBITMQ_DIST_PORT": free_port(),
            "RABBITMQ_CONFIG_FILE": self.folder / "rabbitmq.conf",
            "RABBITMQ_MNESIA_BASE": self.folder / "data",
            "RABBITMQ_LOG_BASE": self.folder / "logs",
            "RABBITMQ_ENABLED_PLUGINS_FILE": self.folder / "plugins",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}",
        }
        with (self.folder / "out").open("ab") as out:
            return subprocess.Popen(
                [str(word) for word in command],
                env=os.environ | {name: str(value) for name, value in own.items()},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # the script has children: all are ended together
            )

    def kill(self) -> None:
        """As a power cut."""
        if self.node is not None:
            os.killpg(self.node.pid, signal.SIGKILL)
            self.node.wait()
            self.node = None

    def end(self) -> None:
        self.kill()
        if self.mapper is not None:
            self.mapper.kill()
            self.mapper.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Kafka(Broker):
    """One partition, so that a second member of the group changes nothing for the first."""

    hands_over = False  # a member on hold keeps its partitions: see test_kafka.py
    partitions = 1
    max_uncommitted = 10_000
    more_duplicates = 100  # max_uncommitted of the one that is killed
    # The imitation takes no commits while members join; a broker does until all have joined. So what a worker
    # ends just then, of a partition that moves, comes again.
    moved_duplicates = 100
    calm_workers = 1  # a second one may come in the middle of the pause, and partitions move to it
    session_seconds = Broker.lease_seconds
    mock: KafkaMock | None = None

    def serve_many(self) -> None:
        """The imitation gives members a second less than a session to end what is in hand (Kafka: minutes)."""
        self.partitions, self.max_uncommitted, self.session_seconds = 6, self.more_duplicates, 3.0

    async def start(self) -> None:
        if self.mock is None:
            self.mock = KafkaMock()
            self.mock.make_topic("jobs", self.partitions)
        else:
            self.mock.up()

    async def kill(self) -> None:
        assert self.mock is not None
        self.mock.down()

    async def stop(self) -> None:
        if self.mock is not None:
            self.mock.end()

    @property
    def url(self) -> str:
        assert self.mock is not None
        session = f"session={self.session_seconds:g}&max_uncommitted={self.max_uncommitted}"
        return f"kafka://{self.mock.servers}/jobs?group=workers&{session}"


class Sqs(Broker):
    """Moto's imitation, in this process; it looks at each message at each call. What it knows outlives a kill."""

    lease_seconds = 4.0  # moto needs a while for a few hundred messages
    takes_empty = False
    most_jobs = 400
    keys = MappingProxyType({"AWS_ACCESS_KEY_ID": "imitation", "AWS_SECRET_ACCESS_KEY": "imitation"})
    name = "jobs"
    server: Any = None

    async def start(self) -> None:
        os.environ.update(self.keys)
        self.server = sqs_imitation(self.port)
        self.server.start()
        await answers(self.port)
        self.queue = f"{self.folder.parent.name}-{self.port}-{self.name}"

    async def kill(self) -> None:
        await asyncio.to_thread(self.server.stop)
        self.server = None

    async def stop(self) -> None:
        if self.server is not None:
            await self.kill()

    @property
    def url(self) -> str:
        where = f"region=eu-west-1&endpoint=http://127.0.0.1:{self.port}"
        return f"sqs://{self.queue}?{where}&visibility={self.lease_seconds:g}"


def sqs_imitation(port: int) -> Any:
    try:
        from support.sqs_imitation import SqsImitation
    except ImportError:
        told = "moto, flask or flask-cors is not installed"
        pytest.fail(told) if os.environ.get("CI") else pytest.skip(told)
    return SqsImitation(port)


BROKERS = {"redis": Redis, "nats": Nats, "kafka": Kafka, "rabbitmq": Rabbit, "sqs": Sqs}
