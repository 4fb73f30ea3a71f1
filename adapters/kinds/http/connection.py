"""Makes the pooled client session of the kind `http`: TLS and credentials. Sends nothing."""

import base64
import ssl

import aiohttp

from adapters.errors import SettingsInvalid
from adapters.kinds.http.settings import CredentialSettings, HttpSettings, TlsSettings
from adapters.kinds.settings import read_secret


def open_session(settings: HttpSettings) -> aiohttp.ClientSession:
    """Make the session; opens no connection yet.

    Raises:
        SettingsInvalid: A certificate file cannot be used.
    """
    connector = aiohttp.TCPConnector(
        limit=settings.connections,
        keepalive_timeout=settings.idle_s,
        ssl=tls_context(settings.tls) if settings.base_url.startswith("https:") else True,
        ttl_dns_cache=10,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        raise_for_status=False,
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
    )


def tls_context(tls: TlsSettings) -> ssl.SSLContext:
    """TLS 1.2 or newer, the backend's certificate always checked.

    Raises:
        SettingsInvalid: A file cannot be read or is not PEM.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise SettingsInvalid("tls.ca_file", f"cannot be used: {_reason(error)}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.certificate_file:
        try:
            context.load_cert_chain(tls.certificate_file, tls.key_file, password="")
        except (OSError, ssl.SSLError) as error:
            raise SettingsInvalid("tls.certificate_file", f"cannot be used: {_reason(error)}") from error
    return context


def _reason(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or type(error).__name__


def credential_header(credentials: CredentialSettings | None) -> tuple[str, str] | None:
    """The header that shows our credentials, read from the secret file.

    Raises:
        SettingsInvalid: The secret file cannot be used.
    """
    if credentials is None:
        return None
    secret = read_secret(credentials.secret_file, "credentials.secret_file")
    if credentials.scheme == "basic":
        token = base64.b64encode(f"{credentials.user}:{secret}".encode()).decode()
        return "Authorization", f"Basic {token}"
    return credentials.header, credentials.prefix + secret
