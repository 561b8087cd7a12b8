"""The audit log: who did what, in a file and in Redis, without secrets, and whole."""

from __future__ import annotations

import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.telemetry.audit import verify
from tests.collector import Collector
from tests.e2e.test_access import As, admin, make_key
from tests.e2e.test_metrics import scrape, total
from tests.fleet import Fleet, eventually
from tests.servers.raw import RawUpstreams
from tests.streams import calling

ASKED = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}}


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str, tmp_path_factory: Any, collector: Collector) -> AsyncIterator[Fleet]:
    async with RawUpstreams() as upstreams:
        upstreams.add("search")
        upstreams.add("careful", [{"name": "wipe", "inputSchema": {"type": "object"}}])
        file = tmp_path_factory.mktemp("audit") / "audit.jsonl"
        rules = {
            "authentication": [{"type": "apiKey"}],
            "roles": {"r": {"allow": [{"match": "*", "args": "!has(args.forbidden)"}]}},
            "limits": {"r": {"perTool": {"search/read": "1/h"}}},
            "audit": {"file": str(file), "arguments": "redacted", "redact": ["/secretly"], "chain": True, "otlp": True},
            "confirm": ["careful/*"],
        }
        settings = {"admin_token": "the-admin-token", "access_rules": json.dumps(rules)}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", f"{collector.url}/v1/logs")
            patch.setenv("OTEL_BLRP_SCHEDULE_DELAY", "100")
            running = Fleet(redis_url, frontends=2, workers=1, **settings)
            await running.__aenter__()
        try:
            for name in ("search", "careful"):
                await running.register(name, upstreams.connection(name))
            yield running
        finally:
            await running.__aexit__(None, None, None)


def _file(fleet: Fleet) -> Path:
    return Path(json.loads(fleet.settings.access.access_rules)["audit"]["file"])


def _events(fleet: Fleet, **wanted: Any) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in _file(fleet).read_text().splitlines()] if _file(fleet).exists() else []
    return [one for one in lines if all(one.get(name) == value for name, value in wanted.items())]


async def test_every_call_is_an_event_with_its_outcome_and_without_secrets(fleet: Fleet) -> None:
    key = await make_key(fleet, "ann", "r")
    async with As(fleet.urls[0], key) as client:
        arguments = {"q": "x", "password": "hush", "secretly": {"a": 1}, "note": f"my key is {key}"}
        assert (await client.call("who", arguments)).status == 200
        assert (await client.call("who", {"forbidden": 1})).status == 403
        await client.call("read")
        assert (await client.call("read")).status == 429
    async with As(fleet.urls[1], "gwk_wrong") as client:
        assert (await client.modern("tools/list")).status == 401
    await eventually(lambda: len(_events(fleet, event="call", principal="key:ann")) >= 3, 5.0, "three calls are noted")
    first = _events(fleet, event="call", name="who", principal="key:ann")[0]
    assert (first["outcome"], first["group"], first["upstream"], first["method"]) == (
        "answered", "search", "search", "tools/call",
    )  # fmt: skip
    assert first["arguments"] == {"q": "x", "password": "***", "secretly": "***", "note": "my key is ***"}
    assert first["durationMs"] > 0
    await eventually(lambda: _events(fleet, event="call", outcome="limited"), 5.0, "a limit is noted")
    await eventually(lambda: _events(fleet, event="denied", outcome="arguments_denied"), 5.0, "a denial is noted")
    await eventually(lambda: _events(fleet, event="authentication"), 5.0, "a failed attempt is noted")
    made = await eventually(lambda: _events(fleet, event="admin", name="/admin/v1/keys"), 5.0, "a change is noted")
    assert (made[0]["principal"], made[0]["outcome"]) == ("admin token", "201")
    assert key not in _file(fleet).read_text()
    assert stat.S_IMODE(_file(fleet).stat().st_mode) == 0o600


async def test_events_go_to_a_collector_of_logs_and_names_that_nobody_sees_are_among_them(
    fleet: Fleet, collector: Collector
) -> None:
    key = await make_key(fleet, "otlp", "r")
    async with As(fleet.urls[1], key) as client:
        assert (await client.call("who", {"a": 1})).status == 200
        await client.initialize()
        params = {"name": "hidden_or_not_there", "arguments": {}}
        message = {"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": params}
        await client.post(message, {**client.legacy_headers(), "Mcp-Name": "harmless"})

    def of(kind: str) -> Any:
        facts = {"gateway.principal": "key:otlp", "event.name": f"gateway.audit.{kind}"}
        return [said for found, said in collector.logs if facts.items() <= found.items()]

    (called,) = await eventually(lambda: of("call"), 10.0, "the call is exported, once")
    assert (called["name"], called["arguments"]) == ("who", {"a": 1})
    assert called["requestBytes"] > 0 and called["resultBytes"] > 0
    (denied,) = await eventually(lambda: of("denied"), 10.0, "so is the refusal")
    assert (denied["name"], denied["outcome"]) == ("hidden_or_not_there", "tool_unknown")


async def test_what_is_refused_verified_and_written_is_counted(fleet: Fleet) -> None:
    key = await make_key(fleet, "counted", "r")

    async def counts() -> dict[str, float]:
        # Each front end is an instance of its own here, and shows itself as it is at this moment.
        every = [await scrape(url.replace("/mcp", "/metrics"), "the-admin-token") for url in fleet.urls]
        names = {
            "limited": ("gateway_limited_calls_total", {}),
            "verified": ("gateway_authentications_total", {"outcome": "verified"}),
            "invalid": ("gateway_authentications_total", {"outcome": "invalid_token"}),
            "missing": ("gateway_authentications_total", {"outcome": "missing"}),
            "written": ("gateway_audit_events_total", {"result": "written"}),
        }
        return {word: sum(total(one, name, **labels) for one in every) for word, (name, labels) in names.items()}

    before = await counts()
    async with As(fleet.urls[0], key) as client:
        await client.call("read")
        assert (await client.call("read")).status == 429
    for credentials in ("gwk_wrong", None):
        async with As(fleet.urls[1], credentials) as client:
            assert (await client.modern("tools/list")).status == 401

    async def more() -> dict[str, float]:
        now = await counts()
        return {name: value - before[name] for name, value in now.items()}

    async def counted() -> bool:
        found = await more()
        return found.pop("written") >= 3 and found == {"limited": 1, "verified": 1, "invalid": 1, "missing": 1}

    await eventually(counted, 10.0, "all of it is counted, once")


async def _pair(fleet: Fleet, principal: str, action: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The question to somebody, and the answer."""

    def found() -> Any:
        events = _events(fleet, event="elicitation", principal=principal)
        answers = [one for one in events if one["outcome"] == action]
        return [
            (asked, one)
            for one in answers
            for asked in events
            if asked["outcome"] == "asked" and asked["question"] == one["question"]
        ]

    pairs = await eventually(found, 5.0, f"{principal} was asked and said {action}")
    return pairs[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("action", ["accept", "decline"])
async def test_who_was_asked_and_what_they_answered_is_noted_in_both_eras(fleet: Fleet, action: str) -> None:
    key = await make_key(fleet, f"modern-{action}", "r")
    async with As(fleet.urls[0], key) as client:
        asked = (await client.call("wipe", meta=ASKED)).body["result"]
        (question,) = asked["inputRequests"]
        answer = {question: {"action": action}}
        params = {"name": "wipe", "arguments": {}, "inputResponses": answer, "requestState": asked["requestState"]}
        await client.modern("tools/call", params, meta=ASKED)
    before, after = await _pair(fleet, f"key:modern-{action}", action)
    facts = ("method", "group", "name", "upstream")
    assert [before[name] for name in facts] == [after[name] for name in facts]
    assert (before["name"], before["group"], before["mode"]) == ("wipe", "careful", "form")

    key = await make_key(fleet, f"legacy-{action}", "r")
    async with As(fleet.urls[0], key) as client:
        await client.initialize(capabilities={"elicitation": {}})
        message = {"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": "wipe", "arguments": {}}}
        async with calling(client, client.url, message) as stream:
            await eventually(lambda: "elicitation/create" in stream.methods(), 5.0, "a question")
            question = next(one["id"] for one in stream.messages if one.get("method") == "elicitation/create")
            said = {"jsonrpc": "2.0", "id": question, "result": {"action": action}}
            await client.post(said, client.legacy_headers(), url=fleet.urls[1])  # at another front end
            await eventually(lambda: any(one.get("id") == 5 for one in stream.messages), 5.0, "the end of the call")
        sid = client.sid
    before, after = await _pair(fleet, f"key:legacy-{action}", action)
    assert (before["name"], before["client"], after["client"]) == ("wipe", "raw", "raw")
    assert before["session"] == after["session"] != sid
    assert before["frontend"] != after["frontend"]
    assert question not in _file(fleet).read_text()


async def test_the_log_in_redis_is_read_by_the_admin_api(fleet: Fleet) -> None:
    key = await make_key(fleet, "tail", "r")
    async with As(fleet.urls[1], key) as client:
        for _ in range(3):
            await client.call("who")

    async def noted() -> Any:
        _, found = await admin(fleet, "GET", "audit?principal=key:tail&tool=who")
        return found if len(found["events"]) == 3 else None

    found = await eventually(noted, 5.0, "calls are in Redis")
    status, later = await admin(fleet, "GET", f"audit?after={found['next']}&principal=key:tail")
    assert status == 200 and later["events"] == []
    assert (await admin(fleet, "GET", "audit?after=nonsense"))[0] == 400


async def test_a_line_that_was_changed_or_left_out_is_found(fleet: Fleet) -> None:
    key = await make_key(fleet, "chain", "r")
    async with As(fleet.urls[0], key) as client:
        for _ in range(5):
            await client.call("who")
    await eventually(lambda: len(_events(fleet, principal="key:chain", event="call")) == 5, 5.0, "calls are noted")
    lines = _file(fleet).read_bytes().splitlines()
    good, problems = verify(lines)
    assert good == len(lines) and not problems
    at = next(n for n, line in enumerate(lines) if b"key:chain" in line)
    assert verify([*lines[:at], lines[at].replace(b"key:chain", b"key:other"), *lines[at + 1 :]])[1]
    assert verify([*lines[:at], *lines[at + 1 :]])[1]


async def test_where_the_log_is_required_calls_are_refused_without_it(redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    async with RawUpstreams() as upstreams:
        upstreams.add("search")
        rules = {"audit": {"file": str(tmp_path / "folder" / "a.jsonl"), "redis": False, "required": True}}
        async with Fleet(redis_url, access_rules=json.dumps(rules)) as fleet:
            await fleet.register("search", upstreams.connection("search"))
            async with As(fleet.urls[0], None) as client:
                assert (await client.call("who")).status == 200
                (tmp_path / "folder").rename(tmp_path / "away")

                async def refused() -> bool:
                    answer = await client.call("who")
                    return answer.status == 503 and answer.error["data"]["code"] == "audit_unavailable"

                await eventually(refused, 5.0, "calls are refused")
                (tmp_path / "away").rename(tmp_path / "folder")

                async def served() -> bool:
                    return (await client.call("who")).status == 200

                await eventually(served, 5.0, "calls are served again")
