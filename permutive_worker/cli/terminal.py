"""Terminals: whether somebody watches, and whether SIGHUP means that one is gone or asks for the configuration."""

import os
import signal
from typing import TextIO


def is_terminal(stream: TextIO | None) -> bool:
    """Whether what is written to `stream` is seen by a person; None is a closed one."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # it is closed
        return False


def has_terminal() -> bool:
    """Whether this process belongs to a terminal, wherever its stdin and stderr go."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def outlive_hangups() -> None:
    """Without a terminal SIGHUP shall not end what has just started: a service manager does not wait."""
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL and not has_terminal():
        signal.signal(signal.SIGHUP, lambda *_: None)  # not SIG_IGN, which is how nohup is known
