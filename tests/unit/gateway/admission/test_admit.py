"""``gateway.admission.admit``: one decision on who asks, whichever lane the request came by."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from aiohttp.test_utils import make_mocked_request
from msgspec import structs
from multidict import CIMultiDict

from gateway.access.principal import ANONYMOUS, Principal
from gateway.admission.admit import Admission, SessionRead
from gateway.admission.caller import Caller, Waits
from gateway.admission.dns_rebinding import RebindingGuard
from gateway.admission.principals import Everybody, Principals
from gateway.admission.request_head import RequestHead
from gateway.listener.heads import read_head
from gateway.listener.routes import head_of
from gateway.routing.catalog import Catalog
from gateway.routing.derived import filtered
from gateway.routing.steps import Steps
from gateway.routing.view import View
from gateway.routing.views import Views
from gateway.sessions.session import ClientSession
from shared.errors import Refused
from shared.mcp.jsonrpc import Message, Params
from shared.mcp.versions import Era
from shared.settings import RoutingSettings, build
from tests.unit.builders import record
from tests.unit.gateway.fakes import ADA, request

GUARD = RebindingGuard(build())
VERSION, CAPABILITIES = "io.modelcontextprotocol/protocolVersion", "io.modelcontextprotocol/clientCapabilities"
META = f'{{"_meta":{{"{VERSION}":"2026-07-28","{CAPABILITIES}":{{}}}}}}'
MODERN = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list"}
WORDS = "unknown or ended session; send initialize again"


class Known:
    """``KnownSessions``: those that were given; it notes how often each was used."""

    def __init__(self, *sessions: ClientSession) -> None:
        self.sessions = {one.sid: one for one in sessions}
        self.used: list[str] = []

    def cached(self, sid: str, principal: str | None = None) -> ClientSession | None:
        """See ``KnownSessions``."""
        found = self.sessions.get(sid)
        if found is not None and principal is not None and found.principal != principal:
            return None
        self.used.append(sid)
        return found

    def again(self, session: ClientSession) -> bool:
        """See ``KnownSessions``."""
        return self.sessions.get(session.sid) is session


class As:
    """``Principals`` for whom everybody is the same one, or something is to be awaited, or nobody counts."""

    def __init__(self, principal: Principal | Waits | Refused) -> None:
        self.principal = principal

    def of(self, head: RequestHead) -> Principal | Waits:
        """See ``Principals``."""
        if isinstance(self.principal, Refused):
            raise self.principal
        return self.principal

    async def resolve(self, head: RequestHead) -> None:
        """See ``Principals``."""

    def step_up(self, head: RequestHead, scopes: tuple[str, ...], text: str) -> str:
        """See ``Principals``."""
        return ""


class HidesB:
    """A ``ViewPolicy``: all classes but that of ``ADA`` do not see the group ``b``."""

    def applying(self, view: View, policy_class: str) -> Steps[View]:
        """See ``ViewPolicy``."""
        key = (view.endpoint, policy_class)
        yield
        return filtered(view, key, lambda kind, name, route: policy_class == ADA.policy_class or route.group != "b")


def _session(sid: str = "s", principal: str = "ada", endpoint: str = "", version: str = "2025-06-18") -> ClientSession:
    return ClientSession(sid, version, principal, endpoint)


def _admission(*known: ClientSession, principals: Principals | None = None, sessions: Known | None = None) -> Admission:
    catalog = Catalog(RoutingSettings())
    catalog.rebuild({id: record(id, sequence=n, tools=[f"{id}-tool"]) for n, id in enumerate("ab")}, 0.0)
    return Admission(principals or As(ADA), Views(catalog, HidesB()), sessions or Known(*known))


# ---- heads of either lane


def _express(headers: dict[str, str]) -> RequestHead:
    lines = ["POST /mcp HTTP/1.1", "Content-Length: 2", *(f"{name}: {value}" for name, value in headers.items())]
    framed = read_head("\r\n".join([*lines, "", ""]).encode(), GUARD, 1024)
    assert framed is not None
    return framed.head


def _ordinary(headers: dict[str, str]) -> RequestHead:
    return head_of(make_mocked_request("POST", "/mcp", CIMultiDict(headers)), GUARD)


HOST = {"Host": "localhost", "Content-Type": "application/json"}
LANES = pytest.mark.parametrize("lane", [_express, _ordinary], ids=["express", "ordinary"])
Lane = Callable[[dict[str, str]], RequestHead]


def _outcome(admission: Admission, head: RequestHead, message: Message, params: Params) -> object:
    """What is decided, in a form that can be compared."""
    try:
        caller = admission.admit(head, message, params)
    except Refused as error:
        return error.code, str(error)
    return (caller.principal.id, caller.era, caller.version, caller.session) if isinstance(caller, Caller) else caller


@pytest.mark.parametrize(
    ("headers", "method", "params", "expected"),
    [
        ({}, "ping", "{}", (Era.LEGACY, "2025-03-26", None)),
        ({"MCP-Protocol-Version": "2025-11-25"}, "ping", "{}", (Era.LEGACY, "2025-11-25", None)),
        ({"MCP-Protocol-Version": ""}, "ping", "{}", (Era.LEGACY, "2025-03-26", None)),
        ({"Mcp-Session-Id": "s"}, "ping", "{}", (Era.LEGACY, "2025-06-18", "s")),
        ({"mcp-session-id": "s", "MCP-PROTOCOL-VERSION": "2025-11-25"}, "ping", "{}", (Era.LEGACY, "2025-06-18", "s")),
        ({"Mcp-Session-Id": "other"}, "ping", "{}", Waits.SESSION),
        ({"Mcp-Session-Id": "stale"}, "initialize", "{}", (Era.LEGACY, "2025-03-26", None)),
        (MODERN, "tools/list", META, (Era.MODERN, "2026-07-28", None)),
        ({**MODERN, "Mcp-Session-Id": "s"}, "tools/list", META, (Era.MODERN, "2026-07-28", None)),
        ({"Mcp-Method": "tools/list"}, "tools/list", META, "header_mismatch"),
        ({**MODERN, "Mcp-Method": "tools/call"}, "tools/list", META, "header_mismatch"),
        (MODERN, "tools/list", "{}", "invalid_params"),
        ({"MCP-Protocol-Version": "2027-01-01"}, "tools/list", "{}", "invalid_params"),
        (
            {"MCP-Protocol-Version": "2027-01-01", "Mcp-Method": "tools/list"},
            "tools/list",
            META.replace("2026-07-28", "2027-01-01"),
            "version_unsupported",
        ),
        ({"Mcp-Session-Id": "s"}, "tools/list", META, "header_mismatch"),
    ],
)
@LANES
def test_the_era_and_the_session_are_decided_alike_in_both_lanes(
    headers: dict[str, str], method: str, params: str, expected: object, lane: Lane
) -> None:
    session = _session()
    message, decoded = request(method, params)
    outcome = _outcome(_admission(session), lane({**HOST, **headers}), message, decoded)
    if isinstance(expected, str):
        assert isinstance(outcome, tuple) and outcome[0] == expected
    elif isinstance(expected, tuple):
        era, version, sid = expected
        assert outcome == ("ada", era, version, session if sid else None)
    else:
        assert outcome is expected


@LANES
def test_headers_that_came_twice_are_refused_in_the_modern_era(lane: Lane) -> None:
    message, params = request("tools/list", META)
    head = lane({**HOST, **MODERN})
    head.headers = structs.replace(head.headers, repeated="Mcp-Method")
    assert _outcome(_admission(), head, message, params) == (
        "header_mismatch",
        "Mcp-Method header appears more than once",
    )


def test_what_agreed_with_a_head_once_is_compared_again_where_it_differs() -> None:
    """Heads of the same bytes are one object, and mostly come with the same ``_meta``."""
    head, admission = _express({**HOST, **MODERN, "Mcp-Method": "tools/call", "Mcp-Name": "a-tool"}), _admission()

    def outcome(method: str, name: str) -> object:
        return _outcome(admission, head, *request(method, META.replace("{", f'{{"name":"{name}",', 1)))

    for _ in range(2):
        assert outcome("tools/call", "a-tool") == ("ada", Era.MODERN, "2026-07-28", None)
    assert outcome("tools/call", "b-tool") == ("header_mismatch", "Mcp-Name header 'a-tool' differs from params.name")
    assert outcome("prompts/get", "a-tool") == (
        "header_mismatch",
        "Mcp-Method header 'tools/call' differs from the body",
    )
    assert outcome("tools/call", "a-tool") == ("ada", Era.MODERN, "2026-07-28", None)


def test_both_lanes_notice_a_header_that_came_twice() -> None:
    raw = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nMcp-Method: a\r\nMcp-Method: b\r\n\r\n"
    framed = read_head(raw, GUARD, 1024)
    several = CIMultiDict([("Host", "localhost"), ("Mcp-Method", "a"), ("Mcp-Method", "b")])
    ordinary = head_of(make_mocked_request("POST", "/mcp", several), GUARD)
    assert framed is not None
    assert framed.head.headers == ordinary.headers and ordinary.headers.repeated == "Mcp-Method"


@pytest.mark.parametrize(
    "headers",
    [
        {**MODERN, "Mcp-Name": "=?base64?w6k=?=", "Mcp-Param-Region": "eu"},
        {"Mcp-Session-Id": "s", "MCP-Protocol-Version": "2025-11-25"},
        {"Host": "evil.example"},
        {"Host": "evil.example", "Origin": "https://evil.example"},
        {"Origin": "http://localhost:3000"},
        {"Mcp-Name": "é"},
    ],
)
def test_both_lanes_read_the_same_head(headers: dict[str, str]) -> None:
    assert _express({**HOST, **headers}) == _ordinary({**HOST, **headers})


# ---- before the body


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {**HOST, "Origin": "https://evil.example"}])
@LANES
def test_who_is_foreign_is_forbidden_before_anything_else_is_looked_at(headers: dict[str, str], lane: Lane) -> None:
    admission = _admission(principals=As(Refused("invalid_request", "bad token")))
    message, params = request("tools/list", META)
    for arguments in ((), (message, params)):
        with pytest.raises(Refused) as caught:
            admission.admit(lane(headers), *arguments)
        assert caught.value.code == "forbidden" and "not allowed" in str(caught.value)


@LANES
def test_before_the_body_is_read_only_the_body_is_missing(lane: Lane) -> None:
    for headers in (HOST, {**HOST, **MODERN}, {**HOST, "Mcp-Session-Id": "nonsense"}):
        assert _admission().admit(lane(headers)) is Waits.BODY


def test_a_request_without_a_body_is_decided_by_its_head() -> None:
    session = _session()
    admission = _admission(session)

    def head(**headers: str) -> RequestHead:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return head_of(make_mocked_request("GET", "/mcp", CIMultiDict({**HOST, **named})), GUARD, has_body=False)

    caller = admission.admit(head(Mcp_Session_Id="s"))
    assert isinstance(caller, Caller) and caller.session is session
    caller = admission.admit(head())
    assert isinstance(caller, Caller) and (caller.era, caller.session) == (Era.LEGACY, None)
    caller = admission.admit(head(MCP_Protocol_Version="2026-07-28"))
    assert isinstance(caller, Caller) and caller.era is Era.MODERN
    assert admission.admit(head(Mcp_Session_Id="t")) is Waits.SESSION


# ---- principals


def test_without_authentication_everybody_is_nobody() -> None:
    message, params = request("ping")
    caller = _admission(principals=Everybody()).admit(_ordinary(HOST), message, params)
    assert isinstance(caller, Caller) and caller.principal is ANONYMOUS and not caller.principal.id


def test_credentials_that_do_not_count_are_refused_before_the_body() -> None:
    with pytest.raises(Refused, match="bad token"):
        _admission(principals=As(Refused("forbidden", "bad token"))).admit(_ordinary(HOST))


def test_what_a_principal_has_to_wait_for_is_passed_on() -> None:
    assert _admission(principals=As(Waits.SESSION)).admit(_ordinary(HOST)) is Waits.SESSION


@pytest.mark.parametrize(("policy_class", "tools"), [(ADA.policy_class, ["a-tool", "b-tool"]), ("few", ["a-tool"])])
@pytest.mark.parametrize("params", ["{}", META])
def test_a_caller_sees_what_its_principal_may_see(policy_class: str, tools: list[str], params: str) -> None:
    admission = _admission(principals=As(Principal("x", "user", policy_class)))
    head = _ordinary({**HOST, **(MODERN if params == META else {})})
    caller = admission.admit(head, *request("tools/list", params))
    assert isinstance(caller, Caller)
    assert [name for routes in caller.view.routes.values() for name in routes] == tools


# ---- sessions


STALE = SessionRead(None)


@pytest.mark.parametrize(
    ("known", "read"),
    [
        ([], STALE),
        ([], SessionRead(_session(principal="bob"))),
        ([], SessionRead(_session(endpoint="a"))),
        ([_session(principal="bob")], STALE),
        ([_session(endpoint="a")], None),
        ([_session(principal="", endpoint="a")], STALE),
    ],
    ids=["ended", "read, of somebody else", "read, elsewhere", "of somebody else", "elsewhere", "both"],
)
@pytest.mark.parametrize("endpoint", ["", "b"])
def test_a_session_that_does_not_count_is_refused_in_the_same_words(
    known: list[ClientSession], read: SessionRead | None, endpoint: str
) -> None:
    head = _ordinary({**HOST, "Mcp-Session-Id": "s"})
    head.endpoint = endpoint
    with pytest.raises(Refused) as caught:
        _admission(*known).admit(head, *request("ping"), read)
    assert (caught.value.code, str(caught.value), caught.value.wire.http) == ("session_unknown", WORDS, 404)
    assert head.found is None


def test_a_session_is_served_at_its_own_endpoint() -> None:
    session = _session(endpoint="a")
    head = _ordinary({**HOST, "Mcp-Session-Id": "s"})
    head.endpoint = "a"
    caller = _admission(session).admit(head, *request("ping"))
    assert isinstance(caller, Caller)
    assert (caller.session, caller.view.endpoint) == (session, "a")


def test_a_session_that_was_read_is_served() -> None:
    head = _ordinary({**HOST, "Mcp-Session-Id": "s"})
    admission = _admission()
    assert admission.admit(head, *request("ping")) is Waits.SESSION
    session = _session()
    caller = admission.admit(head, *request("ping"), SessionRead(session))
    assert isinstance(caller, Caller) and caller.session is session


def test_a_session_that_was_found_is_not_looked_up_again_until_it_does_not_count_any_more() -> None:
    session = _session()
    catalog = Catalog(RoutingSettings())
    known = Known(session)
    admission = Admission(As(ADA), Views(catalog), known)
    head = _express({**HOST, "Mcp-Session-Id": "s"})
    for _ in range(3):
        caller = admission.admit(head, *request("ping"))
        assert isinstance(caller, Caller) and caller.session is session
    assert known.used == ["s"], "the head remembers it"
    del known.sessions["s"]
    assert admission.admit(head, *request("ping")) is Waits.SESSION


def test_a_head_that_remembers_a_session_still_asks_whose_it_is() -> None:
    """One head serves all requests of the same bytes; who sent them is decided each time."""
    session = _session()
    head = _express({**HOST, "Mcp-Session-Id": "s"})
    principals = As(ADA)
    admission = _admission(session, principals=principals)
    assert isinstance(admission.admit(head, *request("ping")), Caller)
    principals.principal = Principal("bob", "user")
    with pytest.raises(Refused, match=WORDS):
        admission.admit(head, *request("ping"))


@pytest.mark.parametrize("sid", ["stale", "s", ""])
@LANES
def test_an_initialize_begins_anew_whatever_session_it_names(sid: str, lane: Lane) -> None:
    headers = {**HOST, "Mcp-Session-Id": sid, "MCP-Protocol-Version": "2025-11-25"}
    caller = _admission(_session()).admit(lane(headers), *request("initialize"))
    assert isinstance(caller, Caller)
    assert (caller.era, caller.version, caller.session) == (Era.LEGACY, "2025-11-25", None)


# ---- where the transport decides the era


def _sse(sid: str | None) -> RequestHead:
    return structs.replace(_ordinary({**HOST, **MODERN}), era=Era.LEGACY, session=sid, has_body=False)


def test_http_sse_is_of_the_handshake_era_whatever_is_said() -> None:
    session = _session(version="2024-11-05")
    admission = _admission(session)
    for arguments in ((), request("tools/list", META), request("initialize")):
        caller = admission.admit(_sse("s"), *arguments)
        assert isinstance(caller, Caller)
        assert (caller.era, caller.version, caller.session) == (Era.LEGACY, "2024-11-05", session)
    caller = admission.admit(_sse(None))
    assert isinstance(caller, Caller) and (caller.era, caller.session) == (Era.LEGACY, None)


def test_an_initialize_on_http_sse_is_of_the_session_that_the_stream_opened() -> None:
    admission = _admission()
    assert admission.admit(_sse("s"), *request("initialize")) is Waits.SESSION
    with pytest.raises(Refused, match=WORDS):
        admission.admit(_sse(""), *request("initialize"), STALE)


@LANES
def test_anothers_session_that_is_known_here_takes_the_way_of_one_that_never_was(lane: Lane) -> None:
    theirs = _session("theirs", principal="eve")
    sessions = Known(theirs, _session("mine"))
    admission = _admission(sessions=sessions)
    message, params = request("ping", "{}")
    asked = [_outcome(admission, lane({**HOST, "Mcp-Session-Id": sid}), message, params) for sid in ("theirs", "never")]
    assert asked == [Waits.SESSION, Waits.SESSION]
    assert theirs.sid not in sessions.used
