"""The four kinds of things that servers list, and what differs between them."""

from __future__ import annotations

import enum
from typing import NamedTuple

from shared.mcp.methods import PROMPTS_CHANGED, RESOURCES_CHANGED, TOOLS_CHANGED


class Kind(enum.StrEnum):
    """A kind of thing that servers list. The value is the field of ``gw:catalog:{id}``."""

    TOOLS = "tools"
    PROMPTS = "prompts"
    RESOURCES = "resources"
    TEMPLATES = "resource_templates"


class KindFacts(NamedTuple):
    """What differs between the kinds.

    ``method`` lists the entries, ``member`` of the result holds them, ``key`` names an entry. ``capability`` offers the
    kind, and the notification ``changed`` announces a change of the list.
    """

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
"""The kind that each list method asks for."""

CHANGES = tuple(dict.fromkeys(facts.changed for facts in KINDS.values()))
"""The three ``list_changed`` notifications."""
