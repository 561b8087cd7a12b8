"""The files in ``deploy``, as their tests read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from shared.settings import build

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
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


def drain_s(variables: dict[str, Any]) -> float:
    """The drain timeout that a process with these variables has."""
    known = {name: str(value) for name, value in variables.items() if name == "GATEWAY_DRAIN_TIMEOUT"}
    return build(environment=known).fleet.drain_timeout_s
