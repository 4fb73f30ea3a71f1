"""The room `config`: what it says of settings, metrics, labels and units is what the program has."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any, get_origin

import msgspec
import pytest
import yaml
from prometheus_client import CollectorRegistry

from adapters.kinds import load_kind
from adapters.port import SilentObserver
from bus.metrics import GatewayMetrics
from bus.settings import AdminKey, Client, GatewayPart, GatewaySettings, Service, locate, parse_settings
from bus.transport.broker import BrokerFailed, find_binary, render_config
from console.data import data_folder
from console.homes import InstanceHome
from console.instance import InstancePlan, create_instance
from console.processes.broker import broker_files
from console.processes.registry import RegistryMetrics

CONFIG = data_folder("config")
ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = (CONFIG / "gateway.toml").read_text(encoding="utf-8")
DASHBOARD = json.loads((CONFIG / "grafana" / "lienthong.json").read_text(encoding="utf-8"))
ALERTS = yaml.safe_load((CONFIG / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
TARGET_LABELS = {"instance", "job", "node", "le"}


# --- settings -------------------------------------------------------------------------------------------------------


def described(cls: type[msgspec.Struct], prefix: str = "") -> dict[str, Any]:
    """Dotted key to default (`msgspec.NODEFAULT` when required) of a settings struct; tables are gone into."""
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(cls):
        key = f"{prefix}{field.name}"
        inner = field.type
        if get_origin(inner) is tuple and inner.__args__[0] in (AdminKey, Client, Service):
            found |= described(inner.__args__[0], f"{key}[0].")
        elif isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            found |= described(inner, f"{key}.")
        else:
            found[key] = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    return found


def comment_above(lines: list[str], number: int) -> str:
    """The comment that ends on the line before `number` (from 1)."""
    above: list[str] = []
    for line in reversed(lines[: number - 1]):
        if not line.startswith("#"):
            break
        above.insert(0, line.lstrip("# ").rstrip())
    return " ".join(above)


KEYS = described(GatewaySettings)
LINES = locate(EXAMPLE)


def test_the_example_has_every_key_of_the_settings_and_no_other() -> None:
    written = {
        key
        for key in LINES
        if not key.startswith("service[1]") and not key.startswith("service[0].settings") and key not in tables()
    }
    assert written == set(KEYS) - {"service[0].settings"}
    assert "service[0].settings" in LINES


def tables() -> set[str]:
    return {key.rpartition(".")[0] for key in KEYS if "." in key} | {"service[1]"}


@pytest.mark.parametrize("key", sorted(KEYS))
def test_the_comment_of_a_key_says_its_default(key: str) -> None:
    comment = comment_above(EXAMPLE.splitlines(), LINES[key])
    default = KEYS[key]
    if default is msgspec.NODEFAULT:
        assert comment.endswith("Required."), comment
        return
    said = re.search(r"Default: (.+)\.$", comment)
    assert said, f"{key}: the comment does not end with its default: {comment!r}"
    if default is None:
        assert said[1] == "none"
        return
    value = tomllib.loads(f"x = {said[1]}")["x"]
    if isinstance(default, tuple):
        assert value == list(default)
        return
    assert value == (str(default) if isinstance(default, Path) else default)
    assert type(value) is type(default) or isinstance(default, Path)


@pytest.mark.parametrize("key", sorted(key for key in KEYS if re.search(r"_(s|bytes|days|per_s)$", key)))
def test_the_comment_of_a_number_says_its_unit(key: str) -> None:
    comment = comment_above(EXAMPLE.splitlines(), LINES[key]).lower()
    unit = {"s": "second", "bytes": "bytes", "days": "days"}[key.rpartition("_")[2]]
    assert unit in comment


def test_the_example_parses_and_its_sources_can_be_built() -> None:
    settings = parse_settings(EXAMPLE, "gateway.toml")
    assert {service.kind for service in settings.service} == {"sql", "http"}
    for service in settings.service:
        load_kind(service.kind).build(service.settings, SilentObserver())


def test_the_example_part_holds_only_what_a_part_may() -> None:
    data = tomllib.loads((CONFIG / "gateway.d" / "client-example.toml").read_text(encoding="utf-8"))
    part = msgspec.convert(data, GatewayPart, dec_hook=lambda type_, value: type_(value))
    assert part.client


@pytest.mark.parametrize("path", sorted((CONFIG / "profiles").glob("*.toml")), ids=lambda path: path.stem)
def test_a_profile_changes_known_keys_and_parses_on_top_of_a_written_file(path: Path) -> None:
    profile = tomllib.loads(path.read_text(encoding="utf-8"))
    merged = tomllib.loads(EXAMPLE) | {"client": [], "service": [], "admin_key": []}
    for name, value in profile.items():
        merged[name] = merged[name] | value if isinstance(value, dict) else value
    settings = parse_settings(to_toml(merged))
    assert any(getattr(settings, name) != getattr(parse_settings(EXAMPLE), name) for name in profile)
    for table, values in profile.items():
        for key, value in values.items():
            default = KEYS[f"{table}.{key}"]
            same = value == default and key != "listen"  # an address may be repeated to be seen
            assert not same, f"{path.name}: {table}.{key} is the default"


def to_toml(data: dict[str, Any]) -> str:
    """TOML of scalars, lists and one level of tables."""
    lines = [
        f"{key} = {json.dumps(value)}" for key, value in data.items() if not isinstance(value, dict) and value != []
    ]
    for key, value in data.items():
        if isinstance(value, dict):
            lines += [f"[{key}]", *(f"{name} = {json.dumps(item)}" for name, item in value.items())]
    return "\n".join(lines)


# --- broker ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> InstanceHome:
    home = InstanceHome(tmp_path_factory.mktemp("instance"))
    create_instance(home, InstancePlan("VN-DEMO", "127.0.0.1:8470", "127.0.0.1:4222", ("127.0.0.1", "localhost")))
    return home


def accepts(config: Path) -> subprocess.CompletedProcess[str]:
    try:
        binary = find_binary()
    except BrokerFailed as error:
        pytest.skip(str(error))
    return subprocess.run([binary, "-t", "-c", str(config)], capture_output=True, text=True, timeout=30, check=False)


def test_nats_server_accepts_the_configuration_of_an_instance(instance: InstanceHome, tmp_path: Path) -> None:
    config = tmp_path / "nats-server.conf"
    config.write_text(render_config(broker_files(instance)), encoding="utf-8")
    done = accepts(config)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("servers", [1, 3])
def test_nats_server_accepts_the_template_filled_in(instance: InstanceHome, tmp_path: Path, servers: int) -> None:
    files = broker_files(instance)
    (account, account_jwt), (streams, streams_jwt), (_, system_jwt) = files.accounts.items()
    text = (CONFIG / "nats" / "nats-server.conf").read_text(encoding="utf-8")
    for written, value in {
        "<operator JWT: broker/identity.json, operator_jwt>": files.operator_jwt,
        "<public key of the system account: broker/identity.json, system_account>": files.system_account,
        "<public key of the instance's account>": account,
        "<its JWT: broker/identity.json, accounts>": account_jwt,
        "<public key of the streams' account>: <its JWT>": f"{streams}: {streams_jwt}",
        "<public key of the system account>: <its JWT>": f"{files.system_account}: {system_jwt}",
        "/var/lib/lienthong/broker": str(tmp_path),
        "/etc/lienthong/broker/tls.crt": str(files.tls_cert),
        "/etc/lienthong/broker/tls.pem": str(files.tls_key),
    }.items():
        assert written in text
        text = text.replace(written, value)
    if servers == 3:
        start = text.index("# cluster {")
        text = text[:start] + re.sub(r"^# ?", "", text[start:], flags=re.MULTILINE)
        text = text.replace("/etc/lienthong/broker/route.crt", str(files.tls_cert)).replace("<INSTANCE>", "VN-DEMO")
        text = text.replace("/etc/lienthong/broker/route.pem", str(files.tls_key))
        text = text.replace("/etc/lienthong/broker/route-ca.crt", str(instance.ca / "ca.crt"))
    (tmp_path / "resolver").mkdir()
    config = tmp_path / "nats-server.conf"
    config.write_text(text, encoding="utf-8")
    done = accepts(config)
    assert done.returncode == 0, done.stderr


def test_the_template_explains_every_setting_that_the_program_writes(instance: InstanceHome) -> None:
    template = (CONFIG / "nats" / "nats-server.conf").read_text(encoding="utf-8")
    rendered = re.sub(r"^  [AO][A-Z2-7]{50,}: .*$", "", render_config(broker_files(instance)), flags=re.MULTILINE)
    keys = set(re.findall(r"^\s*([a-z_]+)\s*[:{]", rendered, flags=re.MULTILINE))
    assert keys >= {"max_control_line", "resolver", "jetstream", "sync_interval"}
    missing = {key for key in keys if not re.search(rf"^\s*{key}\b", template, flags=re.MULTILINE)}
    assert missing == {"ports_file_dir"}  # only an embedded server needs it


# --- dashboards and alerts ------------------------------------------------------------------------------------------


def metrics_of(registry: CollectorRegistry) -> dict[str, set[str]]:
    """Every sample name that a registry can give, with its labels."""
    known: dict[str, set[str]] = {}
    for collector in registry._collector_to_names:
        name, kind, labels = collector._name, collector._type, set(collector._labelnames)
        if kind == "counter":
            known[f"{name}_total"] = labels
        elif kind == "histogram":
            known |= {f"{name}_bucket": labels | {"le"}, f"{name}_sum": labels, f"{name}_count": labels}
        else:
            known[name] = labels
    return known


METRICS = metrics_of(GatewayMetrics().registry) | metrics_of(RegistryMetrics().registry) | {"up": {"job"}}

_SELECTOR = re.compile(r"(?P<name>\b(?:lienthong_[a-z0-9_]+|up)\b)\s*(?:\{(?P<matchers>[^}]*)\})?")
_BY = re.compile(r"\bby \(([^)]*)\)")


def selectors(expression: str) -> list[tuple[str, set[str]]]:
    """Metric names of an expression, each with the labels that it selects by."""
    return [
        (found["name"], set(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", found["matchers"] or "")))
        for found in _SELECTOR.finditer(expression)
    ]


def problems(expression: str, texts: str = "") -> list[str]:
    """What an expression (and the texts beside it) names that the program does not have."""
    found: list[str] = []
    available: set[str] = set(TARGET_LABELS)
    for name, labels in selectors(expression):
        if name not in METRICS:
            found.append(f"no metric {name}")
            continue
        available |= METRICS[name]
        found += [f"{name} has no label {label}" for label in labels - METRICS[name] - TARGET_LABELS]
    grouped = {label.strip() for group in _BY.findall(expression) for label in group.split(",")}
    found += [f"no label {label} to group by" for label in grouped - available]
    named = set(re.findall(r"\$labels\.([a-z_]+)|\{\{([a-z_]+)\}\}", texts))
    kept = grouped | TARGET_LABELS if grouped else available
    found += [f"no label {label} in a text" for pair in named for label in pair if label and label not in kept]
    return found


def test_the_check_itself_finds_unknown_metrics_and_labels() -> None:
    assert problems("rate(lienthong_exchange_total[5m])") == ["no metric lienthong_exchange_total"]
    assert problems('lienthong_in_flight{client="x"}') == ["lienthong_in_flight has no label client"]
    assert problems("sum by (service) (lienthong_in_flight)") == ["no label service to group by"]
    assert problems("lienthong_in_flight", "{{service}}") == ["no label service in a text"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_names_what_exists_and_has_a_runbook(rule: dict[str, Any]) -> None:
    notes = rule["annotations"]
    assert problems(rule["expr"], notes["summary"] + notes["description"]) == []
    assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in {"warning", "critical"}
    page, _, anchor = notes["runbook_url"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert anchor in {heading.strip("`").lower().replace(" ", "-") for heading in headings}
    assert anchor == re.sub(r"(?<!^)(?=[A-Z])", "-", rule["alert"]).lower()


def test_alerts_have_distinct_names_and_cover_what_operators_need() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(names) == len(set(names))
    watched = {name for rule in RULES for name, _ in selectors(rule["expr"])}
    assert watched >= {
        "lienthong_directory_age_seconds",
        "lienthong_log_writable",
        "lienthong_broker_connected",
        "lienthong_refusals_total",
        "lienthong_dropped_total",
        "lienthong_exchanges_total",
        "lienthong_exchange_seconds_bucket",
        "lienthong_certificate_days_left",
        "lienthong_clock_offset_seconds",
        "lienthong_alarms_total",
        "lienthong_log_commit_seconds_bucket",
        "lienthong_in_flight",
    }


PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_names_what_exists(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        assert problems(target["expr"], target["legendFormat"]) == []
        assert target["expr"].count("(") == target["expr"].count(")")


def test_the_first_panel_of_the_dashboard_is_throughput() -> None:
    first = min(PANELS, key=lambda panel: (panel["gridPos"]["y"], panel["gridPos"]["x"]))
    assert first is DASHBOARD["panels"][0]
    named = {name for target in first["targets"] for name, _ in selectors(target["expr"])}
    assert {re.sub(r"_(sum|count|bucket)$", "", name) for name in named} == {
        "lienthong_exchanges_total",
        "lienthong_exchange_bytes_total",
        "lienthong_exchange_seconds",
    }


def test_panels_do_not_overlap_and_every_metric_of_a_gateway_is_drawn() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    drawn = {name for panel in PANELS for target in panel["targets"] for name, _ in selectors(target["expr"])}
    families = {re.sub(r"_(sum|count|bucket)$", "", name) for name in METRICS if name != "up"}
    assert families == {re.sub(r"_(sum|count|bucket)$", "", name) for name in drawn}


def test_variables_of_the_dashboard_are_filled_from_metrics_that_have_the_label() -> None:
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"]).groups()  # type: ignore[union-attr]
            assert label in METRICS[metric] | TARGET_LABELS


def test_prometheus_reads_the_rules_and_knows_the_jobs_that_they_name() -> None:
    scrape = yaml.safe_load((CONFIG / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    assert scrape["rule_files"] == ["alerts.yml"]
    jobs = {job["job_name"] for job in scrape["scrape_configs"]}
    text = json.dumps(RULES)
    assert set(re.findall(r'job=\\"([^"\\]+)', text)) == jobs


# --- units ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["gateway", "registry", "broker"])
def test_a_unit_runs_its_role_hardened_and_restarts_it(role: str) -> None:
    text = (CONFIG / "systemd" / f"lienthong-{role}.service").read_text(encoding="utf-8")
    values: dict[str, str] = {}
    for line in text.splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            values[key] = value
    assert values["ExecStart"].split()[1:3] == [role, "--home"]
    assert values["Restart"] == "on-failure"
    assert values["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert values["ProtectSystem"] == "strict"
    assert values["NoNewPrivileges"] == "yes"
    assert values["CapabilityBoundingSet"] == ""
    assert values["User"] != "root"
    drain_s = float(ast.literal_eval(str(KEYS["limits.drain_s"])))
    assert int(values["TimeoutStopSec"]) > drain_s + 5


def test_the_unit_of_the_one_door_front_is_hardened_like_the_gateways_and_checks_its_settings_first() -> None:
    def settings(role: str) -> set[str]:
        text = (CONFIG / "systemd" / f"lienthong-{role}.service").read_text(encoding="utf-8")
        return {line for line in text.splitlines() if "=" in line and not line.startswith("#")}

    differing = {line.partition("=")[0] for line in settings("onedoor") ^ settings("gateway")}
    assert differing == {"Description", "ExecStartPre", "ExecStart", "ExecReload"}
    assert any(line.startswith("ExecStartPre=") and line.endswith(" --check") for line in settings("onedoor"))
