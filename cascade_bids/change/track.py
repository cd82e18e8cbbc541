"""Give lesions numbers that they keep over all sessions."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cascade_bids.lesions.label import CONNECTED


@dataclass(frozen=True)
class Track:
    """The lesions of all sessions."""

    labels: np.ndarray
    """(N, X, Y, Z) int32; number of the lesion in each session, 0 outside lesions."""
    split_from: tuple[Mapping[int, int], ...]
    """Of each session: number of a part that broke off a lesion, to that of the lesion."""
    merged_into: tuple[Mapping[int, int], ...]
    """Of each session: number of a lesion that became part of another, to that of the other."""


def track_lesions(states: np.ndarray, earlier: np.ndarray | None = None) -> Track:
    """Give the lesions of all sessions numbers, the same lesion the same number in each.

    Lesions are the 26-connected components of a session. One that overlaps a lesion of the session
    before is the same lesion; else so is one that lies where a lesion was before it was gone. If
    several overlap, those that share most belong together, as long as there are pairs: of the parts
    of a lesion the others are split from it, and of lesions that became one the others are merged
    into it.

    Parameters
    ----------
    states
        (N, X, Y, Z) bool, lesion in each session, in the order of time, on one grid.
    earlier
        (N, X, Y, Z) int, numbers from a former run on the same grid, 0 outside lesions and in
        sessions that it did not have. A lesion takes the number that it had in its session, else
        the one with which it shares most, so that numbers stay when a session is added.

    Returns
    -------
    Track
        Numbers from 1; new ones by the session in which they are first seen, there by descending
        volume.
    """
    if earlier is None:
        earlier = np.zeros(states.shape, np.int32)
    labels = np.zeros(states.shape, np.int32)
    splits: list[dict[int, int]] = []
    merges: list[dict[int, int]] = []
    seen: set[int] = set()
    last, gone = np.zeros((2, *states.shape[1:]), np.int32)
    for number, state in enumerate(states):
        components, count = ndimage.label(state, structure=CONNECTED)
        names, splits_now, merges_now = _continue_lesions(last, components)
        # What overlaps no lesion of the session before may be one that comes back.
        rest = np.where(np.isin(components, [*names, *splits_now]), 0, components)
        back, splits_back, merges_back = _continue_lesions(gone, rest)
        names, splits_now, merges_now = (
            names | back,
            splits_now | splits_back,
            merges_now | merges_back,
        )
        # Of numbers of a former run, the lesion that had it in this session comes first.
        for former in (earlier[number], earlier):
            rest = np.where(np.isin(components, list(names)), 0, components)
            _assign(_find_overlaps(former, rest), names, seen | set(names.values()))
        volumes = np.bincount(components.ravel(), minlength=count + 1)
        fresh = set(range(1, count + 1)) - names.keys()
        for component in sorted(fresh, key=lambda one: (-volumes[one], one)):
            names[component] = max(int(earlier.max(initial=0)), *seen, *names.values(), 0) + 1
        splits.append({names[component]: whole for component, whole in splits_now.items()})
        merges.append({part: names[component] for part, component in merges_now.items()})
        lookup = np.zeros(count + 1, np.int32)
        lookup[list(names.keys())] = list(names.values())
        labels[number] = lookup[components]
        seen.update(names.values())
        place = np.where(last > 0, last, gone)
        gone = np.where(state | np.isin(place, list(names.values())), 0, place)
        last = labels[number]
    return Track(labels, tuple(splits), tuple(merges))


def _continue_lesions(
    before: np.ndarray, components: np.ndarray
) -> tuple[dict[int, int], dict[int, int], dict[int, int]]:
    """Match the components of a session with lesions of before.

    Returns component to lesion, component to the lesion that it is split from, and lesion to the
    component that it is merged into.
    """
    overlaps = _find_overlaps(before, components)
    names: dict[int, int] = {}
    _assign(overlaps, names, set())
    used = set(names.values())
    splits: dict[int, int] = {}
    merges: dict[int, int] = {}
    for lesion, component in overlaps:
        if component not in names:
            splits.setdefault(component, lesion)
        elif lesion not in used:
            merges.setdefault(lesion, component)
    return names, splits, merges


def _find_overlaps(lesions: np.ndarray, components: np.ndarray) -> list[list[int]]:
    """Return each lesion and component that overlap, those that share most first.

    `lesions` are of one session, (X, Y, Z), or of several, (N, X, Y, Z).
    """
    components = np.broadcast_to(components, lesions.shape)
    both = (lesions > 0) & (components > 0)
    pairs, shared = np.unique(
        np.stack([lesions[both], components[both]], axis=1), axis=0, return_counts=True
    )
    overlaps: list[list[int]] = pairs[np.lexsort((pairs[:, 1], pairs[:, 0], -shared))].tolist()
    return overlaps


def _assign(overlaps: list[list[int]], names: dict[int, int], taken: set[int]) -> None:
    """Name components by lesions that they overlap, each by one whose number is not taken."""
    for lesion, component in overlaps:
        if component not in names and lesion not in taken:
            names[component] = lesion
            taken.add(lesion)
