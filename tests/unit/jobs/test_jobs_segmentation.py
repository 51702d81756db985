import json
from itertools import chain

import pytest

from permutive_worker.jobs.decode import Decoder
from permutive_worker.jobs.segmentation import Segmentation, remaining_events

TIME = "2025-07-01T15:39:11.594Z"


def decoded(line: bytes) -> Segmentation:
    job = Decoder().decode(line)
    assert isinstance(job, Segmentation), job
    return job


def line_of(count: int, **fields: object) -> bytes:
    events = [{"name": f"E{number}", "time": TIME, "properties": {}} for number in range(count)]
    return json.dumps({"type": "segmentation", "user_id": "u", "events": events, **fields}).encode()


def names(raw: bytes) -> list[str]:
    return [event["name"] for event in json.loads(raw)["events"]]


def test_body_is_that_of_the_documentation():
    job = decoded(
        b'{"type":"segmentation","user_id":"2008c38f-dece-4570-976d-87593ed001c3","alias":null,"aliases":null,'
        b'"events":[{"properties":{"campaign_id": "3747123491"},"name":"Pageview",'
        b'"time":"2025-07-01T15:39:11.594Z","session_id":null,"view_id":null}]}'
    )

    assert job.body(0) == (
        b'{"events":[{"name":"Pageview","time":"2025-07-01T15:39:11.594Z",'
        b'"properties":{"campaign_id": "3747123491"}}],"user_id":"2008c38f-dece-4570-976d-87593ed001c3"}'
    )


def test_optional_fields_are_sent_when_present():
    event = {"name": "A", "time": TIME, "properties": {}, "session_id": "s", "view_id": "v"}
    job = decoded(json.dumps({"type": "segmentation", "user_id": "u", "events": [event]}).encode())

    assert json.loads(job.body(0)) == {"events": [event], "user_id": "u"}
    assert list(json.loads(job.body(0))["events"][0]) == list(event)


def test_user_may_be_one_alias():
    job = decoded(line_of(1, user_id=None, alias={"tag": "t", "id": "a"}))

    assert json.loads(job.body(0))["alias"] == {"id": "a", "tag": "t"}
    assert "user_id" not in json.loads(job.body(0))


def test_user_may_be_several_aliases():
    job = decoded(
        line_of(1, user_id=None, aliases=[{"tag": "t", "id": "a"}, {"tag": "t", "id": "b", "priority": 9}])
    )

    assert json.loads(job.body(0))["aliases"] == [
        {"id": "a", "tag": "t", "priority": 0},
        {"id": "b", "tag": "t", "priority": 9},
    ]


@pytest.mark.parametrize(
    ("fields", "query"),
    [
        ({}, "activations=false&synchronous-validation=false"),
        ({"activations": True}, "activations=true&synchronous-validation=false"),
        (
            {"activations": False, "synchronous_validation": True},
            "activations=false&synchronous-validation=true",
        ),
    ],
)
def test_query_says_both_flags_always(fields, query):
    assert decoded(line_of(1, **fields)).query() == query


@pytest.mark.parametrize(("count", "requests"), [(1, 1), (10, 1), (11, 2), (20, 2), (21, 3)])
def test_ten_events_a_request_in_order(count, requests):
    job = decoded(line_of(count))

    sent = [names(job.body(part)) for part in range(job.request_count())]

    assert len(sent) == requests
    assert max(map(len, sent)) <= 10
    assert list(chain(*sent)) == [f"E{number}" for number in range(count)]


@pytest.mark.parametrize(
    "properties",
    [
        b'{"big": 123456789012345678901234567890}',
        b'{"a" : 1.10, "a":1e999}',
        '{"ü":"\\u00fc ü"}'.encode(),
        b"{ }",
    ],
)
def test_properties_go_out_byte_for_byte(properties):
    line = b'{"type":"segmentation","user_id":"u","events":[{"name":"A","time":"%b","properties":%b}]}'

    body = decoded(line % (TIME.encode(), properties)).body(0)

    assert b'"properties":' + properties + b"}" in body


@pytest.mark.parametrize(
    "time",
    [
        "2025-07-01T15:39:11Z",
        "2025-07-01t15:39:11z",
        "2025-07-01T15:39:11.123456789+05:30",
        "2024-02-29T00:00:00-00:00",
    ],
)
def test_time_goes_out_as_it_was_written(time):
    event = {"name": "A", "time": time, "properties": {}}
    job = decoded(json.dumps({"type": "segmentation", "user_id": "u", "events": [event]}).encode())

    assert json.loads(job.body(0))["events"][0]["time"] == time


def test_remaining_events_keep_every_other_byte():
    event = b'{"time":"2025-07-01T15:39:11.594Z", "name":"E%d","properties":{ "n":1.10, "big":99999999999999999999}}'
    events = [event % number for number in range(12)]
    line = b'{ "job_id": "\\u0041", "events":[%b], "type":"segmentation","user_id":"u"}'

    rest = remaining_events(line % b", ".join(events), delivered_parts=1)

    assert rest == b'{"job_id":"\\u0041","events":[%b],"type":"segmentation","user_id":"u"}' % b",".join(
        events[10:]
    )


@pytest.mark.parametrize("delivered_parts", [0, 1, 2])
def test_remaining_events_are_what_the_later_requests_would_have_sent(delivered_parts):
    line = line_of(25)
    job = decoded(line)

    rest = decoded(remaining_events(line, delivered_parts))

    assert [rest.body(part) for part in range(rest.request_count())] == [
        job.body(part) for part in range(delivered_parts, job.request_count())
    ]
