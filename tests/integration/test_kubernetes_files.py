"""``deploy/kubernetes``: the manifests fit each other, the image and the code."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from gateway.supervisor.embedded_redis import find_server
from shared.config import load
from shared.settings import KNOBS, build
from tests.clients import RawClient
from tests.fleet import Fleet, eventually
from tests.integration.deploy_files import (
    COMPOSE,
    KUBERNETES,
    MANIFESTS,
    SUPERVISOR_S,
    container,
    documents,
    drain_s,
    environment,
    last,
    manifest,
    pod,
)
from tests.servers.raw import RawUpstreams

PATHS = {"/healthz", "/readyz"}


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
