"""What `.ci/audit.py` makes of pip-audit's reports: it never passes in silence."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def audit():
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GOOD = {"name": "yarl", "version": "1.25.1", "vulns": []}
BAD = {
    "name": "requests",
    "version": "2.19.0",
    "vulns": [{"id": "PYSEC-2018-28", "fix_versions": ["2.20.0"]}],
}
UNKNOWN = {"name": "uvloop", "skip_reason": "Dependency not found on PyPI and could not be audited"}


def report(*dependencies):
    return {"dependencies": list(dependencies), "fixes": []}


@pytest.mark.parametrize(
    ("told", "canary", "code", "sentence"),
    [
        (report(GOOD), report(BAD), 0, "audited: nothing is known of 1 packages"),
        (report(GOOD, BAD), report(BAD), 1, "requests 2.19.0: PYSEC-2018-28, fixed in 2.20.0"),
        (report(BAD, UNKNOWN), None, 100, "NOT AUDITED"),
        (report(BAD), report(UNKNOWN), 1, "PYSEC-2018-28"),
        (report(GOOD, UNKNOWN), report(BAD), 100, "NOT AUDITED: the service does not know uvloop"),
        (report(GOOD), report(GOOD), 100, "NOT AUDITED: the service does not know what is wrong"),
        (report(UNKNOWN), report(UNKNOWN), 100, "NOT AUDITED"),
        (None, report(BAD), 100, "NOT AUDITED"),
    ],
)
def test_nothing_known_is_told_apart_from_nobody_asked(audit, told, canary, code, sentence):
    ended, sentences = audit.judge(told, canary)

    assert ended == code
    assert sentence in sentences[0]


def test_our_locks_pin_everything_with_hashes(audit):
    locks = [ROOT / "requirements.lock", *(ROOT / "deploy" / "locks").glob("*.lock")]

    assert len(locks) > 1
    assert [line for lock in locks for line in audit.unsound(lock.read_text())] == []


def test_what_is_not_pinned_with_a_hash_is_named(audit):
    hashed = f"a==1 \\\n    --hash=sha256:{'0' * 64}\n    # via x\n"

    assert audit.unsound(hashed) == []
    assert audit.unsound(f"{hashed}b==2\nc>=1\n-r other.txt\n") == ["b==2", "c>=1", "-r other.txt"]
