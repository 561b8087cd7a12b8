"""Finding tools by words: a full-text index of the tools of one view, in memory (SQLite FTS5, bm25). Pure: it reads and
writes nothing outside of itself.

An index belongs to what one kind of caller sees, so nobody finds what they may not call. ``sync`` changes what differs
from the last time. Building takes some 20 µs for each tool and a search up to 2 ms, so both are done beside the loop
(``fleet.tool_search``).
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from gateway.routing.view import Listed

Synonyms = Sequence[Sequence[str]]
"""Sets of words, or of short phrases, that mean the same."""
_COLUMNS = "name, place, title, description, parameters"
_WEIGHTS = "4.0, 1.0, 2.0, 2.0, 0.5"
"""How much a word counts in each column (bm25)."""
_TABLE = f"CREATE VIRTUAL TABLE tools USING fts5({_COLUMNS}, tokenize='porter unicode61 remove_diacritics 2')"
_INSERT = "INSERT INTO tools(rowid, name, place, title, description, parameters) VALUES (?, ?, ?, ?, ?, ?)"
_COUNT = "SELECT count(*) FROM tools WHERE tools MATCH ?"
_FIND = (
    f"SELECT id FROM (SELECT rowid AS id, bm25(tools, {_WEIGHTS}) AS score FROM tools WHERE tools MATCH ? LIMIT ?) "
    "ORDER BY score LIMIT ?"
)
_MOST_RANKED = 700
"""How many tools are ranked for one query; each takes 0.7 µs. Words that very many tools have tell little apart."""
_MOST_WORDS = 24
_MOST_ALIKE = 32
"""How many words are looked for in place of one: the first of those that mean the same."""
_MOST_TEXT = 8192
"""How much of a description, and of all parameters together, is indexed, in characters."""
_MOST_PARAMETERS = 200
_DEPTH = 4
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_UNSPACED = re.compile("([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af])")
"""Characters of scripts that put no spaces between words: each is taken for a word."""
_WORD = re.compile(r"[^\W_]+")
_STOP = frozenset(
    re.findall(
        r"\w+",
        "a about all also am an and any are as at be been but by can could do does for from had has have how i if in "
        "into is it its just let like may me my need of on one or our please should so some that the their them then "
        "there these they this those to up us use using want was we were what when where which who will with would you "
        "your",
    )
)
"""Words without a meaning of their own. A query of nothing else is searched for all the same."""
_ROW_BYTES = 300
"""About what an indexed tool takes beside the database."""


class ToolIndex:
    """The index of one list of tools. ``size_bytes`` is about what it takes in memory."""

    def __init__(self, synonyms: Synonyms = ()) -> None:
        self._db = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._db.execute(_TABLE)
        self._alike = _alike(synonyms)
        self._synced: Sequence[Listed] = ()
        self._rows: dict[str, tuple[int, Listed]] = {}  # by listed name
        self._listed: dict[int, Listed] = {}
        self._next = 1
        self.size_bytes = 0

    def close(self) -> None:
        """Give the memory back."""
        self._db.close()

    def sync(self, tools: Sequence[Listed]) -> int:
        """Have these tools in the index and no others. Return how many had to be written."""
        if tools is self._synced:
            return 0
        gone = self._rows.keys() - {one.name for one in tools}
        changed = []
        for one in tools:
            known = self._rows.get(one.name)
            if known is None or known[1].route.entry is not one.route.entry:
                changed.append(one)
            elif known[1] is not one:
                self._rows[one.name] = known[0], one
                self._listed[known[0]] = one
        if gone or changed:
            self._write(gone, changed)
        self._synced = tools
        return len(changed)

    def _write(self, gone: Iterable[str], changed: Iterable[Listed]) -> None:
        self._db.execute("BEGIN")
        for name in gone:
            self._delete(name)
        for one in changed:
            if one.name in self._rows:
                self._delete(one.name)
            columns = words_of(one)
            row = self._next
            self._next += 1
            self._db.execute(_INSERT, (row, *columns))
            self._rows[one.name] = row, one
            self._listed[row] = one
        self._db.execute("COMMIT")
        pages, size = (self._db.execute(f"PRAGMA {one}").fetchone()[0] for one in ("page_count", "page_size"))
        self.size_bytes = pages * size + len(self._rows) * _ROW_BYTES

    def _delete(self, name: str) -> None:
        row, _ = self._rows.pop(name)
        del self._listed[row]
        self._db.execute("DELETE FROM tools WHERE rowid = ?", (row,))

    def search(self, query: str, limit: int) -> list[Listed]:
        """Return the tools that fit a query best, the best first, at most ``limit``."""
        exact = self._rows.get(query.strip())
        expressions = list(self._expressions(query))
        counted = sorted((self._db.execute(_COUNT, (one,)).fetchone()[0], one) for one in expressions)
        taken: list[str] = []
        ranked = 0
        for count, expression in counted:
            if count and (not taken or ranked + count <= _MOST_RANKED):
                taken.append(expression)
                ranked += count
        found = self._ranked(taken, limit)
        if len(found) < limit:  # the words that were left out have to do
            left = [expression for count, expression in counted if count and expression not in taken]
            known = {one.name for one in found}
            found += [one for one in self._ranked(left, limit) if one.name not in known]
        if exact is not None:  # a name that is known already is asked for what it takes
            found = [exact[1], *(one for one in found if one.name != exact[1].name)]
        return found[:limit]

    def _ranked(self, expressions: Sequence[str], limit: int) -> list[Listed]:
        """Return the tools that fit any of these expressions, the best first."""
        if not expressions:
            return []
        rows = self._db.execute(_FIND, (" OR ".join(expressions), _MOST_RANKED, limit))
        return [self._listed[row] for (row,) in rows.fetchall()]

    def _expressions(self, query: str) -> Iterator[str]:
        """Yield an FTS5 expression for each word of a query, with what means the same."""
        words = list(dict.fromkeys(_words(query)))[: _MOST_WORDS * 4]
        telling = [one for one in words if one not in _STOP] or words
        spoken = f" {' '.join(words)} "
        for word in telling[:_MOST_WORDS]:
            yield _any_of([word, *self._alike.get(word, ())])
        for phrase, others in self._alike.items():
            if others and " " in phrase and f" {phrase} " in spoken:
                yield _any_of(list(others))


def words_of(tool: Listed) -> tuple[str, str, str, str, str]:
    """Return the words by which a tool is found: those of its name, of its group's, its title, description, and names
    and descriptions of its parameters."""
    entry = tool.route.entry
    plain: dict[str, Any] = orjson.loads(entry.modern)
    annotations = plain.get("annotations")
    titles = [plain.get("title"), annotations.get("title") if isinstance(annotations, dict) else None]
    parameters: list[str] = []
    _describe(plain.get("inputSchema"), parameters, _DEPTH)
    return (
        _spaced(f"{tool.name} {entry.name}" if entry.name not in tool.name else tool.name),
        _spaced(tool.route.group),
        _spaced(" ".join(one for one in titles if isinstance(one, str))),
        _spaced(_text(plain.get("description"))),
        _spaced(" ".join(parameters)[:_MOST_TEXT]),
    )


def _describe(schema: Any, found: list[str], depth: int) -> None:
    """Add the names and the descriptions of the parameters in a schema to ``found``."""
    if not isinstance(schema, dict) or depth == 0:
        return
    properties = schema.get("properties")
    for name, inner in properties.items() if isinstance(properties, dict) else ():
        if len(found) >= _MOST_PARAMETERS:
            return
        found.append(str(name))
        if isinstance(inner, dict):
            found.append(_text(inner.get("description")))
            _describe(inner, found, depth - 1)
    _describe(schema.get("items"), found, depth - 1)


def _text(value: Any) -> str:
    return value[:_MOST_TEXT] if isinstance(value, str) else ""


def _spaced(text: str) -> str:
    """Return a text in which words that are written together stand apart."""
    return _UNSPACED.sub(r" \1 ", _CAMEL.sub(" ", text)).replace("_", " ")


def _words(text: str) -> list[str]:
    return _WORD.findall(_spaced(text[:_MOST_TEXT]).lower())


def _alike(synonyms: Synonyms) -> Mapping[str, list[str]]:
    """Return for each word or phrase what means the same."""
    found: dict[str, list[str]] = {}
    for same in synonyms:
        phrases = [" ".join(_words(one)) for one in same]
        for one in phrases:
            others = [other for other in phrases if other and other != one]
            found.setdefault(one, []).extend(others)
    return {one: others[:_MOST_ALIKE] for one, others in found.items() if one}


def _any_of(phrases: Sequence[str]) -> str:
    """Return the FTS5 expression for one of these words or phrases. They have letters and digits only."""
    quoted = [f'"{one}"' for one in dict.fromkeys(phrases)]
    return quoted[0] if len(quoted) == 1 else f"({' OR '.join(quoted)})"
