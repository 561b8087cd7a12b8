"""``shared.models``: what may be registered, and that secrets are not shown."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.balancers import BalancerStrategy
from shared import choices
from shared.choices import STRATEGIES, EraChoice, Isolation, check_strategy
from shared.connections import MASK, HttpConnection, StdioConnection, mask_url, unmasked
from shared.errors import ConfigError
from shared.models import TRANSITIONS, ServerStatus, make_spec
from shared.transports import parse_connection, parse_transport


def _problems(*arguments: Any, **options: Any) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        make_spec(*arguments, **options)
    return dict(caught.value.problems)


@pytest.mark.parametrize(
    ("raw", "transport", "expected"),
    [
        ({"command": "x"}, None, ("stdio", StdioConnection("x"))),
        ({"command": "x", "args": ["a", "b"], "env": {"K": "v"}, "cwd": "/d"}, "stdio", None),
        ({"url": "http://h/"}, None, ("http", HttpConnection("http://h/"))),
        ({"url": "https://h:8443/p?q=1"}, "http", ("http", HttpConnection("https://h:8443/p?q=1"))),
        ({"url": "http://h/"}, "sse", ("sse", HttpConnection("http://h/", "sse"))),
        ({"url": "http://h/", "type": "sse"}, None, ("sse", HttpConnection("http://h/", "sse"))),
        ({"url": "http://h/", "type": "streamable-http"}, "http", ("http", HttpConnection("http://h/"))),
        ({"url": "http://h/", "transport": "streamable_http"}, None, ("http", HttpConnection("http://h/"))),
        (HttpConnection("http://h/", "sse"), None, ("sse", HttpConnection("http://h/", "sse"))),
        (StdioConnection("x"), "stdio", ("stdio", StdioConnection("x"))),
    ],
)
def test_a_connection_is_told_by_what_is_given(raw: Any, transport: str | None, expected: Any) -> None:
    found = parse_connection(raw, transport)
    assert found == (expected or ("stdio", StdioConnection("x", ("a", "b"), {"K": "v"}, "/d")))


@pytest.mark.parametrize(
    ("raw", "transport", "text"),
    [
        ({}, None, "needs 'url'"),
        ({"command": ""}, None, "needs 'command'"),
        ({"command": ["x"]}, None, "needs 'command'"),
        ({"type": "stdio"}, None, "needs 'command'"),
        ({"url": 5}, None, "needs 'url'"),
        ({"url": "h/mcp"}, None, "not an http://, https:// or unix:// address"),
        ({"url": "file:///etc/passwd"}, None, "not an http://, https:// or unix:// address"),
        ({"url": "http:///x"}, None, "not an http://, https:// or unix:// address"),
        ({"url": "http://h/", "type": "ws"}, None, "unknown transport 'ws'; use stdio, http, sse or openapi"),
        ({"url": "http://h/", "type": "sse"}, "http", "does not fit"),
        ({"command": "x"}, "http", "needs 'url'"),
        (HttpConnection("http://h/"), "sse", "does not fit"),
        ({"command": "x", "headers": {}}, None, "unknown key 'headers'; known: args, command, cwd, env"),
        ({"url": "http://h/", "env": {}}, None, "unknown key 'env'"),
        ({"command": "x", "args": "a b"}, None, "Expected `array`"),
        ({"command": "x", "env": {"K": 1}}, None, "Expected `str`"),
        ({"url": "http://h/", "headers": {"K": 1}}, None, "Expected `str`"),
        (
            {"url": "http://h/", "headers": {"bad name": "x"}},
            None,
            "header 'bad name' is not a valid HTTP header",
        ),
        ({"url": "http://h/", "headers": {"": "x"}}, None, "is not a valid HTTP header"),
        (
            {"url": "http://h/", "headers": {"K": "a\r\nX-Evil: 1"}},
            None,
            "header 'K' is not a valid HTTP header",
        ),
        ({"url": "http://h/", "headers": {"K\n": "a"}}, None, "is not a valid HTTP header"),
    ],
)
def test_a_connection_that_cannot_work_is_refused(raw: Any, transport: str | None, text: str) -> None:
    with pytest.raises((ValueError, msgspec.ValidationError), match=text.replace("(", "\\(")):
        parse_connection(raw, transport)


@pytest.mark.parametrize("value", [None, 5, ["http"], "", "HTTP"])
def test_a_transport_is_one_of_the_known_words(value: Any) -> None:
    with pytest.raises(ValueError, match="use stdio, http, sse or openapi"):
        parse_transport(value)


@pytest.mark.parametrize(
    "id",
    [
        "a",
        "A.b_c@d/e-f",
        "0",
        "x" * 128,
        "Azure MCP Server",
        "高德地图",
        "_local",
        "my__server",
        "-a",
        ".a",
        "é",
        "a:b",
        "👩‍💻",
    ],
)
def test_ids_that_are_fine(id: str) -> None:
    assert make_spec(id, {"command": "x"}).name == id


@pytest.mark.parametrize(
    "id",
    ["", " ", " a", "a ", "/", "..", "./.", "a\n", "a\x1b[0m", "a\u2028b", "a\u202eb", "\ud800", "x" * 129, None, 5],
)
def test_ids_that_are_not(id: Any) -> None:
    problems = _problems(id, {"command": "x"}, name="fine")
    assert list(problems) == ["id"]
    assert "must be 1-128 characters" in problems["id"]


@pytest.mark.parametrize("weight", [0, -1, 1001, 1.0, "1", True, None])
def test_a_weight_is_a_whole_number_in_range(weight: Any) -> None:
    assert list(_problems("a", {"command": "x"}, weight=weight)) == ["weight"]


def test_which_tools_are_shown_is_part_of_the_registration() -> None:
    spec = make_spec("a", {"command": "x"}, include_tools=["a", "b"], exclude_tools=["b"])
    assert [spec.shows(name) for name in "abc"] == [True, False, False]
    assert _problems("a", {"command": "x"}, include_tools={"a": True}) == {
        "include_tools": "must be a list of names of tools"
    }


def test_every_problem_is_named_at_once() -> None:
    problems = _problems("", {}, name="a\n", weight=0, isolation="x", era="y", balancer="z")
    assert set(problems) == {"id", "name", "weight", "connection", "isolation", "era", "balancer"}
    assert problems["balancer"].endswith("is not one of adaptive, least-connections, random, round-robin, weighted")


def test_options_are_given_as_words_or_as_themselves() -> None:
    for isolation, balancer in (("shared", "random"), (Isolation.SHARED, BalancerStrategy.RANDOM)):
        made = make_spec("a", {"command": "x"}, isolation=isolation, balancer=balancer, era="modern")
        assert (made.isolation, made.balancer, made.era) == (
            Isolation.SHARED,
            "random",
            EraChoice.MODERN,
        )
    assert make_spec("a", {"command": "x"}, balancer=None).balancer is None


def test_the_strategies_are_those_that_are_registered() -> None:
    assert (
        list(STRATEGIES)
        == list(BalancerStrategy)
        == ["adaptive", "least-connections", "random", "round-robin", "weighted"]
    )
    for name in STRATEGIES:
        assert check_strategy(name) == name
    with pytest.raises(
        ValueError, match="'Random' is not one of adaptive, least-connections, random, round-robin, weighted"
    ):
        check_strategy("Random")


def test_a_worker_which_registers_no_strategies_takes_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choices, "STRATEGIES", {})
    assert check_strategy("of another version") == "of another version"
    assert make_spec("a", {"command": "x"}, balancer="of another version").balancer == "of another version"


STDIO = StdioConnection("run", ("--key", "hush-arg"), {"KEY": "hush-env"}, "/d")
HTTP = HttpConnection("https://me:hush-pw@h.test:8443/p", "http", {"X-Key": "hush-header"})


@pytest.mark.parametrize("connection", [STDIO, HTTP])
def test_a_repr_names_secrets_but_does_not_tell_them(connection: Any) -> None:
    shown = repr(connection) + repr(make_spec("a", connection)) + str([connection])
    assert "hush" not in shown
    assert "KEY" in shown or "X-Key" in shown


def test_the_public_view_masks_values() -> None:
    assert STDIO.public()["env"] == {"KEY": MASK}
    assert STDIO.public()["cwd"] == "/d"
    assert HTTP.public() == {
        "type": "http",
        "url": f"https://{MASK}@h.test:8443/p",
        "headers": {"X-Key": MASK},
    }


def test_what_is_kept_in_redis_has_everything() -> None:
    for connection in (STDIO, HTTP):
        kept = make_spec("a", connection).connection_json()
        assert msgspec.json.decode(kept, type=type(connection)) == connection


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://h/p?q=1#f", "http://h/p?q=1#f"),
        ("http://me@h/p", f"http://{MASK}@h/p"),
        ("http://me:pw@h/p?q=1", f"http://{MASK}@h/p?q=1"),
        ("http://me:pw@h:81", f"http://{MASK}@h:81"),
        ("http://:pw@h/", f"http://{MASK}@h/"),
        ("http://me:@h/", f"http://{MASK}@h/"),
        ("redis://:p%40w@h:6379/0", f"redis://{MASK}@h:6379/0"),
        ("https://h/mcp?exaApiKey=s3&tools=a", f"https://h/mcp?exaApiKey={MASK}&tools=a"),
        ("https://me:pw@h/?a=1&%74oken=s%3D3&x", f"https://{MASK}@h/?a=1&%74oken={MASK}&x"),
        ("https://h/?key=&keys", "https://h/?key=&keys"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert mask_url(url) == shown


@given(st.text("abcXYZ019_-.~%!$&'*+,;=", min_size=1))
def test_no_password_is_ever_shown(password: str) -> None:
    assert mask_url(f"http://u:{password}@host.test:80/path") == f"http://{MASK}@host.test:80/path"


def test_a_key_in_a_query_that_was_shown_masked_is_kept_where_it_went_before() -> None:
    present = HttpConnection("https://h.test/mcp?api_key=s3&a=1")
    shown = {"url": mask_url(present.url)}
    assert unmasked(shown, present)["url"] == present.url
    for elsewhere in (f"https://evil.test/mcp?api_key={MASK}&a=1", f"https://h.test/mcp?api_key={MASK}"):
        with pytest.raises(ConfigError, match="stands for a secret"):
            unmasked({"url": elsewhere}, present)


def test_every_status_has_a_way_on_and_none_leads_to_itself() -> None:
    assert set(TRANSITIONS) == set(ServerStatus)
    for status, onward in TRANSITIONS.items():
        assert onward
        assert status not in onward
    assert all(ServerStatus.STOPPED in TRANSITIONS[status] for status in ServerStatus if status != "stopped")
    assert ServerStatus.CONNECTED not in TRANSITIONS[ServerStatus.REGISTERED]
