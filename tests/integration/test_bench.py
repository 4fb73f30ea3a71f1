"""The benchmark itself: it measures what it says, refuses what means nothing, and leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bench import memory, quick
from bench.audit import audit
from bench.directory import broken_bounds
from bench.instance import bring_up
from bench.parts import measure
from bench.plugin.bench_source import ANSWER_BYTES, item
from bench.processes import ROOT, BenchFailed, Children
from bench.quick import Pace, figures
from bench.rounds import Round, Stand, Taken, check_yardstick

_PROMISED = {
    "nats_rps_128",
    "relay_rps_1",
    "relay_rps_128",
    "product_rps_1",
    "product_rps_128",
    "ratio_1",
    "ratio_128",
    "p50_ms_1",
    "p99_ms_128",
    "relay_cpu_us",
    "product_cpu_us",
    "cpu_ratio",
    "commands_accepted_rps_1",
    "commands_accepted_rps_128",
    "commands_ratio_128",
}
_SHORT = Pace(rounds=2, wide_s=0.3, single_s=0.3, bare_s=0.2, command_rounds=1, command_s=0.2)
_GONE_DEADLINE_S = 40.0


def _round(rps: float) -> Round:
    return Round(rps=rps, p50_ms=1.0, p99_ms=2.0, cpu_us=100.0, resident_mb=1.0, count=1)


def _running_below(folder: Path) -> list[psutil.Process]:
    """Processes that name the folder in their command line."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(str(folder) in part for part in process.info["cmdline"] or ())
    ]


@pytest.mark.slow
def test_every_promised_figure_is_measured_and_every_exchange_is_in_both_logs(tmp_path: Path) -> None:
    wide, single, commands = quick.measure(tmp_path, _SHORT)

    found = figures(wide, single) | commands.figures()

    assert found.keys() >= _PROMISED
    assert all(value > 0 for value in found.values())
    assert _running_below(tmp_path) == []


@pytest.mark.slow
def test_an_exchange_that_was_counted_but_not_logged_fails_the_run(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        product = bring_up(children)
        counted = Stand(children, product).load("product", 4, 0.3).count
        for gateway in (product.consumer, product.provider):
            children.stop(gateway)

        assert audit(product, counted).pairs >= counted
        with pytest.raises(BenchFailed, match="the logs hold"):
            audit(product, counted + 1_000)


@pytest.mark.slow
def test_a_gateway_does_not_grow_with_what_it_served(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        grown = memory.grow(Stand(children, bring_up(children)), memory.BOUNDED)

    assert grown["exchanges"] >= memory.BOUNDED
    assert grown["ok"], grown


def test_every_stage_is_a_place_of_the_product() -> None:
    """In a process of its own, because watching changes the product's functions."""
    looked = subprocess.run(
        [sys.executable, "-c", "from bench.stages import watch; print([one.target for one in watch() if not one.found])"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT / "bench" / "plugin")},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert looked.stdout == "[]\n"


def test_a_process_that_cannot_start_fails_the_run_and_the_others_are_stopped(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        waiting = children.start("waiting", [sys.executable, "-c", "import time; time.sleep(60)"])
        children.start("failing", [sys.executable, "-c", "raise SystemExit(3)"])
        with pytest.raises(BenchFailed, match="ended with code 3"):
            children.wait_for("nothing", lambda: False, 10)

    assert waiting.process.returncode is not None


@pytest.mark.slow
def test_a_killed_run_leaves_no_process_behind(tmp_path: Path) -> None:
    run = subprocess.Popen(
        [sys.executable, "-m", "bench", "--quick"],
        cwd=ROOT,
        env={"TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(lambda: any("nats-server" in " ".join(p.info["cmdline"]) for p in _running_below(tmp_path)))
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait()

    _wait(lambda: not _running_below(tmp_path))


def _wait(happened: object) -> None:
    assert callable(happened)
    until = time.monotonic() + _GONE_DEADLINE_S
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_relay_slower_than_a_third_of_bare_request_reply_is_refused() -> None:
    taken = Taken(128, relay=[_round(5_900.0)], nats_rps=[20_000.0], http_rps=[11_000.0])

    with pytest.raises(BenchFailed, match="no yardstick"):
        check_yardstick(taken)


def test_a_relay_that_is_fast_enough_is_a_yardstick() -> None:
    check_yardstick(Taken(128, relay=[_round(6_100.0)], nats_rps=[20_000.0], http_rps=[11_000.0]))


def test_ratios_are_of_neighbouring_rounds() -> None:
    taken = Taken(1, relay=[_round(100.0), _round(200.0), _round(400.0)])
    taken.product = [_round(50.0), _round(80.0), _round(240.0)]

    assert taken.ratio() == 0.5


@pytest.mark.parametrize("item_id", ["000000000000", "123456789012"])
def test_an_item_has_200_bytes(item_id: str) -> None:
    assert len(item(item_id)) == ANSWER_BYTES


def test_the_directory_is_measured_from_its_first_start_to_its_look_ups(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        place = tmp_path / "feed"
        place.mkdir()
        found = measure(children, "bench.directory", {"documents": 2600, "folder": str(place)})
    assert (found["documents"], found["members"]) == (2600, 500)
    assert 0 < found["restart_s"] < found["first_start_s"]
    assert found["update"].keys() == {"plus_1_ms", "plus_64_ms"}
    assert broken_bounds(found) == []


def test_a_directory_that_is_too_slow_or_too_large_fails_the_run() -> None:
    good = {"restart_s": 2.0, "first_start_peak_mb": 499.0, "restart_peak_mb": 499.0, "lookup": {"service_us": 50.0}}
    assert broken_bounds(good) == []
    for worse in (
        {"restart_s": 2.01},
        {"first_start_peak_mb": 500.0},
        {"restart_peak_mb": 500.0},
        {"lookup": {"service_us": 50.1}},
    ):
        assert len(broken_bounds({**good, **worse})) == 1
