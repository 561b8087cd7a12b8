"""What the path of a call costs, counted and not timed: ``hot_path`` runs it without sockets, ``test_cost`` guards
it."""
