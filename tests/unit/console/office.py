"""An instance whose registry runs in a thread, for commands of operators and members: no broker, no gateway."""

from __future__ import annotations

from pathlib import Path

from console_world import INSTANCE, Registry, free_port, run, run_json


class Office:
    """An instance with three operators, two of whom sign; all keys are in the home."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "instance"
        listen = f"127.0.0.1:{free_port()}"
        keys = ("--operators", "3", "--threshold", "2")
        made = run_json("init", "instance", INSTANCE, "--home", self.home, "--registry-listen", listen, *keys)
        self.genesis, self.url = made["genesis"], made["registry"]
        self.registry = Registry(self.home)

    def ask(self, code: str, *more: object, code_: int = 0) -> dict[str, object]:
        where = ("--registry", self.url, "--genesis", self.genesis, "--name", f"en={code}")
        member = ("--member", f"{INSTANCE}/GOV/{code}", "--home", self.folder / code)
        return run_json("join", *member, *where, *more, code=code_)

    def admit(self, code: str) -> Path:
        """A member that was approved and has its certificate; its home."""
        home = self.folder / code
        self.ask(code)
        run("member", "approve", f"{INSTANCE}/GOV/{code}", "--home", self.home)
        run("join", "--status", "--home", home, "--wait", "5")
        return home
