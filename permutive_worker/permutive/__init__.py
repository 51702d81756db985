"""The async client for the whole Permutive API, usable without the worker.

    async with PermutiveClient() as permutive:
        user_id = await permutive.identify(user_id, aliases=[Alias("user@example.com", "email", 0)])

One file a resource. Calls pass the same gate as the worker's jobs do, and say the same as its lines: what is
refused there is refused here. Names are loaded when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from permutive_worker.errors import ApiConnectionError as ApiConnectionError
    from permutive_worker.errors import ApiError as ApiError
    from permutive_worker.errors import ApiError as PermutiveAPIError
    from permutive_worker.errors import ApiTimeoutError as ApiTimeoutError
    from permutive_worker.errors import AuthenticationError as AuthenticationError
    from permutive_worker.errors import AuthenticationError as PermutiveAuthenticationError
    from permutive_worker.errors import BadRequestError as BadRequestError
    from permutive_worker.errors import BadRequestError as PermutiveBadRequestError
    from permutive_worker.errors import ConflictError as ConflictError
    from permutive_worker.errors import DecodingError as DecodingError
    from permutive_worker.errors import InvalidRequestError as InvalidRequestError
    from permutive_worker.errors import NotFoundError as NotFoundError
    from permutive_worker.errors import NotFoundError as PermutiveResourceNotFoundError
    from permutive_worker.errors import PermissionDeniedError as PermissionDeniedError
    from permutive_worker.errors import RateLimitError as PermutiveRateLimitError
    from permutive_worker.errors import RateLimitError as RateLimitError
    from permutive_worker.errors import ServerError as PermutiveServerError
    from permutive_worker.errors import ServerError as ServerError
    from permutive_worker.errors import TooLargeError as TooLargeError
    from permutive_worker.errors import UnprocessableError as UnprocessableError
    from permutive_worker.permutive.client import PermutiveClient as PermutiveClient
    from permutive_worker.permutive.listing import Collected as Collected
    from permutive_worker.permutive.listing import Listing as Listing
    from permutive_worker.permutive.models import Alias as Alias
    from permutive_worker.permutive.models import Cohort as Cohort
    from permutive_worker.permutive.models import ContextSegments as ContextSegments
    from permutive_worker.permutive.models import Event as Event
    from permutive_worker.permutive.models import Import as Import
    from permutive_worker.permutive.models import Membership as Membership
    from permutive_worker.permutive.models import Segment as Segment
    from permutive_worker.permutive.models import Source as Source
    from permutive_worker.permutive.models import StatelessMembership as StatelessMembership
    from permutive_worker.permutive.models import TakenEvent as TakenEvent
    from permutive_worker.permutive.models import UserAlias as UserAlias
    from permutive_worker.permutive.operations import CreateSegment as CreateSegment
    from permutive_worker.permutive.operations import DeleteSegment as DeleteSegment
    from permutive_worker.permutive.operations import OperationResult as OperationResult
    from permutive_worker.permutive.operations import OperationState as OperationState
    from permutive_worker.permutive.operations import UpdateSegment as UpdateSegment
    from permutive_worker.permutive.workspaces import Workspace as Workspace

_ERRORS: Final = (
    "ApiConnectionError",
    "ApiError",
    "ApiTimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "ConflictError",
    "DecodingError",
    "InvalidRequestError",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitError",
    "ServerError",
    "TooLargeError",
    "UnprocessableError",
)
_MODELS: Final = (
    "Alias",
    "Cohort",
    "ContextSegments",
    "Event",
    "Import",
    "Membership",
    "Segment",
    "Source",
    "StatelessMembership",
    "TakenEvent",
    "UserAlias",
)
_OPERATIONS: Final = (
    "CreateSegment",
    "DeleteSegment",
    "OperationResult",
    "OperationState",
    "UpdateSegment",
)
# The names of PermutiveAPI's exceptions, for `except` clauses that are there already.
_ALIASES: Final = {
    "PermutiveAPIError": "ApiError",
    "PermutiveAuthenticationError": "AuthenticationError",
    "PermutiveBadRequestError": "BadRequestError",
    "PermutiveRateLimitError": "RateLimitError",
    "PermutiveResourceNotFoundError": "NotFoundError",
    "PermutiveServerError": "ServerError",
}

__all__ = [
    "Alias",
    "ApiConnectionError",
    "ApiError",
    "ApiTimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "Cohort",
    "Collected",
    "ConflictError",
    "ContextSegments",
    "CreateSegment",
    "DecodingError",
    "DeleteSegment",
    "Event",
    "Import",
    "InvalidRequestError",
    "Listing",
    "Membership",
    "NotFoundError",
    "OperationResult",
    "OperationState",
    "PermissionDeniedError",
    "PermutiveAPIError",
    "PermutiveAuthenticationError",
    "PermutiveBadRequestError",
    "PermutiveClient",
    "PermutiveRateLimitError",
    "PermutiveResourceNotFoundError",
    "PermutiveServerError",
    "RateLimitError",
    "Segment",
    "ServerError",
    "Source",
    "StatelessMembership",
    "TakenEvent",
    "TooLargeError",
    "UnprocessableError",
    "UpdateSegment",
    "UserAlias",
    "Workspace",
]

_HOMES: Final = {
    **dict.fromkeys(_ERRORS, "permutive_worker.errors"),
    **dict.fromkeys(_MODELS, "permutive_worker.permutive.models"),
    **dict.fromkeys(_OPERATIONS, "permutive_worker.permutive.operations"),
    "Collected": "permutive_worker.permutive.listing",
    "Listing": "permutive_worker.permutive.listing",
    "PermutiveClient": "permutive_worker.permutive.client",
    "Workspace": "permutive_worker.permutive.workspaces",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(_ALIASES.get(name, name))
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), _ALIASES.get(name, name))
