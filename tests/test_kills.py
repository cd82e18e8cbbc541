"""Runs that are killed at any moment, and many runs at once, in processes as a user starts them."""

from pathlib import Path

import pytest

from benchmarks import kills

from .models.toy_method import save_toy
from .tiny_heads import make_dataset


@pytest.mark.slow
def test_a_run_that_is_killed_ends_as_if_nothing_had_happened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bids = make_dataset(tmp_path / "bids", "sub-01")
    options = "--method", str(save_toy(tmp_path / "toy")), "--nprocs", "2", "--skull-strip", "skip"
    code = kills.main([str(bids), str(tmp_path / "kills"), "--kills", "2", *options])
    told = capsys.readouterr().out
    assert code == 0, told
    assert told.endswith("kills survived: 2 of 2\n")


def test_what_a_kill_did_to_a_result_is_found(tmp_path: Path) -> None:
    stats, mask = "sub-01/anat/sub-01_desc-lesions_stats.json", "sub-01/anat/sub-01_mask.nii.gz"
    one = {stats: b'{"random_seed": 0}', mask: b"0"}
    other = {stats: b'{"random_seed": 1}', mask: b"1"}
    for name, content in {**one, mask: b"1"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert kills.find_mixture(tmp_path, [one, other]) == [mask]
    (tmp_path / mask).write_bytes(b"0")
    assert kills.find_mixture(tmp_path, [one, other]) == []
