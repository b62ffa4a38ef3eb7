"""The JWTs of the app's own users, verified with keys that their issuers publish."""

import asyncio
import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final

from gateway.core.errors import KeysUnavailable, NotSent, Unauthenticated, Unavailable
from gateway.core.jwts import (
    Bearer,
    Issuer,
    IssuerKey,
    Unverified,
    bearer,
    issuer_of,
    parse_key_set,
    parse_pem,
    unverified,
)
from gateway.upstream.session import Call, Pools, by_cause, read

MAX_AGE: Final = 24 * 3600.0
"""Seconds that keys are kept while their issuer is away."""
FRESH: Final = 600.0
"""Seconds after which we look again, and keep what we have if the issuer is away."""
PAUSE: Final = 60.0
"""Seconds between two looks, however many unknown keys are named."""
EAGER: Final = 5.0
"""The same while no keys are known."""
MAX_SET: Final = 128 * 1024
TIMEOUT: Final = 5.0
REMEMBERED: Final = 10_000
"""Verified JWTs, a process."""

_log: Final = logging.getLogger("gateway.upstream")


class IssuerKeys:
    """One issuer's keys, fetched when asked for. `now` is Unix seconds."""

    def __init__(self, pools: Pools, issuer: Issuer) -> None:
        self._pool = pools.calls
        self._issuer = issuer
        self._one = asyncio.Lock()
        self._keys: tuple[IssuerKey, ...] = ()
        self._read_at = self._tried_at = -math.inf
        if issuer.public_key is not None:
            self._keys = (parse_pem(issuer.public_key, issuer.algorithms),)
            self._read_at = math.inf

    async def named(self, kid: str | None, now: float) -> Sequence[IssuerKey]:
        """The keys that `kid` can mean; an empty answer, if the issuer has others.

        Raises `KeysUnavailable` when none of its keys is known at all. Whoever names a key that
        is known does not wait for an issuer who is slow.
        """
        found = self._fitting(kid, now)
        stale = now - self._read_at > FRESH
        if not found or (stale and not self._one.locked()):
            await self._look(now)
            found = self._fitting(kid, now)
        if not found and not self._kept(now):
            raise KeysUnavailable(f"the keys of the issuer {self._issuer.name} are not known")
        return found

    def _kept(self, now: float) -> tuple[IssuerKey, ...]:
        return self._keys if now - self._read_at <= MAX_AGE else ()

    def _fitting(self, kid: str | None, now: float) -> Sequence[IssuerKey]:
        """A key without a name may be meant by any, where none has that very name."""
        kept = self._kept(now)
        if kid is None:
            return kept
        return [key for key in kept if key.kid == kid] or [key for key in kept if key.kid is None]

    async def _look(self, now: float) -> None:
        if self._issuer.jwks_url is None:
            return
        async with self._one:
            if now - self._tried_at < (PAUSE if self._keys else EAGER):
                return
            self._tried_at = now
            try:
                fetched = await self._fetched(self._issuer.jwks_url)
                self._keys = parse_key_set(fetched, self._issuer.algorithms)
            except (NotSent, Unavailable, ValueError) as error:
                _log.warning("keys of the issuer %s: %s", self._issuer.name, _why(error))
            else:
                self._read_at = now

    async def _fetched(self, url: str) -> bytes:
        call = Call("GET", url, {"accept": "application/jwk-set+json, application/json"})
        with by_cause(Unavailable):
            async with (
                asyncio.timeout(TIMEOUT),
                self._pool.send(call, lost=Unavailable, first=None, idle=None) as response,
            ):
                if response.status_code != 200:
                    raise Unavailable(f"it answered with {response.status_code}")
                body = await read(response, MAX_SET, Unavailable)
        if body is None:
            raise Unavailable("it answered with too much")
        return body


class Issuers:
    """Whoever may sign for our users, and what was verified of late.

    That is believed for as long as keys are: of a key that its issuer has withdrawn, no JWT is
    good for much longer. At most `max` JWTs are remembered, by the SHA-256 of their text; the one
    not used for longest is forgotten. Revocation is looked up elsewhere, on every use.
    """

    def __init__(self, pools: Pools, issuers: Sequence[Issuer], *, max: int = REMEMBERED) -> None:
        self._issuers = issuers
        self._keys = {id(issuer): IssuerKeys(pools, issuer) for issuer in issuers}
        self._max = max
        self._known: OrderedDict[bytes, tuple[Bearer, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    async def bearer(self, text: str, clock: Callable[[], float]) -> Bearer:
        """Whom a JWT stands for. Raises `Unauthenticated`, `KeysUnavailable`."""
        place = sha256(text.encode(errors="surrogatepass")).digest()
        known, until = self._known.pop(place, (None, 0.0))
        if known is None or clock() >= until:
            known = await self._verified(unverified(text), clock)
            until = min(known.expires_at, clock() + FRESH)
        self._known[place] = known, until
        if len(self._known) > self._max:
            self._known.popitem(last=False)
        return known

    async def _verified(self, jwt: Unverified, clock: Callable[[], float]) -> Bearer:
        issuer = issuer_of(jwt, self._issuers)
        keys = await self._keys[id(issuer)].named(jwt.kid, clock())
        if not keys:
            raise Unauthenticated("the credential is not valid")
        return bearer(jwt, issuer, keys, clock())


def _why(error: Exception) -> str:
    """The session speaks of fal, which has no part in this."""
    return "out of reach" if isinstance(error, NotSent) else str(error)
