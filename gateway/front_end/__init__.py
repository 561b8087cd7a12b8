"""The composition root of a front-end process: what it is made of, and how it starts, drains and ends.

``front_end`` the plan: the sides of a front end in the order in which they need each other, and its life. Each side
makes the objects of its packages and holds those that others need: ``telemetry`` (observers of calls, counts, traces,
the audit log), ``fleet`` (the registry's copy, links, sessions, calls), ``streams`` (standing streams), ``access`` (who
is let in), ``protocol`` (MCP at an endpoint), ``admin`` (the admin API). ``presence`` what this front end tells the
fleet and load balancers of itself.
"""
