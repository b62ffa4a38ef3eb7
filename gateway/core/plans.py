"""May this caller make this call?"""

from gateway.core.endpoints import allows, allows_app, covers, overlap, realtime_alias_app
from gateway.core.errors import EndpointNotAllowed, Forbidden, RealtimeNotAllowed, WebhookNotAllowed
from gateway.core.model import Caller, Job, Scope
from gateway.core.weburl import host_of, is_host_among


def check_endpoint(caller: Caller, endpoint: str) -> None:
    """Raises `EndpointNotAllowed` unless plan and credential grant `endpoint`."""
    plan = caller.plan
    narrowed = caller.endpoints is None or allows(caller.endpoints, endpoint)
    denied = bool(plan.deny) and covers(plan.deny, endpoint)
    if denied or not (narrowed and allows(plan.endpoints, endpoint)):
        raise EndpointNotAllowed(f"the plan does not allow the endpoint {endpoint}")


def check_app(caller: Caller, app: str) -> None:
    """Raises `EndpointNotAllowed` unless some allowed endpoint lies under `app`.

    This is for jobs that exist: what the plan denies by now must not lock their owners out.
    """
    narrowed = caller.endpoints is None or allows_app(caller.endpoints, app)
    if not (narrowed and allows_app(caller.plan.endpoints, app)):
        raise EndpointNotAllowed(f"the plan does not allow the endpoint {app}")


def check_submit(caller: Caller) -> None:
    """Raises `Forbidden` for a credential that may only read."""
    if caller.read_only or Scope.SUBMIT not in caller.scopes:
        raise Forbidden("this credential may not submit")
    if caller.jobs is not None:
        raise Forbidden("this credential is for single jobs, not for new ones")


def check_webhook(caller: Caller, webhook: str | None) -> None:
    """Raises `WebhookNotAllowed` where a client names a webhook that its plan does not allow."""
    if webhook is None:
        return
    plan = caller.plan
    if not plan.client_webhooks:
        raise WebhookNotAllowed("the plan does not allow webhooks of clients")
    host = host_of(webhook, loopback_http=True)
    if plan.webhook_hosts and (host is None or not is_host_among(plan.webhook_hosts, host)):
        raise WebhookNotAllowed("the plan does not allow webhooks to this host")


def realtime_app(caller: Caller, alias: str) -> str:
    """The app that a realtime token for `alias` opens. Raises `RealtimeNotAllowed`.

    fal's tokens name an app by its alias alone, so it must stand for exactly one allowed app.
    Who holds one talks to fal without us: of an app with a part that is denied, or with a rule
    on its input, there is none.
    """
    plan = caller.plan
    app = realtime_alias_app(plan.endpoints, alias)
    if not plan.realtime_tokens or app is None:
        raise RealtimeNotAllowed("the plan does not allow realtime tokens for this app")
    restricted = (*plan.deny, *(rule.endpoint for rule in plan.rules))
    if any(overlap(pattern, f"{app}/**") for pattern in restricted):
        raise RealtimeNotAllowed("the plan has rules for this app, which its tokens would evade")
    check_endpoint(caller, app)  # the whole app, not only something below it
    return app


def may_see(caller: Caller, job: Job) -> bool:
    """Is the job the caller's, or is the caller one that reads for the whole team?"""
    if caller.jobs is not None and job.id not in caller.jobs:
        return False
    if job.ref.principal == caller.principal:
        return True
    return Scope.READ in caller.scopes and job.ref.principal.team == caller.principal.team


def may_change(caller: Caller, job: Job) -> bool:
    """Reading for the team does not mean cancelling for it."""
    return may_see(caller, job) and job.ref.principal == caller.principal and not caller.read_only
