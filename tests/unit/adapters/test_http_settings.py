from pathlib import Path

import pytest

from adapters.errors import SettingsInvalid
from adapters.kinds.http.connection import credential_header, tls_context
from adapters.kinds.http.settings import CredentialSettings, TlsSettings, read_settings

BASE = {"base_url": "http://127.0.0.1:8080/api"}


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({}, "base_url"),
        ({"base_url": "ftp://x"}, "base_url"),
        ({"base_url": "http://u:p@x"}, "base_url"),
        ({"base_url": "http://x/?a"}, "base_url"),
        ({"base_url": "http://x:99999"}, "base_url"),
        ({**BASE, "timeout": 3}, "timeout"),
        ({**BASE, "timeout_s": "3"}, "timeout_s"),
        ({**BASE, "timeout_s": 0}, "timeout_s"),
        ({**BASE, "breaker": {"fails": 3}}, "breaker.fails"),
        ({**BASE, "breaker": {"counts": ["4xx"]}}, "breaker.counts[0]"),
        ({**BASE, "breaker": {"failures": 11}}, "breaker.failures"),
        ({**BASE, "tls": {"certificate_file": "x"}}, "tls"),
        ({**BASE, "credentials": {"scheme": "header"}}, "credentials.secret_file"),
        ({**BASE, "credentials": {"scheme": "basic", "secret_file": "x"}}, "credentials.user"),
        ({**BASE, "check_path": "health"}, "check_path"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_key(settings: dict[str, object], key: str) -> None:
    with pytest.raises(SettingsInvalid) as refusal:
        read_settings(settings)
    assert refusal.value.key == key
    assert refusal.value.code == "adapter-settings-invalid"


def test_a_password_in_the_address_is_not_repeated_in_the_error() -> None:
    with pytest.raises(SettingsInvalid) as refusal:
        read_settings({"base_url": "http://user:hunter2@x"})
    assert "hunter2" not in str(refusal.value)


def secret(path: Path, text: str, mode: int = 0o600) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_credentials_come_from_a_file(tmp_path: Path) -> None:
    file = secret(tmp_path / "s", "s3cret\n")
    header = CredentialSettings(scheme="header", secret_file=file, prefix="Bearer ")
    assert credential_header(header) == ("Authorization", "Bearer s3cret")
    basic = CredentialSettings(scheme="basic", secret_file=file, user="bus")
    assert credential_header(basic) == ("Authorization", "Basic YnVzOnMzY3JldA==")
    assert credential_header(None) is None


@pytest.mark.parametrize(("text", "mode"), [("x", 0o644), ("x", 0o620), ("", 0o600), ("a\nb", 0o600), ("a\rb", 0o600)])
def test_a_secret_file_open_to_others_or_of_another_form_is_refused(tmp_path: Path, text: str, mode: int) -> None:
    file = secret(tmp_path / "s", text, mode)
    with pytest.raises(SettingsInvalid) as refusal:
        credential_header(CredentialSettings(scheme="header", secret_file=file))
    assert refusal.value.key == "credentials.secret_file"


def test_tls_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("no certificate")
    file = str(tmp_path / "x.pem")
    for tls, key in (
        (TlsSettings(ca_file=file), "tls.ca_file"),
        (TlsSettings(ca_file=str(tmp_path / "none")), "tls.ca_file"),
        (TlsSettings(certificate_file=file, key_file=file), "tls.certificate_file"),
    ):
        with pytest.raises(SettingsInvalid) as refusal:
            tls_context(tls)
        assert refusal.value.key == key
