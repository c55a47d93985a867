"""The command line without a verb: the default comparison, a short check of it, or a full one."""

from dataclasses import dataclass
from pathlib import Path

from bench.cli.options import Caption, Data, Image, Results, Root, Tasks


@dataclass(frozen=True, slots=True)
class Bench:
    """Compare the methods at the tiny scale: throughput, memory, training at equal budgets, transfer accuracy."""

    methods: str | None = None  # methods to compare; default: clip,siglip,catlip,superclass
    # minutes that the whole takes, which decide rounds, images and seeds; default: 12
    minutes: float | None = None
    smoke: bool = False  # check all stages with CLIP and CatLIP in 90 s; the figures mean nothing
    full: bool = False  # three seeds and longer training
    data: Data = None
    caption: Caption = None
    image: Image = None
    root: Root = None
    tasks: Tasks = ()
    # continue the newest comparison with the same of --smoke, --full or neither
    resume: bool = False
    results: Results = Path("results")

    def run(self) -> int:
        """Measure speed and memory, train, and score the towers."""
        from bench.cli.default_comparison import run_default

        if self.smoke and self.full:
            raise ValueError("--smoke and --full exclude each other")
        return run_default(
            "smoke" if self.smoke else "full" if self.full else "default",
            self.results,
            methods=self.methods,
            minutes=self.minutes,
            data=self.data,
            fields={"caption": self.caption, "image_column": self.image},
            tasks=self.tasks,
            root=self.root,
            is_resumed=self.resume,
        )
