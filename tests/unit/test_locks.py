"""What a container installs: requirements.lock, and for each extra what that adds."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "deploy" / "locks"
FOR_DEVELOPERS = {"test", "types", "bench"}

PIN = re.compile(r"^([a-z0-9-]+)==(\S+)")


def pins_of(lock: Path) -> dict[str, str]:
    return dict(match.groups() for match in map(PIN.match, lock.read_text().splitlines()) if match)


def extras() -> dict[str, list[str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {
        name: needs for name, needs in project["optional-dependencies"].items() if name not in FOR_DEVELOPERS
    }


def test_every_extra_has_a_lock_with_what_it_asks_for():
    wanted = {name: {re.match(r"[a-z0-9-]+", need)[0] for need in needs} for name, needs in extras().items()}

    assert wanted.keys() == {path.stem for path in LOCKS.glob("*.lock")}
    for name, needs in wanted.items():
        assert needs <= pins_of(LOCKS / f"{name}.lock").keys()


def test_no_two_locks_disagree_on_a_pin():
    agreed: dict[str, str] = {}
    for lock in (ROOT / "requirements.lock", *LOCKS.glob("*.lock")):
        for package, version in pins_of(lock).items():
            assert agreed.setdefault(package, version) == version, (lock.name, package)


def test_every_pin_of_an_extra_has_hashes_and_no_address():
    for lock in LOCKS.glob("*.lock"):
        text = lock.read_text()
        hashed = re.findall(r"^([a-z0-9-]+)==.*?\n(?:    --hash=.*\n)+", text, re.MULTILINE)
        lines = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
        assert len(hashed) == len(lines), lock.name
        assert "://" not in text


def test_a_lock_has_what_only_some_pythons_need():
    text = (LOCKS / "redis.lock").read_text()

    assert re.search(r"^async-timeout==\S+ ; python_full_version < '3.11.3' ", text, re.MULTILINE)
