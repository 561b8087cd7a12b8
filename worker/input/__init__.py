"""What upstreams need of clients, and say to them.

``broker`` needs during a call, in every pair of eras · ``parked_call`` a call that outlives its client's tries ·
``unsolicited`` questions and messages while no call is in flight.
"""
