"""The pure parts of ``loadtest``, and that Locust can load the folder."""
