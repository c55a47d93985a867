"""Templates of the prompts that a text tower embeds for each class of a task. No torch here."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from bench.environment.files import prefix_errors, read_limited

PLACE = "{}"  # of the class name in a template
CLIP_BENCHMARK_PLACE = "{c}"  # the same in CLIP_benchmark's files
MAX_FILE_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class PromptTemplates:
    """The templates of a text tower's head."""

    title: str  # in records
    templates: tuple[str, ...]

    def prompts(self, name: str) -> tuple[str, ...]:
        """Return the prompts of a class name, one per template."""
        return tuple(template.replace(PLACE, name) for template in self.templates)


BARE_NAME = PromptTemplates("class name", (PLACE,))


def read_templates(file: str = "") -> PromptTemplates:
    """Read a text file with one template per line; without a file, the 80 of CLIP's authors for ImageNet.

    The class name takes the place of {} or, as in CLIP_benchmark's files, of {c}.

    ValueError for a file without templates, or for a line that has no place for the class name.
    """
    if not file:
        from open_clip import OPENAI_IMAGENET_TEMPLATES  # imports torch

        shipped = tuple(template(PLACE) for template in OPENAI_IMAGENET_TEMPLATES)
        return PromptTemplates(f"{len(shipped)} templates of open_clip for ImageNet", shipped)
    path = Path(file)
    content = read_limited(path, MAX_FILE_BYTES)
    with prefix_errors(path):
        lines = [
            line.strip().replace(CLIP_BENCHMARK_PLACE, PLACE)
            for line in content.decode().splitlines()
        ]
    templates = tuple(filter(None, lines))
    for number, line in enumerate(lines, start=1):
        if line and PLACE not in line:
            raise ValueError(
                f"{path}: line {number} has no {PLACE} or {CLIP_BENCHMARK_PLACE} for the class name: {line!r}"
            )
    if not templates:
        raise ValueError(
            f"{path} has no templates: write one per line, such as 'a photo of a {PLACE}.'"
        )
    digest = hashlib.sha256(content).hexdigest()[:8]
    return PromptTemplates(
        f"{len(templates)} templates of {path.name} (sha256 {digest})", templates
    )
