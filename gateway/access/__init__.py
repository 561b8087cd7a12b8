"""Identity and rights of callers. ``gateway.admission`` asks; the rules come from ``shared.access.rules``.

``principal`` who a caller is · ``roles`` which roles a principal has · ``policy`` what roles let a principal see and
call · ``limits`` how often and how much at once · ``api_keys`` the front end's copy of the keys · ``tokens`` what a
verified token says · ``jwt`` tokens with a signature · ``key_sets`` the public keys of an issuer · ``introspection``
opaque tokens · ``dpop`` proofs that the bearer has the token's key · ``trusted_proxy`` callers whom a proxy in front
names · ``client_certificate`` callers by the certificates of their connections · ``forwarded_certificate`` those that a
proxy names · ``used_states`` retries of calls that were counted and confirmed.
"""
