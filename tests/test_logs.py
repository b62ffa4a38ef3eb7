"""What the lines look like, and that a stranger cannot forge one."""

import json
import logging

import pytest

from gateway.logs import logging_to_stderr

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


def test_a_traceback_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr("text", "info"):
        try:
            raise ValueError("broken")
        except ValueError:
            logging.getLogger("gateway.test").exception("it broke")

    assert "ValueError: broken" in capfd.readouterr().err
