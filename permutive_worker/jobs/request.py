"""Which request a job becomes: the paths of the Permutive API."""

from collections.abc import Mapping
from typing import Final

from permutive_worker.jobs.cohort import COHORTS_PATH, CohortJob
from permutive_worker.jobs.segment import SegmentJob
from permutive_worker.model import Job, Request

PATHS: Final[Mapping[str, str]] = {
    "identify": "/v2.0/identify",
    "segmentation": "/ccs/v1/segmentation",
    "event": "/v2.0/events",
}
# Where a 404 cannot mean that the job is wrong.
PATHS_WITHOUT_ID: Final = frozenset({*PATHS.values(), COHORTS_PATH})


def request_of(job: Job, part: int) -> Request:
    """Return request `part` of the job, 0 ≤ part < job.request_count().

    Cohorts and taxonomy take the key only as `k=`, and say with method and path what is to be done.
    """
    path = PATHS.get(job.kind)
    if path is None:
        assert isinstance(job, CohortJob | SegmentJob)  # noqa: S101  (all the kinds without a fixed path)
        return Request(job.method, job.path(), job.body(part), job.kind, key_in_query=True)
    query = job.query()
    return Request("POST", f"{path}?{query}" if query else path, job.body(part), job.kind)
