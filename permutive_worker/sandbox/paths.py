"""Every path of the API, its methods, and what answers them.

Source: Permutive's published OpenAPI documents. A private key is needed for cohorts, for the taxonomy and for
reading identities.
"""

from collections.abc import Callable, Mapping

from permutive_worker.sandbox.answers import Answer, Dialect
from permutive_worker.sandbox.cohorts import Cohorts
from permutive_worker.sandbox.people import People
from permutive_worker.sandbox.routes import Call, Endpoint, Methods, Routes
from permutive_worker.sandbox.taxonomy import Taxonomy


def build_routes(people: People, cohorts: Cohorts, taxonomy: Taxonomy) -> Routes:
    """Return the routes of the whole API; the names of endpoints are those of the ledger."""
    return Routes({**_people_paths(people), **_cohort_paths(cohorts), **_taxonomy_paths(taxonomy)})


def _people_paths(people: People) -> Mapping[str, Methods]:
    plain, ccs = Dialect.IDENTITY, Dialect.CCS
    return {
        "/v2.0/identify": {"POST": Endpoint("identify", plain, people.identify, writes=True)},
        "/v2.0/users": {"POST": Endpoint("user.create", plain, people.create_user, writes=True)},
        "/v2.0/users/{}/aliases": {"GET": Endpoint("user.aliases", plain, people.aliases_of, private=True)},
        "/v2.0/events": {"POST": Endpoint("event", plain, people.event, writes=True)},
        "/ccs/v1/segmentation": {"POST": Endpoint("segmentation", ccs, people.segment, writes=True)},
        "/ccs/v1/segmentation/stateless": {
            "POST": Endpoint("segmentation.stateless", ccs, people.segment_stateless, writes=True)
        },
        "/ctx/v1/segment": {"POST": Endpoint("context", plain, people.context)},
    }


def _cohort_paths(cohorts: Cohorts) -> Mapping[str, Methods]:
    def endpoint(verb: str, run: Callable[[Call], Answer], *, writes: bool = False) -> Endpoint:
        return Endpoint(f"cohort.{verb}", Dialect.COHORTS, run, private=True, writes=writes)

    return {
        "/cohorts-api/v2/cohorts": {
            "GET": endpoint("list", cohorts.list),
            "POST": endpoint("create", cohorts.create, writes=True),
        },
        "/cohorts-api/v2/cohorts/{}": {
            "GET": endpoint("get", cohorts.get),
            "PATCH": endpoint("update", cohorts.update, writes=True),
            "DELETE": endpoint("delete", cohorts.delete, writes=True),
        },
    }


def _taxonomy_paths(taxonomy: Taxonomy) -> Mapping[str, Methods]:
    def endpoint(kind: str, run: Callable[[Call], Answer], *, writes: bool = False) -> Endpoint:
        return Endpoint(kind, Dialect.TAXONOMY, run, private=True, writes=writes)

    imports = "/audience-api/v1/imports"
    return {
        imports: {"GET": endpoint("import.list", taxonomy.list_imports)},
        f"{imports}/{{}}": {"GET": endpoint("import.get", taxonomy.get_import)},
        f"{imports}/{{}}/segments": {
            "GET": endpoint("segment.list", taxonomy.list_segments),
            "POST": endpoint("segment.create", taxonomy.create_segment, writes=True),
            "PATCH": endpoint("segment.batch", taxonomy.batch, writes=True),
        },
        f"{imports}/{{}}/segments/{{}}": {
            "GET": endpoint("segment.get", taxonomy.get_by_id),
            "PATCH": endpoint("segment.update", taxonomy.update_by_id, writes=True),
            "DELETE": endpoint("segment.delete", taxonomy.delete_by_id, writes=True),
        },
        f"{imports}/{{}}/segments/code/{{}}": {
            "GET": endpoint("segment.get", taxonomy.get_by_code),
            "PATCH": endpoint("segment.update", taxonomy.update_by_code, writes=True),
            "DELETE": endpoint("segment.delete", taxonomy.delete_by_code, writes=True),
        },
    }
