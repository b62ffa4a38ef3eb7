"""Faults by endpoint name: `sim/fault/<name>`, or anything below it.

    Instead of an answer to a submit or a run; no job is made
      submit-401  submit-403  submit-403-locked  submit-404  submit-408
      submit-422 (refuse-422-submit)
      submit-429  submit-500  submit-502-html  submit-503-html  submit-504-html  redirect
    The job is made, but the submit's answer is not what it should be
      accept-then-hang  cut-after-body  cut-mid-answer  unreadable-2xx  no-request-id
      took-500  took-504-html  webhook-first
    The course of a job
      fast  hold  hold-queued  requeue  cancel-ignored  cancel-200-ok  cancel-200-success
    The end of a job, or of a run
      fail-422  fail-503  timeout-504  cancelled  result-404  big  echo-headers
    Webhooks
      no-webhook  webhook-twice  webhook-parallel  webhook-late  gateway-id
      payload-error  payload-lost
    Status, result and streams
      pending-202  status-502-html  result-502-html  stream-cut  slow-stream
    Runs
      overlap-429
    All answers
      set-cookie

What each does is said in `DOES`, which `GET /_sim/faults` lists.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

PREFIX: Final = "sim/fault/"


class Fault(StrEnum):
    SUBMIT_401 = "submit-401"
    SUBMIT_403 = "submit-403"
    SUBMIT_403_LOCKED = "submit-403-locked"
    SUBMIT_404 = "submit-404"
    SUBMIT_408 = "submit-408"
    SUBMIT_422 = "submit-422"
    REFUSE_422_SUBMIT = "refuse-422-submit"
    SUBMIT_429 = "submit-429"
    SUBMIT_500 = "submit-500"
    SUBMIT_502_HTML = "submit-502-html"
    SUBMIT_503_HTML = "submit-503-html"
    SUBMIT_504_HTML = "submit-504-html"
    REDIRECT = "redirect"
    ACCEPT_THEN_HANG = "accept-then-hang"
    CUT_AFTER_BODY = "cut-after-body"
    CUT_MID_ANSWER = "cut-mid-answer"
    UNREADABLE_2XX = "unreadable-2xx"
    NO_REQUEST_ID = "no-request-id"
    TOOK_500 = "took-500"
    TOOK_504_HTML = "took-504-html"
    WEBHOOK_FIRST = "webhook-first"
    FAST = "fast"
    HOLD = "hold"
    HOLD_QUEUED = "hold-queued"
    REQUEUE = "requeue"
    CANCEL_IGNORED = "cancel-ignored"
    CANCEL_200_OK = "cancel-200-ok"
    CANCEL_200_SUCCESS = "cancel-200-success"
    FAIL_422 = "fail-422"
    FAIL_503 = "fail-503"
    TIMEOUT_504 = "timeout-504"
    CANCELLED = "cancelled"
    RESULT_404 = "result-404"
    BIG = "big"
    ECHO_HEADERS = "echo-headers"
    NO_WEBHOOK = "no-webhook"
    WEBHOOK_TWICE = "webhook-twice"
    WEBHOOK_PARALLEL = "webhook-parallel"
    WEBHOOK_LATE = "webhook-late"
    GATEWAY_ID = "gateway-id"
    PAYLOAD_ERROR = "payload-error"
    PAYLOAD_LOST = "payload-lost"
    PENDING_202 = "pending-202"
    STATUS_502_HTML = "status-502-html"
    RESULT_502_HTML = "result-502-html"
    STREAM_CUT = "stream-cut"
    SLOW_STREAM = "slow-stream"
    OVERLAP_429 = "overlap-429"
    SET_COOKIE = "set-cookie"


DOES: Final[Mapping[Fault, str]] = {
    Fault.SUBMIT_401: "401, as for a bad key",
    Fault.SUBMIT_403: "403: the application is not for this account",
    Fault.SUBMIT_403_LOCKED: "403: the account is locked",
    Fault.SUBMIT_404: "404: no such application",
    Fault.SUBMIT_408: "408 with a JSON body",
    Fault.SUBMIT_422: "422 with a list of problems",
    Fault.REFUSE_422_SUBMIT: "the same as submit-422",
    Fault.SUBMIT_429: "429 with a JSON body",
    Fault.SUBMIT_500: "500 with error_type internal_error; there is no job",
    Fault.SUBMIT_502_HTML: "502, the ingress's HTML page, no x-fal-request-id",
    Fault.SUBMIT_503_HTML: "503, the same page",
    Fault.SUBMIT_504_HTML: "504, the same page",
    Fault.REDIRECT: "302 to the host elsewhere.example (a prefix here, so the journal sees it)",
    Fault.ACCEPT_THEN_HANG: "there is a job, but no answer for 120 s",
    Fault.CUT_AFTER_BODY: "there is a job; the connection closes without a byte of answer",
    Fault.CUT_MID_ANSWER: "there is a job; the connection closes in the middle of the answer",
    Fault.UNREADABLE_2XX: "there is a job; the answer is 200 with HTML",
    Fault.NO_REQUEST_ID: "there is a job; the answer is JSON without request_id",
    Fault.TOOK_500: "there is a job; the answer is 500",
    Fault.TOOK_504_HTML: "there is a job; the answer is the ingress's 504",
    Fault.WEBHOOK_FIRST: "the webhook is sent 1 s (times pace) before the submit's answer",
    Fault.FAST: "ends at once, past the queue; the submit's answer says IN_PROGRESS",
    Fault.HOLD: "stays IN_PROGRESS until POST /_sim/end/{request_id}",
    Fault.HOLD_QUEUED: "stays IN_QUEUE until POST /_sim/end/{request_id}",
    Fault.REQUEUE: "goes back from IN_PROGRESS to IN_QUEUE once",
    Fault.CANCEL_IGNORED: "takes a cancel and finishes all the same",
    Fault.CANCEL_200_OK: 'held in IN_PROGRESS; a cancel is answered 200 {"status": "OK"}',
    Fault.CANCEL_200_SUCCESS: 'held in IN_PROGRESS; a cancel is answered 200 {"success": true}',
    Fault.FAIL_422: "the model refuses its input: 422, no error in the status",
    Fault.FAIL_503: "503 runner_connection_error, told in the status as well",
    Fault.TIMEOUT_504: "504, as after the caller's start deadline",
    Fault.CANCELLED: "499 client_cancelled, without a cancel",
    Fault.RESULT_404: "completes, but its result is gone: 404",
    Fault.BIG: "a result of 20 MiB; big/<n> of n MiB, at most 256",
    Fault.ECHO_HEADERS: "the output holds the request's headers, authorization too",
    Fault.NO_WEBHOOK: "the webhook never comes",
    Fault.WEBHOOK_TWICE: "the webhook comes twice",
    Fault.WEBHOOK_PARALLEL: "the webhook comes twenty times at once",
    Fault.WEBHOOK_LATE: "the webhook comes 5 s (times pace) after the end",
    Fault.GATEWAY_ID: "the webhook's gateway_request_id and its header differ from request_id",
    Fault.PAYLOAD_ERROR: "the webhook has payload null and a payload_error",
    Fault.PAYLOAD_LOST: "payload-error and result-404 together",
    Fault.PENDING_202: "the result of an open job is 202 with its status, not 400",
    Fault.STATUS_502_HTML: "every other status call is the ingress's 502",
    Fault.RESULT_502_HTML: "the first two reads of the result are the ingress's 502",
    Fault.STREAM_CUT: "status streams and run streams are cut after two events",
    Fault.SLOW_STREAM: "a run stream of ten events, 1 s (times pace) apart",
    Fault.OVERLAP_429: "a run is 429 concurrent_requests_limit with x-fal-needs-retry: 1",
    Fault.SET_COOKIE: "each answer sets a cookie of its own; the journal tells who sent one",
}


def known(endpoint: str) -> bool:
    """Whether there is an application behind this endpoint id."""
    owner, _, rest = endpoint.partition("/")
    if not all(endpoint.split("/")) or not rest or owner == "unknown":
        return False
    return not endpoint.startswith(PREFIX) or fault_of(endpoint) is not None


def fault_of(endpoint: str) -> Fault | None:
    """The fault that an endpoint id asks for."""
    if not endpoint.startswith(PREFIX):
        return None
    name = endpoint.removeprefix(PREFIX).split("/")[0]
    return Fault(name) if name in DOES else None


def megabytes(endpoint: str) -> int:
    """How many MiB `sim/fault/big[/<n>]` asks for."""
    last = endpoint.rsplit("/", 1)[-1]
    return min(int(last), 256) if last.isascii() and last.isdigit() else 20
