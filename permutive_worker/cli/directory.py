"""Whether the directory this program was started in is still there: relative paths are meant from it."""

import os


def is_homeless(error: Exception) -> bool:
    """Whether `error` comes of a directory that somebody has removed from under us."""
    if not isinstance(error, FileNotFoundError):
        return False
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False
