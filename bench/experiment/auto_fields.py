"""The values of fields that are "auto", on a device."""

import torch

from bench.experiment.config import Experiment, change
from bench.experiment.fields import RuntimeSettings, TextPadding, TextSettings


def resolve_precision_and_compile(
    runtime: RuntimeSettings, device: torch.device
) -> tuple[str, bool]:
    """Return the precision and whether to compile; "auto" is bf16 and compiled on CUDA, fp32 and eager on a CPU."""
    cuda = device.type == "cuda"
    precision = runtime.precision if runtime.precision != "auto" else ("bf16" if cuda else "fp32")
    compiled = cuda if runtime.compile == "auto" else runtime.compile != "off"
    return precision, compiled


def resolve_text_padding(
    text: TextSettings, runtime: RuntimeSettings, device: torch.device
) -> TextPadding:
    """Return the padding of captions; "auto" is packed if compiled, because every new shape is compiled anew."""
    if text.text_padding != "auto":
        return text.text_padding
    _, compiled = resolve_precision_and_compile(runtime, device)
    return "packed_rows" if compiled else "length_groups"


def with_resolved_text_padding(experiment: Experiment, device: torch.device) -> Experiment:
    """Return the experiment with its "auto" padding of captions replaced by the device's."""
    text_padding = resolve_text_padding(experiment.text, experiment.runtime, device)
    return change(experiment, text_padding=text_padding)
