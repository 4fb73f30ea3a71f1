"""Settings of the kind `http`, checked. Reads no secrets and opens nothing."""

from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

from adapters.errors import SettingsInvalid
from adapters.kinds.http.breaker import BreakerRules
from adapters.kinds.settings import Settings, decode, positive

Counted = Literal["transport", "timeout", "5xx"]


class BreakerSettings(Settings, frozen=True):
    """When to leave a failing backend alone.

    Attributes:
        enabled: False turns the breaker off.
        failures: Bad outcomes among the last `window` that open it.
        window: Outcomes remembered.
        pause_s: First pause; doubles with every failed probe up to `longest_pause_s`.
        longest_pause_s: Bound of the pause.
        probes: Calls tried at once after the pause.
        counts: What is bad: `transport`, `timeout`, `5xx`.
        patience_s: A timeout counts only when the backend had at least this long: a client with a tiny deadline must
            not close a healthy backend to everyone.
    """

    enabled: bool = True
    failures: int = 5
    window: int = 10
    pause_s: float = 2.0
    longest_pause_s: float = 60.0
    probes: int = 1
    counts: tuple[Counted, ...] = ("transport", "timeout", "5xx")
    patience_s: float = 1.0

    def rules(self) -> BreakerRules:
        """The part that the state machine needs."""
        return BreakerRules(self.failures, self.window, self.pause_s, self.longest_pause_s, self.probes)


class TlsSettings(Settings, frozen=True):
    """How a backend with https is trusted and told who we are.

    Attributes:
        ca_file: PEM file of authorities; empty means the system's.
        certificate_file: PEM file with our certificate and its chain.
        key_file: PEM file with its key, readable by us only.
        server_name: Name to expect in the backend's certificate, when it is not the host of `base_url`.
    """

    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    server_name: str = ""


class CredentialSettings(Settings, frozen=True):
    """What the backend wants to see from this gateway.

    Attributes:
        scheme: `header` sends `<header>: <prefix><secret>`; `basic` sends user name and secret (RFC 7617).
        header: Header name, for `header`.
        prefix: Text before the secret, such as `Bearer `.
        user: User name, for `basic`.
        secret_file: File of one line; mode 0600.
    """

    scheme: Literal["header", "basic"]
    secret_file: str
    header: str = "Authorization"
    prefix: str = ""
    user: str = ""


class HttpSettings(Settings, frozen=True):
    """Settings of the kind `http`.

    Attributes:
        base_url: Address that the raw path is put behind, without query; a last `/` is cut off.
        timeout_s: Longest time for one call; the request's own deadline may be shorter.
        connect_timeout_s: Longest wait for a connection, within that.
        connections: Connections at once.
        waiting: Calls that may wait for a connection; more are refused at once.
        idle_s: How long an unused connection is kept. Choose less than the backend does.
        max_answer_bytes: Larger answers are refused.
        check_path: Path for `check`; empty means that a connection is enough.
        breaker: See `BreakerSettings`.
        tls: See `TlsSettings`.
        credentials: See `CredentialSettings`; none by default.
    """

    base_url: str
    timeout_s: float = 10.0
    connect_timeout_s: float = 2.0
    connections: int = 64
    waiting: int = 256
    idle_s: float = 4.0
    max_answer_bytes: int = 4 * 1024 * 1024
    check_path: str = ""
    breaker: BreakerSettings = BreakerSettings()
    tls: TlsSettings = TlsSettings()
    credentials: CredentialSettings | None = None


def read_settings(settings: Mapping[str, object]) -> HttpSettings:
    """Read and check the settings of a source of kind `http`.

    Raises:
        SettingsInvalid: With the dotted key that is wrong.
    """
    read = decode(settings, HttpSettings)
    _check_address(read)
    positive(read, {"timeout_s": 3600, "connect_timeout_s": 60, "connections": 4096, "max_answer_bytes": 1 << 30})
    positive(read.breaker, {"failures": 1000, "window": 1000, "pause_s": 3600, "longest_pause_s": 3600, "probes": 100})
    if read.breaker.failures > read.breaker.window:
        raise SettingsInvalid("breaker.failures", "is more than breaker.window: the breaker could never open")
    if bool(read.tls.certificate_file) != bool(read.tls.key_file):
        raise SettingsInvalid("tls", "certificate_file and key_file belong together")
    if read.check_path and not _is_plain_path(read.check_path):
        raise SettingsInvalid("check_path", "must begin with / and hold only characters of a path")
    if read.credentials is not None:
        _check_credentials(read.credentials)
    return read


def _check_address(read: HttpSettings) -> None:
    try:
        parts = urlsplit(read.base_url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not read.base_url.isascii() or not read.base_url.isprintable() or " " in read.base_url:
        raise SettingsInvalid("base_url", "must be http://host[:port][/path] or https://…, in plain ASCII")
    if parts.username is not None or parts.password is not None:
        raise SettingsInvalid("base_url", "must not hold a password; use credentials.secret_file")
    if "?" in read.base_url or "#" in read.base_url:
        raise SettingsInvalid("base_url", "must not have a query or a fragment")


def _check_credentials(credentials: CredentialSettings) -> None:
    if credentials.scheme == "basic" and (not credentials.user or ":" in credentials.user):
        raise SettingsInvalid("credentials.user", "a user name without a colon is required for basic")
    if credentials.scheme == "header" and not credentials.header.replace("-", "").isalnum():
        raise SettingsInvalid("credentials.header", "must be a header name")


def _is_plain_path(path: str) -> bool:
    return path.startswith("/") and path.isascii() and path.isprintable() and not set(path) & set(" #")
