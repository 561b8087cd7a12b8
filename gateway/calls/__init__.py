"""A call under way on a link: ``events`` what can happen to it, ``in_flight`` the call itself."""
