"""What a server asks of a person during a call (elicitation), asked on the terminal.

Where nobody sits at one it is declined, with a line that says so. Counterpart: ``mcp_client``, which carries answers.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import click

from gateway.cli.arguments import value_of
from gateway.cli.content import printable
from shared.errors import ConfigError
from shared.logs import escaped

_NUMBERS = {"integer", "number"}


class _Declined(Exception):
    """The person ended the input (Ctrl-D), or said no."""


class Person:
    """Whoever sits at stdin, if that is a terminal."""

    def __init__(self) -> None:
        self._one_at_a_time = asyncio.Lock()

    async def answer(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return the result of an ``elicitation/create`` with these ``params`` (specification, client/elicitation)."""
        message = printable(params.get("message") or "").strip() or "(it does not say what for)"
        if not sys.stdin.isatty():
            _tell(f"declined: the server asks a person, and stdin is no terminal: {message}")
            return {"action": "decline"}
        async with self._one_at_a_time:
            try:
                if params.get("mode") == "url":
                    await self._visit(message, printable(params.get("url") or ""))
                    return {"action": "accept"}
                return {"action": "accept", "content": await self._form(message, params.get("requestedSchema"))}
            except _Declined:
                _tell("\ndeclined")
                return {"action": "decline"}

    async def _visit(self, message: str, url: str) -> None:
        _tell(f"The server asks you to visit a page: {message}\n  {url}")
        while True:
            said = (await _line("Open it, and press Enter when you are done there (n declines): ")).lower()
            if said in ("n", "no"):
                raise _Declined
            if said in ("", "y", "yes"):
                return

    async def _form(self, message: str, schema: Any) -> dict[str, Any]:
        properties = schema.get("properties") if isinstance(schema, dict) else None
        properties = properties if isinstance(properties, dict) else {}
        required = schema.get("required") if isinstance(schema, dict) else None
        _tell(f"The server asks: {message}   (Ctrl-D declines)")
        if not properties:
            if (await _line("Agree? [Y/n]: ")).lower() in ("n", "no"):
                raise _Declined
            return {}
        content: dict[str, Any] = {}
        for name, field in properties.items():
            value = await self._field(name, field, name in (required if isinstance(required, list) else ()))
            if value is not None:
                content[name] = value
        return content

    async def _field(self, name: str, field: Any, needed: bool) -> Any:
        """Ask for one member of the form until the answer fits; ``None`` if it is left out."""
        field = field if isinstance(field, dict) else {}
        several = field.get("type") == "array"
        choices = _choices(field.get("items") if several else field)
        title = printable(field.get("title") or name)
        about = printable(field.get("description") or "")
        _tell(f"{title}{f': {about}' if about else ''}")
        for number, (_, label) in enumerate(choices, 1):
            _tell(f"  {number}) {printable(label)}")
        default = field.get("default")
        hint = "" if default is not None else "" if needed else " (may be empty)"
        shown = "" if default is None else f" [{printable(default)}]"
        if several:
            hint += " (separated by commas)"
        elif field.get("type") == "boolean":
            hint += " (yes or no)"
        while True:
            text = await _line(f"  {printable(name)}{hint}{shown}: ")
            if not text:
                if default is not None or not needed:
                    return default
                _tell("  it is needed")
                continue
            try:
                if several:
                    return [_chosen(one.strip(), choices) for one in text.split(",") if one.strip()]
                return _fitting(_chosen(text, choices) if choices else value_of(text, field, name), field)
            except ConfigError as error:
                _tell(f"  {error}")


def _choices(schema: Any) -> list[tuple[Any, str]]:
    """Return the values that a schema allows, each with what is shown for it."""
    if not isinstance(schema, dict):
        return []
    titled = schema.get("oneOf") or schema.get("anyOf")
    if isinstance(titled, list) and all(isinstance(one, dict) and "const" in one for one in titled):
        return [(one["const"], str(one.get("title") or one["const"])) for one in titled]
    values = schema.get("enum")
    if not isinstance(values, list):
        return []
    names = schema.get("enumNames")
    labels = names if isinstance(names, list) and len(names) == len(values) else values
    return [(value, str(label)) for value, label in zip(values, labels, strict=True)]


def _chosen(text: str, choices: list[tuple[Any, str]]) -> Any:
    if not choices:
        return text
    for value, label in choices:
        if text in (str(value), label):
            return value
    if text.isdecimal() and 1 <= int(text) <= len(choices):
        return choices[int(text) - 1][0]
    raise ConfigError(f"{text!r} is none of them")


def _fitting(value: Any, field: dict[str, Any]) -> Any:
    """Return the value if it is within the field's limits. Raises ``ConfigError``."""
    numeric = field.get("type") in _NUMBERS
    size = value if numeric else len(value) if isinstance(value, str) else None
    for key, words in (
        ("minimum", "at least"),
        ("minLength", "at least"),
        ("maximum", "at most"),
        ("maxLength", "at most"),
    ):
        limit = field.get(key)
        if size is None or not isinstance(limit, int | float) or numeric is not (key in ("minimum", "maximum")):
            continue
        if size < limit if key.startswith("min") else size > limit:
            raise ConfigError(f"must {'be' if numeric else 'have'} {words} {limit:g}{'' if numeric else ' characters'}")
    return int(value) if field.get("type") == "integer" else value


def _tell(text: str) -> None:
    click.echo("\n".join(map(escaped, text.split("\n"))), err=True)


async def _line(prompt: str) -> str:
    """Return a line that is typed. Ctrl-C ends the wait, which it would not do in a thread. Raises ``_Declined``."""
    click.echo(escaped(prompt), err=True, nl=False)
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
    line = os.read(sys.stdin.fileno(), 65536)  # a terminal gives one line; ``readline`` would keep those after it
    if not line:
        raise _Declined
    return line.decode(errors="replace").strip()
