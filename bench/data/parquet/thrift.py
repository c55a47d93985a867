"""Thrift's compact protocol, in which a Parquet file's footer and the headers of its pages are written.

Source: apache/thrift, doc/specs/thrift-compact-protocol.md.
"""

from typing import Any

TRUE, FALSE, BYTE, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
LONG_LIST = 15  # in place of a list's length
MAX_DEPTH = 20
DAMAGED = "its metadata are damaged"
Fields = dict[int, Any]  # of a struct, by number


class ThriftReader:
    """Reads values from bytes; ValueError for damaged ones, EOFError where they end too early."""

    def __init__(self, content: bytes) -> None:
        self.content, self.offset = content, 0

    def read_struct(self, depth: int = 0) -> Fields:
        """Return the fields of a struct."""
        fields, number = Fields(), 0
        while header := self._read_byte():
            number = number + (header >> 4) if header >> 4 else self._read_integer()
            kind = header & 15
            fields[number] = kind == TRUE if kind in (TRUE, FALSE) else self._read(kind, depth + 1)
        return fields

    def read_bytes(self, size: int) -> bytes:
        """Return the next bytes."""
        taken = self.content[self.offset : self.offset + size]
        if len(taken) < size:
            raise EOFError(DAMAGED)
        self.offset += size
        return taken

    def read_varint(self) -> int:
        """Return an unsigned integer of 7 bits a byte, the lowest first."""
        value = shift = 0
        while shift <= 63:  # noqa: PLR2004 - of 64 bits
            byte = self._read_byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:  # noqa: PLR2004 - the last one
                return value
            shift += 7
        raise ValueError(DAMAGED)

    def _read(self, kind: int, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ValueError(DAMAGED)
        if kind in (TRUE, FALSE, BYTE):
            return self._read_byte()
        if kind < DOUBLE:
            return self._read_integer()
        if kind in (DOUBLE, BINARY):
            return self.read_bytes(8 if kind == DOUBLE else self.read_varint())
        return self.read_struct(depth) if kind == STRUCT else self._read_collection(kind, depth)

    def _read_collection(self, kind: int, depth: int) -> list[Any]:
        if kind in (LIST, SET):
            header = self._read_byte()
            count = self.read_varint() if header >> 4 == LONG_LIST else header >> 4
            return [self._read(header & 15, depth + 1) for _ in range(count)]
        if kind != MAP:
            raise ValueError(DAMAGED)
        kinds = self._read_byte() if (count := self.read_varint()) else 0
        return [(self._read(kinds >> 4, depth + 1), self._read(kinds & 15, depth + 1)) for _ in range(count)]

    def _read_byte(self) -> int:
        if self.offset >= len(self.content):
            raise EOFError(DAMAGED)
        self.offset += 1
        return self.content[self.offset - 1]

    def _read_integer(self) -> int:
        value = self.read_varint()
        return (value >> 1) ^ -(value & 1)
