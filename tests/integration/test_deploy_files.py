"""The files in ``deploy/`` and the Procfile agree with the code and with each other; no Docker needed."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from gateway.supervisor.embedded_redis import find_server
from shared.config import load
from shared.settings import KNOBS, build
from shared.tracing.configuration import configuration, wanted
from tests.clients import RawClient
from tests.fleet import Fleet, eventually
from tests.servers.raw import RawUpstreams

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
TEXTS = sorted(file for file in DEPLOY.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
YAMLS = [file for file in TEXTS if file.suffix in (".yaml", ".yml")]
SETTINGS = {knob.variable for knob in KNOBS.values()}
OTHERS = {"GATEWAY_LISTEN_FD", "GATEWAY_SUPERVISOR_PID", "GATEWAY_URL"}
PATHS = {"/healthz", "/readyz"}
SUPERVISOR_S = 10.0
"""``Supervisor.stop`` waits this long beyond the drain timeout."""


def documents(file: Path) -> list[dict[str, Any]]:
    """All documents of one YAML file."""
    return [one for one in yaml.safe_load_all(file.read_text()) if one is not None]


MANIFESTS = [one for file in sorted(KUBERNETES.glob("*.yaml")) for one in documents(file)]
COMPOSE = documents(DEPLOY / "compose.yaml")[0]


def manifest(kind: str, name: str) -> dict[str, Any]:
    """The one manifest of this kind and name."""
    (found,) = [one for one in MANIFESTS if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def pod(name: str) -> dict[str, Any]:
    """The pod's spec in a Deployment."""
    return manifest("Deployment", name)["spec"]["template"]["spec"]


def container(name: str) -> dict[str, Any]:
    """The only container of a Deployment."""
    (found,) = pod(name)["containers"]
    return found


def environment(name: str) -> dict[str, Any]:
    """A container's variables: values, and ``None`` where they come from elsewhere than a ConfigMap."""
    found: dict[str, Any] = {}
    for source in container(name).get("envFrom", []):
        found.update(manifest("ConfigMap", source["configMapRef"]["name"])["data"])
    found.update({one["name"]: one.get("value") for one in container(name).get("env", [])})
    return found


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, continuation lines joined, comments left out."""
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    joined = "\n".join(line for line in lines if not line.lstrip().startswith("#")).replace("\\\n", " ")
    return [(line.split(" ")[0], line.partition(" ")[2].strip()) for line in joined.splitlines() if line]


def last(instruction: str) -> str:
    """What the final image gets from an instruction."""
    return [rest for head, rest in instructions() if head == instruction][-1]


def seconds(text: str) -> float:
    """``45s`` or ``1m30s``."""
    match = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", text)
    assert match, text
    return 60.0 * int(match[1] or 0) + int(match[2] or 0)


def drain_s(variables: dict[str, Any]) -> float:
    """The drain timeout that a process with these variables has."""
    known = {name: str(value) for name, value in variables.items() if name == "GATEWAY_DRAIN_TIMEOUT"}
    return build(environment=known).fleet.drain_timeout_s


# ---- everything


@pytest.mark.parametrize("file", YAMLS, ids=lambda file: file.name)
def test_yaml_is_read(file: Path) -> None:
    assert documents(file)


@pytest.mark.parametrize("file", [*TEXTS, ROOT / "Procfile"], ids=lambda file: file.name)
def test_every_variable_is_a_setting(file: Path) -> None:
    used = set(re.findall(r"\bGATEWAY_[A-Z0-9_]*[A-Z0-9]", file.read_text()))
    assert used <= SETTINGS | OTHERS


def test_values_are_accepted_by_the_settings() -> None:
    given = [environment("gateway"), environment("worker")]
    given += [COMPOSE["services"][name]["environment"] for name in ("gateway", "worker")]
    for variables in given:
        texts = {name: str(value) for name, value in variables.items() if value is not None}
        plain = {name: text for name, text in texts.items() if "${" not in text}
        assert build(environment=plain).registry.redis_url in ("", "redis://gateway:$(REDIS_PASSWORD)@redis:6379/0")
        assert re.fullmatch(r"redis://gateway:\$[({]REDIS_PASSWORD.*[)}]@redis:6379/0", texts["GATEWAY_REDIS_URL"])


# ---- gunicorn


@pytest.fixture
def gunicorn_config(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for name in SETTINGS | OTHERS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GATEWAY_DRAIN_TIMEOUT", "20000")
    import gateway.supervisor.gunicorn_conf

    importlib.reload(gateway.supervisor.gunicorn_conf)
    spec = importlib.util.spec_from_file_location("gunicorn_conf_of_deploy", DEPLOY / "gunicorn.conf.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_gunicorn_configuration(gunicorn_config: ModuleType) -> None:
    assert gunicorn_config.worker_class == "gateway.listener.gunicorn_worker.FrontEndWorker"
    assert gunicorn_config.bind == "127.0.0.1:4000"
    assert gunicorn_config.preload_app is False
    assert gunicorn_config.graceful_timeout > 20


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({}, "GATEWAY_REDIS_URL"),
        ({"GATEWAY_REDIS_URL": "redis://127.0.0.1/0", "GATEWAY_HOST": "0.0.0.0"}, "GATEWAY_ADMIN_TOKEN"),
        (
            {"GATEWAY_REDIS_URL": "redis://127.0.0.1/0", "GATEWAY_HOST": "0.0.0.0", "GATEWAY_ADMIN_TOKEN": "x"},
            "access.authentication",
        ),
    ],
)
def test_gunicorn_refuses_what_serve_refuses(
    gunicorn_config: ModuleType, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], reason: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=reason):
        gunicorn_config.on_starting(None)


def test_gunicorn_accepts_a_complete_environment(gunicorn_config: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_REDIS_URL", "redis://127.0.0.1/0")
    gunicorn_config.on_starting(None)


# ---- the image


def test_image_has_no_root_and_exec_form() -> None:
    assert last("USER").split(":")[0].isdigit() and last("USER").split(":")[0] != "0"
    assert json.loads(last("ENTRYPOINT")) == ["gateway"]
    assert json.loads(last("CMD")) == ["serve"]
    heads = [head for head, _ in instructions()]
    assert heads.index("USER") > len(heads) - 1 - heads[::-1].index("RUN"), "nothing is run after USER"


def test_image_has_two_stages_and_no_compiler() -> None:
    stages = [rest for head, rest in instructions() if head == "FROM"]
    assert stages == ["${PYTHON_IMAGE} AS build", "${PYTHON_IMAGE}"]
    assert next(rest for head, rest in instructions() if head == "ARG") == "PYTHON_IMAGE=python:3.12-slim"
    final = instructions()[[head for head, _ in instructions()].index("FROM", 2) :]
    for _, rest in final:
        assert not re.search(r"\b(gcc|make|build-essential|apt-get|curl)\b", rest)
    assert not any(head in ("COPY", "ADD") for head, _ in final), "the wheels stay in the first stage"


def test_image_health_check() -> None:
    form = last("HEALTHCHECK")
    command = json.loads(form[form.index("[") :])
    assert command == ["python", "-P", "-m", "gateway.probe", "healthz"]
    assert "GATEWAY_PORT" in last("ENV")


def test_build_context_holds_what_is_copied() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    copied = [rest.split()[:-1] for head, rest in instructions() if head == "COPY"]
    for source in (name for names in copied for name in names):
        assert f"!{source}" in ignored
    packages = {init.parent.name for init in ROOT.glob("*/__init__.py")} - {"tests", "loadtest"}
    assert packages == {"gateway", "shared", "worker"} <= {name for names in copied for name in names}


# ---- compose


def test_compose_needs_the_admin_token() -> None:
    token = COMPOSE["services"]["gateway"]["environment"]["GATEWAY_ADMIN_TOKEN"]
    assert re.fullmatch(r"\$\{GATEWAY_ADMIN_TOKEN:\?[^}]+\}", token)
    assert "GATEWAY_ADMIN_TOKEN" not in COMPOSE["services"]["worker"]["environment"]


def test_compose_publishes_the_gateway_on_loopback_only() -> None:
    assert {name: one.get("ports") for name, one in COMPOSE["services"].items()} == {
        "redis": None,
        "worker": None,
        "gateway": ["127.0.0.1:4000:4000"],
    }
    assert COMPOSE["services"]["gateway"]["environment"]["GATEWAY_HOST"] == "0.0.0.0"
    assert COMPOSE["services"]["gateway"]["environment"]["GATEWAY_PORT"] == "4000"


def test_compose_workers_say_their_own_names() -> None:
    worker = COMPOSE["services"]["worker"]
    assert worker["environment"]["GATEWAY_RPC_BIND"] == "0.0.0.0:4100"
    assert "GATEWAY_RPC_ADVERTISE" not in worker["environment"]
    assert "hostname" not in worker and "container_name" not in worker
    assert worker["deploy"]["replicas"] >= 2


@pytest.mark.parametrize("name", ["redis", "worker", "gateway"])
def test_compose_services_are_checked_and_closed(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["healthcheck"]["test"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]


@pytest.mark.parametrize("name", ["worker", "gateway"])
def test_compose_services_may_drain(name: str) -> None:
    service = COMPOSE["services"][name]
    assert seconds(service["stop_grace_period"]) > drain_s(service["environment"]) + SUPERVISOR_S
    assert service["depends_on"]["redis"]["condition"] == "service_healthy"
    assert service["volumes"][0]["read_only"] is True
    assert service["build"]["dockerfile"] == "deploy/Dockerfile"
    assert (DEPLOY / service["build"]["context"]).resolve() == ROOT


def test_compose_health_checks_ask_what_each_service_is() -> None:
    gateway, worker = (COMPOSE["services"][name]["healthcheck"]["test"] for name in ("gateway", "worker"))
    assert gateway == ["CMD", "python", "-P", "-m", "gateway.probe", "readyz"]
    assert worker == ["CMD", "python", "-P", "-m", "gateway.probe", "link"]


# ---- traces


def test_compose_with_traces_tells_both_kinds_of_processes_where_the_collector_is() -> None:
    services = documents(DEPLOY / "compose.traces.yaml")[0]["services"]
    assert set(services) - set(COMPOSE["services"]) == {"collector", "jaeger"}
    for name in ("gateway", "worker"):
        given = {
            key: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) for key, value in services[name]["environment"].items()
        }
        assert wanted("auto", given) and configuration(given).endpoint == "http://collector:4318/v1/traces"
        assert configuration(given).sampler.by_parent
    assert [one["source"] for one in services["collector"]["volumes"]] == ["./monitoring/otel-collector.yaml"]
    for name in ("collector", "jaeger"):
        assert re.search(r":\d", services[name]["image"]), "a version"
        assert all(port.startswith("127.0.0.1:") for port in services[name].get("ports", []))
    assert "mcp-one-gateway[otel]" in next(rest for head, rest in instructions()[::-1] if head == "RUN")


def test_the_collector_takes_what_is_sent_and_knows_its_parts() -> None:
    collector = documents(DEPLOY / "monitoring" / "otel-collector.yaml")[0]
    assert collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"].endswith(":4318")
    for pipeline in collector["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= set(collector[kind])
    attributes = [
        policy["numeric_attribute"]["key"]
        for policy in collector["processors"]["tail_sampling"]["policies"]
        if "numeric_attribute" in policy
    ]
    source = (ROOT / "gateway" / "telemetry" / "traces.py").read_text()
    assert attributes and all(f'"{name}"' in source for name in attributes)


# ---- Kubernetes


def test_kustomization_names_every_manifest_but_the_secret() -> None:
    files = {file.name for file in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml", "secret.example.yaml"}
    assert set(documents(KUBERNETES / "kustomization.yaml")[0]["resources"]) == files


def test_no_manifest_names_a_namespace() -> None:
    assert not [one for one in MANIFESTS if "namespace" in one.get("metadata", {})]


def test_probes_point_at_paths_and_ports_that_exist() -> None:
    found = 0
    for name in ("gateway", "worker", "redis"):
        ports = {port["name"]: port["containerPort"] for port in container(name)["ports"]}
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container(name).get(kind, {})
            for how in ("httpGet", "tcpSocket"):
                if how in probe:
                    found += 1
                    assert probe[how]["port"] in ports
                    assert how == "tcpSocket" or probe[how]["path"] in PATHS
    assert found >= 5
    assert container("gateway")["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container("gateway")["livenessProbe"]["httpGet"]["path"] == "/healthz"


async def test_probed_paths_are_routes_of_the_front_end() -> None:
    from aiohttp import web

    from gateway.admin.access import AccessApi
    from gateway.admin.pins import PinsApi
    from gateway.admin.routes import add_admin_routes
    from gateway.admin.virtual_servers import VirtualServersApi
    from shared.access.rules import AccessRules

    app, settings = web.Application(), build()
    access = AccessApi(AccessRules(), None, None, None, None)  # type: ignore[arg-type]
    virtual = VirtualServersApi(None, None, None)  # type: ignore[arg-type]
    pins = PinsApi(None, None, None)  # type: ignore[arg-type]
    add_admin_routes(app, None, None, None, settings, None, None, access, virtual, pins)  # type: ignore[arg-type]
    assert {resource.canonical for resource in app.router.resources()} >= PATHS


def test_ports_agree() -> None:
    exposed = set(last("EXPOSE").split())
    image = dict(pair.split("=", 1) for pair in last("ENV").split())
    gateway, worker = environment("gateway"), environment("worker")
    assert [port["containerPort"] for port in container("gateway")["ports"]] == [int(gateway["GATEWAY_PORT"])]
    assert [port["containerPort"] for port in container("worker")["ports"]] == [
        int(worker[name].rpartition(":")[2]) for name in ("GATEWAY_RPC_BIND", "GATEWAY_METRICS_BIND")
    ]
    assert exposed == {gateway["GATEWAY_PORT"], worker["GATEWAY_RPC_BIND"].rpartition(":")[2]}
    assert image["GATEWAY_PORT"] == gateway["GATEWAY_PORT"] == str(KNOBS["port"].default)
    for name in ("gateway", "redis"):
        (port,) = manifest("Service", name)["spec"]["ports"]
        named = {one["name"]: one["containerPort"] for one in container(name)["ports"]}
        assert named[port["targetPort"]] == port["port"]


def test_services_and_policies_select_pods() -> None:
    labels = {
        name: manifest("Deployment", name)["spec"]["template"]["metadata"]["labels"]
        for name in ("gateway", "worker", "redis")
    }
    for name in ("gateway", "redis"):
        assert manifest("Service", name)["spec"]["selector"] == labels[name]
    for name in ("gateway", "worker"):
        assert manifest("PodDisruptionBudget", name)["spec"]["selector"]["matchLabels"] == labels[name]
    everything = manifest("NetworkPolicy", "default-deny")["spec"]
    assert everything["policyTypes"] == ["Ingress", "Egress"] and not {"ingress", "egress"} & set(everything)
    for name, one in labels.items():
        assert everything["podSelector"]["matchLabels"].items() <= one.items()
        policy = manifest("NetworkPolicy", "frontend" if name == "gateway" else name)["spec"]
        assert policy["podSelector"]["matchLabels"] == one and policy["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in manifest("NetworkPolicy", "redis")["spec"], "Redis connects to nothing"
    for name in ("frontend", "worker"):
        places = [to for rule in manifest("NetworkPolicy", name)["spec"]["egress"] for to in rule.get("to", ())]
        blocks = [to["ipBlock"] for to in places if "ipBlock" in to]
        assert blocks and all("169.254.0.0/16" in one["except"] or "fe80::/10" in one["except"] for one in blocks)
    rpc = manifest("NetworkPolicy", "worker")["spec"]
    assert rpc["podSelector"]["matchLabels"] == labels["worker"]
    rule, figures = rpc["ingress"]
    assert rule["from"] == [{"podSelector": {"matchLabels": labels["gateway"]}}]
    assert rule["ports"] == [{"port": "rpc", "protocol": "TCP"}]
    assert figures == {"ports": [{"port": "metrics", "protocol": "TCP"}]}


@pytest.mark.parametrize("name", ["gateway", "worker"])
def test_pods_may_drain_and_are_closed(name: str) -> None:
    spec, one = pod(name), container(name)
    assert spec["terminationGracePeriodSeconds"] > drain_s(environment(name)) + SUPERVISOR_S
    # The Service `gateway` would otherwise set GATEWAY_PORT=tcp://… in every pod of its namespace.
    assert spec["enableServiceLinks"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert str(spec["securityContext"]["runAsUser"]) == last("USER").split(":")[0]
    assert one["securityContext"]["readOnlyRootFilesystem"] is True
    assert "/tmp" in [mount["mountPath"] for mount in one["volumeMounts"]]


def test_no_pod_shares_its_processes_and_workers_have_a_first_process_that_reaps() -> None:
    for name in ("gateway", "worker", "redis"):
        assert "shareProcessNamespace" not in pod(name) and not pod(name).get("hostNetwork")
    assert container("worker")["command"] == ["python", "-P", "-m", "gateway.init"]


def _acl(script: str) -> str:
    (line,) = [one.strip() for one in script.splitlines() if one.strip().startswith("user gateway")]
    assert "user default off" in script and "exec redis-server /run/redis/redis.conf" in script
    return line.replace("$$", "$").replace("$REDIS_PASSWORD", "hush")


async def test_the_fleet_runs_with_what_its_user_may_do_in_redis(tmp_path: Path) -> None:
    scripts = [COMPOSE["services"]["redis"]["command"][-1], container("redis")["command"][-1]]
    assert len(set(map(_acl, scripts))) == 1
    (tmp_path / "users").write_text(f"user default off\n{_acl(scripts[0])}\n")
    socket = tmp_path / "redis"
    server = await asyncio.create_subprocess_exec(
        find_server(), "--port", "0", "--unixsocket", str(socket), "--save", "", "--aclfile", str(tmp_path / "users"),
        "--dir", str(tmp_path), stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await eventually(socket.exists, 10.0, "Redis listens")
        url = f"unix://gateway:hush@{socket}?db=0"
        async with RawUpstreams() as upstreams, Fleet(url, key_prefix="gw:") as fleet:
            upstreams.add("a")
            await fleet.register("a", upstreams.connection("a"))
            async with RawClient(fleet.urls[0]) as client:
                answer = await eventually(lambda: _called(client), 15.0, "a call is answered")
                assert "result" in answer.body
            async with Redis.from_url(url) as redis:
                for words in (("SET", "other", "1"), ("CONFIG", "GET", "*"), ("FLUSHALL",), ("KEYS", "*")):
                    with pytest.raises(NoPermissionError):
                        await redis.execute_command(*words)
    finally:
        server.terminate()
        await server.wait()


async def _called(client: RawClient) -> Any:
    answer = await client.call("who")
    return answer if "result" in answer.body else None


def test_workers_advertise_their_pod() -> None:
    (advertised,) = [one for one in container("worker")["env"] if one["name"] == "GATEWAY_RPC_ADVERTISE"]
    assert advertised["valueFrom"]["fieldRef"]["fieldPath"] == "status.podIP"


def test_secrets_exist_and_are_empty() -> None:
    secret = manifest("Secret", "gateway-secrets")
    assert set(secret["stringData"].values()) == {""}, "a known placeholder would be somebody's token"
    for name in ("gateway", "worker"):
        for one in container(name)["env"]:
            reference = one.get("valueFrom", {}).get("secretKeyRef")
            if reference:
                assert reference["name"] == "gateway-secrets" and reference["key"] in secret["stringData"]
    assert "GATEWAY_ADMIN_TOKEN" not in environment("worker")


def test_clients_may_use_the_name_of_the_service() -> None:
    from gateway.admission.dns_rebinding import RebindingGuard

    variables = {name: text for name, text in environment("gateway").items() if text is not None}
    guard = RebindingGuard(build(environment=variables))
    assert guard.refusal("gateway:4000", None) is None
    assert guard.refusal("10.1.2.3:4000", None) is None, "probes name the pod's address"
    assert guard.refusal("elsewhere.example", None) is not None


def test_configuration_in_the_config_map_is_valid(tmp_path: Path) -> None:
    data = manifest("ConfigMap", "gateway-config")["data"]
    file = tmp_path / "gateway.json"
    file.write_text(data["gateway.json"])
    assert build(load(file).settings).service.name == "mcp-gateway"
    for name in ("gateway", "worker"):
        (mount,) = [one for one in container(name)["volumeMounts"] if one["name"] == "config"]
        assert mount["subPath"] in data and mount["readOnly"] is True
        volumes = {one["name"]: one for one in pod(name)["volumes"]}
        assert volumes["config"]["configMap"]["name"] == "gateway-config"
        assert {one["name"] for one in container(name)["volumeMounts"]} == set(volumes)
    (at,) = [one["mountPath"] for one in container("gateway")["volumeMounts"] if one["name"] == "config"]
    assert container("gateway")["args"] == ["serve", "--config", at]


# ---- the Procfile


def procfile() -> Iterator[tuple[str, str]]:
    """Its entries, read as honcho reads them."""
    for line in (ROOT / "Procfile").read_text().splitlines():
        match = re.match(r"^([A-Za-z0-9_-]+):\s*(.+)$", line)
        if match:
            yield match[1], match[2]


def test_procfile_entries() -> None:
    entries = dict(procfile())
    assert list(entries) == ["gateway", "worker", "redis"], "honcho gives the first one the base port"
    assert "${PORT:-4000}" in entries["gateway"]
    for name, command in entries.items():
        assert "${GATEWAY_REDIS_URL:-redis://127.0.0.1:6399/0}" in command, name
        assert "exec " in command, f"{name}: signals must reach the program"
    for code in re.findall(r"python -c '([^']+)'", "\n".join(entries.values())):
        compile(code, "Procfile", "exec")
    assert Path(find_server()).exists()
