"""OpenAPI documents as tools, and tools' arguments as HTTP requests. Pure; ``worker.transports.openapi`` does the I/O.

``operations`` what is known of one API once its document was read · ``requests`` arguments → an HTTP request ·
``serialization`` values in paths, queries, headers and forms · ``answers`` HTTP responses → results of tools.

Reading a document, which only ``__main__`` does, in a process of its own: ``documents`` bytes → an object, and its
references · ``tools`` operations → tools · ``schemas`` schemas of OpenAPI 3.0 and 3.1 → JSON Schema.
"""
