"""deploy/compose.yaml: valid, careful, and made of commands and files that exist."""

import subprocess
import sysconfig
from pathlib import Path

import pytest
import yaml

from permutive_worker.cli.main import cli
from permutive_worker.config import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]


def check(path: Path) -> subprocess.CompletedProcess:
    tool = Path(sysconfig.get_path("scripts"), "check-jsonschema")
    return subprocess.run(
        [tool, "--builtin-schema", "vendor.compose-spec", path], capture_output=True, check=False
    )


def test_it_is_valid():
    ended = check(DEPLOY / "compose.yaml")

    assert ended.returncode == 0, ended.stdout


def test_a_slip_would_be_found(tmp_path):
    path = tmp_path / "compose.yaml"
    path.write_text((DEPLOY / "compose.yaml").read_text().replace("stop_grace_period:", "stop_grace:"))

    assert check(path).returncode == 1


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_may_do_no_more_than_it_must(name):
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "privileged" not in service
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert service["image"].partition(":")[2] not in ("", "latest")
    assert "healthcheck" in service or "HEALTHCHECK" in (DEPLOY.parent / "Dockerfile").read_text()


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_is_there(name):
    for volume in SERVICES[name].get("volumes", []):
        source = volume.split(":")[0]
        assert (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
    for secret in SERVICES[name].get("secrets", []):
        assert (DEPLOY / COMPOSE["secrets"][secret]["file"]).exists()


def test_everything_waits_for_what_it_needs():
    for service in SERVICES.values():
        for needed, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}
            assert "healthcheck" in SERVICES[needed]


def test_a_stop_has_more_time_than_it_takes():
    assert (
        int(SERVICES["worker"]["stop_grace_period"].removesuffix("s"))
        >= Settings().delivery.drain_seconds + 5
    )


@pytest.mark.parametrize("name", ["sandbox", "worker"])
def test_the_command_is_one_the_program_understands(name):
    command, *arguments = SERVICES[name]["command"]

    cli.get_command(None, command).make_context(command, list(arguments))


def test_the_key_that_is_mounted_is_the_one_the_sandbox_takes():
    command = SERVICES["sandbox"]["command"]
    key = (DEPLOY / COMPOSE["secrets"]["api-key"]["file"]).read_text().strip()

    assert command[command.index("--api-key") + 1] == key
    assert SERVICES["worker"]["environment"] == {"PERMUTIVE_API_KEY_FILE": "/run/secrets/api-key"}
