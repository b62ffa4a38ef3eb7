"""How bodies are read and counted, from whatever their senders do."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from gateway.core.errors import BadBody, BodyTooLarge, Overloaded
from gateway.core.model import Kind, Principal
from gateway.web.bodies import Bodies

pytestmark = pytest.mark.anyio

ALICE, BOB, CAROL, DAVE, EVE = (
    Principal("default", Kind.USER, name) for name in ("alice", "bob", "carol", "dave", "eve")
)


def sending(chunks: Iterable[bytes], *, declared: int | None = None, pause: float = 0) -> Request:
    """A request whose body comes in these chunks, with a pause before each, and then not on."""
    coming = iter(chunks)

    async def receive() -> Message:
        await asyncio.sleep(pause)
        chunk = next(coming, None)
        if chunk is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": chunk, "more_body": chunk != b""}

    size = [] if declared is None else [(b"content-length", str(declared).encode())]
    return Request({"type": "http", "headers": size}, receive)


async def held(bodies: Bodies, principal: Principal, size: int, stack: AsyncExitStack) -> bytes:
    request = sending([b"x" * size, b""])
    return await stack.enter_async_context(bodies.read(request, principal, 100))


@pytest.fixture
async def stack() -> AsyncGenerator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def test_all_principals_together_have_so_much_room(stack: AsyncExitStack) -> None:
    bodies = Bodies(40, 10)
    for principal in (ALICE, BOB, CAROL):
        assert await held(bodies, principal, 10, stack) == b"x" * 10
    with pytest.raises(Overloaded) as error:
        await held(bodies, DAVE, 11, stack)
    await held(bodies, DAVE, 10, stack)
    with pytest.raises(Overloaded):
        await held(bodies, EVE, 1, stack)
    await stack.aclose()

    assert error.value.retry_after
    assert await held(bodies, EVE, 10, stack)


async def test_one_has_a_quarter_of_it_or_room_for_one_body(stack: AsyncExitStack) -> None:
    roomy, narrow = Bodies(40, 5), Bodies(40, 20)
    await held(roomy, ALICE, 10, stack)
    await held(narrow, ALICE, 20, stack)
    for bodies in (roomy, narrow):
        with pytest.raises(Overloaded):
            await held(bodies, ALICE, 1, stack)
        with pytest.raises(Overloaded), bodies.holding(ALICE, b"x"):
            pass
        await held(bodies, BOB, 10, stack)


async def test_what_is_announced_counts_only_against_what_has_come(stack: AsyncExitStack) -> None:
    bodies = Bodies(40, 40)
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(held_up(bodies, sending([], declared=40))) for _ in range(8)]
        await asyncio.sleep(0)
        await held(bodies, ALICE, 30, stack)
        with pytest.raises(Overloaded):
            async with bodies.read(sending([], declared=11), BOB, 40):
                pass
        for task in waiting:
            task.cancel()

    assert await held(bodies, BOB, 10, stack)


async def held_up(bodies: Bodies, request: Request) -> None:
    async with bodies.read(request, EVE, 40):
        pass


@pytest.mark.parametrize(
    ("chunks", "error"),
    [
        ([b"x" * 60, b"x" * 41], BodyTooLarge),
        ([b"x" * 60], BadBody),
        ([], BadBody),
    ],
    ids=["too large", "stops", "never comes"],
)
async def test_a_body_that_breaks_gives_its_room_back(
    chunks: list[bytes], error: type[Exception], stack: AsyncExitStack
) -> None:
    bodies = Bodies(100, 100, pause=0.05)
    with pytest.raises(error):
        async with bodies.read(sending(chunks), ALICE, 100):
            pass

    assert await held(bodies, BOB, 100, stack)


async def test_a_body_may_come_slowly_as_long_as_it_comes(stack: AsyncExitStack) -> None:
    bodies = Bodies(100, 100, pause=0.2)
    request = sending([b"a", b"b", b"c", b"d", b"e", b""], pause=0.06)

    assert await stack.enter_async_context(bodies.read(request, ALICE, 100)) == b"abcde"


async def test_a_client_that_goes_gives_its_room_back(stack: AsyncExitStack) -> None:
    told = iter([{"type": "http.request", "body": b"x" * 9, "more_body": True}])

    async def receive() -> Message:
        return next(told, {"type": "http.disconnect"})

    bodies = Bodies(10, 10)
    with pytest.raises(ClientDisconnect):
        async with bodies.read(Request({"type": "http", "headers": []}, receive), ALICE, 10):
            pass

    assert await held(bodies, BOB, 10, stack)
