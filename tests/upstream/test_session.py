"""Which failures mean that fal got nothing, and what else must hold for every call."""

import asyncio
import datetime
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from gateway.core.errors import NotSent, OutcomeUnknown, Unauthenticated, Unavailable
from gateway.core.model import Progress, State
from gateway.upstream.answers import Refusal, Submitted
from gateway.upstream.fal import Fal, Timeouts
from gateway.upstream.session import PIECE, Pools, pools, tls
from tests.upstream.conftest import (
    FAL_ID,
    Behaviour,
    Request,
    Server,
    always,
    client,
    hang,
    listening,
    reply,
)

pytestmark = pytest.mark.anyio

ENDPOINT = "fal-ai/flux/dev"
QUEUED = f'{{"status": "IN_QUEUE", "request_id": "{FAL_ID}", "queue_position": 2}}'.encode()
TAKEN = Submitted(FAL_ID, Progress(State.QUEUED, position=2))


async def reset(request: Request) -> None:
    request.cut()


async def close(request: Request) -> None:
    request.writer.close()


def cut_after(answer: bytes) -> Behaviour:
    async def behave(request: Request) -> None:
        await request.send(answer)
        request.cut()

    return behave


async def too_large_a_header(request: Request) -> None:
    await request.send(reply(200, QUEUED, x_large="x" * 65536))


async def bad_chunks(request: Request) -> None:
    await request.send(b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{"a"\r\nzz\r\n')


AFTER_SENDING = pytest.mark.parametrize(
    "behave",
    [
        pytest.param(reset, id="reset after the whole body was read"),
        pytest.param(close, id="closed after the whole body was read"),
        pytest.param(cut_after(b"HTTP/1.1 200 O"), id="cut in the headers"),
        pytest.param(cut_after(reply(200, QUEUED)[:-5]), id="cut in the body"),
        pytest.param(always(b"SSH-2.0-OpenSSH_9\r\n\r\n"), id="not HTTP"),
        pytest.param(too_large_a_header, id="64 KiB header"),
        pytest.param(bad_chunks, id="broken chunks"),
        pytest.param(hang, id="silence"),
    ],
)


@AFTER_SENDING
async def test_a_submit_lost_after_sending_has_an_unknown_outcome(
    out: Pools, server: Server, behave: Behaviour
) -> None:
    upstream = client(out, server.origin, timeouts=Timeouts(submit=0.5))
    server.behave = behave

    with pytest.raises(OutcomeUnknown):
        await upstream.submit(ENDPOINT, b"{}", {}, None)

    assert len(server.requests) == 1
    server.behave = always(reply(200, QUEUED))
    assert await upstream.submit(ENDPOINT, b"{}", {}, None) == TAKEN


@AFTER_SENDING
async def test_a_read_lost_after_sending_is_unavailable(
    out: Pools, server: Server, behave: Behaviour
) -> None:
    upstream = client(out, server.origin, timeouts=Timeouts(call=0.5))
    server.behave = behave

    with pytest.raises(Unavailable):
        await upstream.status(ENDPOINT, FAL_ID)


@pytest.mark.parametrize("name", ["localhost", "nowhere.invalid"])
async def test_what_cannot_be_connected_is_not_sent(out: Pools, name: str) -> None:
    async with listening() as gone:
        port = gone.port
    upstream = client(out, f"https://{name}:{port}")

    with pytest.raises(NotSent):
        await upstream.submit(ENDPOINT, b"{}", {}, None)
    with pytest.raises(NotSent):
        await upstream.status(ENDPOINT, FAL_ID)


async def test_a_handshake_that_hangs_is_not_sent(server: Server) -> None:
    """A plain server waits for a request line that never comes."""
    async with pools(connect=0.2) as out:
        upstream = client(out, server.origin.replace("http:", "https:"))

        with pytest.raises(NotSent):
            await upstream.submit(ENDPOINT, b"{}", {}, None)

    assert server.requests == []


async def test_what_is_not_to_be_sent_any_more_is_noticed_after_the_wait(server: Server) -> None:
    """Nothing of it is sent, and its connection is free for the next."""
    taken_back = asyncio.Event()

    def check() -> None:
        if taken_back.is_set():
            raise Unauthenticated

    async def answer_once_taken_back(request: Request) -> None:
        await taken_back.wait()
        await request.send(reply(200, QUEUED))

    server.behave = answer_once_taken_back
    async with pools(max_calls=1, wait=5.0) as out:
        upstream = client(out, server.origin)
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(upstream.submit(ENDPOINT, b"{}", {}, None, check))
            waiting = tasks.create_task(_refused(upstream, check))
            await server.got(1)
            taken_back.set()

        assert first.result() == TAKEN
        assert waiting.result()
        assert await upstream.submit(ENDPOINT, b"{}", {}, None) == TAKEN
    assert len(server.requests) == 2


async def _refused(upstream: Fal, check: Callable[[], None]) -> bool:
    try:
        await upstream.submit(ENDPOINT, b"{}", {}, None, check)
    except Unauthenticated:
        return True
    return False


async def test_a_wait_for_a_free_connection_ends_and_is_not_sent(server: Server) -> None:
    server.behave = hang
    async with pools(max_calls=1, wait=0.1) as out, asyncio.TaskGroup() as tasks:
        upstream = client(out, server.origin)
        held = tasks.create_task(upstream.status(ENDPOINT, FAL_ID))
        await server.got(1)

        with pytest.raises(NotSent):
            await upstream.submit(ENDPOINT, b"{}", {}, None)

        assert len(server.requests) == 1
        held.cancel()
        await asyncio.wait([held])
        server.behave = always(reply(200, QUEUED))
        assert await upstream.submit(ENDPOINT, b"{}", {}, None) == TAKEN


async def test_the_pool_survives_cancelled_calls(server: Server) -> None:
    async with pools(max_calls=3, wait=0.5) as out:
        upstream = client(out, server.origin)
        for _ in range(20):
            server.behave = hang
            async with asyncio.TaskGroup() as tasks:
                calls = [tasks.create_task(upstream.status(ENDPOINT, FAL_ID)) for _ in range(5)]
                before = len(server.requests)
                await server.got(before + 3)
                for call in calls:
                    call.cancel()
        server.behave = always(reply(200, QUEUED))

        for _ in range(5):
            assert await upstream.status(ENDPOINT, FAL_ID) is not None


async def close_on_the_second(request: Request) -> None:
    """Read a second request of a connection in full, and close: a server at its idle limit."""
    if request.nth:
        request.writer.close()
    else:
        await request.send(reply(200, QUEUED))


async def test_a_post_is_never_sent_twice(out: Pools, server: Server) -> None:
    upstream = client(out, server.origin)
    server.behave = close_on_the_second
    await upstream.submit(ENDPOINT, b"{}", {}, None)

    with pytest.raises(OutcomeUnknown):
        await upstream.submit(ENDPOINT, b"{}", {}, None)

    assert [request.nth for request in server.requests] == [0, 1]
    await upstream.submit(ENDPOINT, b"{}", {}, None)
    # A read may be, and is: else the assertion above would prove nothing about aiohttp.
    assert await upstream.status(ENDPOINT, FAL_ID) is not None
    assert [request.nth for request in server.requests] == [0, 1, 0, 1, 0]


async def test_cookies_are_not_kept(out: Pools, server: Server) -> None:
    upstream = client(out, server.origin)
    server.behave = always(reply(200, QUEUED, set_cookie="session=of-one-caller; Path=/"))

    await upstream.submit(ENDPOINT, b"{}", {}, None)
    await upstream.submit(ENDPOINT, b"{}", {}, None)

    assert [r.headers.get("cookie") for r in server.requests] == [None, None]


async def test_proxies_of_the_environment_are_ignored(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening() as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.origin)
            monkeypatch.setenv(name.lower(), proxy.origin)
        monkeypatch.delenv("NO_PROXY", raising=False)
        server.behave = always(reply(200, QUEUED))
        async with pools() as out:
            await client(out, server.origin).submit(ENDPOINT, b"{}", {}, None)

    assert proxy.connections == 0
    assert server.connections == 1


async def test_what_fal_is_sent(out: Pools, server: Server) -> None:
    """Exactly these headers: no cookie, no second credential, no encoding but the plain one."""
    server.behave = always(reply(200, QUEUED))

    await client(out, server.origin).submit(
        ENDPOINT, b'{"a":1}', {"X-Fal-Queue-Priority": "low", "Authorization": "Key evil"}, None
    )

    [request] = server.requests
    assert request.line == "POST /queue.fal.run/fal-ai/flux/dev HTTP/1.1"
    assert request.raw.lower().count(b"authorization:") == 1
    assert request.headers.pop("user-agent").startswith("fal-gateway/")
    assert request.headers == {
        "host": f"localhost:{server.port}",
        "authorization": "Key fk_canary_7f3a:9b1c0d5e2b4d6f80",
        "accept": "application/json",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "content-length": "7",
        "x-fal-queue-priority": "low",
    }


@pytest.mark.parametrize("size", [0, PIECE, PIECE + 1, 5 * 2**20])
async def test_a_body_arrives_whole(out: Pools, server: Server, size: int) -> None:
    server.behave = always(reply(200, QUEUED))
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)

    await client(out, server.origin).submit(ENDPOINT, body, {}, None)

    assert server.requests[0].body == body
    assert "transfer-encoding" not in server.requests[0].headers


async def test_headers_that_fal_allows_are_read(out: Pools, server: Server) -> None:
    server.behave = always(reply(422, b"{}", x_large="x" * 16384, retry_after="3"))

    refusal = await client(out, server.origin).submit(ENDPOINT, b"{}", {}, None)

    assert isinstance(refusal, Refusal)
    assert refusal.headers["retry-after"] == "3"


@asynccontextmanager
async def https(
    authority: trustme.CA, *names: str, until: datetime.datetime | None = None
) -> AsyncGenerator[Server]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names, not_after=until).configure_cert(context)
    async with listening(always(reply(200, QUEUED)), context) as server:
        yield server


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


async def test_a_certificate_must_be_good(authority: trustme.CA, ca_file: Path) -> None:
    """No request line, and so no key, goes to whoever cannot prove to be fal."""
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    async with (
        pools(context=tls(ca_file)) as out,
        https(trustme.CA(), "localhost") as stranger,
        https(authority, "fal.example") as misnamed,
        https(authority, "localhost", until=past) as expired,
        https(authority, "localhost") as good,
    ):
        for bad in (stranger, misnamed, expired):
            with pytest.raises(NotSent):
                await client(out, bad.origin).submit(ENDPOINT, b"{}", {}, None)
            assert bad.requests == []

        assert await client(out, good.origin).submit(ENDPOINT, b"{}", {}, None) == TAKEN


async def test_a_handshake_that_is_cut_is_not_sent() -> None:
    async def abort(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with pools() as out, await asyncio.start_server(abort, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        with pytest.raises(NotSent):
            await client(out, f"https://localhost:{port}").submit(ENDPOINT, b"{}", {}, None)


def test_the_environment_has_no_say_in_tls(
    tmp_path: Path, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = len(tls().get_ca_certs())
    log = tmp_path / "keys.log"
    monkeypatch.setenv("SSLKEYLOGFILE", str(log))
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))

    context = tls()

    assert context.keylog_filename is None
    assert not log.exists()
    assert len(context.get_ca_certs()) == known
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert len(tls(ca_file).get_ca_certs()) == known + 1
