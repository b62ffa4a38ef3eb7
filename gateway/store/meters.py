"""What is counted without a job: rates of other calls, bytes of uploads."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from gateway.core import gcra
from gateway.core.errors import BodyTooLarge
from gateway.core.limits import Limit, Measure, Standing
from gateway.core.meters import METER_LIVES
from gateway.core.model import Principal
from gateway.core.quota import reached
from gateway.store import keys
from gateway.store.connect import call, script

PARTS_LIVE: Final = 7200
"""Seconds that the sizes of a file's parts outlive the last: longer than its ticket."""

_TOO_LARGE: Final = -1


class Meters:
    def __init__(self, redis: Redis) -> None:
        self._meter = script(redis, "meter", "gcra")
        self._upload = script(redis, "upload")

    async def take(
        self, principal: Principal, address: str | None, limits: Sequence[Limit]
    ) -> tuple[Standing, ...]:
        """Count one call against all rates among `limits`, in one step. How it stands with them.

        Raises `LimitReached`, and has counted nothing then; `StoreUnavailable`.
        """
        rates = [
            limit
            for limit in limits
            if limit.measure is Measure.RATE
            and keys.subject(limit.of, principal, address) is not None
        ]
        if not rates:
            return ()
        shard = keys.shard_of_team(principal.team)
        subjects = [principal.digest, keys.team_digest(principal.team)]
        if address is not None:
            subjects.append(keys.address_digest(address))
        which, *told = await call(
            self._meter, [keys.meter(shard, subject) for subject in subjects],
            _rates(rates), METER_LIVES,
        )  # fmt: skip
        if which:
            raise reached(rates[which - 1], told[0] / gcra.SECOND)
        pairs = zip(rates, told[::2], told[1::2], strict=True)
        return tuple(Standing(rate, left, us / gcra.SECOND) for rate, left, us in pairs)

    async def reserve(
        self,
        principal: Principal,
        limits: Sequence[Limit],
        size: int,
        day: str,
        midnight: float,
        part: tuple[str, int, int | None] | None = None,
    ) -> tuple[Standing, ...]:
        """Count `size` bytes against the uploads of `day`, all limits or none.

        The day ends in `midnight` seconds. `part` is a file's digest, the number of its part, and
        how many bytes all parts may have. Raises `LimitReached`, `BodyTooLarge`,
        `StoreUnavailable`.
        """
        uploads = [limit for limit in limits if limit.measure is Measure.UPLOADS]
        told = await self._count(principal, uploads, size, day, part)
        if told[0] == _TOO_LARGE:
            raise BodyTooLarge("the parts of the file are larger than the plan allows")
        if told[0]:
            raise reached(uploads[told[0] - 1], midnight)
        return tuple(
            Standing(limit, left, midnight) for limit, left in zip(uploads, told[1:], strict=True)
        )

    async def give_back(self, principal: Principal, size: int, day: str) -> None:
        """Of what was reserved for `day`, `size` bytes were not sent. Raises `StoreUnavailable`."""
        await self._count(principal, [], -size, day, None)

    async def _count(
        self,
        principal: Principal,
        uploads: Sequence[Limit],
        size: int,
        day: str,
        part: tuple[str, int, int | None] | None,
    ) -> Any:
        shard = keys.shard_of_team(principal.team)
        digest, number, most = ("none", "", None) if part is None else part
        return await call(
            self._upload,
            [
                keys.meter(shard, principal.digest),
                keys.meter(shard, keys.team_digest(principal.team)),
                keys.parts(shard, digest),
            ],
            size, f"u:{day}", METER_LIVES, amounts(uploads), number,
            "" if most is None else most, PARTS_LIVE,
        )  # fmt: skip


def amounts(limits: Sequence[Limit]) -> bytes:
    """Limits as scripts read them."""
    return msgspec.json.encode(
        [
            {"of": limit.of, "name": limit.name, "amount": limit.amount, "shadow": limit.shadow}
            for limit in limits
        ]
    )


def _rates(limits: Sequence[Limit]) -> bytes:
    paces = [(limit, gcra.pace(limit)) for limit in limits]
    return msgspec.json.encode(
        [
            {
                "of": limit.of,
                "name": limit.name,
                "field": gcra.field(limit),
                "interval": pace.interval,
                "burst": pace.burst,
                "shadow": limit.shadow,
            }
            for limit, pace in paces
        ]
    )
