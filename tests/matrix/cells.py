"""What is crossed with what: features, kinds of clients, players of clients, upstreams. Pure.

A ``Cell`` is one combination. ``why_not`` says why one does not exist, from ``NOT_APPLICABLE``, which cites the
specification; ``pairs`` chooses the cells that CI plays, so that every two values that can meet do meet.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple


class Kind(NamedTuple):
    """A client's protocol version and how it comes."""

    version: str
    over_sse: bool = False

    @property
    def modern(self) -> bool:
        return self.version == "2026-07-28"

    def __str__(self) -> str:
        return self.version


class Upstream(NamedTuple):
    """How an upstream is reached and in which era it is spoken to."""

    transport: str
    era: str

    @property
    def id(self) -> str:
        return f"{self.transport}-{self.era}"

    def __str__(self) -> str:
        return self.id


KINDS = (
    Kind("2024-11-05", over_sse=True),
    Kind("2025-03-26"),
    Kind("2025-06-18"),
    Kind("2025-11-25"),
    Kind("2026-07-28"),
)
UPSTREAMS = (
    Upstream("http", "legacy"),
    Upstream("http", "modern"),
    Upstream("stdio", "legacy"),
    Upstream("stdio", "modern"),
    Upstream("sse", "legacy"),
)
PLAYERS = ("python2", "python1", "typescript2", "typescript1")
BOTH_ERAS = ("python2", "typescript2")
WIRE = "wire"
"""Plays what no SDK lets one see or send: raw bytes."""

FEATURES: dict[str, str] = {
    "tools": "tools: list and call",
    "search": "tools that are searched and called by `search_tools` and `call_tool`",
    "tool_errors": "errors of tools, of the protocol, of unknown names",
    "shown": "titles, icons, annotations, `_meta` of entries and content",
    "structured": "structured results and output schemas",
    "pagination": "pages of every list, none lost or twice",
    "prompts": "prompts: list and get",
    "resources": "resources: list and read, text and binary",
    "templates": "resource templates: list and read",
    "completion": "completion for prompts and templates",
    "tools_changed": "tools/list_changed, and the list as it is then",
    "prompts_changed": "prompts/list_changed",
    "resources_changed": "resources/list_changed",
    "subscription": "resource subscriptions, and their end",
    "progress": "progress, in order",
    "cancellation": "cancellation reaches the upstream",
    "logging": "log messages from the asked level up",
    "sampling": "sampling",
    "elicitation": "elicitation by form",
    "url_elicitation": "elicitation by URL",
    "url_required": "URL elicitation asked for by error -32042",
    "elicitation_choices": "forms with defaults and choices",
    "roots": "roots",
    "asked_aside": "asked while no call is in flight",
    "isolation": "clients side by side: state, progress, questions, each its own",
    "resumption": "a lost stream goes on at another front end",
    "ping": "ping",
    "batches": "batches",
    "unknown_members": "`_meta` and unknown members, byte for byte, both ways",
    "big_integers": "integers beyond 64 bits",
    "cache_hints": "`ttlMs` and `cacheScope` where they exist, and only there",
    "param_headers": "`Mcp-Param-*` headers, checked and passed on",
    "tasks": "tasks (the extension), waited for where a client does not know them",
    "task_handles": "tasks: handles, states and cancelling, at any front end",
    "apps": "MCP Apps: `_meta.ui` of a tool, and the `ui://` resource that it names",
    "virtual": "a virtual server: tools and prompts renamed, and what of this table they can do",
}
ON_THE_WIRE = frozenset(
    {"isolation", "resumption", "batches", "unknown_members", "big_integers", "cache_hints", "task_handles"}
)


class NotApplicable(NamedTuple):
    """A feature that some combinations do not have. Empty fields mean any."""

    feature: str
    versions: frozenset[str]
    upstreams: frozenset[str]
    reason: str


BEFORE_2025_06 = frozenset({"2024-11-05", "2025-03-26"})
BEFORE_2025_11 = BEFORE_2025_06 | {"2025-06-18"}
LEGACY = BEFORE_2025_11 | {"2025-11-25"}
MODERN = frozenset({"2026-07-28"})
ANY: frozenset[str] = frozenset()

NOT_APPLICABLE = (
    NotApplicable(
        "structured",
        BEFORE_2025_06,
        ANY,
        "`structuredContent` and `outputSchema` came with 2025-06-18 (its changelog, PR #371)",
    ),
    NotApplicable(
        "elicitation",
        BEFORE_2025_06,
        ANY,
        "elicitation came with 2025-06-18 (its changelog, PR #382)",
    ),
    NotApplicable(
        "elicitation_choices",
        BEFORE_2025_06,
        ANY,
        "elicitation came with 2025-06-18 (its changelog, PR #382)",
    ),
    NotApplicable(
        "elicitation_choices",
        frozenset({"2025-06-18"}),
        ANY,
        "defaults and these choices came with 2025-11-25 (its changelog, SEP-1034, SEP-1330)",
    ),
    NotApplicable(
        "asked_aside",
        MODERN,
        ANY,
        "a 2026-07-28 server asks by the result of a request, never beside one (basic/patterns/mrtr)",
    ),
    NotApplicable(
        "asked_aside",
        ANY,
        frozenset({"http-modern", "stdio-modern"}),
        "a 2026-07-28 server asks by the result of a request, never beside one (basic/patterns/mrtr)",
    ),
    NotApplicable(
        "resumption",
        frozenset({"2024-11-05"}),
        ANY,
        "HTTP+SSE has no event ids to resume from (2024-11-05, basic/transports); its session ends with its stream",
    ),
    NotApplicable("resumption", MODERN, ANY, "2026-07-28 has no resumable streams (its changelog; SEP-2575)"),
    NotApplicable(
        "url_elicitation",
        BEFORE_2025_11,
        ANY,
        "URL mode came with 2025-11-25 (its changelog, SEP-1036)",
    ),
    NotApplicable(
        "url_required",
        BEFORE_2025_11,
        ANY,
        "error -32042 came with URL mode in 2025-11-25 (client/elicitation, URL Elicitation Required Error)",
    ),
    NotApplicable(
        "url_required",
        ANY,
        frozenset({"http-modern", "stdio-modern"}),
        "a 2026-07-28 server asks with an `input_required` result; -32042 is a legacy server's (basic/patterns/mrtr)",
    ),
    NotApplicable(
        "batches",
        LEGACY - {"2025-03-26"},
        ANY,
        "JSON-RPC batches came with 2025-03-26 (its changelog, PR #228) and went with 2025-06-18 (PR #416)",
    ),
    NotApplicable("batches", MODERN, ANY, "no batches since 2025-06-18 (its changelog, PR #416)"),
    *(
        NotApplicable(
            feature,
            ANY,
            frozenset({"http-legacy", "stdio-legacy", "sse-legacy"}),
            "the extension is of 2026-07-28 (extensions/tasks); a legacy server has no such tasks",
        )
        for feature in ("tasks", "task_handles")
    ),
    NotApplicable(
        "task_handles",
        LEGACY,
        ANY,
        "a client of the handshake era has no handles of the extension: the gateway waits for it",
    ),
    NotApplicable("ping", MODERN, ANY, "`ping` is not in 2026-07-28 (its changelog; SEP-2575)"),
)


OWN = frozenset({"roots", "asked_aside", "isolation"})
"""What needs a session of the client's own: a legacy stdio server has one session, for all clients unless each gets a
process of its own by ``isolation: client``."""


def is_own(feature: str, upstream: Upstream) -> bool:
    """Whether this is played on the upstream that gives each client a process."""
    return feature in OWN and upstream.id == "stdio-legacy"


class Cell(NamedTuple):
    """One combination."""

    feature: str
    kind: Kind
    player: str
    upstream: Upstream

    def __str__(self) -> str:
        return f"{self.feature}-{self.kind}-{self.player}-{self.upstream}"


def why_not(feature: str, kind: Kind, upstream: Upstream) -> NotApplicable | None:
    """The row that says that this combination does not exist."""
    for row in NOT_APPLICABLE:
        if (
            row.feature == feature
            and (not row.versions or kind.version in row.versions)
            and (not row.upstreams or upstream.id in row.upstreams)
        ):
            return row
    return None


def players(feature: str, kind: Kind) -> tuple[str, ...]:
    """Who can play a client of this kind with this feature. Both SDKs have the modern era from 2.x on."""
    if feature in ON_THE_WIRE:
        return (WIRE,)
    return BOTH_ERAS if kind.modern else PLAYERS


def every_cell() -> list[Cell]:
    """The whole matrix, in the order of the tables above."""
    return [
        Cell(feature, kind, player, upstream)
        for feature, kind, upstream in itertools.product(FEATURES, KINDS, UPSTREAMS)
        if why_not(feature, kind, upstream) is None
        for player in players(feature, kind)
    ]


def pairs(cells: list[Cell]) -> list[Cell]:
    """A few of these cells in which every two values meet that meet in any. Greedy and deterministic."""
    wanted = {pair for cell in cells for pair in itertools.combinations(enumerate(cell), 2)}
    chosen: list[Cell] = []
    open_cells = {cell: set(itertools.combinations(enumerate(cell), 2)) for cell in cells}
    while wanted:
        best = max(cells, key=lambda cell: len(open_cells[cell]))
        gained = set(open_cells[best])
        chosen.append(best)
        wanted -= gained
        for cell in cells:
            open_cells[cell] -= gained
    return sorted(chosen, key=cells.index)
