"""Whether SIGHUP means that a terminal is gone, or asks for the configuration to be read again."""

import os
import signal


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
