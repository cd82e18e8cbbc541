"""The participant's page: what it shows of success, failure and damage."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from cascade_bids.models.card import WEIGHTS_DIR, load_card
from cascade_bids.report.subject import ScanReport, render_boilerplate, write_subject_report
from cascade_bids.training.recipes import RECIPES

STATS = {
    "load_ml": 12.345,
    "count": 14,
    "by_location": {
        "periventricular": {"load_ml": 8.1, "count": 5},
        "deep_white_matter": {"load_ml": 4.245, "count": 9},
    },
    "icv_ml": 1450.1,
    "load_percent_icv": 0.8513,
    "method": "valverde2017",
    "version": "0.1.0",
    "weights_sha256": "3fa9" * 16,
    "threshold": 0.5,
    "min_lesion_mm3": 10.0,
    "random_seed": 0,
    "images": {"FLAIR": "bids:raw:sub-01/anat/sub-01_FLAIR.nii.gz"},
    "choices": ["FLAIR: run 2 was taken."],
    "warnings": ["Slices are 5 mm thick."],
}
TABLE = (
    "index\tname\tvolume_mm3\tlocation\tcentroid_x_mm\tmax_probability\n"
    "1\tlesion-1\t20.04\tperiventricular\t1.0\t0.9\n"
    "2\tlesion-2\t310.0\tdeep_white_matter\tn/a\t0.875\n"
)


class _Page(HTMLParser):
    """Collects the words, the links and the resources of a page."""

    def __init__(self, text):
        super().__init__()
        self.words, self.ids, self.links, self.resources, self.tags = [], [], [], [], []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.ids.append(attrs.get("id"))
        if tag == "a":
            self.links.append(attrs["href"])
        else:
            self.resources += [attrs[key] for key in ("src", "href") if key in attrs]

    def handle_data(self, data):
        self.words.append(data)


def _report(**changes):
    parts = {
        "label": "sub-01",
        "stats": STATS,
        "figures": {},
        "lesions": None,
        "problem": None,
        "failed_step": None,
    }
    return ScanReport(**{**parts, **changes})


def _page(folder, *scans, boilerplate="# Methods\n\nText."):
    path = write_subject_report(folder, "sub-01", scans, version="0.1.0", boilerplate=boilerplate)
    assert path == folder / "sub-01.html"
    return _Page(path.read_text(encoding="utf-8"))


def test_without_locations_there_is_no_table_of_them(tmp_path):
    assert "By location" in _page(tmp_path, _report()).text
    page = _page(tmp_path, _report(stats={**STATS, "by_location": None}))
    assert "By location" not in page.text
    assert "12.35" in page.text


def test_numbers_choices_and_warnings_are_told(tmp_path):
    page = _page(tmp_path, _report())
    for words in (
        "lesion load 12.35 ml",
        "lesions 14",
        "0.851 %",
        "1450 ml",
        "periventricular 8.10 5",
        "deep white matter 4.25 9",
        "valverde2017, cascade_bids 0.1.0",
        "10.0 mm³",
        "bids:raw:sub-01/anat/sub-01_FLAIR.nii.gz",
        "FLAIR: run 2 was taken.",
        "Slices are 5 mm thick.",
        "For research use only",
    ):
        assert words in page.text
    assert "failed" not in page.text


def test_lesions_are_listed_largest_first(tmp_path):
    table = tmp_path / "dseg.tsv"
    table.write_text(TABLE)
    text = _page(tmp_path, _report(lesions=table)).text
    assert "2 lesion-2 310.0 deep white matter n/a 0.88 1 lesion-1 20.0" in text


def test_table_without_lesions_says_so(tmp_path):
    table = tmp_path / "dseg.tsv"
    table.write_text(TABLE.splitlines()[0] + "\n")
    assert "No lesion was found." in _page(tmp_path, _report(lesions=table)).text


@pytest.mark.parametrize("content", [None, b"", b"index\tname\n1\tlesion-1\n", b"\xff\xfe\x00"])
def test_damaged_table_is_named_and_the_page_written(tmp_path, content):
    table = tmp_path / "dseg.tsv"
    if content is not None:
        table.write_bytes(content)
    text = _page(tmp_path, _report(lesions=table)).text
    assert "dseg.tsv, can't be read" in text
    assert "12.35 ml" in text


def test_figures_are_found_from_the_page_and_nothing_is_outside(tmp_path):
    figure = tmp_path / "sub-01" / "figures" / "sub-01_a b#.svg"
    figure.parent.mkdir(parents=True)
    figure.write_text("<svg/>")
    page = _page(
        tmp_path, _report(figures={"Lesions": figure, "Brain": figure.with_name("no.svg")})
    )
    sources = [source for source in page.resources if not source.startswith("data:")]
    assert [tmp_path / unquote(source) for source in sources] == [figure]
    assert "Brain: not made." in page.text


def test_failure_is_told_with_its_step_and_cause(tmp_path):
    failed = _report(
        label="sub-01_ses-2", stats=None, problem="T1w.nii.gz is cut off.", failed_step="n4"
    )
    page = _page(tmp_path, _report(label="sub-01_ses-1"), failed)
    assert "sub-01_ses-1 complete 12.35 14 0.851" in page.text
    assert "sub-01_ses-2 failed n/a n/a n/a" in page.text
    assert "This scan failed at the step “n4” T1w.nii.gz is cut off." in page.text
    assert "run the same command again" in page.text
    anchors = [link[1:] for link in page.links if link.startswith("#")]
    assert anchors == ["sub-01_ses-1", "sub-01_ses-2"]
    assert set(anchors) <= set(page.ids)


def test_choices_of_a_failed_scan_are_told(tmp_path):
    failed = _report(stats=None, problem="cut off", choices=("FLAIR: run 1 was taken.",))
    assert "Choices FLAIR: run 1 was taken." in _page(tmp_path, failed).text


def test_missing_numbers_read_na(tmp_path):
    text = _page(tmp_path, _report(stats={"load_ml": None, "icv_ml": float("nan")})).text
    assert "lesion load n/a ml" in text
    assert "n/a ml" in text.split("intracranial volume (ICV)")[1][:10]


def test_everything_is_escaped(tmp_path):
    evil = "<script>alert('x')</script>"
    stats = {**STATS, "warnings": [evil], "choices": [evil], "method": evil, "images": {evil: evil}}
    table = tmp_path / "dseg.tsv"
    table.write_text(TABLE.replace("periventricular", evil))
    scan = _report(
        stats=stats,
        problem=evil,
        failed_step=evil,
        lesions=table,
        figures={evil: tmp_path / "x.svg"},
    )
    page = _page(tmp_path, scan, boilerplate=f"# {evil}\n\n{evil}\n\n- {evil}")
    assert page.tags.count("script") == 1  # the page's own
    assert page.text.count(evil) == 12


def test_same_input_gives_the_same_bytes_and_nothing_else_is_left(tmp_path):
    _page(tmp_path, _report())
    first = (tmp_path / "sub-01.html").read_bytes()
    _page(tmp_path, _report())
    assert (tmp_path / "sub-01.html").read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["sub-01.html"]


def stage(architecture):
    """Return the entry of a stage in a card."""
    unused = {"arguments": {}, "candidates": {}, "file": "mine.safetensors", "sha256": "3fa9" * 16}
    return {"architecture": architecture, **unused}


@pytest.fixture
def boilerplate(tmp_path):
    """Return a function that renders the methods text of networks of one architecture."""

    def render(architecture, networks=2, *, shipped=True, card=None, **settings):
        entries = {
            "name": "mine",
            "task": "lesion segmentation",
            "source": "Valverde et al., NeuroImage 2017, doi 10.1016/j.neuroimage.2017.04.034",
            "contrasts": ["FLAIR", "T1w", "T2w"],
            "combination": "last",
            "threshold": 0.5,
            "min_lesion_mm3": 10.0,
            "stages": [stage(architecture)] * networks,
        }
        path = tmp_path / "mine.json"
        stated = {name: v for name, v in (entries | (card or {})).items() if v is not None}
        path.write_text(json.dumps(stated))
        method = load_card(str(path))
        if shipped:
            method = replace(method, path=WEIGHTS_DIR / path.name)
        return render_boilerplate(method, **{"version": "9.8", "skull_strip": "auto"} | settings)

    return render


def test_boilerplate_names_what_was_used(boilerplate):
    text = boilerplate("PatchNetwork")
    for words in (
        "cascade_bids 9.8",
        "the FLAIR, T1w and T2w images",
        "the method mine",
        "11 × 11 × 11",
        "the brain was extracted",
        "those that come with cascade_bids",
        "10.1016/j.neuroimage.2017.04.034",
        "10.1109/TMI.2010.2046908",
        "10.1016/j.neuroimage.2010.09.025",
        "10.3389/fninf.2011.00013",
        "10.21105/joss.01294",
        "10.1016/j.neuroimage.2010.07.033",
    ):
        assert words in text
    assert "\n\n\n" not in text


@pytest.mark.parametrize("source", ["Zhang et al., doi 10.1016/j.nicl.2021.102854", "Others"])
def test_boilerplate_states_that_lesions_were_separated(boilerplate, source):
    whole, split = (
        boilerplate("LesionUNet", card={"source": source}, separate_lesions=separate)
        for separate in (False, True)
    )
    assert "watershed" in split
    assert "watershed" not in whole
    assert split.count("10.1016/j.nicl.2021.102854") == 1
    number = 6 if "Zhang" in source else 7
    assert f"sphere map [{number}]" in split
    assert f"- [{number}] Zhang" in split
    assert "\n\n\n" not in split


def test_boilerplate_of_perceptrons_states_what_they_learned_from(boilerplate):
    real, synthetic = {"training_scans": ["sub-1"]}, {"heads": ["head01"]}
    both = boilerplate("JetNetwork", card=real | synthetic)
    learned = "randomly changed labelled scans and on synthetic scans made from label maps"
    assert f"trained on {learned}, classify" in both
    assert "Saerens" in both
    assert "The weights are those that come with" in both
    assert "and on synthetic scans" not in boilerplate("JetNetwork", card=real)
    assert "trained on synthetic scans made" in boilerplate("JetNetwork", card=synthetic)
    unlabelled = boilerplate("JetNetwork", card=synthetic | {"unlabelled_scans": ["sub-2"]})
    painted = "unlabelled scans with lesions painted into them"
    assert f"trained on {painted} and on synthetic scans made" in unlabelled
    assert "U-Net" not in both
    stages = [stage(name) for name in ("JetNetwork", "JetNetwork", "ContextNetwork")]
    assert "a 3D U-Net that learned" in boilerplate("JetNetwork", card=real | {"stages": stages})


def test_boilerplate_describes_every_member(boilerplate):
    def members(*names):
        """Return the entries of a method joined of cascades of two such networks each."""
        each = [{"name": name, "stages": 2, "combination": "last", "weight": 1} for name in names]
        stages = [stage(name) for name in names for _ in range(2)]
        return {"members": each, "stages": stages, "combination": None}

    patches = "a cascade of two seven-layer 3D convolutional neural networks"
    text = boilerplate("", card=members("CascadeUNet", "PatchNetwork"))
    assert "which takes the mean of the probabilities of 2 methods. One is a cascade of 2 " in text
    assert f"decides among them. One is {patches}" in text
    text = boilerplate("", card=members("CascadeUNet", "PatchNetwork", "PatchNetwork"))
    assert "of 3 methods. One is a cascade of 2 residual 3D U-Nets [6]" in text
    assert f"2 of them are each {patches}" in text
    text = boilerplate("", card=members("PatchNetwork", "PatchNetwork"))
    assert f"of 2 methods. Each is {patches}" in text


def test_boilerplate_of_all_net_and_of_extracted_brains(boilerplate):
    changes = {"card": {"contrasts": ["FLAIR"], "anatomy": True}, "skull_strip": "skip"}
    text = boilerplate("LesionUNet", 5, shipped=False, **changes)
    assert "5 3D U-Nets, of whose probabilities the median was taken [6]." in text
    assert "Atropos" in text
    assert "not those of its authors" in text
    assert "the FLAIR image." in text
    assert "11 × 11" not in text
    assert "no brain extraction" in text
    assert "Atropos" not in boilerplate("LesionUNet")


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_boilerplate_describes_every_published_method(boilerplate, tmp_path, recipe):
    name = recipe.architecture.card_name
    text = boilerplate(name, len(recipe.stages), card={"source": recipe.source})
    assert recipe.architecture.describe(load_card(str(tmp_path / "mine.json"))) in text
    assert "[6]" in text.split("# References")[0]
    assert "networks after" not in text
    assert recipe.source in text


@pytest.mark.parametrize(
    ("learned_from", "stated"),
    [
        ({"training_scans": ["sub-1"]}, "randomly changed labelled scans,"),
        (
            {"healthy_scans": ["sub-9"]},
            "healthy T1w images with lesions painted into them and synthetic other contrasts,",
        ),
        ({"heads": ["head01"]}, "synthetic scans made from label maps,"),
        ({}, "synthetic scans made from label maps,"),
    ],
)
def test_boilerplate_states_what_was_learned_from(boilerplate, learned_from, stated):
    text = boilerplate("JetNetwork", card=learned_from)
    assert f"trained on {stated}" in text
    assert ("label maps" in text) == stated.endswith("label maps,")
