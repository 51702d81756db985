"""No key, password or secret is taken from the command line: what is said to those who try."""


def refusal(flag: str) -> str:
    """Say why `flag` is not taken, and what to do instead."""
    return (
        f"{flag} is not taken from the command line, where every user of this machine can read it (ps) and the shell "
        "keeps it (history); for the key set PERMUTIVE_API_KEY_FILE to a file that holds it, or PERMUTIVE_API_KEY; "
        "for the password of a queue PERMUTIVE_WORKER_SOURCE__PASSWORD_FILE"
    )
