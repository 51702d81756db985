"""Imports: taxonomies of segments, which others provide. Source: Permutive Taxonomy API."""

from permutive_worker.jobs.path import path_part
from permutive_worker.jobs.segment import IMPORTS_PATH
from permutive_worker.permutive.arguments import checked_id
from permutive_worker.permutive.call import call
from permutive_worker.permutive.caller import Caller
from permutive_worker.permutive.listing import Listing
from permutive_worker.permutive.models import Import
from permutive_worker.permutive.paging import pages


class Imports:
    """`client.imports`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def list(self) -> Listing[Import]:
        """Iterate over the imports of the workspace."""
        return Listing(pages(self._caller, IMPORTS_PATH, "import.list", Import.read))

    async def get(self, import_id: str) -> Import:
        """Return an import.

        Raises:
            ApiError: one of its tree.
        """
        path = f"{IMPORTS_PATH}/{path_part(checked_id('import_id', import_id))}"
        request = call("GET", path, "import.get", key_in_query=True)
        return await self._caller.read(request, Import.read)
