"""What keeps a function from everything else."""

from __future__ import annotations

from nbfunctions.errors import SandboxUnavailable
from nbfunctions.executor.sandbox.bubblewrap import candidates
from nbfunctions.executor.sandbox.none import Unconfined
from nbfunctions.executor.sandbox.proof import prove
from nbfunctions.executor.sandbox.protocol import Room, Sandbox
from nbfunctions.settings import Settings

__all__ = ["choose_sandbox"]

ADVICE = (
    "Install bubblewrap (0.8 or later) or allow unprivileged user namespaces on this host; "
    "for trusted code only, --sandbox none runs functions without isolation"
)


async def choose_sandbox(settings: Settings, room: Room) -> Sandbox:
    """Return the strongest sandbox that passes its self-test here; ``room`` is what the test runs in.

    Raises :class:`~nbfunctions.errors.SandboxUnavailable` saying what failed and what to do; there is never a weaker
    one in silence.
    """
    data_dir = settings.data_dir.absolute()
    if settings.sandbox == "none":
        unconfined = Unconfined(data_dir / "tmp")
        await prove(unconfined, room, data_dir)
        return unconfined
    failures: list[str] = []
    for sandbox in candidates(data_dir, settings.instances):
        sandbox.write_accounts()
        try:
            await prove(sandbox, room, data_dir)
        except SandboxUnavailable as error:
            failures.append(f"{sandbox.program}: {error}")
        else:
            return sandbox
    found = "; ".join(dict.fromkeys(failures)) or "no bwrap program was found"
    raise SandboxUnavailable(f"Functions can't be isolated here: {found}. {ADVICE}.")
