"""Take over networks that were trained with other programs."""

from collections.abc import Sequence
from pathlib import Path

from cascade_bids.config import VERSION
from cascade_bids.errors import UsageError
from cascade_bids.network.cascade import NICMSLESIONS_CANDIDATES
from cascade_bids.network.keras import FILES, read_nicmslesions
from cascade_bids.network.weights import FIND_LESIONS, NORMALISATION, WEIGHTS_DIR, save_method

CONTRASTS_BY_CHANNELS = {1: ("FLAIR",), 2: ("T1w", "FLAIR")}
"""The order of channels of the baselines that came with nicMSlesions."""


def import_nicmslesions(
    model_dir: Path, name: str, out_dir: Path, *, contrasts: Sequence[str] = ()
) -> Path:
    """Turn a trained nicMSlesions model into weights and card of this program.

    Parameters
    ----------
    model_dir
        Folder with the two HDF5 files, or with a folder ``nets`` that holds them.
    name
        What the method is to be called.
    out_dir
        Where weights and card go.
    contrasts
        Channels in the order in which it was trained; those of the authors' baselines when empty.

    Returns
    -------
    Path
        The card.

    Raises
    ------
    UsageError
        When a file is missing, damaged or foreign, the two differ in channels, the contrasts don't
        fit, or a method that comes with the program has this name.
    """
    if (WEIGHTS_DIR / f"{name}.json").exists() and out_dir.resolve() == WEIGHTS_DIR.resolve():
        raise UsageError(f"there is a method {name} already; give another --name, or --out")
    folder = model_dir / "nets" if (model_dir / "nets").is_dir() else model_dir
    networks = [read_nicmslesions(folder / file) for file in FILES]
    channels = {network.channels_in for network in networks}
    if len(channels) != 1:
        raise UsageError(f"the two networks in {folder} take different numbers of contrasts")
    count = channels.pop()
    order = tuple(contrasts) or CONTRASTS_BY_CHANNELS.get(count, ())
    if len(order) != count or "FLAIR" not in order:
        raise UsageError(
            f"the networks in {folder} take {count} contrasts; name them with --contrasts in the "
            "order in which they were trained, FLAIR among them"
        )
    return save_method(
        name,
        [
            (
                network,
                {
                    "architecture": "NicmslesionsNetwork",
                    "arguments": {"channels_in": count},
                    "candidates": rule.to_entry(),
                },
            )
            for network, rule in zip(networks, NICMSLESIONS_CANDIDATES, strict=True)
        ],
        {
            "task": FIND_LESIONS,
            "source": "nicMSlesions, doi 10.1016/j.nicl.2018.101638",
            "imported_from": list(FILES),
            "contrasts": list(order),
            "normalisation": NORMALISATION,
            "combination": "last",
            "threshold": 0.5,
            "min_lesion_mm3": 10.0,
            "version": VERSION,
        },
        out_dir,
    )
