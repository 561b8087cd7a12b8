"""Conversations with upstreams.

``session`` what every session has in common · ``opening`` one attempt to open it · ``own_requests`` those of the worker
itself · ``handshake`` (pure) what ``initialize`` says and learns · ``greeting`` servers that refuse a part of that ·
``state_loss`` telling a client that its session is gone · ``log_levels`` which log messages a client gets ·
``attribution`` (pure) whose call a question or message belongs to · ``questions`` what the upstream asked ·
``correlation`` (pure) which answer belongs to which call · ``context`` what a session is given, and its listeners ·
``resource_subscriptions`` resources that clients watch.
"""
