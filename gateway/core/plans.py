"""May this caller make this call?"""

from gateway.core.endpoints import allows, allows_app, realtime_alias_app
from gateway.core.errors import EndpointNotAllowed, Forbidden, RealtimeNotAllowed, WebhookNotAllowed
from gateway.core.model import Caller, Job, Scope


def check_endpoint(caller: Caller, endpoint: str) -> None:
    """Raises `EndpointNotAllowed` unless plan and credential grant `endpoint`."""
    narrowed = caller.endpoints is None or allows(caller.endpoints, endpoint)
    if not (narrowed and allows(caller.plan.endpoints, endpoint)):
        raise EndpointNotAllowed(f"the plan does not allow the endpoint {endpoint}")


def check_app(caller: Caller, app: str) -> None:
    """Raises `EndpointNotAllowed` unless some allowed endpoint lies under `app`."""
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
    """Raises `WebhookNotAllowed` where a client names a webhook and its plan has none."""
    if webhook is not None and not caller.plan.client_webhooks:
        raise WebhookNotAllowed("the plan does not allow webhooks of clients")


def realtime_app(caller: Caller, alias: str) -> str:
    """The app that a realtime token for `alias` opens. Raises `RealtimeNotAllowed`.

    fal's tokens name an app by its alias alone, so it must stand for exactly one allowed app.
    """
    app = realtime_alias_app(caller.plan.endpoints, alias)
    if not caller.plan.realtime_tokens or app is None:
        raise RealtimeNotAllowed("the plan does not allow realtime tokens for this app")
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
