"""Reads entries of lists with the types of the Python SDK 1.x, in whose environment this runs.

stdin as for ``tests/node/schemas.mjs``; stdout: what cannot be read, a line each.
"""

from __future__ import annotations

import json
import sys

from mcp import types

KINDS = {
    "tools": types.Tool,
    "prompts": types.Prompt,
    "resources": types.Resource,
    "resource_templates": types.ResourceTemplate,
}
for kind, entries in json.load(sys.stdin).items():
    for entry in entries:
        try:
            KINDS[kind].model_validate(entry)
        except ValueError as error:
            print(kind, json.dumps(entry), str(error).splitlines()[1:3])
