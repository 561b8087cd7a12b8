"""Input that upstreams need of clients, and messages for clients outside of calls.

``broker`` questions during a call, in every pair of eras · ``parked_call`` a call that outlives its client's tries ·
``unsolicited`` questions and messages while no call is in flight.

Tasks that upstreams make of calls: ``tasks`` what becomes of them · ``task_wait`` waiting for one · ``held_task`` one
that is kept for a client · ``legacy_tasks`` the same for those of 2025-11-25 · ``task_requests`` the gateway's own
requests about them.
"""
