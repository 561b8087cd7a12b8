"""Expansion of references in the strings of configuration files. Pure: the variables are an argument.

What clients write: ``${VAR}``, ``${VAR:-default}`` and ``${env:VAR}`` (Claude, Cursor, VS Code), ``${localEnv:VAR}``
and ``${containerEnv:VAR}`` (dev containers), ``${{ secrets.VAR }}`` (Continue), ``{env:VAR}`` and ``{file:PATH}``
(opencode; also ``${file:PATH}``), ``{{VAR}}`` (LibreChat), ``os.environ/VAR`` (LiteLLM), ``$VAR`` (Gemini CLI, Crush),
``${input:id}`` (VS Code), ``${user_config.id}`` (Claude's extensions) and ``${cmd: PROGRAM}`` (mcphub.nvim).
``editor_variables`` are what editors know: ``${workspaceFolder}``, ``${userHome}``, ``${/}``.
``${exec:PROGRAM}`` is our own (``commands``).
"""

from __future__ import annotations

import os
import re
from collections import ChainMap
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from shared.config.commands import MARK, WHY

REFERENCES = re.compile(
    r"\$\{\{\s*(?P<secret>(?:secrets|inputs|env)\.[A-Za-z_][A-Za-z0-9_]*)\s*\}\}"
    r"|\$\{ *(?P<name>/|(?:file|exec|cmd):[^{}\n]+?|[A-Za-z_][A-Za-z0-9_:./-]*?)"
    r"(?: *|:[-=](?P<default>(?:[^}\\$]|\\.|\$\{[^{}]*\}|\$)*))\}"
    r"|(?<![${])\{env:(?P<braced>[A-Za-z_][A-Za-z0-9_]*)\}"
    r"|(?<![${])\{(?P<file>file:[^{}\n]+)\}"
    r"|(?<!\$)\{\{(?P<user>[A-Z][A-Z0-9_]*)\}\}"
    r"|\Aos\.environ/(?P<python>[A-Za-z_][A-Za-z0-9_]*)\Z"
)
"""References as most clients write them."""
_NAME = r"\$(?P<dollar>[A-Z_][A-Z0-9_]*)(?!\w)"
DOLLARS = re.compile(REFERENCES.pattern + rf"""|(?<![^\s:=/,;"']){_NAME}""")
"""References, and ``$NAME`` where a word may begin: in headers and variables (Gemini CLI, Crush)."""
DOLLARS_OF_ARGUMENTS = re.compile(REFERENCES.pattern + rf"|(?:(?<![\s\S])|(?<==)){_NAME}")
"""The same where an argument or its value begins: an argument may be a program, in which ``$`` has its own meaning."""
_ASKED = ("input:", "user_config.")
_OF_ENVIRONMENT = ("env:", "ENV:", "localEnv:", "containerEnv:")
_SHORT_DEFAULT = re.compile(r"([A-Z_][A-Z0-9_]*)[:-](.*)")
_EDITORS_OWN = ("command:", "config:")
_DOT_FOLDERS = (".vscode", ".cursor", ".gemini", ".kiro", ".roo", ".zed", ".codex", ".continue", ".windsurf", ".github")


def expand(
    value: Any,
    variables: Mapping[str, str],
    path: str,
    problems: list[tuple[str, str]],
    pattern: re.Pattern[str] = REFERENCES,
    kept: Collection[str] = (),
) -> Any:
    """Return ``value`` with every reference in its strings replaced. Variables that are not set are added to
    ``problems``, but for those in ``kept``: references to these stay as they are, for the program that gets the text.

    ``pattern`` says what a reference is. With ``DOLLARS`` that is ``$NAME``, too, where that variable is set.
    """
    if isinstance(value, str):
        return _expand_text(value, variables, path, problems, pattern, kept)
    if isinstance(value, list):
        return [
            expand(item, variables, f"{path}[{index}]", problems, pattern, kept) for index, item in enumerate(value)
        ]
    if isinstance(value, dict):
        return {
            key: expand(item, variables, f"{path}.{key}" if path else str(key), problems, pattern, kept)
            for key, item in value.items()
        }
    return value


def _expand_text(
    text: str,
    variables: Mapping[str, str],
    path: str,
    problems: list[tuple[str, str]],
    pattern: re.Pattern[str] = REFERENCES,
    kept: Collection[str] = (),
) -> str:
    def replace(match: re.Match[str]) -> str:
        dollar = match.groupdict().get("dollar")
        if dollar:
            value = None if dollar in kept else variables.get(dollar)
            return match[0] if value is None else value
        name, default = _with_default(_meant(match), match["default"])
        if name.startswith(_EDITORS_OWN):
            problems.append((path, f"${{{name}}} asks an editor, and a gateway is none: write the value"))
            return ""
        asked = name.startswith(_ASKED)
        variable = input_variable(name.removeprefix("input:").removeprefix("user_config.")) if asked else name
        found = variables.get(variable)
        if found:
            return found
        if default is not None:
            return _expand_text(default, variables, path, problems) if "${" in default else default
        if found is not None:
            return found
        if name in kept:
            return match[0]
        if asked:
            problems.append(
                (path, f"${{{name}}} asks a person, and a gateway has none: set the environment variable {variable}")
            )
        elif match["file"] or name.startswith("file:"):
            problems.append((path, f"{{{name}}}: this file cannot be read, or is no text of less than 64 KiB"))
        elif name.startswith(MARK):
            program = name.removeprefix(MARK).split(maxsplit=1)[0:1]
            why = variables.get(WHY + name) or "programs are not run here"
            problems.append((path, f"${{{MARK}{''.join(program)} …}}: {why}"))
        elif match["name"]:
            problems.append((path, f"environment variable {name} is not set; set it or write ${{{name}:-default}}"))
        else:
            problems.append((path, f"environment variable {name} is not set; set it"))
        return ""

    return pattern.sub(replace, text)


def _meant(match: re.Match[str]) -> str:
    if match["secret"]:
        return match["secret"].partition(".")[2]
    if match["file"]:
        return str(match["file"])
    name = match["name"] or match["braced"] or match["user"] or match["python"]
    for prefix in _OF_ENVIRONMENT:
        name = name.removeprefix(prefix)
    if name.startswith("cmd:"):  # mcphub.nvim
        return MARK + name.removeprefix("cmd:").strip()
    return "workspaceFolder" if name.startswith("workspaceFolder:") else name


def _with_default(name: str, default: str | None) -> tuple[str, str | None]:
    """Return a name and its default, which shells write behind ``-`` and dev containers behind ``:``."""
    short = _SHORT_DEFAULT.fullmatch(name) if default is None else None
    return (short[1], short[2]) if short is not None else (name, default)


def input_variable(id: str) -> str:
    """Return the environment variable that answers ``${input:id}``."""
    return "GATEWAY_INPUT_" + re.sub(r"[^A-Z0-9]", "_", id.upper())


def workspace_of(folder: Path) -> Path:
    """Return the folder that ``${workspaceFolder}`` means in a file in ``folder``: an editor's ``.vscode`` and its like
    are inside of it."""
    for inner in (folder, *folder.parents[:1]):
        if inner.name in _DOT_FOLDERS:
            return inner.parent
    return folder


def editor_variables(environment: Mapping[str, str], workspace: Path, base: Path | None = None) -> Mapping[str, str]:
    """Return the variables of the environment and those that editors know beside them. ``base`` is the folder of the
    file, if it is not the workspace."""
    folder, home = str(workspace), environment.get("HOME") or os.path.expanduser("~")
    of_containers = ("localWorkspaceFolder", "containerWorkspaceFolder")  # dev containers
    known = dict.fromkeys(("workspaceFolder", "workspaceRoot", "fileWorkspaceFolder", "cwd", *of_containers), folder)
    known |= {f"{name}Basename": workspace.name for name in ("workspaceFolder", *of_containers)}
    known["userHome"] = home
    known["CLAUDE_PROJECT_DIR"] = folder
    # Extensions of Claude and Gemini CLI are in the folder of their file.
    known |= dict.fromkeys(("CLAUDE_PLUGIN_ROOT", "extensionPath", "__dirname"), str(base or workspace))
    known["workspacePath"] = folder
    known |= {"/": os.sep, "pathSeparator": os.sep}
    return ChainMap({}, dict(environment), known)


def home_expanded(text: str, variables: Mapping[str, str]) -> str:
    """Return a path with the ``~`` that it begins with replaced."""
    if text == "~" or text.startswith(("~/", "~\\")):
        return variables["userHome"] + text[1:]
    return text
