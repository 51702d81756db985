"""Deliver identify and segmentation jobs to the Permutive API, without losing a line.

    from permutive_worker import Settings, Worker, deliver, stream

Names are loaded when first used, so importing one part does not import the others.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from permutive_worker.config import Settings as Settings
    from permutive_worker.embedding import deliver as deliver
    from permutive_worker.embedding import stream as stream
    from permutive_worker.model import Outcome as Outcome
    from permutive_worker.model import Progress as Progress
    from permutive_worker.model import Summary as Summary
    from permutive_worker.worker import Worker as Worker

__version__ = "0.1.0"
__all__ = ["Outcome", "Progress", "Settings", "Summary", "Worker", "__version__", "deliver", "stream"]


def __getattr__(name: str) -> Any:
    match name:
        case "Settings":
            return import_module("permutive_worker.config").Settings
        case "Outcome" | "Progress" | "Summary":
            return getattr(import_module("permutive_worker.model"), name)
        case "Worker":
            return import_module("permutive_worker.worker").Worker
        case "deliver" | "stream":
            return getattr(import_module("permutive_worker.embedding"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
