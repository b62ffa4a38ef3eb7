"""fal, as the gateway calls it. The one place that holds the fal key."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import quote
from uuid import uuid4

import httpx
import msgspec

from gateway.core import fal, sse
from gateway.core.errors import BadAnswer, KeyRefused, OutcomeUnknown, Unavailable, Upstream
from gateway.core.headers import client_headers
from gateway.core.model import Progress
from gateway.core.prices import Price
from gateway.core.redact import Redactor
from gateway.core.target import is_endpoint
from gateway.upstream import answers
from gateway.upstream.answers import PENDING, Answer, Pending, Refusal, Result, Submitted
from gateway.upstream.session import Call, Pool, Pools, by_cause, chunks, read
from gateway.upstream.verdicts import (
    expect,
    key_refused,
    readable,
    refuse_key,
    refuse_unusable,
    replayed,
    unframed,
)

MAX_ANSWER: Final = 1024 * 1024
"""Bytes of every answer but results and streams."""
MAX_UNWANTED: Final = 16 * 1024
"""Bytes of a body that are read although nobody wants them: a new connection costs more."""

_JSON: Final = "application/json"
_SSE: Final = "text/event-stream"
_SOME_APP: Final = "fal-ai/flux"
"""An app of fal's own, which everybody may use."""

_log: Final = logging.getLogger("gateway.upstream")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: of a whole `submit`, `call` or `run`, an `idle` silence, a refusal's `reason`."""

    submit: float = 60.0
    call: float = 30.0
    run: float = 3600.0
    idle: float = 60.0
    reason: float = 5.0


def _unheard(status: int) -> None:
    """Who listens to nothing."""


class Fal:
    """What fal can be asked with one key. `origins` replace fal's hosts, for the simulator.

    `refused` hears of every 401 and 403 to our key. `others` are the keys of other accounts,
    which must come back as little as this one.

    Everything raises `NotSent`, `KeyRefused`, `BadAnswer` for a redirect, and for what gets
    lost `Unavailable`, but `submit` and `run`, which then raise `OutcomeUnknown`.
    Nothing that comes back holds the key.
    """

    def __init__(
        self,
        pools: Pools,
        key: str,
        origins: Mapping[str, str],
        timeouts: Timeouts,
        refused: Callable[[int], None] = _unheard,
        others: Iterable[str] = (),
    ) -> None:
        for origin in origins.values():
            if not answers.safe_origin(origin, loopback=True):
                raise ValueError("an origin of fal's is neither https nor loopback")
        self._pools = pools
        self._authorization = f"Key {key}"
        self._origins = dict(origins)
        self._simulated = any(origin.startswith("http:") for origin in origins.values())
        self._timeouts = timeouts
        self._refused = refused
        self._redactor = Redactor(
            [half.encode() for key in (key, *others) for half in (key, key.rpartition(":")[2])],
            lambda: _log.error("fal's answer held our key; it was taken out"),
        )

    def __repr__(self) -> str:
        return "Fal()"

    def redacted(self, told: bytes) -> bytes:
        """What fal has told us elsewhere, without the key."""
        return self._redactor.whole(told)

    async def submit(
        self,
        endpoint: str,
        body: bytes,
        headers: Mapping[str, str],
        webhook: str | None,
        check: Callable[[], None] = lambda: None,
    ) -> Submitted | Refusal:
        """Queue a job, its end to be reported to `webhook`. Sent at most once.

        `check` is called once a connection is free, and raises where nothing is to be sent.
        A 4xx is fal's certain refusal, but for 408. Raises `OutcomeUnknown` for what is left open.
        """
        query = f"?{fal.WEBHOOK_QUERY}={quote(webhook, safe='')}" if webhook else ""
        call = self._call("POST", fal.QUEUE, _route(endpoint) + query, body, headers)
        call = replace(call, check=check)
        within = self._timeouts.submit
        async with self._answer(self._pools.calls, call, within, OutcomeUnknown) as response:
            status = response.status_code
            if status in (401, 403):  # no app has spoken yet
                raise key_refused(status, (await self._refusal(response)).body)
            if 400 <= status < 500 and status != 408:
                return await self._refusal(response)
            if not 200 <= status < 300:
                raise OutcomeUnknown("fal answered with an error; the job may run")
            with readable(OutcomeUnknown):
                return answers.submitted(await self._short(response, OutcomeUnknown))

    async def status(self, endpoint: str, fal_id: str) -> Progress | None:
        """Where the job stands; None when fal does not know it.

        With its logs so far, unless they are too long: then fal is asked without.
        """
        for logs in (1, 0):
            path = f"{_request(endpoint, fal_id)}/status?logs={logs}"
            call = self._call("GET", fal.QUEUE, path)
            async with self._answer(self._pools.calls, call, self._timeouts.call) as response:
                if response.status_code == 404:
                    return None
                expect(response, 200, 202)
                body = await read(response, MAX_ANSWER, Unavailable)
            if body is not None:
                with readable(Unavailable):
                    return answers.progress(self._redactor.whole(body))
        raise Unavailable("fal's answer is too large")

    @asynccontextmanager
    async def status_stream(
        self, endpoint: str, fal_id: str
    ) -> AsyncGenerator[AsyncIterator[Progress]]:
        """Where the job stands, again and again, each time with new logs only.

        Ends after what is `completed`; a stream that ends before raises `Unavailable`.
        """
        path = _request(endpoint, fal_id) + "/status/stream?logs=1"
        call = self._call("GET", fal.QUEUE, path, accept=_SSE)
        async with self._held(
            call, first=self._timeouts.call, idle=self._timeouts.idle
        ) as response:
            expect(response, 200)
            if not response.headers.get("content-type", "").lower().startswith(_SSE):
                raise Unavailable("fal's answer is no stream of events")
            async with aclosing(self._progress(response)) as progress:
                yield progress

    async def result(self, endpoint: str, fal_id: str, limit: int) -> Result | Pending | None:
        """How the job ended; PENDING while it runs; None when fal does not know it.

        A body over `limit` bytes is left at fal.
        """
        call = self._call("GET", fal.QUEUE, _request(endpoint, fal_id))
        async with self._answer(self._pools.calls, call, self._timeouts.call) as response:
            status, headers = replayed(response), self._headers(response)
            body = await read(response, limit, Unavailable)
            if body is None:
                return Result(status, headers, None)
            if answers.unfinished(status, body):
                return PENDING
            if answers.unknown(status, headers, body):
                return None
            if unframed(response) and not answers.complete(body):
                raise Unavailable("fal's answer has no end")
            return Result(status, headers, self._redactor.whole(body))

    async def result_head(self, endpoint: str, fal_id: str) -> Result | Pending | None:
        """The same without its body, which is not even sent where it is long."""
        call = self._call("GET", fal.QUEUE, _request(endpoint, fal_id))
        async with self._answer(self._pools.calls, call, self._timeouts.call) as response:
            status, headers = replayed(response), self._headers(response)
            short = int(response.headers.get("content-length", MAX_ANSWER)) <= MAX_UNWANTED
            if 200 <= status < 300 and status != 202 and not short:
                return Result(status, headers, None)
            # Of an error, the body tells whose word it is; of what is short, it frees the line.
            body = await read(response, MAX_ANSWER, Unavailable) or b""
            if answers.unfinished(status, body):
                return PENDING
            return None if answers.unknown(status, headers, body) else Result(status, headers, None)

    async def price(self, endpoint: str) -> Price | None:
        """What fal asks for one unit; None where it has no price."""
        query = f"endpoint_id={quote(endpoint, safe='')}"
        call = self._call("GET", fal.API, f"{fal.PRICES_PATH}?{query}")
        async with self._answer(self._pools.calls, call, self._timeouts.call) as response:
            if response.status_code == 404:
                return None
            if response.status_code in (401, 403):  # a key may submit and not see prices
                raise Unavailable("fal does not tell its prices to this key")
            expect(response, 200)
            with readable(Unavailable):
                return answers.price(endpoint, await self._short(response, Unavailable))

    @asynccontextmanager
    async def stream_result(self, endpoint: str, fal_id: str) -> AsyncGenerator[Answer]:
        """The same for a result that is too large to be held: passed through as it comes.

        A status other than the job's own means that fal has dropped it.
        """
        call = self._call("GET", fal.QUEUE, _request(endpoint, fal_id))
        first = idle = self._timeouts.call
        async with self._held(call, first=first, idle=idle) as response:
            status = replayed(response)
            async with aclosing(self._chunks(response)) as body:
                yield Answer(status, self._headers(response), body)

    async def usable(self) -> bool:
        """Does fal know the key? Asks for a job that does not exist, which costs nothing.

        Raises `NotSent`, `Unavailable` where that remains open.
        """
        call = self._call("GET", fal.QUEUE, f"{_request(_SOME_APP, str(uuid4()))}/status")
        async with self._answer(self._pools.calls, call, self._timeouts.call) as response:
            status = response.status_code
            if status in (408, 429) or 300 <= status < 400 or status >= 500:
                raise Unavailable("fal answered with an error")
            return status not in (401, 403)

    async def cancel(self, endpoint: str, fal_id: str) -> bool | None:
        """Whether fal will try to; False when the job had ended, None when fal does not know it."""
        call = self._call("PUT", fal.QUEUE, _request(endpoint, fal_id) + "/cancel")
        async with self._answer(self._pools.calls, call, self._timeouts.call) as response:
            if 200 <= response.status_code < 300:
                return True
            if response.status_code == 404:
                return None
            expect(response, 400)
            if not answers.too_late(await self._short(response, Unavailable)):
                raise Unavailable("fal refused to cancel, and did not say why")
            return False

    @asynccontextmanager
    async def run(
        self, endpoint: str, body: bytes, headers: Mapping[str, str], *, stream: bool
    ) -> AsyncGenerator[Answer]:
        """fal's answer to a run without queue, as it comes. Sent at most once.

        Raises `BadAnswer` for a redirect, and `OutcomeUnknown` where fal's own servers, not
        the app, say that something went wrong: fal puts a request id on what an app answered.
        """
        path = _route(endpoint) + ("/stream" if stream else "")
        call = self._call("POST", fal.RUN, path, body, headers, accept=_SSE if stream else _JSON)
        limit = self._timeouts.run
        async with self._held(call, first=limit, idle=limit, lost=OutcomeUnknown) as response:
            status = response.status_code
            refuse_unusable(response)
            refuse_key(response)
            if (status == 408 or status >= 500) and fal.REQUEST_ID not in response.headers:
                raise OutcomeUnknown("fal answered with an error; the run may have happened")
            async with aclosing(self._chunks(response)) as answer:
                yield Answer(status, self._headers(response), answer)

    async def initiate_upload(
        self, multipart: bool, content_type: str, file_name: str
    ) -> bytes | Refusal:
        """Where a file can be put, as JSON with `upload_url` and `file_url`, or fal's refusal."""
        path = fal.UPLOAD_MULTIPART_PATH if multipart else fal.UPLOAD_PATH
        body = msgspec.json.encode({"content_type": content_type, "file_name": file_name})
        call = self._call("POST", fal.REST, f"{path}?{fal.UPLOAD_QUERY}", body)
        async with self._answer(self._pools.calls, call, self._timeouts.call) as response:
            refuse_key(response)
            if 400 <= response.status_code < 500 and response.status_code != 408:
                return await self._refusal(response)
            expect(response, 200, 201)
            with readable(BadAnswer):
                answer = await self._short(response, Unavailable)
                return answers.upload(answer, loopback=self._simulated)

    async def realtime_token(self, alias: str, seconds: int) -> bytes:
        """A token for the one app `alias`, as a JSON string."""
        body = msgspec.json.encode({"allowed_apps": [alias], "token_expiration": seconds})
        call = self._call("POST", fal.REST, fal.TOKENS_PATH, body)
        async with self._answer(self._pools.calls, call, self._timeouts.call) as response:
            expect(response, 200, 201)
            with readable(BadAnswer):
                return answers.token(await self._short(response, Unavailable))

    def _call(
        self,
        method: str,
        host: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        accept: str = _JSON,
    ) -> Call:
        origin = self._origins.get(host, f"https://{host}").rstrip("/")
        own = {"authorization": self._authorization, "accept": accept, "content-type": _JSON}
        given = {name.lower(): value for name, value in (headers or {}).items()}
        return Call(method, origin + path, {**given, **own}, body)

    @asynccontextmanager
    async def _answer(
        self, pool: Pool, call: Call, within: float, lost: type[Upstream] = Unavailable
    ) -> AsyncGenerator[httpx.Response]:
        """An answer that is here, body and all, `within` so many seconds."""
        with self._heard(), by_cause(lost):
            async with (
                asyncio.timeout(within),
                pool.send(call, lost=lost, first=None, idle=None) as response,
            ):
                yield response

    @asynccontextmanager
    async def _held(
        self, call: Call, *, first: float, idle: float, lost: type[Upstream] = Unavailable
    ) -> AsyncGenerator[httpx.Response]:
        """An answer that takes its time."""
        with self._heard():
            async with self._pools.streams.send(
                call, lost=lost, first=first, idle=idle
            ) as response:
                yield response

    @contextmanager
    def _heard(self) -> Generator[None]:
        """Whoever wants to know of a refused key does."""
        try:
            yield
        except KeyRefused as error:
            _log.warning("fal refuses our key: %d", error.fal_status)
            self._refused(error.fal_status)
            raise

    async def _short(self, response: httpx.Response, lost: type[Upstream]) -> bytes:
        body = await read(response, MAX_ANSWER, lost)
        if body is None:
            raise lost("fal's answer is too large")
        return self._redactor.whole(body)

    async def _refusal(self, response: httpx.Response) -> Refusal:
        """The status line alone is certain; the reason may get lost on its way."""
        body = b""
        with suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(self._timeouts.reason):
                body = await self._short(response, Unavailable)
        return Refusal(response.status_code, self._headers(response), body)

    async def _progress(self, response: httpx.Response) -> AsyncGenerator[Progress]:
        parser = sse.Parser()
        with readable(Unavailable):
            async with aclosing(chunks(response, Unavailable)) as pieces:
                async for piece in pieces:
                    for event in parser.feed(piece):
                        progress = answers.progress(self._redactor.whole(event.encode()))
                        yield progress
                        if progress.completed:
                            return
        raise Unavailable("fal ended the stream before the job ended")

    async def _chunks(self, response: httpx.Response) -> AsyncGenerator[bytes]:
        stream = self._redactor.stream()
        async with aclosing(chunks(response, Unavailable, self._timeouts.run)) as pieces:
            async for piece in pieces:
                if clean := stream.feed(piece):
                    yield clean
        if rest := stream.flush():
            yield rest

    def _headers(self, response: httpx.Response) -> dict[str, str]:
        passed = dict(client_headers(response.headers.raw))
        request_id = response.headers.get(fal.REQUEST_ID, "")
        if answers.is_id(request_id):
            passed[fal.REQUEST_ID] = request_id
        return {
            name: self._redactor.whole(value.encode()).decode() for name, value in passed.items()
        }


def _route(endpoint: str) -> str:
    if not is_endpoint(endpoint):
        raise ValueError("not an endpoint id")
    return f"/{endpoint}"


def _request(endpoint: str, fal_id: str) -> str:
    if not answers.is_id(fal_id):
        raise ValueError("not a request id of fal's")
    return f"{_route(fal.app_of(endpoint))}/requests/{fal_id}"
