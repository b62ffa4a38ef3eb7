"""Jobs as clients read them, where no test over the socket looks as closely."""

from typing import Any

import pytest

from gateway.core.forms import FAL, fal_status
from gateway.core.model import Job, JobRef, Kind, Principal, State

JOB = Job(
    JobRef("0" * 32, Principal("default", Kind.USER, "alice"), "fal-ai/echo", 0.0),
    State.RUNNING,
    "1-0",
)


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        (b'{"message":"a"}', {"level": "INFO", "labels": {"level": "INFO"}}),
        (b'{"level":"WARN","message":"a"}', {"level": "WARN", "labels": {"level": "WARN"}}),
    ],
)
def test_a_log_entry_has_all_that_clients_insist_on(line: bytes, entry: dict[str, Any]) -> None:
    (told,) = fal_status(JOB, FAL, [line])["logs"]

    assert told == {"message": "a", "source": "USER", **entry}
