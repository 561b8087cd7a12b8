"""Access as an operator writes it and as Redis keeps it: who is let in, and what roles may do.

``rules`` the document ``access`` of a configuration file · ``changes`` which changes of it need a
restart · ``methods`` its methods of authentication · ``conditions``
expressions of CEL · ``patterns`` which entries a rule is about · ``keys`` API keys and what is kept of them.
"""
