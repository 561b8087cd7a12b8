"""Clients and upstreams that do what they must not do: they harm themselves at most."""
