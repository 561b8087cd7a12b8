"""Who asks, and whether they may: decided once for each request, whatever lane it came by.

``admit`` the decision · ``caller`` its outcome · ``request_head`` what a request's head says, read alike by every
lane · ``routing_headers`` the headers that mirror a modern request's body · ``modern_request`` whether such a request
is in order · ``principals`` who is behind a request · ``dns_rebinding`` foreign Host and Origin headers.
"""
