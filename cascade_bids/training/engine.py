"""The data engine: draws scans that nobody took, made up from label maps or changed real ones."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cascade_bids.training import augment
from cascade_bids.training.augment import smooth_noise, uniform
from cascade_bids.training.contrasts import render, scan
from cascade_bids.training.heads import FAR_MM, Donor, Head
from cascade_bids.training.painting import (
    find_host,
    grow_plexus,
    place_lesions,
    place_look_alikes,
)
from cascade_bids.training.real import RealScan, change_scan
from cascade_bids.training.sample import (
    POSE,
    WINDOW,
    Kind,
    Sample,
    draw_contrasts,
    finish,
    world_points,
)
from cascade_bids.training.tissues import LEVELS

CHECKED = 5
"""Every so many-th head is kept for checking, and nothing is learned from it."""


@dataclass(frozen=True)
class Engine:
    """What samples are drawn from."""

    contrasts: tuple[str, ...]
    """Channels, FLAIR among them."""
    heads: tuple[Head, ...]
    """Anatomies to make up scans from: label maps, and healthy ones with a T1w."""
    donors: tuple[Donor, ...]
    """Whose lesions are painted."""
    real: tuple[RealScan, ...] = ()
    """Labelled scans, with all contrasts."""
    unlabelled: tuple[RealScan, ...] = ()
    """Scans whose lesions nobody outlined, which may lack contrasts."""

    def without(self, subjects: Collection[str]) -> "Engine":
        """Leave out the scans and the lesions of participants."""
        real, unlabelled = (
            tuple(one for one in scans if one.case.scan.subject not in subjects)
            for scans in (self.real, self.unlabelled)
        )
        donors = tuple(one for one in self.donors if one.subject not in subjects)
        heads = tuple(one for one in self.heads if one.owner.removeprefix("sub-") not in subjects)
        return replace(self, heads=heads, donors=donors, real=real, unlabelled=unlabelled)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What kinds of samples there are."""
        there = {
            Kind.MADE_UP: self.heads,
            Kind.LABELLED: self.real,
            Kind.UNLABELLED: self.unlabelled,
        }
        return tuple(kind for kind, sources in there.items() if sources)

    @property
    def label_maps(self) -> tuple[Head, ...]:
        """Heads without a T1w."""
        return tuple(head for head in self.heads if head.t1w is None)

    @property
    def healthy(self) -> tuple[Head, ...]:
        """Heads with a T1w."""
        return tuple(head for head in self.heads if head.t1w is not None)

    def to_learn(self) -> "Engine":
        """Leave out the heads that are kept for checking; of fewer than `CHECKED`, none is."""
        kept = {*_keep(self.label_maps), *_keep(self.healthy)}
        return replace(self, heads=tuple(head for head in self.heads if head.owner not in kept))

    def to_check(self) -> "Engine":
        """Take only the heads that are kept for checking; of fewer than `CHECKED`, all."""

        def check(heads: Sequence[Head]) -> list[Head]:
            kept = _keep(heads)
            return [head for head in heads if not kept or head.owner in kept]

        return replace(self, heads=(*check(self.label_maps), *check(self.healthy)))

    def describe(self) -> dict[str, list[str]]:
        """Say as cards do what samples are drawn from, and what heads are kept for checking."""
        learned = self.to_learn()
        names = [head.name for head in learned.heads]
        checked = [head.name for head in self.to_check().heads]
        return {
            "heads": [head.name for head in learned.label_maps],
            "healthy_scans": [head.name for head in learned.healthy],
            "heads_to_check": [name for name in checked if name not in names],
            "lesion_donors": [f"sub-{donor.subject}" for donor in self.donors],
            "unlabelled_scans": [one.case.label for one in self.unlabelled],
        }

    def draw(self, rng: torch.Generator, kind: Kind) -> Sample:
        """Draw a sample of one of its `kinds`."""
        if kind is Kind.MADE_UP:
            # Both count alike, however many there are of each.
            groups = [heads for heads in (self.label_maps, self.healthy) if heads]
            heads = groups[_draw_index(len(groups), rng)] if len(groups) > 1 else groups[0]
            head = heads[_draw_index(len(heads), rng)]
            return make_up_scan(head, self.donors, self.contrasts, rng)
        scans = self.real if kind is Kind.LABELLED else self.unlabelled
        chosen = scans[_draw_index(len(scans), rng)]
        return change_scan(chosen, self.donors, self.contrasts, rng)


def _keep(heads: Sequence[Head]) -> list[str]:
    """Say whose heads are kept for checking; all sessions of a participant go together."""
    owners = list(dict.fromkeys(head.owner for head in heads))
    return owners[::CHECKED] if len(owners) >= CHECKED else []


def _draw_index(count: int, rng: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=rng))


def make_up_scan(
    head: Head, donors: Sequence[Donor], contrasts: Sequence[str], rng: torch.Generator
) -> Sample:
    """Make up a scan from a label map, or those contrasts that a T1w of its head leaves open.

    Parameters
    ----------
    head
        The anatomy, which is moved, scaled, mirrored and deformed at random, with its T1w if it
        has one. Lesions are painted into the T1w too.
    donors
        Whose lesions it may get.
    contrasts
        Channels of the sample, FLAIR among them.
    rng
        Source of randomness.

    Returns
    -------
    Sample
        Of `WINDOW` voxels.
    """
    shape = tuple(head.tissues.shape)
    centre = (torch.tensor(shape, dtype=torch.float32) - 1) / 2
    grid = augment.random_grid(WINDOW, shape, centre, rng, **POSE)
    tissues = augment.sample(head.tissues, grid, "nearest").to(torch.uint8)
    # Beyond the head it is as far from the brain as depths go.
    depth = augment.sample(head.depth_mm.float() + FAR_MM, grid, "bilinear") - FAR_MM
    points = world_points(grid, shape, head.to_template)
    bare, tissues = tissues, grow_plexus(tissues, points, rng)
    painted = place_lesions(find_host(tissues), points, donors, rng)
    look_alikes = place_look_alikes(tissues, depth, points, rng).outside(painted.share)
    scanned = {}
    if head.t1w is not None:
        t1w = augment.sample(head.t1w.float(), grid, "bilinear")
        scanned["T1w"] = torch.where(tissues == bare, t1w, LEVELS["T1w"]["choroid plexus"])
    present = draw_contrasts(contrasts, rng)
    images = {
        contrast: scan(
            contrast,
            render(contrast, tissues, painted, look_alikes, rng, scanned=scanned.get(contrast)),
            rng,
        )
        for contrast in contrasts
        if contrast in present
    }
    brain = _strip(depth, rng) & (tissues > 0)
    return finish(images, contrasts, brain, painted.lesions, points)


def _strip(depth: Tensor, rng: torch.Generator) -> Tensor:
    """Take the brain as an imperfect extraction does: its rim is off by a few millimetres."""
    shape = tuple(depth.shape)
    error = 1.0 * smooth_noise(shape, (6, 6, 6), rng)[0] + uniform(-1.5, 2.0, rng)
    return depth + error > 0
