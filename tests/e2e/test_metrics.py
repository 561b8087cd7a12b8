"""``/metrics``: an instance is shown whole whichever of its processes answers, and each call is counted once."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from gateway.supervisor.lifecycle import Child, Supervisor
from shared.models import make_spec
from shared.settings import build
from tests.clients import RawClient
from tests.fleet import PYTHON, Fleet, eventually
from tests.machine import scaled
from tests.servers.raw import RawUpstreams

Figures = dict[str, list[tuple[dict[str, str], float]]]


async def scrape(url: str, token: str = "", **query: str) -> Figures:
    """What a scraper that makes a connection of its own gets, read by Prometheus' own parser."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession() as session, session.get(url, params=query, headers=headers) as response:
        text = await response.text()
        assert response.status == 200, text
    checked_by_promtool(text)
    found: Figures = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert (sample.labels, sample.value) not in found.setdefault(sample.name, []), "a series is there twice"
            found[sample.name].append((sample.labels, sample.value))
    return found


def checked_by_promtool(text: str) -> None:
    """Prometheus' own tool finds the text well-formed, where there is one."""
    promtool = shutil.which("promtool")
    if promtool is not None:
        checked = subprocess.run([promtool, "check", "metrics"], input=text, text=True, capture_output=True)
        assert "error" not in checked.stderr.lower(), checked.stderr


def total(figures: Figures, name: str, **labels: str) -> float:
    """The sum over all series that have these labels."""
    return sum(
        value for found, value in figures.get(name, ()) if all(found.get(key) == one for key, one in labels.items())
    )


@pytest_asyncio.fixture(scope="module")
async def gateway(redis_url: str) -> AsyncIterator[Supervisor]:
    """Two front ends that share a port, and two workers."""
    settings = build(
        overrides={
            "redis_url": redis_url,
            "key_prefix": f"metrics{os.getpid()}:",
            "port": 0,
            "frontends": 2,
            "workers": 2,
            "log_level": "warning",
            "drain_timeout_s": 2.0,
        }
    )
    supervisor = Supervisor(settings)
    async with RawUpstreams() as upstreams:
        upstreams.add("a")
        await supervisor.start()
        try:
            assert supervisor.store is not None
            await supervisor.store.register(make_spec("a", upstreams.connection("a")))
            await eventually(lambda: _up(supervisor), 20.0, "the upstream is there")
            yield supervisor
        finally:
            await supervisor.stop()


async def _up(supervisor: Supervisor) -> bool:
    for _ in range(4):  # whichever front end answers
        if total(await scrape(f"{supervisor.url}/metrics"), "gateway_upstream_up", upstream="a") != 1:
            return False
    return True


async def _call(url: str, times: int) -> None:
    for _ in range(times):
        async with RawClient(f"{url}/mcp") as client:  # a connection of its own: any front end
            assert "result" in (await client.call("who")).body


async def test_whichever_process_answers_the_figures_are_those_of_the_instance(gateway: Supervisor) -> None:
    """Also while calls are made, what is counted never falls."""
    url, before = f"{gateway.url}/metrics", await scrape(f"{gateway.url}/metrics")
    calls = asyncio.ensure_future(_call(gateway.url, 40))
    last = total(before, "gateway_calls_total")
    while not calls.done():
        found = total(await scrape(url), "gateway_calls_total")
        assert found >= last, "a counter fell: Prometheus would take that for a restart"
        last = found
    await calls

    async def complete() -> bool:
        after = await scrape(url)
        return total(after, "gateway_calls_total", tool="who") - total(before, "gateway_calls_total", tool="who") == 40

    async def complete_at_the_worker() -> bool:
        """A worker gives its figures on its own, a moment before or after the front ends give theirs."""
        return total(await scrape(url), "gateway_upstream_duration_seconds_count", group="a", upstream="a") >= 40

    await eventually(complete, 5.0, "every call is counted once")
    await eventually(complete_at_the_worker, 5.0, "the worker's are there too")
    for _ in range(6):
        assert await complete()
    after = await scrape(url)
    assert {labels["process"] for labels, _ in after["process_cpu_seconds_total"]} == {"frontend", "worker"}
    assert len(after["process_cpu_seconds_total"]) == 4
    assert total(after, "gateway_call_duration_seconds_count", group="a") == total(after, "gateway_calls_total")
    assert total(after, "gateway_upstream_calls_total", method="tools/call", outcome="answered") >= 40
    assert len(after["gateway_upstream_up"]) == 1


async def test_what_was_counted_survives_the_process_that_counted_it(gateway: Supervisor) -> None:
    url = f"{gateway.url}/metrics"
    await _call(gateway.url, 10)

    async def counted() -> Figures | None:
        found = await scrape(url)
        return found if total(found, "gateway_calls_total") >= 10 else None

    await eventually(counted, 5.0, "counted")
    await asyncio.sleep(1.2)  # what a process counted in the second before it is killed is lost
    before = await scrape(url)
    pid = next(int(labels["pid"]) for labels, _ in before["process_open_fds"] if labels["process"] == "frontend")
    os.kill(pid, signal.SIGKILL)

    async def replaced() -> bool:
        try:
            found = await scrape(url)
        except aiohttp.ClientError:
            return False
        pids = {labels["pid"] for labels, _ in found["process_open_fds"] if labels["process"] == "frontend"}
        return len(pids) == 2 and str(pid) not in pids

    await eventually(replaced, 20.0, "another front end is there")
    for _ in range(4):
        after = await scrape(url)
        assert total(after, "gateway_calls_total") == total(before, "gateway_calls_total")
        assert total(after, "gateway_call_duration_seconds_sum") >= total(before, "gateway_call_duration_seconds_sum")


async def test_instances_add_up_to_the_fleet(redis_url: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with RawUpstreams() as upstreams, Fleet(redis_url, frontends=2, workers=0) as fleet:
        settings: Any = fleet.settings
        bound = build(
            overrides={
                "redis_url": redis_url,
                "key_prefix": fleet.prefix,
                "run_dir": settings.service.run_dir,
                "metrics_bind": f"127.0.0.1:{port}",
                "admin_token": "hush",
                "log_level": "warning",
            }
        )
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        worker = Child("worker", [PYTHON, "-m", "worker"], environment, settings=bound)
        await worker.start()
        fleet.workers.append(worker)
        upstreams.add("b")
        await fleet.register("b", upstreams.connection("b"))
        for url, calls in zip(fleet.urls, (7, 5), strict=True):
            async with RawClient(url) as client:
                for _ in range(calls):
                    assert "result" in (await client.call("who")).body
        each = [await scrape(f"{one.url}/metrics") for one in fleet.frontends]
        assert [total(one, "gateway_calls_total") for one in each] == [7, 5]
        own = await scrape(f"http://127.0.0.1:{port}/metrics", "hush")
        assert total(own, "gateway_upstream_calls_total", method="tools/call") == 12
        async with aiohttp.ClientSession() as session:
            for path, status in (("/metrics", 401), ("/healthz", 200), ("/admin/v1/servers", 404)):
                async with session.get(f"http://127.0.0.1:{port}{path}") as response:
                    assert response.status == status, path

        async def whole() -> bool:
            found = [await scrape(f"{one.url}/metrics", scope="fleet") for one in fleet.frontends]
            return all(
                total(one, "gateway_calls_total") == 12
                and total(one, "gateway_upstream_calls_total", method="tools/call") == 12
                and len(one["process_start_time_seconds"]) == 3
                for one in found
            )

        await eventually(whole, 10.0, "the fleet is the sum of its processes, at each front end")
        async with aiohttp.ClientSession() as session, session.get(f"{fleet.url}/metrics?scope=all") as response:
            assert response.status == 400


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"metrics_bind": "9100"}, "must be host:port"),
        ({"metrics_bind": "0.0.0.0:0"}, "GATEWAY_ADMIN_TOKEN"),
        ({"metrics_bind": "127.0.0.1:TAKEN"}, "change metricsBind"),
    ],
)
async def test_a_port_that_cannot_be_had_is_said_at_the_start(
    redis_url: str, overrides: dict[str, Any], said: str
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = overrides["metrics_bind"].replace("TAKEN", str(taken.getsockname()[1]))
        settings = build(overrides={"redis_url": redis_url, "key_prefix": "nobody:", "metrics_bind": where})
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        worker = Child("worker", [PYTHON, "-m", "worker"], environment, settings=settings)
        await worker.start()
        assert worker.process is not None
        async with asyncio.timeout(scaled(15.0)):
            assert await worker.process.wait() in (1, 2)
        await worker.stop(1.0)
        assert said in worker.reason and "Traceback" not in "\n".join(worker.last_words)
