"""Client connections: the express lane, and aiohttp (the ordinary lane) behind it.

``lane`` the express lane, shared by all connections · ``connection`` one connection: framing, and which lane a request
takes · ``heads`` request heads, parsed once for each distinct run of bytes · ``server`` aiohttp's server behind the
lane, and the order of draining · ``room`` how many connections there may be · ``tls`` handshakes and certificates ·
``unfinished`` requests whose bytes are still to come · ``wary`` heads of peers whose credentials were wrong lately ·
``pouring`` giving aiohttp what arrives in pieces · ``routes`` everything but the lane's ``POST /mcp`` ·
``metadata`` how clients find the issuers of tokens · ``connect_routes`` where browsers connect to upstreams ·
``accepting`` takes connections from the sockets · ``gunicorn_worker`` the process that gunicorn starts for a front end.
"""
