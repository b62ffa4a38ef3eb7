"""/v1: jobs and events in our own form."""

from gateway.core.errors import ResultGone, StillOpen, Unavailable
from gateway.web import events, jobs
from gateway.web.operation import CALLER, Answer, Operation, Parameter, Path
from gateway.web.paths import common
from gateway.web.paths.common import ACT_FOR, HELD, JOB_ID, ONE_JOB, PLACE, SCOPE, SEEN
from gateway.web.shapes import Job, JobList, NewJob

_ID = {"x-fal-request-id": "The job's id"}
_STREAM = (*CALLER, "streamPass")
_LIMIT = {"type": "integer", "minimum": 0, "maximum": jobs.LIST_MAX}
_NEXT = {"type": "string", "pattern": "^[0-9]{1,15}-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"}
_WAIT = {"type": "number", "minimum": 0, "maximum": 60}
_RESUME = (
    Parameter("Last-Event-ID", "header", "The id of the last event that was seen", PLACE),
    Parameter("last_event_id", "query", "The same, for who cannot send headers", PLACE),
)


def paths() -> list[Path]:
    return [
        Path("/v1/jobs", {"GET": _listing(), "POST": _create()}),
        Path("/v1/jobs/{id}", {"GET": _one()}),
        Path("/v1/jobs/{id}/result", {"GET": _result()}),
        Path("/v1/jobs/{id}/cancel", {"POST": _cancel()}),
        Path("/v1/jobs/{id}/events", {"GET": _events_of_job()}),
        Path("/v1/events", {"GET": _events()}),
    ]


def _listing() -> Operation:
    return Operation(
        jobs.listing,
        "One's own jobs, newest first, in pages",
        {200: Answer("A page of jobs", JobList)},
        refuses=SEEN,
        parameters=(
            Parameter("limit", "query", "Jobs in a page", _LIMIT),
            Parameter("before", "query", "`next` of the page before", _NEXT),
            SCOPE,
            ACT_FOR,
        ),
    )


def _create() -> Operation:
    return Operation(
        jobs.create,
        "Submit a job",
        {202: Answer("The job", Job)},
        refuses=(*SEEN, *common.SUBMITTING),
        parameters=(ACT_FOR,),
        body=NewJob,
        passes_on=True,
    )


def _one() -> Operation:
    return Operation(
        jobs.one,
        "A job; with `wait`, on its next change or at the deadline",
        {200: Answer("The job", Job)},
        refuses=(*SEEN, *ONE_JOB, *HELD),
        parameters=(
            JOB_ID,
            Parameter("wait", "query", "Seconds to wait for a change", _WAIT),
            Parameter("after", "query", "The version after which a change counts", PLACE),
            ACT_FOR,
        ),
    )


def _result() -> Operation:
    return Operation(
        jobs.result,
        "The raw result, with the model's own code and headers",
        {
            "2XX": Answer("What the model answered", schema={}, media="*/*", headers=_ID),
            "4XX": Answer("How the model refused", schema={}, media="*/*", headers=_ID),
            "5XX": Answer("How the model failed", schema={}, media="*/*", headers=_ID),
        },
        refuses=(*SEEN, *ONE_JOB, *HELD, StillOpen, ResultGone, Unavailable),
        parameters=(JOB_ID, ACT_FOR),
        passes_on=True,
    )


def _cancel() -> Operation:
    return Operation(
        jobs.cancellation,
        "Ask for a job to be cancelled; fal decides whether it still can",
        {200: Answer("The job, which had ended", Job), 202: Answer("The job", Job)},
        refuses=(*SEEN, *ONE_JOB),
        parameters=(JOB_ID, ACT_FOR),
    )


def _events_of_job() -> Operation:
    return Operation(
        events.of_job,
        "The events of one job, from the first to its end",
        {200: common.EVENTS, 204: Answer("Nothing follows the event that was seen last")},
        refuses=(*SEEN, *ONE_JOB, *HELD),
        parameters=(JOB_ID, *_RESUME, ACT_FOR),
        security=_STREAM,
    )


def _events() -> Operation:
    return Operation(
        events.of_all,
        "The events of all of one's own jobs, from now on",
        {200: common.EVENTS},
        refuses=(*SEEN, *HELD),
        parameters=(*_RESUME, SCOPE, ACT_FOR),
        security=_STREAM,
    )
