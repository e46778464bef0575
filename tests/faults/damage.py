"""Damages the content of files, the same for the same seed; also inside zips, archives and checksums."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import google_crc32c

ODD_NUMBERS = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
ODD_TEXTS = (
    *(
        b"-1",
        b"0",
        b"1e999",
        b"NaN",
        b"-Infinity",
        b"9" * 30,
        b"9" * 5000,
        b"0x" + b"f" * 100,
        b"null",
        b"true",
    ),
    *(b'""', b"[]", b"{}", b"[[[[[[", b'{"a":', b"../../x", b"/etc/passwd", b"\\ud800", b"\\u0000", b"\x00"),
    *(b"\xff\xfe", b"\xef\xbb\xbf", "\u202e\x1b[2J".encode(), b"\r\n", b",,,,", b"a.b.c.d.e", b"'''", b'"""'),
)
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1.5, 2**40, 2**63, 10**400, float("nan"), float("inf"), 1e308),
    *("", "../x", "a\nb", "\ud800", "\0", [], {}, [None], ["a"], [[]], [{}], {"a": 1}, {"": None}),
)
_WORD = re.compile(rb"[\w.+-]+")

# Given content and chance, a damaged content.
Damage = Callable[[bytes, random.Random], bytes]


def damaged(content: bytes, layers: Sequence[Damage], seed: str) -> bytes:
    """A damaged copy: by one of the kinds below, or, every second time, by one of `layers`."""
    chance = random.Random(seed)
    if layers and chance.random() < 0.5:
        return chance.choice(layers)(content, chance)
    return plain(content, chance)


def plain(content: bytes, chance: random.Random) -> bytes:
    """A copy damaged in one to three places."""
    for _ in range(chance.choice((1, 1, 2, 3))):
        content = chance.choice(KINDS)(content, chance)
    return content


def _flip(content: bytes, chance: random.Random) -> bytes:
    data = bytearray(content or b"\0")
    for _ in range(chance.randint(1, 8)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def _truncate(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content) + 1)]


def _splice(content: bytes, chance: random.Random) -> bytes:
    """A piece of the file over, into or out of another place."""
    length = chance.choice((1, 4, 16, 64, 1024))
    source, target = chance.randrange(len(content) + 1), chance.randrange(len(content) + 1)
    piece = chance.choice((content[source : source + length], b""))
    return content[:target] + piece + content[target + chance.choice((0, length)) :]


def _number(content: bytes, chance: random.Random) -> bytes:
    """An odd number of 1 to 8 bytes."""
    code = chance.choice(("<B", "<H", "<I", "<Q", ">I", ">H"))
    size = struct.calcsize(code)
    if len(content) < size:
        return content
    data, place = bytearray(content), chance.randrange(len(content) - size + 1)
    struct.pack_into(code, data, place, chance.choice((*ODD_NUMBERS, len(content))) % (1 << 8 * size))
    return bytes(data)


def _word(content: bytes, chance: random.Random) -> bytes:
    """An odd text in place of a word."""
    words = list(_WORD.finditer(content[:100_000]))
    if not words:
        return content + chance.choice(ODD_TEXTS)
    word = chance.choice(words)
    return content[: word.start()] + chance.choice(ODD_TEXTS) + content[word.end() :]


def _many(content: bytes, chance: random.Random) -> bytes:
    """A piece many times: deep brackets, long lists."""
    length = chance.choice((1, 2, 5, 20))
    place = chance.randrange(len(content) + 1)
    return (
        content[:place]
        + content[place : place + length] * chance.choice((10, 1000, 20_000))
        + content[place:]
    )


KINDS: tuple[Damage, ...] = (_flip, _truncate, _splice, _number, _word, _many)


def in_zip(content: bytes, chance: random.Random) -> bytes:
    """A zip with one damaged member, and right checksums; also members twice, packed, or of other names."""
    out = io.BytesIO()
    how = chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(out, "w", how) as made:
        chosen = chance.choice(archive.namelist())
        for name in archive.namelist():
            own = archive.read(name)
            if name == chosen:
                own = plain(own, chance)
                name = chance.choice((name, name, name, f"../{name}", f"assets/{name}"))
            made.writestr(name, own)
    return out.getvalue()


def in_tar(content: bytes, chance: random.Random) -> bytes:
    """A gzipped archive whose own bytes, or whose members, are damaged."""
    if chance.random() < 0.5:
        return gzip.compress(plain(gzip.decompress(content), chance), 1)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as tar:
        for name in chance.sample(("a", "b/c", "../d", "/e", "f" * 300, "a"), 3):
            member = tarfile.TarInfo(name)
            member.type = chance.choice(
                (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE, b"S")
            )
            member.size = chance.choice((0, 3)) if member.type == tarfile.REGTYPE else 0
            member.linkname = "/etc/passwd"
            tar.addfile(member, io.BytesIO(b"abc"))
    return out.getvalue()


def in_json(content: bytes, chance: random.Random) -> bytes:
    """JSON, or a line of JSON lines, in which a value has become another kind of value."""
    lines = content.splitlines()
    place = chance.randrange(len(lines))
    try:
        before, tree, after = [], json.loads(content), []
    except ValueError:
        before, tree, after = lines[:place], json.loads(lines[place] or b"{}"), lines[place + 1 :]
    value = chance.choice(ODD_VALUES)
    nodes = list(_nodes(tree))
    if nodes:
        holder, key = chance.choice(nodes)
        holder[key] = value
    else:
        tree = value
    return b"\n".join([*before, json.dumps(tree).encode(), *after])


def _nodes(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Each value of a tree, as what holds it and its key."""
    if isinstance(tree, dict | list):
        for key in [*tree] if isinstance(tree, dict) else range(len(tree)):
            yield tree, key
            yield from _nodes(tree[key])


def in_gzip(content: bytes, chance: random.Random) -> bytes:
    """The damaged content, gzipped."""
    return gzip.compress(plain(content, chance), 1)


def masked_checksum(content: bytes) -> int:
    """The checksum of TensorFlow's files."""
    crc = google_crc32c.value(content)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def in_records(content: bytes, chance: random.Random) -> bytes:
    """TFRecord files with damaged records and right checksums."""
    records, position = [], 0
    while position < len(content):
        (length,) = struct.unpack_from("<Q", content, position)
        records.append(content[position + 12 : position + 12 + length])
        position += 16 + length
    place = chance.randrange(len(records))
    records[place] = plain(records[place], chance)
    parts = []
    for one in records:
        head = struct.pack("<Q", len(one))
        parts += [
            head,
            struct.pack("<I", masked_checksum(head)),
            one,
            struct.pack("<I", masked_checksum(one)),
        ]
    return b"".join(parts)


def in_table(content: bytes, chance: random.Random) -> bytes:
    """The index of a checkpoint with a damaged first block of the same length, and the right checksum."""
    footer = content[-48:]
    position, handle = 0, []
    for _ in range(2):
        value = shift = 0
        while True:
            byte = footer[position]
            value |= (byte & 0x7F) << shift
            position, shift = position + 1, shift + 7
            if byte < 0x80:
                break
        handle.append(value)
    size = handle[0] - 5  # one block of data lies before the second
    data = (plain(content[:size], chance) + bytes(size))[:size] + b"\0"
    return data + struct.pack("<I", masked_checksum(data)) + content[handle[0] :]


def in_png(content: bytes, chance: random.Random) -> bytes:
    """A PNG with a damaged chunk and the right checksum."""
    chunks, position = [], 8
    while position + 8 <= len(content):
        (length,) = struct.unpack_from(">I", content, position)
        chunks.append((content[position + 4 : position + 8], content[position + 8 : position + 8 + length]))
        position += 12 + length
    place = chance.randrange(len(chunks))
    kind, own = chunks[place]
    own = zlib.compress(plain(zlib.decompress(own), chance)) if kind == b"IDAT" else plain(own, chance)
    chunks[place] = (kind, own)
    made = [content[:8]]
    for kind, own in chunks:
        made += [struct.pack(">I", len(own)), kind, own, struct.pack(">I", zlib.crc32(kind + own))]
    return b"".join(made)
