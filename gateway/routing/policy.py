"""Who may see what: the seam for rules of access. Pure.

Principals with the same rights share a *policy class*, and with it one view of each endpoint: a rule is applied once
for each class and generation of the catalogue, never for each call.
"""

from __future__ import annotations

from typing import Protocol

from gateway.routing.view import View


class ViewPolicy(Protocol):
    """Rules that hide entries from principals."""

    def class_of(self, principal: str) -> str:
        """Return the policy class of ``principal``; principals of one class see the same."""

    def apply(self, view: View, policy_class: str) -> View:
        """Return what ``policy_class`` sees of ``view`` (see ``view.filtered``)."""
