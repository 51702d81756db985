"""Shares things among requests that may hold so many each, and of each key one."""

from collections.abc import Hashable, Sequence


def split_by_key(keys: Sequence[Hashable], most: int) -> list[list[int]]:
    """Return the indices of `keys` in groups.

    Every index once; at most `most` in a group; equal keys in different groups, in their order; within
    a group in order. The groups are filled from the first.
    """
    groups: list[list[int]] = []
    last_group: dict[Hashable, int] = {}
    first_with_room = 0
    for index, key in enumerate(keys):
        while first_with_room < len(groups) and len(groups[first_with_room]) >= most:
            first_with_room += 1
        number = max(first_with_room, last_group.get(key, -1) + 1)
        while number < len(groups) and len(groups[number]) >= most:
            number += 1
        if number == len(groups):
            groups.append([])
        groups[number].append(index)
        last_group[key] = number
    return groups
