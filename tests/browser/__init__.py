"""The dashboard in a real browser: Chromium (Debian's package), driven by Playwright.

``make browser`` installs it; in CI these tests are never skipped.
"""
