import hashlib

from permutive_worker.sandbox.journal import Journal
from permutive_worker.sandbox.ledger import Ledger


def ledger(limit: int = 100, *, keep_bodies: bool = False) -> Ledger:
    return Ledger(limit, keep_bodies=keep_bodies)


def test_a_job_taken_again_is_a_duplicate() -> None:
    book = ledger()

    for body in (b"a", b"b", b"a"):
        book.record(1, "identify", 200, taken=True, subject="u", body=body)

    assert (book.taken, book.unique, book.duplicates) == (3, 2, 1)


def test_a_job_refused_and_sent_again_is_none() -> None:
    book = ledger()

    book.record(1, "identify", 500, taken=False, body=b"a", fault="500")
    book.record(2, "identify", 200, taken=True, subject="u", body=b"a")

    assert (book.requests, book.taken, book.duplicates) == (2, 1, 0)


def test_the_same_body_about_someone_else_is_another_job() -> None:
    book = ledger()

    book.record(1, "cohort.delete", 200, taken=True, subject="c1")
    book.record(1, "cohort.delete", 200, taken=True, subject="c2")

    assert book.duplicates == 0


def test_the_sums() -> None:
    book = ledger()
    book.record(5.0, "identify", 200, taken=True, subject="u", body=b"a")
    book.record(5.5, "event", 0, taken=False, body=b"b", fault="hang")

    assert book.summary() == {
        "requests": 2,
        "taken": 1,
        "unique": 1,
        "duplicates": 0,
        "by_endpoint": {"identify": 1, "event": 1},
        "by_status": {"0": 1, "200": 1},
        "faults": {"hang": 1},
        "first_at": 5.0,
        "last_at": 5.5,
        "peak_per_second": 2,
        "entries": 2,
    }


def test_the_peak_is_of_any_second_not_of_a_clock_second() -> None:
    book = ledger()

    for at in (0.9, 0.95, 1.0, 1.5, 1.89, 1.91, 2.1):
        book.record(at, "identify", 200, taken=False)

    assert book.summary()["peak_per_second"] == 5


def test_an_entry_hides_the_id_and_the_body() -> None:
    book = ledger()
    book.record(1, "identify", 200, taken=True, subject="user-1", body=b'{"a":1}')
    book.record(2, "identify", 429, taken=False, body=b'{"a":1}')

    hashed = hashlib.sha256(b"user-1").hexdigest()
    assert list(book.entries(0, 10)) == [
        {"n": 1, "at": 1, "kind": "identify", "id": hashed, "status": 200, "taken": True},
        {"n": 2, "at": 2, "kind": "identify", "id": None, "status": 429, "taken": False},
    ]


def test_an_entry_shows_them_if_bodies_are_kept() -> None:
    book = ledger(keep_bodies=True)
    for body in (b'{"a":1}', b"{not json", b""):
        book.record(1, "identify", 200, taken=True, subject="user-1", body=body)

    assert [(entry["id"], entry["body"]) for entry in book.entries(0, 10)] == [
        ("user-1", {"a": 1}),
        ("user-1", "{not json"),
        ("user-1", None),
    ]


def test_entries_come_in_pages() -> None:
    book = ledger()
    for at in range(5):
        book.record(at, "identify", 200, taken=False)

    assert [entry["n"] for entry in book.entries(1, 2)] == [2, 3]
    assert list(book.entries(5, 2)) == []


def test_the_sums_go_on_when_the_ledger_is_full() -> None:
    book = ledger(limit=2)
    for at in range(5):
        book.record(at, "identify", 200, taken=True, subject="u", body=b"a")

    assert book.arrivals() == [(0, 200), (1, 200)]
    assert (book.requests, book.duplicates, book.summary()["entries"]) == (5, 4, 2)


def test_the_journal_tells_what_was_new() -> None:
    book, journal = ledger(), Journal()
    book.record(1, "identify", 200, taken=True, subject="u", body=b"a")
    assert journal.line(book, "12:00:01") == "12:00:01       1 req/s  200: 1  taken 1  duplicates 0"
    assert journal.line(book, "12:00:02") is None

    book.record(2, "identify", 200, taken=True, subject="u", body=b"a")
    book.record(2, "identify", 0, taken=False, fault="hang")
    assert journal.line(book, "12:00:03") == (
        "12:00:03       2 req/s  no answer: 1  200: 1  taken 1  duplicates 1"
    )


def test_the_journal_starts_anew_with_a_cleared_ledger() -> None:
    book, journal = ledger(), Journal()
    for _ in range(3):
        book.record(1, "identify", 200, taken=False)
    journal.line(book, "12:00:01")

    book = ledger()
    book.record(1, "identify", 200, taken=False)

    assert journal.line(book, "12:00:02") == "12:00:02       1 req/s  200: 1  taken 0  duplicates 0"
