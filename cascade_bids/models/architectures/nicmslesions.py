"""The network of nicMSlesions, and its weights as Keras stores them."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor, nn

from cascade_bids.config import VERSION
from cascade_bids.errors import UsageError
from cascade_bids.models.architectures.patch_classifier import PatchClassifier
from cascade_bids.models.card import FIND_LESIONS, WEIGHTS_DIR, MethodCard
from cascade_bids.models.network import CandidateRule
from cascade_bids.models.registry import register
from cascade_bids.models.weights import NORMALISATION, save_method

NICMSLESIONS_CANDIDATES = (CandidateRule(flair_above_z=0.5), CandidateRule(previous_above=0.8))
"""Candidates of both stages in use, trained here or imported."""


class ElementwisePReLU(nn.Module):
    """A rectifier with a slope of its own for every element (He et al., ICCV 2015), as in Keras.

    Parameters
    ----------
    shape
        Of one sample.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(tuple(shape)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, *shape) to the same shape."""
        return torch.where(x > 0, x, self.slope * x)


@register("NicmslesionsNetwork")
class NicmslesionsNetwork(PatchClassifier):
    """The network of nicMSlesions (Valverde et al. 2019, doi 10.1016/j.nicl.2018.101638).

    Two pairs of padded convolutions, each pair followed by pooling, and three dense layers of 256,
    128 and 64 units; every layer has its own rectifier for every element. Modules bear the names of
    the authors' Keras layers.

    Parameters
    ----------
    channels_in
        Contrasts of the input.

    Notes
    -----
    Because it pads inside the patch, a voxel's value depends on where the patch ends, and only
    patch-by-patch evaluation gives the published values.
    """

    published = True
    patch_size = 11
    dense_layers = (("d3", "prelu_d3"), ("d2", "prelu_d2"), ("d1", "prelu_d1"))

    def __init__(self, channels_in: int) -> None:
        super().__init__()
        self.channels_in = channels_in
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        side, source = self.patch_size, channels_in
        for level, width in (("1", 32), ("2", 64)):
            for part in ("1", "2"):
                layers[f"conv{level}_{part}"] = nn.Conv3d(source, width, 3, padding=1)
                layers[f"bn_{level}_{part}"] = nn.BatchNorm3d(width, eps=1e-3, momentum=0.01)
                layers[f"prelu_conv{level}_{part}"] = ElementwisePReLU((width, side, side, side))
                source = width
            layers[f"pool{level}"] = nn.MaxPool3d(2)
            side //= 2
        layers["flatten"] = nn.Flatten()
        source *= side**3
        for number, width in (("1", 256), ("2", 128), ("3", 64)):
            layers[f"dr_d{number}"] = nn.Dropout(0.5)
            layers[f"d{number}"] = nn.Linear(source, width)
            layers[f"prelu_d{number}"] = ElementwisePReLU((width,))
            source = width
        layers["out"] = nn.Linear(source, 2)
        self.layers = nn.Sequential(layers)

    @classmethod
    def describe(cls, card: MethodCard) -> str:
        """Return the noun phrase of the methods text."""
        return (
            "a cascade of two 3D convolutional neural networks with three dense layers each, on "
            "patches of 11 × 11 × 11 voxels [6]: the first proposes candidates among the voxels "
            "that are bright on FLAIR, the second decides among the candidates"
        )


FILES = ("model_1.hdf5", "model_2.hdf5")
"""What nicMSlesions calls the weights of its two stages."""


def read_nicmslesions(path: Path) -> NicmslesionsNetwork:
    """Read one network of nicMSlesions.

    Keras stores a group for each layer, named as the layer or, where a session held two networks,
    with ``_1`` behind. Kernels lie as (x, y, z, in, out), and files of the Theano backend hold
    them mirrored, since Theano convolves where others correlate.

    Parameters
    ----------
    path
        HDF5 file, of the weights alone or of a whole model.

    Returns
    -------
    NicmslesionsNetwork
        In evaluation mode.

    Raises
    ------
    UsageError
        When the file is missing, damaged, or not of this network.
    """
    if not path.is_file():
        raise UsageError(
            f"{path} cannot be read (it does not exist); give the folder that holds "
            f"{' and '.join(FILES)} of a trained nicMSlesions model"
        )
    try:
        with h5py.File(path) as file:
            root = file.get("model_weights", file)
            mirrored = _text(root.attrs.get("backend", "")) == "theano"
            first = _arrays(root, "conv1_1", path)["kernel"]
            if first.ndim != 5:
                raise UsageError(f"{path}: the first convolution is not 3D")
            network = NicmslesionsNetwork(int(first.shape[3]))
            for name, layer in network.layers.named_children():
                if list(layer.parameters()):
                    _fill(layer, _arrays(root, name, path), mirrored, f"{path}: layer {name}")
    # What h5py raises depends on which bytes are damaged.
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UsageError(
            f"{path} cannot be read as a Keras HDF5 file ({error}); give the folder that holds "
            f"{' and '.join(FILES)} of a trained nicMSlesions model"
        ) from error
    return network.eval()


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _arrays(root: h5py.Group, name: str, path: Path) -> dict[str, np.ndarray]:
    """Gather the arrays of a layer by what they are, such as kernel or bias."""
    group = root.get(name, root.get(f"{name}_1"))
    found: dict[str, np.ndarray] = {}

    def visit(full_name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            found[full_name.rsplit("/", 1)[-1].removesuffix(":0")] = np.asarray(item)

    if isinstance(group, h5py.Group):
        group.visititems(visit)
    if not found:
        has = ", ".join(sorted(root)) or "nothing"
        raise UsageError(
            f"{path} has no weights for layer {name}, so it is no nicMSlesions model; "
            f"it holds {has}"
        )
    return found


def _fill(layer: nn.Module, arrays: dict[str, np.ndarray], mirrored: bool, where: str) -> None:
    values = _converted(layer, arrays, mirrored, where)
    expected = {k: tuple(v.shape) for k, v in layer.state_dict().items() if k in values}
    for key, value in values.items():
        if tuple(value.shape) != expected[key]:
            raise UsageError(f"{where} has {tuple(value.shape)} {key}, not {expected[key]}")
        if not bool(torch.isfinite(value).all()):
            raise UsageError(f"{where} holds numbers that are not finite")
    layer.load_state_dict(values, strict=False)


def _converted(
    layer: nn.Module, arrays: dict[str, np.ndarray], mirrored: bool, where: str
) -> dict[str, Tensor]:
    """Convert the arrays of a layer to PyTorch's names and order of axes."""
    names: dict[type[nn.Module], dict[str, str]] = {
        nn.Conv3d: {"weight": "kernel", "bias": "bias"},
        nn.Linear: {"weight": "kernel", "bias": "bias"},
        nn.BatchNorm3d: {
            "weight": "gamma",
            "bias": "beta",
            "running_mean": "moving_mean",
            "running_var": "moving_variance",
        },
        ElementwisePReLU: {"slope": "alpha"},
    }
    wanted = names[type(layer)]
    missing = [source for source in wanted.values() if source not in arrays]
    if missing:
        raise UsageError(f"{where} has no {', '.join(missing)}")
    values = {target: np.asarray(arrays[source], np.float32) for target, source in wanted.items()}
    if isinstance(layer, nn.Conv3d) and values["weight"].ndim == 5:
        kernel = values["weight"][::-1, ::-1, ::-1] if mirrored else values["weight"]
        values["weight"] = kernel.transpose(4, 3, 0, 1, 2)
    elif isinstance(layer, nn.Linear):
        values["weight"] = values["weight"].T
    return {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in values.items()}


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
                    "architecture": NicmslesionsNetwork.card_name,
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
