"""Where and when a run happens, as its record keeps it. No torch here."""

import msgspec


class Circumstances(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where and when a run happened."""

    machine: str  # what a speed depends on, in words; runs are compared only where it is equal
    device: str  # "cpu" or "cuda"
    threads: int
    precision: str
    compiled: bool
    packages: dict[str, str]
    commit: str  # of this project; "-dirty" behind it where the work tree differs
    started_at: str  # UTC, ISO 8601
    processes: int = 1  # that shared every batch, each with a device; `threads` are of each


def fingerprint_of(circumstances: Circumstances) -> str:
    """Say in one line what speeds depend on beside the code: figures of different lines are never joined."""
    packages = ", ".join(f"{name} {version}" for name, version in circumstances.packages.items())
    threads = f"{circumstances.threads} thread{'s' if circumstances.threads > 1 else ''}"
    processes = f"; {circumstances.processes} processes" if circumstances.processes > 1 else ""
    return f"{circumstances.machine}; {threads}{processes}; {packages}"
