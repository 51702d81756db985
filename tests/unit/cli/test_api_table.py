"""A table of `permutive-worker api` at a terminal: columns that cannot be read are left out."""

from permutive_worker.cli.calls import fitting


def test_what_fits_is_shown():
    assert fitting({"id": 36, "name": 10}, room=80) == ["id", "name"]


def test_the_last_columns_are_left_out():
    assert fitting({"id": 36, "name": 20, "tags": 20, "state": 7}, room=80) == ["id", "name"]


def test_a_wide_column_may_be_folded():
    assert fitting({"id": 36, "description": 60}, room=80) == ["id", "description"]


def test_one_column_is_always_shown():
    assert fitting({"id": 36, "name": 10}, room=20) == ["id"]


def test_nothing_has_no_columns():
    assert fitting({}, room=80) == []
