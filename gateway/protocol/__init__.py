"""What the protocol asks of an endpoint, in both eras.

``serving`` the steps of one request, shared by every way in · ``endpoint`` ``POST`` · ``legacy`` the session's
``GET``, resuming and ``DELETE`` · ``http_sse`` the older transport · ``batches`` JSON-RPC batches ·
``client_messages`` what clients say unasked · ``methods`` the table of methods, which makes ``plans`` ·
``initialize`` and ``offers`` what either side says of itself · ``carrying`` sending what is planned and ending it ·
``answers`` whole answers and their HTTP status · ``call_stream`` a call that is shown as it goes.
"""
