"""The document of a virtual server: which entries it shows, and what it says of them in place of their upstreams. Pure.

``read`` makes a ``VirtualServer`` of what a file or the admin API says, and names everything that is wrong with its
place. Counterpart: ``gateway.routing.virtual``, which applies it to the catalogue.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from shared.access import patterns
from shared.access.patterns import Pattern
from shared.choices import Discovery
from shared.errors import ConfigError
from shared.knobs import suggestion
from shared.mcp.listings import Kind

Problems = list[tuple[str, str]]
MAX_DOCUMENT_BYTES = 256 * 1024
"""The longest document as JSON: every front end keeps all of them in memory."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LISTED_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_LISTS = {"tools": (Kind.TOOLS,), "prompts": (Kind.PROMPTS,), "resources": (Kind.RESOURCES, Kind.TEMPLATES)}
LIST_OF = {kind: name for name, kinds in _LISTS.items() for kind in kinds}
HINTS = {"readOnlyHint": False, "destructiveHint": True, "idempotentHint": False, "openWorldHint": True}
"""The annotations by which tools are selected, with their defaults (2025-11-25, schema, ``ToolAnnotations``)."""
_ANNOTATIONS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(HINTS, bool),
    "title": str,
    "audience": list,
    "priority": (int, float),
    "lastModified": str,
}


class Argument(Struct, frozen=True):
    """What is said of one argument. ``value`` is the JSON that is sent where the client gives none, or empty.
    ``closed``: clients do not see the argument and cannot set it."""

    value: bytes = b""
    closed: bool = False


class Override(Struct, frozen=True):
    """What is said of one entry in place of its upstream; ``None`` leaves the upstream's word."""

    path: str
    name: str | None = None
    title: str | None = None
    description: str | None = None
    annotations: Mapping[str, Any] = {}
    arguments: Mapping[str, Argument] = {}


class Selection(Struct, frozen=True):
    """Which entries of one list are shown: those that ``include`` or ``hints`` mean, without those of ``exclude``.

    ``hints`` are annotations that a tool must have, all of one element; one element is enough.
    """

    include: tuple[Pattern, ...] = ()
    exclude: tuple[Pattern, ...] = ()
    hints: tuple[Mapping[str, bool], ...] = ()

    def shows(self, kind: Kind, group: str, name: str, annotations: Mapping[str, Any]) -> bool:
        """Whether an entry of a group is shown. A template is, if URIs made from it may be."""
        if any(one.matches(kind, group, name) for one in self.exclude):
            return False
        if any(all(hint(annotations, key) is value for key, value in one.items()) for one in self.hints):
            return True
        return any(
            one.matches(kind, group, name) or (kind is Kind.TEMPLATES and one.may_match(kind, group, name))
            for one in self.include
        )

    def names(self, kind: Kind, group: str, name: str) -> bool:
        """Whether an entry is meant as it is written, and not only some URIs that a template makes."""
        return any(one.matches(kind, group, name) for one in self.include) and not self.excludes(kind, group, name)

    def excludes(self, kind: Kind, group: str, name: str) -> bool:
        """Whether an entry is left out, whatever else is said."""
        return any(one.matches(kind, group, name) for one in self.exclude)

    def may_concern(self, group: str) -> bool:
        """Whether anything of a group may be shown."""
        return bool(self.hints) or any(one.may_concern(group) for one in self.include)


class VirtualServer(Struct, frozen=True):
    """One virtual server. ``document`` is what was written; ``selections`` are by the names of the three lists, and
    ``None`` shows everything. ``discovery`` says whether tools are listed or searched (``None``: as the gateway does);
    ``always_listed`` are then listed all the same, and ``synonyms`` are sets of words that mean the same in a search.
    """

    name: str
    document: dict[str, Any]
    selections: Mapping[str, Selection] | None = None
    instructions: str = ""
    overrides: Mapping[str, Override] = {}
    discovery: Discovery | None = None
    always_listed: Selection = Selection()
    synonyms: tuple[tuple[str, ...], ...] = ()

    def override(self, kind: Kind, group: str, name: str) -> Override | None:
        """Return what is said of one entry, or ``None``."""
        if not self.overrides:
            return None
        place = f"{group}/{name}"
        return self.overrides.get(f"{LIST_OF[kind]}:{place}") or self.overrides.get(place)

    def selection(self, kind: Kind) -> Selection | None:
        """Return which entries of a kind are shown, or ``None`` for all."""
        return None if self.selections is None else self.selections.get(LIST_OF[kind], _NOTHING)

    def may_concern(self, group: str) -> bool:
        """Whether anything of a group may be shown."""
        return self.selections is None or any(one.may_concern(group) for one in self.selections.values())


_NOTHING = Selection()


def hint(annotations: Mapping[str, Any], key: str) -> bool:
    """Return what a tool's annotations say, with the specification's defaults. A tool that only reads destroys
    nothing."""
    if key == "destructiveHint" and annotations.get("readOnlyHint") is True:
        return False
    said = annotations.get(key)
    return said if isinstance(said, bool) else HINTS[key]


def check_name(name: str) -> None:
    """Raise ``ConfigError`` unless a virtual server may have this name. It is a part of URLs."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name[:80]!r} cannot be the name of a virtual server: use letters, digits, '.', '_' and '-', at most 64"
        )


def read_all(written: Any) -> dict[str, VirtualServer]:
    """Return the virtual servers of a file by name. Raises ``ConfigError`` with every problem of all of them."""
    problems: Problems = []
    found = {}
    for name, document in _members(written, "virtualServers", problems):
        try:
            found[name] = read(name, document)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return found


def read(name: str, written: Any) -> VirtualServer:
    """Return the virtual server that a document describes. Raises ``ConfigError`` that names every problem."""
    problems: Problems = []
    path = f"virtualServers.{name}"
    try:
        check_name(name)
    except ConfigError as error:
        problems.append((path, str(error)))
    selections: dict[str, Selection] = {}
    overrides: dict[str, Override] = {}
    searching: dict[str, Any] = {}
    instructions = ""
    for key, value in _members(written, path, problems):
        where = f"{path}.{key}"
        if key in _LISTS:
            selections[key] = _selection(key, value, where, problems)
        elif key == "instructions":
            instructions = _text(value, where, problems) or ""
        elif key == "override":
            overrides = dict(_overrides(value, where, problems))
        elif key == "discovery":
            searching[key] = _discovery(value, where, problems)
        elif key == "alwaysListed":
            searching["always_listed"] = _selection("tools", value, where, problems)
        elif key == "synonyms":
            searching[key] = tuple(_synonyms(value, where, problems))
        else:
            known = (*_LISTS, "instructions", "override", "discovery", "alwaysListed", "synonyms")
            problems.append((where, f"unknown key{suggestion(key, known)}; known are {', '.join(known)}"))
    _check_clashes(overrides, problems)
    if not problems and len(json.dumps(written)) > MAX_DOCUMENT_BYTES:
        problems.append((path, f"is longer than {MAX_DOCUMENT_BYTES // 1024} KiB; make two virtual servers of it"))
    if problems:
        raise ConfigError(problems)
    return VirtualServer(name, dict(written), selections or None, instructions, overrides, **searching)


# ---- parts of the document


def _members(value: Any, path: str, problems: Problems) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        problems.append((path, "must be an object"))
        return
    for key in getattr(value, "twice", ()):
        problems.append((f"{path}.{key}", "is there twice; only one of them can be meant"))
    for key, inner in value.items():
        if isinstance(key, str):
            yield key, inner
        else:
            problems.append((path, f"{key!r} must be a string"))


def _text(value: Any, path: str, problems: Problems) -> str | None:
    if isinstance(value, str):
        return value
    problems.append((path, "must be a string"))
    return None


def _discovery(value: Any, path: str, problems: Problems) -> Discovery | None:
    try:
        return Discovery(value)
    except ValueError:
        problems.append((path, f"{value!r} is not one of {', '.join(one.value for one in Discovery)}"))
        return None


def _synonyms(value: Any, path: str, problems: Problems) -> Iterator[tuple[str, ...]]:
    """Yield the sets of words that mean the same."""
    for number, one in enumerate(value if isinstance(value, list) else [None]):
        if isinstance(one, list) and len(one) > 1 and all(isinstance(word, str) and word.strip() for word in one):
            yield tuple(one)
        else:
            where = f"{path}[{number}]" if isinstance(value, list) else path
            problems.append((where, "must be lists of words that mean the same: [[ticket, issue], [mail, e-mail]]"))


def _selection(key: str, value: Any, path: str, problems: Problems) -> Selection:
    include: list[Pattern] = []
    exclude: list[Pattern] = []
    hints: list[dict[str, bool]] = []
    if not isinstance(value, list):
        problems.append((path, 'must be a list of patterns such as "group/*"'))
        return _NOTHING
    for number, one in enumerate(value):
        where = f"{path}[{number}]"
        if isinstance(one, dict) and key == "tools":
            hints.append(dict(_hints(one, where, problems)))
        elif isinstance(one, str):
            pattern = _pattern(one.removeprefix("!"), where, problems)
            if pattern is not None:
                (exclude if one.startswith("!") else include).append(pattern)
        else:
            also = ", or annotations such as {readOnlyHint: true}" if key == "tools" else ""
            problems.append((where, f"must be a pattern such as 'group/*'{also}"))
    if exclude and not include and not hints:
        include.append(patterns.read("*"))  # only what is not shown is named
    return Selection(tuple(include), tuple(exclude), tuple(hints))


def _pattern(text: str, path: str, problems: Problems) -> Pattern | None:
    try:
        pattern = patterns.read(text)
    except ValueError as error:
        problems.append((path, str(error)))
        return None
    if pattern.kind:
        problems.append((path, f"leave out {pattern.kind + ':'!r}: the list says of which kind the entries are"))
        return None
    return pattern


def _hints(value: dict[str, Any], path: str, problems: Problems) -> Iterator[tuple[str, bool]]:
    if not value:
        problems.append((path, f"name at least one annotation: {', '.join(HINTS)}"))
    for key, wanted in _members(value, path, problems):
        if key not in HINTS:
            problems.append((f"{path}.{key}", f"unknown annotation{suggestion(key, HINTS)}; known: {', '.join(HINTS)}"))
        elif not isinstance(wanted, bool):
            problems.append((f"{path}.{key}", "must be true or false"))
        else:
            yield key, wanted


def _overrides(value: Any, path: str, problems: Problems) -> Iterator[tuple[str, Override]]:
    for place, said in _members(value, path, problems):
        where = f"{path}.{place}"
        try:
            pattern = patterns.read(place)
        except ValueError as error:
            problems.append((where, str(error)))
            continue
        if "*" in place:
            problems.append((where, "names one entry as group/name; patterns are for the lists"))
        elif pattern.kind == patterns.METHODS:
            problems.append((where, "a method cannot be overridden; name a tool, a prompt or a resource"))
        else:
            yield place, _override(place, said, where, problems)


def _override(place: str, written: Any, path: str, problems: Problems) -> Override:
    found: dict[str, Any] = {}
    is_resource = place.startswith("resources:") or "://" in place
    for key, value in _members(written, path, problems):
        where = f"{path}.{key}"
        if key in ("name", "arguments") and is_resource:
            problems.append((where, "a resource is known by its URI; it can have another title and description"))
        elif key == "name":
            found[key] = _text(value, where, problems)
            if found[key] is not None and not _LISTED_NAME.fullmatch(found[key]):
                problems.append((where, "must be 1 to 64 letters, digits, '_' and '-': models take no other names"))
        elif key in ("title", "description"):
            found[key] = _text(value, where, problems)
        elif key == "annotations":
            found[key] = dict(_annotations(value, where, problems))
        elif key == "arguments":
            found[key] = {
                name: _argument(said, f"{where}.{name}", problems) for name, said in _members(value, where, problems)
            }
        else:
            known = ("name", "title", "description", "annotations", "arguments")
            problems.append((where, f"unknown key{suggestion(key, known)}; known are {', '.join(known)}"))
    return Override(path, **found)


def _annotations(value: Any, path: str, problems: Problems) -> Iterator[tuple[str, Any]]:
    for key, said in _members(value, path, problems):
        kind = _ANNOTATIONS.get(key)
        if kind is None:
            problems.append((f"{path}.{key}", f"unknown annotation{suggestion(key, _ANNOTATIONS)}"))
        elif not isinstance(said, kind) or (isinstance(said, bool) and kind is not bool):
            problems.append((f"{path}.{key}", "must be true or false" if kind is bool else "has the wrong type"))
        else:
            yield key, said


def _argument(written: Any, path: str, problems: Problems) -> Argument:
    said = dict(_members(written, path, problems))
    unknown = [key for key in said if key not in ("fixed", "hidden", "default")]
    problems += [(f"{path}.{key}", f"unknown key{suggestion(key, ('fixed', 'hidden', 'default'))}") for key in unknown]
    if unknown or not isinstance(written, dict):
        return Argument()
    hidden = said.get("hidden", False)
    if not isinstance(hidden, bool):
        problems.append((f"{path}.hidden", "must be true or false"))
    if "fixed" in said and len(said) > 1:
        problems.append((path, "a fixed argument is hidden and has its value: leave out 'hidden' and 'default'"))
    elif not said:
        problems.append((path, "say {fixed: VALUE}, {hidden: true, default: VALUE} or {default: VALUE}"))
    elif "hidden" in said and not hidden and "default" not in said:
        problems.append((path, "says nothing: 'hidden' is false anyway"))
    key = "fixed" if "fixed" in said else "default"
    if key not in said:
        return Argument(closed=True)
    try:
        value = json.dumps(said[key], allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except (TypeError, ValueError):
        problems.append((f"{path}.{key}", "must be a value that JSON has"))
        return Argument()
    return Argument(value, closed=bool(hidden) or key == "fixed")


def _check_clashes(overrides: Mapping[str, Override], problems: Problems) -> None:
    """Names must be different within one list. An entry without a kind before it may be in any."""
    taken: dict[tuple[str, str], str] = {}
    for place, override in overrides.items():
        if override.name is None:
            continue
        kind = patterns.read(place).kind
        for one in (kind,) if kind else ("tools", "prompts"):
            other = taken.setdefault((one, override.name), place)
            if other != place:
                problems.append((f"{override.path}.name", f"{override.name!r} is the name of {other!r} already"))
                break


def summary(server: VirtualServer) -> str:
    """Return what a virtual server shows, for people."""
    if server.selections is None:
        shown = "everything"
    else:
        shown = "; ".join(f"{name} {json.dumps(server.document[name])}" for name in server.selections)
    return f"{shown}, {len(server.overrides)} overrides" if server.overrides else shown
