"""Lines of the log: one for each thing that happened, whatever strangers put into it."""

import json
import logging

import pytest

from gateway.logs import LONGEST, logging_to_stderr

HOSTILE = "a\r\nINFO admin signed in \x1b[2J\x7f\u2028\u0085%s%n{0.__class__}\0 \ud800"


def written(capfd: pytest.CaptureFixture[str], form: str, message: str, **facts: object) -> str:
    capfd.readouterr()
    with logging_to_stderr("json" if form == "json" else "text", "info"):
        logging.getLogger("gateway.test").info("%s", message, extra=facts)
    return capfd.readouterr().err


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_hostile_text_stays_on_its_line(capfd: pytest.CaptureFixture[str], form: str) -> None:
    text = written(capfd, form, HOSTILE, agent=HOSTILE, plain="x")

    assert text.count("\n") == 1
    assert len(text.splitlines()) == 1
    assert text.rstrip("\n").isascii()
    assert text.rstrip("\n").isprintable()
    assert "plain" in text
    if form == "json":
        assert json.loads(text)["agent"] == HOSTILE


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_long_text_is_cut(capfd: pytest.CaptureFixture[str], form: str) -> None:
    text = written(capfd, form, "x" * 2**20, fact="y" * 2**20)

    assert len(text) < 3 * LONGEST


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_error_moves_no_cursor(capfd: pytest.CaptureFixture[str], form: str) -> None:
    """Its traceback has lines of its own, and they are there."""
    capfd.readouterr()
    with logging_to_stderr("json" if form == "json" else "text", "info"):
        try:
            raise ValueError(HOSTILE)
        except ValueError:
            logging.getLogger("gateway.test").exception("broken")
    text = capfd.readouterr().err

    assert "ValueError" in text
    assert all(line.isprintable() and line.isascii() for line in text.split("\n"))
