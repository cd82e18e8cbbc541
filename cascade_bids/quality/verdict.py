"""The verdict on a scan: whether its measures lie within the limits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cascade_bids.quality.limits import LIMITS, Limit

PASS, WARN, FAIL = "pass", "warn", "fail"
VERDICTS = (PASS, WARN, FAIL)
"""From best to worst."""


@dataclass(frozen=True)
class Verdict:
    """What is to be thought of a scan, and why."""

    verdict: str
    """One of `VERDICTS`."""
    reasons: tuple[str, ...]
    """Sentences, the worst first; none of a scan that passes."""

    def to_entry(self, measures: Mapping[str, float | None]) -> dict[str, Any]:
        """Return the entry ``quality`` of the stats file."""
        return {
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "measures": {
                name: None if value is None else round(value, 4) for name, value in measures.items()
            },
        }


def judge(measures: Mapping[str, float | None]) -> Verdict:
    """Judge a scan by its measures.

    Parameters
    ----------
    measures
        From `cascade_bids.quality.measures.measure_quality`.

    Returns
    -------
    Verdict
        The worst that any of `LIMITS` gives; what was not measured is not judged.

    Examples
    --------
    >>> judge({"template_rotation": 12.0, "snr": None}).verdict
    'pass'
    >>> judge({"template_rotation": 90.0}).verdict
    'warn'
    """
    known = [(one, value) for one in LIMITS if (value := measures.get(one.measure)) is not None]
    verdicts = {limit.measure: _judge_one(limit, value) for limit, value in known}
    flagged = [
        (VERDICTS.index(verdicts[limit.measure]), limit.tell(value))
        for limit, value in known
        if verdicts[limit.measure] != PASS and verdicts.get(limit.needs, PASS) == PASS
    ]
    flagged.sort(key=lambda one: -one[0])
    worst = VERDICTS[flagged[0][0]] if flagged else PASS
    return Verdict(worst, tuple(sentence for _, sentence in flagged))


def _judge_one(limit: Limit, value: float) -> str:
    if not limit.fail_below <= value <= limit.fail_above:
        return FAIL
    if not limit.warn_below <= value <= limit.warn_above:
        return WARN
    return PASS
