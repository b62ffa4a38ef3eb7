"""What the head of an answer of fal's means, before its body is read."""

import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import httpx

from gateway.core import fal
from gateway.core.errors import BadAnswer, KeyRefused, Unavailable, Upstream

_FROM_APP: Final = frozenset(
    {fal.REQUEST_ID, fal.ERROR_TYPE, fal.TIMEOUT_TYPE, fal.NEEDS_RETRY, fal.BILLABLE_UNITS}
)

_LOCKED: Final = re.compile(rb"\b(?:user|account|is|been)\s+locked\b(?![/-])", re.IGNORECASE)
"""fal's words are known only roughly. It may quote the endpoint as well, which a client has chosen,
and in which no blank can stand."""


def expect(response: httpx.Response, *statuses: int) -> None:
    """Nothing, for an answer of fal's own with one of `statuses`."""
    if response.status_code in statuses:
        return
    refuse_key(response)
    refuse_unusable(response)
    raise Unavailable("fal answered with an error")


def replayed(response: httpx.Response) -> int:
    """The status of a result. Raises where fal's own servers speak, not the app's answer.

    fal puts headers of its own on what an app answered; its ingress and its queue do not.
    """
    status = response.status_code
    refuse_unusable(response)
    refuse_key(response)
    if (status in (408, 429) or status >= 500) and _FROM_APP.isdisjoint(response.headers):
        raise Unavailable("fal answered with an error")
    return status


def refuse_unusable(response: httpx.Response) -> None:
    if 300 <= response.status_code < 400:
        raise BadAnswer("fal answered with a redirect")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise BadAnswer("fal's answer is encoded in a way that was not asked for")


def refuse_key(response: httpx.Response) -> None:
    """Our key is meant by a 401 or 403 that is not an app's own answer."""
    status = response.status_code
    if status in (401, 403) and fal.REQUEST_ID not in response.headers:
        raise key_refused(status)


def key_refused(status: int, told: bytes = b"") -> KeyRefused:
    """`told` is the body."""
    error = KeyRefused("the gateway's account at fal is not usable")
    error.fal_status, error.locked = status, _LOCKED.search(told) is not None
    return error


def unframed(response: httpx.Response) -> bool:
    """Whether the body ends with the connection, so that a cut looks like its end."""
    return {"content-length", "transfer-encoding"}.isdisjoint(response.headers)


@contextmanager
def readable(otherwise: type[Upstream]) -> Generator[None]:
    """A `ValueError` in here means that fal's answer is of no use."""
    try:
        yield
    except ValueError:
        # Without the cause: its text may quote the answer.
        raise otherwise("fal's answer cannot be read") from None
