"""The tables of transports in ``shared.transports`` and ``worker.transports``: a transport is one row and one file.

Nothing else knows a transport by its name: whoever must know something about one asks its ``TransportTraits``.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import shared.connections
import shared.transports
from shared.mcp.versions import Era
from shared.transports import TransportTraits, UpstreamSessions, parse_transport
from tests.unit.builders import spec
from tests.unit.worker.worker_harness import make_context, timeless
from worker.calls.client_facts import ClientFacts
from worker.transports import DRIVERS
from worker.transports.transport import TransportDriver, UpstreamFacts

ROWS = shared.transports.TRANSPORTS
ROOT = Path(shared.transports.__file__).parent.parent


# ---- one row, one file


def test_every_row_has_a_transport_and_every_transport_a_row() -> None:
    assert set(ROWS) == set(DRIVERS)


def test_a_row_is_found_by_its_own_name() -> None:
    assert {name: row.name for name, row in ROWS.items()} == {name: name for name in ROWS}


def test_every_spelling_means_one_transport() -> None:
    spellings = [(spelling, row.name) for row in ROWS.values() for spelling in row.spellings]
    assert len({spelling for spelling, _ in spellings}) == len(spellings)
    assert all(row.name in row.spellings for row in ROWS.values())
    for spelling, name in spellings:
        assert parse_transport(spelling) == name


def test_every_transport_has_a_file_of_its_own() -> None:
    files = {inspect.getsourcefile(type(transport)) for transport in DRIVERS.values()}
    assert len(files) == len(DRIVERS)


@pytest.mark.parametrize("name", DRIVERS)
def test_a_transport_takes_what_its_protocol_says(name: str) -> None:
    for method in ("reach", "make_pool", "make_session"):
        declared = inspect.signature(getattr(TransportDriver, method))
        assert inspect.signature(getattr(type(DRIVERS[name]), method)) == declared


@pytest.mark.parametrize("own", ["", "s1"])
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
@timeless
async def test_a_transport_makes_sessions_that_open_when_they_are_used(row: TransportTraits, own: str) -> None:
    transport, client = DRIVERS[row.name], ClientFacts("ada")
    facts = UpstreamFacts((Era.LEGACY.word,), row.name, "http://up.test/mcp")
    pool = transport.make_pool(make_context(of=spec("up", transport=row.name)), facts)
    assert (pool is None) is (row.sessions is UpstreamSessions.PROCESS)
    session = transport.make_session(make_context(), Era.LEGACY, pool, client, own)
    assert (session.era, session.client, session.sid_of_client) == (Era.LEGACY, client, own)
    assert not (session.ready or session.opening or session.closed)


# ---- nobody compares names

_SCHEME, _STATUS = "the scheme of a URL", "the HTTP status in an error's data"
ALLOWED = {
    ("gateway/admission/dns_rebinding.py", "scheme in ('http', 'https')"): _SCHEME,
    ("worker/bridge/inputs.py", "parts.scheme == 'http'"): _SCHEME,
    ("gateway/cli/address.py", "parts.scheme in ('http', 'https')"): _SCHEME,
    ("worker/ownership/owner.py", "'http' in failure.data"): _STATUS,
    ("worker/sessions/greeting.py", "refused.data.get('http') in _ABOUT_THE_REQUEST"): _STATUS,
}
"""Where such a word is no name of a transport: file and expression, with the reason."""

_NAME_OF = {spelling: row.name for row in ROWS.values() for spelling in row.spellings}


def _words(node: ast.AST) -> Iterator[str]:
    """The names of transports in a literal, or in a literal collection."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in _NAME_OF:
        yield _NAME_OF[node.value]
    elif isinstance(node, ast.Tuple | ast.List | ast.Set):
        for element in node.elts:
            yield from _words(element)
    elif isinstance(node, ast.Call):  # frozenset({...}), name.startswith("...")
        for argument in node.args:
            yield from _words(argument)


def _compared(node: ast.AST) -> list[str]:
    """The names of transports that something is compared with, or chosen by."""
    if isinstance(node, ast.Compare):
        return [word for operand in (node.left, *node.comparators) for word in _words(operand)]
    if isinstance(node, ast.MatchValue):
        return list(_words(node.value))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return list(_words(node)) if node.func.attr in ("startswith", "endswith") else []
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        return list(_words(node.slice))
    if isinstance(node, ast.Dict):  # a choice by name; one such key alone may be anything
        words = [word for key in node.keys if key is not None for word in _words(key)]
        return words if len(set(words)) > 1 else []
    return []


def comparisons(source: str) -> list[tuple[str, str]]:
    """Names of transports that ``source`` compares something with, each with its expression."""
    return [(word, ast.unparse(node)) for node in ast.walk(ast.parse(source)) for word in _compared(node)]


def _own_files() -> dict[str, str]:
    return {name: str(inspect.getsourcefile(type(transport))) for name, transport in DRIVERS.items()}


def _found() -> set[tuple[str, str]]:
    own, tables = _own_files(), (shared.transports.__file__, shared.connections.__file__)
    return {
        (path.relative_to(ROOT).as_posix(), expression)
        for package in ("gateway", "worker", "shared")
        for path in (ROOT / package).rglob("*.py")
        if str(path) not in tables
        for name, expression in comparisons(path.read_text())
        if own[name] != str(path)
    }


def test_nothing_but_the_table_and_its_own_file_compares_a_transport_by_its_name() -> None:
    assert _found() - ALLOWED.keys() == set()


def test_every_exception_is_still_needed() -> None:
    assert ALLOWED.keys() - _found() == set()


def test_the_dashboard_knows_no_transport_by_its_name() -> None:
    """It asks the admin API what it must know (``GET /admin/v1/transports``)."""
    quoted = re.compile(rf"""["'`]({"|".join(map(re.escape, _NAME_OF))})["'`]""")
    scripts = [path for path in (ROOT / "gateway/ui/static").rglob("*.js") if path.parent.name != "vendor"]
    assert scripts
    assert {path.name: found[0] for path in scripts if (found := quoted.search(path.read_text()))} == {}


@pytest.mark.parametrize(
    "source",
    [
        "x.transport == 'stdio'",
        "'sse' != kind",
        "x.type in ('http', 'sse')",
        "x.type in frozenset({'stdio'})",
        "x is 'http'",
        "kind.startswith('streamable-http')",
        "{'stdio': run, 'http': post}[kind]",
        "DRIVERS['stdio'].make_session()",
        "match kind:\n    case 'a' | 'sse': pass",
        "y = 1 if spec.transport == 'stdio' else 2",
    ],
)
def test_a_comparison_is_seen_however_it_is_written(source: str) -> None:
    assert comparisons(source)


@pytest.mark.parametrize(
    "source",
    ["x == 'https'", "'stdio'", "f('sse')", "{'http': str(status)}", "DRIVERS['stdio'] = run", "x.stdio == 1"],
)
def test_what_compares_no_name_is_none(source: str) -> None:
    assert not comparisons(source)
