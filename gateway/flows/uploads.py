"""ticket -> the day's bytes -> fal's storage: a file that comes through the gateway."""

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from gateway.core import periods
from gateway.core.errors import (
    BadBody,
    BodyTooLarge,
    LimitReached,
    NotFound,
    StoreUnavailable,
    Unauthenticated,
)
from gateway.core.limits import Away, Limit, Measure, Period
from gateway.core.model import Caller, Plan
from gateway.core.uploads import MAX_PARTS, UPLOAD_LIFETIME, UploadTicket, digest_of
from gateway.flows.authenticate import taken_back
from gateway.flows.services import Services
from gateway.upstream.cdn import Stored

UPLOADS_PATH: Final = "/v1/uploads/"
BLOCK: Final = 1024 * 1024
"""Bytes that are reserved at once for a file whose size nobody has told."""

_ETAG: Final = re.compile(r"[!-~]{1,256}")


def metered(plan: Plan) -> bool:
    """Do files of the plan come through the gateway?"""
    limited = any(limit.measure is Measure.UPLOADS for limit in plan.limits)
    return limited or plan.max_upload is not None


def through_here(
    services: Services,
    caller: Caller,
    answer: bytes,
    content_type: str,
    *,
    multipart: bool,
    base: str,
) -> bytes:
    """fal's answer to an upload, with an address of ours in place of its own."""
    told: dict[str, Any] = json.loads(answer)
    ticket = UploadTicket(
        url=told["upload_url"],
        principal=caller.principal,
        plan=caller.plan.name,
        content_type=content_type,
        multipart=multipart,
        max_bytes=caller.plan.max_upload,
        expires_at=_end(services, caller),
        revocable=caller.revocable,
        issued_at=caller.issued_at,
    )
    text = services.upload_seals.issue(ticket)
    return msgspec.json.encode({**told, "upload_url": f"{base}{UPLOADS_PATH}{text}"})


@dataclass(frozen=True, slots=True)
class Admitted:
    """A ticket that is good now. `digest` stands for it in Redis."""

    ticket: UploadTicket
    caller: Caller
    digest: str = field(repr=False)


def admitted(services: Services, text: str) -> Admitted:
    """Whose file this is. Raises `Unauthenticated`."""
    ticket = services.upload_seals.read(text, services.clock())
    plan = services.directory.get(ticket.plan)
    if plan is None:
        raise _ended()
    keys = (name.removeprefix("key:") for name in ticket.revocable if name.startswith("key:"))
    caller = Caller(
        principal=ticket.principal,
        plan=plan,
        scopes=frozenset(),
        kid=next(keys, ""),
        revocable=ticket.revocable,
        issued_at=ticket.issued_at,
        expires_at=ticket.expires_at,
    )
    if taken_back(services, caller):
        raise _ended()
    return Admitted(ticket, caller, digest_of(text))


async def send(
    services: Services,
    upload: Admitted,
    part: int | None,
    length: int | None,
    chunks: AsyncIterator[bytes],
) -> Stored:
    """Put the file, or its `part`, at fal as it comes. `length` is what its sender announces.

    Raises `BodyTooLarge` or `LimitReached` before a byte is taken, where that is known.
    """
    ticket = upload.ticket
    if ticket.multipart != (part is not None) or (part is not None and not 1 <= part <= MAX_PARTS):
        raise NotFound("the file has no such part")
    if part is not None and length is None:
        raise BadBody("a part of a file needs Content-Length")
    if ticket.max_bytes is not None and length is not None and length > ticket.max_bytes:
        raise _too_large(ticket.max_bytes)
    account = _Account(services, upload, part)
    if length is not None:
        await account.reserve(length)
    url = ticket.url if part is None else _below(ticket.url, str(part))
    try:
        async with aclosing(_counted(account, chunks)) as counted:
            return await services.cdn.put(url, ticket.content_type, length, counted)
    finally:
        await services.runs.to_end(account.settle())


async def complete(services: Services, upload: Admitted, body: bytes) -> Stored:
    """Say to fal that all parts are there. Raises `BadBody`."""
    if not upload.ticket.multipart:
        raise NotFound("the file has no parts")
    url = _below(upload.ticket.url, "complete")
    return await services.cdn.complete(url, _parts(body))


class _Account:
    """What one request has reserved of the day's bytes, and how much of it was sent."""

    def __init__(self, services: Services, upload: Admitted, part: int | None) -> None:
        self._services = services
        self._upload = upload
        self._part = part
        self._now = services.clock()
        self._reserved = 0
        self._sent = 0
        self._local = False

    async def reserve(self, size: int) -> None:
        """Raises `LimitReached`, `BodyTooLarge`, `StoreUnavailable`."""
        caller, part = self._upload.caller, None
        if self._part is not None:
            part = (self._upload.digest, self._part, self._upload.ticket.max_bytes)
        midnight = periods.ends_at(Period.DAY, self._now)
        if self._needs_store():
            try:
                await self._services.meters.reserve(
                    caller.principal, caller.plan.limits, size, periods.day(self._now),
                    midnight - self._services.clock(), part,
                )  # fmt: skip
            except StoreUnavailable:
                if not self._may_count_here():
                    raise
                self._count_here(size, midnight)
        self._reserved += size

    async def take(self, size: int) -> None:
        """Before so many bytes more are sent."""
        limit = self._upload.ticket.max_bytes
        if limit is not None and self._sent + size > limit:
            raise _too_large(limit)
        missing = self._sent + size - self._reserved
        if missing > 0:
            try:
                await self.reserve(max(missing, BLOCK))
            except LimitReached:
                await self.reserve(missing)
        self._sent += size

    async def settle(self) -> None:
        """Give back what was reserved and not sent."""
        rest = self._reserved - self._sent
        if rest <= 0 or not self._needs_store():
            return
        principal, day = self._upload.caller.principal, periods.day(self._now)
        if self._local:
            self._services.local_bytes.give_back(self._upload.caller, rest, day)
            return
        with suppress(StoreUnavailable):
            await self._services.meters.give_back(principal, rest, day)

    def _limits(self) -> list[Limit]:
        limits = self._upload.caller.plan.limits
        return [limit for limit in limits if limit.measure is Measure.UPLOADS]

    def _needs_store(self) -> bool:
        return bool(self._limits()) or self._part is not None

    def _may_count_here(self) -> bool:
        """How large a file of parts gets, only Redis knows."""
        hard = [limit for limit in self._limits() if not limit.shadow]
        parts = self._part is not None and self._upload.ticket.max_bytes is not None
        return not parts and all(limit.away is Away.LOCAL for limit in hard)

    def _count_here(self, size: int, midnight: float) -> None:
        day, left = periods.day(self._now), midnight - self._services.clock()
        self._services.local_bytes.reserve(self._upload.caller, size, day, left)
        self._local = True


async def _counted(account: _Account, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    async for chunk in chunks:
        await account.take(len(chunk))
        yield chunk


class _Part(msgspec.Struct, frozen=True, rename="camel"):
    part_number: int
    etag: str


class _Parts(msgspec.Struct, frozen=True):
    parts: list[_Part]


def _parts(body: bytes) -> bytes:
    """The list of parts, built anew."""
    try:
        told = msgspec.json.decode(body, type=_Parts)
    except (msgspec.DecodeError, RecursionError, ValueError):
        raise BadBody('the body must be {"parts": [{"partNumber", "etag"}]}') from None
    good = all(
        1 <= part.part_number <= MAX_PARTS and _ETAG.fullmatch(part.etag) for part in told.parts
    )
    if not good or not 1 <= len(told.parts) <= MAX_PARTS:
        raise BadBody(f"parts must be 1 to {MAX_PARTS}, each with its number and etag")
    return msgspec.json.encode(told)


def _below(url: str, segment: str) -> str:
    """As fal's clients write it: behind the path, before the query."""
    path, mark, query = url.partition("?")
    return f"{path}/{segment}{mark}{query}"


def _end(services: Services, caller: Caller) -> int:
    """A ticket does not outlive the credential that it was made with."""
    end = int(services.clock()) + UPLOAD_LIFETIME
    return end if caller.expires_at is None else min(end, int(caller.expires_at))


def _ended() -> Unauthenticated:
    return Unauthenticated("the upload address is not valid any more")


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the plan allows files of at most {limit} bytes")
