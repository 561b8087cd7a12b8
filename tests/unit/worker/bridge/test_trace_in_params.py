"""The trace context in ``_meta``: put in whatever is there, and nothing else is touched."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Refused
from worker.bridge.params import with_trace

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NEW = {"traceparent": PARENT.decode()}
OLD = '"traceparent":"00-x-y-01","tracestate":"o=1"'


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ("", {"_meta": NEW}),
        ("{}", {"_meta": NEW}),
        ("{ }", {"_meta": NEW}),
        ('{"name":"t"}', {"name": "t", "_meta": NEW}),
        ('{"name":"t" }', {"name": "t", "_meta": NEW}),
        ('{"name":"t","_meta":{}}', {"name": "t", "_meta": NEW}),
        ('{"name":"t","_meta":{"a":1}}', {"name": "t", "_meta": {"a": 1, **NEW}}),
        ('{"name":"t", "_meta" : { "a" : 1 } }', {"name": "t", "_meta": {"a": 1, **NEW}}),
        ('{"_meta":{"a":1},"name":"t"}', {"name": "t", "_meta": {"a": 1, **NEW}}),
        ('{"a":1,"_meta":{"a":1},"name":"t"}', {"a": 1, "name": "t", "_meta": {"a": 1, **NEW}}),
        ('{"_meta":{' + OLD + ',"a":1}}', {"_meta": {"a": 1, **NEW}}),
        ('{"_meta":{"a":1,' + OLD + "}}", {"_meta": {"a": 1, **NEW}}),
        ('{"_meta":{"baggage":"b=1"}}', {"_meta": {"baggage": "b=1", **NEW}}),
        ('{"_meta":null}', {"_meta": NEW}),
        # what looks like it, inside of something else
        ('{"arguments":{"_meta":{"a":1}}}', {"arguments": {"_meta": {"a": 1}}, "_meta": NEW}),
        ('{"x":"\\",\\"_meta\\":{}"}', {"x": '","_meta":{}', "_meta": NEW}),
    ],
)
def test_the_context_is_in_meta_and_everything_else_as_it_was(params: str, expected: object) -> None:
    made = with_trace(params.encode(), PARENT, "", "")
    assert json.loads(made) == expected
    assert made.count(b'"traceparent"') == 1


def test_what_goes_along_is_replaced_or_removed() -> None:
    sent = b'{"n":1,"_meta":{"tracestate":"o=1","baggage":"b=1"}}'
    assert json.loads(with_trace(sent, PARENT, 'a="1"', "u=2"))["_meta"] == {
        "tracestate": 'a="1"',
        "baggage": "u=2",
        **NEW,
    }
    assert json.loads(with_trace(sent, PARENT, "", ""))["_meta"] == {"baggage": "b=1", **NEW}


def test_numbers_and_order_stay_as_they_came() -> None:
    sent = b'{"b":1.50,"a":123456789012345678901234567890,"_meta":{"z":1e2}}'
    made = with_trace(sent, PARENT, "", "")
    assert made == b'{"b":1.50,"a":123456789012345678901234567890,"_meta":{"z":1e2,"traceparent":"%b"}}' % PARENT


def test_what_is_no_object_is_refused() -> None:
    for params in (b"[1]", b'{"_meta":[1]}'):
        with pytest.raises(Refused):
            with_trace(params, PARENT, "", "")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10) | st.just("_meta"), inner, max_size=3)
    ),
    max_leaves=8,
)


RESTS = st.dictionaries(st.sampled_from(["name", "arguments", "_metal"]), VALUES)
METAS = st.dictionaries(st.sampled_from(["a", "traceparent", "tracestate", "baggage", "x/traceparent"]), VALUES)


@given(RESTS, st.none() | METAS, st.booleans(), st.booleans())
def test_any_params(rest: dict[str, object], meta: dict[str, object] | None, first: bool, spaced: bool) -> None:
    whole = rest if meta is None else {"_meta": meta, **rest} if first else {**rest, "_meta": meta}
    sent = json.dumps(whole, separators=None if spaced else (",", ":")).encode()
    known = {name: value for name, value in (meta or {}).items() if name not in ("traceparent", "tracestate")}
    assert json.loads(with_trace(sent, PARENT, "", "")) == {**rest, "_meta": {**known, **NEW}}
