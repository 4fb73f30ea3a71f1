"""`lienthong node announce`: which version of the wire a node reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from console.output import emit, json_option, reports_errors


@click.command()
@click.argument("code")
@click.option("--home", type=click.Path(path_type=Path, exists=True), required=True, help="Home of the member.")
@click.option("--wire", type=click.IntRange(1, 1_000), help="Newest version that it reads; default: this program's.")
@json_option
@reports_errors
def announce(code: str, home: Path, wire: int | None, as_json: bool) -> None:
    """Say in the directory which version of the wire the node CODE reads: after its program was upgraded.

    Others use it once all of the member's nodes announce it. Before an older program starts, announce that one's.
    """
    from console.announcing import announce as announce_node
    from console.homes import MemberHome

    made = announce_node(MemberHome(home), code, wire)
    emit(
        made, f"node      {made['node']}\nreads     wire version {made['wire']}{_before(made)}\n{_next(made)}", as_json
    )


def _before(made: dict[str, Any]) -> str:
    return " (said already)" if made["before"] == made["wire"] else f" (before: {made['before']})"


def _next(made: dict[str, Any]) -> str:
    if made["wire"] < made["before"]:
        return (
            "next      wait until every gateway knows: directory.max_age_s, 15 minutes unless somebody set more; then\n"
            "          start the older program. Do all nodes of this member first: lienthong node announce CODE --wire "
            f"{made['wire']}"
        )
    behind = [f"{node.rpartition('@')[2]} ({wire})" for node, wire in made["others"].items() if wire < made["wire"]]
    lines = [] if made["checked"] else ["check     there, with lienthong doctor: this home cannot see what it runs"]
    if behind:
        lines.append(f"next      the same for {', '.join(behind)}: until then others write the older version")
    else:
        lines.append(f"next      others write version {made['wire']} for this member as soon as they know")
    return "\n".join(lines)
