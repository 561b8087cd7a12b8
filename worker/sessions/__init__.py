"""Conversations with upstreams.

``session`` what every session has in common · ``handshake`` (pure) what ``initialize`` says and learns ·
``greeting`` servers that refuse a part of that · ``log_levels`` which log messages a client gets ·
``attribution`` (pure) whose call a question or message belongs to · ``questions`` what the upstream asked ·
``correlation`` (pure) which answer belongs to which call · ``context`` what a session is given, and its listeners ·
``resource_subscriptions`` resources that clients watch.
"""
