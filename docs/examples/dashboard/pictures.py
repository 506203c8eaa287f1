"""Pictures of the Mandelbrot set as PNG files, with nothing but the standard library."""

import cmath
import math
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias

Place: TypeAlias = Literal["seahorse valley", "spirals", "antennas"]

PLACES: dict[Place, complex] = {
    "seahorse valley": -0.743643887 + 0.131825904j,
    "spirals": -0.761574 - 0.0847596j,
    "antennas": 0.281717921 + 0.577105900j,
}
ITERATIONS = 120


def draw(file: Path, place: Place, zoom: int, width: int) -> int:
    """Write the picture; answers its bytes. Drawn again it is the same file: the step may be executed twice."""
    file.parent.mkdir(parents=True, exist_ok=True)
    picture = png(width, list(rows(PLACES[place], 3.2 / 2**zoom, width)))
    # Whoever looks into the folder meanwhile sees the whole picture or none.
    unfinished = file.with_suffix(f".{os.getpid()}")
    unfinished.write_bytes(picture)
    unfinished.replace(file)
    return len(picture)


def rows(centre: complex, across: float, width: int) -> Iterator[bytes]:
    """The picture from top to bottom, in the format 5:3; three bytes for each point."""
    height = width * 3 // 5
    for y in range(height):
        row = bytearray()
        for x in range(width):
            row.extend(colour(centre + across * complex(x / width - 0.5, (0.5 - y / height) * 0.6)))
        yield bytes(row)


def colour(c: complex) -> tuple[int, int, int]:
    """How soon the point escapes, as a colour; those that never do are black."""
    if abs(1 - cmath.sqrt(1 - 4 * c)) <= 1 or abs(c + 1) <= 0.25:
        return 0, 0, 0  # in the heart, or in the circle left of it: no need to try
    z = 0j
    for count in range(ITERATIONS):
        z = z * z + c
        if z.real * z.real + z.imag * z.imag > 64:
            smooth = count - math.log2(math.log2(abs(z)))
            hue = 0.32 * math.sqrt(max(smooth, 0))
            return shade(hue), shade(hue + 0.1), shade(hue + 0.22)
    return 0, 0, 0


def shade(hue: float) -> int:
    """A wave between dark and bright."""
    return round(127.5 - 127.5 * math.cos(math.tau * hue))


def png(width: int, rows: list[bytes]) -> bytes:
    """The smallest PNG there is: a header, the rows, an end."""
    header = struct.pack(">IIBBBBB", width, len(rows), 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows), 6)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    """A part of the file, with its length and its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
