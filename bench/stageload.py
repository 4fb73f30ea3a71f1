"""Loads the process of `bench.stages` and reads what each stage took."""

from __future__ import annotations

import json
import sys
from typing import Any

from bench import instance
from bench.instance import Product
from bench.processes import BenchFailed, Children

_CONNECTIONS, _WARM_S, _SECONDS = 32, 3.0, 6.0


def load_stages(children: Children, product: Product, env: dict[str, str]) -> list[dict[str, Any]]:
    """Runs both gateways of the homes in one process, under load. The gateways of the run have ended.

    Raises:
        BenchFailed: It did not come up, or an answer was wrong.
    """
    facts = json.dumps({"folder": str(product.folder)})
    watched = children.start("stages", [sys.executable, "-m", "bench.stages", facts], env, pipes=True)
    assert watched.process.stdout is not None
    line = watched.process.stdout.readline()
    if not line:
        raise BenchFailed(f"the gateways of the stages did not come up:\n{watched.tail()}")
    side = {
        "url": json.loads(line)["url"],
        "prefix": product.prefix,
        "headers": instance.headers(product),
        "ca": str(product.front_ca),
    }
    path = product.folder / "stage-load.json"
    path.write_text(json.dumps({"stages": side}), encoding="utf-8")
    path.chmod(0o600)
    generator = children.start("stage-generator", [sys.executable, "-m", "bench.generator", str(path)], pipes=True)
    asked = {"side": "stages", "connections": _CONNECTIONS}
    generator.ask({**asked, "seconds": _WARM_S})
    watched.ask({"do": "reset"})
    answer = generator.ask({**asked, "seconds": _SECONDS})
    if answer["errors"]:
        raise BenchFailed(f"wrong answers while the stages were measured: {answer['errors']}")
    stages: list[dict[str, Any]] = watched.ask({"do": "read", "count": answer["count"]})["stages"]
    children.stop(generator)
    children.stop(watched)
    return stages
