"""The APIs about people: identify, users, CCS segmentation, events and context.

Source: Permutive's published Identity, CCS, Events and Context documents. The shapes are theirs; what
follows from an event is `state.cohort_of`, since the queries of a workspace are not known here.
"""

import hashlib
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from typing import Final

import msgspec
from msgspec import Raw

from permutive_worker.sandbox.answers import Answer, invalid, malformed, ok
from permutive_worker.sandbox.bodies import (
    MAX_EVENTS,
    NULL,
    Alias,
    CcsEvent,
    CcsState,
    ContextPage,
    Event,
    Identify,
    Segmentation,
    check_properties,
    check_uuid,
    decode,
)
from permutive_worker.sandbox.routes import Call
from permutive_worker.sandbox.state import Identities, Ids, Memberships, cohort_of

_IDENTIFY: Final = msgspec.json.Decoder(Identify)
_SEGMENTATION: Final = msgspec.json.Decoder(Segmentation)
_EVENT: Final = msgspec.json.Decoder(Event)
_CONTEXT: Final = msgspec.json.Decoder(ContextPage)
_NO_PROPERTIES: Final = Raw(b"{}")


class People:
    """The endpoints, over one set of identities and memberships.

    Args:
        strict_ids: refuse user, view and session ids that are no UUIDs (the schema says so; whether
            the real API does is not known, and its best-known client shows others in its examples).

    """

    def __init__(self, ids: Ids, wall_clock: Callable[[], datetime], *, strict_ids: bool) -> None:
        self.identities = Identities(ids)
        self._memberships = Memberships()
        self._ids = ids
        self._wall_clock = wall_clock
        self._strict_ids = strict_ids

    def identify(self, call: Call) -> Answer:
        body = decode(_IDENTIFY, call.body)
        self._check_ids(body.user_id)
        user_id = self.identities.resolve(body.user_id, body.aliases)
        return ok({"user_id": user_id}, subject=body.user_id)

    def create_user(self, _: Call) -> Answer:
        user_id = self.identities.create()
        return ok({"id": user_id}, subject=user_id)

    def aliases_of(self, call: Call) -> Answer:
        return ok(self.identities.aliases_of(call.parameters[0]))

    def segment(self, call: Call) -> Answer:
        activations = call.flag("activations", default=False)
        call.flag("synchronous-validation", default=False)
        body = self._segmentation(call)
        user_id = self._resolved(body)
        cohorts = self._memberships.join(user_id, [event.name for event in body.events])
        answer: dict[str, object] = {"user_id": user_id, "cohorts": cohorts}
        if activations:
            answer["activations"] = {"gam": cohorts}
        return ok(answer, subject=_subject(body, call.body))

    def segment_stateless(self, call: Call) -> Answer:
        """Answer the state the caller is to bring next time; nothing is remembered but who is who."""
        call.flag("synchronous-validation", default=False)
        body = self._segmentation(call)
        given = body.state or CcsState()
        cohorts = sorted({*(given.cohorts or ()), *(cohort_of(event.name) for event in body.events)})
        state = {
            "internal_state": given.internal_state,
            "external_state": given.external_state,
            "cohorts": cohorts,
        }
        return ok({"user_id": self._resolved(body), "state": state}, subject=_subject(body, call.body))

    def event(self, call: Call) -> Answer:
        enrich = call.flag("enrich", default=True)
        call.flag("sdkp", default=True)
        body = decode(_EVENT, call.body)
        self._check_event(body)
        aliases = () if body.user_id else body.aliases or ()  # the user id wins where both are given
        user_id = self.identities.resolve(body.user_id, aliases)
        time = self._wall_clock().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        brief = {"user_id": user_id, "time": time}
        content = _enriched(body, brief) if enrich else brief
        return ok(content, status=HTTPStatus.CREATED, subject=_subject(body, call.body))

    def context(self, call: Call) -> Answer:
        body = decode(_CONTEXT, call.body)
        return ok(
            {"cohorts": [cohort_of(body.url)], "activations": {}, "contextual_data": {}}, subject=body.url
        )

    def _segmentation(self, call: Call) -> Segmentation:
        body = decode(_SEGMENTATION, call.body)
        if sum(name is not None for name in (body.user_id, body.alias, body.aliases)) != 1:
            raise malformed("Exactly one of user_id, alias and aliases must be given.")
        if body.aliases is not None and not body.aliases:
            raise malformed("Expected at least one alias - at `$.aliases`")
        if len(body.events) > MAX_EVENTS:
            raise invalid(
                "Too many events.", f"{len(body.events)} events, of which {MAX_EVENTS} are allowed."
            )
        self._check_ids(body.user_id)
        for event in body.events:
            self._check_ccs_event(event)
        return body

    def _resolved(self, body: Segmentation) -> str:
        if body.alias is not None:
            return self.identities.resolve(None, [Alias(body.alias.id, body.alias.tag, 0)])
        return self.identities.resolve(body.user_id, body.aliases or ())

    def _check_ccs_event(self, event: CcsEvent) -> None:
        check_properties(event.properties)
        self._check_ids(None, event.view_id, event.session_id)

    def _check_event(self, body: Event) -> None:
        if body.user_id is None and not body.aliases:
            raise malformed("One of user_id and aliases must be given.")
        if bytes(body.properties) != NULL:
            check_properties(body.properties)
        self._check_ids(body.user_id, body.view_id, body.session_id)

    def _check_ids(
        self, user_id: str | None, view_id: str | None = None, session_id: str | None = None
    ) -> None:
        if self._strict_ids:
            check_uuid("user_id", user_id)
            check_uuid("view_id", view_id)
            check_uuid("session_id", session_id)


def _enriched(body: Event, brief: dict[str, str]) -> dict[str, object]:
    return {
        "name": body.name,
        **brief,
        "view_id": body.view_id,
        "session_id": body.session_id,
        "segments": body.segments or [],
        "cohorts": body.cohorts or [],
        "properties": _NO_PROPERTIES if bytes(body.properties) == NULL else body.properties,
    }


def _subject(body: Segmentation | Event, content: bytes) -> str:
    """Name the job: who it is about, and which of their many it is."""
    alias = getattr(body, "alias", None) or min(
        body.aliases or (), key=lambda alias: alias.priority, default=None
    )
    who = body.user_id or (f"{alias.tag}:{alias.id}" if alias else "")
    return f"{who}#{hashlib.sha256(content).hexdigest()[:16]}"
