"""Admission: who the caller of a request is, decided once for each request, whichever lane it came by.

``admit`` the decision · ``caller`` its outcome · ``request_head`` what a request's head says, in one form for every
lane · ``routing_headers`` the headers that mirror a modern request's body · ``modern_request`` whether such a request
is valid · ``principals`` who is behind a request · ``dns_rebinding`` the checks of Host and Origin.
"""
