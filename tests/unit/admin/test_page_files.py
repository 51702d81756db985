"""The page is three small files and an icon, and asks nobody else for anything."""

import re
from importlib.resources import files

import pytest

PAGE = files("permutive_worker.admin") / "page"
MOST_LINES = {"page.html": 150, "page.css": 150, "page.js": 250}


@pytest.mark.parametrize("name", MOST_LINES)
def test_the_files_are_in_the_package_and_small(name):
    assert 0 < len((PAGE / name).read_text().splitlines()) < MOST_LINES[name]


def test_the_icon_is_a_png():
    assert (PAGE / "icon.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", MOST_LINES)
def test_there_is_no_absolute_address_nothing_inline_and_no_html_from_text(name):
    text = (PAGE / name).read_text()

    assert not re.search(r"""https?:|["'(]//|(?:href|src)="/""", text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
    assert not re.search(r"<style|style=|<script>| on[a-z]+=\"", text)
