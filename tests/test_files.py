"""A file appears whole, or stays as it was."""

from pathlib import Path

import pytest

from cascade_bids.errors import CascadeBidsError
from cascade_bids.files import alone, appearing


def test_the_file_is_replaced_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "new" / "x.nii.gz"
    for content in ("first", "second"):
        with appearing(target) as part:
            assert part.name.endswith(".nii.gz")
            part.write_text(content)
            assert not target.exists() or target.read_text() == "first"
        assert target.read_text() == content
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(
    ("error", "raised"), [(OSError("disk full"), CascadeBidsError), (ValueError("x"), ValueError)]
)
def test_a_failure_leaves_the_earlier_file(
    tmp_path: Path, error: Exception, raised: type[Exception]
) -> None:
    target = tmp_path / "x.json"
    target.write_text("first")
    with pytest.raises(raised) as caught, appearing(target) as part:
        part.write_text("sec")
        raise error
    assert str(error) in str(caught.value)
    assert (str(target) in str(caught.value)) == isinstance(error, OSError)
    assert target.read_text() == "first"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with (
        pytest.raises(CascadeBidsError, match=r"out/sub-1/x\.json can't be written"),
        appearing(tmp_path / "out" / "sub-1" / "x.json"),
    ):
        raise AssertionError("never reached")


def test_two_writers_do_not_share_a_path(tmp_path: Path) -> None:
    target = tmp_path / "x"
    with appearing(target) as one, appearing(target) as other:
        one.write_text("one")
        other.write_text("other")
    assert target.read_text() == "one"


def test_one_process_at_a_time(tmp_path):
    lock = tmp_path / "new" / "training.lock"
    with alone(lock) as own, alone(lock, wait=False) as other:
        assert own
        assert not other
    with alone(lock, wait=False) as own:
        assert own
