"""Every key in Redis, its type, and how long it lives. Nothing else spells a key.

`{xx}` is the shard: the first byte, in hex, of the SHA-256 of the team's id, and the first two
digits of each of its job ids. It is the hash tag, so that every step on a job is one script in
one slot. Principals and teams stand as digests of fixed width: no name can imitate another. A
subject is one of them, or an address that anonymous visitors come from.

key                             type    lives                         written by
fgw:{xx}:job:<job>              hash    open: JOB_MAX; ended: kept    open, accept, end and others
fgw:{xx}:result:<job>           string  results.retention             end, settle
fgw:{xx}:logs:<job>             zset    as the job                    progress
fgw:{xx}:events:<job>           stream  as the job                    all that emit
fgw:{xx}:watch:<job>            string  6 s                           lease
fgw:{xx}:input:<job>            string  the longest wait, and more    open, park
fgw:{xx}:inputs:<team>          hash    the longest wait, and more    open, park, accept, end
fgw:{xx}:inputs-end:<team>      zset    the longest wait, and more    open, park, admit, end
fgw:{xx}:waiting:<subject>      zset    while jobs wait               open, park, admit, end
fgw:{xx}:at-fal:<team>          zset    while jobs are queued there   accept, progress, end
fgw:{xx}:slots:<subject>        zset    JOB_MAX after the last job    open, admit, end
fgw:{xx}:meter:<subject>        hash    2 days after the last call     open, meter, upload
fgw:{xx}:streams:<subject>      zset    20 s after the last renewal   seat
fgw:{xx}:parts:<ticket>         hash    2 h after the last part       upload
fgw:{xx}:spend:<subject>        hash    100 days after the last one    open, settle, tally
fgw:{xx}:usage:<subject>:<day>  hash    101 days after its last job   settle, tally
fgw:{xx}:people:<team>          zset    101 days after the last job   settle, tally
fgw:{xx}:told:<process>         string  1 h after its last batch      tally
fgw:{xx}:seq:<principal>        string  FEED after the last event     all that emit
fgw:{xx}:feed:<principal>       stream  FEED after the last event     all that emit
fgw:{xx}:jobs:<principal>       zset    FEED after the last job       open
fgw:{xx}:team-seq:<team>        string  FEED after the last event     all that emit
fgw:{xx}:team-feed:<team>       stream  FEED after the last event     all that emit
fgw:{xx}:team-jobs:<team>       zset    FEED after the last job       open
fgw:{xx}:due                    zset    while jobs are open           open, accept, end, again
fgw:{xx}:outbox                 zset    while deliveries are due      end, attempt, later
fgw:{xx}:delivery:<delivery>    hash    FEED                          end, attempt
fgw:shards                      set     for good                      Ledger.open
fgw:teams                       zset    101 days after the last job   Settlements.settle
fgw:queues                      zset    while jobs wait               Queues.announce
fgw:{revoked}:set               hash    for good; jtis go in time     revoke
fgw:{revoked}:until             zset    while jtis are in the set     revoke
fgw:{revoked}:changes           zset    as the set                    revoke
fgw:{revoked}:version           string  for good                      revoke
fgw:{registry}:version          string  for good                      register
fgw:{registry}:floor            string  for good                      register
fgw:{registry}:changes          zset    for good                      register
fgw:{registry}:keys             hash    for good                      register
fgw:{registry}:plans            hash    for good                      register
fgw:{registry}:names            hash    for good                      register
fgw:{accounts}:out              hash    a day after its last change   out, probes, probed
fgw:{account:<name>}:slots      zset    until the last place ends     take, renew, hand
fgw:{account:<name>}:waits      string  as its writer says            Slots.say_waiting
fgw:{audit}:log                 stream  for good, the oldest go       Audit.write
fgw:wake                        channel -                             all that emit
"""

from hashlib import sha256
from typing import Final

from gateway.core.limits import Of
from gateway.core.model import JobRef, Principal

FEED: Final = 7 * 86_400
"""Seconds that a principal's feed, its counter and its list of jobs outlive their last write."""
JOB_MAX: Final = 4 * 86_400
"""Seconds that an open job can stay in Redis: its maximum age, its retention, and slack."""

SHARDS: Final = "fgw:shards"
TEAMS: Final = "fgw:teams"
QUEUES: Final = "fgw:queues"
WAKE: Final = "fgw:wake"
REVOKED: Final = "fgw:{revoked}:set"
REVOKED_UNTIL: Final = "fgw:{revoked}:until"
REVOKED_CHANGES: Final = "fgw:{revoked}:changes"
REVOKED_VERSION: Final = "fgw:{revoked}:version"
REGISTRY_VERSION: Final = "fgw:{registry}:version"
REGISTRY_FLOOR: Final = "fgw:{registry}:floor"
REGISTRY_CHANGES: Final = "fgw:{registry}:changes"
REGISTRY_KEYS: Final = "fgw:{registry}:keys"
REGISTRY_PLANS: Final = "fgw:{registry}:plans"
REGISTRY_NAMES: Final = "fgw:{registry}:names"
ACCOUNTS_OUT: Final = "fgw:{accounts}:out"
AUDIT: Final = "fgw:{audit}:log"

REGISTRY: Final = (
    REGISTRY_VERSION,
    REGISTRY_FLOOR,
    REGISTRY_CHANGES,
    REGISTRY_KEYS,
    REGISTRY_PLANS,
    REGISTRY_NAMES,
)
"""All of the registry, in the order in which its script takes them."""
REVOCATIONS: Final = (REVOKED, REVOKED_VERSION, REVOKED_UNTIL, REVOKED_CHANGES)
"""All of the revocations, in the order in which their script takes them."""
PERMANENT: Final = (AUDIT, *REGISTRY, SHARDS, QUEUES, *REVOCATIONS)
"""Keys that may live without a lifetime; so may the due list and the outbox, which end empty."""


def shard_of_team(team: str) -> str:
    return sha256(team.encode()).hexdigest()[:2]


def shard_of_job(job_id: str) -> str:
    return job_id[:2]


def shard_in(key: str) -> str:
    """The shard that a key is in, by its hash tag."""
    return key.partition("{")[2].partition("}")[0]


def team_digest(team: str) -> str:
    return sha256(f"team\0{team}".encode()).hexdigest()[:32]


def due(shard: str) -> str:
    return f"fgw:{{{shard}}}:due"


def outbox(shard: str) -> str:
    return f"fgw:{{{shard}}}:outbox"


def delivery(shard: str, delivery_id: str) -> str:
    return f"fgw:{{{shard}}}:delivery:{delivery_id}"


def address_digest(address: str) -> str:
    return sha256(f"address\0{address}".encode()).hexdigest()[:32]


def subject(of: Of, principal: Principal, address: str | None) -> str | None:
    """The digest that a limit counts under; None for the address of who has none."""
    match of:
        case Of.PRINCIPAL:
            return principal.digest
        case Of.TEAM:
            return team_digest(principal.team)
        case Of.ADDRESS:
            return None if address is None else address_digest(address)


def queue_input(job_id: str) -> str:
    return f"fgw:{{{shard_of_job(job_id)}}}:input:{job_id}"


def inputs(team: str) -> str:
    return f"fgw:{{{shard_of_team(team)}}}:inputs:{team_digest(team)}"


def inputs_end(team: str) -> str:
    return f"fgw:{{{shard_of_team(team)}}}:inputs-end:{team_digest(team)}"


def waiting(shard: str, digest: str) -> str:
    return f"fgw:{{{shard}}}:waiting:{digest}"


def at_fal(team: str) -> str:
    return f"fgw:{{{shard_of_team(team)}}}:at-fal:{team_digest(team)}"


def slots(shard: str, digest: str) -> str:
    return f"fgw:{{{shard}}}:slots:{digest}"


def meter(shard: str, digest: str) -> str:
    return f"fgw:{{{shard}}}:meter:{digest}"


def streams(shard: str, digest: str) -> str:
    return f"fgw:{{{shard}}}:streams:{digest}"


def parts(shard: str, digest: str) -> str:
    return f"fgw:{{{shard}}}:parts:{digest}"


def spend(shard: str, digest: str) -> str:
    return f"fgw:{{{shard}}}:spend:{digest}"


def usage(shard: str, digest: str, day: str) -> str:
    return f"fgw:{{{shard}}}:usage:{digest}:{day}"


def told(shard: str, process: str) -> str:
    """`process` is a name that it gave itself."""
    return f"fgw:{{{shard}}}:told:{process}"


def people(team: str) -> str:
    return f"fgw:{{{shard_of_team(team)}}}:people:{team_digest(team)}"


def job(job_id: str) -> str:
    return f"fgw:{{{shard_of_job(job_id)}}}:job:{job_id}"


def result(job_id: str) -> str:
    return f"fgw:{{{shard_of_job(job_id)}}}:result:{job_id}"


def logs(job_id: str) -> str:
    return f"fgw:{{{shard_of_job(job_id)}}}:logs:{job_id}"


def events(job_id: str) -> str:
    return f"fgw:{{{shard_of_job(job_id)}}}:events:{job_id}"


def watch(job_id: str) -> str:
    return f"fgw:{{{shard_of_job(job_id)}}}:watch:{job_id}"


def feed(principal: Principal) -> str:
    return f"fgw:{{{shard_of_team(principal.team)}}}:feed:{principal.digest}"


def jobs(principal: Principal) -> str:
    return f"fgw:{{{shard_of_team(principal.team)}}}:jobs:{principal.digest}"


def team_feed(team: str) -> str:
    return f"fgw:{{{shard_of_team(team)}}}:team-feed:{team_digest(team)}"


def team_jobs(team: str) -> str:
    return f"fgw:{{{shard_of_team(team)}}}:team-jobs:{team_digest(team)}"


def account_slots(account: str) -> str:
    """`account` is a name from the settings, in a form of theirs."""
    return f"fgw:{{account:{account}}}:slots"


def account_waits(account: str) -> str:
    return f"fgw:{{account:{account}}}:waits"


def emitting(ref: JobRef) -> list[str]:
    """The six keys that every script which emits an event takes first, in this order."""
    tag = f"fgw:{{{shard_of_job(ref.id)}}}"
    principal, team = ref.principal.digest, team_digest(ref.principal.team)
    return [
        f"{tag}:job:{ref.id}",
        f"{tag}:seq:{principal}",
        f"{tag}:events:{ref.id}",
        f"{tag}:feed:{principal}",
        f"{tag}:team-seq:{team}",
        f"{tag}:team-feed:{team}",
    ]


def holding(ref: JobRef) -> list[str]:
    """What a job holds while it is open: its input, its places in the queue, and in flight, of its
    principal and its team; then what its team has queued at fal, and what bytes of inputs."""
    shard = shard_of_job(ref.id)
    principal, team = ref.principal.digest, team_digest(ref.principal.team)
    return [
        queue_input(ref.id),
        waiting(shard, principal),
        waiting(shard, team),
        slots(shard, principal),
        slots(shard, team),
        at_fal(ref.principal.team),
        inputs(ref.principal.team),
        inputs_end(ref.principal.team),
    ]
