"""Calls under way in this worker.

``call`` what all calls have in common · ``link_call`` calls of front ends · ``own_call`` calls of the worker itself ·
``client_facts`` the client behind a call · ``observer`` observers of calls, and counters · ``access_log`` a line for
each call · ``traces`` a span for each call · ``fair_queue`` a queue in which callers take turns · ``gate`` the calls of
one upstream that are under way or wait for a place · ``concurrency`` how many places there are · ``replay`` messages of
a call's stream, kept for clients that lost their connection.
"""
