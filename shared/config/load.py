"""Reading one configuration file into settings values and upstream specs.

What concerns the file as a whole, or the gateway's own settings, is a ``ConfigError`` that names every problem. What
concerns one entry costs that entry: its spec says why it cannot be run (``UpstreamSpec.problem``).
"""

from __future__ import annotations

import json
import os
from collections import ChainMap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, structs

from shared.access import rules as access_rules
from shared.config.commands import CommandOutputs
from shared.config.documents import decode
from shared.config.entries import flawed, read_entry, shown_id
from shared.config.expand import editor_variables, expand, input_variable, workspace_of
from shared.config.file_contents import FileContents
from shared.config.projects import of_projects
from shared.config.readings import Reading
from shared.config.roots import OWN, ROOTS, Found, find
from shared.errors import ConfigError
from shared.knobs import suggestion
from shared.models import UpstreamSpec
from shared.nested_settings import with_paths
from shared.settings import build
from shared.virtual_servers import VirtualServer, read_all

Said = list[tuple[str, str]]


class Config(Struct, frozen=True):
    """The content of a file: ``settings`` as written (milliseconds), and the upstreams in the file's order.

    The others are (path, text): ``problems`` say which upstreams cannot be run, ``warnings`` what has no effect,
    ``mended`` what was taken for something else than what is written, and ``left_out`` which entries the file itself
    does not want. ``virtual_servers`` are by name.
    """

    settings: dict[str, Any]
    upstreams: list[UpstreamSpec]
    problems: Said = []
    warnings: Said = []
    mended: Said = []
    left_out: Said = []
    files: tuple[Path, ...] = ()
    """The files that references in it name (``${file:…}``)."""
    virtual_servers: dict[str, VirtualServer] = {}

    def __repr__(self) -> str:
        return f"Config(settings={sorted(self.settings)}, upstreams={self.upstreams})"  # the admin token may be set


def load(
    path: str | Path, environment: Mapping[str, str] | None = None, strict: bool = False, own: bool = False
) -> Config:
    """Return the content of the file at ``path``. ``own``: it is the administrator's, and may run programs if the
    environment allows it.

    Raises ``ConfigError`` with every problem of the file as a whole and its path in the file; if ``strict``, also with
    those of single entries, and with unknown keys.
    """
    file = Path(path)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror or error}") from error
    document = decode(data, file)
    return parse(document, os.environ if environment is None else environment, file.absolute().parent, strict, own)


def parse(document: Any, environment: Mapping[str, str], base: Path, strict: bool = False, own: bool = False) -> Config:
    """Return the content of a decoded document. ``base`` is the folder from which relative ``cwd`` and ``envFile``
    start. Raises ``ConfigError`` as ``load`` does."""
    if document is None:
        document = {}
    if isinstance(document, list):
        document = {"mcpServers": document}
    if not isinstance(document, dict):
        raise ConfigError("a configuration is an object with 'gateway' and 'mcpServers'")
    roots = find(document)
    twice = [key for key in getattr(document, "twice", ()) if key in (*OWN, *ROOTS)]
    problems = [(key, f"duplicate key {key!r}; only one of them can be meant, join them") for key in twice]
    files: Any = FileContents(base, environment)
    secrets: Any = ChainMap(files, CommandOutputs(environment, own))  # type: ignore[arg-type]
    settings = _settings(document, ChainMap(dict(environment), secrets), problems, base)
    virtual = _virtual_servers(document, ChainMap(dict(environment), secrets), problems)
    if problems and not strict:
        raise ConfigError(problems)
    workspace = environment.get("GATEWAY_WORKSPACE_FOLDER") or settings.get("workspaceFolder") or ""
    of_some, warnings = of_projects(document, roots.entries, os.path.expanduser(workspace), roots.problems)
    roots.warnings += warnings
    variables = _variables(document, workspace, environment, base, secrets)
    readings = list(_unique(_read(entry, variables, environment, base) for entry in [*roots.entries, *of_some]))
    unmatched = _unmatched(settings, readings)
    if any(one.spec is not None and one.spec.name in virtual for one in readings):
        raise ConfigError([*problems, *_clashes(virtual, readings)])
    if strict:
        problems = _in_order(roots.warnings + problems + roots.problems + unmatched, readings)
        if problems:
            raise ConfigError(problems)
    return Config(
        settings=settings,
        upstreams=[one.spec for one in readings if one.spec is not None],
        problems=[said for one in readings for said in one.problems],
        warnings=roots.warnings + roots.problems + unmatched + [said for one in readings for said in one.warnings],
        mended=[said for one in readings for said in one.mended],
        left_out=[(one.path, one.off) for one in readings if one.off],
        files=tuple(sorted(files.named)),
        virtual_servers=virtual,
    )


def _in_order(of_the_file: Said, readings: list[Reading]) -> Said:
    return of_the_file + [said for one in readings for said in (*one.warnings, *one.problems)]


def _settings(document: dict[str, Any], environment: Mapping[str, str], problems: Said, base: Path) -> dict[str, Any]:
    """Return the gateway's own settings. One that is wrong or unknown is a problem of the file: some of them say who
    may do what. Paths of files start at ``base``."""
    settings = expand(document.get("gateway") or {}, environment, "gateway", problems)
    if not isinstance(settings, dict):
        problems.append(("gateway", "must be an object"))
        return {}
    if "access" in document:
        settings = {**settings, **_access(document["access"], environment, problems, base)}
    try:
        build(settings)
    except ConfigError as error:
        problems += error.problems
        return settings
    return with_paths(settings, base)


def _access(written: Any, environment: Mapping[str, str], problems: Said, base: Path) -> dict[str, str]:
    """Return the setting that holds the rules of access. Whatever is wrong with one of them is a problem of the file:
    a rule is obeyed or refused, never ignored. Paths of files start at ``base``."""
    document = expand(written, environment, "access", problems)
    try:
        access_rules.read(document)
    except ConfigError as error:
        problems += error.problems
        return {}
    return {"accessRules": json.dumps(access_rules.with_paths(document, base))}


def _unmatched(settings: dict[str, Any], readings: list[Reading]) -> Said:
    """Return the rules of access that are about groups which the file does not have. A file without upstreams says
    nothing about groups: they come by the admin API."""
    groups = {one.spec.name for one in readings if one.spec is not None}
    written = settings.get("accessRules")
    if not groups or not isinstance(written, str):
        return []
    return [
        (path, f"{text!r} matches nothing: the file has no group {named!r}{suggestion(named, groups)}")
        for path, text, named in access_rules.parse(written).of_no_group(groups)
    ]


def _virtual_servers(
    document: dict[str, Any], environment: Mapping[str, str], problems: Said
) -> dict[str, VirtualServer]:
    """Return the virtual servers of a file. Whatever is wrong with one of them is a problem of the file: what should be
    hidden must not be shown for a mistake."""
    if document.get("virtualServers") is None:
        return {}
    try:
        return read_all(expand(document["virtualServers"], environment, "virtualServers", problems))
    except ConfigError as error:
        problems += error.problems
        return {}


def _clashes(virtual: Mapping[str, VirtualServer], readings: list[Reading]) -> Iterator[tuple[str, str]]:
    groups = dict.fromkeys(one.spec.name for one in readings if one.spec is not None)
    for name in groups:
        if name in virtual:
            text = "is the name of a group as well, and both are served at /servers/{name}: rename one of them"
            yield f"virtualServers.{name}", text.replace("{name}", name)


def _variables(
    document: dict[str, Any], folder: str, environment: Mapping[str, str], base: Path, files: Any
) -> ChainMap[str, str]:
    """Return what references in entries mean: the environment, what editors know, defaults of VS Code's ``inputs``,
    and the content of files."""
    workspace = Path(os.path.expanduser(folder)).absolute() if folder else workspace_of(base)
    inner = document.get("mcp")
    inputs = [*_inputs(document), *_inputs(inner if isinstance(inner, dict) else {})]
    return ChainMap(dict(editor_variables(environment, workspace, base)), dict(inputs), files)


def _read(entry: Found, variables: ChainMap[str, str], environment: Mapping[str, str], base: Path) -> Reading:
    """Read an entry. That of a project starts at the project's folder, if it is on this machine."""
    folder = Path(entry.folder)
    if entry.folder and folder.is_dir():
        of_project = dict(editor_variables(environment, folder))
        return read_entry(entry, ChainMap(of_project, *variables.maps[1:]), folder)
    return read_entry(entry, variables, base)


def _inputs(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    inputs = document.get("inputs")
    for one in inputs if isinstance(inputs, list) else ():
        if isinstance(one, dict) and one.get("id") and isinstance(one.get("default"), str):
            yield input_variable(str(one["id"])), one["default"]
    asked = document.get("user_config")  # extensions of Claude's
    for id, one in asked.items() if isinstance(asked, dict) else ():
        if isinstance(one, dict) and isinstance(one.get("default"), str):
            yield input_variable(str(id)), one["default"]


def _unique(readings: Any) -> Iterator[Reading]:
    """Yield the readings with one upstream for each id: an id that is there already is a flaw of the later entry."""
    taken: set[str] = set()
    for reading in readings:
        spec = reading.spec
        if spec is not None and spec.id in taken:
            if not reading.problems:
                reading.problems.append((reading.path, "duplicate id; ids must be unique, rename one of them"))
                spec = flawed(spec.id, None, reading.path, reading.problems)
            place = 2
            while f"{spec.id} ({place})" in taken:
                place += 1
            id = shown_id(f"{spec.id} ({place})")
            reading.spec = spec = structs.replace(spec, id=id, name=id)
        if spec is not None:
            taken.add(spec.id)
        yield reading
