"""The requests of an OAuth client: to metadata, to token endpoints. Counterpart of the specification's "authorization".

``http`` bounded requests within the rules of egress, without redirects · ``metadata`` which authorization server an
upstream has, and what that one offers (RFC 9728, RFC 8414) · ``challenges`` (pure) what ``WWW-Authenticate`` says ·
``tokens`` requests for tokens and their answers (RFC 6749, RFC 7523) · ``consent`` what
one caller was given for an upstream.

A worker imports nothing of this but ``challenges`` unless an entry has an ``auth``: aiohttp's client and PyJWT are no
part of it otherwise.
"""
