"""Writing HTTP answers: ``heads`` the head of an answer · ``responses`` whole and large JSON answers · ``event_stream``
server-sent events."""
