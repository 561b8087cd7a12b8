"""What ``gateway doctor`` finds in the answers of the admin API. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from gateway.cli import show
from shared.transports import traits

_SKEW_S = 30.0
_MANY_RESTARTS = 3
_SLOW_PROBE_MS = 1000.0
_NEARLY_FULL = 0.85
_REDIS_SKEW_S = 5.0


class Finding(NamedTuple):
    """``level`` is ``fine``, ``look`` or ``wrong``; ``do`` says what helps."""

    level: str
    what: str
    do: str = ""


def examined(
    overview: Mapping[str, Any],
    servers: Sequence[Mapping[str, Any]],
    now: float,
    diagnosis: Mapping[str, Any] | None = None,
    quarantine: Sequence[Mapping[str, Any]] = (),
) -> list[Finding]:
    """Return what is found; ``now`` is Unix time here. A gateway of another version may have no ``diagnosis``."""
    soon = []
    if diagnosis is not None:
        soon = [*_redis(diagnosis["redis"] or {}), *_files(diagnosis["files"]), *_audit(diagnosis.get("audit", ""))]
        soon += _authorization_servers(diagnosis.get("authorizationServers", {}))
    return [*_processes(overview, now), *soon, *_pinned(quarantine), *_upstreams(servers)]


def _redis(redis: Mapping[str, Any]) -> Iterator[Finding]:
    if redis.get("persistent") is False:
        yield Finding(
            "look",
            "Redis keeps nothing on disk: what was registered by hand, and client sessions, end with it",
            "set 'appendonly yes' in Redis (or leave out --ephemeral, if it is that of 'gateway up'), or declare every "
            "upstream in the gateway's file",
        )
    if redis.get("saved") is False:
        yield Finding(
            "wrong", "Redis could not write to its disk lately", "look at its log, and at the room on its disk"
        )
    most, used = redis.get("mostBytes") or 0, redis.get("usedBytes") or 0
    if most and redis.get("eviction") not in ("noeviction", ""):
        yield Finding(
            "wrong",
            f"Redis drops keys when its memory is full ({redis['eviction']}): registrations and sessions get lost",
            "set 'maxmemory-policy noeviction' in Redis",
        )
    if most and used > most * _NEARLY_FULL:
        yield Finding("wrong", f"Redis has {used / most:.0%} of its memory in use", "raise its maxmemory")
    if abs(redis.get("aheadS") or 0.0) > _REDIS_SKEW_S:
        yield Finding(
            "look", f"the clock of Redis is {redis['aheadS']:+.0f} s off", "synchronise the clocks (chrony, timesyncd)"
        )


def _audit(trouble: str) -> Iterator[Finding]:
    if trouble:
        yield Finding(
            "wrong",
            f"the audit log cannot be written: {trouble}",
            "make room on its disk, or correct access.audit.file; events wait, and are lost when too many do",
        )


def _authorization_servers(troubles: Mapping[str, str]) -> Iterator[Finding]:
    for server, why in troubles.items():
        yield Finding(
            "wrong",
            f"the authorization server {server} cannot be asked: {why}",
            "callers whose tokens need it are refused; look whether this host reaches it, and at jwksUrl, jwksFile and "
            "url in the rules of access",
        )


def _files(processes: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    for one in processes:
        if one["open"] > one["most"] * _NEARLY_FULL:
            yield Finding(
                "wrong",
                f"{one['process']} {one['pid']} has {one['open']} of {one['most']} file descriptors open",
                "raise the limit (ulimit -n, LimitNOFILE of systemd), or start more of them",
            )


def _processes(overview: Mapping[str, Any], now: float) -> Iterator[Finding]:
    frontends, workers = overview["frontends"], overview["workers"]
    if overview["redis"]:
        yield Finding("fine", "Redis answers")
    else:
        yield Finding(
            "wrong",
            "Redis does not answer: nothing can be registered, sessions are kept in memory",
            "start it, or look at its log and its disk; 'gateway settings' says where it is (redisUrl)",
        )
        if any(one["workers"] for one in frontends):
            yield Finding("fine", "calls are answered: the front end that was asked has links to workers")
            return  # who else there is, only Redis knows
    if not workers and any(one["workers"] for one in frontends):
        yield Finding(
            "wrong",
            "Redis has no record of the workers that answer calls: it takes no writes, or was just emptied",
            "look at its log, its disk and its memory; calls go on meanwhile",
        )
    elif not workers:
        yield Finding(
            "wrong", "no worker is running: no call can be answered", "start one: 'gateway worker', or 'gateway up'"
        )
    else:
        yield Finding(
            "fine", f"alive: {show.counted(len(frontends), 'front end')}, {show.counted(len(workers), 'worker')}"
        )
    for one in frontends:
        if one["workers"] < len(workers):
            yield Finding(
                "wrong",
                f"front end {one['id']} on {one['host']} is linked to {one['workers']} of {len(workers)} workers",
                "workers on other machines need GATEWAY_RPC_BIND and a reachable GATEWAY_RPC_ADVERTISE",
            )
    versions = Counter(one["version"] for one in (*frontends, *workers))
    if len(versions) > 1:
        shown = ", ".join(f"{count} × {version}" for version, count in sorted(versions.items()))
        yield Finding("look", f"several versions run: {shown}", "finish the roll-out, or look why it stopped")
    for one in (*frontends, *workers):
        if one["startedAt"] > now + _SKEW_S:
            yield Finding(
                "look",
                f"the clock of {one['host']} is {one['startedAt'] - now:.0f} s ahead of this machine's",
                "synchronise the clocks (chrony, systemd-timesyncd)",
            )
    for one in workers:
        if one["draining"]:
            yield Finding("look", f"worker {one['id']} on {one['host']} drains", "it ends when its calls are over")
    for name, times in sorted(overview["restarts"].items()):
        level = "wrong" if times >= _MANY_RESTARTS else "look"
        yield Finding(
            level, f"{name} was replaced {times} times", "its last lines are in the log of 'gateway up' or 'serve'"
        )


def _pinned(quarantine: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    for upstream, held in Counter(one["upstream"] for one in quarantine if one["heldBack"]).items():
        yield Finding(
            "look",
            f"upstream {upstream} holds back {show.counted(held, 'tool')} that nobody has approved as listed now",
            f"'gateway tools diff {upstream}' shows what differs, 'gateway tools approve {upstream} TOOL' approves it",
        )


def _more(server: Mapping[str, Any]) -> str:
    """Return where more is said of an upstream. Only one that a worker runs writes error output here."""
    shown = f"'gateway servers show {server['id']}'"
    runs = traits(server["transport"]).runs_once
    return f"{shown} and 'gateway servers logs {server['id']}' say more" if runs else f"{shown} says more"


def _upstreams(servers: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    if not servers:
        yield Finding("look", "no upstream is registered", "gateway servers add ID URL, or: servers add ID -- COMMAND")
        return
    good = 0
    for one in servers:
        health, duty = one.get("lastHealthCheck") or {}, one.get("duty", "active")
        if duty != "active":
            back = f"'gateway servers enable {one['id']}' has it take calls again"
            yield Finding("look", f"upstream {one['id']} is {duty}, because somebody wanted that", back)
            if duty == "disabled":
                continue
        if one["status"] in ("error", "stopped"):
            error = one["error"] or one["status"]
            yield Finding("wrong", f"upstream {one['id']}: {error}", one.get("advice") or _more(one))
        elif one["status"] != "connected":
            yield Finding("look", f"upstream {one['id']} is {one['status']}", f"wait; {_more(one)}")
        elif (health.get("latencyMs") or 0) > _SLOW_PROBE_MS:
            yield Finding(
                "look",
                f"upstream {one['id']} took {health['latencyMs']:.0f} ms to answer its last probe",
                "it is slow or far away: more replicas under the same name share its load",
            )
        else:
            good += 1
        for note in one.get("notes", ()):
            yield Finding("look", f"upstream {one['id']}: {note}")
    if good:
        yield Finding("fine", f"{good} of {len(servers)} upstreams are connected and answer")
