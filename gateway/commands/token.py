"""A token for a user, signed here: the gateway need not run."""

import argparse
import secrets
import time
from collections.abc import Sequence

from gateway.core.model import Kind, Principal
from gateway.core.tokens import MAX_LIFETIME, Claims, Purpose, Seals
from gateway.settings import SettingsError, load_without_fal, secret_keys


def token(parsed: argparse.Namespace) -> int:
    """Print a token for a user, signed with the secrets of the settings."""
    settings = load_without_fal(file=parsed.config)
    if parsed.plan not in settings.plans:
        raise SettingsError(
            f"there is no plan {parsed.plan!r}: "
            "--config or GATEWAY_CONFIG names the file that has it"
        )
    if not 1 <= parsed.lifetime <= MAX_LIFETIME:
        raise SettingsError(f"--lifetime must be from 1 to {MAX_LIFETIME} seconds")
    principal = Principal(parsed.team, Kind.USER, parsed.user)
    endpoints = tuple(parsed.endpoint) if parsed.endpoint else None
    signing = secret_keys(settings, create=False)
    print(signed(signing, principal, parsed.plan, parsed.lifetime, endpoints))
    return 0


def signed(
    signing: Sequence[str],
    principal: Principal,
    plan: str,
    lifetime: int,
    endpoints: tuple[str, ...] | None,
) -> str:
    now = int(time.time())
    claims = Claims(
        purpose=Purpose.TOKEN,
        jti=secrets.token_hex(16),
        kid="cli",
        principal=principal,
        plan=plan,
        issued_at=now,
        expires_at=now + lifetime,
        endpoints=endpoints,
    )
    return Seals(signing).issue(claims)
