"""`lienthong init instance`: a new instance."""

from __future__ import annotations

from pathlib import Path

import click

from console.commands.signing import PASSPHRASE_FILE
from console.output import emit, json_option, reports_errors


@click.group()
def init() -> None:
    """Make the home of an instance; a member's is made by `lienthong join`."""


@init.command()
@click.argument("name")
@click.option("--home", type=click.Path(path_type=Path), required=True, help="New folder of the instance's operator.")
@click.option("--registry-listen", default="127.0.0.1:8470", show_default=True, help="Address of the registry.")
@click.option("--broker-listen", default="127.0.0.1:4222", show_default=True, help="Address of the broker.")
@click.option(
    "--broker-cluster",
    default="",
    metavar="HOST:PORT,HOST:PORT,HOST:PORT",
    help="A broker of three servers instead of one: their addresses for gateways.",
)
@click.option(
    "--broker-routes",
    default="",
    metavar="HOST:PORT,…",
    help="Where the servers of a cluster meet; default: the same hosts, ports and 2000.",
)
@click.option("--host", "hosts", multiple=True, help="Further names or addresses for the TLS certificates.")
@click.option("--operators", default=1, show_default=True, help="How many operator keys to make.")
@click.option("--threshold", default=1, show_default=True, help="How many of them make the operator's word.")
@click.option(
    "--passphrase-file",
    "passphrases",
    multiple=True,
    type=PASSPHRASE_FILE,
    help="Encrypt the operator keys under the passphrase in this file (mode 0600); one for all, or one for each.",
)
@click.option("--plain-http", is_flag=True, help="A registry without TLS, on a loopback address only.")
@json_option
@reports_errors
def instance(
    name: str,
    home: Path,
    registry_listen: str,
    broker_listen: str,
    broker_cluster: str,
    broker_routes: str,
    hosts: tuple[str, ...],
    operators: int,
    threshold: int,
    passphrases: tuple[Path, ...],
    plain_http: bool,
    as_json: bool,
) -> None:
    """Make the instance NAME (like VN-DEMO): operator keys, authority, broker identity, first anchor.

    Prints the genesis: the instance's identity. Members need it, and must get it from you directly. Each operator key
    lies in a folder of its own below HOME/operators, to be carried to its holder.
    """
    from console.brokercluster import make_cluster, plan_servers
    from console.homes import HomeInvalid, InstanceHome
    from console.instance import InstancePlan, create_instance

    if broker_routes and not broker_cluster:
        raise HomeInvalid("--broker-routes: belongs to --broker-cluster, which is not named")
    routes = broker_routes.split(",") if broker_routes else ()
    servers = plan_servers(broker_cluster.split(","), routes) if broker_cluster else ()
    instance_home = InstanceHome(home)
    hosts = ("127.0.0.1", "localhost", *hosts)
    facts = create_instance(
        instance_home,
        InstancePlan(
            instance=name,
            registry_listen=registry_listen,
            broker_listen=servers[0].listen if servers else broker_listen,
            broker_urls=tuple(f"tls://{server.listen}" for server in servers),
            hosts=hosts,
            operators=operators,
            threshold=threshold,
            plain_http=plain_http,
            passphrases=passphrases,
        ),
    )
    if servers:
        facts = make_cluster(instance_home, servers, hosts)
    run_broker = f"lienthong broker --home {home}" + (" --server 1 (2, 3, each on its machine)" if servers else "")
    url = f"{facts.registry_scheme}://{registry_listen}"
    folders = [instance_home.operators / str(number) for number in range(1, operators + 1)]
    emit(
        {
            "instance": facts.instance,
            "genesis": f"sha256:{facts.genesis}",
            "registry": url,
            "threshold": threshold,
            "operators": [str(folder) for folder in folders],
            **({"broker": list(facts.broker_urls)} if servers else {}),
        },
        f"instance  {facts.instance}\ngenesis   sha256:{facts.genesis}\nregistry  {url}\n"
        f"operators {threshold} of {operators} keys sign, in {home}/operators/\nhome      {home}\n"
        f"next      {run_broker}   and   lienthong registry --home {home}",
        as_json,
    )
