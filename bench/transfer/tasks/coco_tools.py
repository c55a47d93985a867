"""pycocotools, which is an extra."""

import importlib
from typing import Any


def coco_tool(name: str) -> Any:
    """Return a module of pycocotools ("coco", "cocoeval", "mask"); ValueError where it is not installed."""
    try:
        return importlib.import_module(f"pycocotools.{name}")
    except ModuleNotFoundError:
        raise ValueError("detection needs pycocotools: python3 -m pip install -e '.[coco]'") from None
