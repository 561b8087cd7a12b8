"""The files in ``deploy/`` and the Procfile agree with the code and with each other; no Docker needed."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from gateway.supervisor.embedded_redis import find_server
from shared.settings import KNOBS, build
from shared.tracing.configuration import configuration, wanted
from tests.integration.deploy_files import (
    COMPOSE,
    DEPLOY,
    ROOT,
    SUPERVISOR_S,
    documents,
    drain_s,
    environment,
    instructions,
    last,
)

TEXTS = sorted(file for file in DEPLOY.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
YAMLS = [file for file in TEXTS if file.suffix in (".yaml", ".yml")]
SETTINGS = {knob.variable for knob in KNOBS.values()}
OTHERS = {"GATEWAY_LISTEN_FD", "GATEWAY_SUPERVISOR_PID", "GATEWAY_URL"}


def seconds(text: str) -> float:
    """``45s`` or ``1m30s``."""
    match = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", text)
    assert match, text
    return 60.0 * int(match[1] or 0) + int(match[2] or 0)


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
