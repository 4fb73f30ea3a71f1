"""The part of the report that is about work handed over: write-back, one dossier's way, and a crowd under kills."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from console.demo.crowd import Crowd
from console.demo.delivery import Tally
from console.demo.dossier import CODE, PROCEDURE_NAME, DossierStory
from console.demo.report import Report
from console.demo.writeback import WriteBacks

_VIETNAM = timezone(timedelta(hours=7))
_DESK_STATES = {"9": "finished", "10": "returned"}


class WorkReport:
    """Tells through a report.

    Args:
        report: Where to.
    """

    def __init__(self, report: Report) -> None:
        self._report = report

    def write_backs(self, found: WriteBacks) -> None:
        """One change taken, one refused."""
        taken, stale = found.answers()
        report, fates = self._report, found.fates
        report.say("The province registers a move and proposes it, as a command, to the population database.")
        report.marked(
            taken.get("state") == "accepted",
            f"based on version 1: {fates[0].status} {taken.get('state', '')}; the record has version"
            f" {taken.get('version', '?')}.",
        )
        report.marked(
            stale.get("code") == "stale",
            f"a second one, based on version 1 too: {fates[1].status} {stale.get('code', '')}, nothing is changed; the"
            f" answer names the current version, {stale.get('currentVersion', '?')}.",
        )
        report.complain(found.problems())

    def dossier(self, story: DossierStory) -> None:
        """The timeline."""
        report = self._report
        report.say(f"{CODE}, {PROCEDURE_NAME}. The desk posts it in its own form; the front makes a command of it.")
        events = [
            (
                _clock(event.at),
                event.leg,
                event.state,
                f"{event.record}, signed by {event.signer}" if event.signer else "the broker's word",
                f"{event.log} #{event.index:,}" if event.index >= 0 else "-",
            )
            for event in story.events
        ]
        report.rows(("time", "what", "state", "backed by", "in the log of"), events)
        for letter in story.redriven:
            report.marked(
                not story.problems,
                f"The second agency's application was down: a dead letter after {letter.get('attempts', '?')} attempts"
                f" ({letter.get('code', '')}). Its operator starts it: `lienthong commands redrive`, the same id, done"
                " once.",
            )
        report.say(f"Dead letters that wait on for the operator's decision: {len(story.left)}.")
        state = story.looked_up.get("TrangThaiHoSo", "")
        report.marked(
            state == "9", f"The desk looks it up (TraCuuHoSo): state {state}, {_DESK_STATES.get(state, '?')}."
        )
        report.marked(
            story.ended.status == 422,
            f"A step after its end: the command is {story.ended.state}, its result says {story.ended.status}"
            " dossier-ended, the application's own rule.",
        )
        report.marked(
            story.refused.state == "failed",
            f"A subsystem without a right: the command is {story.refused.state}, {story.refused.code}, signed by G05.",
        )
        report.complain(story.problems)

    def crowd(self, found: Crowd, tally: Tally) -> None:
        """Kills and the count."""
        report, handed = self._report, found.handed
        kills = [
            (
                _clock(kill.at),
                kill.target,
                f"{kill.accepted:,}",
                f"{(datetime.fromisoformat(kill.back_at) - datetime.fromisoformat(kill.at)).total_seconds():.1f} s",
            )
            for kill in found.kills
        ]
        report.rows(("killed (SIGKILL)", "what", "accepted before>", "back after>"), kills)
        done = handed.states.get("completed", 0)
        report.marked(
            not found.problems(),
            f"{handed.accepted:,} commands under 200 order keys accepted, {done:,} completed in {handed.seconds:.1f} s;"
            f" {handed.again} calls that broke off or found nobody were repeated under their idempotency keys.",
        )
        states = ", ".join(f"{count:,} {state}" for state, count in sorted(tally.states.items()))
        report.marked(
            not tally.problems(),
            f"All scenes: {tally.accepted:,} accepted = {states}, {tally.pending} pending. Lost: {tally.lost}. Done"
            f" twice: {tally.effects_twice}.",
        )
        report.complain(found.problems() + tally.problems())


def _clock(at: str) -> str:
    """Time of day in Vietnam, to the millisecond."""
    return datetime.fromisoformat(at).astimezone(_VIETNAM).strftime("%H:%M:%S.%f")[:-3]
