"""How well and how fast tools are found by search (``make retrieval``), on a public set of questions.

The set is that of the Berkeley Function Calling Leaderboard, as ``bfcl-eval`` on PyPI ships it (Apache 2.0):
questions of users, functions with descriptions and schemas, and which function answers which question. All functions
of its four single-call parts are one list of tools here, in which the question itself is searched for. Many functions
do the same under several names, and only the one that the set names counts, so the shares are lower bounds.
"""
