"""The four kinds of things that servers list, and what differs between them."""

from __future__ import annotations

import enum
from typing import NamedTuple

from shared.mcp.methods import PROMPTS_CHANGED, RESOURCES_CHANGED, TOOLS_CHANGED


class Kind(enum.StrEnum):
    """What is listed; the value is the field of ``gw:catalog:{id}``."""

    TOOLS = "tools"
    PROMPTS = "prompts"
    RESOURCES = "resources"
    TEMPLATES = "resource_templates"


class KindFacts(NamedTuple):
    """``method`` lists it, ``member`` of the result holds it, ``key`` names an entry; ``capability`` offers it and
    ``changed`` announces that it changed."""

    method: str
    member: str
    key: str
    capability: str
    changed: str


KINDS: dict[Kind, KindFacts] = {
    Kind.TOOLS: KindFacts("tools/list", "tools", "name", "tools", TOOLS_CHANGED),
    Kind.PROMPTS: KindFacts("prompts/list", "prompts", "name", "prompts", PROMPTS_CHANGED),
    Kind.RESOURCES: KindFacts("resources/list", "resources", "uri", "resources", RESOURCES_CHANGED),
    Kind.TEMPLATES: KindFacts(
        "resources/templates/list", "resourceTemplates", "uriTemplate", "resources", RESOURCES_CHANGED
    ),
}

LIST_METHODS: dict[str, Kind] = {facts.method: kind for kind, facts in KINDS.items()}
"""Which kind a list method asks for."""

CHANGES = tuple(dict.fromkeys(facts.changed for facts in KINDS.values()))
"""The three ``list_changed`` notifications."""
