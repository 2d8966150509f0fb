"""Files of holds in a store: what each driver says that it runs. `sweeps.holds` says what they hold and mean.

Readers see a file whole; nothing is synced, since no result rests on it and no hold outlives its driver for long.
"""

from __future__ import annotations

import re

from studies.place import Place

_NAME = re.compile(r"([0-9a-f]{16})\.json")


def write(place: Place, driver: str, data: bytes) -> None:
    """Puts a driver's file in place of what it said before.

    Args:
        place: the store's.
        driver: its name, 16 hexadecimal digits.
        data: the file.
    """
    with place.replaced(f"holds/{driver}.json") as path:
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_bytes(data)
        temporary.replace(path)


def read(place: Place) -> dict[str, bytes]:
    """By driver, its file; also those of drivers that are gone."""
    drivers = [match[1] for name in place.names("holds") if (match := _NAME.fullmatch(name))]

    def content(driver: str) -> bytes | None:
        try:
            return place.read(f"holds/{driver}.json")
        except FileNotFoundError:  # released meanwhile
            return None

    contents = zip(drivers, place.map(content, drivers), strict=True)
    return {driver: data for driver, data in contents if data is not None}


def remove(place: Place, driver: str) -> None:
    """Removes a driver's file, if it is there."""
    place.remove(f"holds/{driver}.json")
