"""``gateway.listener.heads``: what the express lane may carry, and that what was read before is not read again."""

from __future__ import annotations

import pytest

from gateway.admission.dns_rebinding import RebindingGuard
from gateway.listener.heads import Heads, endpoint_at, framing_fault, read_head, target_fault
from shared.settings import build

GUARD = RebindingGuard(build())
MAX_BODY = 1024 * 1024
PLAIN = ("POST /mcp HTTP/1.1", "Host: localhost:4000", "Content-Type: application/json", "Content-Length: 5")


def _raw(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode()


def test_a_plain_head_is_framed() -> None:
    raw = _raw(*PLAIN, "Mcp-Session-Id: s1", "MCP-Protocol-Version: 2025-11-25")
    framed = read_head(raw, GUARD, MAX_BODY)
    assert framed is not None
    assert (framed.size, framed.length, framed.keep_alive, framed.plain) == (len(raw), 5, True, True)
    assert (framed.head.session, framed.head.headers.version, framed.head.has_body) == ("s1", "2025-11-25", True)


def test_a_session_header_without_a_value_is_none() -> None:
    framed = read_head(_raw(*PLAIN, "Mcp-Session-Id: "), GUARD, MAX_BODY)
    assert framed is not None and framed.head.session is None


@pytest.mark.parametrize(
    "lines",
    [
        ("GET /mcp HTTP/1.1", *PLAIN[1:]),
        ("POST /mcp?x=1 HTTP/1.1", *PLAIN[1:]),
        ("POST /servers/a%20b/mcp HTTP/1.1", *PLAIN[1:]),
        (*PLAIN, "Origin: http://localhost"),
        PLAIN[:3],
        (PLAIN[0], *PLAIN[2:]),
        (*PLAIN, "Host: localhost"),
        (*PLAIN, "Mcp-Session-Id: a", "Mcp-Session-Id: b"),
        (PLAIN[0], "Host: evil.example", *PLAIN[2:]),
    ],
)
def test_what_is_not_plain_takes_the_ordinary_lane(lines: tuple[str, ...]) -> None:
    """So does who is refused: that is said before the body is looked at."""
    framed = read_head(_raw(*lines), GUARD, MAX_BODY)
    assert framed is not None and not framed.plain


@pytest.mark.parametrize(
    "lines",
    [
        ("POST /mcp HTTP/1.0", *PLAIN[1:]),
        (*PLAIN[:3], "Transfer-Encoding: chunked"),
        (*PLAIN, "Expect: 100-continue"),
        (*PLAIN, "Content-Encoding: gzip"),
        (*PLAIN, "Upgrade: websocket", "ClientConnection: upgrade"),
        (*PLAIN[:3], "Content-Length: 5, 5"),
        (*PLAIN[:3], "Content-Length: -1"),
        (*PLAIN[:3], f"Content-Length: {'0' * 5000}5"),
        ("nonsense",),
    ],
)
def test_what_cannot_be_framed_beyond_doubt_is_left_to_an_http_server(lines: tuple[str, ...]) -> None:
    assert read_head(_raw(*lines), GUARD, MAX_BODY) is None


def test_the_same_bytes_are_read_once_and_alike_headers_are_shared() -> None:
    heads = Heads(GUARD, MAX_BODY)
    first, again = heads.read(_raw(*PLAIN, "Mcp-Session-Id: a")), heads.read(_raw(*PLAIN, "Mcp-Session-Id: a"))
    other = heads.read(_raw(*PLAIN, "Mcp-Session-Id: b"))
    assert first is again and first is not None and other is not None and other is not first
    assert first.head.headers is other.head.headers
    assert (first.head.session, other.head.session) == ("a", "b")


@pytest.mark.parametrize(
    ("target", "hosts", "clear"),
    [
        ("/mcp", ["localhost"], True),
        ("*", ["localhost"], True),
        ("http://localhost:4000/mcp", ["localhost:4000"], True),
        ("HTTP://LOCALHOST/mcp", ["localhost"], True),
        ("http://evil.example/mcp", ["localhost"], False),
        ("http://localhost/mcp", ["evil.example"], False),
        ("http://localhost@evil.example/mcp", ["localhost"], False),
        ("http://localhost/mcp", [], False),
        ("localhost:80", ["localhost"], False),
    ],
)
def test_a_target_must_not_name_another_host(target: str, hosts: list[str], clear: bool) -> None:
    assert (target_fault(target, hosts) is None) is clear


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Type: application/json", "Content-Type: text/plain"),
        ("Content-Type: application/json", "Sec-Fetch-Site: none", "Sec-Fetch-Site: cross-site"),
    ],
)
def test_headers_that_are_there_twice_are_refused_where_readers_could_differ(lines: tuple[str, ...]) -> None:
    head = read_head(_raw("POST /mcp HTTP/1.1", "Host: localhost", "Content-Length: 2", *lines), GUARD, 100)
    assert head is not None and head.head.refusal is not None and not head.plain


def test_what_is_kept_of_heads_is_bounded_in_bytes() -> None:
    heads = Heads(GUARD, MAX_BODY)
    first = _raw(*PLAIN, "Authorization: Bearer 0")
    kept = heads.read(first)
    assert heads.read(first) is kept
    for number in range(5000):
        heads.read(_raw(*PLAIN, f"Authorization: Bearer {'x' * 6000}{number}"))
    assert heads.read(first) is not kept, "the oldest make room"


def test_heads_of_a_session_that_is_over_are_forgotten() -> None:
    heads = Heads(GUARD, MAX_BODY)
    raws = [_raw(*PLAIN, f"Mcp-Session-Id: {sid}", f"X-Number: {number}") for sid in "ab" for number in range(3)]
    kept = [heads.read(raw) for raw in raws]
    heads.forget_session("a")
    heads.forget_session("never seen")
    assert [heads.read(raw) is one for raw, one in zip(raws, kept, strict=True)] == [False] * 3 + [True] * 3
    for number in range(5000):  # the oldest make room, also among those of sessions
        heads.read(_raw(*PLAIN, f"Mcp-Session-Id: {number % 7}", f"X: {'x' * 6000}{number}"))
    for sid in [*"ab", *map(str, range(7))]:
        heads.forget_session(sid)
    assert heads.read(raws[0]) is not kept[0]


@pytest.mark.parametrize(("length", "plain"), [(MAX_BODY, True), (MAX_BODY + 1, False)])
def test_a_body_over_the_limit_is_refused_by_the_ordinary_lane(length: int, plain: bool) -> None:
    framed = read_head(_raw(*PLAIN[:-1], f"Content-Length: {length}"), GUARD, MAX_BODY)
    assert framed is not None and framed.plain is plain


def test_spaces_around_a_value_are_not_part_of_it() -> None:
    raw = _raw(*PLAIN, "Mcp-Name: \t echo \t ", "Mcp-Method:tools/call  ", "Mcp-Session-Id:  s1 ")
    framed = read_head(raw, GUARD, MAX_BODY)
    assert framed is not None
    headers = framed.head.headers
    assert (headers.raw_name, headers.method, framed.head.session) == ("echo", "tools/call", "s1")


@pytest.mark.parametrize(
    ("version", "headers", "fault"),
    [
        ((1, 1), {"Transfer-Encoding": "chunked"}, ""),
        ((1, 1), {"Content-Length": "1"}, ""),
        ((1, 0), {"Content-Length": "1"}, ""),
        ((1, 1), {"Content-Length": f"{'0' * 5000}1"}, "15 digits"),
        ((1, 0), {"Transfer-Encoding": "chunked"}, "HTTP/1.0"),
        ((1, 1), {"Transfer-Encoding": "chunked", "Content-Length": "1"}, "both"),
    ],
)
def test_two_ways_to_say_where_a_request_ends_are_a_fault(
    version: tuple[int, int], headers: dict[str, str], fault: str
) -> None:
    found = framing_fault(version, headers)
    assert fault in found if found is not None else not fault


@pytest.mark.parametrize(
    ("path", "endpoint"),
    [
        ("/mcp", ""), ("/servers/desk/mcp", "desk"), ("/servers/a.b-c_1/mcp", "a.b-c_1"),
        ("/servers/a%20b/mcp", None), ("/servers//mcp", None), ("/servers/../mcp", None), ("/servers/a/b/mcp", None),
        ("/mcp/", None), ("/mcp?discovery=search", None), ("/servers/a/mcp?x", None), ("/servers/a/sse", None),
        ("http://h/servers/a/mcp", None), ("/servers/a/mcp\n", None),
    ],
)  # fmt: skip
def test_groups_and_virtual_servers_take_the_express_lane(path: str, endpoint: str | None) -> None:
    assert endpoint_at(path) == endpoint
