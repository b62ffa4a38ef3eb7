"""Members of a team with `fal_client`: a key that was issued to them, and a plan with limits."""

from collections.abc import Mapping
from typing import Any, Final

import httpx
import pytest

from tests.clients.conftest import UNHURRIED
from tests.clients.fal_python import Python, certified, over_tls
from tests.harness import Files, Running

pytestmark = pytest.mark.anyio

ADMIN: Final = "the-admin-key-of-the-tests-0123456789"
ENDPOINT: Final = "fal-ai/echo"
EVERYTHING: Final[dict[str, Any]] = {"endpoints": ["**"]}
PLANS: Final[dict[str, dict[str, Any]]] = {
    "paced": {"limits": [{"rate": "1/s"}]},
    "seated": {"limits": [{"in_flight": 1}]},
    "queued": {"limits": [{"in_flight": 1}], "queue": {"length": 5}},
    "daily": {"limits": [{"jobs": "1/day"}]},
    "poor": {"budgets": [{"usd": 0.001, "per": "day"}]},
    "ruled": {"rules": [{"endpoint": "**", "path": "num_images", "max": 4}]},
}
HURRIED: Final = 3
"""Attempts of the client at what stays refused, in place of ten in most of a minute."""


@pytest.fixture(scope="module")
def python(running: Running, files: Files) -> Python:
    """In front of a gateway over TLS, which webhooks reach: the simulator trusts it."""
    seen = certified(files)
    sim = running.simulator(pace=UNHURRIED, trust=str(seen.cert))
    plans = {name: {**EVERYTHING, **rules} for name, rules in PLANS.items()}
    narrow = {"narrow": {"endpoints": [ENDPOINT]}}
    config = {"plans": {"default": EVERYTHING, **narrow, **plans}}
    env = {"GATEWAY_ADMIN_KEY": ADMIN}
    return over_tls(running, sim, files, seen, public=True, env=env, config=config)


async def operator(python: Python, method: str, path: str, **body: Any) -> Any:
    headers = {"authorization": f"Bearer {ADMIN}"}
    async with httpx.AsyncClient(verify=python.trust, headers=headers) as http:
        answer = await http.request(method, f"https://{python.host}/admin/v1/{path}", json=body)
    assert answer.is_success, answer.text
    return answer.json()


async def issued(python: Python, plan: str, name: str) -> str:
    """A key of the team `studio`, made as `fal-gateway keys create` makes it."""
    made = await operator(python, "POST", "keys", name=name, team="studio", plan=plan)
    key: str = made["key"]
    return key


async def test_a_member_works_with_every_call_of_the_client(python: Python) -> None:
    key = await issued(python, "ruled", "every-call")

    heard = await python(
        "all_async", key=key, endpoint=ENDPOINT, input={"n": 1}, held="sim/fault/hold"
    )
    sync = await python("queue", key=key, endpoint=ENDPOINT, input={"n": 1})
    stopped = await python("cancel", key=key, endpoint="sim/fault/hold")

    expected = {"echo": {"n": 1}, "endpoint": ENDPOINT}
    assert heard["first"] == "Queued"
    assert list(dict.fromkeys(heard["words"])) == ["Queued", "InProgress", "Completed"]
    assert heard["result"] == heard["run"] == sync["result"] == expected
    assert heard["cancelled"] == stopped["result"]["status"] == 499
    assert heard["stream"][-1]["echo"] == {"n": 1}


async def test_over_a_rate_the_client_waits_and_succeeds(python: Python) -> None:
    key = await issued(python, "paced", "paced")

    heard = await python("runs", key=key, endpoint=ENDPOINT, inputs=[{"n": 0}, {"n": 1}, {"n": 2}])

    assert [each["value"]["echo"] for each in heard] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert sum(each["seconds"] for each in heard) > 2.0


async def test_over_its_jobs_in_flight_the_client_waits_and_succeeds(python: Python) -> None:
    key = await issued(python, "seated", "seated")

    heard = await python("together", key=key, endpoint=ENDPOINT, inputs=[{"n": 0}, {"n": 1}])

    assert [each["echo"] for each in heard["results"]] == [{"n": 0}, {"n": 1}]
    assert heard["submitted"] > 0.5  # the first had to end before the second was taken


async def test_with_a_queue_the_client_sees_its_place(python: Python) -> None:
    key = await issued(python, "queued", "queued")
    inputs = [{"n": n} for n in range(3)]

    heard = await python("together", key=key, endpoint=ENDPOINT, inputs=inputs)

    assert [each["echo"] for each in heard["results"]] == inputs
    last = heard["updates"][-1]
    places = [update["position"] for update in last if update["is"] == "Queued"]
    assert places
    assert all(type(place) is int for place in places)
    assert last[-1]["is"] == "Completed"


@pytest.mark.parametrize(
    ("plan", "input", "status", "error_type", "said"),
    [
        ("ruled", {"num_images": 9}, 422, "rule_broken", "num_images: at most 4"),
        ("poor", {}, 402, "budget_spent", "the budget principal-usd-day does not cover this call"),
        ("daily", {}, 429, "limit_reached", "the limit principal-jobs is reached"),
        ("narrow", {"elsewhere": True}, 403, "endpoint_not_allowed", "the plan does not allow"),
    ],
)
async def test_what_stays_refused_is_told_in_our_words(
    python: Python, plan: str, input: Mapping[str, Any], status: int, error_type: str, said: str
) -> None:
    key = await issued(python, plan, f"refused-{plan}")
    endpoint = "fal-ai/other" if plan == "narrow" else ENDPOINT
    if plan == "daily":
        assert "value" in await python("run", key=key, endpoint=endpoint, input={})

    heard = await python("refused", key=key, endpoint=endpoint, input=input, attempts=HURRIED)

    assert len(heard) == 6
    for way, answer in heard.items():
        assert (answer["status"], answer["error_type"]) == (status, error_type), way
        assert answer["message"].startswith(said), way


async def test_money_and_rules_are_refused_at_once(python: Python) -> None:
    """Without an attempt more: they do not pass by themselves."""
    for plan, input in (("ruled", {"num_images": 9}), ("poor", {})):
        key = await issued(python, plan, f"at-once-{plan}")
        heard = await python("refused", key=key, endpoint=ENDPOINT, input=input)
        assert max(answer["seconds"] for answer in heard.values()) < 5.0


async def test_a_refused_stream_is_told_without_words(python: Python) -> None:
    """The client does not read what refuses a stream, whoever it is: see the guide."""
    key = await issued(python, "ruled", "stream")

    heard = await python("refused_stream", key=key, endpoint=ENDPOINT, input={"num_images": 9})
    good = await python("refused_stream", key=key, endpoint=ENDPOINT, input={"num_images": 4})

    assert heard == "SSEError"
    assert good[-1]["echo"] == {"num_images": 4}


async def test_webhooks_reach_a_gateway_over_tls(python: Python) -> None:
    """With a certificate that nobody signed for the public: the simulator was told of it."""
    key, endpoint = await issued(python, "ruled", "told"), "fal-ai/echo/told"

    await python("queue", key=key, endpoint=endpoint, input={})

    assert python.gateway.sim is not None
    (job,) = [j for j in python.gateway.sim.ask("GET", "jobs") if j["endpoint"] == endpoint]
    assert [(one["status"], one["error"]) for one in job["tries"]] == [(204, None)]


async def test_a_key_that_was_taken_back_is_told_so(python: Python) -> None:
    key = await issued(python, "ruled", "leaver")
    before = await python("run", key=key, endpoint=ENDPOINT, input={})

    await operator(python, "DELETE", f"keys/{key.split('_')[1]}")
    heard = await python("refused", key=key, endpoint=ENDPOINT, input={})

    assert before["value"]["echo"] == {}
    for answer in heard.values():
        assert (answer["status"], answer["error_type"]) == (401, "unauthenticated")
        assert "revoked" in answer["message"]
