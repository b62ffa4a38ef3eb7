"""rest.fal.ai and api.fal.ai: uploads are started here, tokens made, signing keys published."""

import time
from base64 import urlsafe_b64encode
from secrets import token_urlsafe
from typing import Annotated, Final, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.core import fal
from gateway.sim.prices import Price
from gateway.sim.state import State, account_of

T = TypeVar("T")
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Lifetime = Annotated[int, msgspec.Meta(ge=1, le=86_400)]


class Upload(msgspec.Struct, frozen=True):
    content_type: Name
    file_name: Name


class Token(msgspec.Struct, frozen=True):
    allowed_apps: list[str]
    token_expiration: Lifetime = 120


class RealtimeToken(msgspec.Struct, frozen=True):
    allowed_apps: list[str]
    duration: Lifetime = 120


async def initiate(request: Request[State]) -> Response:
    """Where to upload a file, and where it is afterwards. Single and multipart alike."""
    account_of(request)
    upload = await read(request, Upload)
    objects = request.state["sim"].objects
    stored = await objects.reserve(upload.file_name, upload.content_type)
    urls = {"upload_url": objects.upload_url(stored), "file_url": objects.file_url(stored)}
    return JSONResponse(urls)


async def token(request: Request[State]) -> Response:
    account_of(request)
    asked = await read(request, Token)
    return JSONResponse(jwt(asked.allowed_apps, asked.token_expiration))


async def realtime_token(request: Request[State]) -> Response:
    account_of(request)
    asked = await read(request, RealtimeToken)
    return JSONResponse({"token": jwt(asked.allowed_apps, asked.duration)})


def jwt(apps: list[str], lifetime: int) -> str:
    """Something in the form of a JWT. Its signature is a random one: nobody here checks it."""
    claims = {"apps": apps, "exp": int(time.time()) + lifetime}
    parts = [msgspec.json.encode(part) for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    head, body = (urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
    return f"{head}.{body}.{token_urlsafe(32)}"


async def jwks(request: Request[State]) -> Response:
    return JSONResponse(request.state["sim"].keys.jwks())


async def meta(request: Request[State]) -> Response:
    return JSONResponse({"webhook_ip_ranges": ["127.0.0.1/32"]})


async def pricing(request: Request[State]) -> Response:
    """Prices of the endpoints that the query names; 404 where one of them has none."""
    account_of(request)
    prices = request.state["sim"].prices
    if prices.away:
        raise HTTPException(503, "Service unavailable")
    asked = request.query_params.getlist("endpoint_id")
    if not 1 <= len(asked) <= 50:
        raise HTTPException(422, "1 to 50 endpoint_id")
    found = {endpoint: prices.of(endpoint) for endpoint in asked}
    if missing := [endpoint for endpoint, price in found.items() if price is None]:
        message = f"No price for {missing[0]}"
        return JSONResponse({"error": {"type": "not_found", "message": message}}, 404)
    rows = [_PRICE % _written(endpoint, price) for endpoint, price in found.items() if price]
    body = b'{"prices":[' + b",".join(rows) + b'],"next_cursor":null,"has_more":false}'
    return Response(body, media_type="application/json")


_PRICE: Final = b'{"endpoint_id":%s,"unit_price":%s,"unit":%s,"currency":%s}'


def _written(endpoint: str, price: Price) -> tuple[bytes, ...]:
    """The price itself stands as it was given: a float would not be the same."""
    written = msgspec.json.encode
    return (
        written(endpoint), price.unit_price.encode(), written(price.unit), written(price.currency)
    )  # fmt: skip


async def read(request: Request[State], kind: type[T]) -> T:
    """The body as `kind`; 422 if it is not."""
    try:
        return msgspec.json.decode(await request.body(), type=kind)
    except msgspec.DecodeError as error:
        raise HTTPException(422, str(error)) from None


routes: Final = [
    Route(fal.UPLOAD_PATH, initiate, methods=["POST"]),
    Route(fal.UPLOAD_MULTIPART_PATH, initiate, methods=["POST"]),
    Route(fal.TOKENS_PATH, token, methods=["POST"]),
    Route(f"{fal.TOKENS_PATH}realtime", realtime_token, methods=["POST"]),
    Route(fal.JWKS_PATH, jwks, methods=["GET"]),
]
api_routes: Final = [
    Route("/v1/meta", meta, methods=["GET"]),
    Route(fal.PRICES_PATH, pricing, methods=["GET"]),
]
