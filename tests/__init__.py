"""Tests. ``unit`` mirrors the source and touches no socket; ``integration`` one or two real parts; ``e2e`` whole
fleets.

``servers`` the upstreams that tests run · ``fleet`` starting and stopping real processes · ``clients`` raw requests.
"""
