"""A plan's rules through every door: what they refuse never reaches fal, the rest does shaped."""

import secrets
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import httpx
import pytest

from gateway.core import fal
from tests.harness import Gateway, Running, Simulator, token
from tests.web.wire import FORMS, Form, problem

pytestmark = pytest.mark.anyio

PLAN: Final = {
    "endpoints": ["fal-ai/**"],
    "deny": ["fal-ai/secret/**"],
    "rules": [
        {"endpoint": "fal-ai/**", "path": "num_images", "max": 4, "min": 1},
        {"endpoint": "fal-ai/**", "path": "image_size.width", "max": 1024},
        {"endpoint": "fal-ai/**", "path": "image_size", "enum": ["square"]},
        {"endpoint": "fal-ai/**", "path": "format", "enum": ["jpeg", True]},
        {"endpoint": "fal-ai/**", "path": "prompt", "max_length": 10},
        {"endpoint": "fal-ai/**", "path": "images[*].url", "hosts": ["*.example.com", "data:"]},
        {"endpoint": "fal-ai/**", "path": "debug", "forbid": True},
        {"endpoint": "fal-ai/forced/**", "path": "safety.on", "force": True},
        {"endpoint": "fal-ai/forced/**", "path": "steps", "default": 20, "max": 50},
    ],
    "client_headers": ["x-fal-queue-priority", "x-fal-no-retry"],
    "forced_headers": {"x-fal-store-io": "0", "x-fal-no-retry": "1"},
    "client_webhooks": True,
    "webhook_hosts": ["hooks.example.com"],
    "max_body": 4096,
}
FREE: Final = {"endpoints": ["fal-ai/**"]}


@pytest.fixture(scope="module")
def ruled(running: Running, sim: Simulator) -> Gateway:
    """A gateway with rules in its plan."""
    config = {
        "plans": {"default": PLAN, "free": FREE},
        "keys": [{"name": "backend", "scopes": ["submit", "mint"]}],
    }
    return running.gateway(sim, config=config)


@dataclass(frozen=True)
class Door:
    """One of the ways on which a model's input comes in."""

    name: str
    form: Form | None = None
    host: str = fal.QUEUE
    last: str = ""

    def __str__(self) -> str:
        return self.name

    async def send(
        self, http: httpx.AsyncClient, endpoint: str, body: bytes, **headers: str
    ) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named["content-type"] = "application/json"
        if self.form is None:
            whole = b'{"endpoint":"%s","input":%s}' % (endpoint.encode(), body)
            return await http.post("/v1/jobs", content=whole, headers=named)
        path = endpoint + self.last
        return await self.form.ask(http, "POST", self.host, path, content=body, headers=named)


DOORS: Final = (
    Door("v1-jobs"),
    *(Door(f"{form}-submit", form) for form in FORMS),
    *(Door(f"{form}-run", form, fal.RUN) for form in FORMS),
    *(Door(f"{form}-stream", form, fal.RUN, "/stream") for form in FORMS),
)
doors = pytest.mark.parametrize("door", DOORS, ids=str)


def own_endpoint(app: str = "fal-ai/echo") -> str:
    """One that no other test calls, so that the journal tells of this one."""
    return f"{app}/{secrets.token_hex(6)}"


def at_fal(sim: Simulator, endpoint: str) -> list[dict[str, Any]]:
    found = [call for call in sim.journal() if call["path"].startswith(f"/{endpoint}")]
    return [call for call in found if call["method"] == "POST"]


BROKEN: Final = [
    ('{"num_images":5}', 422, "num_images: at most 4"),
    ('{"num_images":0}', 422, "num_images: at least 1"),
    ('{"num_images":"4"}', 422, "num_images: must be a number"),
    ('{"num_images":true}', 422, "num_images: must be a number"),
    ('{"num_images":1e999}', 422, "num_images: at most 4"),
    ('{"num_images":[1]}', 422, "num_images: must be a number"),
    ('{"image_size":{"width":2048}}', 422, "image_size.width: at most 1024"),
    ('{"image_size":"huge"}', 422, "image_size: must be "),
    ('{"image_size":[{"width":2048}]}', 422, "image_size: must be "),
    ('{"format":"png"}', 422, 'format: must be one of "jpeg", true'),
    ('{"format":1}', 422, 'format: must be one of "jpeg", true'),
    ('{"prompt":"01234567890"}', 422, "prompt: at most 10 characters"),
    ('{"images":[{},{"url":"https://evil.example/"}]}', 422, "images[1].url: must be a plain"),
    ('{"images":[{"url":"https://a.example.com@evil.example/"}]}', 422, "images[0].url: must be"),
    ('{"images":{"url":"https://evil.example/"}}', 422, "images: must be a list"),
    ('{"debug":null}', 403, "debug: this field is not allowed"),
    ('{"num_images":1,"num_images":100}', 400, "an object in the body has the same name twice"),
    ('{"a":{"b":1,"\\u0062":2}}', 400, "an object in the body has the same name twice"),
]
CODES: Final = {422: "rule_broken", 403: "input_forbidden", 400: "bad_body"}


@doors
async def test_what_breaks_a_rule_never_reaches_fal(
    door: Door, ruled: Gateway, sim: Simulator
) -> None:
    endpoint = own_endpoint()
    async with ruled.http() as http:
        for broken, status, detail in BROKEN:
            answer = await door.send(http, endpoint, broken.encode())
            told = problem(answer, status, CODES[status])
            assert told["detail"].startswith(detail), broken
            assert "request_id" not in told
        assert at_fal(sim, endpoint) == []

        body = b'{ "num_images": 4, "images": [{"url": "data:x"}], "image_size": "square" }'
        answer = await door.send(http, endpoint, body)

    assert answer.is_success, answer.text
    [call] = at_fal(sim, endpoint)
    assert (call["length"], call["sha256"]) == (len(body), sha256(body).hexdigest())


@doors
async def test_forced_and_default_values_reach_fal(
    door: Door, ruled: Gateway, sim: Simulator
) -> None:
    sent = b'{"prompt":"\xc3\xa9","safety":{"on":false,"x":1},"steps":null}'
    meant = '{"prompt":"\u00e9","safety":{"on":true,"x":1},"steps":20}'.encode()
    endpoint = own_endpoint("fal-ai/forced")
    async with ruled.http() as http:
        answer = await door.send(http, endpoint, sent)
        refused = await door.send(http, endpoint, b'{"steps":51}')

    assert answer.is_success, answer.text
    problem(refused, 422, "rule_broken")
    [call] = at_fal(sim, endpoint)
    assert call["sha256"] == sha256(meant).hexdigest()


@pytest.mark.parametrize("door", DOORS[1:], ids=str)
async def test_no_input_is_an_empty_one(door: Door, ruled: Gateway, sim: Simulator) -> None:
    endpoint = own_endpoint("fal-ai/forced")
    async with ruled.http() as http:
        answer = await door.send(http, endpoint, b"")

    assert answer.is_success, answer.text
    [call] = at_fal(sim, endpoint)
    assert call["sha256"] == sha256(b'{"safety":{"on":true},"steps":20}').hexdigest()


@doors
async def test_a_denied_endpoint_is_not_called(door: Door, ruled: Gateway, sim: Simulator) -> None:
    name = secrets.token_hex(6)
    async with ruled.http() as http:
        for app in ("fal-ai/secret", "fal-ai/SECRET", "fal-ai/Secret"):
            answer = await door.send(http, f"{app}/{name}", b"{}")
            problem(answer, 403, "endpoint_not_allowed")
        answer = await door.send(http, f"fal-ai/secrets/{name}", b"{}")

    assert answer.is_success, answer.text
    called = [call for call in sim.journal() if f"/{name}" in call["path"]]
    assert [call for call in called if "/secret/" in call["path"].lower()] == []
    assert len(at_fal(sim, f"fal-ai/secrets/{name}")) == 1


@doors
async def test_headers_are_the_plans(door: Door, ruled: Gateway, sim: Simulator) -> None:
    endpoint = own_endpoint()
    async with ruled.http() as http:
        answer = await door.send(
            http, endpoint, b"{}",
            x_fal_queue_priority="low", x_fal_request_timeout="5", x_fal_store_io="1",
            x_fal_no_retry="nonsense", x_fal_target_urls="x", connection="x-fal-store-io",
        )  # fmt: skip
        wrong = await door.send(http, endpoint, b"{}", x_fal_queue_priority="high")

    assert answer.is_success, answer.text
    problem(wrong, 400, "bad_body")
    [call] = at_fal(sim, endpoint)
    assert call["fal_headers"] == {
        "x-fal-queue-priority": "low", "x-fal-store-io": "0", "x-fal-no-retry": "1",
    }  # fmt: skip


@doors
async def test_the_order_of_checks(door: Door, ruled: Gateway) -> None:
    """403 endpoint, 413, 400 body, then rules."""
    async with ruled.http() as http:
        denied = await door.send(http, "fal-ai/secret", b'{"num_images":5}')
        large = await door.send(http, "fal-ai/echo", b'{"num_images":5,"x":"%s"}' % (b"y" * 5000))
        broken = await door.send(http, "fal-ai/echo", b'{"num_images":5')

    problem(denied, 403, "endpoint_not_allowed")
    problem(large, 413, "body_too_large")
    problem(broken, 400, "bad_body")


@doors
async def test_rules_are_of_the_plan_and_not_of_the_gateway(
    door: Door, ruled: Gateway, sim: Simulator
) -> None:
    endpoint, body = own_endpoint(), b'{"num_images":5,"debug":1,"debug":2}'
    free = {"authorization": f"Bearer {token(plan='free')}"}
    async with ruled.http(user=None) as http:
        http.headers.update(free)
        answer = await door.send(http, endpoint, body)

    assert answer.is_success, answer.text
    [call] = at_fal(sim, endpoint)
    assert call["sha256"] == sha256(body).hexdigest()


WEBHOOKS: Final = [
    ("https://hooks.example.com/x", True),
    ("https://HOOKS.example.com/x", True),
    ("https://evil.example/", False),
    ("https://a.hooks.example.com/", False),
    ("https://hooks.example.com.evil.example/", False),
]


@pytest.mark.parametrize(("url", "allowed"), WEBHOOKS)
async def test_webhooks_lead_to_the_plans_hosts_alone(
    url: str, allowed: bool, ruled: Gateway, sim: Simulator
) -> None:
    endpoint = own_endpoint()
    query = str(httpx.QueryParams({"fal_webhook": url}))
    async with ruled.http() as http:
        job = {"endpoint": endpoint, "input": {}, "webhook_url": url}
        answers = [
            await http.post("/v1/jobs", json=job),
            *[
                await form.ask(http, "POST", fal.QUEUE, f"{endpoint}?{query}", json={})
                for form in FORMS
            ],
        ]

    for answer in answers:
        if allowed:
            assert answer.is_success, answer.text
        else:
            problem(answer, 403, "webhook_not_allowed")
    assert len(at_fal(sim, endpoint)) == (3 if allowed else 0)


async def test_a_job_of_an_app_that_is_denied_by_now_stays_its_owners(ruled: Gateway) -> None:
    """Only the app is looked at: what the plan denies locks nobody out of a job."""
    async with ruled.http() as http:
        taken = await FORMS[1].ask(http, "POST", fal.QUEUE, "fal-ai/echo/open", json={"n": 1})
        job_id = taken.json()["request_id"]
        place = f"fal-ai/secret/requests/{job_id}"
        answer = await FORMS[1].ask(http, "GET", fal.QUEUE, f"{place}/status")

    assert answer.status_code in (200, 202), answer.text


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (
            {"rules": [{"endpoint": "x/y", "path": "n", "max": 1}]},
            "plans.p.rules[0].endpoint: matches",
        ),
        ({"grants": ["nobody"]}, "plans.p.grants[0]: must be the name of a plan"),
    ],
)
async def test_a_gateway_with_a_mistake_in_a_plan_does_not_start(
    plan: dict[str, Any], expected: str, running: Running, sim: Simulator
) -> None:
    gateway = running.gateway(sim, config={"plans": {"p": plan}}, start=False)
    gateway.process.start()
    assert gateway.process.popen is not None

    assert gateway.process.popen.wait(20) != 0
    assert expected in gateway.process.text()
    assert "Traceback" not in gateway.process.text()
