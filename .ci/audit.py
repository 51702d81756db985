"""Looks what the locks pin up among known vulnerabilities, and says so if nobody could be asked.

    python .ci/audit.py requirements.lock …

pip-audit, which must be in PATH, ends with 0 and "no known vulnerabilities" also where its service knows no package
at all. So each package must have been answered for, and a release that is known to be vulnerable must be found.

Exit codes: 0 audited, nothing known; 1 something is known, or a lock is not sound; 100 not audited.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

KNOWN_BAD: Final = "requests==2.19.0"  # CVE-2018-18074: whoever does not know that knows nothing
NOT_DONE: Final = 100

_PIN: Final = re.compile(
    r"^([A-Za-z0-9._-]+)==(\S+)(?: ;[^\n]*)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)",
    re.MULTILINE,
)


def unsound(lock: str) -> list[str]:
    """Return the lines of a lock that begin a requirement and do not pin it with a hash."""
    begun = [line for line in lock.splitlines() if line and not line.startswith((" ", "#", "\t"))]
    pinned = {f"{name}=={version}" for name, version, _ in _PIN.findall(lock)}
    return [line for line in begun if line.split(" ")[0] not in pinned]


def judge(report: dict[str, Any] | None, canary: dict[str, Any] | None) -> tuple[int, list[str]]:
    """Say what pip-audit's JSON comes to: the exit code and sentences. None: it had none."""
    if report is None or canary is None:
        return NOT_DONE, ["NOT AUDITED: the service of known vulnerabilities was not reached"]
    found = [
        f"{one['name']} {one['version']}: {bad['id']}, fixed in {', '.join(bad['fix_versions']) or 'no release'}"
        for one in report["dependencies"]
        for bad in one.get("vulns", ())
    ]
    skipped = [one["name"] for one in report["dependencies"] if "skip_reason" in one]
    if found:
        return 1, found
    if not any(one.get("vulns") for one in canary["dependencies"]):
        return NOT_DONE, [f"NOT AUDITED: the service does not know what is wrong with {KNOWN_BAD}"]
    if skipped:
        return NOT_DONE, [f"NOT AUDITED: the service does not know {', '.join(skipped)}"]
    return 0, [f"audited: nothing is known of {len(report['dependencies'])} packages"]


def ask(*arguments: str) -> dict[str, Any] | None:
    """Return the JSON report of pip-audit."""
    command = (
        "pip-audit",
        "--disable-pip",
        "--progress-spinner=off",
        "--timeout=15",
        "--format=json",
        *arguments,
    )
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        report: dict[str, Any] = json.loads(ended.stdout)
    except ValueError:
        print(ended.stderr.strip().rpartition("\n")[2], file=sys.stderr)
        return None
    return report


def main(locks: list[str]) -> int:
    worst = 0
    for lock in locks:
        if loose := unsound(Path(lock).read_text()):
            print(f"{lock}: not pinned with a hash: {', '.join(loose)}")
            worst = 1
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as known_bad:
        known_bad.write(KNOWN_BAD)
        known_bad.flush()
        canary = ask("--no-deps", f"--requirement={known_bad.name}")
    for lock in locks:
        code, sentences = judge(ask("--require-hashes", f"--requirement={lock}"), canary)
        print(*(f"{lock}: {sentence}" for sentence in sentences), sep="\n")
        worst = 1 if 1 in (code, worst) else max(code, worst)
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
