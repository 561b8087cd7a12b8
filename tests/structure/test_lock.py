"""The lock files have what pyproject.toml asks for, each with its hashes, and nothing of the machine that made them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.sbom import bill

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
CASES = {
    "requirements.lock": [*PROJECT["dependencies"], *EXTRAS["otel"]],
    "requirements-dev.lock": [*PROJECT["dependencies"], *(one for extra in EXTRAS.values() for one in extra)],
}


def locked(name: str) -> dict[str, list[str]]:
    """The versions of each package: several where Python versions or systems differ."""
    found: dict[str, list[str]] = {}
    text = (ROOT / name).read_text()
    for package, version, hashes in re.findall(
        r"^([A-Za-z0-9._-]+)==(\S+)[^\n]*\\\n((?:    --hash=.*\n?)+)", text, re.M
    ):
        assert hashes, package
        found.setdefault(canonicalize_name(package), []).append(version)
    assert sum(map(len, found.values())) == len(re.findall(r"^[A-Za-z]", text, re.MULTILINE)), "each entry has a hash"
    return found


@pytest.mark.parametrize("name", CASES)
def test_what_the_project_needs_is_locked(name: str) -> None:
    found = locked(name)
    for text in CASES[name]:
        wanted = Requirement(text)
        if canonicalize_name(wanted.name) == canonicalize_name(PROJECT["name"]):
            continue  # an extra of our own
        versions = found.get(canonicalize_name(wanted.name))
        assert versions, f"{wanted.name} is not in {name}: run 'make lock'"
        assert any(wanted.specifier.contains(one, prereleases=True) for one in versions), f"{text}: run 'make lock'"


def test_both_have_the_same_versions() -> None:
    tested, shipped = locked("requirements-dev.lock"), locked("requirements.lock")
    assert {name: tested.get(name) for name in shipped} == shipped


def test_the_bill_of_materials_lists_what_is_shipped() -> None:
    document = bill((ROOT / "requirements.lock").read_text(), {**PROJECT, "version": "1"})
    assert document["bomFormat"] == "CycloneDX" and document["specVersion"] == "1.6"
    listed: dict[str, list[str]] = {}
    for one in document["components"]:
        listed.setdefault(canonicalize_name(one["name"]), []).append(one["version"])
        assert one["purl"] == f"pkg:pypi/{canonicalize_name(one['name'])}@{one['version']}"
        assert one["externalReferences"][0]["hashes"]
    assert listed == locked("requirements.lock")
    assert len({one["bom-ref"] for one in document["components"]}) == len(document["components"])
    again = bill((ROOT / "requirements.lock").read_text(), {**PROJECT, "version": "1"})
    assert document == again, "the same file makes the same list"


@pytest.mark.parametrize("name", CASES)
def test_no_place_is_named(name: str) -> None:
    assert "://" not in (ROOT / name).read_text()
