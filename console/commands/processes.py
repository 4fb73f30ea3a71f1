"""The long-running roles: `gateway`, `registry`, `broker`."""

from __future__ import annotations

from pathlib import Path

import click

from console.output import emit, json_option, reports_errors

_HOME = click.option(
    "--home", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True, help="Folder of the role."
)


@click.command()
@_HOME
@reports_errors
def gateway(home: Path) -> None:
    """Run a member's gateway: SIGTERM drains, SIGHUP reloads services, limits, clients and certificates."""
    from console.processes.gateway import run

    run(home)


@click.command()
@_HOME
@reports_errors
def registry(home: Path) -> None:
    """Run the operator's registry: the authority, its HTTP interface and the directory's feed."""
    from console.processes.registry import run

    run(home)


@click.group(invoke_without_command=True)
@click.option("--home", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Folder of the instance.")
@click.option("--binary", default="", help="Your own nats-server; default: the packaged one.")
@click.option("--write-config", is_flag=True, help="Only write nats-server.conf and print its path.")
@click.option("--server", type=int, help="Which server of a cluster to run here, from 1.")
@click.pass_context
@reports_errors
def broker(context: click.Context, home: Path | None, binary: str, write_config: bool, server: int | None) -> None:
    """Run the instance's broker: a real nats-server with the configuration that the bus needs.

    One server of a cluster runs with --server N, or with --home of the folder that was carried to its machine.
    """
    from console.processes.broker import run, write_configuration

    if context.invoked_subcommand is not None:
        if home is not None:
            raise click.UsageError(f"--home belongs behind `{context.invoked_subcommand}`")
        return
    if home is None:
        raise click.UsageError("Missing option '--home'.")
    if write_config:
        click.echo(str(write_configuration(home, server)))
        return
    run(home, binary, server)


@broker.command()
@_HOME
@click.option("--servers", default="", metavar="HOST:PORT,…", help="Make it a cluster: three addresses for gateways.")
@click.option("--routes", default="", metavar="HOST:PORT,…", help="Where the servers meet; default: port and 2000.")
@click.option("--host", "hosts", multiple=True, help="Further names or addresses for the certificates.")
@json_option
@reports_errors
def cluster(home: Path, servers: str, routes: str, hosts: tuple[str, ...], as_json: bool) -> None:
    """Show the broker's servers and write their folders as of now; or make a cluster of a single broker.

    Broker and registry must be stopped while a cluster is made. Streams are then made anew; gateways repeat what has
    no receipt yet.
    """
    from console.brokercluster import make_cluster, plan_servers, refresh
    from console.homes import InstanceHome

    instance = InstanceHome(home)
    if servers:
        plan = plan_servers(servers.split(","), routes.split(",") if routes else ())
        make_cluster(instance, plan, ("127.0.0.1", "localhost", *hosts))
    folders, facts = refresh(instance), instance.facts
    lines = [
        f"server {one.number}  {one.listen}  routes {one.routes}  {folder}"
        for one, folder in zip(facts.broker_servers, folders, strict=True)
    ]
    following = "carry each folder to its machine on a safe way; there: lienthong broker --home FOLDER"
    if servers:
        urls = " ".join(f"--broker-url {url}" for url in facts.broker_urls)
        following += (
            f"\nthen  lienthong registry --home {home}; lienthong operator anchor {urls} --home {home}; and these"
            " addresses into [broker] urls of each gateway"
        )
    emit(
        {
            "servers": [
                {"number": one.number, "url": url, "routes": one.routes, "folder": folder}
                for one, url, folder in zip(facts.broker_servers, facts.broker_urls, folders, strict=True)
            ],
            "replicas": facts.stream_replicas,
        },
        "\n".join(lines) + f"\nnext  {following}",
        as_json,
    )


@broker.command()
@click.argument("member")
@_HOME
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="New folder for the leaf's files.")
@click.option("--host", "hosts", multiple=True, default=("127.0.0.1", "localhost"), help="Name or address of the leaf.")
@click.option("--withdraw", is_flag=True, help="Refuse all leaf brokers of MEMBER from now on.")
@json_option
@reports_errors
def leaf(member: str, home: Path, out: Path | None, hosts: tuple[str, ...], withdraw: bool, as_json: bool) -> None:
    """Make credentials for a broker of MEMBER's own, beside the registry. It may do what MEMBER's nodes may."""
    from console.homes import InstanceHome
    from console.leaves import make_leaf, withdraw_leaves

    if withdraw:
        found = withdraw_leaves(InstanceHome(home), member)
        unknown = [key for key, known in found.items() if not known]
        text = f"{len(found)} leaf brokers of {member} are withdrawn"
        if unknown:
            text += (
                f"\nof {len(unknown)} the second line (leaf-system.creds) is not known here: an earlier version made"
                " it, and it still hears which broker keys are refused"
            )
        emit({"member": member, "withdrawn": list(found), "second_line_unknown": unknown}, text, as_json)
        return
    if out is None:
        raise click.UsageError("Missing option '--out'.")
    made = make_leaf(InstanceHome(home), member, out, hosts)
    text = (
        f"{out}: leaf.creds, ca.pem, tls.crt, tls.pem for {member}, with {len(made['nodes'])} nodes\n"
        f"next: lienthong broker config --home {home} --leaf {out}, then hand the folder to the member on a safe way"
    )
    emit(made, text, as_json)


@broker.command()
@_HOME
@click.option("--leaf", "folder", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Of a leaf.")
@click.option("--hub", default="", help="tls://host:port where leafs are taken; of a cluster several, with commas.")
@click.option("--listen", default="127.0.0.1:4222", show_default=True, help="host:port of the leaf, for its gateways.")
@json_option
@reports_errors
def config(home: Path, folder: Path | None, hub: str, listen: str, as_json: bool) -> None:
    """Write nats-server.conf: of the instance's broker, or of a leaf that `broker leaf` made."""
    from console.homes import InstanceHome
    from console.leaves import write_leaf_configuration
    from console.processes.broker import write_configuration

    if folder is None:
        path = write_configuration(home)
    else:
        path = write_leaf_configuration(InstanceHome(home), folder, hub, listen)
    emit({"configuration": path}, f"{path}\nnext: nats-server -c {path}", as_json)


@broker.command()
@_HOME
@json_option
@reports_errors
def upgrade(home: Path, as_json: bool) -> None:
    """Give an instance of an older version the account for its streams. Broker and registry must be stopped."""
    from console.homes import InstanceHome
    from console.instance import upgrade_broker_identity

    changed = upgrade_broker_identity(InstanceHome(home))
    text = "start the broker, then the registry" if changed else "nothing to do: the instance has it already"
    emit({"changed": changed}, text, as_json)
