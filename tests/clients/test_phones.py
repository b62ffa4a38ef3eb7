"""Swift, Dart and Java clients with a key that was issued, or with a token, within a plan."""

import secrets
from typing import Any, Final

import anyio
import httpx
import pytest

from tests.clients.test_mobile import (
    DART,
    JAVA,
    JAVA_PATIENCE,
    SWIFT,
    Client,
    Headers,
    clients,
    phone,
)
from tests.harness import NO_TLS, Gateway, Running, Simulator

pytestmark = pytest.mark.anyio

ADMIN: Final = "the-admin-key-of-the-tests-0123456789"
TEAM: Final = "app"
QUEUE: Final = "https://queue.fal.run"
PLANS: Final[dict[str, dict[str, Any]]] = {
    "default": {"endpoints": []},
    "backend": {"endpoints": ["**"]},
    "ruled": {
        "endpoints": ["fal-ai/echo/**"],
        "rules": [
            {"endpoint": "**", "path": "num_images", "max": 1},
            {"endpoint": "**", "path": "loras", "forbid": True},
        ],
    },
    "paced": {"endpoints": ["**"], "limits": [{"rate": "1/h"}]},
    "daily": {"endpoints": ["**"], "limits": [{"jobs": "1/day"}]},
    "poor": {"endpoints": ["**"], "budgets": [{"usd": 0.001, "per": "day"}]},
    "queued": {"endpoints": ["**"], "limits": [{"in_flight": 1}], "queue": {"length": 5}},
}
HEADERS: Final[dict[str, Headers]] = {
    "swift": SWIFT.headers,
    "dart": DART.headers,
    "java": JAVA,
}
by = pytest.mark.parametrize("by", ["key", "token"])


@pytest.fixture(scope="module")
def relay(running: Running, slow_sim: Simulator) -> Gateway:
    plans = {**PLANS, "backend": {"endpoints": ["**"], "grants": [*PLANS]}}
    env = {"GATEWAY_ADMIN_KEY": ADMIN}
    return running.gateway(slow_sim, env=env, config={"plans": plans})


async def asked(gateway: Gateway, path: str, credential: str, **body: Any) -> Any:
    headers = {"authorization": f"Bearer {credential}"}
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers, verify=NO_TLS) as http:
        answer = await http.post(path, json=body)
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None


async def issued(gateway: Gateway, plan: str, *scopes: str) -> str:
    name = f"phone-{secrets.token_hex(4)}"
    wish = {"name": name, "team": TEAM, "plan": plan, "scopes": scopes or ["submit"]}
    key: str = (await asked(gateway, "/admin/v1/keys", ADMIN, **wish))["key"]
    return key


async def credential_of(gateway: Gateway, by: str, plan: str) -> str:
    """A key of that plan, or a token that a backend minted with the plan."""
    if by == "key":
        return await issued(gateway, plan)
    backend = await issued(gateway, "backend", "mint")
    wish = {"user": f"u{secrets.token_hex(4)}", "plan": plan, "refresh_for": 86_400}
    token: str = (await asked(gateway, "/v1/tokens", backend, **wish))["token"]
    return token


@by
@clients
async def test_every_status_can_be_read_while_a_job_waits_too(
    relay: Gateway, client: Client, by: str
) -> None:
    credential = await credential_of(relay, by, "queued")
    async with phone(relay, client.headers, credential) as sender:
        first = await sender.send("POST", f"{QUEUE}/fal-ai/echo/x", {"n": 1})
        second = await sender.send("POST", f"{QUEUE}/fal-ai/echo/x", {"n": 2})
        address = second.json()["response_url"]
        bodies = [second.json()]
        while bodies[-1]["status"] != "COMPLETED":
            await anyio.sleep(0.03)
            bodies.append((await sender.send("GET", address + client.status)).json())
        result = await sender.send("GET", address)

    assert first.status_code == 200
    told = {body["status"] for body in bodies}
    assert {"IN_QUEUE", "COMPLETED"} <= told <= {"IN_QUEUE", "IN_PROGRESS", "COMPLETED"}
    assert all(client.demands(body) for body in bodies)
    assert result.json()["echo"] == {"n": 2}


@by
@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize(
    ("plan", "input", "status", "error_type", "said"),
    [
        ("ruled", {"num_images": 2}, 422, "rule_broken", "num_images: at most 1"),
        ("ruled", {"loras": []}, 403, "input_forbidden", "loras"),
        ("poor", {}, 402, "budget_spent", "budget principal-usd-day"),
        ("paced", {}, 429, "limit_reached", "limit principal-rate is reached"),
        ("daily", {}, 429, "limit_reached", "limit principal-jobs is reached"),
        ("default", {}, 403, "endpoint_not_allowed", "does not allow the endpoint"),
    ],
)
async def test_every_refusal_of_a_plan_is_json_with_words(
    relay: Gateway, name: str, by: str, plan: str, input: dict[str, Any],
    status: int, error_type: str, said: str,
) -> None:  # fmt: skip
    credential = await credential_of(relay, by, plan)
    async with phone(relay, HEADERS[name], credential) as sender:
        if status == 429:
            good = await sender.send("POST", f"{QUEUE}/fal-ai/echo", input)
            assert good.status_code == 200
        answer = await sender.send("POST", f"{QUEUE}/fal-ai/echo", input)

    body = answer.json()
    assert (answer.status_code, body["error_type"]) == (status, error_type)
    readable(answer, said)
    assert ("retry-after" in answer.headers) is (status in {402, 429})


@pytest.mark.parametrize("name", HEADERS)
async def test_what_was_taken_back_is_told_in_json_with_words(relay: Gateway, name: str) -> None:
    credential = await credential_of(relay, "token", "queued")
    async with phone(relay, HEADERS[name], credential) as sender:
        good = await sender.send("POST", f"{QUEUE}/fal-ai/echo", {})
        await asked(relay, "/admin/v1/revocations", ADMIN, token=credential)
        answer = await sender.send("GET", f"{good.json()['response_url']}/status")

    assert (good.status_code, answer.status_code) == (200, 401)
    readable(answer, "revoked")


@pytest.mark.parametrize("name", HEADERS)
async def test_a_token_refreshes_itself_and_finds_its_job(relay: Gateway, name: str) -> None:
    """As an app does that was asleep: with the job's id, and nothing else."""
    credential = await credential_of(relay, "token", "queued")
    async with phone(relay, HEADERS[name], credential) as sender:
        submitted = await sender.send("POST", f"{QUEUE}/fal-ai/echo", {"n": 3})
    fresh = (await asked(relay, "/v1/tokens/refresh", credential))["token"]

    headers = {"authorization": f"Bearer {fresh}"}
    path = f"/v1/jobs/{submitted.json()['request_id']}"
    async with httpx.AsyncClient(base_url=relay.url, headers=headers, timeout=60) as http:
        job = (await http.get(path)).json()
        while job["status"] in {"queued", "running"}:
            job = (await http.get(path, params={"wait": 30, "after": job["version"]})).json()

    assert fresh != credential
    assert job["status"] == "completed"
    assert job["result"]["echo"] == {"n": 3}


async def test_javas_stream_tells_of_a_job_that_waits(relay: Gateway) -> None:
    credential = await credential_of(relay, "token", "queued")
    async with phone(relay, JAVA, credential) as sender:
        await sender.send("POST", f"{QUEUE}/fal-ai/echo", {})
        second = await sender.send("POST", f"{QUEUE}/fal-ai/echo", {"n": 4})
        address = second.json()["response_url"]
        with anyio.fail_after(3 * JAVA_PATIENCE):
            async with sender.stream(f"{address}/status/stream") as answer:
                lines = [line async for line in answer.aiter_lines()]
        result = await sender.send("GET", address)

    assert any('"IN_QUEUE"' in line for line in lines)
    assert '"COMPLETED"' in [line for line in lines if line.startswith("data:")][-1]
    assert result.json()["echo"] == {"n": 4}


def readable(answer: httpx.Response, said: str) -> None:
    """By Swift (`detail`), by Dart (any JSON; of a 422 this form alone), by people."""
    body = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert said in body["detail"]
    assert body["message"] == body["detail"]
    assert body["status"] == answer.status_code
    if answer.status_code == 422:
        assert body["body"] == [{"msg": body["detail"], "type": body["error_type"]}]
