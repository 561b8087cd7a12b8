"""JSON as people and their editors write it: with comments and trailing commas, or JSON5. Counterpart:
``shared.config.documents``.

JSON with comments is read by the fast reader. Only what that refuses is given to the JSON5 reader (https://spec.json5.org),
which also knows better where in the text the flaw is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import jsonc

_LONGEST = 128 * 1024
"""The longest text for the JSON5 reader, which takes a second for 40 KB."""
_PLACE = re.compile(r"<string>:(\d+) (.*?)(?: at column (\d+))?$", re.DOTALL)
_BACKSLASH = re.compile(r"""\\(?=["'\\/bfnrtvu0x\r\n\u2028\u2029])(?:.|\n)|(\\)""", re.DOTALL)
_BEFORE = re.compile(r"[\u2018\u2019\u201c\u201d#]|,(?=[,}\]])")
_HINTS = (
    (re.compile(r"[\u2018\u2019\u201c\u201d]"), "a curly quote; write a plain one"),
    (re.compile(r"True|False|None"), "Python's {0!r}; JSON has true, false and null"),
    (re.compile(r"```"), "a fence of Markdown; leave it out"),
    (re.compile(r"#"), "'#'; comments begin with //"),
    (re.compile(r"<"), "'<'; is this a page of HTML, or a merge that was left open?"),
    (re.compile(r","), "a comma too many"),
    (re.compile(r"""["'{\[]|[A-Za-z0-9_-]"""), "{0!r}; is a comma or a colon missing before it?"),
    (re.compile(r"[}\]]"), "{0!r}; is something missing before it?"),
    (re.compile(r":"), "':'; are the braces around the whole file missing?"),
    (re.compile(r"\S"), "{0!r}"),
)


def loads(text: str, members: Callable[[list[tuple[Any, Any]]], Any]) -> Any:
    """Return the document in ``text``. ``members`` makes its objects. Raises ``ValueError``, whose text says what is
    wrong and where."""
    try:
        return jsonc.loads(text, object_pairs_hook=members)
    except json.JSONDecodeError as error:
        stray = next((one.start() for one in _BACKSLASH.finditer(text) if one[1]), None)
        if stray is not None:  # JSON5 would drop it without a word
            raise ValueError(f"{_place(text, stray)}: a backslash is written as two, \\\\") from error
        if len(text) > _LONGEST:
            raise ValueError(f"{error}, in lines counted without comments") from error
    return _json5(text, members)


def _json5(text: str, members: Callable[[list[tuple[Any, Any]]], Any]) -> Any:
    import json5  # here, because few files need it

    try:
        return json5.loads(text, object_pairs_hook=lambda pairs: members(list(pairs)))
    except ValueError as error:
        found = _PLACE.match(str(error))
        if found is None:
            raise
        line, said, column = int(found[1]), found[2], int(found[3] or 1)
    if said.startswith("Unexpected end"):
        raise ValueError("it ends too early; is a bracket or a quote not closed?")
    after = "\n".join(text.split("\n")[line - 1 :])
    at = column - 1
    if at and _BEFORE.match(after, at - 1):  # the reader stops behind the first character of some
        at -= 1
    for pattern, hint in _HINTS:
        match = pattern.match(after, at)
        if match is not None:
            raise ValueError(f"line {line}, column {at + 1}: unexpected " + hint.format(match[0]))
    raise ValueError(f"line {line}, column {column}: {said}")


def _place(text: str, at: int) -> str:
    line = text.count("\n", 0, at) + 1
    return f"line {line}, column {at - text.rfind(chr(10), 0, at)}"
