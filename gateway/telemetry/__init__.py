"""What is known of calls when they are over: the seam for counters, traces, access lines, audit and rate accounting.

``observer`` what an observer is told of a call · ``counters`` plain counts of this front end, the first observer ·
``prometheus`` the counts as Prometheus text.
"""
