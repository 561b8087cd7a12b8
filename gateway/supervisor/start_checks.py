"""What settings must fulfil before any process is started with them; the admin token that a run may need."""

from __future__ import annotations

import logging
import secrets
from pathlib import Path

from msgspec import structs

from shared import tls
from shared.access import rules as access_rules
from shared.access.methods import JwtMethod
from shared.access.rules import AccessRules
from shared.errors import ConfigError
from shared.loopback import is_loopback_host
from shared.rpc import link_tls
from shared.settings import Settings
from shared.tracing.tracing import check_exported_audit, check_traces

_log = logging.getLogger(__name__)


def rules_of(settings: Settings) -> AccessRules:
    """Return the rules of access of these settings. Raises ``ConfigError``."""
    access = settings.access
    return access_rules.of_settings(access.access_rules, access.anonymous, settings.tls.tls_client_ca)


def check_start(settings: Settings) -> None:
    """Refuse to start, or to replace processes, with settings that no process should run with. Raises
    ``ConfigError``."""
    check_tls(settings)
    check_key_sets(settings)
    check_exposure(settings)
    check_traces(settings)
    audit = rules_of(settings).audit
    if audit is not None and audit.otlp:
        check_exported_audit()


def check_tls(settings: Settings) -> None:
    """Refuse TLS whose files cannot be used. Raises ``ConfigError`` that names the file."""
    files = settings.tls
    link_tls.of_front_end(settings.link)
    rules_of(settings)  # a method may need authorities
    if files.on:
        if note := tls.expiry_note(files.tls_cert_file):
            _log.warning("%s", note)
        tls.server_context(files.tls_cert_file, files.tls_key_file, files.tls_client_ca)
    elif files.tls_key_file:
        raise ConfigError([("tls.keyFile", "is nothing without tls.certFile, the certificate that it belongs to")])
    elif files.tls_client_ca:
        raise ConfigError([("tls.clientCa", "needs tls.certFile: only over TLS do clients show certificates")])


def check_key_sets(settings: Settings) -> None:
    """Refuse rules of access whose files with the keys of an issuer are not there: no token of it could be accepted.
    Raises ``ConfigError`` that names each file."""
    problems = []
    for number, method in enumerate(rules_of(settings).authentication):
        if isinstance(method, JwtMethod) and method.jwks_file:
            try:
                Path(method.jwks_file).read_bytes()
            except OSError as error:
                place = f"access.authentication[{number}].jwksFile"
                problems.append((place, f"cannot read {method.jwks_file}: {error.strerror or error}"))
    if problems:
        raise ConfigError(problems)


def check_exposure(settings: Settings) -> None:
    """Refuse to listen beyond loopback without an admin token, and without authentication unless the settings say so in
    as many words. Raises ``ConfigError``."""
    host, access = settings.service.host, settings.access
    if is_loopback_host(host):
        return
    if not access.admin_token:
        raise ConfigError(f"listening on {host} exposes the admin API: set GATEWAY_ADMIN_TOKEN, or bind to 127.0.0.1")
    rules = rules_of(settings)
    if not (rules.authentication or rules.anonymous):
        raise ConfigError(
            f"listening on {host} lets everybody who reaches it use every tool: configure 'access.authentication', or "
            "say that this is meant with 'access': {'anonymous': true} or GATEWAY_ANONYMOUS=true"
        )


def with_admin_token(settings: Settings) -> Settings:
    """Return the settings with an admin token of this run's own where callers are authenticated and none is set: then
    the admin API is not open to whoever is on this machine."""
    access = settings.access
    if access.admin_token or not rules_of(settings).authentication:
        return settings
    return structs.replace(settings, access=structs.replace(access, admin_token=secrets.token_urlsafe(32)))
