"""Translation between the two protocol eras. Pure: JSON bytes in, JSON bytes out.

``params`` what an upstream is sent · ``results`` what a client gets back · ``inputs`` needs for input in both eras'
shapes · ``parked`` and ``asked`` the machines that carry them across. Only what the eras require is touched
(specification 2026-07-28, basic, ``_meta``; schema of each version); everything else stays the bytes that were sent.
"""
