"""The dashboard at ``/ui/``: static pages that use the admin API and ``/mcp`` as anybody does.

``pages`` serves the files in ``static``: ``index.html``, ``style.css``, ES modules without a build step, and in
``vendor`` uPlot (https://github.com/leeoniya/uPlot, MIT, its licence is beside it) for the charts. The modules:

``main.js`` router and header · ``api.js`` the admin API · ``me.js`` who asks, and what they may do · ``mcp.js`` calling
tools and reading resources · ``app_host.js`` the interface that a tool brings, and ``app.html`` the frame in which it
runs · ``store.js`` what is polled, and rates made of it · ``live.js`` looking again · ``dom.js`` elements, whose text
is never markup · ``dialog.js`` dialogs · ``words.js`` numbers, times, and text made visible · ``diff.js`` differences
of JSON · ``virtual.js`` long lists · ``chart.js`` charts · ``form.js`` a form made of a JSON Schema · ``result.js``
what a tool gave back · ``views`` a module for each page, and ``upstream_forms.js``, ``pins.js`` and ``trial.js`` for
parts of them. ``tests/ui`` tests what needs no browser, with Node.

What upstreams say reaches a page as text alone (``dom.js``), and the content security policy allows scripts, styles and
requests of this origin only. The one program of an upstream that runs, when a person asks for it, is the interface of a
tool (MCP Apps): in a frame without an origin, whose policy allows no request to anywhere.
"""
