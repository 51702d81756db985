"""What `kubectl kustomize` makes of deploy/kubernetes: valid, careful, and true to the worker's own numbers."""

import asyncio
import gzip
import json
import os
import re
import subprocess
import sysconfig
from functools import cache
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml
from support.program import KEY, program
from support.sandbox_process import sandbox_process

from permutive_worker.cli.main import cli
from permutive_worker.config import Settings

ROOT = Path(__file__).parents[2]
OVERLAYS = ("service", "backfill", "rehearsal")
VERSIONS = (
    "1.29",
    kubernetes_validate.latest_version(),
)  # what backoffLimitPerIndex needs, and the newest known
WORKERS = {"service": "permutive-worker", "backfill": "permutive-backfill", "rehearsal": "permutive-worker"}


@cache
def rendered(overlay: str) -> list[dict]:
    kubectl = Path(sysconfig.get_path("scripts"), "kubectl")
    command = [kubectl, "kustomize", ROOT / "deploy/kubernetes" / overlay]
    return list(yaml.safe_load_all(subprocess.run(command, capture_output=True, check=True).stdout))


def only(kind: str, overlay: str, name: str | None = None) -> dict:
    (found,) = (
        thing
        for thing in rendered(overlay)
        if thing["kind"] == kind and name in (None, thing["metadata"]["name"])
    )
    return found


def worker(overlay: str) -> dict:
    """The pod of the worker."""
    kind = "Job" if overlay == "backfill" else "Deployment"
    return only(kind, overlay, WORKERS[overlay])["spec"]["template"]["spec"]


def pods() -> list[tuple[str, dict]]:
    return [
        (f"{overlay}/{thing['metadata']['name']}", thing["spec"]["template"]["spec"])
        for overlay in OVERLAYS
        for thing in rendered(overlay)
        if "template" in thing["spec" if "spec" in thing else "metadata"]
    ]


def configuration(overlay: str) -> str:
    """The worker's file, as its pod sees it."""
    (name,) = (volume["configMap"]["name"] for volume in worker(overlay)["volumes"] if "configMap" in volume)
    return only("ConfigMap", overlay, name)["data"]["worker.toml"]


def settings(overlay: str, tmp_path: Path) -> Settings:
    path = tmp_path / "worker.toml"
    path.write_text(configuration(overlay))
    return Settings.load(path, environ={"POD_NAME": "worker-x", "JOB_COMPLETION_INDEX": "0"})


def strict(thing: dict, version: str) -> None:
    if thing["apiVersion"].startswith("keda.sh/"):
        jsonschema.validate(
            thing, json.loads(Path(__file__).with_name("schemas").joinpath("scaledobject.json").read_text())
        )
    else:
        kubernetes_validate.validate(thing, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_is_valid(overlay, version):
    for thing in rendered(overlay):
        strict(thing, version)


@pytest.mark.parametrize(
    ("kind", "overlay"), [("Deployment", "service"), ("ScaledObject", "service"), ("Job", "backfill")]
)
def test_a_slip_would_be_found(kind, overlay):
    thing = only(kind, overlay)

    with pytest.raises((kubernetes_validate.ValidationError, jsonschema.ValidationError)):
        strict(thing | {"spec": thing["spec"] | {"maxReplicasCount": 3}}, VERSIONS[-1])


@pytest.mark.parametrize(("name", "pod"), pods())
def test_a_pod_may_do_no_more_than_it_must(name, pod):
    (container,) = pod["containers"]
    own, of_pod = container["securityContext"], pod["securityContext"]

    assert of_pod["runAsNonRoot"] and of_pod["runAsUser"] >= 400  # numeric: kubelet can tell
    assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert {"memory"} == set(container["resources"]["limits"])
    assert {"cpu", "memory"} == set(container["resources"]["requests"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_stop_has_more_time_than_it_takes(overlay, tmp_path):
    # Beside the drain: what is in hand is written, and settled with the broker.
    assert (
        worker(overlay)["terminationGracePeriodSeconds"]
        >= settings(overlay, tmp_path).delivery.drain_seconds + 5
    )


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_key_is_a_file_and_nothing_else(overlay):
    pod = worker(overlay)
    (container,) = pod["containers"]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    (key,) = (volume for volume in pod["volumes"] if "secret" in volume)
    (mount,) = (mount for mount in container["volumeMounts"] if mount["name"] == key["name"])

    assert environment["PERMUTIVE_API_KEY_FILE"] == f"{mount['mountPath']}/api-key"
    assert "subPath" not in mount  # such a file is never updated
    assert "PERMUTIVE_API_KEY" not in environment
    assert key["secret"]["secretName"] == "permutive-api-key"
    assert overlay == "rehearsal" or not [thing for thing in rendered(overlay) if thing["kind"] == "Secret"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_command_is_one_the_program_understands(overlay):
    (container,) = worker(overlay)["containers"]
    name, *arguments = container["args"]
    command = cli.get_command(None, name)

    given = command.make_context(name, list(arguments)).params

    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(Path(given["config"]).parent) in mounted


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_is_written_lands_on_a_volume_that_lasts(overlay, tmp_path):
    pod = worker(overlay)
    (container,) = pod["containers"]
    lasting = {volume["name"] for volume in pod["volumes"] if "persistentVolumeClaim" in volume}
    folders = {mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] in lasting}
    given = settings(overlay, tmp_path)
    written = [given.output.dead_letters, *filter(None, [given.output.summary])]

    assert {str(Path(path).parent) for path in written} <= folders
    assert "${" in configuration(overlay).partition("dead_letters")[2].splitlines()[0]  # a file for each pod


def test_the_probes_are_those_the_program_answers():
    (container,) = worker("service")["containers"]
    asked = {container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe")}

    assert asked == {"/livez"}
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    listen = re.search(r"ADMIN__LISTEN=\S+:(\d+)", (ROOT / "Dockerfile").read_text())
    assert container["ports"] == [{"name": "metrics", "containerPort": int(listen[1])}]


@pytest.mark.parametrize("overlay", ["service", "rehearsal"])
def test_the_shares_of_all_workers_are_one_rate(overlay, tmp_path):
    deployment = only("Deployment", overlay, "permutive-worker")
    most = (
        only("ScaledObject", overlay)["spec"]["maxReplicaCount"]
        if overlay == "service"
        else deployment["spec"]["replicas"]
    )
    share = float(settings(overlay, tmp_path).rate_limit.shared.partition("share=")[2])

    assert share * most <= 1
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0  # not even during an upgrade


def test_what_scales_looks_at_the_stream_that_is_read():
    deployment, scaled = only("Deployment", "service"), only("ScaledObject", "service")
    (trigger,) = scaled["spec"]["triggers"]
    url = worker("service")["containers"][0]["args"][-1]

    assert scaled["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"]  # else every apply would undo what was scaled
    assert url == f"redis://{trigger['metadata']['address']}/0?stream={trigger['metadata']['stream']}"
    assert trigger["metadata"]["consumerGroup"] == "permutive"  # the default of the URL


def test_what_selects_selects_the_worker():
    labels = only("Deployment", "service")["spec"]["template"]["metadata"]["labels"]
    budget, network = only("PodDisruptionBudget", "service"), only("NetworkPolicy", "service")

    assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert network["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    ports = {port["port"] for rule in network["spec"]["egress"] for port in rule["ports"]}
    assert ports == {53, 443, 6379}


def test_every_exit_code_of_a_shard_has_its_rule():
    job = only("Job", "backfill")["spec"]
    action = {
        code: rule["action"]
        for rule in job["podFailurePolicy"]["rules"]
        for code in rule.get("onExitCodes", {}).get("values", [])
    }
    table = (ROOT / "README.md").read_text().partition("## Exit codes")[2].partition("\n## ")[0]
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    tried_again = {1, 69, 74}

    assert action == {75: "Ignore", 3: "FailIndex", 4: "FailJob", 64: "FailJob", 77: "FailJob", 78: "FailJob"}
    assert told == {0, 130} | set(action) | tried_again


def test_there_are_as_many_shards_as_completions(tmp_path):
    job = only("Job", "backfill")["spec"]
    arguments = job["template"]["spec"]["containers"][0]["args"]

    assert arguments[arguments.index("--shard") + 1] == f"auto/{job['completions']}"
    assert job["parallelism"] <= job["completions"]
    assert settings("backfill", tmp_path).rate_limit.rate_per_second > 0  # each for itself


@pytest.mark.process
@pytest.mark.timeout(300)
async def test_the_shards_deliver_every_file_and_a_second_try_of_one_has_nothing_to_do(tmp_path):
    """The command and the file of the job, with its volumes as folders."""
    job = only("Job", "backfill")["spec"]
    (container,) = job["template"]["spec"]["containers"]
    volumes = {mount["mountPath"]: tmp_path / mount["name"] for mount in container["volumeMounts"]}
    for folder in volumes.values():
        folder.mkdir()
    for number in range(20):
        lines = [{"type": "identify", "user_id": f"u{number}-{line}", "aliases": []} for line in range(10)]
        text = "\n".join(map(json.dumps, lines)) + ("\nno job\n" if number == 0 else "\n")
        volumes["/input"].joinpath(f"{number}.ndjson.gz").write_bytes(gzip.compress(text.encode()))
    volumes["/run/secrets/permutive"].joinpath("api-key").write_text(KEY)

    def local(text: str) -> str:
        for mounted, folder in volumes.items():
            text = text.replace(mounted, str(folder))
        return text

    volumes["/etc/permutive-worker"].joinpath("worker.toml").write_text(local(configuration("backfill")))
    environment = {entry["name"]: local(entry["value"]) for entry in container["env"]}
    places = asyncio.Semaphore(2)

    async def shard(index: int, url: str) -> int:
        own = {"JOB_COMPLETION_INDEX": str(index), "PERMUTIVE_WORKER_HTTP__BASE_URL": url}
        async with places:
            ended = await program(*map(local, container["args"]), cwd=tmp_path, env=environment | own)
        assert ended.code in (0, 3), ended.text
        return ended.code

    async with sandbox_process() as sandbox:
        codes = await asyncio.gather(*(shard(index, sandbox.url) for index in range(job["completions"])))
        failed = codes.index(3)
        again = await shard(failed, sandbox.url)
        received = await sandbox.ask("ledger")

    assert sorted(codes) == [0] * (job["completions"] - 1) + [3]
    assert again == 0
    assert (received["unique"], received["duplicates"]) == (200, 0)
    assert os.listdir(volumes["/data"]).count(f"dead-letters.{failed}.ndjson") == 1
