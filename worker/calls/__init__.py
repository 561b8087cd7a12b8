"""Calls on their way through this worker.

``call`` what all have in common · ``link_call`` a front end's · ``own_call`` the worker's own · ``client_facts`` who
is behind a call · ``observer`` who hears of calls, and counts them · ``replay`` what was said on a call's stream, for
clients that lost their connection.
"""
