import pytest

IDENTIFY = "/v2.0/identify"
CCS = "/ccs/v1/segmentation"
EVENTS = "/v2.0/events"
UUID = "2008c38f-dece-4570-976d-87593ed001c3"
PAGEVIEW = {"name": "Pageview", "time": "2025-07-01T15:39:11.594Z", "properties": {}}


def alias(alias_id, priority=0, tag="email_sha256"):
    return {"id": alias_id, "tag": tag, "priority": priority}


def identify(call, user_id, *aliases):
    return call.json("POST", IDENTIFY, {"user_id": user_id, "aliases": list(aliases)})["user_id"]


def test_an_unknown_identity_is_mapped_to_the_user(call) -> None:
    assert identify(call, "u1", alias("a")) == "u1"
    assert call.json("GET", "/v2.0/users/u1/aliases") == [
        {"id": "a", "tag": "email_sha256", "permutive_id": "u1"}
    ]


def test_a_known_identity_resolves_to_its_user(call) -> None:
    identify(call, "u1", alias("a"))

    assert identify(call, "u2", alias("a"), alias("b", 1)) == "u1"
    assert identify(call, "u3", alias("b")) == "u1"


def test_without_aliases_the_user_is_returned(call) -> None:
    assert identify(call, "u1") == "u1"


def test_of_identities_that_conflict_the_lowest_number_wins_and_the_others_follow(call) -> None:
    identify(call, "u1", alias("a"))
    identify(call, "u2", alias("b"))

    assert identify(call, "u3", alias("a", 1), alias("b", 0)) == "u2"
    assert identify(call, "u4", alias("a")) == "u2"


def test_a_tag_tells_identities_apart(call) -> None:
    identify(call, "u1", alias("a", tag="appnexus"))

    assert identify(call, "u2", alias("a", tag="amp")) == "u2"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (None, 1003),
        (b"{", 1002),
        (b'{"user_id": "\xff", "aliases": []}', 1002),
        ([], 1002),
        ({}, 1002),
        ({"user_id": "u1"}, 1002),
        ({"aliases": []}, 1002),
        ({"user_id": 1, "aliases": []}, 1002),
        ({"user_id": "", "aliases": []}, 1002),
        ({"user_id": "u1", "aliases": None}, 1002),
        ({"user_id": "u1", "aliases": [{"id": "a", "tag": "t"}]}, 1002),
        ({"user_id": "u1", "aliases": [{"id": "a", "tag": "t", "priority": None}]}, 1002),
        ({"user_id": "u1", "aliases": [{"id": "a", "tag": "t", "priority": 0.5}]}, 1002),
        ({"user_id": "u1", "aliases": [{"id": "a", "tag": "t", "priority": 2**31}]}, 1002),
        ({"user_id": "u1", "aliases": [{"id": 1, "tag": "t", "priority": 0}]}, 1002),
    ],
)
def test_an_identify_that_is_refused(call, body, code) -> None:
    assert call.refusal("POST", IDENTIFY, body) == (400, code)


def test_an_unknown_field_is_no_reason_to_refuse(call) -> None:
    assert call("POST", IDENTIFY, {"user_id": "u1", "aliases": [], "more": 1}).status == 200


@pytest.mark.parametrize(
    ("strict", "user_id", "status"), [(False, "user-1", 200), (True, "user-1", 400), (True, UUID, 200)]
)
def test_ids_are_uuids_only_if_strict(build_caller, strict, user_id, status) -> None:
    call = build_caller(strict_ids=strict)

    assert call("POST", IDENTIFY, {"user_id": user_id, "aliases": []}).status == status
    assert call("POST", CCS, {"user_id": user_id, "events": [PAGEVIEW]}).status == status
    assert call("POST", CCS, {"user_id": UUID, "events": [PAGEVIEW | {"view_id": user_id}]}).status == status


def test_a_user_is_made_up_anew_each_time(call) -> None:
    first, second = (call.json("POST", "/v2.0/users")["id"] for _ in range(2))

    assert first != second
    assert call.imitation.ledger.duplicates == 0


def test_cohorts_gather_over_requests(call) -> None:
    one = call.json("POST", CCS, {"user_id": "u1", "events": [PAGEVIEW]})
    both = call.json("POST", CCS, {"user_id": "u1", "events": [PAGEVIEW | {"name": "Clicked"}]})
    other = call.json("POST", CCS, {"user_id": "u2", "events": [PAGEVIEW | {"name": "PAGEVIEW"}]})

    assert set(one) == {"user_id", "cohorts"}
    assert set(one["cohorts"]) < set(both["cohorts"])
    assert other["cohorts"] == one["cohorts"]


def test_activations_come_only_if_asked_for(call) -> None:
    answer = call.json("POST", f"{CCS}?activations=true", {"user_id": "u1", "events": [PAGEVIEW]})

    assert answer["activations"] == {"gam": answer["cohorts"]}


@pytest.mark.parametrize("who", [{"alias": {"tag": "email_sha256", "id": "a"}}, {"aliases": [alias("a")]}])
def test_a_user_known_by_an_alias(call, who) -> None:
    identify(call, "u1", alias("a"))

    body = {"user_id": None, "alias": None, "aliases": None, "events": [PAGEVIEW], **who}
    assert call.json("POST", CCS, body)["user_id"] == "u1"


def test_an_unknown_alias_makes_a_user_who_stays(call) -> None:
    body = {"alias": {"tag": "email_sha256", "id": "a"}, "events": [PAGEVIEW]}

    assert call.json("POST", CCS, body)["user_id"] == call.json("POST", CCS, body)["user_id"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"user_id": None}, 1002),
        ({"alias": {"tag": "t", "id": "a"}}, 1002),
        ({"user_id": None, "aliases": []}, 1002),
        ({"events": None}, 1002),
        ({"events": [{"name": "A", "properties": {}}]}, 1002),
        ({"events": [PAGEVIEW | {"time": "yesterday"}]}, 1002),
        ({"events": [PAGEVIEW | {"properties": []}]}, 1002),
        ({"events": [PAGEVIEW | {"properties": None}]}, 1002),
        ({"events": [PAGEVIEW] * 11}, 1000),
        ({"events": [PAGEVIEW | {"properties": {"a": "x" * 950_000}}]}, 1000),
    ],
)
def test_a_segmentation_that_is_refused(call, change, code) -> None:
    assert call.refusal("POST", CCS, {"user_id": "u1", "events": [PAGEVIEW]} | change) == (400, code)


def test_as_much_as_is_allowed(call) -> None:
    large = PAGEVIEW | {"properties": {"a": "x" * 949_000}, "view_id": None, "session_id": None}

    assert call("POST", CCS, {"user_id": "u1", "events": [large] * 10}).status == 200


@pytest.mark.parametrize("query", ["activations=yes", "synchronous-validation=1"])
def test_a_flag_that_is_neither_true_nor_false(call, query) -> None:
    assert call.refusal("POST", f"{CCS}?{query}", {"user_id": "u1", "events": []}) == (400, 1000)


def test_the_stateless_twin_gives_back_the_state(call) -> None:
    state = {"internal_state": "i", "external_state": {"e": 1}, "cohorts": ["1"]}
    body = {"user_id": "u1", "events": [PAGEVIEW], "state": state}
    answer = call.json("POST", f"{CCS}/stateless", body)

    assert answer["user_id"] == "u1"
    assert {**answer["state"], "cohorts": None} == {**state, "cohorts": None}
    assert set(answer["state"]["cohorts"]) > {"1"}
    remembered = call.json("POST", CCS, {"user_id": "u1", "events": []})
    assert remembered["cohorts"] == []


def test_an_event_is_enriched_by_default(call) -> None:
    body = {"name": "Pageview", "user_id": "u1", "properties": {"big": 12345678901234567890, "f": True}}
    answer = call("POST", EVENTS, body)

    assert answer.status == 201
    assert answer.body == (
        b'{"name":"Pageview","user_id":"u1","time":"2026-01-01T12:00:00.123Z","view_id":null,"session_id":null,'
        b'"segments":[],"cohorts":[],"properties":{"big":12345678901234567890,"f":true}}'
    )


@pytest.mark.parametrize("given", [{}, {"properties": None}])
def test_an_event_without_properties(call, given) -> None:
    assert call.json("POST", EVENTS, {"name": "a", "user_id": "u1", **given})["properties"] == {}


def test_an_event_that_is_not_enriched(call) -> None:
    answer = call.json("POST", f"{EVENTS}?enrich=false&sdkp=false", {"name": "a", "user_id": "u1"})

    assert answer == {"user_id": "u1", "time": "2026-01-01T12:00:00.123Z"}


def test_the_user_id_of_an_event_wins_over_its_aliases(call) -> None:
    identify(call, "u1", alias("a"))
    event = {"name": "a", "aliases": [alias("a")]}

    assert call.json("POST", EVENTS, event)["user_id"] == "u1"
    assert call.json("POST", EVENTS, event | {"user_id": "u2"})["user_id"] == "u2"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"name": "no spaces"}, 1002),
        ({"name": ""}, 1002),
        ({"user_id": None}, 1002),
        ({"user_id": None, "aliases": []}, 1002),
        ({"properties": "x"}, 1002),
        ({"segments": ["1"]}, 1002),
        ({"properties": {"a": "x" * 950_000}}, 1000),
    ],
)
def test_an_event_that_is_refused(call, change, code) -> None:
    assert call.refusal("POST", EVENTS, {"name": "a", "user_id": "u1"} | change) == (400, code)


def test_a_page_has_a_context(call) -> None:
    answer = call.json("POST", "/ctx/v1/segment", {"url": "https://example.com/", "page_properties": {}})

    assert set(answer) == {"cohorts", "activations", "contextual_data"}
    assert call.refusal("POST", "/ctx/v1/segment", {"page_properties": {}}) == (400, 1002)


def test_events_of_one_user_are_different_jobs(call) -> None:
    for name in ("a", "b", "b"):
        call.json("POST", CCS, {"user_id": "u1", "events": [PAGEVIEW | {"name": name}]})

    assert (call.imitation.ledger.unique, call.imitation.ledger.duplicates) == (2, 1)
