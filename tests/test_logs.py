"""What the lines look like, and that a stranger cannot forge one."""

import fcntl
import json
import logging
import os
import signal
import subprocess
import sys

import httpx
import pytest

from gateway.logs import LAST_LINES, PENDING, logging_to_stderr
from tests.harness import NO_TLS, Running, Simulator, clean_env, reachable, wait_for

HOSTILE = "a\r\n2026 info forged \x1b[2J\u2028"


def logged(capfd: pytest.CaptureFixture[str], form: str, message: str, **facts: object) -> str:
    with logging_to_stderr("json" if form == "json" else "text", "info"):
        logging.getLogger("gateway.test").info(message, extra=facts)
    return capfd.readouterr().err


def test_json(capfd: pytest.CaptureFixture[str]) -> None:
    line = json.loads(logged(capfd, "json", "hello", job="j1", ms=1.5))

    assert (line["message"], line["job"], line["ms"]) == ("hello", "j1", 1.5)
    assert (line["level"], line["logger"]) == ("info", "gateway.test")


def test_text_tells_each_thing_once(capfd: pytest.CaptureFixture[str]) -> None:
    line = logged(capfd, "text", "GET /a 200", job="j1", method="GET", route="/a", status=200)

    assert line.rstrip().endswith("GET /a 200  job=j1")


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_stranger_s_text_stays_on_its_line(capfd: pytest.CaptureFixture[str], form: str) -> None:
    text = logged(capfd, form, HOSTILE, agent=HOSTILE, big="x" * 100_000)

    assert len(text.splitlines()) == 1
    assert "\x1b" not in text
    assert len(text) < 10_000


def test_a_line_that_cannot_be_written_is_not_the_last(capfd: pytest.CaptureFixture[str]) -> None:
    class Mute:
        def __str__(self) -> str:
            raise RuntimeError

    with logging_to_stderr("text", "info"):
        logging.getLogger("gateway.test").info("one", extra={"what": Mute()})
        logging.getLogger("gateway.test").info("two")

    first, second = capfd.readouterr().err.splitlines()
    assert first == "a line of gateway.test cannot be written: RuntimeError"
    assert second.endswith("two")


def test_a_traceback_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr("text", "info"):
        try:
            raise ValueError("broken")
        except ValueError:
            logging.getLogger("gateway.test").exception("it broke")

    assert "ValueError: broken" in capfd.readouterr().err


@pytest.mark.parametrize("count", [1, 50, PENDING + 1000])
def test_a_program_whose_log_nobody_reads_ends(count: int) -> None:
    code = (
        "import logging\nfrom gateway.logs import logging_to_stderr\n"
        "with logging_to_stderr('text', 'info'):\n"
        f"    for n in range({count}): logging.info('line %d %s', n, 'x' * 500)\n"
        "print('done')"
    )
    unread, stderr = narrow_pipe()

    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=stderr,
        env=clean_env(), timeout=LAST_LINES + 15, check=True,
    )  # fmt: skip
    os.close(stderr)
    with os.fdopen(unread) as lines:
        read = lines.read().splitlines()

    assert done.stdout == b"done\n"
    assert " line 0 x" in read[0]
    assert len(read) == 1 or count > 1


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_gateway_whose_log_nobody_reads_serves_and_stops(
    running: Running, sim: Simulator, workers: str
) -> None:
    gateway = running.gateway(sim, env={"GATEWAY_WORKERS": workers}, start=False)
    unread, stderr = narrow_pipe()
    gateway.process.popen = process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "serve"], env=gateway.process.env,
        cwd=gateway.folder, stdout=subprocess.DEVNULL, stderr=stderr,
    )  # fmt: skip
    os.close(stderr)
    wait_for(lambda: reachable(f"{gateway.direct}/readyz"))
    with httpx.Client(base_url=gateway.direct, verify=NO_TLS) as client:
        answers = [client.get("/v1/jobs").status_code for _ in range(200)]

    process.send_signal(signal.SIGTERM)

    assert answers == [401] * 200
    assert process.wait(10) == 0
    with os.fdopen(unread) as lines:
        assert "serves on" in lines.read()


def narrow_pipe() -> tuple[int, int]:
    """Room for a few lines only."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    return reading, writing
