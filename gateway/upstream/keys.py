"""The keys that fal signs its webhooks with."""

import asyncio
import logging
import math
from collections.abc import Mapping
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.core import fal
from gateway.core.errors import KeysUnavailable, NotSent, Unavailable
from gateway.core.webhooks import parse_jwks
from gateway.upstream.session import Call, Pools, by_cause, read

MAX_AGE: Final = 24 * 3600.0
"""Seconds that fal allows a key set to be kept."""
FRESH: Final = 3600.0
"""Seconds after which we look again, and keep what we have if fal is away."""
PAUSE: Final = 60.0
"""Seconds between two looks, however many webhooks ask for one."""
EAGER: Final = 5.0
"""The same while no keys are known, and webhooks wait."""
MAX_SET: Final = 64 * 1024

_TIMEOUT: Final = 10.0
_log: Final = logging.getLogger("gateway.upstream")


class FalKeys:
    """fal's key set, fetched when asked for. `now` is Unix seconds, or any clock that goes on."""

    def __init__(self, pools: Pools, origins: Mapping[str, str]) -> None:
        self._pool = pools.calls
        origin = origins.get(fal.REST, f"https://{fal.REST}").rstrip("/")
        self._call = Call("GET", origin + fal.JWKS_PATH, {"accept": "application/json"})
        self._one = asyncio.Lock()
        self._keys: tuple[Ed25519PublicKey, ...] = ()
        self._read_at = -math.inf
        self._tried_at = -math.inf

    async def current(self, now: float) -> tuple[Ed25519PublicKey, ...]:
        """Every key that fal publishes. Raises `KeysUnavailable` when none is known."""
        if now - self._read_at > FRESH:
            await self._look(now)
        return self._known(now)

    async def refetched(self, now: float) -> tuple[Ed25519PublicKey, ...]:
        """The same after a new look, but for one that was less than a minute ago."""
        await self._look(now)
        return self._known(now)

    def _known(self, now: float) -> tuple[Ed25519PublicKey, ...]:
        if not self._keys or now - self._read_at > MAX_AGE:
            raise KeysUnavailable("fal's public keys are not known")
        return self._keys

    async def _look(self, now: float) -> None:
        async with self._one:
            if now - self._tried_at < (PAUSE if self._keys else EAGER):
                return
            self._tried_at = now
            try:
                self._keys = parse_jwks(await self._fetched())
            except (NotSent, Unavailable, ValueError) as error:
                _log.warning("fal's public keys: %s", error)
            else:
                self._read_at = now

    async def _fetched(self) -> bytes:
        with by_cause(Unavailable):
            async with (
                asyncio.timeout(_TIMEOUT),
                self._pool.send(self._call, lost=Unavailable, first=None, idle=None) as response,
            ):
                if response.status_code != 200:
                    raise Unavailable(f"answered with {response.status_code}")
                body = await read(response, MAX_SET, Unavailable)
        if body is None:
            raise Unavailable("answered with too much")
        return body
