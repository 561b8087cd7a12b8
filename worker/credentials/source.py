"""The interface between the transport that writes requests and whoever has the tokens."""

from __future__ import annotations

from typing import Protocol

from shared.oauth.challenges import Challenge


class Credentials(Protocol):
    """The credentials of one principal, or of the gateway itself, for one upstream.

    ``refused_code`` is the code of the error for which missing credentials make a call fail
    (``shared.errors.WIRE``).
    """

    refused_code: str

    def current(self) -> str | None:
        """Return the value of ``Authorization`` if it is known and will last, else ``None``. Asked for each
        request."""

    async def renewed(self, refused: str, challenge: Challenge | None) -> str | None:
        """Return a value of ``Authorization`` that is not ``refused`` (empty: none was sent).

        ``challenge`` is what the upstream said when it refused. ``None`` means that no other value can be had, so the
        refusal stands. Raises ``CallError`` with the reason if one could not be got.
        """
