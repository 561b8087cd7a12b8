"""``worker.bridge.params``: ``_meta`` fits the upstream's era, everything else stays as it was sent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Refused
from shared.mcp.versions import Era
from worker.bridge.params import translate

LEGACY, MODERN = Era.LEGACY, Era.MODERN
MODERN_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {"sampling": {}},
    "io.modelcontextprotocol/clientInfo": {"name": "c"},
    "io.modelcontextprotocol/logLevel": "debug",
}


def _params(**meta: Any) -> bytes:
    return json.dumps({"name": "t", "arguments": {"a": 1}, **({"_meta": meta} if meta else {})}).encode()


@pytest.mark.parametrize("era", Era)
@given(params=st.binary())
def test_within_one_era_nothing_is_touched(era: Era, params: bytes) -> None:
    assert translate(params, era, era, None) is params


@pytest.mark.parametrize("era", Era)
def test_within_one_era_only_the_progress_token_is_replaced(era: Era) -> None:
    params = b'{ "x": 1.0, "_meta": {"a": 1.0, "progressToken": "client\'s"}, "y":2 }'
    expected = b'{"x":1.0,"_meta":{"a":1.0,"progressToken":17},"y":2}'
    assert translate(params, era, era, 17) == expected


def test_a_legacy_client_gets_the_meta_that_a_modern_upstream_needs() -> None:
    sent = translate(_params(own=1), LEGACY, MODERN, None, b'{"roots":{}}', b'{"name":"c"}')
    assert json.loads(sent)["_meta"] == {
        "own": 1,
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"roots": {}},
        "io.modelcontextprotocol/clientInfo": {"name": "c"},
    }


def test_who_the_client_is_may_be_unknown() -> None:
    assert json.loads(translate(b"", LEGACY, MODERN, None))["_meta"] == {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }


def test_a_legacy_upstream_sees_no_modern_meta() -> None:
    sent = json.loads(translate(_params(own=1, progressToken="p", **MODERN_META), MODERN, LEGACY, 3))
    assert sent == {"name": "t", "arguments": {"a": 1}, "_meta": {"own": 1, "progressToken": 3}}


def test_meta_that_became_empty_is_left_out() -> None:
    assert json.loads(translate(_params(**MODERN_META), MODERN, LEGACY, None)) == {
        "name": "t",
        "arguments": {"a": 1},
    }
    assert translate(json.dumps({"_meta": MODERN_META}).encode(), MODERN, LEGACY, None) == b""
    assert translate(b"", MODERN, LEGACY, None) == b""


def test_a_token_reaches_an_upstream_without_other_params() -> None:
    assert json.loads(translate(b"", LEGACY, LEGACY, 5)) == {"_meta": {"progressToken": 5}}


@pytest.mark.parametrize(("client", "upstream"), [(LEGACY, MODERN), (MODERN, LEGACY), (MODERN, MODERN)])
def test_what_is_not_meta_keeps_its_bytes_and_order(client: Era, upstream: Era) -> None:
    params = b'{"z":123456789012345678901234567890,"a":{ "_meta" : 1.10 },"m":"\\u00e9\\/"}'
    sent = translate(params, client, upstream, 1)
    assert sent.startswith(params[:-1])


@pytest.mark.parametrize("params", [b"[]", b"5", b'{"_meta":5}', b'{"_meta":null}', b'{"_meta":[]}'])
def test_params_or_meta_that_are_no_object_are_invalid_params(params: bytes) -> None:
    with pytest.raises(Refused) as caught:
        translate(params, LEGACY, MODERN, None)
    assert caught.value.code == "invalid_params"


_NAMES = st.sampled_from(["name", "_meta", 'say ","_meta":{}', "arguments"])
_VALUES = st.recursive(
    st.sampled_from([{}, MODERN_META, 1, ',"_meta":{}}', [MODERN_META]]),
    lambda inner: st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(_NAMES, _VALUES, max_size=4),
    st.sampled_from([{}, {"own": 1}, MODERN_META, {"own": {"_meta": MODERN_META}, **MODERN_META}]),
    st.integers(0, 4),
    st.sampled_from([(",", ":"), (", ", ": ")]),
)
def test_a_legacy_upstream_gets_the_rest_wherever_meta_stands(
    others: dict[str, Any], meta: dict[str, Any], place: int, separators: tuple[str, str]
) -> None:
    items = [(name, value) for name, value in others.items() if name != "_meta"]
    items.insert(place, ("_meta", meta))
    sent = translate(json.dumps(dict(items), separators=separators).encode(), MODERN, LEGACY, None)
    left = {name: value for name, value in meta.items() if name not in MODERN_META}
    got = json.loads(sent or b"{}")
    assert got.pop("_meta", {}) == left
    assert list(got.items()) == [item for item in items if item[0] != "_meta"]


@pytest.mark.parametrize("name", ['"_meta"', '"\\u005fmeta"', '"_met\\u0061"'])
@pytest.mark.parametrize("last", [{}, {"own": 1}, MODERN_META])
def test_of_two_metas_the_last_counts_and_the_first_is_not_seen(name: str, last: dict[str, Any]) -> None:
    forged, meant = '{"progressToken":4711}', json.dumps(last, separators=(",", ":"))
    again = f"{name}:{forged}"
    for sent in (
        f'{{{again},"a":1,"_meta":{meant}}}',
        f'{{"a":1,{again},"_meta":{meant}}}',
        f'{{"_meta":{meant},{again},"a":1,"_meta":{meant}}}',
    ):
        assert b"4711" not in translate(sent.encode(), MODERN, LEGACY, None)
