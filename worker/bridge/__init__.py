"""Translation between the two protocol eras. Pure: JSON bytes in, JSON bytes out.

``params`` what an upstream is sent · ``results`` what a client gets back · ``errors`` errors that clients can read ·
``inputs`` requests for input in the shapes of both eras · ``parked`` and ``asked`` the state machines for the two pairs
of different eras · ``waited`` the one for tasks that the gateway waits for. Only what the eras require is changed
(specification 2026-07-28, basic, ``_meta``; schema of each version); everything else stays the bytes that were sent.
"""
