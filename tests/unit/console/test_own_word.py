"""A provider's own word is in force when the directory has it, whatever became of the answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path

import pytest
from console_world import CONTRACT, INSTANCE, run_json
from office import Office

from console.homes import MemberHome
from console.ownword import own_store
from registry.client import RegistryClient, RegistryRefused
from registry.errors import RegistryUnavailable

CLIENT = f"{INSTANCE}/GOV/C9/onedoor"
SERVICE = "population/citizens"


@pytest.fixture(scope="module")
def home(office: Office, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A provider with a published service."""
    folder = tmp_path_factory.mktemp("service")
    office.ask("P9")
    run_json("member", "approve", f"{INSTANCE}/GOV/P9", "--home", office.home)
    home = office.folder / "P9"
    run_json("join", "--status", "--home", home, "--wait", "5")
    run_json("subsystem", "add", "population", "--home", home)
    (folder / "c.json").write_text(CONTRACT)
    (folder / "s.toml").write_text('base_url = "http://127.0.0.1:9/"\n')
    how = ("--contract", folder / "c.json", "--kind", "http", "--settings", folder / "s.toml")
    run_json("service", "publish", SERVICE, "--home", home, *how)
    return home


def until(home: Path) -> datetime | None:
    """End of the one right in the own store, which the gateway enforces."""
    store = own_store(MemberHome(home))
    try:
        [right] = store.state.access_rights()
        return right.until_at
    finally:
        store.close()


Submit = Callable[[RegistryClient, bytes], Awaitable[object]]


def after_accepting(error: Exception) -> Submit:
    honest = RegistryClient.submit

    async def submit(client: RegistryClient, jws: bytes) -> object:
        await honest(client, jws)
        raise error

    return submit


async def never(client: RegistryClient, jws: bytes) -> object:
    raise RegistryUnavailable("the line broke")


@pytest.mark.parametrize(
    ("submit", "code"),
    [
        (after_accepting(RegistryUnavailable("the line broke before the answer came")), "registry-unavailable"),
        (after_accepting(RegistryRefused("spite", 409, "a registry that lies")), "spite"),
        (never, "registry-unavailable"),
    ],
    ids=["accepted, answer lost", "accepted, said to be refused", "never came"],
)
def test_a_right_can_be_withdrawn_after_an_answer_was_lost(
    home: Path, monkeypatch: pytest.MonkeyPatch, submit: Submit, code: str
) -> None:
    run_json("access", "grant", CLIENT, SERVICE, "--home", home, "--any")
    assert until(home) is None
    with monkeypatch.context() as patched:
        patched.setattr(RegistryClient, "submit", submit)
        failed = run_json("access", "revoke", CLIENT, SERVICE, "--home", home, code=1)
    assert failed["error"]["code"] == code
    run_json("access", "revoke", CLIENT, SERVICE, "--home", home)
    assert until(home) is not None
    store = own_store(MemberHome(home))
    assert store.intents() == []
    store.close()
