"""`python -m console.sample`: make sample registers, and run the agencies' applications."""

import asyncio
from pathlib import Path

import click

from console.sample.tables import Table

SEED = click.option("--seed", default=1, show_default=True, help="The same seed gives the same data.")
OUT = click.option("--out", type=click.Path(path_type=Path), help="SQLite file to write.")
INTO = click.option("--database", default="", help="postgresql://… to write into, instead of a file.")


@click.group()
def main() -> None:
    """Made-up registers for demonstrations and measurements."""


@main.command()
@SEED
@click.option("--count", default=100_000, show_default=True, type=click.IntRange(1, 10_000_000), help="Citizens.")
@OUT
@INTO
def population(seed: int, count: int, out: Path | None, database: str) -> None:
    """Make a population register."""
    from console.sample.population import population_tables

    _write(population_tables(seed, count), out, database)


@main.command()
@SEED
@click.option("--count", default=10_000, show_default=True, type=click.IntRange(1, 1_000_000), help="Enterprises.")
@OUT
@INTO
def business(seed: int, count: int, out: Path | None, database: str) -> None:
    """Make a business register."""
    from console.sample.business import business_tables

    _write(business_tables(seed, count), out, database)


@main.command()
@click.option("--database", required=True, help="SQLite file, sqlite:///… or postgresql://… with a business register.")
@click.option("--effects", required=True, type=click.Path(path_type=Path), help="File to append served calls to.")
@click.option("--port-file", type=click.Path(path_type=Path), help="Where to write the port; else it is printed.")
@click.option("--port", default=0, show_default=True, help="0 takes a free port.")
def backend(database: str, effects: Path, port_file: Path | None, port: int) -> None:
    """Run the sample register's own application until SIGTERM."""
    from console.sample.backend import serve

    asyncio.run(serve(database, effects, port_file, port))


@main.command()
@click.option("--effects", required=True, type=click.Path(path_type=Path), help="Its file: one line for each effect.")
@click.option("--port", required=True, type=int, help="Where it listens, on loopback.")
def dossiers(effects: Path, port: int) -> None:
    """Run an agency's dossier application until SIGTERM."""
    from console.sample.dossiers import serve

    asyncio.run(serve(effects, port))


def _write(tables: list[Table], out: Path | None, database: str) -> None:
    from console.sample.tables import write_postgresql, write_sqlite

    if bool(out) == bool(database):
        raise click.UsageError("say either --out or --database")
    if out is not None:
        write_sqlite(out, tables)
    else:
        asyncio.run(write_postgresql(database, tables))
    click.echo(", ".join(f"{table.name}: {len(table.rows)} rows" for table in tables))


if __name__ == "__main__":
    main()
