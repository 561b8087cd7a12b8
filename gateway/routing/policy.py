"""The interface of rules that hide entries from principals. Pure.

Principals with the same rights share a *policy class*, and so one view of each endpoint. A rule is applied once for
each class and generation of the catalogue, never for each call.
"""

from __future__ import annotations

from typing import Protocol

from gateway.routing.steps import Steps
from gateway.routing.view import View


class ViewPolicy(Protocol):
    """Rules that hide entries from principals."""

    def applying(self, view: View, policy_class: str) -> Steps[View]:
        """Return the view that ``policy_class`` has of ``view``, in steps; ``derived.rewriting`` makes one.

        A class is made when a principal's credentials are verified (``access.roles``).
        """
