"""Calls that make no job: upload, realtime token, price. Plan -> limits -> fal -> answer."""

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from gateway.core.errors import (
    BadBody,
    LimitReached,
    PricesUnavailable,
    PriceUnknown,
    StoreUnavailable,
)
from gateway.core.limits import Away, Measure, Standing
from gateway.core.model import Caller
from gateway.core.plans import check_submit, realtime_app
from gateway.core.prices import Estimate
from gateway.core.slices import each_once
from gateway.flows.accounts import on_an_account
from gateway.flows.bill import estimate
from gateway.flows.entry import check_fresh
from gateway.flows.services import Services
from gateway.flows.uploads import metered, through_here
from gateway.upstream.answers import Refusal

_MEDIA_TYPE: Final = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(?: ?;[ -~]*)?", re.ASCII)
REALTIME_SECONDS: Final = 120
"""Lifetime of a realtime token at most: its holder talks to fal without us."""


@dataclass(frozen=True, slots=True)
class Relayed:
    """fal's answer, and how the caller stands with its limits after the call."""

    answer: bytes | Refusal
    standings: tuple[Standing, ...]


async def upload(
    services: Services, caller: Caller, multipart: bool, body: bytes, base: str
) -> Relayed:
    """Where a client may put a file: fal's JSON with `upload_url` and `file_url`.

    Where the plan bounds uploads, the file comes through the gateway, which clients reach at
    `base`.
    """
    check_submit(caller)
    check_fresh(services, caller)
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
    standings = await counted(services, caller)
    _, answer = await on_an_account(
        services,
        caller.principal.team,
        lambda account: services.accounts.of(account).initiate_upload(multipart, kind, name),
        paid=False,
    )
    if metered(caller.plan) and not isinstance(answer, Refusal):
        answer = through_here(services, caller, answer, kind, multipart=multipart, base=base)
    return Relayed(answer, standings)


async def realtime_token(services: Services, caller: Caller, body: bytes) -> Relayed:
    """A short-lived token of fal's for one allowed app; the body is built anew."""
    check_submit(caller)
    check_fresh(services, caller)
    fields = _object(body)
    apps = fields.get("allowed_apps")
    if not isinstance(apps, list) or len(apps) != 1 or not isinstance(apps[0], str):
        raise BadBody("allowed_apps must be a list of one app alias")
    wished = fields.get("token_expiration", REALTIME_SECONDS)
    if type(wished) is not int or wished < 1:
        raise BadBody("token_expiration must be a whole number of seconds")
    realtime_app(caller, apps[0])
    app, seconds = apps[0], min(wished, REALTIME_SECONDS)
    standings = await counted(services, caller)
    _, answer = await on_an_account(
        services,
        caller.principal.team,
        lambda account: services.accounts.of(account).realtime_token(app, seconds),
        paid=False,
    )
    return Relayed(answer, standings)


async def priced(services: Services, caller: Caller, endpoint: str, body: bytes) -> Estimate:
    """`bill.estimate`. Who asks for what has no price is counted too: fal is asked for each.

    Raises what both raise.
    """
    try:
        return await estimate(services, caller.plan, endpoint, body)
    except (PriceUnknown, PricesUnavailable):
        await counted(services, caller)
        raise


async def counted(services: Services, caller: Caller) -> tuple[Standing, ...]:
    """Count a call that makes no job against the rates of its plan. How it stands with them.

    Raises `LimitReached`; `StoreUnavailable` where Redis is away and a rate is not `local`.
    """
    rates = [limit for limit in caller.plan.limits if limit.measure is Measure.RATE]
    if not rates:
        return ()
    services.refusals.check(caller, {Measure.RATE})
    try:
        return await services.meters.take(caller.principal, caller.address, rates)
    except LimitReached as refused:
        services.refusals.remember(caller, refused)
        raise
    except StoreUnavailable:
        if any(rate.away is Away.CLOSED for rate in rates if not rate.shadow):
            raise
        return services.local_rates.take(caller)


def _object(body: bytes) -> dict[str, Any]:
    """A small JSON object, each name once."""
    if len(body) > 8192:
        raise BadBody("the body must be a small JSON object")
    try:
        fields = json.loads(body.decode(), object_pairs_hook=each_once)
    except (ValueError, RecursionError):
        raise BadBody("the body must be a JSON object, each name once") from None
    if not isinstance(fields, dict):
        raise BadBody("the body must be a JSON object")
    return fields


def _plain(text: str, longest: int) -> bool:
    return 0 < len(text) <= longest and text.isprintable()
