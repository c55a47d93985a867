"""Blocks as Markdown."""

from collections.abc import Sequence

from markupsafe import Markup

from bench.interfaces.sections import Block, Code, Facts, Group, ItemList, Quote, Text
from bench.tables.tables import Table, escape_markdown


def blocks_to_markdown(blocks: Sequence[Block]) -> list[str]:
    """Return a paragraph for each block of text, or table; charts and folds are left out."""
    paragraphs = list[str]()
    for block in blocks:
        match block:
            case Text(style="lead"):
                paragraphs.append(f"**{_plain(block.text)}**")
            case Text():
                paragraphs.append(_plain(block.text))
            case ItemList():
                marks = (
                    f"{at}." if block.style == "numbered" else "-"
                    for at in range(1, len(block.items) + 1)
                )
                lines = (
                    f"{mark} {_plain(item)}" for mark, item in zip(marks, block.items, strict=True)
                )
                paragraphs.append("\n".join(lines))
            case Table():
                paragraphs.append(block.to_markdown())
            case Facts():
                facts = (
                    f"- {_plain(name)}: {_plain('; '.join(values))}"
                    for name, values in block.facts.items()
                )
                paragraphs.append("\n".join(facts))
            case Quote():
                paragraphs.append(f"> {_plain(block.text)}\n>\n> {_plain(block.source)}")
            case Code():
                paragraphs.append("\n".join(["```", *block.lines, "```"]))
            case Group():
                paragraphs += blocks_to_markdown(block.blocks)
    return paragraphs


def _plain(text: str) -> str:
    return escape_markdown(text.striptags() if isinstance(text, Markup) else text)
