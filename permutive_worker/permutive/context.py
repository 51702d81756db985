"""The cohorts of a page. Source: Permutive Contextual API, /ctx/v1/segment."""

from collections.abc import Mapping
from typing import Any

from permutive_worker.errors import InvalidRequestError
from permutive_worker.permutive.arguments import encode
from permutive_worker.permutive.call import call
from permutive_worker.permutive.caller import Caller
from permutive_worker.permutive.models import ContextSegments


class Context:
    """`client.context`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def segment(self, url: str, page_properties: Mapping[str, Any] | None = None) -> ContextSegments:
        """Return the cohorts of the page at `url`. It changes nothing, so it is repeated.

        Raises:
            ApiError: one of its tree.
        """
        if not url:
            raise InvalidRequestError("url: expected a text that is not empty")
        body: dict[str, Any] = {"url": url}
        if page_properties is not None:
            body["page_properties"] = page_properties
        request = call("POST", "/ctx/v1/segment", "context", encode(body), repeatable=True)
        return await self._caller.read(request, ContextSegments.read)
