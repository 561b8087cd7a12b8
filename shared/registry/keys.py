"""Every Redis key of the gateway.

Values are readable with ``redis-cli``: hashes with one field per fact, JSON for documents.
"""

from __future__ import annotations


class Keys:
    """Key names under one prefix (``gw:`` by default)."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.servers = f"{prefix}servers"
        """zset: upstream ids by registration sequence."""
        self.changes = f"{prefix}changes"
        """stream, bounded: ordered change log; entries carry epoch, seq, kind, id."""
        self.epoch = f"{prefix}epoch"
        """string: the change log's epoch, made anew after Redis was emptied."""
        self.sequence = f"{prefix}seq"
        """string: number of the last change in this epoch."""
        self.workers = f"{prefix}workers"
        """set: ids of workers that may be alive."""
        self.frontends = f"{prefix}frontends"
        """set: ids of front ends that may be alive."""
        self.restarts = f"{prefix}restarts"
        """hash: how often each supervised process was replaced."""
        self.secret = f"{prefix}secret"
        """string: the fleet's key, if none is configured."""
        self.api_keys = f"{prefix}api_keys"
        """hash: API keys by name, as JSON: id, name, digest, roles, createdAt, expiresAt."""
        self.virtual = f"{prefix}virtual"
        """hash: virtual servers by name, as JSON: source (file | api), document."""

        self.audit = f"{prefix}audit"
        """stream, bounded: audit events, as JSON."""

        self.failed_calls = f"{prefix}failed_calls"
        """list, bounded, kept for a day: the last calls that failed, as JSON."""

    def server(self, id: str) -> str:
        """hash: one upstream: name, transport, connection, weight, status, error, eras, owners."""
        return f"{self.prefix}server:{id}"

    def pins(self, group: str) -> str:
        """hash: the tools of a pinned group as they were approved: since, tool:NAME (JSON: at, by, tool)."""
        return f"{self.prefix}pins:{group}"

    def told(self, digest: str) -> str:
        """string, expires in a day: a process has told of this piece of news."""
        return f"{self.prefix}told:{digest}"

    def used(self, digest: str) -> str:
        """string, expires with the state: a call went on with this ``requestState``."""
        return f"{self.prefix}used:{digest}"

    def credentials(self, id: str) -> str:
        """hash: tokens for one upstream, sealed with the fleet's key."""
        return f"{self.prefix}credentials:{id}"

    def renewal(self, id: str, place: str) -> str:
        """string, expires within seconds: which process renews one of these tokens."""
        return f"{self.prefix}renewal:{place}:{id}"

    def catalog(self, id: str) -> str:
        """hash: the lists of one upstream (tools, prompts, resources, resource_templates; JSON), digest, listed_at,
        ttl_ms."""
        return f"{self.prefix}catalog:{id}"

    def health(self, id: str) -> str:
        """hash: healthy, latency_ms, error, checked_at, failures, successes."""
        return f"{self.prefix}health:{id}"

    def logs(self, id: str) -> str:
        """list, bounded: the last stderr lines of a stdio upstream."""
        return f"{self.prefix}logs:{id}"

    def worker(self, id: str) -> str:
        """hash with TTL: address, pid, host, started_at, version, load."""
        return f"{self.prefix}worker:{id}"

    def frontend(self, id: str) -> str:
        """hash with TTL: pid, host, started_at, version, calls, in_flight, seen."""
        return f"{self.prefix}frontend:{id}"

    def figures(self, id: str) -> str:
        """string, expires in 60 s: what a process counted, packed (``shared.registry.figures``)."""
        return f"{self.prefix}figures:{id}"

    def inflight(self, frontend: str) -> str:
        """hash, expires in 3 s: calls in flight by upstream, as absolute numbers."""
        return f"{self.prefix}inflight:{frontend}"

    def roll(self, supervisor: str) -> str:
        """string (JSON), kept for a day: the last rolling restart of a supervisor, host:pid."""
        return f"{self.prefix}roll:{supervisor}"

    def session(self, sid: str) -> str:
        """hash with TTL: one client session."""
        return f"{self.prefix}session:{sid}"

    def ended(self, sid: str) -> str:
        """string, kept for a minute: this client session has ended, and must not be written back."""
        return f"{self.prefix}ended:{sid}"

    def tokens(self, limit: str) -> str:
        """hash with TTL: the bucket of one limit of one principal: tokens, at (ms)."""
        return f"{self.prefix}tokens:{limit}"

    def slots(self, limit: str) -> str:
        """hash: how many calls under way each front end may have for one limit of one principal."""
        return f"{self.prefix}slots:{limit}"

    def outbox(self, sid: str) -> str:
        """stream, bounded, with TTL: messages for a client's standing stream; ``…:state`` (hash): bytes, seq."""
        return f"{self.prefix}outbox:{sid}"

    def wake(self, frontend: str) -> str:
        """pub/sub channel of one front end; a message names a session whose outbox has something new."""
        return f"{self.prefix}wake:{frontend}"
