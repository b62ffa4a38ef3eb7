"""The CDN: browsers upload here by themselves, and anybody may read."""

from typing import Annotated, Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route

from gateway.sim.objects import MAX_OBJECT, MAX_PARTS, Stored, TooLarge, Unknown
from gateway.sim.rest_routes import read
from gateway.sim.state import State

Number = Annotated[int, msgspec.Meta(ge=1, le=MAX_PARTS)]


class Part(msgspec.Struct, frozen=True, rename="camel"):
    part_number: Number
    etag: str


class Complete(msgspec.Struct, frozen=True):
    parts: Annotated[list[Part], msgspec.Meta(min_length=1, max_length=MAX_PARTS)]


async def upload(request: Request[State]) -> Response:
    await write(request, await reserved(request))
    return Response()


async def upload_part(request: Request[State]) -> Response:
    number = request.path_params["number"]
    if not 1 <= number <= MAX_PARTS:
        raise HTTPException(400, "No such part number")
    etag = await write(request, await reserved(request), number)
    return JSONResponse({"partNumber": number, "etag": etag}, headers={"etag": etag})


async def complete(request: Request[State]) -> Response:
    stored = await reserved(request)
    asked = await read(request, Complete)
    try:
        await request.state["sim"].objects.join(stored, [part.part_number for part in asked.parts])
    except Unknown:
        raise HTTPException(400, "A part is missing") from None
    except TooLarge:
        raise HTTPException(413, "Too large") from None
    return JSONResponse({})


async def download(request: Request[State]) -> Response:
    try:
        stored = await request.state["sim"].objects.find(request.path_params["id"])
    except Unknown:
        raise HTTPException(404, "Not found") from None
    if not stored.path.is_file():
        raise HTTPException(404, "Not found")
    # Anybody may have stored anything: a browser shall not run it as ours.
    headers = {"content-security-policy": "sandbox", "x-content-type-options": "nosniff"}
    return FileResponse(stored.path, headers=headers, media_type=stored.content_type)


async def reserved(request: Request[State]) -> Stored:
    """The object that an upload address stands for; 403 without its signature."""
    signature = request.query_params.get("signature", "")
    try:
        return await request.state["sim"].objects.find(request.path_params["id"], signature)
    except Unknown:
        raise HTTPException(403, "Not a valid upload address") from None


async def write(request: Request[State], stored: Stored, part: int = 0) -> str:
    try:
        return await request.state["sim"].objects.write(stored, request.stream(), part)
    except TooLarge:
        raise HTTPException(413, "Too large") from None


_OPEN: Final = Middleware(
    CORSMiddleware,
    allow_origins=["*"],
    allow_methods=["GET", "HEAD", "PUT", "POST"],
    allow_headers=["*"],
    expose_headers=["etag", "content-length"],
)

mount: Final = Mount(
    "/cdn",
    routes=[
        Route("/files/{id}/{name}", download, methods=["GET"]),
        Route("/upload/{id}/{name}", upload, methods=["PUT"], max_body_size=MAX_OBJECT),
        Route("/upload/{id}/{name}/complete", complete, methods=["POST"]),
        Route(
            "/upload/{id}/{name}/{number:int}",
            upload_part,
            methods=["PUT"],
            max_body_size=MAX_OBJECT,
        ),
    ],
    middleware=[_OPEN],
)
