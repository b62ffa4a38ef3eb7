"""Calls that make no job: run, upload, realtime token. Plan -> fal -> answer."""

import json
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from gateway.core.errors import BadBody, StoreUnavailable
from gateway.core.model import Caller
from gateway.core.plans import check_endpoint, check_submit, realtime_app
from gateway.core.rules import shaped
from gateway.flows.services import Services
from gateway.upstream.answers import Answer, Refusal

_MEDIA_TYPE: Final = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(?: ?;[ -~]*)?", re.ASCII)
REALTIME_SECONDS: Final = 120
"""Lifetime of a realtime token at most: its holder talks to fal without us."""


@asynccontextmanager
async def run(
    services: Services,
    caller: Caller,
    endpoint: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    stream: bool,
) -> AsyncGenerator[Answer]:
    """fal's answer to a direct run, as it comes. Leaving early ends the run at fal."""
    check_submit(caller)
    check_endpoint(caller, endpoint)
    body = shaped(caller.plan.rules, endpoint, body)
    _check_fresh(services)
    fal = services.accounts.of(services.accounts.chosen(caller.principal.team))
    async with fal.run(endpoint, body, headers, stream=stream) as answer:
        yield answer


async def upload(
    services: Services, caller: Caller, multipart: bool, body: bytes
) -> bytes | Refusal:
    """Where a client may put a file: fal's JSON with `upload_url` and `file_url`."""
    check_submit(caller)
    _check_fresh(services)
    fields = _object(body)
    name, kind = fields.get("file_name"), fields.get("content_type")
    if (
        not isinstance(name, str)
        or not _plain(name, 255)
        or "/" in name
        or "\\" in name
        or name in {".", ".."}
    ):
        raise BadBody("file_name must be a plain name of at most 255 characters")
    if not isinstance(kind, str) or len(kind) > 127 or not _MEDIA_TYPE.fullmatch(kind):
        raise BadBody("content_type must be a media type of at most 127 characters")
    fal = services.accounts.of(services.accounts.chosen(caller.principal.team))
    return await fal.initiate_upload(multipart, kind, name)


async def realtime_token(services: Services, caller: Caller, body: bytes) -> bytes | Refusal:
    """A short-lived token of fal's for one allowed app; the body is built anew."""
    check_submit(caller)
    _check_fresh(services)
    fields = _object(body)
    apps = fields.get("allowed_apps")
    if not isinstance(apps, list) or len(apps) != 1 or not isinstance(apps[0], str):
        raise BadBody("allowed_apps must be a list of one app alias")
    wished = fields.get("token_expiration", REALTIME_SECONDS)
    if type(wished) is not int or wished < 1:
        raise BadBody("token_expiration must be a whole number of seconds")
    realtime_app(caller, apps[0])
    fal = services.accounts.of(services.accounts.chosen(caller.principal.team))
    return await fal.realtime_token(apps[0], min(wished, REALTIME_SECONDS))


def _object(body: bytes) -> dict[str, Any]:
    """A small JSON object, each name once."""
    if len(body) > 8192:
        raise BadBody("the body must be a small JSON object")
    try:
        fields = json.loads(body.decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise BadBody("the body must be a JSON object, each name once") from None
    if not isinstance(fields, dict):
        raise BadBody("the body must be a JSON object")
    return fields


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name twice")
    return fields


def _plain(text: str, longest: int) -> bool:
    return 0 < len(text) <= longest and text.isprintable()


def _check_fresh(services: Services) -> None:
    if not services.revocations.fresh():
        raise StoreUnavailable("the gateway cannot check revocations at the moment; try again")
