"""What TLS costs on links over TCP, beside links over TCP without: one front end, and one worker that it takes for a
process of another host. Links on one host are Unix sockets, which never have TLS."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

from loadtest.bench import accounting
from loadtest.bench.children import running, server
from loadtest.bench.compare import Comparison, Side, compare, cpu
from loadtest.bench.load import Load
from loadtest.bench.outcome import Budget, Outcome
from loadtest.bench.plan import Plan
from loadtest.bench.redis_server import redis_server
from loadtest.bench.scenarios.calls import call
from loadtest.bench.subject import COMMAND, Subject, config, http_upstream, wait_connected

ROWS = ("link-tls",)
_FAR = "import socket, sys; socket.gethostname = lambda: 'elsewhere'; from worker.main import main; sys.exit(main())"
_MOST = 1.25
_START_S = 60.0


@contextlib.contextmanager
def _far_apart(plan: Plan, upstream_port: int, mode: str) -> Iterator[Subject]:
    """A front end and a worker with a link over TCP; ``mode`` is ``linkTls``."""
    with redis_server(plan.folder) as redis:
        document = config({"modern": http_upstream(upstream_port, "modern", 20, "modern")}, link={"tls": mode})
        file = plan.folder / f"links-{mode}.json"
        file.write_text(json.dumps(document))
        given = {"REDIS_URL": redis.url, "RPC_BIND": "127.0.0.1:0", "RPC_ADVERTISE": "127.0.0.1", "LINK_TLS": mode}
        variables = [f"GATEWAY_{name}={value}" for name, value in given.items()]
        serve = [COMMAND, "serve", "--config", str(file), "--port", "0", "--redis-url", redis.url]
        with (
            running(["env", *variables, sys.executable, "-c", _FAR], plan.folder / "links-worker.err") as worker,
            running(serve, plan.folder / "links-serve.err") as child,
        ):
            port = urlsplit(child.line_with("MCP endpoint", _START_S).split()[-1]).port
            assert port is not None
            wait_connected(port, 1, _START_S, "")
            pids = (*accounting.tree(child.pid), *accounting.tree(worker.pid), redis.pid)
            yield Subject(child, port, pids)


def run(plan: Plan) -> Iterator[Outcome]:
    """The row, if the plan wants it."""
    if not plan.wants(*ROWS):
        return
    found = Comparison()
    with server("upstream_http") as (_, port):
        for _ in range(plan.instances):
            with _far_apart(plan, port, "required") as ours, _far_apart(plan, port, "off") as theirs:
                load = Load((call("modern_0"),))
                subject, reference = (Side(one.port, one.pids, load) for one in (ours, theirs))
                found += compare(subject, reference, plan.of_each_instance())
    what = "links over TCP with TLS: CPU per call"
    yield Outcome("link-tls", what, found.ratios(cpu), Budget(_MOST), "×without", found.note(cpu, "µs", "without"))
