"""What was used, and how callers stand."""

from typing import Final

from gateway.web import usage
from gateway.web.operation import Answer, Operation, Parameter, Path
from gateway.web.paths.common import ACT_FOR, SCOPE, SEEN
from gateway.web.shapes import Me, UsageReport

_DAY: Final = {"type": "string", "format": "date"}


def paths() -> list[Path]:
    return [
        Path(
            "/v1/usage",
            {
                "GET": Operation(
                    usage.used,
                    "What was used, by day and endpoint",
                    {200: Answer("At most 100 days", UsageReport)},
                    refuses=SEEN,
                    parameters=(
                        Parameter("from", "query", "First day, UTC; 30 days unless said", _DAY),
                        Parameter("to", "query", "Last day; today unless said", _DAY),
                        SCOPE,
                        ACT_FOR,
                    ),
                )
            },
        ),
        Path(
            "/v1/me",
            {
                "GET": Operation(
                    usage.me,
                    "Who is calling, and how they stand with limits and budgets",
                    {200: Answer("The caller", Me)},
                    refuses=SEEN,
                    parameters=(ACT_FOR,),
                )
            },
        ),
    ]
