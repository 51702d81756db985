"""The composition root: Settings become a running Worker.

Everything that depends on a setting is chosen in this room, in code a person can read from top to bottom:
where lines come from (`inputs`), where outcomes go (`outputs`), how they are sent (`lanes`), and the life
of a run (`worker`). It installs no signal handler, configures no logging and sets no loop policy: only
`cli` does.
"""

from permutive_worker.worker.worker import Worker

__all__ = ["Worker"]
