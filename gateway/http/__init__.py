"""HTTP requests and answers.

``bodies`` bodies of requests while they arrive · ``heads`` the head of an answer · ``responses`` whole and large JSON
answers · ``event_stream`` server-sent events.
"""
