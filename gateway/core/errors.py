"""
Every error the gateway raises on purpose.

GatewayError
  Refused
    InvalidTarget
    BadBody
    MethodNotAllowed
    Unauthenticated
    BadSignature
    Forbidden
    EndpointNotAllowed
    WebhookNotAllowed
    RealtimeNotAllowed
    OriginNotAllowed
    JobNotFound
    NotFound
    Conflict
    PreconditionFailed
    StillOpen
    StillInProgress
    ResultGone
    BodyTooLarge
    UnsupportedMedia
    RuleBroken
    InputForbidden
    PriceUnknown
    BudgetSpent
    LimitReached
  Upstream
    NotSent
    Unavailable
    OutcomeUnknown
    BadAnswer
    KeyRefused
  Overloaded
  StoreUnavailable
  KeysUnavailable
  PricesUnavailable
"""

from typing import ClassVar

from gateway.core.limits import Budget, Limit, Standing


class GatewayError(Exception):
    """Base of every error here, and what `web` turns into a reply.

    `status` is the HTTP status of that reply, `code` the word a program may match on
    (`error_type` in the reply), `title` the same in words.
    The message is shown to the caller: no keys, no addresses, no upstream bodies.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"
    retry_after: int | None = None
    """Whole seconds, where waiting helps."""
    job_id: str | None = None
    """The job that the error is about, where the caller may know it."""


class Refused(GatewayError):
    """The caller is at fault. Repeating the same request gives the same answer."""

    status = 400
    code = "refused"
    title = "Refused"


class InvalidTarget(Refused):
    """`x-fal-target-url`, or a path under /fal, in a form that fal's clients do not write."""

    code = "invalid_target"
    title = "Not a fal address"


class BadBody(Refused):
    """A body that does not have the form its sender promised."""

    code = "bad_body"
    title = "Bad request body"


class MethodNotAllowed(Refused):
    """A known target with a method it does not take; `allow` is the one it does."""

    status = 405
    code = "method_not_allowed"
    title = "Method not allowed"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


class Unauthenticated(Refused):
    """No credential, or one that the gateway did not issue."""

    status = 401
    code = "unauthenticated"
    title = "Credential missing or not valid"


class BadSignature(Refused):
    """A webhook that is not fal's word about a job of ours."""

    status = 401
    code = "bad_signature"
    title = "Not a webhook of ours"


class Forbidden(Refused):
    """A known caller asking for what its scopes do not grant."""

    status = 403
    code = "forbidden"
    title = "Not allowed"


class EndpointNotAllowed(Refused):
    """An endpoint outside the caller's plan."""

    status = 403
    code = "endpoint_not_allowed"
    title = "Endpoint not allowed"


class WebhookNotAllowed(Refused):
    """A webhook URL from a caller whose plan has no `client_webhooks`, or to a forbidden place."""

    status = 403
    code = "webhook_not_allowed"
    title = "Webhook not allowed"


class RealtimeNotAllowed(Refused):
    """A realtime token for a plan without `realtime_tokens`, or for an app outside it."""

    status = 403
    code = "realtime_not_allowed"
    title = "Realtime not allowed"


class OriginNotAllowed(Refused):
    """An unsafe request by cookie that our own page did not send."""

    status = 403
    code = "origin_not_allowed"
    title = "Origin not allowed"


class JobNotFound(Refused):
    """A job that does not exist, or is not the caller's: the two look the same."""

    status = 404
    code = "job_not_found"
    title = "Job not found"


class NotFound(Refused):
    """A route that does not exist."""

    status = 404
    code = "not_found"
    title = "Not found"


class Conflict(Refused):
    """A change that does not go with what is there by now, such as a taken name."""

    status = 409
    code = "conflict"
    title = "Conflict"


class PreconditionFailed(Refused):
    """A change to a version that its sender has seen, and that is not there any more."""

    status = 412
    code = "precondition_failed"
    title = "Precondition failed"


class StillOpen(Refused):
    """The result of a job that has not ended, asked for at /v1."""

    status = 409
    code = "job_open"
    title = "Job still open"


class StillInProgress(Refused):
    """The same, asked for in fal's form: fal's own words, which its clients know."""

    code = "request_in_progress"
    title = "Request in progress"


class ResultGone(Refused):
    """A result that neither the gateway nor fal keeps any longer."""

    status = 410
    code = "result_gone"
    title = "Result gone"


class BodyTooLarge(Refused):
    """A body over the plan's or the gateway's limit."""

    status = 413
    code = "body_too_large"
    title = "Body too large"


class UnsupportedMedia(Refused):
    """A content type that is not JSON."""

    status = 415
    code = "unsupported_media_type"
    title = "Unsupported media type"


class RuleBroken(Refused):
    """A value in a model's input that is outside what a rule of the plan allows."""

    status = 422
    code = "rule_broken"
    title = "Input not allowed"


class InputForbidden(Refused):
    """A field in a model's input that a rule of the plan forbids."""

    status = 403
    code = "input_forbidden"
    title = "Input not allowed"


class PriceUnknown(Refused):
    """A call on a budget in dollars, to an endpoint of which nobody knows the price."""

    status = 403
    code = "price_unknown"
    title = "Price not known"


class BudgetSpent(Refused):
    """More than is left of a budget. `retry_after` is when the next period begins."""

    status = 402
    code = "budget_spent"
    title = "Budget spent"
    budget: Budget | None = None
    remaining: int = 0
    """Millionths of a dollar or of a unit."""
    resets_at: float = 0.0
    """Unix seconds."""


class LimitReached(Refused):
    """Over a limit that passes by itself. `quota.reached` makes those of plans."""

    status = 429
    code = "limit_reached"
    title = "Limit reached"
    retry_after = 5
    limit: Limit | None = None
    """Which one, where it is one of the plan's."""
    wait: float = 5.0
    """Seconds, as they are known."""
    standings: tuple[Standing, ...] = ()


class Upstream(GatewayError):
    """fal is at fault, or out of reach. Split by cause: what may be said of the request?"""

    status = 502
    code = "upstream_error"
    title = "fal could not be asked"


class NotSent(Upstream):
    """fal certainly did not get the request: no connection was made, or none was free."""

    code = "upstream_unreachable"
    title = "fal not reached"


class Unavailable(Upstream):
    """Reading from fal failed, or it answered nothing of use. Asking again does no harm."""

    code = "upstream_unavailable"
    title = "fal did not answer"


class OutcomeUnknown(Upstream):
    """The request was handed over, and what became of it is not known.

    500, since fal's clients send a 429, 502, 503 or 504 again, and the job may run already.
    """

    status = 500
    code = "outcome_unknown"
    title = "Outcome unknown"


class BadAnswer(Upstream):
    """fal answered with something that cannot be passed on."""

    code = "upstream_bad_answer"
    title = "fal's answer is unusable"


class KeyRefused(Upstream):
    """fal refuses our key: a matter for the operator, not for the caller."""

    code = "upstream_key_refused"
    title = "The gateway's fal account is not usable"
    fal_status: int = 403
    """What fal answered, 401 or 403."""
    locked: bool = False
    """It said that the whole account is locked. Where it did not, it may still be so."""


class Overloaded(GatewayError):
    """A bound of this process is reached. Passes by itself."""

    status = 503
    code = "overloaded"
    title = "Too busy"
    retry_after = 1


class StoreUnavailable(GatewayError):
    """Redis is out of reach, or refuses to write. Passes by itself."""

    status = 503
    code = "store_unavailable"
    title = "Ledger not available"
    retry_after = 2


class KeysUnavailable(GatewayError):
    """No key is known that a webhook of fal's, or a JWT, can be verified with. fal sends again."""

    status = 503
    code = "keys_unavailable"
    title = "Public keys not available"
    retry_after = 60


class PricesUnavailable(GatewayError):
    """A budget in dollars needs a price, and fal's list cannot be asked. Before fal is called."""

    status = 503
    code = "prices_unavailable"
    title = "fal's prices not available"
    retry_after = 10
