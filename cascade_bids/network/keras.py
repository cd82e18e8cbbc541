"""Read the weights of nicMSlesions, which its users keep as pairs of Keras HDF5 files."""

from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor, nn

from cascade_bids.errors import UsageError
from cascade_bids.network.architectures import ElementwisePReLU, NicmslesionsNetwork

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
    """Bring the arrays of a layer into PyTorch's names and order of axes."""
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
