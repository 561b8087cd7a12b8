"""Observers of calls.

``observer`` the interface of observers · ``counters`` plain counts of this front end, the first observer ·
``access_log`` a line for each call · ``traces`` a span for each call · ``figures`` the counts and the state of
upstreams as families for ``/metrics`` · ``tallies`` what is counted apart from calls · ``audit`` who did what ·
``elicitations`` who was asked and what they answered, for the audit log · ``redaction`` arguments without secrets ·
``failed_calls`` the last calls that failed · ``pin_news`` tells that pinned tools changed.
"""
