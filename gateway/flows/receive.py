"""webhook -> ticket -> signature -> ledger -> 2xx."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from gateway.core import webhooks
from gateway.core.ends import end_of
from gateway.core.envelopes import Envelope, parse_envelope
from gateway.core.errors import BadBody, BadSignature
from gateway.core.meters import nothing_asked
from gateway.core.model import End, JobRef
from gateway.core.webhooks import SignedHeaders
from gateway.flows.ending import write_end
from gateway.flows.services import Services
from gateway.store.ledger import Ended, Opening

HEALS_FOR: Final = 86_400.0
"""Seconds for which a job that the ledger has lost is made anew from its ticket."""

_log = logging.getLogger("gateway.webhooks")


@dataclass(frozen=True, slots=True)
class Announced:
    """A webhook whose ticket is ours. Its body is not read yet."""

    ref: JobRef
    signed: SignedHeaders


def announced(services: Services, ticket: str, headers: Iterable[tuple[bytes, bytes]]) -> Announced:
    """What a webhook says it is about: nobody without a ticket of ours may send us a body.

    Raises `BadSignature`.
    """
    signed = webhooks.read_headers(headers)
    return Announced(services.seals.read_ticket(ticket, services.clock()).ref, signed)


async def receive(services: Services, announced: Announced, body: bytes) -> None:
    """Take fal's word that a job has ended. It is in Redis when this returns.

    Raises `BadSignature` for what is not fal's word about this job; `KeysUnavailable`,
    `StoreUnavailable` where fal must ask again.
    """
    now = services.clock()
    ref, signed = announced.ref, announced.signed
    await _check_signature(services, signed, body, now)
    webhooks.check_age(signed, now)
    await _check_account(services, signed, ref)
    envelope = _envelope(services, body)
    webhooks.check_ids(signed, envelope)

    end = end_of(envelope, services.rules.results_max)
    what = await write_end(services, ref, end, "webhook", fal_id=envelope.request_id)
    if what is Ended.MISSING:
        what = await _heal(services, ref, end, envelope.request_id, signed.user_id, now)
    if what is Ended.BEFORE:
        await _compare(services, ref, end)
    if what is Ended.OTHER:
        raise BadSignature("the webhook is about another job")


async def _check_signature(
    services: Services, signed: SignedHeaders, body: bytes, now: float
) -> None:
    """Against the keys at hand and, where none fits, against fal's newest."""
    try:
        webhooks.check_signature(signed, body, await services.fal_keys.current(now))
    except BadSignature:
        webhooks.check_signature(signed, body, await services.fal_keys.refetched(now))


async def _check_account(services: Services, signed: SignedHeaders, ref: JobRef) -> None:
    """It is of the account that has the job; of any of ours while it is not known which has it.

    A job whose account is not configured any more is believed: its ticket is ours all the same.
    """
    accounts = services.accounts
    if accounts.user_ids is not None and signed.user_id not in accounts.user_ids:
        job = await services.ledger.read(ref.id)
        if job is None or not job.account or accounts.account(job.account) is not None:
            raise BadSignature("signed for another account")
    elif len(accounts.all) > 1:
        job = await services.ledger.read(ref.id)
        has_it = None if job is None or job.fal_id is None else accounts.account(job.account)
        if has_it is not None:
            webhooks.check_account(signed, has_it.user_id)


def _envelope(services: Services, body: bytes) -> Envelope:
    """fal's word without our key, which an app may have been shown. Raises `BadBody`.

    Where the rest is no JSON any more, only the end itself is believed: its result is fetched.
    """
    clean = services.accounts.redacted(body)
    try:
        return parse_envelope(clean)
    except BadBody:
        if clean == body:
            raise
    bare = replace(parse_envelope(body), payload=None, error=None)
    return replace(bare, payload_error="the payload held a secret")


async def _compare(services: Services, ref: JobRef, end: End) -> None:
    """fal repeats its webhooks; one that tells another end than before is worth a look."""
    job = await services.ledger.read(ref.id)
    if job is not None and job.state.ended and job.state is not end.state:
        facts = {"job": ref.id, "known": job.state, "told": end.state}
        _log.error("fal tells another end than before: not written", extra=facts)


async def _heal(
    services: Services, ref: JobRef, end: End, fal_id: str, user_id: str, now: float
) -> Ended:
    """Make a job anew that Redis has lost: its ticket says whose it is. Older ones stay lost."""
    if now - ref.created_at > HEALS_FOR:
        _log.info("webhook for a job that is no longer kept", extra={"job": ref.id})
        return Ended.MISSING
    _log.warning("job made anew from its ticket", extra={"job": ref.id})
    opening = Opening(ask_after=0.0, pull=False, account=services.accounts.signer(user_id))
    await services.ledger.open(ref, opening, nothing_asked(now))
    return await write_end(services, ref, end, "webhook", fal_id=fal_id)
