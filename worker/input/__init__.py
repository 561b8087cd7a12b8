"""Input that upstreams need of clients, and messages for clients outside of calls.

``broker`` questions during a call, in every pair of eras · ``parked_call`` a call that outlives its client's tries ·
``tasks`` tasks that upstreams make of calls · ``unsolicited`` questions and messages while no call is in flight.
"""
