"""Models of nicMSlesions, as Keras writes them, become methods that give the same probabilities."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from scipy import ndimage

from cascade_bids.errors import UsageError
from cascade_bids.models.architectures.nicmslesions import (
    FILES,
    NicmslesionsNetwork,
    import_nicmslesions,
    read_nicmslesions,
)
from cascade_bids.models.card import WEIGHTS_DIR, load_card
from cascade_bids.models.predict import load_stages

WIDTHS = {"conv1_1": 32, "conv1_2": 32, "conv2_1": 64, "conv2_2": 64}
DENSE = {"d1": (512, 256), "d2": (256, 128), "d3": (128, 64), "out": (64, 2)}
SIDES = {"conv1": 11, "conv2": 5}


def make_arrays(channels: int, seed: int) -> dict[str, dict[str, np.ndarray]]:
    """Draw all weights of the network, in the shapes that Keras gives them."""
    rng = np.random.default_rng(seed)

    def normal(*shape, scale):
        return rng.normal(0, scale, shape).astype(np.float32)

    layers, source = {}, channels
    for name, width in WIDTHS.items():
        layers[name] = {
            "kernel": normal(3, 3, 3, source, width, scale=1.3 * (27 * source) ** -0.5),
            "bias": normal(width, scale=0.1),
        }
        layers[f"bn_{name[4:]}"] = {
            "gamma": 1 + normal(width, scale=0.1),
            "beta": normal(width, scale=0.1),
            "moving_mean": normal(width, scale=0.1),
            "moving_variance": 1 + rng.random(width).astype(np.float32),
        }
        side = SIDES[name[:5]]
        layers[f"prelu_{name}"] = {"alpha": normal(width, side, side, side, scale=0.2)}
        source = width
    for name, (before, after) in DENSE.items():
        layers[name] = {
            "kernel": normal(before, after, scale=1.3 * before**-0.5),
            "bias": normal(after, scale=0.1),
        }
        if name != "out":
            layers[f"prelu_{name}"] = {"alpha": normal(after, scale=0.2)}
    return layers


def write_keras(path: Path, layers, *, suffix="", backend="tensorflow", inside=None) -> None:
    """Write HDF5 as Keras does: a group a layer, and in it a group of the scope's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        root = file.create_group(inside) if inside else file
        root.attrs["backend"] = np.bytes_(backend)
        root.attrs["layer_names"] = [np.bytes_(name + suffix) for name in layers]
        for empty in ("in1", "dr_d1", "max_pooling3d_1"):
            root.create_group(empty)
        for name, arrays in layers.items():
            group = root.create_group(name + suffix).create_group(name + suffix)
            for kind, values in arrays.items():
                group[f"{kind}:0"] = values


def compute(layers, patch: np.ndarray) -> np.ndarray:
    """Evaluate the network on one patch (C, 11, 11, 11) with scipy and numpy alone."""
    x = patch.astype(np.float64)
    for name in WIDTHS:
        kernel, bias = layers[name]["kernel"].astype(np.float64), layers[name]["bias"]
        x = np.stack(
            [
                sum(
                    ndimage.correlate(x[c], kernel[..., c, out], mode="constant")
                    for c in range(len(x))
                )
                + bias[out]
                for out in range(kernel.shape[-1])
            ]
        )
        norm = layers[f"bn_{name[4:]}"]
        scale = norm["gamma"] / np.sqrt(norm["moving_variance"].astype(np.float64) + 1e-3)
        shift = norm["beta"] - norm["moving_mean"] * scale
        x = x * scale[:, None, None, None] + shift[:, None, None, None]
        x = np.where(x > 0, x, layers[f"prelu_{name}"]["alpha"] * x)
        if name.endswith("_2"):
            half = x.shape[1] // 2
            cut = x[:, : 2 * half, : 2 * half, : 2 * half]
            x = cut.reshape(len(x), half, 2, half, 2, half, 2).max(axis=(2, 4, 6))
    x = x.ravel()
    for name in DENSE:
        x = x @ layers[name]["kernel"] + layers[name]["bias"]
        if name != "out":
            x = np.where(x > 0, x, layers[f"prelu_{name}"]["alpha"] * x)
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("suffix", ["", "_1"], ids=["first of a session", "second of a session"])
def test_imported_weights_compute_what_keras_would(tmp_path, channels, suffix):
    layers = make_arrays(channels, seed=channels)
    write_keras(tmp_path / "m.hdf5", layers, suffix=suffix)
    network = read_nicmslesions(tmp_path / "m.hdf5")
    patches = np.random.default_rng(5).normal(size=(3, channels, 11, 11, 11)).astype(np.float32)
    with torch.inference_mode():
        found = torch.softmax(network(torch.from_numpy(patches)), dim=1).numpy()
    expected = np.stack([compute(layers, patch) for patch in patches])
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.ptp(expected[:, 1]) > 0.005


def test_kernels_of_theano_are_mirrored(tmp_path):
    layers = make_arrays(2, seed=3)
    mirrored = {
        name: {
            kind: values[::-1, ::-1, ::-1] if values.ndim == 5 else values
            for kind, values in arrays.items()
        }
        for name, arrays in layers.items()
    }
    write_keras(tmp_path / "tf.hdf5", layers)
    write_keras(tmp_path / "th.hdf5", mirrored, backend="theano")
    one, other = (read_nicmslesions(tmp_path / f"{b}.hdf5").state_dict() for b in ("tf", "th"))
    for name, values in one.items():
        assert torch.equal(values, other[name]), name


def test_a_whole_saved_model_is_read_too(tmp_path):
    layers = make_arrays(2, seed=3)
    write_keras(tmp_path / "m.hdf5", layers, inside="model_weights")
    read_nicmslesions(tmp_path / "m.hdf5")


def write_pair(folder, channels=(2, 2)):
    for number, (file, count) in enumerate(zip(FILES, channels, strict=True)):
        write_keras(folder / file, make_arrays(count, seed=number))
    return folder


@pytest.mark.parametrize("where", [".", "nets"])
def test_a_pair_becomes_a_method(tmp_path, where):
    write_pair(tmp_path / "model" / where)
    path = import_nicmslesions(tmp_path / "model", "ours", tmp_path / "out")
    card = load_card(str(path))
    assert (card.name, card.contrasts) == ("ours", ("T1w", "FLAIR"))
    assert card.networks == (NicmslesionsNetwork, NicmslesionsNetwork)
    stages = load_stages(card, device=torch.device("cpu"))
    assert [stage.candidates.flair_above_z for stage in stages] == [0.5, None]
    assert [stage.candidates.previous_above for stage in stages] == [None, 0.8]
    written = read_nicmslesions(tmp_path / "model" / where / FILES[1]).state_dict()
    for name, values in stages[1].network.state_dict().items():
        assert torch.equal(values, written[name])


def test_broken_and_foreign_files_are_named(tmp_path):
    layers = make_arrays(2, seed=0)
    path = tmp_path / "m.hdf5"
    with pytest.raises(UsageError, match=r"m\.hdf5 cannot be read .*give the folder"):
        read_nicmslesions(path)
    path.write_bytes(b"\x89HDF nothing more")
    with pytest.raises(UsageError, match=r"m\.hdf5 cannot be read"):
        read_nicmslesions(path)
    write_keras(path, {"dense_1": layers["d1"]})
    with pytest.raises(UsageError, match=r"no weights for layer conv1_1.*holds dense_1"):
        read_nicmslesions(path)
    write_keras(
        path, {**layers, "d2": {"kernel": layers["d1"]["kernel"], "bias": layers["d2"]["bias"]}}
    )
    with pytest.raises(UsageError, match=r"layer d2 has \(256, 512\) weight, not \(128, 256\)"):
        read_nicmslesions(path)
    write_keras(path, {**layers, "bn_2_1": {"gamma": np.ones(64)}})
    with pytest.raises(UsageError, match=r"layer bn_2_1 has no beta, moving_mean"):
        read_nicmslesions(path)
    spoilt = {**layers, "out": {"kernel": np.full((64, 2), np.nan), "bias": np.zeros(2)}}
    write_keras(path, spoilt)
    with pytest.raises(UsageError, match="layer out holds numbers that are not finite"):
        read_nicmslesions(path)


def test_networks_and_contrasts_must_fit(tmp_path):
    with pytest.raises(UsageError, match="different numbers of contrasts"):
        import_nicmslesions(write_pair(tmp_path / "a", (1, 2)), "x", tmp_path)
    three = write_pair(tmp_path / "b", (3, 3))
    with pytest.raises(UsageError, match="take 3 contrasts; name them"):
        import_nicmslesions(three, "x", tmp_path)
    card = import_nicmslesions(three, "x", tmp_path / "o", contrasts=("T1w", "FLAIR", "T2w"))
    assert json.loads(card.read_text())["contrasts"] == ["T1w", "FLAIR", "T2w"]
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.parametrize("seed", range(12))
def test_damaged_bytes_are_named_or_do_no_harm(tmp_path, seed):
    path = tmp_path / "model.hdf5"
    write_keras(path, make_arrays(1, 0))
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    # Among the first bytes is what tells where everything lies.
    for position in rng.integers(0, 4096, 30):
        content[position] = rng.integers(256)
    path.write_bytes(content)
    try:
        network = read_nicmslesions(path)
    except UsageError as error:
        assert str(path) in str(error)
    else:
        assert all(torch.isfinite(p).all() for p in network.parameters())


def test_an_imported_model_replaces_none_of_the_program(tmp_path):
    write_pair(tmp_path, (1, 1))
    with pytest.raises(UsageError, match="there is a method brain already"):
        import_nicmslesions(tmp_path, "brain", WEIGHTS_DIR)
