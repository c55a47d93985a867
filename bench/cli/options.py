"""What the verbs of the command line share."""

from pathlib import Path
from typing import Annotated, Protocol

from tyro.conf import UseAppendAction, arg

Settings = Annotated[
    tuple[str, ...],
    UseAppendAction,
    arg(name="set", metavar="FIELD=VALUE", help="change a field of the experiments; may be repeated"),
]
Tasks = Annotated[
    tuple[str, ...], UseAppendAction, arg(name="task", metavar="TASK", help="to score on; may be repeated")
]
Protocols = Annotated[
    tuple[str, ...], UseAppendAction, arg(name="protocol", metavar="PROTOCOL", help="to score by; may be repeated")
]
Results = Annotated[Path, arg(help="folder for records and towers")]
Json = Annotated[Path | None, arg(help="also write the figures to this file, as one JSON object")]


class Command(Protocol):
    """A parsed verb."""

    @property
    def how_to_go_on(self) -> str:
        """What to tell a person who interrupted it."""
        ...

    def run(self) -> int:
        """Do it; return the exit code. Raises ValueError or OSError for what the person can mend."""
        ...
