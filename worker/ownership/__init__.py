"""The upstreams that this worker owns.

``inventory`` all of them: started, updated and stopped as the registry says · ``holding`` one of them · ``upstream``
which session carries which call · ``leases`` sessions that are lent to clients without one · ``second_era`` trying
whether a child speaks the other era too · ``personal_upstream`` the same for each caller apart · ``make_upstream``
which of the two an entry means · ``owner`` connecting, listing, probing, reconnecting · ``listing`` reading one list ·
``listing_brake`` how long announced changes are collected before (pure) · ``mending`` lists with flaws (pure) ·
``own_lists`` what is listed for one client alone · ``list_changes`` what changed in them · ``figures`` calls under
way and waiting, for ``/metrics`` · ``health`` when an upstream counts as down and up again (pure) · ``placement``
which upstreams this worker owns (a pure decision and a thin driver) · ``incumbents`` who owned what before Redis was
away · ``reconciliation`` agreeing with the registry again after a gap.
"""
