"""The pages that a browser shows while a caller connects. Pure. No script, nothing from elsewhere."""

from __future__ import annotations

from html import escape

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with ``no-referrer`` browsers would not say from where the form is
    "Cache-Control": "no-store",
}
_STYLE = "body{font:16px/1.5 system-ui,sans-serif;max-width:34em;margin:4em auto;padding:0 1em}button{font:inherit}"


def page(title: str, *paragraphs: str, form: str = "") -> str:
    """Return a page. ``form`` is HTML, everything else is text."""
    body = "".join(f"<p>{escape(one)}</p>" for one in paragraphs)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
        f"<h1>{escape(title)}</h1>{body}{form}</html>"
    )


def ask(gateway: str, upstream: str, server: str, principal: str, ticket: str) -> str:
    """Return the page on which a person confirms that it was they who wanted to connect.

    Whoever sends the link to somebody else would otherwise get that person's account (2025-11-25, elicitation,
    "Phishing"), so the page says whose account of the gateway will be able to use it.
    """
    whom = f"the account {principal!r} of this gateway" if principal else "everybody who uses this gateway"
    form = (
        f'<form method="post"><input type="hidden" name="ticket" value="{escape(ticket)}">'
        "<button>Continue to sign in</button></form>"
    )
    return page(
        f"Connect {upstream}",
        f"{gateway} will be allowed to use {upstream} ({server}) in your name, for {whom}.",
        "Continue only if you asked for this yourself. If somebody sent you this link, close this page.",
        form=form,
    )
