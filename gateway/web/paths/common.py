"""What many descriptions share: who is refused and why, and parameters."""

from typing import Final

from gateway.core import errors
from gateway.core.errors import GatewayError
from gateway.web.operation import Answer, Parameter

Errors = tuple[type[GatewayError], ...]

SEEN: Final[Errors] = (
    errors.Unauthenticated,
    errors.Forbidden,
    errors.OriginNotAllowed,
    errors.BadBody,
    errors.InvalidTarget,
    errors.StoreUnavailable,
    errors.KeysUnavailable,
)
"""Of whoever needs a credential."""
WRITTEN: Final[Errors] = (
    errors.BadBody,
    errors.BodyTooLarge,
    errors.UnsupportedMedia,
    errors.Overloaded,
)
"""Of a request with a body."""
ONE_JOB: Final[Errors] = (errors.JobNotFound,)
HELD: Final[Errors] = (errors.LimitReached,)
"""Of an answer that takes its time."""
ASKING: Final[Errors] = (errors.NotSent, errors.Unavailable, errors.BadAnswer, errors.KeyRefused)
"""Of a call to fal."""
SUBMITTING: Final[Errors] = (
    *WRITTEN,
    *ASKING,
    errors.EndpointNotAllowed,
    errors.WebhookNotAllowed,
    errors.InputForbidden,
    errors.RuleBroken,
    errors.PriceUnknown,
    errors.BudgetSpent,
    errors.LimitReached,
    errors.OutcomeUnknown,
)
"""Of a call that costs."""

ACT_FOR: Final = Parameter(
    "X-Gateway-Principal",
    "header",
    "The user to act for; needs a key with the scope mint",
    {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._@+:-]{0,127}$"},
)
JOB_ID: Final = Parameter(
    "id", "path", "A job's id", {"type": "string", "format": "uuid"}, required=True
)
SCOPE: Final = Parameter(
    "scope", "query", "`team`: all of the team's; needs the scope read", {"enum": ["team"]}
)
PLACE: Final = {"type": "string", "pattern": r"^(0|[1-9][0-9]{0,15})-0$"}
"""An event's id."""
EVENTS: Final = Answer(
    "Server-sent events; in our own form with ids to resume after",
    schema={},
    media="text/event-stream",
)
