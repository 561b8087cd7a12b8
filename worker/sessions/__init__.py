"""Conversations with upstreams.

``session`` what every session has in common · ``attribution`` (pure) whose call a question or message belongs to ·
``questions`` what the upstream asked · ``correlation`` (pure) which answer belongs to which call · ``context`` what a
session is given, and its listeners · ``resource_subscriptions`` resources that clients watch.
"""
