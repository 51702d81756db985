"""The services of deploy/compose.yaml as processes of this machine: their commands, on other ports and folders."""

import asyncio
import json
import os
import signal
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path

import yaml
from prometheus_client.parser import text_string_to_metric_families
from support.brokers import answers, free_port, need

DEPLOY = Path(__file__).parents[2] / "deploy"
PATIENCE_SECONDS = 60.0  # a loaded machine with two cores; nothing here waits as long when all is well


class Composed:
    """What `docker compose` would start, one service at a time."""

    def __init__(self, folder: Path) -> None:
        compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
        self.services = compose["services"]
        self.folder = folder
        self.ports = {name: free_port() for name in ("sandbox", "redis", "worker")}
        self.key = folder / "api-key"
        self.key.write_bytes((DEPLOY / compose["secrets"]["api-key"]["file"]).read_bytes())
        self.key.chmod(0o600)
        self.processes: dict[str, asyncio.subprocess.Process] = {}

    def local(self, text: str) -> str:
        """The same word where hosts are ports of this machine, and mounted files are where they are."""
        for name, port in (("sandbox", 8080), ("redis", 6379)):
            text = text.replace(f"//{name}:{port}", f"//127.0.0.1:{self.ports[name]}")
        text = text.replace("/run/secrets/api-key", str(self.key)).replace("0.0.0.0", "127.0.0.1")
        text = text.replace("/rehearsal/", f"{DEPLOY}/kubernetes/rehearsal/")
        program = f"{sys.executable} -m permutive_worker"
        return text.replace("python ", f"{sys.executable} ").replace("permutive-worker ", f"{program} ")

    async def up(self, name: str) -> None:
        """Start a service and wait until it listens."""
        service = self.services[name]
        words = [self.local(word) for word in service.get("entrypoint", []) + service["command"]]
        match name:
            case "sandbox":
                words = [sys.executable, "-m", "permutive_worker", *words, f"--port={self.ports[name]}"]
            case "worker":
                words = [sys.executable, "-m", "permutive_worker", *words]
            case "redis":
                need("redis-server")
                words += ["--port", str(self.ports[name]), "--bind", "127.0.0.1", "--save", ""]
        environment = {key: self.local(value) for key, value in service.get("environment", {}).items()}
        admin = {"PERMUTIVE_WORKER_ADMIN__LISTEN": f"127.0.0.1:{self.ports['worker']}"}  # of the Dockerfile
        known = {key: os.environ[key] for key in ("PATH", "HOME", "PYTHONPATH") if key in os.environ}
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = await asyncio.create_subprocess_exec(
                *words,
                cwd=self.folder,
                env=known | admin | environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if name in self.ports:
            await answers(self.ports[name])

    async def stop(self, name: str, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop a service as `docker compose stop` does; gives its exit code."""
        process = self.processes.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await process.wait()

    async def down(self) -> None:
        for name in list(self.processes):
            await self.stop(name, signal.SIGKILL)

    async def sandbox(self, path: str, body: object = None) -> dict:
        data = None if body is None else json.dumps(body).encode()
        return json.loads(await self._get(f"http://127.0.0.1:{self.ports['sandbox']}/_sandbox/{path}", data))

    async def worker(self, path: str) -> str:
        return (await self._get(f"http://127.0.0.1:{self.ports['worker']}{path}")).decode()

    async def metrics(self) -> dict[str, float]:
        """The worker's metrics, each the sum over its labels, without the prefix."""
        sums: dict[str, float] = {}
        for family in text_string_to_metric_families(await self.worker("/metrics")):
            for sample in family.samples:
                name = sample.name.removeprefix("permutive_worker_")
                sums[name] = sums.get(name, 0.0) + sample.value
        return sums

    async def until(self, holds, what: str) -> None:
        """Wait for something that a person would see on the dashboard: `holds` of the metrics."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not holds(await self.metrics()):
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise AssertionError(
                f"not seen: {what}\n{(self.folder / 'worker.log').read_text()[-3000:]}"
            ) from None

    async def _get(self, url: str, data: bytes | None = None) -> bytes:
        def call() -> bytes:
            with urllib.request.urlopen(url, data, timeout=10) as told:
                return told.read()

        return await asyncio.to_thread(call)
