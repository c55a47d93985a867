"""The exact linear probe at ImageNet's size: `python -m tests.transfer.classification.large_probe`.

1,281,167 synthetic images of 1,000 classes with 768 features are written to a file in the user's cache
(`XDG_CACHE_HOME`, 8 GB) and fitted. Labels are drawn from a linear model, so that neither they nor the optimum are
certain. Then one more Newton step, of as many products with the Hessian as all before, shows how far the optimum was.
"""

import re
import resource
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor

from bench.transfer.classification import logistic
from bench.transfer.classification.logistic import PrincipalAxes, fit_regularisation_path
from bench.transfer.feature_matrix import BLOCK_ROWS, stack_rows

INVERSE_PENALTY = 0.03  # C
LOGIT_SCALE = 0.2  # of the model that labels are drawn from


def synthetic_features(images: int, features: int, classes: int) -> tuple[Tensor, Tensor]:
    """Return features whose variance falls as 1 / rank along rotated axes, and labels drawn from a linear model."""
    generator = torch.Generator().manual_seed(0)
    model = torch.randn(features, classes, generator=generator) * LOGIT_SCALE
    rotation = torch.linalg.qr(torch.randn(features, features, generator=generator))[0]
    mix, labels = torch.arange(1, features + 1)[:, None] ** -0.5 * rotation, list[Tensor]()

    def batches() -> Iterator[Tensor]:
        for first in range(0, images, BLOCK_ROWS):
            x = torch.randn(min(BLOCK_ROWS, images - first), features, generator=generator)
            noise = torch.empty(len(x), classes).exponential_(generator=generator).log_()
            labels.append((x @ model - noise).argmax(1))
            yield x @ mix

    return stack_rows(batches(), images), torch.cat(labels)


def rss_anon_bytes() -> int:
    """Return the resident memory of this process without mapped files."""
    return 1024 * int(re.findall(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())[0])


def main(images: int = 1_281_167, classes: int = 1000) -> None:
    """Generate, fit, and print times and memory."""
    peak, started = [0], time.perf_counter()

    def watch() -> None:
        while True:
            peak[0] = max(peak[0], rss_anon_bytes())
            time.sleep(0.5)

    def report(text: str) -> None:
        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{time.perf_counter() - started:.0f} s, {time.process_time():.0f} s of CPU time, peak {largest:.2f} GiB "
            f"resident with mapped files, {peak[0] / 2**30:.2f} GiB without: {text}",
            flush=True,
        )

    threading.Thread(target=watch, daemon=True).start()
    features, labels = synthetic_features(images, 768, classes)
    projected = PrincipalAxes.fit(features).project(features)
    report(f"projected {len(features):,} images on {projected.shape[1] - 1} axes")
    with patch.object(
        logistic._LogisticObjective,
        "_hessian_product",
        autospec=True,
        side_effect=logistic._LogisticObjective._hessian_product,
    ) as products:
        fits = fit_regularisation_path(projected, labels, [INVERSE_PENALTY] * 2)
        first = next(fits)
        report(f"{products.call_count} products, converged {first.converged}")
        logistic.MAX_STEPS, logistic.MAX_PRODUCTS = 1, products.call_count
        logistic.MAX_EXCESS, logistic.MAX_RELATIVE_RESIDUAL = 1e-12, 0
        second = next(fits)
    report(f"objective {first.objective:.8f}, {first.objective / second.objective - 1:.1e} less")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
