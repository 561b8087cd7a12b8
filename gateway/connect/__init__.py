"""Callers connect to upstreams that are called in their names, each once, in a browser.

``dance`` the authorization code flow, from a link to tokens that are kept · ``clients`` how the gateway introduces
itself to an authorization server · ``pages`` (pure) what the browser shows.

Counterparts: ``listener.connect_routes`` has the routes; ``worker.credentials.consent`` uses and renews the tokens.
"""
