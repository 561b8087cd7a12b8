"""Members of an entry that no table knows by this name, brought to names that are known. Pure.

People write keys in other cases (``URL``, ``Args``), clients have their own words for lists of tools and for durations.
What only seems to restrict a server is refused (``restricting``): it must be obeyed or refused, never ignored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from shared.config import spellings
from shared.config.tool_lists import is_on
from shared.own_settings import OWN

_KNOWN = {*spellings.known(), *spellings.VARIABLES, *spellings.SILENT, *spellings.UNUSED, *spellings.REFUSED}
_BY_PLAIN = {spellings.plain(key): key for key in sorted(_KNOWN, reverse=True)}
_DENY = re.compile(r"disallow|deny|denied|black|block|exclude|disable|forbid|hide|hidden|suppress")
_ALLOW = re.compile(r"allow|white|include|enable|permit")
_APPROVAL = re.compile(r"always|auto|appro|trust|confirm|ask")
_START = re.compile(r"start|init|boot|launch|spawn")
_CALL = re.compile(r"tool|call|request|read|exec|response|operation")
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|sec|secs|seconds?|m|min|minutes?)\s*")
_RESTRICTING = frozenset((*spellings.INCLUDE, *spellings.EXCLUDE, *spellings.FILTERS))
_SWITCHED = ("prompts", "resources", "resourcetemplates")
"""Maps by name whose entries clients switch off, as the gateway can only switch off tools."""
_NOT_UNDERSTOOD = "seems to restrict the server and is not understood here: use 'includeTools' and 'excludeTools'"
_OWN_DURATIONS = frozenset(key for key in OWN if key.endswith(("Timeout", "Interval", "Wait", "Min", "Max")))
_OFF = ("disabled", "inactive", "off", "stopped", "paused")
_TOKENS = ("authorizationtoken", "authtoken", "bearertoken", "accesstoken", "apikey")
_LONGEST_MS = 24 * 3600 * 1000


def usual(raw: dict[str, Any], mended: Callable[[str, str], None]) -> dict[str, Any]:
    """Return an entry with usual keys where the meaning of an unusual one is clear. ``mended`` is told of them."""
    found: dict[str, Any] = {}
    for key, value in raw.items():
        name, meant = key, value
        if key not in _KNOWN and not spellings.is_comment(key):
            name, meant = _meaning(key, value)
            if name != key and (name in raw or name in found):
                name, meant = key, value
            elif name != key:
                mended(key, f"was taken for {name!r}")
        if name in ("timeout", *spellings.DURATIONS) and isinstance(meant, str):
            meant = _milliseconds(meant, name)
        elif name in _OWN_DURATIONS and isinstance(meant, str):
            meant = _of_text(meant) or meant
        elif name not in _KNOWN and isinstance(meant, dict) and not spellings.is_comment(name):
            meant = _hoisted(name, meant, raw, found, mended)
        found[name] = meant
    return found


def _hoisted(
    key: str, inside: dict[str, Any], raw: dict[str, Any], found: dict[str, Any], mended: Callable[[str, str], None]
) -> dict[str, Any]:
    """Move what restricts the tools of a server from an object with a client's own options to the entry itself. Return
    the rest of the object."""
    rest: dict[str, Any] = {}
    for inner, value in inside.items():
        name, meant = (inner, value) if inner in _KNOWN else _meaning(str(inner), value)
        if name in _RESTRICTING and name not in raw and name not in found:
            found[name] = meant
            mended(f"{key}.{inner}", f"was taken for {name!r}")
        else:
            rest[inner] = value
    return rest


def _meaning(key: str, value: Any) -> tuple[str, Any]:
    word = spellings.plain(key)
    if word in _BY_PLAIN:
        return _BY_PLAIN[word], value
    if word in ("status", "state") and isinstance(value, str) and value.strip().lower() in _OFF:
        return "disabled", True
    if word in _TOKENS and isinstance(value, str) and value:
        return "auth", value
    if (
        word == "apikey"
        and isinstance(value, dict)
        and value.get("authorization_type") == "bearer"
        and value.get("key")
    ):
        return "auth", value["key"]  # LibreChat
    if word == "toolconfiguration" and isinstance(value, dict):
        if value.get("enabled") is False:
            return "disabled", True
        if isinstance(value.get("allowed_tools"), list):
            return "includeTools", value["allowed_tools"]
    if "tool" in word and isinstance(value, list) and value and not _APPROVAL.search(word):
        if _DENY.search(word):
            return "excludeTools", value
        if _ALLOW.search(word):
            return "includeTools", value
    by_name = "tool" in word and isinstance(value, dict) and not _APPROVAL.search(word)
    if by_name and any(is_on(one) is False for one in value.values()):
        return "tools", value
    in_text = _of_text(value) if "timeout" in word and isinstance(value, str) else None
    if in_text:
        word, value = word + "ms", in_text
    if "timeout" in word and isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
        unit = 1 if word.endswith(("ms", "millis", "milliseconds")) else 1000 if word.endswith(("s", "sec")) else 0
        took = min(spellings.milliseconds(value, unit), _LONGEST_MS) if value < math.inf else _LONGEST_MS
        if _START.search(word):
            return "startTimeout", took
        if _CALL.search(word):
            return "requestTimeout", took
    return key, value


def _of_text(text: str) -> float | None:
    """Return a duration with its unit (``30s``) in milliseconds, or ``None`` if the text is none."""
    match = _DURATION.fullmatch(text.lower())
    if match is None:
        return None
    return float(match[1]) * (1 if match[2] == "ms" else 60_000 if match[2].startswith("m") else 1000)


def _milliseconds(text: str, name: str) -> Any:
    """Return a duration with its unit (``30s``) in the unit that ``name`` has, or the text as it is."""
    found = _of_text(text)
    if found is None:
        return text
    unit = spellings.DURATIONS[name][1]
    seconds = found / 1000
    return found / unit if unit else seconds if seconds <= 3600 else found


def restricting(key: str, value: Any) -> str:
    """Return why an entry with an unknown key is not run, because the key seems to restrict the server, or ``""``."""
    if not isinstance(value, list | dict) or not value:
        return ""
    word = spellings.plain(key)
    if isinstance(value, dict) and any(str(inner) in _RESTRICTING or restricting(str(inner), one)
                                       for inner, one in value.items()):  # fmt: skip
        return _NOT_UNDERSTOOD
    if word in _SWITCHED and isinstance(value, dict) and any(map(_is_switched_off, value.values())):
        return "switches off what a gateway cannot: only tools can be chosen, by 'includeTools' and 'excludeTools'"
    if _APPROVAL.search(word) or not (_DENY.search(word) or _ALLOW.search(word) or word in ("filter", "filters")):
        return ""
    return _NOT_UNDERSTOOD


def _is_switched_off(value: Any) -> bool:
    return value is False or (
        isinstance(value, dict) and (value.get("enabled") is False or value.get("disabled") is True)
    )
