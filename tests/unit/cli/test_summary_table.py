"""The table a person gets at a terminal says what the JSON line says."""

import json
import os
import pty
import re
import subprocess
import sys

import pytest
from support.program import KEY

from permutive_worker.cli.summary_table import summary_table
from permutive_worker.model import Reason
from permutive_worker.telemetry.counts import Counts
from permutive_worker.telemetry.progress import progress, summary


def told(counts, elapsed_seconds=2.0):
    return summary_table(summary("r", counts, progress(counts, elapsed_seconds, None), 0), counts)


def test_counts_with_what_they_are_made_of():
    counts = Counts("file", ("identify", "event", "segmentation"))
    counts.read = 12_345
    counts.kinds["identify"].delivered = 12_000
    counts.kinds["event"].delivered = 300
    counts.dead_lettered[Reason.INVALID] = 4
    counts.dead_lettered[Reason.REJECTED] = 36
    counts.skipped["blank"] = 1
    counts.returned["stop"] = 4
    counts.lost = 1
    for _ in range(12_340):
        counts.kinds["identify"].duration.observe(0.01)
    counts.retries["timeout"] = 7
    counts.throttled["retry_after"] = 2

    assert told(counts) == [
        "  read          12,345  in 2.0 s, 6,170 a second",
        "  delivered     12,300  identify 12,000, event 300",
        "  dead letters      40  rejected 36, invalid 4",
        "  skipped            1  blank 1",
        "  returned           4  stop 4, in no file 1",
        "  requests      12,340  retries 7, throttled 2",
    ]


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.0, "in 0.0 s"), (59.94, "in 59.9 s"), (3700.0, "in 1 h 1 min")]
)
def test_how_long_it_took(seconds, shown):
    counts = Counts("file", ("identify",))

    assert told(counts, seconds)[0].endswith(shown)


def at_a_terminal(command, cwd, **env) -> str:
    """What a program says on a terminal of 80 columns."""
    master, terminal = pty.openpty()
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", ""), **env}
    with subprocess.Popen(
        command, cwd=cwd, env=environ, stdin=subprocess.DEVNULL, stderr=terminal
    ) as process:
        os.close(terminal)
        said = b""
        try:
            while more := os.read(master, 65536):
                said += more
        except OSError:  # the last one who had it open is gone
            pass
        finally:
            os.close(master)
    assert process.returncode == 3
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode().replace("\r", "\n"))


@pytest.mark.parametrize("term", ["xterm-256color", "dumb"])
def test_at_a_terminal_the_table_comes_before_the_json_line(term, tmp_path):
    (tmp_path / "jobs.ndjson").write_text('{"type":"identify"}\n\n')
    command = [
        sys.executable,
        "-m",
        "permutive_worker",
        "run",
        "--base-url",
        "http://127.0.0.1:9",
        "jobs.ndjson",
    ]
    program = "from permutive_worker.http import reach\nasync def there(*_): pass\n"
    program += "from permutive_worker.worker import lanes\nlanes.wait_until_reachable = there\n"
    program += f"from permutive_worker.cli.main import main\nmain({command[3:]!r})"

    said = at_a_terminal([sys.executable, "-c", program], tmp_path, TERM=term, PERMUTIVE_API_KEY=KEY)

    lines = [line for line in said.splitlines() if line.strip()]
    assert "  dead letters  1  invalid 1" in lines
    assert json.loads(lines[-1])["dead_lettered"] == 1
    assert not any("100 %" in line for line in lines[-8:])
