"""What `import permutive_worker` gives, and what it does not drag in."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import permutive_worker
from permutive_worker import permutive as client


def modules_after(statement: str) -> set[str]:
    """The modules a fresh interpreter has after a statement."""
    program = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "left_out"),
    [
        (
            "import permutive_worker",
            {"aiohttp", "msgspec", "permutive_worker.worker", "permutive_worker.config"},
        ),
        ("from permutive_worker import Settings, Outcome", {"aiohttp", "permutive_worker.worker"}),
        ("import permutive_worker.jobs", {"aiohttp", "permutive_worker.jobs.decode"}),
        ("import permutive_worker.jobs.decode, permutive_worker.jobs.dead_letter", {"aiohttp", "asyncio"}),
        ("import permutive_worker.permutive", {"aiohttp", "pandas", "permutive_worker.permutive.client"}),
        (
            "from permutive_worker.permutive import *; from permutive_worker.permutive import PermutiveClient",
            {
                "pandas",
                "click",
                "permutive_worker.worker",
                "permutive_worker.delivery",
                "permutive_worker.config",
            },
        ),
        ("from permutive_worker.permutive import Alias, ApiError", {"aiohttp", "asyncio"}),
        ("import permutive_worker.cli.main", {"aiohttp", "rich", "permutive_worker.worker"}),
    ],
)
def test_a_part_does_not_import_the_rest(statement, left_out):
    assert modules_after(statement) & left_out == set()


def test_every_public_name_can_be_had():
    for name in permutive_worker.__all__:
        assert getattr(permutive_worker, name) is not None, name


def test_all_names_what_type_checkers_see():
    tree = ast.parse(Path(permutive_worker.__file__).read_text())
    seen = {
        alias.asname
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    assert set(permutive_worker.__all__) == seen | {"__version__"}
    assert permutive_worker.__all__ == sorted(permutive_worker.__all__)


def test_a_lazy_name_is_the_name_of_its_module():
    for module, name in (("config", "Settings"), ("model", "Outcome"), ("embedding", "deliver")):
        home = importlib.import_module(f"permutive_worker.{module}")
        assert getattr(permutive_worker, name) is getattr(home, name)


def test_the_client_has_what_its_all_says():
    tree = ast.parse(Path(client.__file__).read_text())
    imported = [node for block in tree.body if isinstance(block, ast.If) for node in block.body]

    assert client.__all__ == sorted({alias.asname for node in imported for alias in node.names})
    for name in client.__all__:
        assert getattr(client, name).__name__ in (name, name.replace("Permutive", "")) or name.startswith(
            "Permutive"
        )


def test_the_names_of_permutive_api_are_aliases():
    assert client.PermutiveAPIError is client.ApiError
    assert client.PermutiveAuthenticationError is client.AuthenticationError
    assert client.PermutiveBadRequestError is client.BadRequestError
    assert client.PermutiveRateLimitError is client.RateLimitError
    assert client.PermutiveResourceNotFoundError is client.NotFoundError
    assert client.PermutiveServerError is client.ServerError


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="Wroker"):
        permutive_worker.Wroker  # noqa: B018  (looking is the point)


def test_the_all_of_every_package_holds():
    root = Path(permutive_worker.__file__).parent
    for init in sorted(root.glob("*/__init__.py")):
        room = importlib.import_module(f"permutive_worker.{init.parent.name}")
        assert [name for name in getattr(room, "__all__", []) if not hasattr(room, name)] == [], room
