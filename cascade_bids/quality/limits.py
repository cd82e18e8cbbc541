"""The limits of the measures of quality; docs/quality.md tells how they were found."""

import math
from dataclasses import dataclass

from cascade_bids.quality.brain import SIDES


@dataclass(frozen=True)
class Limit:
    """What a measure may be, and what to tell if it is not."""

    measure: str
    """Its name."""
    sentence: str
    """What is told, with a place for the value."""
    above: str = ""
    """What is told instead of a value that is too high, if not the same."""
    warn_below: float = -math.inf
    """Lower values are to be looked at."""
    warn_above: float = math.inf
    """Higher values are to be looked at."""
    fail_below: float = -math.inf
    """At lower values, the numbers of the scan are not to be trusted."""
    fail_above: float = math.inf
    """At higher values, they are not either."""
    needs: str = ""
    """Another measure; if that is flagged, this one means nothing."""

    def tell(self, value: float) -> str:
        """Return the sentence on a value."""
        sentence = self.above if self.above and value > self.warn_above else self.sentence
        return sentence.format(value=value)


def _missing(measure: str, border: str) -> Limit:
    return Limit(
        measure,
        f"About {{value:.0%}} of the brain lies beyond {border} of what the FLAIR shows: lesions "
        "there are missing.",
        warn_above=0.025,
        fail_above=0.1,
    )


_MISSING = tuple(
    _missing(f"missing_{side}", f"the {side} border") for pair in SIDES for side in pair
)

_MATCHES = tuple(
    Limit(
        f"{contrast.lower()}_match",
        f"The {contrast} does not match the FLAIR (normalised mutual information {{value:.3f}}): "
        "it is of another person, or its registration failed. Compare both, or run without it.",
        fail_below=1.035,
    )
    for contrast in ("T1w", "T2w", "PDw")
)

LIMITS = (
    Limit(
        "flair_fluid",
        "The ventricles are not dark on the FLAIR (z {value:+.1f} beside white matter): it shows "
        "another contrast, or no brain.",
        fail_above=-1.2,
        needs="template_dice",
    ),
    Limit(
        "flair_cortex",
        "The cortex is darker than white matter on the FLAIR (z {value:+.1f}), as it is on a T1w: "
        "check that it is a FLAIR.",
        fail_below=-0.4,
        needs="template_dice",
    ),
    Limit(
        "t1w_fluid",
        "The ventricles are not dark on the T1w (z {value:+.1f} beside white matter): it shows "
        "another contrast.",
        fail_above=-1.2,
        needs="t1w_match",
    ),
    Limit(
        "t1w_cortex",
        "The cortex is not darker than white matter on the T1w (z {value:+.1f}): check that it is "
        "a T1w.",
        fail_above=-0.1,
        needs="t1w_match",
    ),
    Limit(
        "t2w_fluid",
        "The ventricles are not bright on the T2w (z {value:+.1f} beside white matter): it shows "
        "another contrast.",
        fail_below=1.2,
        needs="t2w_match",
    ),
    *_MATCHES,
    Limit(
        "template_dice",
        "The brain does not fit the template (Dice {value:.2f}): its mask or its alignment is "
        "wrong, or a part of the head is missing.",
        warn_below=0.85,
        fail_below=0.75,
    ),
    Limit(
        "template_rotation",
        "The head is turned by {value:.0f}° against the template, more than a head can be in a "
        "scanner: its header tells a wrong orientation, or the alignment failed.",
        warn_above=35.0,
    ),
    Limit(
        "template_stretch",
        "The alignment to the template stretches one axis {value:.2f} times as much as another: it "
        "is wrong, or a part of the head is missing.",
        warn_above=1.3,
        fail_above=1.5,
    ),
    Limit(
        "brain_ml",
        "The brain mask holds {value:.0f} ml, no usual size of a brain: check its outline.",
        warn_below=900.0,
        warn_above=1900.0,
        fail_below=600.0,
        fail_above=2200.0,
    ),
    Limit(
        "brain_asymmetry",
        "One half of the brain mask is larger than the other by {value:.0%} of the whole: a part "
        "of one side is missing, or there is something that is no brain.",
        warn_above=0.05,
        fail_above=0.2,
    ),
    *_MISSING,
    _missing("missing", "a border"),
    Limit(
        "longest_edge_mm",
        "The slices of the FLAIR lie {value:.1f} mm apart, farther than those on which the methods "
        "were tried.",
        warn_above=8.5,
    ),
    Limit(
        "snr",
        "The FLAIR is noisy: its signal in the brain is {value:.1f} times its noise.",
        above="There is hardly any noise on the FLAIR, whose signal in the brain is {value:.0f} "
        "times as large: it was smoothed or interpolated, has few grey levels, or is synthetic. "
        "Small lesions may be lost.",
        warn_below=15.0,
        warn_above=300.0,
        fail_below=5.0,
    ),
    Limit(
        "interslice_variation",
        "The slices of the FLAIR differ from their neighbours by {value:.0%} of the signal of the "
        "brain, as if every other one were darker: lesions may be missed or false.",
        warn_above=0.05,
        fail_above=0.3,
    ),
    Limit(
        "gsr",
        "There is a ghost of the head beside it on the FLAIR, of {value:.0%} of the signal of the "
        "brain: it may lie over the brain too.",
        warn_above=0.06,
        fail_above=0.25,
    ),
    Limit(
        "uncertainty",
        "The method is unsure: the volume that it expects to be wrong is {value:.1f} times the "
        "load.",
        warn_above=12.0,
    ),
)
"""In the order of the reasons."""
