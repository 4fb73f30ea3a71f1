import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from adapter_requests import asked
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from adapters.errors import BackendUnreachable
from adapters.kinds.http import HttpKind, HttpSource
from adapters.port import SilentObserver


def certificate(home: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate for a host name, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = home / f"{name}.pem", home / f"{name}.key"
    pem[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    pem[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return pem


@asynccontextmanager
async def backend(pem: tuple[Path, Path], clients: Path | None = None) -> AsyncIterator[str]:
    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*pem)
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)
    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def source(address: str, **tls: str) -> AsyncIterator[HttpSource]:
    made = HttpKind().build({"base_url": address, "tls": tls}, SilentObserver())
    await made.open()
    try:
        yield made
    finally:
        await made.close()


async def test_a_backend_with_a_known_certificate_and_name_is_trusted(tmp_path: Path) -> None:
    pem = certificate(tmp_path, "register.example")
    async with backend(pem) as address, source(address, ca_file=str(pem[0]), server_name="register.example") as made:
        assert (await made.call(asked(path="/a"))).status == 200


@pytest.mark.parametrize("tls", [{}, {"ca": "yes"}, {"server_name": "register.example"}])
async def test_an_unknown_certificate_or_another_name_is_refused_before_anything_is_sent(
    tmp_path: Path, tls: dict[str, str]
) -> None:
    pem = certificate(tmp_path, "register.example")
    settings = {"ca_file": str(pem[0])} if tls.pop("ca", "") else tls
    async with backend(pem) as address, source(address, **settings) as made:
        with pytest.raises(BackendUnreachable, match="TLS") as refusal:
            await made.call(asked(method="POST", path="/a"))
    assert refusal.value.acted == "no"


async def test_a_backend_that_asks_for_our_certificate_gets_it(tmp_path: Path) -> None:
    pem, own = certificate(tmp_path, "register.example"), certificate(tmp_path, "gateway.example")
    tls = {"ca_file": str(pem[0]), "server_name": "register.example"}
    async with backend(pem, clients=own[0]) as address:
        async with source(address, **tls, certificate_file=str(own[0]), key_file=str(own[1])) as made:
            assert (await made.call(asked(path="/a"))).status == 200
        async with source(address, **tls) as made:
            with pytest.raises(BackendUnreachable):
                await made.call(asked(path="/a"))
