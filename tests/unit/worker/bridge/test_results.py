"""``worker.bridge.results``: a client gets what its era knows, and nothing silently lost."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import CallError
from shared.mcp.versions import Era
from worker.bridge.results import not_found, plain, translate, typed

LEGACY, MODERN = Era.LEGACY, Era.MODERN
LONG = b"x" * 10_000


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b'{"content":[]}', b'{"resultType":"complete","content":[]}'),
        (b"{ }", b'{"resultType":"complete"}'),
        (b'{"resultType":"input_required"}', b'{"resultType":"input_required"}'),
        (b"[1]", b"[1]"),
        (b'{"a":"%b"}' % LONG, b'{"resultType":"complete","a":"%b"}' % LONG),
        (b'{"a":"%b","resultType":"x","b":"%b"}' % (LONG, LONG),) * 2,
        (b'{"a":"%b","resultType":"x"}' % LONG,) * 2,
    ],
)
def test_a_modern_result_without_a_type_is_complete(sent: bytes, told: bytes) -> None:
    assert typed(sent) == told


@pytest.mark.parametrize(
    ("result", "says_so"),
    [
        (b'{"resultType":"complete","a":"%b"}' % LONG, True),
        (b' { "resultType" : "complete" , "a":"%b"}' % LONG, True),
        (b'{"a":"%b","resultType":"complete"}' % LONG, True),
        (b'{"a":"%b" , "resultType": "complete" } ' % LONG, True),
        (b'{"a":"%b"}' % LONG, False),
        (b'{"resultType":"input_required","a":"%b"}' % LONG, False),
        (b'{"a":"%b","resultType":"input_required"}' % LONG, False),
        (b'{"a":"%b","structuredContent":{"b":1,"resultType":"complete"}}' % LONG, False),
        (b'{"structuredContent":{"resultType":"complete"},"a":"%b"}' % LONG, False),
        (b'{"a":"%b,\\"resultType\\":\\"complete\\"}"}' % LONG, False),
    ],
)
def test_a_large_result_says_first_or_last_that_it_is_complete(result: bytes, says_so: bool) -> None:
    assert plain(memoryview(result)) is says_so


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (b'{"code":-32602,"message":"m","data":{"uri":"a:b"}}', b'{"code":-32002,"message":"m","data":{"uri":"a:b"}}'),
        (b'{"code":-32602,"message":"m"}',) * 2,
        (b'{"code":-32602,"message":"m","data":"uri"}',) * 2,
        (b'{"code":-32603,"message":"m","data":{"uri":"a:b"}}',) * 2,
    ],
)
def test_a_resource_that_is_not_there_has_a_code_of_its_own_for_legacy_clients(error: bytes, told: bytes) -> None:
    assert not_found(error) == told


@pytest.mark.parametrize("era", Era)
@given(result=st.binary())
def test_within_one_era_nothing_is_touched(era: Era, result: bytes) -> None:
    assert translate(result, era, era) is result


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (b"{}", b'{"resultType":"complete"}'),
        (b'{ "content":[ ],"n":1.10}', b'{"resultType":"complete","content":[ ],"n":1.10}'),
        (b'{"n":1,"resultType":"other"}', b'{"n":1,"resultType":"other"}'),
    ],
)
def test_a_modern_client_is_told_that_a_legacy_result_is_complete(result: bytes, expected: bytes) -> None:
    assert translate(result, MODERN, LEGACY) == expected


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (b'{"resultType":"complete","content":[ 1.0 ]}', b'{"content":[ 1.0 ]}'),
        (b'{"tools":[],"ttlMs":5,"cacheScope":"private","resultType":"complete"}', b'{"tools":[]}'),
        (
            b'{"content":[],"isError":true,"_meta":{"ttlMs":1}}',
            b'{"content":[],"isError":true,"_meta":{"ttlMs":1}}',
        ),
        (b'{"structuredContent":{"a":1.0}}', b'{"structuredContent":{"a":1.0}}'),
        (b'{"structuredContent":[1],"content":[]}', b'{"content":[]}'),
        (b'{"structuredContent":"text","content":[]}', b'{"content":[]}'),
        (b'{"structuredContent":null,"content":[]}', b'{"content":[]}'),
    ],
)
def test_a_legacy_client_gets_only_members_that_it_knows(result: bytes, expected: bytes) -> None:
    assert translate(result, LEGACY, MODERN) == expected


@pytest.mark.parametrize("result", [b"[]", b"5", b"null", b'"x"'])
@pytest.mark.parametrize(("client", "upstream"), [(LEGACY, MODERN), (MODERN, LEGACY)])
def test_a_result_that_is_no_object_is_the_upstreams_fault(result: bytes, client: Era, upstream: Era) -> None:
    with pytest.raises(CallError, match="not an object") as caught:
        translate(result, client, upstream)
    assert caught.value.code == "upstream_protocol"


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (
            b'{"contents":[ ]}',
            b'{"resultType":"complete","contents":[ ],"ttlMs":0,"cacheScope":"private"}',
        ),
        (
            b'{"ttlMs":5,"cacheScope":"public","contents":[]}',
            b'{"resultType":"complete","ttlMs":5,"cacheScope":"public","contents":[]}',
        ),
    ],
)
def test_a_legacy_resource_may_not_be_cached_unless_it_says_so(result: bytes, expected: bytes) -> None:
    assert translate(result, MODERN, LEGACY, "resources/read") == expected


@pytest.mark.parametrize("method", ["", "tools/call", "prompts/get", "completion/complete"])
def test_other_results_have_no_caching_hints(method: str) -> None:
    assert translate(b'{"n":1.0}', MODERN, LEGACY, method) == b'{"resultType":"complete","n":1.0}'


def test_a_legacy_client_gets_no_caching_hints() -> None:
    modern = b'{"resultType":"complete","ttlMs":5,"cacheScope":"public","contents":[ ]}'
    assert translate(modern, LEGACY, MODERN, "resources/read") == b'{"contents":[ ]}'


NAMES = st.text(max_size=6).filter(lambda name: name not in ("ttlMs", "cacheScope", "resultType"))
RESULTS = st.dictionaries(NAMES, st.integers() | st.text() | st.lists(st.integers()), max_size=5)


@given(RESULTS, st.sampled_from(["tools/call", "prompts/get", "resources/read"]))
def test_a_legacy_result_survives_the_way_to_modern_and_back(result: dict[str, object], method: str) -> None:
    body = json.dumps(result).encode()
    assert json.loads(translate(translate(body, MODERN, LEGACY, method), LEGACY, MODERN, method)) == result
