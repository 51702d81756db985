"""The jobs that every benchmark sends: identify, one user and one alias each, about 150 bytes a line.

python tests/bench/jobs.py 200000 > jobs.ndjson
"""

import sys
import uuid
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final

KEY: Final = "f9975143-2d88-46dc-9247-1fb6c790e1cc"  # a key in form only
PATH: Final = "/v2.0/identify"
USER_ID: Final = str(uuid.UUID(int=1))
ALIAS: Final = {"id": sha256(b"1").hexdigest(), "tag": "email_sha256", "priority": 0}

_ALIAS: Final = '{"id":"%s","tag":"email_sha256","priority":0}'
_BODY: Final = '{"user_id":"%s","aliases":[' + _ALIAS + "]}"
_LINE: Final = '{"type":"identify",' + _BODY[1:] + "\n"

BODY: Final = (_BODY % (USER_ID, ALIAS["id"])).encode()  # what the worker makes of such a line


def lines(count: int, first: int = 0) -> Iterator[str]:
    """Every line another user, so that no job waits for another one."""
    for number in range(first, first + count):
        text = f"{number:064x}"
        yield _LINE % (f"{text[-32:-24]}-{text[-24:-20]}-4000-8000-{text[-12:]}", text)


def write_jobs(path: Path, count: int, first: int = 0) -> Path:
    with path.open("w", encoding="ascii") as file:
        file.writelines(lines(count, first))
    return path


if __name__ == "__main__":
    sys.stdout.writelines(lines(int(sys.argv[1])))
