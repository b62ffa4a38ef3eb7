"""What the admin API can do, by whoever may. Every act leaves a record, from before it is done."""

from gateway.flows.issue import (
    Issued,
    Page,
    change_key,
    create_key,
    list_keys,
    revoke_key,
    rotate_key,
    show_key,
)
from gateway.flows.managing import Actor, acting, audit, operating, operator
from gateway.flows.planning import delete_plan, list_plans, put_plan, show_plan
from gateway.flows.revoke import Target, revoke

__all__ = [
    "Actor",
    "Issued",
    "Page",
    "Target",
    "acting",
    "audit",
    "change_key",
    "create_key",
    "delete_plan",
    "list_keys",
    "list_plans",
    "operating",
    "operator",
    "put_plan",
    "revoke",
    "revoke_key",
    "rotate_key",
    "show_key",
    "show_plan",
]
