import os
import traceback
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from permutive_worker.credentials import Keyring, load_keyring
from permutive_worker.errors import CredentialsError

MARKER = "f9975143-SECRET-46dc-9247-1fb6c790e1cc"
OTHER = "0c1d2e3f-OTHER-4a5b-8c7d-9e0f1a2b3c4d"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(f"{MARKER}\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def workspaces(tmp_path: Path):
    def write(document) -> dict[str, str]:
        path = tmp_path / "workspaces.json"
        path.write_bytes(document if isinstance(document, bytes) else msgspec.json.encode(document))
        path.chmod(0o600)
        return {"PERMUTIVE_APPLICATION_CREDENTIALS": str(path)}

    return write


def from_file(path: Path) -> Keyring:
    return load_keyring({"PERMUTIVE_API_KEY_FILE": str(path)})


def keys(keyring: Keyring) -> list[str]:
    return [one.key for one in keyring]


def refused(environ: dict[str, str]) -> str:
    """Load what must be refused; the key is in no part of the error."""
    with pytest.raises(CredentialsError) as caught:
        load_keyring(environ)
    told = "".join(traceback.format_exception(caught.value))
    assert MARKER not in told + repr(caught.value)
    assert caught.value.__cause__ is None
    return str(caught.value)


# Where a key comes from


def test_the_first_that_is_set_wins(key_file, workspaces):
    environ = workspaces({"name": "w", "api_key": "key-of-the-workspace"})

    assert keys(load_keyring(environ)) == ["key-of-the-workspace"]
    environ |= {"PERMUTIVE_API_KEY": OTHER}
    assert keys(load_keyring(environ)) == [OTHER]
    environ |= {"PERMUTIVE_API_KEY_FILE": str(key_file)}
    assert keys(load_keyring(environ)) == [MARKER]


def test_a_blank_variable_is_unset():
    assert keys(load_keyring({"PERMUTIVE_API_KEY_FILE": " ", "PERMUTIVE_API_KEY": f"{MARKER}\n"})) == [MARKER]


def test_no_key_names_the_three_variables():
    told = refused({})

    assert told.startswith("There is no API key: set PERMUTIVE_API_KEY_FILE")
    assert "PERMUTIVE_API_KEY (" in told
    assert "PERMUTIVE_APPLICATION_CREDENTIALS" in told


@pytest.mark.parametrize(
    "text", [MARKER, f"{MARKER}\n", f"{MARKER}\r\n", f"\n {MARKER}\t\n", f"\ufeff{MARKER}\n"]
)
def test_white_space_around_the_key_in_a_file_is_no_part_of_it(key_file, text):
    key_file.write_text(text, newline="")

    assert keys(from_file(key_file)) == [MARKER]


@pytest.mark.parametrize(
    "text",
    [
        f"{MARKER} {OTHER}",
        f"{MARKER}\n{OTHER}",
        f"{MARKER}\r\nX-Evil: 1",
        f"{MARKER}é",
        f'"{MARKER}"',
        f"{MARKER}\0x",
        f"{MARKER}\\n",
    ],
)
def test_a_key_that_can_be_none_is_refused(key_file, text):
    key_file.write_text(text, newline="")

    assert refused({"PERMUTIVE_API_KEY_FILE": str(key_file)}).startswith(
        "The file of PERMUTIVE_API_KEY_FILE holds"
    )
    assert refused({"PERMUTIVE_API_KEY": text}).startswith("PERMUTIVE_API_KEY holds a space, a line break")


def test_files_that_cannot_be_read(key_file, tmp_path):
    key_file.write_text("\n")
    assert refused({"PERMUTIVE_API_KEY_FILE": str(key_file)}) == "The file of PERMUTIVE_API_KEY_FILE is empty"
    key_file.write_bytes(b"x" * 2_000_000)
    assert refused({"PERMUTIVE_API_KEY_FILE": str(key_file)}).endswith("but: it is larger than 1 MiB")
    assert refused({"PERMUTIVE_API_KEY_FILE": str(tmp_path)}).endswith("but: Is a directory")
    assert refused({"PERMUTIVE_APPLICATION_CREDENTIALS": str(tmp_path / "no")}).startswith(
        "PERMUTIVE_APPLICATION_CREDENTIALS must be the path of a file that can be read"
    )


@pytest.mark.parametrize("variable", ["PERMUTIVE_API_KEY_FILE", "PERMUTIVE_APPLICATION_CREDENTIALS"])
def test_a_key_where_its_path_belongs_is_not_repeated(variable):
    assert refused({variable: MARKER}).endswith("but: No such file or directory")


# The workspace JSON


@pytest.mark.parametrize(
    "spellings",
    [
        ("name", "organisation_id", "workspace_id", "api_key"),
        ("name", "organizationID", "workspaceID", "privateKey"),
        ("name", "organisationID", "workspaceID", "apiKey"),
        ("name", "organization_id", "workspaceId", "private_key"),
    ],
)
@pytest.mark.parametrize("as_list", [True, False])
def test_every_spelling_of_a_workspace_is_read(spellings, as_list, workspaces):
    workspace = dict(zip(spellings, ("Acme", "org-1", "ws-1", MARKER), strict=True)) | {
        "region": None,
        "x": [1],
    }
    (one,) = load_keyring(workspaces([workspace] if as_list else workspace))

    assert (one.name, one.organisation_id, one.workspace_id, one.key) == ("Acme", "org-1", "ws-1", MARKER)
    assert not one.is_top_level


def test_a_workspace_may_have_a_key_only(workspaces):
    (one,) = load_keyring(workspaces({"api_key": MARKER}))
    assert (one.name, one.workspace_id, one.organisation_id, one.is_top_level) == (
        "default",
        None,
        None,
        False,
    )

    keyring = load_keyring(workspaces([{"api_key": MARKER, "workspace_id": "w1"}, {"apiKey": OTHER}]))
    assert [one.name for one in keyring] == ["w1", "workspace 2"]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (b"", "is no JSON"),
        (b"{", "is no JSON"),
        (f'{{"api_key": "{MARKER}"'.encode(), "is no JSON"),
        (b'{"api_key": "\xff"}', "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        ([], "lists no workspace"),
        ([[MARKER]], "Workspace 1 in the file of PERMUTIVE_APPLICATION_CREDENTIALS is no object"),
        (MARKER, "is no object"),
        ({"name": "a"}, "has no key; add it as api_key"),
        ({"name": "a", "api_key": None}, "has no key; add it as api_key"),
        ({"name": "a", "api_key": ""}, "the key is empty"),
        ({"name": "a", "api_key": 12345678}, "api_key must be text"),
        ({"name": ["a"], "api_key": MARKER}, "name must be text"),
        ({"name": "a", "api_key": f"{MARKER}\n{OTHER}"}, "the key holds a space, a line break"),
        ({"api_key": MARKER, "privateKey": OTHER}, "privateKey says something else"),
        (
            [{"name": "a", "api_key": MARKER}, {"name": "a", "api_key": OTHER}],
            "has the name or workspace_id 'a' twice",
        ),
        (
            [{"name": "a", "api_key": MARKER}, {"name": "b", "workspace_id": "a", "api_key": OTHER}],
            "has the name or workspace_id 'a' twice",
        ),
    ],
)
def test_a_broken_workspace_file_is_told_in_a_sentence(document, expected, workspaces):
    assert expected in refused(workspaces(document))


# Choosing


def three(workspaces) -> Keyring:
    return load_keyring(
        workspaces(
            [
                {"name": "one", "workspace_id": "w1", "organisation_id": "o", "api_key": MARKER},
                {"name": "top", "workspace_id": "o", "organisation_id": "o", "api_key": OTHER},
                {"name": "two", "workspace_id": "w2", "organisation_id": "o", "api_key": "third-key-abc"},
            ]
        )
    )


def test_credentials_are_found_by_name_and_workspace_id(workspaces):
    keyring = three(workspaces)

    assert keyring.of("one") is keyring.of("w1")
    assert keyring.of("nobody") is None
    assert len(keyring) == 3


def test_the_default_is_what_is_asked_for_else_the_only_one_else_the_top_level_one(workspaces):
    keyring = three(workspaces)

    assert keyring.default("w2").name == "two"
    assert keyring.default().name == "top"
    assert Keyring.of_key(MARKER).default().key == MARKER
    with pytest.raises(CredentialsError, match="workspace 'zwei'; there are: one, top, two"):
        keyring.default("zwei")


def test_without_a_top_level_workspace_one_must_be_named(workspaces):
    keyring = load_keyring(
        workspaces([{"name": "a", "api_key": "key-of-the-a"}, {"name": "b", "api_key": "key-of-the-b"}])
    )

    with pytest.raises(CredentialsError, match=r"Say with --workspace .*: a, b"):
        keyring.default()


def test_an_embedder_gives_the_key_itself():
    assert keys(Keyring.of_key(MARKER)) == [MARKER]
    with pytest.raises(CredentialsError, match=r"^The key is empty"):
        Keyring.of_key("")


# Refresh


def test_a_swapped_key_file_changes_the_key(key_file, tmp_path):
    keyring = from_file(key_file)
    (one,) = keyring
    assert one.refresh() is False

    (tmp_path / "new").write_text(OTHER)
    os.replace(tmp_path / "new", key_file)

    assert one.refresh() is True
    assert one.key == OTHER
    assert one.refresh() is False


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"\xff\xfe", b"x" * 2_000_000])
def test_a_bad_key_file_keeps_the_old_key(key_file, content):
    keyring = from_file(key_file)
    key_file.write_bytes(content)

    assert keyring.refresh() is False
    assert keys(keyring) == [MARKER]


def test_a_key_file_that_is_gone_keeps_the_old_key(key_file):
    keyring = from_file(key_file)
    key_file.unlink()
    assert keyring.refresh() is False
    key_file.mkdir()
    assert keyring.refresh() is False
    assert keys(keyring) == [MARKER]


def test_a_key_from_a_pipe_is_read_once_and_never_waited_for():
    reader, writer = os.pipe()
    os.write(writer, f"{MARKER}\n".encode())
    os.close(writer)
    keyring = from_file(Path(f"/dev/fd/{reader}"))
    os.close(reader)

    assert keyring.refresh() is False
    assert keys(keyring) == [MARKER]


def test_a_key_from_the_environment_does_not_change():
    environ = {"PERMUTIVE_API_KEY": MARKER}
    keyring = load_keyring(environ)
    environ["PERMUTIVE_API_KEY"] = OTHER

    assert keyring.refresh() is False
    assert keys(keyring) == [MARKER]


def test_every_workspace_of_the_file_is_refreshed(workspaces):
    keyring = load_keyring(
        workspaces([{"name": "a", "api_key": "old-key-of-a"}, {"name": "b", "api_key": "old-key-of-b"}])
    )
    workspaces([{"name": "b", "api_key": "new-key-of-b"}, {"name": "a", "api_key": "new-key-of-a"}])

    assert keyring.refresh() is True
    assert keys(keyring) == ["new-key-of-a", "new-key-of-b"]


def test_a_workspace_that_left_the_file_keeps_its_latest_key(workspaces):
    keyring = load_keyring(
        workspaces([{"name": "a", "api_key": "first-key-a"}, {"name": "b", "api_key": OTHER}])
    )
    workspaces([{"name": "a", "api_key": "second-key-a"}])
    assert keyring.refresh() is True
    workspaces([{"name": "b", "api_key": OTHER}])

    assert keyring.refresh() is False
    assert keys(keyring) == ["second-key-a", OTHER]
    workspaces(b"[{")
    assert keyring.refresh() is False


# Secrecy


def test_no_repr_and_no_text_holds_a_key(key_file):
    keyring = from_file(key_file)

    shown = f"{keyring} {keyring!r} {list(keyring)} {keyring.warnings} {vars(keyring)}"

    assert MARKER not in shown
    assert "default" in shown


def test_old_and_new_keys_are_scrubbed(key_file):
    keyring = from_file(key_file)
    key_file.write_text(OTHER)
    keyring.refresh()

    assert keyring.scrub(f'{{"a":"{MARKER}","b":"x{OTHER}y"}}'.encode()) == b'{"a":"[key]","b":"x[key]y"}'
    assert keyring.scrub_text(f"k={MARKER}&k={OTHER}") == "k=[key]&k=[key]"


def test_encoded_forms_are_scrubbed():
    key = "abc/DEF+ghi=%~x"
    keyring = Keyring.of_key(key)

    for form in (key, quote(key), quote(key, safe=""), quote(key, safe="").lower().replace("def", "DEF")):
        assert keyring.scrub_text(f"<{form}>") == "<[key]>"
    assert keyring.scrub(b'{"echo":"abc\\/DEF+ghi=%~x"}') == b'{"echo":"[key]"}'


def test_a_key_that_begins_with_another_leaves_no_rest(workspaces):
    keyring = load_keyring(
        workspaces([{"name": "a", "api_key": "key-of-12"}, {"name": "b", "api_key": "key-of-12-longer"}])
    )

    assert keyring.scrub(b"key-of-12-longer key-of-12") == b"[key] [key]"


def test_nothing_to_scrub_gives_the_very_same_object():
    keyring = Keyring.of_key(MARKER)
    data, text = b'{"user_id":"2008c38f"}', "nothing here"

    assert keyring.scrub(data) is data
    assert keyring.scrub_text(text) is text


@pytest.mark.parametrize("key", ["test", "true", "12345678", "-1.5e+10", "12345678,1"])
def test_a_key_like_ordinary_text_is_used_with_a_warning_and_not_scrubbed(key):
    keyring = Keyring.of_key(key)

    assert keys(keyring) == [key]
    assert keyring.scrub(key.encode()) == key.encode()
    assert len(keyring.warnings) == 1
    assert key not in keyring.warnings[0]


def test_a_uuid_of_digits_is_scrubbed():
    keyring = Keyring.of_key("00000000-0000-4000-8000-000000000000")

    assert keyring.scrub(b"k=00000000-0000-4000-8000-000000000000") == b"k=[key]"
    assert keyring.warnings == []


ANY_KEY = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='"\\'), min_size=1)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(ANY_KEY, JSON, st.text())
def test_scrubbed_json_is_json_without_the_key(key, document, around):
    keyring = Keyring.of_key(key)
    clean = keyring.scrub(msgspec.json.encode([document, f"{around}{key}", {key: key}]))

    msgspec.json.decode(clean)
    assert keyring.warnings or key.encode() not in clean


@pytest.mark.parametrize(("mode", "warned"), [(0o600, 0), (0o640, 0), (0o644, 1)])
def test_a_file_that_everybody_can_read_is_warned_of(key_file, mode, warned):
    key_file.chmod(mode)

    assert len(from_file(key_file).warnings) == warned
