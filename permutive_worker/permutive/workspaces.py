"""The workspaces the credentials name. The API has no endpoint for them: this is what the key file says."""

from collections.abc import Iterator

import msgspec

from permutive_worker.credentials import Credentials, Keyring
from permutive_worker.errors import CredentialsError


class Workspace(msgspec.Struct, frozen=True):
    """A workspace, without its key. Ids are None where the credentials do not tell them."""

    name: str
    workspace_id: str | None = None
    organisation_id: str | None = None

    @property
    def is_top_level(self) -> bool:
        """Whether this is the workspace of the organisation itself."""
        return self.workspace_id is not None and self.workspace_id == self.organisation_id


class Workspaces:
    """Iterate it for all of them, in the order of the credentials."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def __iter__(self) -> Iterator[Workspace]:
        return map(_workspace, self._keyring)

    def __len__(self) -> int:
        return len(self._keyring)

    def get(self, name_or_workspace_id: str) -> Workspace:
        """Raises CredentialsError, listing the names there are."""
        return _workspace(self._keyring.default(name_or_workspace_id))

    def top_level(self) -> Workspace:
        """Raises CredentialsError if there is none, or more than one."""
        found = [workspace for workspace in self if workspace.is_top_level]
        if len(found) != 1:
            raise CredentialsError(f"The credentials name {len(found)} top-level workspaces, not one")
        return found[0]

    def children(self, parent: Workspace | None = None) -> list[Workspace]:
        """Return the workspaces of the same organisation that are not its top level.

        `parent` is the top-level one unless given; then this raises as `top_level` does.
        """
        organisation_id = (parent or self.top_level()).organisation_id
        return [
            workspace
            for workspace in self
            if workspace.organisation_id == organisation_id and not workspace.is_top_level
        ]


def _workspace(key: Credentials) -> Workspace:
    return Workspace(key.name, key.workspace_id, key.organisation_id)
