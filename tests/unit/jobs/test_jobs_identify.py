import hashlib

import pytest

from permutive_worker.jobs.decode import Decoder
from permutive_worker.jobs.identify import Identify

HASH = hashlib.sha256(b"somebody@example.com").hexdigest()


def decoded(line: bytes) -> Identify:
    job = Decoder().decode(line)
    assert isinstance(job, Identify), job
    return job


def test_body_is_that_of_the_documentation():
    job = decoded(
        b'{"type": "identify", "user_id": "2008c38f-dece-4570-976d-87593ed001c3", "aliases": ['
        b'{"priority": 0, "tag": "email_sha256", "id": "%b"},'
        b'{"id": "1234567890", "tag": "appnexus", "priority": 1}]}' % HASH.encode()
    )

    assert job.body(0) == (
        b'{"user_id":"2008c38f-dece-4570-976d-87593ed001c3","aliases":['
        b'{"id":"%b","tag":"email_sha256","priority":0},'
        b'{"id":"1234567890","tag":"appnexus","priority":1}]}' % HASH.encode()
    )


def test_it_is_one_request_without_a_query():
    job = decoded(b'{"type":"identify","user_id":"u","aliases":[]}')

    assert (job.kind, job.request_count(), job.query()) == ("identify", 1, "")


def test_an_absent_priority_is_the_index():
    job = decoded(
        b'{"type":"identify","user_id":"u","aliases":'
        b'[{"id":"a","tag":"x"},{"id":"b","tag":"y","priority":null},{"id":"c","tag":"z","priority":-5}]}'
    )

    assert job.body(0) == (
        b'{"user_id":"u","aliases":[{"id":"a","tag":"x","priority":0},'
        b'{"id":"b","tag":"y","priority":1},{"id":"c","tag":"z","priority":-5}]}'
    )


def test_no_aliases_is_fine():
    assert (
        decoded(b'{"type":"identify","user_id":"u","aliases":[]}').body(0) == b'{"user_id":"u","aliases":[]}'
    )


def test_what_the_line_says_for_the_worker_is_not_sent():
    job = decoded(
        b'{"job_id":7,"type":"identify","workspace":"w","destination":"permutive","user_id":"u","aliases":[]}'
    )

    assert (job.job_id, job.workspace) == (7, "w")
    assert job.body(0) == b'{"user_id":"u","aliases":[]}'


@pytest.mark.parametrize("letter_case", [str.lower, str.upper])
def test_a_hash_may_be_written_in_either_case(letter_case):
    text = letter_case(HASH)

    job = decoded(
        b'{"type":"identify","user_id":"u","aliases":[{"id":"%b","tag":"email_sha256"}]}' % text.encode()
    )

    assert job.aliases[0].id == text


def test_letters_beyond_ascii_go_out_as_they_came():
    job = decoded('{"type":"identify","user_id":"ü","aliases":[{"id":"\\ud83d\\ude00","tag":"t"}]}'.encode())

    assert job.body(0) == '{"user_id":"ü","aliases":[{"id":"😀","tag":"t","priority":0}]}'.encode()
