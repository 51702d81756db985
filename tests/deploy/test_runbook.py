"""deploy/README.md says what is so: alerts, exit codes, commands, and what deletes a person."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import aiohttp
import pytest
import yaml

from permutive_worker.cli.main import COMMANDS, cli
from permutive_worker.sandbox.app import Sandbox

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "deploy/README.md").read_text()
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", RUNBOOK, re.DOTALL))


def alerts():
    groups = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_every_alert_has_its_heading_and_no_heading_is_of_none():
    headings = re.findall(r"^### (\w+)$", RUNBOOK.partition("\n## Alerts\n")[2], re.MULTILINE)

    assert sorted(headings) == sorted({rule["alert"] for rule in alerts()})
    for rule in alerts():
        path, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert (path.endswith("deploy/README.md"), anchor) == (True, rule["alert"].lower())


def test_every_exit_code_is_told_to_be_started_again_or_not():
    def codes(text: str, title: str) -> list[str]:
        return re.findall(
            r"^\| (\d+) \|", text.partition(f"## {title}\n")[2].partition("\n## ")[0], re.MULTILINE
        )

    told = codes(RUNBOOK, "Which exit codes to start again")
    assert told == codes((ROOT / "README.md").read_text(), "Exit codes")
    never = {code for code, again in re.findall(r"^\| (\d+) \| (no)", RUNBOOK, re.MULTILINE)} - {"0"}
    (prevented,) = re.findall(r"RestartPreventExitStatus=(.*)", RUNBOOK)
    assert set(prevented.split()) == never


def test_the_files_it_names_are_there():
    links = re.findall(r"\]\(([^)#:]+)\)", RUNBOOK) + re.findall(r"deploy/[\w/.-]+\w", SHELL)

    assert len(links) > 10
    assert [
        link for link in links if not any((base / link).exists() for base in (ROOT, ROOT / "deploy"))
    ] == []


def test_the_commands_and_services_it_names_are_there():
    assert set(re.findall(r"^permutive-worker ([a-z-]+)", SHELL, re.MULTILINE)) <= set(COMMANDS)
    services = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]
    assert set(
        re.findall(r"compose\.yaml (?:stop|start|up .*) (\w+)$", SHELL.replace(" &&", "\n"), re.MULTILINE)
    ) <= set(services)
    (unit,) = re.findall(r"ExecStart=\S+/permutive-worker (.*)", RUNBOOK)
    name, *arguments = unit.split()
    cli.get_command(None, name).make_context(name, arguments)


@pytest.mark.parametrize("line", [line for line in SHELL.splitlines() if line.startswith("curl ")])
async def test_what_is_asked_of_the_sandbox_it_does(line):
    _, _, body, url = shlex.split(line)
    async with Sandbox() as sandbox, aiohttp.ClientSession(sandbox.url) as session:
        answer = await session.post(url.removeprefix("http://127.0.0.1:8080"), data=body)
        assert answer.status == 200


def test_a_person_is_deleted_and_the_others_stay(tmp_path):
    (line,) = (line for line in SHELL.splitlines() if "flock" in line and "ids" in line)
    letters = [json.dumps({"job": {"user_id": f"user-{number}"}}) for number in range(3)]
    (tmp_path / "dead-letters.ndjson").write_text("\n".join(letters) + "\n")
    (tmp_path / "ids").write_text("user-1\n\n")

    subprocess.run(["sh", "-c", line.replace("/data", str(tmp_path))], check=True)

    kept = tmp_path / "dead-letters.ndjson"
    assert kept.read_text().splitlines() == [letters[0], letters[2]]
    assert kept.stat().st_mode & 0o777 == 0o600
