"""`lienthong catalogue`: what is on the bus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from console.output import emit, json_option, reports_errors


@click.command()
@click.option("--home", type=click.Path(path_type=Path, exists=True), required=True, help="Home of the member.")
@json_option
@reports_errors
def catalogue(home: Path, as_json: bool) -> None:
    """Members, subsystems and services, as this member's verified copy of the directory has them."""
    from console.homes import MemberHome
    from console.views import local_directory

    with local_directory(MemberHome(home)) as directory:
        members: list[dict[str, Any]] = [
            {
                "id": member.id,
                "names": dict(member.names),
                "status": member.status,
                "subsystems": sorted(one.id for one in directory.subsystems() if one.member == member.id),
                "services": [
                    {
                        "id": service.id,
                        "title": service.title,
                        "version": service.version,
                        "enabled": service.enabled,
                        "contract": service.contract_sha256,
                        "operations": [
                            {"id": one.id, "method": one.method, "path": one.path}
                            for one in service.operations.values()
                        ],
                    }
                    for service in directory.services_of(member.id)
                ],
            }
            for member in directory.members()
        ]
        result = {"instance": directory.instance, "view": directory.view, "members": members}
    emit(result, _text(members), as_json)


def _text(members: list[dict[str, Any]]) -> str:
    lines: list[str] = []
    for member in members:
        lines.append(f"{member['id']}  {next(iter(member['names'].values()), '')}  [{member['status']}]")
        lines.extend(f"  subsystem {one}" for one in member["subsystems"])
        for service in member["services"]:
            lines.append(f"  service   {service['id']}  {service['title']} {service['version']}")
            lines.extend(
                f"              {one['method']:<6} {one['path']}  ({one['id']})" for one in service["operations"]
            )
    return "\n".join(lines)
