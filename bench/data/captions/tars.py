"""The captions of tar samples, which pairs of files have, too: texts in .txt, and JSON objects in .json."""

from collections.abc import Iterator, Mapping, Sequence
from io import BufferedReader

from bench.data.captions.batches import (
    CaptionRow,
    decode_json_object,
    decode_text,
    find_caption_column,
)
from bench.data.captions.choice import NOT_AN_OBJECT, CaptionChoice, text_names
from bench.data.captions.fields import CaptionFieldCounts, CaptionFieldReader
from bench.data.shards.tar_samples import (
    CAPTION_SUFFIXES,
    Member,
    find_captions,
    iterate_samples,
    last_suffix,
)

PEEKED_SAMPLES = 20  # of a file, of which all texts are looked at, also those that are not read


class TarCaptionReader(CaptionFieldReader):
    """Reads the captions of tar samples; by default a sample's `.txt`, else a field of its `.json`.

    The first JSON object determines a field that is found by its name.
    """

    def __init__(self, choice: CaptionChoice, found: CaptionFieldCounts | None = None) -> None:
        super().__init__(choice, found)
        self._known = ""  # name of the field of JSON objects

    def parse(self, file: BufferedReader, _: Sequence[str]) -> Iterator[CaptionRow]:
        """Read the samples of a shard; ValueError if it ends before its end mark."""
        return ((key, self.values(members), "") for key, members in iterate_samples(file))

    def values(self, members: Mapping[str, Member]) -> dict[str, object]:
        """Return the values of the members that the choice reads: texts, and JSON objects or NOT_AN_OBJECT."""
        captions = find_captions(members)
        if "" not in self.choice.names:
            self.found.add_names(
                suffix if last_suffix(suffix) == "txt" else f".{suffix}" for suffix in members
            )
            return {
                suffix: _decode(suffix, member)
                for suffix, member in captions.items()
                if self._reads(suffix)
            }
        self.found.add_names(f".{suffix}" for suffix in members)
        if self.num_read < PEEKED_SAMPLES:
            shown = captions if members.keys() & {*CAPTION_SUFFIXES} else CAPTION_SUFFIXES
            texts = {
                suffix: _decode(suffix, captions[suffix]) for suffix in shown if suffix in captions
            }
            self.found.add_names(text_names(texts))
        if "txt" in captions:
            return {"txt": _decode("txt", captions["txt"])}
        if "json" not in captions:
            return {}
        fields = _decode("json", captions["json"])
        if isinstance(fields, dict):
            self._known = self._known or find_caption_column([*fields], None)
            fields = {self._known: fields[self._known]} if self._known in fields else {}
        return {"json": fields}

    def _reads(self, suffix: str) -> bool:
        """Return whether a member is read: a named text, or an object that a name leads into, perhaps without json."""
        if last_suffix(suffix) == "txt":
            return suffix in self.choice.names
        if suffix == "json":
            return any(name != "txt" for name in self.choice.names)
        return any(name.startswith(f"{suffix}.") for name in self.choice.names)


def _decode(suffix: str, member: Member) -> object:
    """Return the text of a .txt, or the object of a .json."""
    if last_suffix(suffix) == "txt":
        return decode_text(member.content)
    fields = decode_json_object(member.content)
    return NOT_AN_OBJECT if fields is None else fields
