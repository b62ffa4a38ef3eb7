"""`/_sim/`: what tests of the gateway look at and pull on."""

from hashlib import sha256
from pathlib import Path

import pytest

from tests.sim.conftest import KEY, Fal, simulator

pytestmark = pytest.mark.anyio


async def test_journal_holds_every_call_but_no_secret(fal: Fal) -> None:
    body = b'{"prompt": "a dog"}'
    url = "/queue.fal.run/fal-ai/flux?fal_webhook=https%3A%2F%2Fgw.example%2Fw"
    await fal.http.post(url, content=body, headers={"x-fal-queue-priority": "low"})
    await fal.http.get("/fal.run/..%2fx", headers={"authorization": "Key wrong", "cookie": "a=b"})
    raw = (await fal.http.get("/_sim/journal")).text
    first, second = await fal.sim("journal")

    assert (first["method"], first["host"]) == ("POST", "queue.fal.run")
    assert (first["path"], first["query"]) == ("/fal-ai/flux", url.partition("?")[2])
    assert first["fal_headers"] == {"x-fal-queue-priority": "low"}
    assert "content-length" in first["headers"]
    assert (first["length"], first["sha256"]) == (len(body), sha256(body).hexdigest())
    assert (first["authorized"], first["cookie"], first["status"]) == (True, False, 200)
    assert second["path"] == "/..%2fx"
    assert (second["authorized"], second["cookie"], second["status"]) == (False, True, 405)
    assert KEY not in raw
    assert "secret-one" not in raw
    assert "wrong" not in raw


async def test_journal_tells_missing_keys_from_bad_ones(fal: Fal) -> None:
    del (client := fal.http).headers["authorization"]
    try:
        await client.post("/queue.fal.run/fal-ai/flux")
    finally:
        client.headers["authorization"] = f"Key {KEY}"
    await client.post("/queue.fal.run/fal-ai/flux")

    assert [entry["authorized"] for entry in await fal.sim("journal")] == [None, True]


async def test_keys_of_one_account_see_its_jobs(tmp_path: Path) -> None:
    """An account is the public half of a key; the table does not give away more."""
    async with simulator(tmp_path, keys=frozenset({"one:a", "one:b"})) as fal:
        headers = [{"authorization": f"Key one:{half}"} for half in ("a", "b")]
        reply = await fal.http.post("/queue.fal.run/a/b", headers=headers[0])
        job = str(reply.json()["response_url"]).removeprefix("https:/")

        assert (await fal.http.get(f"{job}/status", headers=headers[1])).status_code == 202
        assert (await fal.http.get(f"{job}/status")).status_code == 401
        assert "one" not in (await fal.sim("jobs"))[0]["account"]


async def test_held_jobs_end_on_demand(fal: Fal) -> None:
    jobs = [await fal.job(f"sim/fault/{name}") for name in ("hold", "hold-queued", "hold")]
    ids = [job.rsplit("/", 1)[1] for job in jobs]

    good = await fal.http.post(f"/_sim/end/{ids[0]}", content=b'{"seed": 17454220438242315174}')
    bad = await fal.http.post(f"/_sim/end/{ids[1]}?status=422", json={"detail": "no"})
    empty = await fal.http.post(f"/_sim/end/{ids[2]}")

    assert [good.status_code, bad.status_code, empty.status_code] == [200, 200, 200]
    assert (await fal.result(jobs[0])).content == b'{"seed": 17454220438242315174}'
    assert (await fal.result(jobs[1])).status_code == 422
    assert (await fal.result(jobs[2])).status_code == 200
    assert (await fal.http.post(f"/_sim/end/{ids[0]}", json={})).status_code == 409
    assert (await fal.http.post("/_sim/end/unknown", json={})).status_code == 404
    assert (await fal.http.post(f"/_sim/end/{ids[1]}", content=b"{")).status_code == 400


async def test_jobs(fal: Fal) -> None:
    job = await fal.job("fal-ai/flux")
    await fal.ended(job)

    (facts,) = await fal.sim("jobs")
    assert facts["request_id"] == job.rsplit("/", 1)[1]
    assert (facts["endpoint"], facts["status"]) == ("fal-ai/flux", "COMPLETED")
    assert (facts["http_status"], facts["tries"]) == (200, [])
    assert facts["created_at"] < facts["started_at"] < facts["ended_at"]


async def test_slots_come_back_after_a_reset(fal: Fal) -> None:
    for _ in range(2):
        await fal.running(await fal.job("sim/fault/hold"))
    await fal.http.post("/_sim/reset")

    assert await fal.sim("jobs") == []
    assert await fal.sim("journal") == []
    assert (await fal.result(await fal.job("fal-ai/flux"))).status_code == 200


async def test_errors_are_json_as_fal_writes_them(fal: Fal) -> None:
    for path, status in (("/nowhere", 404), ("/rest.fal.ai/nothing", 404), ("/_sim/reset", 405)):
        reply = await fal.http.get(path)
        assert (reply.status_code, list(reply.json())) == (status, ["detail"])
