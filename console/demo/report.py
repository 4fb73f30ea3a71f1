"""The report of the demonstration: for people, 80 to 110 columns, plain text when it does not go to a terminal."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import IO, cast

from rich.cells import cell_len, set_cell_size
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from console.demo.calls import Told
from console.demo.cast import GROUND, MEMBERS, ONEDOOR, POPULATION, PROVINCE, PURPOSE, SERVICES
from console.demo.cluster import ClusterFacts
from console.demo.scenario import Fields, Step
from console.demo.trust import WhoMaySpeak
from console.demo.verification import Books, LogResult, Tampering
from console.demo.world import Onboarding, World

_NARROWEST, _WIDEST, _PLAIN = 80, 110, 100
_INDENT = (0, 0, 0, 3)
_BLANKS = re.compile(r" +$", re.MULTILINE)
_DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
_TYPES = {
    "query": "queries", "answer": "answers", "command": "commands", "result": "results", "refusal": "refusals",
    "outcome": "outcomes",
}  # fmt: skip


def report_console(*, to_stderr: bool) -> Console:
    """A console of a width that reads well."""
    console = Console(file=sys.stderr if to_stderr else sys.stdout, highlight=False)
    if not console.is_terminal:
        console.file = cast("IO[str]", _Trimmed(console.file))
    console.width = min(max(console.width, _NARROWEST), _WIDEST) if console.is_terminal else _PLAIN
    return console


class _Trimmed(io.TextIOBase):
    """Takes away the blanks with which tables fill their lines up.

    Args:
        file: Where the text goes.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        """Write whole lines."""
        return self._file.write(_BLANKS.sub("", text))

    def flush(self) -> None:
        """Flush the file below."""
        self._file.flush()


class Report:
    """Prints each part as soon as it is known.

    Args:
        console: Where to.
        brief: Only one line a part, for `--check`.
    """

    def __init__(self, console: Console, *, brief: bool) -> None:
        self._console = console
        self._brief = brief
        self._number = 0
        self._blank = False
        self._narrow = console.width < _PLAIN

    @contextmanager
    def part(self, title: str, doing: str) -> Iterator[None]:
        """A numbered part: while it is worked on, a terminal shows what is being done; then title and duration."""
        started_s = monotonic()
        with self._console.status(f"{doing} …"):
            yield
        self._number += 1
        took = f"{monotonic() - started_s:.1f} s"
        head = Text(f"{self._number}  {title} ", style="bold")
        head.append("─" * max(self._console.width - head.cell_len - len(took) - 1, 1), style="dim")
        head.append(f" {took}", style="dim")
        self._gap()
        self._console.print(head)
        self._blank = False

    def opening(self, seed: int, database: str) -> None:
        """What this is."""
        self._out(Text("Liên Thông: a province asks two ministries, and hands work over", style="bold"))
        self._print(
            "Everything runs on this machine, from nothing, by the commands that a person would use. All people and"
            f" firms are invented (seed {seed}, {_DATABASES[database]})."
        )

    def world(self, world: World, database: str) -> None:
        """What came up."""
        counts, kept = world.samples.counts, _DATABASES[database]
        behind = {
            "H37": "one-door software, archive software",
            "G01": f"{counts['citizens']:,} citizens, {kept}; dossier application",
            "G05": f"{counts['enterprises']:,} enterprises, dossiers: applications",
        }
        table = _table("member", "", "offers", "behind its gateway")
        for member in MEMBERS:
            offers = [service.code for service in SERVICES if service.provider is member]
            table.add_row(member.id, member.name, "\n".join(offers) or "-", behind[member.code])
        self._print(f"genesis {world.genesis}")
        self._print("A broker (nats-server), a registry, three members with keys of their own making.")
        self._show(table)

    def good(self, steps: list[Step]) -> None:
        """Calls that succeeded."""
        self._calls([(step, f"{step.answer.status}  {_gist(step)}", []) for step in steps])
        self._print(
            "First calls may take longer: each gateway tries a contract once, in a process apart, before it uses it."
        )

    def onboarding(self, way: Onboarding) -> None:
        """How long it took to become a member."""
        self._print(
            f"The province joined last. From its request to the first answer: {way.commands} commands, {way.seconds} s;"
            " two of three operators approved it."
        )

    def refused(self, steps: list[Step]) -> None:
        """Calls that were refused, with the reasons."""
        self._calls([(step, f"{step.answer.status}  {step.body.get('code', '')}", _reasons(step)) for step in steps])
        self._print("A provider's refusal is signed and in both logs. What one's own gateway refuses is never sent.")

    def fields(self, found: list[Fields]) -> None:
        """Which marked fields came."""
        table = _table("", "service", "granted and delivered", "not granted, so cut out by the provider's gateway")
        for one in found:
            service = one.service.split("/", 3)[3]
            table.add_row(_mark(one.problems), service, ", ".join(one.delivered) or "-", ", ".join(one.withheld) or "-")
        self._show(table)

    def bulk(self, told: Told, connections: int) -> None:
        """Many calls."""
        good = told.calls == told.good
        self._marked(
            good,
            f"{told.good:,} of {told.calls:,} answers are right, over {connections} connections:"
            f" {told.exchanges / told.seconds:,.0f} exchanges/s, median {told.p50_ms:.0f} ms,"
            f" 99 % within {told.p99_ms:.0f} ms.",
        )
        self._print(
            "Each call was authorised, checked against the contract on both sides, sealed end to end, and is in two"
            " signed logs, on disk before anything was sent. Client, gateways, broker and back end share this machine."
        )

    def away(self, steps: list[Step]) -> None:
        """The provider's gateway was stopped."""
        rows: list[tuple[Step, str, list[str]]] = []
        for step in steps:
            body, wait_s = step.body, step.answer.retry_after
            if "acted" in body:
                more = f"{body.get('detail')}; acted: {body['acted']}; Retry-After: {wait_s} s"
                rows.append((step, f"{step.answer.status}  {body.get('code')}", [more]))
            else:
                rows.append((step, f"{step.answer.status}  {_gist(step)}", []))
        self._calls(rows)

    def _calls(self, rows: list[tuple[Step, str, list[str]]]) -> None:
        """Calls, one a line with its duration, further lines below it."""
        cells = [(step.call.operation, step.what) for step, _, _ in rows]
        widths = [max(cell_len(row[column]) for row in cells) + 2 for column in range(2)]
        self._gap()
        for (step, answer, more), row in zip(rows, cells, strict=True):
            line = Text("   ").append(_mark(step.problems)).append(" ")
            for text, width in zip(row, widths, strict=True):
                line.append(set_cell_size(text, width))
            if self._narrow:
                self._out(line)
                line = Text(" " * 7)
            line.append(_fitted(answer, self._console.width - line.cell_len - 11))
            line.append(f"{step.answer.ms:8.1f} ms", style="dim")
            self._out(line)
            for text in (*more, *step.problems):
                self._out(
                    Padding(Text(text, style="red" if text in step.problems else "dim"), (0, 0, 0, 7), expand=False)
                )
        self._gap()

    def trust(self, found: WhoMaySpeak) -> None:
        """Who tried to speak as somebody else, and how soon nobody listens any more."""
        self._print("A fourth member, Visiting agency, joins. Then its keys are in other hands.")
        self._gap()
        forged, broken, slowest = found.forgeries, found.intrusions, found.effective_ms
        self._marked(
            not forged.let_in,
            f"{forged.refused} of {forged.tried} forged documents refused by the registry: services, rights and nodes"
            " in another's name, a member re-keyed without its key, one operator alone, an old right once more.",
        )
        self._marked(
            not broken.let_in,
            f"{broken.refused} of {broken.tried} intrusions refused by the broker: listening to others, sending as"
            " others, reaching into their streams, credentials of one's own making.",
        )
        gateways = ", ".join(f"{code} {ms:.0f} ms" for code, ms in found.refused_ms.items())
        self._marked(
            not found.problems(),
            f"Its node is revoked: every gateway refuses it within {slowest:.0f} ms of the registry's acknowledgement"
            f" ({gateways}; probed every 50 ms).",
        )
        self.complain(found.problems())

    def cluster(self, found: ClusterFacts) -> None:
        """Servers of the broker were killed while commands were under way."""
        self._marked(
            not found.problems(),
            f"{found.kills} kills of the broker's {found.servers} servers, the leader first and then all at once, in"
            f" {found.seconds:.0f} s of load: of {found.commands_accepted:,} commands that were accepted"
            f" {found.commands_completed:,} are completed, {found.lost} lost, {found.effects_twice} done twice.",
        )
        self._print(
            f"Queries meanwhile: {found.queries_ok:,} answered, {found.queries_failed:,} failed with a clear error. A"
            " command waits in the gateway that accepted it; a query is asked again by whoever needs it."
        )

    def logs(self, logs: list[LogResult], books: Books) -> None:
        """The verified logs and their match."""
        titles = ("records>", *(f"{word}>" for word in _TYPES.values()), "proofs>", "root>")
        shown = -1 if self._narrow else None
        table = _table("", "log>", *titles[:shown])
        for log in logs:
            counts = (log.records, *(log.counts.get(type_, 0) for type_ in _TYPES), log.proofs)
            cells = (*(f"{count:,}" for count in counts), f"{log.root[:8]}…")
            table.add_row(_mark(not log.verified), log.member.code, *cells[:shown])
        self._show(table)
        self._marked(
            not books.unmatched,
            f"Both sides' books agree: {books.matched:,} records stand in the logs of both, {books.explained} are"
            f" explained by an outcome (the call to the stopped gateway), {books.unmatched} unmatched.",
        )

    def tampering(self, found: Tampering) -> None:
        """The changed copy."""
        place = f"one bit of byte {found.offset} of record {found.index:,} in a copy of {found.member.code}'s log"
        self._marked(found.detected, f"Changed {place}: {'caught' if found.detected else 'NOT CAUGHT'}.")
        named = [line for line in found.said if line.startswith("leaf-changed")]
        for name, text in [*(("verifier", line) for line in named or found.said), ("record", found.leaf_hash)]:
            self._print(f"  {name:<9} {text}")

    def say(self, text: str) -> None:
        """A sentence."""
        self._print(text)

    def marked(self, good: bool, text: str) -> None:
        """A sentence with its mark."""
        self._marked(good, text)

    def rows(self, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table; a title that ends in `>` is of a column of numbers."""
        table = _table(*titles)
        for row in rows:
            table.add_row(*row)
        self._show(table)

    def complain(self, problems: Sequence[str]) -> None:
        """What is not as expected."""
        for problem in problems:
            self._out(Padding(Text(problem, style="red"), (0, 0, 0, 5), expand=False))

    def closing(self, problems: list[str], summary: str, out: Path | None) -> None:
        """Whether all was as expected."""
        self._gap()
        for problem in problems:
            self._console.print(Text(f"✗ {problem}", style="red"))
        good = Text(f"✓ All as expected: {summary}", style="bold green")
        self._console.print(Text(f"✗ Not as expected: {summary}", style="bold red") if problems else good)
        if out is not None and not self._brief:
            self._print(f"Logs, trust file and both sides' own notes: {out}")

    def stopping(self) -> None:
        """A signal came, or the run is over."""
        self._print("Stopping everything …")

    def running(self, world: World, work: Path, pid: int) -> None:
        """Where everything is, for trying."""
        nodes, home = world.gateways.nodes, world.home(PROVINCE)
        self._gap()
        self._console.print(Text("Everything goes on running in the foreground.", style="bold"))
        rows = [
            ("front of H37", nodes[PROVINCE.code].front),
            *((f"admin of {one.code}", f"{nodes[one.code].admin}  /readyz /status /metrics") for one in MEMBERS),
            ("registry", world.registry),
            ("homes", f"{work}/{{instance,H37,G01,G05}}"),
            *((f"key of {name}", world.keys[name].read_text().strip()) for name in PROVINCE.subsystems),
        ]  # fmt: skip
        for name, value in rows:
            self._line(f"   {name:<14} {value}")
        citizen = world.samples.citizen
        claim = f'{{"number": "{citizen.number}", "fullName": "{citizen.full_name}"}}'
        common = _curl(home / "tls" / "ca.crt", world.keys["onedoor"])
        service = f"{nodes[PROVINCE.code].front}/r1/{POPULATION.id}"
        self._line("\n   Look a citizen up, and confirm one:\n")
        self._line(f"{common} {service}/citizens/{citizen.number}\n")
        self._line(f"{common} -H 'Content-Type: application/json' -d '{claim}' {service}/confirm\n")
        self._line(f"   To stop: Ctrl-C here, or kill {pid}. The folder {work} goes with it.")

    def _print(self, text: str) -> None:
        self._out(Padding(Text(text), _INDENT, expand=False))

    def _marked(self, good: bool, text: str) -> None:
        grid = Table.grid(padding=(0, 1))
        grid.add_row(_mark(not good), Text(text))
        self._out(Padding(grid, _INDENT, expand=False))

    def _show(self, table: Table) -> None:
        self._gap()
        self._out(Padding(table, _INDENT, expand=False))
        self._gap()

    def _gap(self) -> None:
        if not self._blank:
            self._out(Text())
        self._blank = True

    def _out(self, what: RenderableType) -> None:
        if not self._brief:
            self._console.print(what)
            self._blank = False

    def _line(self, text: str) -> None:
        """A line that is for copying: never wrapped."""
        self._console.print(Text(text), soft_wrap=True)


def _table(*titles: str) -> Table:
    """A table without lines; a title that ends in `>` is of a column of numbers."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim", show_edge=False)
    for title in titles:
        if title.endswith(">"):
            table.add_column(title[:-1], justify="right", no_wrap=True)
        else:
            table.add_column(title, overflow="fold")
    return table


def _mark(problems: object) -> Text:
    return Text("✗", style="bold red") if problems else Text("✓", style="green")


def _fitted(text: str, width: int) -> str:
    return set_cell_size(text, width) if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"


def _gist(step: Step) -> str:
    """The part of an answer that a person looks for first."""
    body = step.body
    if "exists" in body:
        return f"exists: {str(body['exists']).lower()}"
    if isinstance(body.get("name"), dict):
        return f"{body['name'].get('full')}, {body.get('maritalStatus')}"
    if "legalForm" in body:
        return str(body["name"])
    state = re.search(r"<State>([a-z-]+)</State>", step.answer.body)
    return f"State: {state[1]}" if state else ""


def _reasons(step: Step) -> list[str]:
    """Why a call was refused, in the gateway's words."""
    body = step.body
    found = [f"{one.get('pointer')}: {one.get('message')}" for one in body.get("violations", [])]
    return found or [": ".join(filter(None, (body.get("reason"), body.get("detail"))))]


def _curl(authority: Path, key: Path) -> str:
    headers = (
        f'"X-LienThong-Key: $(cat {key})"',
        f"'X-Road-Client: {ONEDOOR}'",
        f"'X-LienThong-Purpose: {PURPOSE}'",
        f"'X-LienThong-Legal-Basis: {GROUND}'",
    )
    return f"curl -s --cacert {authority} " + " ".join(f"-H {header}" for header in headers)
