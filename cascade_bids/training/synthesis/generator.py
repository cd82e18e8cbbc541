"""The scan generator: draws synthetic scans from label maps, and changes real ones at random."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cascade_bids.models.cases import Case
from cascade_bids.models.training_data import ScanKind
from cascade_bids.training.data.donors import Donor
from cascade_bids.training.data.label_maps import FAR_MM, Anatomy
from cascade_bids.training.data.tissues import LEVELS
from cascade_bids.training.synthesis import augment
from cascade_bids.training.synthesis.augment import smooth_noise, uniform
from cascade_bids.training.synthesis.contrasts import render, scan
from cascade_bids.training.synthesis.painting import (
    find_host,
    grow_plexus,
    place_lesions,
    place_look_alikes,
)
from cascade_bids.training.synthesis.real_scans import RealScan, change_scan
from cascade_bids.training.synthesis.sample import (
    POSE,
    WINDOW,
    Sample,
    draw_contrasts,
    finish,
    world_points,
)

CHECKED = 5
"""Every so many-th head is kept for checking, and nothing is learned from it."""


@dataclass(frozen=True)
class ScanGenerator:
    """What samples are drawn from."""

    contrasts: tuple[str, ...]
    """Channels, FLAIR among them."""
    anatomies: tuple[Anatomy, ...]
    """What synthetic scans are made from: label maps, and healthy ones with a T1w."""
    donors: tuple[Donor, ...]
    """Whose lesions are painted."""
    real: tuple[RealScan, ...] = ()
    """Labelled scans, with all contrasts."""
    unlabelled: tuple[RealScan, ...] = ()
    """Scans whose lesions nobody outlined, which may lack contrasts."""
    painted: tuple[Case, ...] = ()
    """Scans that were drawn beforehand, see `painted_scans.paint_scans`."""

    def without(self, participants: Collection[str]) -> "ScanGenerator":
        """Return the generator without the scans and the lesions of participants.

        Of scans that belong to no labelled dataset, those of a left-out label go too: they may be
        of the same person.
        """
        labels = {name.rpartition("/")[2] for name in participants}
        real = tuple(one for one in self.real if one.case.participant not in participants)
        unlabelled = tuple(
            one for one in self.unlabelled if f"sub-{one.case.scan.subject}" not in labels
        )
        donors = tuple(one for one in self.donors if one.participant not in participants)
        anatomies = tuple(one for one in self.anatomies if one.owner not in labels)
        painted = tuple(one for one in self.painted if one.participant not in participants)
        return replace(
            self,
            anatomies=anatomies,
            donors=donors,
            real=real,
            unlabelled=unlabelled,
            painted=painted,
        )

    @property
    def kinds(self) -> tuple[ScanKind, ...]:
        """What kinds of samples there are."""
        there = {
            ScanKind.SYNTHETIC: self.anatomies,
            ScanKind.LABELLED: self.real,
            ScanKind.UNLABELLED: self.unlabelled,
        }
        return tuple(kind for kind, sources in there.items() if sources)

    @property
    def label_maps(self) -> tuple[Anatomy, ...]:
        """Heads without a T1w."""
        return tuple(anatomy for anatomy in self.anatomies if anatomy.t1w is None)

    @property
    def healthy(self) -> tuple[Anatomy, ...]:
        """Heads with a T1w."""
        return tuple(anatomy for anatomy in self.anatomies if anatomy.t1w is not None)

    def to_learn(self) -> "ScanGenerator":
        """Return it without the anatomies kept for checking; of fewer than `CHECKED`, none is."""
        kept = {*_keep(self.label_maps), *_keep(self.healthy)}
        return replace(
            self,
            anatomies=tuple(anatomy for anatomy in self.anatomies if anatomy.owner not in kept),
        )

    def to_check(self) -> "ScanGenerator":
        """Return it with those kept for checking alone; of fewer than `CHECKED`, all."""

        def check(anatomies: Sequence[Anatomy]) -> list[Anatomy]:
            kept = _keep(anatomies)
            return [anatomy for anatomy in anatomies if not kept or anatomy.owner in kept]

        return replace(self, anatomies=(*check(self.label_maps), *check(self.healthy)))

    def describe(self) -> dict[str, list[str]]:
        """Return what scans are drawn from, and the anatomies kept for checking, as in cards."""
        learned = self.to_learn()
        names = [anatomy.name for anatomy in learned.anatomies]
        checked = [anatomy.name for anatomy in self.to_check().anatomies]
        return {
            "heads": [anatomy.name for anatomy in learned.label_maps],
            "healthy_scans": [anatomy.name for anatomy in learned.healthy],
            "heads_to_check": [name for name in checked if name not in names],
            "lesion_donors": [donor.participant for donor in self.donors],
            "unlabelled_scans": [one.case.label for one in self.unlabelled],
        }

    def draw(self, rng: torch.Generator, kind: ScanKind) -> Sample:
        """Draw a sample of one of its `kinds`."""
        if kind is ScanKind.SYNTHETIC:
            # Both count alike, however many there are of each.
            groups = [anatomies for anatomies in (self.label_maps, self.healthy) if anatomies]
            anatomies = groups[_draw_index(len(groups), rng)] if len(groups) > 1 else groups[0]
            anatomy = anatomies[_draw_index(len(anatomies), rng)]
            return make_synthetic_scan(anatomy, self.donors, self.contrasts, rng)
        scans = self.real if kind is ScanKind.LABELLED else self.unlabelled
        chosen = scans[_draw_index(len(scans), rng)]
        return change_scan(chosen, self.donors, self.contrasts, rng)


def _keep(anatomies: Sequence[Anatomy]) -> list[str]:
    """Return whose anatomies are kept for checking; all sessions of a participant go together."""
    owners = list(dict.fromkeys(anatomy.owner for anatomy in anatomies))
    return owners[::CHECKED] if len(owners) >= CHECKED else []


def _draw_index(count: int, rng: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=rng))


def make_synthetic_scan(
    anatomy: Anatomy,
    donors: Sequence[Donor],
    contrasts: Sequence[str],
    rng: torch.Generator,
    *,
    whole: bool = False,
) -> Sample:
    """Make a synthetic scan from a label map, or those contrasts that a healthy T1w lacks.

    Parameters
    ----------
    anatomy
        The head, which is moved, scaled, mirrored and deformed at random, with its T1w if it
        has one. Lesions are painted into the T1w too.
    donors
        Whose lesions it may get.
    contrasts
        Channels of the sample, FLAIR among them.
    rng
        Source of randomness.
    whole
        Whether no contrast is left out.

    Returns
    -------
    Sample
        Of `WINDOW` voxels.
    """
    shape = tuple(anatomy.tissues.shape)
    centre = (torch.tensor(shape, dtype=torch.float32) - 1) / 2
    grid = augment.random_grid(WINDOW, shape, centre, rng, **POSE)
    tissues = augment.sample(anatomy.tissues, grid, "nearest").to(torch.uint8)
    # Beyond the head it is as far from the brain as depths go.
    depth = augment.sample(anatomy.depth_mm.float() + FAR_MM, grid, "bilinear") - FAR_MM
    points = world_points(grid, shape, anatomy.to_template)
    bare, tissues = tissues, grow_plexus(tissues, points, rng)
    painted = place_lesions(find_host(tissues), points, donors, rng)
    look_alikes = place_look_alikes(tissues, depth, points, rng).outside(painted.share)
    scanned = {}
    if anatomy.t1w is not None:
        t1w = augment.sample(anatomy.t1w.float(), grid, "bilinear")
        scanned["T1w"] = torch.where(tissues == bare, t1w, LEVELS["T1w"]["choroid plexus"])
    present = set(contrasts) if whole else draw_contrasts(contrasts, rng)
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
    """Extract the brain as an imperfect extraction does: its rim is off by a few millimetres."""
    shape = tuple(depth.shape)
    error = 1.0 * smooth_noise(shape, (6, 6, 6), rng)[0] + uniform(-1.5, 2.0, rng)
    return depth + error > 0
