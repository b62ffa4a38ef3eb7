"""Deliveries reach public receivers, and nothing else."""

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from gateway.upstream.egress import LOOKUPS, Delivered, Egress, Limits, Resolve, egress
from gateway.upstream.session import tls
from tests.upstream.conftest import (
    Behaviour,
    Request,
    Server,
    always,
    hang,
    listening,
    reply,
)

pytestmark = pytest.mark.anyio

QUICK = Limits(total=0.5, name=0.2, rest=0.1)


def answering(*answers: Sequence[str]) -> tuple[Resolve, list[str]]:
    """A resolver that gives each of `answers` once, and the names it was asked for."""
    left = list(answers)
    asked: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return left.pop(0)

    return resolve, asked


@pytest.fixture
async def local() -> AsyncGenerator[Egress]:
    async with egress(allow_loopback=True, limits=QUICK) as local:
        yield local


@pytest.fixture
async def closed() -> AsyncGenerator[Egress]:
    async with egress() as closed:
        yield closed


async def test_a_delivery_is_one_post(local: Egress, server: Server) -> None:
    url = f"{server.origin}/hook?a=b"

    assert await local.deliver(url, b'{"a": 1}', {"content-type": "x/y"}) == Delivered(200)

    [request] = server.requests
    assert request.line == "POST /hook?a=b HTTP/1.1"
    assert request.body == b'{"a": 1}'
    assert request.headers.pop("user-agent").startswith("fal-gateway/")
    assert request.headers == {
        "host": f"localhost:{server.port}",
        "accept": "*/*",
        "accept-encoding": "identity",
        "content-type": "x/y",
        "content-length": "8",
        "connection": "close",
    }


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "2130706433",
        "0177.0.0.1",
        "0",
        "0.0.0.0",
        "①②⑦.⓪.⓪.①",
        "localhost",
        "localhost.",
        "[::]",
        "[::1]",
        "[::1%25lo]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::7f00:1]",
        "169.254.169.254",
        "10.0.0.1",
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_private_places_are_not_called(
    closed: Egress, server: Server, scheme: str, host: str
) -> None:
    delivered = await closed.deliver(f"{scheme}://{host}:{server.port}/", b"{}", {})

    assert delivered.status is None
    assert delivered.why
    assert server.connections == 0


async def test_the_place_above_can_be_called(local: Egress, server: Server) -> None:
    """Else the refusals before would prove nothing."""
    assert await local.deliver(f"http://127.0.0.1:{server.port}/", b"", {}) == Delivered(200)


@pytest.mark.parametrize(
    "url",
    ["", "hook", "ftp://localhost/", "http:///x", "http://u:p@localhost/", "http://[::1/", "//x"],
)
async def test_what_is_no_url_of_a_host_is_not_called(local: Egress, url: str) -> None:
    assert (await local.deliver(url, b"", {})).why in {"not a URL", "not an http URL of a host"}


async def test_one_private_address_among_public_ones_is_enough(server: Server) -> None:
    resolve, _ = answering(["8.8.8.8", "127.0.0.1"])
    async with egress(resolve=resolve, allow_loopback=True) as out:
        delivered = await out.deliver(f"https://name.example:{server.port}/", b"", {})

    assert delivered == Delivered(None, "not a public address: loopback")
    assert server.connections == 0


async def test_plain_http_stays_on_this_machine() -> None:
    resolve, _ = answering(["8.8.8.8"])
    async with egress(resolve=resolve, allow_loopback=True) as out:
        assert await out.deliver("http://name.example/", b"", {}) == Delivered(
            None, "not an https URL"
        )


@pytest.mark.parametrize("addresses", [[], ["8.8.8.8"] * 1 + [f"8.8.4.{n}" for n in range(40)]])
async def test_no_address_and_too_many(addresses: list[str]) -> None:
    resolve, _ = answering(addresses)
    async with egress(resolve=resolve) as out:
        assert "no address" in (await out.deliver("https://name.example/", b"", {})).why


async def test_a_name_that_takes_too_long() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    async with egress(resolve=resolve, limits=QUICK) as out:
        assert "no address" in (await out.deliver("https://name.example/", b"", {})).why


@asynccontextmanager
async def slow_names(
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncGenerator[tuple[Egress, list[str]]]:
    """A way out where names that end in `.slow` find no answer, and those that were asked for."""
    asked: list[str] = []
    over = threading.Event()
    known = socket.getaddrinfo

    def getaddrinfo(host: str, *args: Any, **more: Any) -> Any:
        asked.append(host)
        if host.endswith(".slow"):
            over.wait(30)
            raise socket.gaierror("no answer")
        return known(host, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    async with egress(allow_loopback=True, limits=QUICK) as out:
        try:
            yield out, asked
        finally:
            over.set()


async def test_one_slow_name_takes_one_thread(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when those who asked have given up. The name of another is found at once."""
    async with slow_names(monkeypatch) as (out, asked):
        refused: set[str] = set()
        for _ in range(2):
            many = (out.deliver("https://name.slow/", b"", {}) for _ in range(LOOKUPS))
            refused |= {one.why for one in await asyncio.gather(*many)}
        good = await out.deliver(f"http://localhost:{server.port}/", b"", {})

    assert refused == {"the host's name has no address"}
    assert good == Delivered(200)
    assert sorted(asked) == ["localhost", "name.slow"]


async def test_many_slow_names_leave_threads_for_others(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with slow_names(monkeypatch) as (out, asked):
        slow = [f"{n}.slow" for n in range(LOOKUPS - 1)]
        await asyncio.gather(*(out.deliver(f"https://{name}/", b"", {}) for name in slow))
        good = await out.deliver(f"http://localhost:{server.port}/", b"", {})
        await asyncio.gather(
            *(out.deliver(f"https://{n}.more.slow/", b"", {}) for n in range(LOOKUPS))
        )

    assert good == Delivered(200)
    assert len(asked) == LOOKUPS + 1  # the one that found a thread, of all the rest


async def test_a_name_is_asked_for_again_after_its_answer(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is remembered: neither that a name was found, nor that it was not."""
    async with slow_names(monkeypatch) as (out, asked):
        for _ in range(2):
            assert await out.deliver(f"http://localhost:{server.port}/", b"", {}) == Delivered(200)
            refused = await out.deliver("https://name.invalid/", b"", {})
            assert "no address" in refused.why

    assert asked == ["localhost", "name.invalid"] * 2


@asynccontextmanager
async def https(authority: trustme.CA, name: str) -> AsyncGenerator[tuple[Server, list[str]]]:
    """A receiver with a certificate for `name`, and the names that it was asked for."""
    names: list[str] = []
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    context.sni_callback = lambda _sock, sni, _context: names.append(str(sni))
    async with listening(always(reply(200)), context) as server:
        yield server, names


async def test_the_name_is_resolved_once_and_still_meant(tmp_path: Path) -> None:
    """The second answer is what an attacker's name server gives to the one who connects."""
    authority = trustme.CA()
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    resolve, asked = answering(["127.0.0.1"], ["127.0.0.9"])
    async with (
        https(authority, "hook.example") as (server, names),
        egress(resolve=resolve, allow_loopback=True, context=tls(ca_file)) as out,
    ):
        url = f"https://hook.example:{server.port}/x"
        assert await out.deliver(url, b"{}", {}) == Delivered(200)

    assert asked == ["hook.example"]
    assert names == ["hook.example"]
    assert server.requests[0].headers["host"] == f"hook.example:{server.port}"


async def test_a_receiver_must_prove_its_name(tmp_path: Path) -> None:
    resolve, _ = answering(["127.0.0.1"])
    async with (
        https(trustme.CA(), "hook.example") as (server, _names),
        egress(resolve=resolve, allow_loopback=True) as out,
    ):
        delivered = await out.deliver(f"https://hook.example:{server.port}/x", b"{}", {})

    assert delivered.status is None
    assert delivered.why.startswith("no connection")
    assert server.requests == []


async def test_redirects_are_an_answer(local: Egress, server: Server) -> None:
    async with listening() as elsewhere:
        server.behave = always(reply(307, b"", location=elsewhere.origin))

        assert await local.deliver(server.origin, b"{}", {}) == Delivered(307)

    assert elsewhere.connections == 0


async def reset(request: Request) -> None:
    request.cut()


async def slow_headers(request: Request) -> None:
    for byte in reply(200):
        await request.send(bytes([byte]))
        await asyncio.sleep(0.05)


async def interim_for_ever(request: Request) -> None:
    while True:
        await request.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("behave", "why"),
    [
        (hang, "timeout"),
        (slow_headers, "timeout"),
        (interim_for_ever, "timeout"),
        (reset, "ClientOSError"),
        (always(b"220 smtp.example ESMTP\r\n\r\n"), "ClientResponseError"),
        (always(reply(200, x_large="x" * 65536)), "ClientResponseError"),
    ],
)
async def test_a_receiver_without_a_status(
    local: Egress, server: Server, behave: Behaviour, why: str
) -> None:
    server.behave = behave

    assert await local.deliver(server.origin, b"{}", {}) == Delivered(None, why)


async def endless(request: Request) -> None:
    await request.send(reply(200, b"", content_length=str(2**40)))
    while True:
        await request.send(b"x" * 2**16)


async def drip(request: Request) -> None:
    await request.send(reply(200, b"", content_length=str(2**30)))
    while True:
        await request.send(b"x")
        await asyncio.sleep(0.02)


async def cut_in_the_body(request: Request) -> None:
    await request.send(reply(200, b"", content_length="10") + b"x")
    request.cut()


@pytest.mark.parametrize("behave", [endless, drip, cut_in_the_body])
async def test_the_status_line_is_the_answer(
    local: Egress, server: Server, behave: Behaviour
) -> None:
    server.behave = behave

    async with asyncio.timeout(QUICK.total):
        assert await local.deliver(server.origin, b"{}", {}) == Delivered(200)


async def test_nobody_listens(local: Egress) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        delivered = await local.deliver(f"http://127.0.0.1:{port}/", b"{}", {})

    assert delivered.status is None
    assert delivered.why.startswith("no connection")


async def test_nothing_is_kept_between_deliveries(
    local: Egress, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    server.behave = always(reply(200, set_cookie="a=b"))

    await local.deliver(server.origin, b"", {})
    await local.deliver(server.origin, b"", {})

    assert [r.headers.get("cookie") for r in server.requests] == [None, None]
    assert server.connections == 2
