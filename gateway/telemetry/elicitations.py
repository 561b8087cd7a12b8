"""Questions to people in the audit log: what asked whom, and what became of it. No question's or answer's content.

A question and its answer have the same ``question``, a digest of what only their client and the gateway know; the
answer may come to another front end. Questions beside calls, on standing streams, are noted when they are answered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Protocol

import msgspec
from msgspec import Raw, Struct

from gateway.telemetry.observer import ObservedCall

_METHOD = "elicitation/create"
_MARK = b"input_required"
_ACTIONS = ("accept", "decline", "cancel")
_MOST = 100
"""More questions of one result are not noted singly."""
NOTHING = Raw(b"null")


class Notes(Protocol):
    """Where events are noted (``telemetry.audit``)."""

    def note(self, kind: str, **facts: Any) -> None:
        """Note an event."""


class Asker(Protocol):
    """The client session that a question belongs to."""

    sid: str
    principal: str
    client_info: bytes


class _Params(Struct):
    mode: str = "form"


class _Question(Struct):
    method: str = ""
    id: Raw = NOTHING
    params: _Params | None = None


class _Result(Struct, rename="camel"):
    result_type: str = ""
    request_state: str = ""
    input_requests: dict[str, _Question] = {}


class _Retry(Struct, rename="camel"):
    request_state: str = ""
    input_responses: dict[str, Raw] = {}


class _Response(Struct):
    action: str = ""


class Elicitations:
    """Notes questions and answers in ``audit``."""

    def __init__(self, audit: Notes) -> None:
        self._audit = audit

    def asked(self, call: ObservedCall, message: bytes) -> None:
        """Note a request on the stream of a handshake-era client's call, if it asks a person."""
        question = _read(message, _Question)
        if question is not None and question.method == _METHOD:
            self._note_asked(call, question, _digest(bytes(question.id)))

    def ended(self, call: ObservedCall, result: bytes) -> None:
        """Note the questions in the result of a modern client's call."""
        if _MARK not in result:
            return
        found = _read(result, _Result)
        if found is None or found.result_type != "input_required":
            return
        for key, question in list(found.input_requests.items())[:_MOST]:
            if question.method == _METHOD:
                self._note_asked(call, question, _digest(found.request_state.encode(), key.encode()))

    def _note_asked(self, call: ObservedCall, question: _Question, digest: str) -> None:
        mode = question.params.mode if question.params is not None else ""
        self._audit.note("elicitation", outcome="asked", mode=mode[:20], question=digest, **about(call))

    def answered(self, session: Asker, id: bytes, result: bytes) -> None:
        """Note a response of a handshake-era client, if it is a person's answer."""
        action = _action(result)
        if action:
            self._audit.note(
                "elicitation",
                outcome=action,
                question=_digest(id),
                principal=session.principal,
                session=session.sid,
                client=session.client_info,
            )


def answers_in(params: bytes) -> Iterator[tuple[str, str]]:
    """Yield (action, question) of each answer with which a modern client's call has come again."""
    found = _read(params, _Retry)
    if found is None:
        return
    for key, response in list(found.input_responses.items())[:_MOST]:
        action = _action(bytes(response))
        if action:
            yield action, _digest(found.request_state.encode(), key.encode())


def about(call: ObservedCall) -> dict[str, Any]:
    """Return the facts of the call that a question or an answer belongs to."""
    session = getattr(call, "session", None)
    return {
        "principal": call.principal,
        "method": call.method,
        "group": call.group,
        "name": call.name,
        "upstream": call.upstream,
        "session": session.sid if session is not None else None,
        "client": session.client_info if session is not None else None,
        "trace": call.trace,
    }


def _action(result: bytes) -> str:
    found = _read(result, _Response)
    return found.action if found is not None and found.action in _ACTIONS else ""


def _read(document: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(document, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
