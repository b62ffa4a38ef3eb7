"""What a gateway on one core does in a second, beside a bare Starlette app on the same core.

Absolute numbers depend on the machine and on its neighbours; the ratios hold better. The gateway
and the bare app run on the first core, everything else on the second.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import httpx

from gateway.core import fal
from gateway.store.server import own_redis
from tests.harness import (
    Files,
    Gateway,
    Running,
    Simulator,
    clean_env,
    free_port,
    reachable,
    token,
    wait_for,
)

SECONDS = float(os.environ.get("SECONDS", "4"))
CONNECTIONS = 32
BODY = b'{"prompt": "' + b"x" * 1000 + b'"}'
LIMITED = {
    "plans": {
        "default": {
            "endpoints": ["**"],
            "limits": [
                {"rate": "1000000/s"},
                {"rate": "1000000/s", "of": "team"},
                {"in_flight": 10**8},
                {"in_flight": 10**8, "of": "team"},
                {"jobs": "1000000000/day"},
            ],
            "budgets": [{"units": 9_000_000, "per": "day"}, {"units": 9_000_000, "per": "month"}],
        },
        "slow": {"endpoints": ["**"], "limits": [{"rate": "1/day", "burst": 1}]},
    }
}
"""A plan that refuses nobody, though it counts all there is, and one that takes one call."""


def pinned(core: int) -> list[str]:
    """What goes before a command to keep it on one core."""
    two = (os.cpu_count() or 1) > 1 and shutil.which("taskset") is not None
    return ["taskset", "-c", str(core)] if two else []


def pin(pid: int, core: int) -> None:
    if two := pinned(core):
        subprocess.run(
            [*two[:1], "-a", "-cp", str(core), str(pid)], check=True, capture_output=True
        )


def rate(port: int, request: bytes, kind: str = "2") -> tuple[float, float, float]:
    """Answers a second, median and p99 in milliseconds; `kind` is their first digit."""
    command = [*pinned(1), sys.executable, "-m", "tests.bench.load"]
    done = subprocess.run(
        [*command, str(port), str(CONNECTIONS), str(SECONDS), kind],
        input=request, capture_output=True, check=True, env=clean_env(),
    )  # fmt: skip
    found, middle, high, wrong = map(float, done.stdout.split())
    if wrong:
        raise SystemExit(f"{wrong:.0f} answers were no {kind}xx")
    return found, middle, high


def message(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += [f"content-length: {len(body)}"] if body else []
    return "\r\n".join([*lines, "", ""]).encode() + body


def submit(credential: str) -> bytes:
    return message(
        "POST", "/api/fal/proxy", BODY, authorization=f"Bearer {credential}",
        content_type="application/json", x_fal_target_url="https://queue.fal.run/fal-ai/echo",
    )  # fmt: skip


def stub(stack: ExitStack, kind: str, core: int) -> int:
    port = free_port()
    process = subprocess.Popen(
        [*pinned(core), sys.executable, "-m", "tests.bench.stub", kind, str(port)], env=clean_env()
    )
    stack.callback(process.wait)
    stack.callback(process.terminate)
    wait_for(lambda: reachable(f"http://127.0.0.1:{port}/"))
    return port


def rss(pid: int) -> float:
    """MiB that a process holds."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def cold_start(running: Running, sim: Simulator) -> float:
    gateway = running.gateway(sim, start=False)
    begun = time.perf_counter()
    gateway.start()
    taken = time.perf_counter() - begun
    gateway.process.stop()
    return taken


def workers(running: Running, sim: Simulator) -> list[float]:
    gateway = running.gateway(sim, env={"GATEWAY_WORKERS": "2"})
    wait_for(lambda: len(gateway.workers()) == 2)
    time.sleep(2)
    found = [rss(pid) for pid in gateway.workers()]
    gateway.process.stop()
    return found


def upstream_calls(gateway: Gateway, sim: Simulator, watchers: int) -> dict[str, int]:
    """What fal was asked about one job that so many clients polled twice a second to its end."""
    sim.ask("POST", "reset")

    async def poll(http: httpx.AsyncClient, job_id: str) -> None:
        address = f"https://queue.fal.run/fal-ai/echo/requests/{job_id}"
        while True:
            answer = await http.get(
                "/api/fal/proxy", headers={"x-fal-target-url": f"{address}/status?logs=1"}
            )
            if answer.json()["status"] == "COMPLETED":
                await http.get("/api/fal/proxy", headers={"x-fal-target-url": address})
                return
            await asyncio.sleep(0.05)

    async def watched() -> None:
        async with gateway.http() as http:
            taken = await http.post("/v1/jobs", json={"endpoint": "fal-ai/echo", "input": {}})
            async with asyncio.TaskGroup() as tasks:
                for _ in range(watchers):
                    tasks.create_task(poll(http, taken.json()["id"]))

    asyncio.run(watched())
    return {
        "submit": sim.calls(method="POST", ends="/fal-ai/echo"),
        "status stream": sim.calls(ends="/status/stream"),
        "status": sim.calls(ends="/status"),
        "result": sum(
            1 for c in sim.journal() if c["path"].rpartition("/")[0].endswith("requests")
        ),
    }


def main() -> None:
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        files = Files(root)
        redis_url = stack.enter_context(own_redis(files.folder("redis")))
        running = stack.enter_context(Running(files, redis_url))
        sim = running.simulator()
        print(f"cold start to ready   {cold_start(running, sim):.2f} s")
        print(
            f"RSS per worker, idle  {', '.join(f'{mib:.0f} MiB' for mib in workers(running, sim))}"
        )
        bare = stub(stack, "bare", 0)
        upstream = stub(stack, "upstream", 1)
        origins = json.dumps({host: f"http://127.0.0.1:{upstream}/{host}" for host in fal.HOSTS})
        gateway = running.gateway(sim)
        fast = running.gateway(
            sim,
            env={"GATEWAY_FAL_ORIGINS": origins},
            redis_url=f"{redis_url}?db=2",  # nobody else asks the stub about its jobs
        )
        limited = running.gateway(
            sim,
            env={"GATEWAY_FAL_ORIGINS": origins},
            config=LIMITED,
            redis_url=f"{redis_url}?db=1",
        )
        for one in (gateway, fast, limited):
            pin(one.process.pid, 0)
        calls = {watchers: upstream_calls(gateway, sim, watchers) for watchers in (1, 50)}
        print(f"calls to fal, 1 poller    {calls[1]}")
        print(f"calls to fal, 50 pollers  {calls[50]}")
        _rates(bare, gateway, fast, limited)


def _rates(bare: int, gateway: Gateway, fast: Gateway, limited: Gateway) -> None:
    credential = f"Bearer {token()}"
    held = httpx.post(
        f"{gateway.direct}/v1/jobs",
        json={"endpoint": "sim/fault/hold", "input": {}},
        headers={"authorization": credential},
    ).json()["id"]
    target = f"https://queue.fal.run/sim/fault/requests/{held}/status?logs=0"
    json_type = "application/json"
    rows: dict[str, tuple[int, bytes] | tuple[int, bytes, str]] = {
        "bare Starlette, POST 1 KB": (bare, message("POST", "/", BODY, content_type=json_type)),
        "status poll, proxy form": (
            gateway.port,
            message("GET", "/api/fal/proxy", authorization=credential, x_fal_target_url=target),
        ),
        "job, GET /v1/jobs/{id}": (
            gateway.port,
            message("GET", f"/v1/jobs/{held}", authorization=credential),
        ),
        "run, passed through, POST 1 KB": (
            fast.port,
            message(
                "POST", "/api/fal/proxy", BODY, authorization=credential, content_type=json_type,
                x_fal_target_url="https://fal.run/fal-ai/echo",
            ),
        ),
        "submit, refused: over its rate": (limited.port, submit(token(plan="slow")), "4"),
        "submit, no limits, POST 1 KB": (fast.port, submit(token())),
        "submit, 5 limits, 2 budgets": (limited.port, submit(token())),
    }  # fmt: skip
    base = None
    print(
        f"\n{'one core, 32 connections':34}{'a second':>10}{'ratio':>8}{'p50 ms':>9}{'p99 ms':>9}"
    )
    for name, row in rows.items():
        found, middle, high = rate(row[0], row[1], row[2] if len(row) == 3 else "2")
        base = base or found
        if row[0] == fast.port and name.startswith("submit"):
            fast.process.kill()  # it would go on to ask about its jobs, on the same core
        print(f"{name:34}{found:10.0f}{found / base:8.2f}{middle:9.1f}{high:9.1f}")


if __name__ == "__main__":
    main()
