"""The life of a job, script by script, on a Redis that refuses two slots in one script."""

import asyncio
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import cast
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from gateway.core.forms import event_json
from gateway.core.meters import nothing_asked
from gateway.core.model import (
    End,
    EventType,
    JobRef,
    Kind,
    Principal,
    Progress,
    State,
    Where,
)
from gateway.store import keys
from gateway.store.connect import source
from gateway.store.due import Leases
from gateway.store.feeds import Feeds
from gateway.store.ledger import LOG_LINES, Ended, Ledger, Opening, expired

pytestmark = pytest.mark.anyio

ALICE = Principal("team-a", Kind.USER, "alice")
OPENING = Opening(ask_after=60.0, pull=False)
DONE = End(State.COMPLETED, 200, Where.STORED, body=b'{"seed": 18446744073709551616}')
QUEUED = Progress(State.QUEUED, position=3)
RUNNING = Progress(State.RUNNING)


def new_ref(principal: Principal = ALICE) -> JobRef:
    shard = bytes.fromhex(keys.shard_of_team(principal.team))
    id = str(UUID(bytes=shard + uuid4().bytes[1:]))
    return JobRef(id, principal, "fal-ai/flux/dev", 1_700_000_000.5)


@pytest.fixture
def ledger(node: Redis) -> Ledger:
    return Ledger(node, retention=3600)


async def types(node: Redis, ref: JobRef) -> list[str]:
    return [str(event.type) for event in (await Feeds(node).of_job(ref.id, "0-0")).events]


async def test_from_open_to_end(ledger: Ledger, node: Redis) -> None:
    ref = new_ref()

    assert await ledger.open(
        ref, Opening(60.0, pull=True, metadata=b'{"a": 1}'), nothing_asked(0.0)
    )
    assert (await ledger.accept(ref, "fal-1", "main", QUEUED, 5.0))[:2] == ("accepted", False)
    assert await ledger.progress(ref, replace(RUNNING, logs=(b'{"message":"hi"}',)))
    assert await ledger.end(ref, DONE) is Ended.ENDED

    job = await ledger.read(ref.id)
    assert job is not None
    assert (job.ref, job.state, job.fal_id, job.pull) == (ref, State.COMPLETED, "fal-1", True)
    assert job.metadata == b'{"a": 1}'
    assert job.end == replace(DONE, body=None)
    assert await ledger.result(ref.id, 2**20) == DONE.body
    assert await types(node, ref) == [
        "job.created", "job.queued", "job.started", "job.log", "job.completed"
    ]  # fmt: skip
    assert job.version == "5-0"


async def test_open_leaves_what_is_there(ledger: Ledger) -> None:
    """A webhook made the job from its ticket before the submit's own write arrived."""
    ref = new_ref()
    await ledger.open(ref, OPENING, nothing_asked(0.0))
    await ledger.end(ref, DONE)

    assert (await ledger.open(ref, OPENING, nothing_asked(0.0))).word == "there"

    job = await ledger.read(ref.id)
    assert job is not None
    assert job.state is State.COMPLETED


@pytest.mark.parametrize(
    "second", [DONE, End(State.FAILED, 500, Where.STORED, body=b"{}"), expired()]
)
async def test_an_end_is_written_once(ledger: Ledger, node: Redis, second: End) -> None:
    """Whatever comes after the first end changes nothing, and tells nobody."""
    ref = new_ref()
    await ledger.open(ref, OPENING, nothing_asked(0.0))

    first = await asyncio.gather(*(ledger.end(ref, DONE) for _ in range(20)))
    assert await ledger.end(ref, second) is Ended.BEFORE
    assert not await ledger.progress(ref, RUNNING)
    assert not await ledger.lost(ref, 60)

    assert sorted(first) == sorted([Ended.ENDED, *[Ended.BEFORE] * 19])
    assert await ledger.result(ref.id, 2**20) == DONE.body
    assert await types(node, ref) == ["job.created", "job.completed"]
    assert (await ledger.cancel(ref))[0] == "ended"


async def test_a_second_fal_id_is_not_written(ledger: Ledger) -> None:
    ref = new_ref()
    await ledger.open(ref, OPENING, nothing_asked(0.0))
    await ledger.accept(ref, "fal-1", "main", QUEUED, 5.0)

    assert (await ledger.accept(ref, "fal-2", "main", QUEUED, 5.0))[:2] == ("other", False)
    assert await ledger.end(ref, DONE, fal_id="fal-2") is Ended.OTHER
    assert await ledger.end(ref, DONE, fal_id="fal-1") is Ended.ENDED


async def test_accept_after_the_end_adds_the_id_alone(ledger: Ledger, node: Redis) -> None:
    """The webhook overtook the answer to the submit."""
    ref = new_ref()
    await ledger.open(ref, OPENING, nothing_asked(0.0))
    await ledger.end(ref, DONE)

    assert (await ledger.accept(ref, "fal-1", "main", QUEUED, 5.0))[:2] == ("ended", False)

    job = await ledger.read(ref.id)
    assert job is not None
    assert (job.state, job.fal_id) == (State.COMPLETED, "fal-1")
    [(due, at)] = cast(
        list[tuple[bytes, float]],
        await node.zrange(keys.due(keys.shard_of_job(ref.id)), 0, -1, withscores=True),
    )
    assert (due.decode(), at) == (ref.id, job.ended_at and job.ended_at * 1000)  # to be settled


async def test_end_binds_the_id_of_an_unknown_job(ledger: Ledger, node: Redis) -> None:
    ref = new_ref()
    await ledger.open(ref, OPENING, nothing_asked(0.0))
    assert await ledger.lost(ref, 60)

    assert await ledger.end(ref, DONE, fal_id="fal-9") is Ended.ENDED

    job = await ledger.read(ref.id)
    assert job is not None
    assert job.fal_id == "fal-9"
    assert await types(node, ref) == ["job.created", "job.unknown", "job.completed"]


async def test_lost_and_refused_only_while_fal_has_not_got_it(ledger: Ledger) -> None:
    ref = new_ref()
    await ledger.open(ref, OPENING, nothing_asked(0.0))
    await ledger.accept(ref, "fal-1", "main", QUEUED, 5.0)

    assert not await ledger.lost(ref, 60)
    assert await ledger.end(ref, DONE, unaccepted=True) is Ended.KEPT


async def test_quiet_end_needs_silence(ledger: Ledger, node: Redis) -> None:
    """A job that fal spoke of a moment ago is not given up."""
    ref = new_ref()
    await ledger.open(ref, OPENING, nothing_asked(0.0))

    assert await ledger.end(ref, expired(), quiet=3600) is Ended.KEPT
    await node.hincrby(keys.job(ref.id), "sign", -3_600_001)
    assert await ledger.end(ref, expired(), quiet=3600) is Ended.ENDED


async def test_cancel_before_fal_has_an_id_is_told_to_accept(ledger: Ledger) -> None:
    ref = new_ref()
    await ledger.open(ref, OPENING, nothing_asked(0.0))

    assert await ledger.cancel(ref) == ("asked", None)
    assert (await ledger.accept(ref, "fal-1", "main", QUEUED, 5.0))[:2] == ("accepted", True)
    assert await ledger.cancel(ref) == ("asked", "fal-1")


async def test_fal_may_go_back_to_its_queue(ledger: Ledger, node: Redis) -> None:
    ref = new_ref()
    await ledger.open(ref, OPENING, nothing_asked(0.0))
    for progress in (QUEUED, RUNNING, RUNNING, QUEUED, QUEUED, Progress(State.QUEUED, 2)):
        assert await ledger.progress(ref, progress)

    assert await types(node, ref) == [
        "job.created", "job.queued", "job.started", "job.queued", "job.queued"
    ]  # fmt: skip


async def test_progress_of_a_former_holder_is_dropped(ledger: Ledger, node: Redis) -> None:
    """Paused while it held the watch, and awake again after another took over."""
    ref = new_ref()
    await ledger.open(ref, OPENING, nothing_asked(0.0))
    old, new = Leases(node, "old"), Leases(node, "new")
    first = await old.take(ref)
    assert await new.take(ref) == 0
    await node.delete(keys.watch(ref.id))  # as when it ran out
    second = await new.take(ref)

    assert second > first > 0
    assert await ledger.progress(ref, RUNNING, second)
    assert not await ledger.progress(ref, QUEUED, first)
    assert await old.take(ref) == 0
    assert await new.take(ref) == second
    await old.release(ref)
    assert await node.exists(keys.watch(ref.id))
    await new.release(ref)
    assert not await node.exists(keys.watch(ref.id))


async def test_no_lease_for_an_ended_job(ledger: Ledger, node: Redis) -> None:
    ref = new_ref()
    await ledger.open(ref, OPENING, nothing_asked(0.0))
    await ledger.end(ref, DONE)

    assert await Leases(node, "a").take(ref) == -1


async def test_a_log_line_is_kept_once(ledger: Ledger, node: Redis) -> None:
    """Each status stream begins with all lines so far."""
    ref = new_ref()
    await ledger.open(ref, OPENING, nothing_asked(0.0))
    lines = tuple(b'{"message":"%d"}' % n for n in range(5))

    await ledger.progress(ref, replace(RUNNING, logs=lines[:3]))
    await ledger.progress(ref, replace(RUNNING, logs=lines))

    _, kept = await ledger.seen(ref.id, "team-a", ALICE, logs=True)
    assert tuple(kept) == lines
    assert (await types(node, ref)).count("job.log") == 5


@pytest.mark.parametrize(
    ("team", "who", "sees"),
    [
        ("team-a", ALICE, True),
        ("team-a", None, True),
        ("team-a", Principal("team-a", Kind.USER, "alic"), False),
        ("team-a", Principal("team-a", Kind.KEY, "alice"), False),
        ("team-a", Principal("team-a", Kind.ANONYMOUS, "alice"), False),
        ("team-b", Principal("team-b", Kind.USER, "alice"), False),
        ("team-b", None, False),
        ("", None, False),
    ],
)
async def test_what_is_anothers_never_leaves_redis(
    team: str, who: Principal | None, sees: bool, ledger: Ledger, node: Redis
) -> None:
    """Nor its log lines; it is as if there were none."""
    ref = new_ref()
    await ledger.open(ref, OPENING, nothing_asked(0.0))
    await ledger.progress(ref, replace(RUNNING, logs=(b'{"message":"a"}',)))

    job, lines = await ledger.seen(ref.id, team, who, logs=True)
    bare = await ledger.seen(ref.id, team, who)
    none = await ledger.seen(new_ref().id, team, who, logs=True)

    assert none == (None, [])
    assert bare == (job, [])
    assert (job, len(lines)) == ((await ledger.read(ref.id), 1) if sees else (None, 0))


async def test_logs_are_bounded(ledger: Ledger, node: Redis) -> None:
    """By lines and by bytes; what happens to the job is still told."""
    ref, other = new_ref(), new_ref()
    for each in (ref, other):
        await ledger.open(each, OPENING, nothing_asked(0.0))

    many = tuple(b'{"message":"%d"}' % n for n in range(LOG_LINES + 50))
    await ledger.progress(ref, replace(RUNNING, logs=many))
    await ledger.progress(other, replace(RUNNING, logs=(b"x" * 200_000, b"y" * 200_000)))
    await ledger.end(ref, DONE)

    assert len((await ledger.seen(ref.id, "team-a", ALICE, logs=True))[1]) == LOG_LINES
    assert len((await ledger.seen(other.id, "team-a", ALICE, logs=True))[1]) == 1
    assert await types(node, ref) != []
    job = await ledger.read(ref.id)
    assert job is not None
    assert job.state is State.COMPLETED


async def test_the_event_of_a_failure_says_why(ledger: Ledger, node: Redis) -> None:
    """Subscribers need not fetch the job to tell their user; there is never a result in it."""
    ref = new_ref()
    await ledger.open(ref, OPENING, nothing_asked(0.0))
    body = b'{"detail": "too long"}'
    await ledger.end(ref, End(State.FAILED, 422, Where.STORED, body=body, error="too long"))

    last = (await Feeds(node).of_job(ref.id, "0-0")).events[-1]

    told = json.loads(event_json(last))
    assert told["error"] == {"type": "job_failed", "message": "too long", "status": 422}
    assert body.decode() not in event_json(last).decode()


async def test_events_are_numbered_for_their_principal(ledger: Ledger, node: Redis) -> None:
    """Two jobs of one principal share the numbers, a second principal has its own; the team's
    stream has all, and log lines stand in the job's alone."""
    bob = Principal("team-a", Kind.USER, "bob")
    one, two, other = new_ref(), new_ref(), new_ref(bob)
    for ref in (one, two, other):
        await ledger.open(ref, OPENING, nothing_asked(0.0))
    await ledger.progress(one, Progress(State.RUNNING, logs=(b'{"message":"x"}',)))
    await ledger.end(two, DONE)

    feeds = Feeds(node)
    own = (await feeds.of_principal(ALICE, "0-0")).events
    assert [(event.id, event.type) for event in own] == [
        ("1-0", EventType.CREATED),
        ("2-0", EventType.CREATED),
        ("3-0", EventType.STARTED),
        ("5-0", EventType.COMPLETED),
    ]
    assert [event.id for event in (await feeds.of_principal(bob, "0-0")).events] == ["1-0"]
    team = (await feeds.of_team("team-a", "0-0")).events
    assert [event.id for event in team] == ["1-0", "2-0", "3-0", "4-0", "5-0"]
    assert [event.version for event in team] == ["1-0", "2-0", "1-0", "3-0", "5-0"]
    assert (await feeds.of_principal(ALICE, "3-0")).events == own[3:]


async def test_a_gap_is_told(ledger: Ledger, node: Redis) -> None:
    """History that is trimmed, gone, or from before a loss; a place at its very end is none."""
    ref = new_ref()
    feeds = Feeds(node)
    await ledger.open(ref, OPENING, nothing_asked(0.0))
    for position in range(5):
        await ledger.progress(ref, Progress(State.QUEUED, position))

    assert not (await feeds.of_job(ref.id, "6-0")).gap
    assert (await feeds.of_job(ref.id, "7-0")).gap
    await node.xtrim(keys.events(ref.id), maxlen=2, approximate=False)
    assert (await feeds.of_job(ref.id, "3-0")).gap
    assert not (await feeds.of_job(ref.id, "4-0")).gap
    await node.delete(keys.events(ref.id))
    assert (await feeds.of_job(ref.id, "6-0")).gap


async def test_lists_are_newest_first_and_by_owner(ledger: Ledger) -> None:
    refs = [replace(new_ref(), created_at=1000.0 + n) for n in range(4)]
    stranger = new_ref(Principal("team-b", Kind.USER, "alice"))
    for ref in (*refs, stranger):
        await ledger.open(ref, OPENING, nothing_asked(0.0))

    first = await ledger.listed(ALICE, None, 3)
    rest = await ledger.listed(ALICE, first.more, 3)

    assert [job.id for job in (*first.jobs, *rest.jobs)] == [ref.id for ref in reversed(refs)]
    assert rest.more is None
    team = await ledger.listed_of_team("team-b", None, 9)
    assert [job.id for job in team.jobs] == [stranger.id]


def test_scripts_use_their_keys_alone(scripts: Path) -> None:
    """Every key that a script touches is one of KEYS, and no script builds one of text."""
    found = sorted(scripts.glob("*.lua"))
    assert len(found) > 10
    for path in found:
        text = re.sub(r"--.*", "", path.read_text())
        for command, key in re.findall(r"redis\.call\('([A-Z]+)',?\s*([^,)]*)", text):
            if command not in {"TIME", "PUBLISH"}:
                assert re.fullmatch(r"KEYS\[\w+\]|key", key.strip()), (path.name, command, key)
        assert text.count("redis.pcall") == 0


def test_scripts_say_what_they_take(scripts: Path) -> None:
    """The header names every KEYS and ARGV that the script uses, and what it returns."""
    for path in scripts.glob("*.lua"):
        text = path.read_text()
        header = "".join(line for line in text.splitlines(True) if line.startswith("--"))
        body = source(path.stem)[len(header) :]
        for number in {int(n) for n in re.findall(r"KEYS\[(\d+)\]", body)}:
            ranges = re.findall(r"KEYS\[(\d+)(?:\.\.(\d+))?\]", header)
            named = any(int(low) <= number <= int(high or low) for low, high in ranges)
            assert named, (path.name, number)
        if not header.startswith("-- Put before"):
            assert "Returns" in header, path.name


async def test_a_second_accept_of_the_same_id_changes_nothing(ledger: Ledger, node: Redis) -> None:
    """Its first answer got lost, and the job has gone on since."""
    ref = new_ref()
    await ledger.open(ref, OPENING, nothing_asked(0.0))
    await ledger.accept(ref, "fal-1", "main", QUEUED, 5.0)
    await ledger.progress(ref, RUNNING)
    before = await types(node, ref)

    assert (await ledger.accept(ref, "fal-1", "main", QUEUED, 5.0))[:2] == ("accepted", False)

    job = await ledger.read(ref.id)
    assert job is not None
    assert job.state is State.RUNNING
    assert await types(node, ref) == before


async def test_an_empty_result_is_kept_too(ledger: Ledger, node: Redis) -> None:
    ref = new_ref()
    await ledger.open(ref, OPENING, nothing_asked(0.0))
    await ledger.end(ref, End(State.FAILED, 504, Where.STORED, body=b""))

    assert await node.get(keys.result(ref.id)) == b""
