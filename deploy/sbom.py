"""Writes the software bill of materials of the image (CycloneDX 1.6, JSON), made from ``requirements.lock``::

    python deploy/sbom.py [FILE]        # dist/sbom.cdx.json; "-" is the standard output

The same lock file makes the same list, also on another day.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tomllib
import uuid
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_ENTRY = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)(?: ; ([^\\\n]+?))? ?\\\n((?:    --hash=.*\n?)+)", re.MULTILINE)


def bill(lock: str, project: dict[str, Any]) -> dict[str, Any]:
    """Return the document for the text of a lock file and ``[project]`` of pyproject.toml."""
    components = []
    for name, version, marker, hashes in _ENTRY.findall(lock):
        purl = f"pkg:pypi/{re.sub(r'[-_.]+', '-', name).lower()}@{version}"
        found: dict[str, Any] = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
        # One hash for each file that PyPI has of this version; which of them is installed depends on the machine.
        found["externalReferences"] = [
            {
                "type": "distribution",
                "url": f"https://pypi.org/project/{name}/{version}/",
                "hashes": [{"alg": "SHA-256", "content": one} for one in re.findall(r"sha256:([0-9a-f]{64})", hashes)],
            }
        ]
        if marker:
            found["properties"] = [{"name": "python:marker", "value": marker.strip()}]
        components.append(found)
    this = f"pkg:pypi/{project['name']}@{project['version']}"
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.UUID(bytes=hashlib.sha256((this + lock).encode()).digest()[:16], version=4)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": this,
                "name": project["name"],
                "version": project["version"],
                "purl": this,
            }
        },
        "components": components,
        "dependencies": [{"ref": this, "dependsOn": [one["bom-ref"] for one in components]}],
    }


def main() -> None:
    """Write the list."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    if "version" not in project:
        found = re.search(r'VERSION = "([^"]+)"', (ROOT / "shared" / "version.py").read_text())
        assert found is not None
        project["version"] = found[1]
    text = json.dumps(bill((ROOT / "requirements.lock").read_text(), project), indent=2) + "\n"
    target = sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "dist" / "sbom.cdx.json")
    if target == "-":
        print(text, end="")
        return
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    Path(target).write_text(text)
    print(f"{target}: {text.count('bom-ref') - 1} packages")


if __name__ == "__main__":
    main()
