"""A job as a Redis hash, and back. Times are milliseconds there, seconds here."""

import json
from collections.abc import Mapping

from gateway.core.model import (
    End,
    Event,
    EventType,
    Job,
    JobRef,
    Kind,
    Principal,
    Source,
    State,
    Where,
)

Fields = list[str | bytes | float]
"""Names and values in turn, as scripts take them."""


def ref_fields(ref: JobRef) -> Fields:
    principal = ref.principal
    return [
        "team", principal.team, "kind", principal.kind, "name", principal.name,
        "endpoint", ref.endpoint,
    ]  # fmt: skip


def source_text(source: Source) -> str:
    """As JSON: kid, issued at, names."""
    return json.dumps([source.kid, source.issued_at, *source.revocable])


def end_fields(end: End) -> Fields:
    return [
        "http", end.http_status, "where", end.where, "headers", json.dumps(dict(end.headers)),
        "error", end.error or "", "error_type", end.error_type or "", "units", end.units or "",
    ]  # fmt: skip


def job_of(fields: Mapping[bytes, bytes]) -> Job | None:
    """The job in a hash, or None if there is none."""
    if b"id" not in fields:
        return None
    text = {name.decode(): value.decode() for name, value in fields.items() if name != b"metadata"}
    principal = Principal(text["team"], Kind(text["kind"]), text["name"])
    return Job(
        ref=JobRef(text["id"], principal, text["endpoint"], _seconds(text["created"])),
        state=(state := State(text["state"])),
        version=text.get("version", "0-0"),
        fal_id=text.get("fal_id"),
        position=int(text["position"]) if text.get("position") else None,
        started_at=_time(text, "started"),
        ended_at=_time(text, "ended"),
        last_sign_at=_seconds(text["sign"]),
        cancel_requested=text.get("cancel") == "1",
        pull=text.get("pull") == "1",
        asks=int(text.get("asks", 0)),
        metadata=fields.get(b"metadata") or None,
        account=text.get("account", ""),
        plan=text.get("plan", ""),
        source=_source_of(text.get("by")),
        waiting=text.get("waiting", "") == "1",
        run=text.get("run") == "1",
        price=text.get("price", ""),
        held_usd=int(text.get("held_usd", 0)),
        held_units=int(text.get("held_units", 0)),
        cost=int(text["cost"]) if text.get("cost") else None,
        settled=text.get("settled") == "1",
        end=_end_of(state, text) if state.ended else None,
    )


def event_of(id: bytes, fields: Mapping[bytes, bytes]) -> Event:
    """The event in a stream's entry; `id` is its place in that stream."""
    text = {name.decode(): value.decode() for name, value in fields.items() if name != b"log"}
    return Event(
        id=id.decode(),
        version=text["version"],
        type=EventType(text["type"]),
        job_id=text["job"],
        endpoint=text["endpoint"],
        at=_seconds(text["at"]),
        position=int(text["position"]) if text.get("position") else None,
        log=fields.get(b"log"),
        http_status=int(text["http"]) if text.get("http") else None,
        error=text.get("error") or None,
        error_type=text.get("error_type") or None,
    )


def _source_of(text: str | None) -> Source | None:
    if not text:
        return None
    kid, issued_at, *names = json.loads(text)
    return Source(kid, tuple(names), issued_at)


def _end_of(state: State, text: Mapping[str, str]) -> End:
    return End(
        state=state,
        http_status=int(text["http"]),
        where=Where(text["where"]),
        headers=json.loads(text["headers"]),
        error=text["error"] or None,
        error_type=text["error_type"] or None,
        units=text["units"] or None,
        settled="1" in (text.get("whole"), text["settled"]),
    )


def _time(text: Mapping[str, str], name: str) -> float | None:
    return _seconds(text[name]) if name in text else None


def _seconds(milliseconds: str) -> float:
    return int(milliseconds) / 1000
