"""/v1/jobs, through the front door."""

import pytest

from tests.harness import Gateway

pytestmark = pytest.mark.anyio


async def test_a_job_from_submit_to_result(gateway: Gateway) -> None:
    """Submitted, waited for, and its result inline and alone, as fal's model wrote it."""
    async with gateway.http() as http:
        taken = await http.post("/v1/jobs", json={"endpoint": "fal-ai/echo", "input": {"n": 1}})
        job = taken.json()
        while job["status"] not in {"completed", "failed"}:
            answer = await http.get(
                f"/v1/jobs/{job['id']}", params={"wait": "20", "after": job["version"]}
            )
            job = answer.json()
        result = await http.get(job["links"]["result"])

    assert taken.status_code == 202
    assert job["status"] == "completed"
    assert job["result"] == result.json() == {"echo": {"n": 1}, "endpoint": "fal-ai/echo"}
    assert result.headers["x-fal-request-id"] == job["id"]
