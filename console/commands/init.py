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
    from console.homes import InstanceHome
    from console.instance import InstancePlan, create_instance

    instance_home = InstanceHome(home)
    facts = create_instance(
        instance_home,
        InstancePlan(
            instance=name,
            registry_listen=registry_listen,
            broker_listen=broker_listen,
            hosts=("127.0.0.1", "localhost", *hosts),
            operators=operators,
            threshold=threshold,
            plain_http=plain_http,
            passphrases=passphrases,
        ),
    )
    url = f"{facts.registry_scheme}://{registry_listen}"
    folders = [instance_home.operators / str(number) for number in range(1, operators + 1)]
    emit(
        {
            "instance": facts.instance,
            "genesis": f"sha256:{facts.genesis}",
            "registry": url,
            "threshold": threshold,
            "operators": [str(folder) for folder in folders],
        },
        f"instance  {facts.instance}\ngenesis   sha256:{facts.genesis}\nregistry  {url}\n"
        f"operators {threshold} of {operators} keys sign, in {home}/operators/\nhome      {home}\n"
        f"next      lienthong broker --home {home}   and   lienthong registry --home {home}",
        as_json,
    )
