"""``shared.config.expand``: references in strings, wherever the strings are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.config import expand
from shared.config.expand import editor_variables, home_expanded, workspace_of

ENVIRONMENT = {"USER": "ada", "EMPTY": "", "HOST": "h.test", "LOOP": "${USER}", "GATEWAY_INPUT_MY_KEY": "k1"}


def _expand(value: Any) -> tuple[Any, list[tuple[str, str]]]:
    problems: list[tuple[str, str]] = []
    return expand(value, ENVIRONMENT, "at", problems), problems


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("${USER}", "ada"),
        ("a-${USER}-${HOST}-b", "a-ada-h.test-b"),
        ("${env:USER}", "ada"),
        ("${USER:-bob}", "ada"),
        ("${MISSING:-bob}", "bob"),
        ("${MISSING:-}", ""),
        ("${MISSING:-http://x:80/a-b}", "http://x:80/a-b"),
        ("${MISSING:-a:-b}", "a:-b"),
        ("${EMPTY:-bob}", "bob"),
        ("${EMPTY}", ""),
        ("${env:MISSING:-bob}", "bob"),
        ("${LOOP}", "${USER}"),
        ("$USER $$ ${} ${1} {USER}", "$USER $$ ${} ${1} {USER}"),
        ("${input:my-key}", "k1"),
        ("${user_config.my.key}", "k1"),
        ("${{ secrets.USER }}@${{inputs.HOST}}", "ada@h.test"),
        ("Bearer {env:USER}", "Bearer ada"),
        ("{{USER}}", "ada"),
        ("${ USER }", "ada"),
        ("${localEnv:USER}", "ada"),
        ("${localEnv:MISSING:bob}", "bob"),
        ("${containerEnv:USER}", "ada"),
        ("${MISSING:=bob}", "bob"),
        ("${MISSING-bob}", "bob"),
        ("${USER-bob}", "ada"),
        ("os.environ/USER", "ada"),
        ("see os.environ/USER", "see os.environ/USER"),
        ("{{json .}} {{ USER }} {{user}} {env:} {file:}", "{{json .}} {{ USER }} {{user}} {env:} {file:}"),
    ],
)
def test_references_are_replaced_and_everything_else_is_kept(text: str, expected: str) -> None:
    assert _expand(text) == (expected, [])


@pytest.mark.parametrize("text", ["${MISSING}", "x${env:MISSING}y"])
def test_a_missing_variable_is_named_with_its_path_and_the_cure(text: str) -> None:
    _, problems = _expand(text)
    assert problems == [("at", "environment variable MISSING is not set; set it or write ${MISSING:-default}")]


def test_an_editors_input_cannot_be_asked_for() -> None:
    _, [(path, text)] = _expand("${input:api-key}")
    assert path == "at"
    assert "${input:api-key}" in text
    assert text.endswith("set the environment variable GATEWAY_INPUT_API_KEY")


@pytest.mark.parametrize("text", ["${{ secrets.MISSING }}", "{env:MISSING}", "{{MISSING}}"])
def test_a_missing_variable_is_named_however_it_is_written(text: str) -> None:
    assert _expand(text)[1] == [("at", "environment variable MISSING is not set; set it")]


@pytest.mark.parametrize("text", ["${command:pick}", "${config:editor.x}"])
def test_what_only_an_editor_knows_is_a_problem(text: str) -> None:
    [(path, told)] = _expand(text)[1]
    assert (path, "asks an editor" in told) == ("at", True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${workspaceFolder}/x", "/w/proj/x"),
        ("${workspaceFolder:api}", "/w/proj"),
        ("${workspaceRoot}", "/w/proj"),
        ("${workspaceFolderBasename}", "proj"),
        ("${localWorkspaceFolder}/${containerWorkspaceFolderBasename}", "/w/proj/proj"),
        ("${userHome}/bin", "/home/ada/bin"),
        ("a${/}b${pathSeparator}c", "a/b/c"),
        ("${NAME}", "of the environment"),
    ],
)
def test_what_editors_know_is_known_here(text: str, expected: str) -> None:
    variables = editor_variables({"HOME": "/home/ada", "NAME": "of the environment"}, Path("/w/proj"))
    problems: list[tuple[str, str]] = []
    assert (expand(text, variables, "at", problems), problems) == (expected, [])


@pytest.mark.parametrize(
    ("folder", "workspace"),
    [
        ("/w/p", "/w/p"),
        ("/w/p/.vscode", "/w/p"),
        ("/w/p/.kiro/settings", "/w/p"),
        ("/w/p/.vscode/a/b", "/w/p/.vscode/a/b"),
    ],
)
def test_the_workspace_of_a_file_in_an_editors_folder_is_around_that_folder(folder: str, workspace: str) -> None:
    assert workspace_of(Path(folder)) == Path(workspace)


def test_a_home_stands_only_at_the_beginning_of_a_path() -> None:
    variables = {"userHome": "/home/ada"}
    found = [home_expanded(text, variables) for text in ("~", "~/x", "a~/x", "~bob/x", "")]
    assert found == ["/home/ada", "/home/ada/x", "a~/x", "~bob/x", ""]


def test_every_missing_variable_is_reported_with_its_own_path() -> None:
    value, problems = _expand({"a": ["${ONE}", "${USER}", {"b": "${TWO} ${THREE}"}], "c": "${FOUR}"})
    assert value["a"][1] == "ada"
    assert [path for path, _ in problems] == ["at.a[0]", "at.a[2].b", "at.a[2].b", "at.c"]
    for (_, text), name in zip(problems, ["ONE", "TWO", "THREE", "FOUR"], strict=True):
        assert f"variable {name} " in text


def test_the_top_of_a_document_has_no_path_of_its_own() -> None:
    problems: list[tuple[str, str]] = []
    expand({"a": "${ONE}"}, {}, "", problems)
    assert [path for path, _ in problems] == ["a"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text().filter(lambda text: "${" not in text),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    )
)
def test_a_document_without_references_is_unchanged(value: Any) -> None:
    assert _expand(value) == (value, [])


def test_keys_are_not_expanded() -> None:
    assert _expand({"${USER}": 1}) == ({"${USER}": 1}, [])


def test_a_default_may_have_a_variable_in_it() -> None:
    problems: list[tuple[str, str]] = []
    for text, expected in (
        ("${A:-${HOME}/x}/y", "/h/x/y"),
        ("${A:-${B:-c}}", "c"),
        ("${A:-$5}", "$5"),
        ("${HOME:-${A}}", "/h"),
    ):
        assert expand(text, {"HOME": "/h"}, "p", problems) == expected
    assert problems == []


def test_extensions_know_the_folder_of_their_file() -> None:
    variables = editor_variables({"HOME": "/h"}, Path("/work"), Path("/work/.gemini/x"))
    found = expand("${extensionPath}${/}a ${CLAUDE_PLUGIN_ROOT} ${workspacePath}", variables, "p", [])
    assert found == "/work/.gemini/x/a /work/.gemini/x /work"
