"""Random damage to files: any bytes, numbers and words, and the inside of zip, gzip and PNG files.

A change inside an archive is also made with correct checksums, as a hostile file would have it.
Otherwise the checksum would hide every mistake of the reader behind it.
"""

import gzip
import io
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import NamedTuple

_EDGE = 600  # bytes at both ends, where headers and directories are
_LARGE = 1 << 20  # the weights of a network; their headers are in the small members
_ZIP_RECORDS = re.compile(rb"PK(\x01\x02|\x03\x04|\x05\x06)")
_WORD = re.compile(rb"[\w.+-]+")
_PNG = b"\x89PNG\r\n\x1a\n"
_GZIP = b"\x1f\x8b"
_NUMBERS = (0, 1, -1, 2, 127, 255, 256, 32767, 65535, 2**24, 2**31 - 1, 2**32 - 1, 2**63 - 1)
_WORDS = (
    b"", b"-1", b"0", b"1e999", b"1e300", b"NaN", b"Infinity", b"99999999999999999999", b"null",
    b"true", b'"', b"[" * 5000, b"{", b"}", b"\n", b",", b"\xff\xfe", b"\0", b"..", b"/dev/zero",
    b"x" * 5000,
)  # fmt: skip


class Mutation(NamedTuple):
    """A changed file.

    Attributes:
      data: its bytes.
      name: what was done.
      checksums: whether the checksums of the container were made to fit the change.
    """

    data: bytes
    name: str
    checksums: bool = False


def mutate(data: bytes, rng: random.Random) -> Mutation:
    """Changes a file, mostly in one place. The result may happen to equal the original."""
    changes: list[Callable] = [
        _flip_bits, _flip_bits, _truncate, _overwrite, _insert, _remove, _swap, _set_number,
        _set_number, _set_word, _set_word,
    ]  # fmt: skip
    inside: list[Callable] = []
    if data[:2] == b"PK":
        changes += [_set_directory] * 4
        inside = [_inside_zip] * 8
    elif data[:8] == _PNG:
        inside = [_inside_png] * 8
    elif data[:2] == _GZIP:
        inside = [_inside_gzip] * 8
    change = rng.choice(changes + inside)
    changed = change(data, rng)
    if isinstance(changed, Mutation):
        return changed
    return Mutation(changed, change.__name__.strip("_"))


def _place(data, rng):
    """A position, often near the begin or the end."""
    where = rng.random()
    if where < 0.4:
        return rng.randrange(min(_EDGE, len(data)) or 1)
    if where < 0.6:
        return len(data) - 1 - rng.randrange(min(_EDGE, len(data)) or 1)
    return rng.randrange(len(data) or 1)


def _length(rng):
    return rng.choice((1, 2, 4, 8, 16, 64, 256, 4096))


def _flip_bits(data, rng):
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        if changed:
            changed[_place(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _truncate(data, rng):
    return data[: _place(data, rng)]


def _overwrite(data, rng):
    place, length = _place(data, rng), _length(rng)
    filled = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))
    return data[:place] + filled + data[place + length :]


def _insert(data, rng):
    place, length = _place(data, rng), _length(rng)
    return data[:place] + rng.choice((bytes(length), rng.randbytes(length))) + data[place:]


def _remove(data, rng):
    place = _place(data, rng)
    return data[:place] + data[place + _length(rng) :]


def _swap(data, rng):
    length = _length(rng)
    first, second = sorted((_place(data, rng), _place(data, rng)))
    if second - first < length:
        return data[second:] + data[:second]
    return (
        data[:first] + data[second : second + length] + data[first + length : second]
        + data[first : first + length] + data[second + length :]
    )  # fmt: skip


def _set_number(data, rng, place=None):
    """Overwrites 1 to 8 bytes by a number that lengths and counts stumble over."""
    width, number = rng.choice((1, 2, 4, 8)), rng.choice(_NUMBERS)
    number = (number + rng.choice((0, 0, -1, 1))) % 256**width
    place = _place(data, rng) if place is None else place
    return (
        data[:place] + number.to_bytes(width, rng.choice(("little", "big"))) + data[place + width :]
    )


def _set_word(data, rng):
    """Replaces a word or a number of a text, or of the texts in a header."""
    start = rng.choice((0, 0, max(0, len(data) - (1 << 16))))
    words = list(_WORD.finditer(data, start, start + (1 << 16)))
    if not words:
        return data
    word, by = rng.choice(words), rng.choice(_WORDS)
    if rng.random() < 0.3:  # lengths that are declared somewhere else stay right
        by = by[: len(word[0])].ljust(len(word[0]))
    return data[: word.start()] + by + data[word.end() :]


def _set_directory(data, rng):
    records = list(_ZIP_RECORDS.finditer(data))
    if not records:
        return data
    place = rng.choice(records).start() + rng.randrange(4, 46)
    if rng.random() < 0.5:
        return _set_number(data, rng, place)
    changed = bytearray(data)
    changed[min(place, len(data) - 1)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _inside_zip(data, rng):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    small = [i for i, (_, content) in enumerate(members) if len(content) < _LARGE]
    chosen = rng.choice(small if small and rng.random() < 0.8 else range(len(members)))
    name, (changed, what, _) = members[chosen][0].filename, mutate(members[chosen][1], rng)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for i, (info, content) in enumerate(members):
            archive.writestr(info, changed if i == chosen else content)
    return Mutation(packed.getvalue(), f"{what} in {name}", True)


def _inside_png(data, rng):
    chunks, place = [], len(_PNG)
    while place + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    chosen = rng.randrange(len(chunks))
    kind, content = chunks[chosen]
    name = f"in {kind.decode('latin1')}"
    if kind == b"IDAT" and rng.random() < 0.7:
        changed, what, _ = mutate(zlib.decompress(b"".join(x for k, x in chunks if k == kind)), rng)
        chunks = [chunk for i, chunk in enumerate(chunks) if i == chosen or chunk[0] != kind]
        chosen = next(i for i, chunk in enumerate(chunks) if chunk[0] == kind)
        chunks[chosen] = kind, zlib.compress(changed)
    elif rng.random() < 0.2:
        what = "repeated"
        chunks.insert(rng.randrange(len(chunks)), chunks[chosen])
    else:
        changed, what, _ = mutate(content, rng)
        chunks[chosen] = kind, changed
    parts = [
        struct.pack(">I", len(content)) + kind + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    ]  # fmt: skip
    return Mutation(_PNG + b"".join(parts), f"{what} {name}", True)


def _inside_gzip(data, rng):
    changed, what, _ = mutate(gzip.decompress(data), rng)
    return Mutation(gzip.compress(changed, 1), f"{what} in gzip", True)
