"""Members whose keys are not P-256, from their request to the first successful call."""

from __future__ import annotations

import pytest
from world import World

from console.homes import MemberHome
from evidence.errors import KeyUnusable
from evidence.signer import FileSigner


@pytest.mark.parametrize(("client", "provider"), [("p384", "rsa3072")])
def test_members_of_two_kinds_of_keys_exchange_their_first_query(
    empty_world: World, client: str, provider: str
) -> None:
    world = empty_world
    passphrase = world.folder / "member-passphrase"
    passphrase.write_text("a member's secret\n")
    passphrase.chmod(0o600)
    world.join_options = ("--key", client, "--passphrase-file", str(passphrase))
    asking = MemberHome(world.add_member("H37").home)
    world.join_options = ("--key", provider)
    offering = MemberHome(world.add_member("G01").home)
    assert (asking.load_key().algorithm, offering.load_key().algorithm) == ("ES384", "PS256")
    with pytest.raises(KeyUnusable):
        FileSigner.load(asking.member_key)
    app = world.add_client("H37", "onedoor")
    world.add_subsystem("G01", "desk")
    world.publish("G01", "desk/notes")
    world.grant(app.subsystem, "G01", "desk/notes")
    for code in ("H37", "G01"):
        world.start_gateway(code)
    assert world.call(app, "G01/desk/notes", "/notes/1", purpose="residence").status == 200
