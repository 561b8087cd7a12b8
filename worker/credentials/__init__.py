"""In whose name upstreams are called: who gets the tokens that requests carry.

``source`` the interface that ``worker.transports.http_authorized`` asks · ``renewal`` one token: kept, renewed before
it ends, once for the fleet · ``grants`` how a token is requested · ``personal`` those of each caller ·
``consent`` what callers were given in a browser ·
``realms`` (pure) which callers share them · ``keeper`` makes these for an upstream.

An upstream without ``auth`` has none of this, and a worker without such upstreams imports only ``source``.
"""
