"""Several accounts: each with its own name in webhooks, its own slots, its own lock."""

from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import httpx
import pytest

from gateway.core import fal as names
from gateway.sim.access import account_id
from tests.sim.conftest import KEY, OTHER_KEY, Fal, Receiver, eventually, simulator

pytestmark = pytest.mark.anyio

UPLOAD = {"content_type": "image/png", "file_name": "a.png"}


@pytest.fixture
async def two(tmp_path: Path) -> AsyncGenerator[Fal]:
    async with simulator(
        tmp_path, users={OTHER_KEY: "user-two"}, slots={OTHER_KEY: 1}, user_id="user-one"
    ) as fal:
        yield fal


def other(fal: Fal) -> httpx.AsyncClient:
    headers = {"authorization": f"Key {OTHER_KEY}"}
    return httpx.AsyncClient(base_url=fal.origin, headers=headers, timeout=10)


async def test_each_signs_as_itself(two: Fal, receivers: Callable[[], Receiver]) -> None:
    heard = {}
    async with other(two) as second:
        for name, http in (("one", two.http), ("two", second)):
            receiver = receivers()
            await http.post(
                "/queue.fal.run/sim/fault/fast", json={}, params={"fal_webhook": receiver.url}
            )
            (hook,) = await receiver.hooks(1)
            heard[name] = hook.headers[names.WEBHOOK_USER_ID]

    assert heard == {"one": "user-one", "two": "user-two"}
    assert {job["account"] for job in await two.sim("jobs")} == {
        account_id(KEY), account_id(OTHER_KEY)
    }  # fmt: skip


async def test_each_has_its_own_slots(two: Fal) -> None:
    async with other(two) as second:
        for http in (two.http, second):
            for _ in range(3):
                await http.post("/queue.fal.run/sim/fault/hold", json={})

        async def full() -> bool:
            found = await two.sim("accounts")
            return {one["user_id"]: one["running"] for one in found} == {
                "user-one": 2, "user-two": 1
            }  # fmt: skip

        await eventually(full)


@pytest.mark.parametrize(
    ("query", "submit", "read"),
    [
        ({}, 403, 202),
        ({"status": "403", "everywhere": "1"}, 403, 403),
        ({"status": "401"}, 401, 401),
    ],
)
async def test_a_locked_account(two: Fal, query: dict[str, str], submit: int, read: int) -> None:
    """What costs money is refused, and where it is said all else. Other accounts go on."""
    job = await two.job("sim/fault/hold")
    account = account_id(KEY)

    locked = await two.http.post(f"/_sim/lock/{account}", params=query)

    assert locked.json()["locked"] == submit
    assert (await two.submit("a/b")).status_code == submit
    assert (await two.http.post("/fal.run/a/b", json={})).status_code == submit
    assert (await two.status(job)).status_code == read
    upload = await two.http.post("/rest.fal.ai/storage/upload/initiate", json=UPLOAD)
    assert upload.status_code == (200 if read == 202 else read)
    async with other(two) as second:
        assert (await second.post("/queue.fal.run/a/b", json={})).status_code == 200
    assert (await two.http.post(f"/_sim/unlock/{account}")).json()["locked"] is None
    assert (await two.submit("a/b")).status_code == 200


async def test_locks_are_opened_by_a_reset(two: Fal) -> None:
    await two.http.post(f"/_sim/lock/{account_id(KEY)}")
    assert (await two.http.post("/_sim/lock/any", params={"status": "500"})).status_code == 400
    assert (await two.submit("a/b")).status_code == 403

    await two.http.post("/_sim/reset")

    assert (await two.submit("a/b")).status_code == 200
