"""A real Prometheus with the project's own configuration, on a private port, and what a test asks of it."""

import asyncio
import json
import math
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import yaml
from support.brokers import START_SECONDS, free_port, need

DEPLOY = Path(__file__).parents[2] / "deploy"
JOB = "permutive-worker"


def rules(kind: str) -> Iterator[Mapping[str, Any]]:
    """The `alert` or `record` rules of the project."""
    for file in ("alerts.yml", "rules.yml"):
        for group in yaml.safe_load((DEPLOY / "prometheus" / file).read_text())["groups"]:
            yield from (rule for rule in group["rules"] if kind in rule)


class Prometheus:
    """Scrapes `workers` (HOST:PORT) every second, and `others` by job and path."""

    def __init__(self, folder: Path, workers: list[str], others: Mapping[str, tuple[str, str]]) -> None:
        self.folder = folder
        self.workers = workers
        self.others = others
        self.port = free_port()
        self.process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        path = self.folder / "prometheus.yml"
        path.write_text(yaml.safe_dump(self._configuration()))
        with (self.folder / "prometheus.log").open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                need("prometheus"),
                f"--config.file={path}",
                f"--storage.tsdb.path={self.folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
                stdout=log,
                stderr=log,
            )
        async with asyncio.timeout(START_SECONDS):
            while not await asyncio.to_thread(self._is_ready):
                await asyncio.sleep(0.1)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.process is not None
        self.process.terminate()
        await self.process.wait()

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5):
                return True
        except OSError:  # it does not listen yet, or answers 503
            return False

    def _configuration(self) -> dict[str, Any]:
        folder = DEPLOY / "prometheus"
        configuration = yaml.safe_load((folder / "prometheus.yml").read_text())
        configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        configuration["rule_files"] = [str(folder / name) for name in configuration["rule_files"]]
        (scrape,) = configuration["scrape_configs"]
        assert scrape["job_name"] == JOB
        scrape["static_configs"] = [{"targets": self.workers}]
        configuration["scrape_configs"] += [
            {"job_name": job, "metrics_path": path, "static_configs": [{"targets": [target]}]}
            for job, (target, path) in self.others.items()
        ]
        return configuration

    async def ask(self, path: str, **parameters: object) -> Any:
        """GET `/api/v1/<path>`; raises what Prometheus says against a query."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"

        def call() -> Any:
            try:
                with urllib.request.urlopen(url, timeout=30) as answer:
                    return json.load(answer)["data"]
            except urllib.error.HTTPError as error:
                raise AssertionError(f"{parameters}: {error.read().decode()}") from None

        return await asyncio.to_thread(call)

    async def number(self, query: str) -> float:
        """The value of a query with one result, NaN while there is none."""
        found = (await self.ask("query", query=query))["result"]
        return float(found[0]["value"][1]) if found else math.nan
