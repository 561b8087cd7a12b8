"""The credentials of an upstream that is called in the name of each caller.

``PersonalCredentials`` is asked by ``worker.ownership.personal_upstream``, once for each realm.
"""

from __future__ import annotations

from typing import Protocol

from shared.errors import NotDelivered
from worker.credentials.grants import TokenExchangeGrant
from worker.credentials.realms import realm_of_token
from worker.credentials.renewal import Renewal
from worker.credentials.source import Credentials

REFUSED = "upstream_unauthorized"
"""The code for one caller's credentials, which say nothing about the upstream's health."""


class Personal(Credentials, Protocol):
    """The credentials of one realm."""

    async def missing(self) -> bool:
        """Whether the caller has to do something first (``PersonalCredentials.link``). Asked when ``current`` knows
        nothing."""

    def learn(self, subject_token: str) -> None:
        """Note the token with which a call of the realm came."""


class PersonalCredentials(Protocol):
    """The credentials of one upstream. ``of_gateway`` are the gateway's own, for listing and probing."""

    of_gateway: Credentials

    def realm(self, principal: str, subject_token: str) -> str:
        """Return the realm of a call. Raises ``CallError`` if there can be no credentials for its caller."""

    def of(self, principal: str, subject_token: str) -> Personal:
        """Return the credentials of a realm."""

    def link(self, principal: str) -> str:
        """Return the link by which a caller connects."""


class Exchanged(Renewal):
    """What a caller's tokens were exchanged for. Kept in this process alone."""

    def __init__(self, upstream: str, grant: TokenExchangeGrant) -> None:
        super().__init__(upstream, grant, None, REFUSED)
        self._exchange = grant

    def learn(self, subject_token: str) -> None:
        """Exchange this token the next time."""
        self._exchange.subject_token = subject_token

    async def missing(self) -> bool:
        """Whether the caller has to do something first: never, the caller's token is all that is needed."""
        return False


class ExchangedCredentials:
    """``tokenExchange``. ``make`` returns a way to exchange a token."""

    def __init__(self, upstream: str, of_gateway: Credentials, make: MakeGrant) -> None:
        self.of_gateway = of_gateway
        self._upstream = upstream
        self._make = make

    def realm(self, principal: str, subject_token: str) -> str:
        if not subject_token:
            raise NotDelivered(
                REFUSED,
                "it is called in the name of its caller, by the caller's access token; this caller has none "
                "(an API key, a certificate or nobody cannot be exchanged)",
            )
        return realm_of_token(principal, subject_token)

    def of(self, principal: str, subject_token: str) -> Exchanged:
        return Exchanged(self._upstream, self._make(subject_token))

    def link(self, principal: str) -> str:
        """Return nothing: nobody has to connect."""
        return ""


class MakeGrant(Protocol):
    """Makes the grant that exchanges a token."""

    def __call__(self, subject_token: str) -> TokenExchangeGrant:
        """Return the grant."""
