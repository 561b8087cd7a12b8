"""Names, merged lists, and who may take a call. Pure: built from registry records, asked by the doors.

``tools`` what one upstream lists, parsed once per digest · ``naming`` one namespace out of many · ``catalog`` groups,
routes and ready pages · ``router`` from a name to a route, from a route to its candidates · ``retry`` what may be
sent again.
"""
