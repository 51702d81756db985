import json

import pytest

from permutive_worker.jobs.decode import Decoder
from permutive_worker.jobs.event import Event


def decoded(**fields: object) -> Event:
    job = Decoder().decode(json.dumps({"type": "event", "name": "A", **fields}).encode())
    assert isinstance(job, Event), job
    return job


def test_body_is_that_of_the_documentation():
    line = (
        b'{"type":"event","name":"Pageview","user_id":"2008c38f-dece-4570-976d-87593ed001c3",'
        b'"view_id":"a55a9c8b-4a0b-4fe7-99a9-170624850501","session_id":"1d145310-1338-4ff7-96dd-e6128f54cbe5",'
        b'"properties":{"my_string":"hello","my_boolean":true}}'
    )

    job = Decoder().decode(line)

    assert isinstance(job, Event)
    assert job.body(0) == line.replace(b'"type":"event",', b"")


def test_absent_fields_are_not_sent():
    nulls = dict.fromkeys(("aliases", "properties", "view_id", "session_id", "enrich", "time"))

    assert decoded(user_id="u", **nulls).body(0) == b'{"name":"A","user_id":"u"}'


def test_it_is_one_request():
    assert decoded(user_id="u").request_count() == 1


def test_user_may_be_aliases():
    job = decoded(aliases=[{"id": "a", "tag": "t"}])

    assert job.body(0) == b'{"name":"A","aliases":[{"id":"a","tag":"t","priority":0}]}'


@pytest.mark.parametrize(
    ("fields", "query"),
    [
        ({}, "enrich=false&sdkp=false"),
        ({"enrich": False}, "enrich=false&sdkp=false"),
        ({"enrich": True}, "enrich=true&sdkp=false"),
    ],
)
def test_query_says_that_no_sdk_sends_it(fields, query):
    assert decoded(user_id="u", **fields).query() == query


def test_empty_properties_are_properties():
    assert decoded(user_id="u", properties={}).body(0) == b'{"name":"A","user_id":"u","properties":{}}'
