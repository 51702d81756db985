"""The shape the project keeps: small files, short functions, no cycles, and papers that fit the code."""

import ast
import re
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "permutive_worker"
MODULES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60
BAD_NAMES = {"utils", "util", "helpers", "helper", "base", "common", "misc", "abstract"}
SUPPRESSION = re.compile(r"#\s*(noqa|type:\s*ignore)(?!:\s*[A-Z]+\d+|\[[a-z-]+\])")


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def functions_in(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def lines_without_docstring(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is None:
        return lines
    docstring = function.body[0]
    return lines - (docstring.end_lineno - docstring.lineno + 1)


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imports_of(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Every import that runs, also those inside functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif not is_type_checking(child):
            yield from imports_of(child)


def modules_imported(path: Path, known: set[str]) -> set[str]:
    found = set()
    for node in imports_of(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        else:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & known or {node.module}
    return found & known


def test_modules_are_short():
    lines = {name_of(path): len(path.read_text().splitlines()) for path in MODULES}

    assert {name: count for name, count in lines.items() if count > MAX_MODULE_LINES} == {}


def test_modules_are_named_after_what_they_are():
    assert [name_of(path) for path in MODULES if path.stem in BAD_NAMES] == []


def test_modules_say_what_they_are():
    silent = [path for path in MODULES if path.read_text() and not ast.get_docstring(tree_of(path))]

    assert silent == []


def test_functions_are_short():
    lines = {
        f"{name_of(path)}.{function.name}": lines_without_docstring(function)
        for path in MODULES
        for function in functions_in(path)
    }

    assert {name: count for name, count in lines.items() if count > MAX_FUNCTION_LINES} == {}


def test_imports_are_absolute():
    relative = [
        (name_of(path), node.lineno)
        for path in MODULES
        for node in imports_of(tree_of(path))
        if getattr(node, "level", 0)
    ]

    assert relative == []


def test_what_silences_a_check_names_the_check():
    bare = [
        (name_of(path), number)
        for path in [*MODULES, *TESTS]
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if SUPPRESSION.search(line)
    ]

    assert bare == []


def test_no_module_imports_itself_by_way_of_others():
    known = {name_of(path) for path in MODULES}
    graph = {name_of(path): modules_imported(path, known) for path in MODULES}

    order = list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the cycle

    assert set(order) == known
    assert graph["permutive_worker.worker.worker"] > {
        "permutive_worker.config",
        "permutive_worker.delivery.lane",
    }


def test_test_modules_can_be_told_apart():
    names = [path.name for path in TESTS if path.name.startswith("test_")]

    assert sorted(names) == sorted(set(names))
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_contributing_draws_the_house_as_it_is():
    layers = PROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
    drawing = (ROOT / "CONTRIBUTING.md").read_text().partition("<!-- the house -->")[2].split("```")[1]
    drawn = [re.split(r"\s{2,}", line)[0] for line in drawing.strip().splitlines()]

    assert drawn == layers


def test_the_lock_has_every_dependency_with_hashes_and_no_address():
    lock = (ROOT / "requirements.lock").read_text()
    locked = dict(re.findall(r"^([a-z0-9-]+)==.*?\n((?:    --hash=.*\n)+)", lock, re.MULTILINE))
    needed = {re.match(r"[a-z0-9-]+", one)[0] for one in PROJECT["project"]["dependencies"]}

    assert needed <= set(locked)
    assert "://" not in lock
    assert not re.search(r"(?:^|\s)(?:-i|-f|--index|--extra-index|--find-links|--trusted-host|/\w)", lock)
