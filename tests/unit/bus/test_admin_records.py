"""Whatever ends an act of the admin API, its record says that it failed."""

import asyncio

import pytest
from aiohttp.test_utils import make_mocked_request

from bus.front.adminapi import AdminApi, Deed
from bus.front.adminkeys import AdminKeys, AdminSystem
from bus.front.keyring import hash_key

ROLE = "XROAD_SYSTEM_ADMINISTRATOR"


@pytest.mark.parametrize(
    ("failure", "code"), [(OSError("disk"), "internal-error"), (asyncio.CancelledError(), "cancelled")]
)
async def test_an_act_that_breaks_off_is_recorded_as_failed(failure, code):
    keys = AdminKeys(lambda count: b"x" * count, lambda: 0.0)
    keys.replace([AdminSystem("ops", (ROLE,), hash_key("ops.k", b"s" * 16))])
    records = []

    async def record(act, target, key, outcome, code):
        records.append((act, outcome, code))

    async def perform(_request, _values):
        raise failure

    deed = Deed("maintenance.on", frozenset({ROLE}), "", perform)
    api = AdminApi(keys, {("PUT", "/maintenance"): deed}, record, lambda: 0.0)
    request = make_mocked_request("PUT", "/api/v1/maintenance", headers={"Authorization": "X-Road-ApiKey token=ops.k"})
    with pytest.raises(type(failure)):
        await api.handle(request, "/api/v1/maintenance")
    assert records == [("maintenance.on", "allowed", ""), ("maintenance.on", "failed", code)]
