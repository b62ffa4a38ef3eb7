"""Credentials in exchange for others."""

from gateway.core.errors import EndpointNotAllowed, JobNotFound, LimitReached
from gateway.web import credentials
from gateway.web.operation import Answer, Operation, Path
from gateway.web.paths.common import ACT_FOR, SEEN, WRITTEN
from gateway.web.shapes import NoBody, Pass, Session, Token, WantedPass, WantedToken

_COOKIE = {"set-cookie": "The session, HttpOnly and SameSite=Strict"}


def paths() -> list[Path]:
    return [
        Path("/v1/tokens", {"POST": _token()}),
        Path("/v1/tokens/refresh", {"POST": _refresh()}),
        Path("/v1/session", {"POST": _sign_in(), "DELETE": _sign_out()}),
        Path("/v1/stream-passes", {"POST": _pass()}),
    ]


def _token() -> Operation:
    return Operation(
        credentials.token,
        "A token for a browser or a phone; needs a key with the scope mint",
        {201: Answer("The token", Token)},
        refuses=(*SEEN, *WRITTEN, EndpointNotAllowed),
        parameters=(ACT_FOR,),
        body=WantedToken,
        body_needed=False,
    )


def _refresh() -> Operation:
    return Operation(
        credentials.refresh,
        "A token that was minted with refresh_for, in exchange for a fresh one",
        {201: Answer("The same token, but for its time", Token)},
        refuses=(*SEEN, *WRITTEN),
        body=NoBody,
        body_needed=False,
    )


def _sign_in() -> Operation:
    return Operation(
        credentials.sign_in,
        "The credential in the header, as a cookie for pages of our own origin",
        {201: Answer("The cookie is set", Session, headers=_COOKIE)},
        refuses=(*SEEN, LimitReached),
        parameters=(ACT_FOR,),
    )


def _sign_out() -> Operation:
    return Operation(
        credentials.sign_out,
        "The cookie goes, and is good for nothing any more",
        {204: Answer("Signed out", headers=_COOKIE)},
        refuses=SEEN,
        parameters=(ACT_FOR,),
    )


def _pass() -> Operation:
    return Operation(
        credentials.passes,
        "A read-only credential for event streams, which may stand in a URL",
        {201: Answer("The stream pass", Pass)},
        refuses=(*SEEN, *WRITTEN, JobNotFound),
        parameters=(ACT_FOR,),
        body=WantedPass,
        body_needed=False,
    )
