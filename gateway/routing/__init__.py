"""Names, merged lists, and which replicas may take a call. Pure: built from registry records.

``entries`` what one upstream lists, parsed once per digest · ``naming`` one namespace out of many · ``routes``
replicas, groups, and where a name leads · ``catalog`` all of these, built from records · ``view`` what one kind of
caller sees · ``derived`` views made from views · ``views`` the views of a front end · ``policy`` the interface of
rules that hide entries · ``guards`` what a call must fulfil beside being shown · ``virtual`` what virtual servers
show, and as what · ``shapes`` what becomes of a call's arguments · ``pinning`` tools that are not as they were
approved · ``unlisted`` names that a client's own session decides · ``local_tools`` tools that the gateway answers
itself · ``discovery`` views in which tools are searched · ``tool_index`` finding tools by words · ``endpoints`` the
names of endpoints · ``uri_templates`` matching RFC 6570 templates · ``suggestions`` names that are close to an
unknown one · ``router`` from a route to a replica · ``outliers`` when a replica gets no calls for a while · ``shut``
whom a full one refuses for a moment · ``hedges`` when a call is late · ``retry`` what may be sent again · ``steps``
long work, in which others get a turn.
"""
