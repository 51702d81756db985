"""Keys: every spelling of them, re-read from their file, and a repr without them.

The first that is set wins: PERMUTIVE_API_KEY_FILE, PERMUTIVE_API_KEY, PERMUTIVE_APPLICATION_CREDENTIALS.
Both files can be re-read while the worker runs; a file that is empty, gone or broken keeps the old key.

No error here repeats what it read, nor a path that names no file: people put the key where the path belongs.
Scrubbing: a key shorter than 8 characters, or one that reads as a number, is used but not scrubbed, because
replacing it would change ordinary text and could break JSON; a warning says so. Permutive's keys are UUIDs.
"""

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from threading import Lock
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import msgspec

from permutive_worker.errors import CredentialsError

KEY_FILE: Final = "PERMUTIVE_API_KEY_FILE"
KEY: Final = "PERMUTIVE_API_KEY"
WORKSPACES: Final = "PERMUTIVE_APPLICATION_CREDENTIALS"
MASK: Final = "[key]"

_MAX_FILE_BYTES: Final = 1024 * 1024  # a thousand workspaces are 200 kB
_MIN_SCRUBBED_LENGTH: Final = 8
_BOM: Final = b"\xef\xbb\xbf"
_KEY_TEXT: Final = re.compile(r"[!#-\[\]-~]+")  # visible ASCII but " and \, which JSON would have to escape
_NUMBER_TEXT: Final = re.compile(r"-?[\d.,:\[\]{}]*(?:[eE][-+]?\d*)?")  # may stand outside a JSON string
# Every spelling seen, in small letters and without - and _: the PermutiveAPI package changed them twice.
_FIELDS: Final = {
    "name": "name",
    "workspaceid": "workspace_id",
    "organisationid": "organisation_id",
    "organizationid": "organisation_id",
    "apikey": "key",
    "privatekey": "key",
}


class Scrubber:
    """Replaces every key it ever learned by `[key]`, in all forms an answer may hold it."""

    __slots__ = ("_bytes_forms", "_learning", "_text_forms")

    def __init__(self) -> None:
        self._learning = Lock()  # files are re-read in a thread as well as on the loop
        self._text_forms: tuple[str, ...] = ()
        self._bytes_forms: tuple[bytes, ...] = ()

    def learn(self, key: str) -> None:
        """Scrub `key` from now on, and go on scrubbing those before it."""
        if not is_scrubbed(key):
            return
        encoded = {quote(key, safe=""), quote(key)}
        new = {key, key.replace("/", "\\/"), *encoded, *map(_lower_hex, encoded)}
        with self._learning:
            forms = sorted(new.union(self._text_forms), key=len, reverse=True)  # a key may begin with another
            self._text_forms = tuple(forms)
            self._bytes_forms = tuple(form.encode() for form in forms)

    def scrub(self, data: bytes) -> bytes:
        """Return `data` without any key; valid JSON stays valid. Scrub before cutting: half a key is not found."""
        for form in self._bytes_forms:
            if form in data:
                data = data.replace(form, MASK.encode())
        return data

    def scrub_text(self, text: str) -> str:
        for form in self._text_forms:
            if form in text:
                text = text.replace(form, MASK)
        return text


class Credentials:
    """The key of one workspace.

    Attributes:
        name: of the workspace; its id, or `default`, if it has none.
        workspace_id, organisation_id: None if they are not known.
        key: as it was last read. Keep it out of logs, errors and files.
    """

    __slots__ = ("_reread", "_scrubber", "key", "name", "organisation_id", "workspace_id")

    def __init__(
        self,
        key: str,
        scrubber: Scrubber,
        *,
        name: str = "default",
        workspace_id: str | None = None,
        organisation_id: str | None = None,
        reread: Callable[[], str] | None = None,
    ) -> None:
        """`reread` gives the key anew from its file, or raises CredentialsError."""
        self.key = key
        self.name = name
        self.workspace_id = workspace_id
        self.organisation_id = organisation_id
        self._reread = reread
        self._scrubber = scrubber
        scrubber.learn(key)

    def __repr__(self) -> str:
        return f"<Credentials {self.name!r} workspace_id={self.workspace_id!r}>"

    @property
    def is_top_level(self) -> bool:
        """Whether this is the workspace of the organisation itself."""
        return self.workspace_id is not None and self.workspace_id == self.organisation_id

    def refresh(self) -> bool:
        """Look at the file again; True if the key changed. A file without a good key keeps the old one.

        Blocks for the read of one small file.
        """
        if self._reread is None:
            return False
        try:
            key = self._reread()
        except CredentialsError:
            return False
        if key == self.key:
            return False
        self._scrubber.learn(key)
        self.key = key
        return True


class Keyring:
    """The credentials of every workspace, in the order of their file.

    Attributes:
        warnings: sentences for the log: files that others can read, keys that cannot be scrubbed.

    Raises:
        CredentialsError: there are none, or a name or workspace_id stands twice.
    """

    def __init__(
        self, credentials: Iterable[Credentials], scrubber: Scrubber, warnings: Sequence[str] = ()
    ) -> None:
        self._credentials = tuple(credentials)
        self._scrubber = scrubber
        self._by_name: dict[str, Credentials] = {}
        for one in self._credentials:
            self._index(one)
        if not self._credentials:
            raise CredentialsError(f"{WORKSPACES} names a file that lists no workspace; add one")
        self.warnings = [*warnings, *filter(None, map(_weakness, self._credentials))]

    @classmethod
    def of_key(cls, key: str) -> "Keyring":
        """For embedders who have the key in hand.

        Raises:
            CredentialsError: it is empty or holds what no key holds.
        """
        scrubber = Scrubber()
        return cls([Credentials(_checked(key, "The key"), scrubber)], scrubber)

    def __repr__(self) -> str:
        return f"<Keyring {', '.join(one.name for one in self)}>"

    def __iter__(self) -> Iterator[Credentials]:
        return iter(self._credentials)

    def __len__(self) -> int:
        return len(self._credentials)

    def of(self, name_or_workspace_id: str) -> Credentials | None:
        return self._by_name.get(name_or_workspace_id)

    def default(self, workspace: str | None = None) -> Credentials:
        """Return the credentials of lines that name no workspace.

        Those asked for, else the only ones, else those of the top-level workspace.

        Raises:
            CredentialsError: listing the names there are.
        """
        names = ", ".join(one.name for one in self)
        if workspace is not None:
            if found := self.of(workspace):
                return found
            raise CredentialsError(
                f"There are no credentials for workspace {workspace!r}; there are: {names}"
            )
        top_level = [one for one in self if one.is_top_level]
        for candidates in (self._credentials, top_level):
            if len(candidates) == 1:
                return candidates[0]
        raise CredentialsError(f"Say with --workspace which credentials lines without one take: {names}")

    def refresh(self) -> bool:
        """Look at every file again; True if a key changed. Blocks for a read per workspace."""
        changed = [one.refresh() for one in self]  # all of them, not up to the first that changed
        return any(changed)

    def scrub(self, data: bytes) -> bytes:
        """Replace every key known now or before by `[key]`; see `Scrubber.scrub`."""
        return self._scrubber.scrub(data)

    def scrub_text(self, text: str) -> str:
        return self._scrubber.scrub_text(text)

    def _index(self, one: Credentials) -> None:
        for label in filter(None, (one.name, one.workspace_id)):
            if self._by_name.setdefault(label, one) is not one:
                raise CredentialsError(
                    f"{WORKSPACES} has the name or workspace_id {label!r} twice; make them differ"
                )


def load_keyring(environ: Mapping[str, str]) -> Keyring:
    """Read the credentials from where the environment says; a blank variable is unset.

    Raises:
        CredentialsError: there is none, or what there is cannot be read or is no key.
    """
    key_file, key, workspaces = (environ.get(name, "").strip() for name in (KEY_FILE, KEY, WORKSPACES))
    scrubber = Scrubber()
    if key_file:
        return _keyring_of_key_file(key_file, scrubber)
    if key:
        return Keyring([Credentials(_checked(key, KEY), scrubber)], scrubber)
    if workspaces:
        return _keyring_of_workspaces(workspaces, scrubber)
    raise CredentialsError(
        f"There is no API key: set {KEY_FILE} (path of a file that holds it), {KEY} (the key itself) "
        f"or {WORKSPACES} (path of the workspace JSON)"
    )


def is_scrubbed(key: str) -> bool:
    """Whether the key can be told from ordinary text and numbers, and so can be scrubbed."""
    return len(key) >= _MIN_SCRUBBED_LENGTH and _NUMBER_TEXT.fullmatch(key) is None


class _Workspace(NamedTuple):
    name: str
    workspace_id: str | None
    organisation_id: str | None
    key: str


def _keyring_of_key_file(path: str, scrubber: Scrubber) -> Keyring:
    def reread() -> str:
        return _key_of_file(_read_again(KEY_FILE, path))

    key = _key_of_file(_read(KEY_FILE, path))
    return Keyring([Credentials(key, scrubber, reread=reread)], scrubber, _mode_warnings(KEY_FILE, path))


def _key_of_file(data: bytes) -> str:
    return _checked(data.removeprefix(_BOM).decode("utf-8", "replace"), f"The file of {KEY_FILE}")


def _keyring_of_workspaces(path: str, scrubber: Scrubber) -> Keyring:
    file = _WorkspaceFile(path)
    credentials = [
        Credentials(
            workspace.key,
            scrubber,
            name=workspace.name,
            workspace_id=workspace.workspace_id,
            organisation_id=workspace.organisation_id,
            reread=partial(file.read_key, workspace.name),
        )
        for workspace in file.workspaces
    ]
    return Keyring(credentials, scrubber, _mode_warnings(WORKSPACES, path))


class _WorkspaceFile:
    """The workspace JSON. Each workspace asks for its own key, so it is parsed only when its bytes changed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._data = _read(WORKSPACES, path)
        self.workspaces = _parse_workspaces(self._data)

    def read_key(self, name: str) -> str:
        """Raises CredentialsError if the file is broken or no longer has that workspace."""
        data = _read_again(WORKSPACES, self._path)
        if data != self._data:
            self.workspaces = _parse_workspaces(data)
            self._data = data
        for workspace in self.workspaces:
            if workspace.name == name:
                return workspace.key
        raise CredentialsError(f"{WORKSPACES} names a file that no longer lists {name!r}")


def _parse_workspaces(data: bytes) -> list[_Workspace]:
    document = _parse_json(data)
    entries = document if isinstance(document, list) else [document]
    return [_parse_workspace(entry, number) for number, entry in enumerate(entries, 1)]


def _parse_json(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data.removeprefix(_BOM))
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        pass  # raised below, without the parser's error: it may hold what it read
    raise CredentialsError(
        f"{WORKSPACES} names a file that is no JSON; it holds one workspace or a list of them"
    )


def _parse_workspace(entry: Any, number: int) -> _Workspace:
    where = f"Workspace {number} in the file of {WORKSPACES}"
    if not isinstance(entry, dict):
        raise CredentialsError(f"{where} is no object with name, workspace_id, organisation_id and api_key")
    fields: dict[str, str] = {}
    for spelling, value in entry.items():
        field = _FIELDS.get(re.sub("[-_]", "", spelling).lower())
        if field is None or value is None:
            continue
        if not isinstance(value, str):
            raise CredentialsError(f"{where}: {spelling} must be text")
        if fields.setdefault(field, value.strip()) != value.strip():
            raise CredentialsError(f"{where}: {spelling} says something else than another spelling of it")
    if "key" not in fields:
        raise CredentialsError(f"{where} has no key; add it as api_key")
    return _Workspace(
        name=fields.get("name")
        or fields.get("workspace_id")
        or ("default" if number == 1 else f"workspace {number}"),
        workspace_id=fields.get("workspace_id") or None,
        organisation_id=fields.get("organisation_id") or None,
        key=_checked(fields["key"], f"{where}: the key"),
    )


def _checked(key: str, what: str) -> str:
    """Return the key without white space around it, if it can be one."""
    key = key.strip()
    if not key:
        raise CredentialsError(f"{what} is empty")
    if _KEY_TEXT.fullmatch(key) is None:
        raise CredentialsError(
            f"{what} holds a space, a line break, a quotation mark or another character that no key has"
        )
    return key


def _read(variable: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        fault = error.strerror if isinstance(error, OSError) else "it holds a NUL"
    else:
        if len(data) <= _MAX_FILE_BYTES:
            return data
        fault = "it is larger than 1 MiB"
    raise CredentialsError(f"{variable} must be the path of a file that can be read, but: {fault}")


def _read_again(variable: str, path: str) -> bytes:
    if not os.path.isfile(path):  # a pipe gave its key once; to open it again would wait for ever
        raise CredentialsError(f"{variable} names a file that is gone")
    return _read(variable, path)


def _mode_warnings(variable: str, path: str) -> list[str]:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return []
    if not (stat.S_ISREG(mode) and mode & stat.S_IROTH):
        return []
    return [f"{path} ({variable}) can be read by every user of this machine; chmod 600 it"]


def _weakness(one: Credentials) -> str | None:
    if is_scrubbed(one.key):
        return None
    return (
        f"The key of {one.name} is too short, or too much like a number, to be told from ordinary text: "
        "it is not scrubbed from what the API answers"
    )


def _lower_hex(encoded: str) -> str:
    return re.sub("%[0-9A-F]{2}", lambda escape: escape[0].lower(), encoded)
