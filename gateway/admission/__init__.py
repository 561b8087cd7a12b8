"""Admission: who the caller of a request is, decided once for each request, whichever lane it came by.

``admit`` the decision · ``caller`` its outcome · ``request_head`` what a request's head says, in one form for every
lane · ``http_requests`` the heads of aiohttp's requests · ``routing_headers`` the headers that mirror a modern
request's body · ``modern_request`` whether such a request is valid · ``principals`` the interface of authentication ·
``authentication`` its implementation by the rules of access · ``peers`` what a connection says of who is at its other
end · ``suspects`` peers whose credentials were wrong lately · ``challenges`` what a client is told that must
authenticate · ``dns_rebinding`` the checks of Host and Origin · ``prefix`` the path that a proxy puts before ours.
"""
