"""`python -m permutive_worker.cli.livez`: the health check of a container, which has no curl.

Ends with 0 if `/livez` answers 200 at the address that `PERMUTIVE_WORKER_ADMIN__LISTEN` names, or if the variable is
empty: then there is nothing to ask. Else with 1.
"""

import os
import sys
from http.client import HTTPConnection, HTTPException


def is_alive(listen: str) -> bool:
    """Ask the admin server at `listen`; 0.0.0.0 and :: lead to this machine. No proxy is asked: it does not know it."""
    if not listen:
        return True
    host, _, port = listen.rpartition(":")
    connection = HTTPConnection(host.strip("[]") or "127.0.0.1", int(port), timeout=4)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(not is_alive(os.environ.get("PERMUTIVE_WORKER_ADMIN__LISTEN", "")))
