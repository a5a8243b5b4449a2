"""The report stands alone, and says what the run says."""

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import imageio.v3 as iio
import pytest

from s2d_zoo.pipeline.report import draw_stages, summarise, write_report


class Page(HTMLParser):
    """Every attribute and all text of a page; complains of tags that are not closed."""

    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self, text):
        super().__init__()
        self.addresses, self.text, self.open, self.images = [], "", [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.addresses += [found[name] for name in ("src", "href", "srcset", "action") if name in found]
        if tag == "img":
            self.images.append(found)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def html(run):
    return (run.output / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


@pytest.fixture(scope="module")
def facts(run):
    return json.loads((run.output / "report.json").read_text(encoding="utf-8"))


def test_the_page_needs_nothing_from_outside(page, html):
    assert page.addresses
    assert all(address.startswith("data:") for address in page.addresses)
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", html)
    assert "<script" not in html
    assert "@import" not in html
    assert "url(" not in html


def test_every_image_is_a_picture_with_a_text_in_its_place(page):
    assert len(page.images) == 2
    for image in page.images:
        head, content = image["src"].split(",")
        assert head == "data:image/png;base64"
        picture = iio.imread(io.BytesIO(base64.b64decode(content)), extension=".png")
        assert picture.std() > 1
        assert image["alt"]


def titles(figure):
    return [axis.get_title() for axis in figure.axes if axis.get_title()]


@pytest.fixture(scope="module")
def image(run):
    return run.result.job.data.images[0]


@pytest.fixture(scope="module")
def prediction(run):
    return run.result.predictions[0]


def test_all_stages_are_shown(run, image, prediction):
    data = run.result.job.data
    figure = draw_stages(image, prediction, scribbles=data.scribbles[0], truth=data.ground_truth[0])
    assert titles(figure) == [
        "raw",
        "strokes",
        "Random Forest",
        "enhanced",
        "fused",
        "pseudo-labels",
        "pseudo-label weights",
        "segmentor",
        "segmentor, strokes only",
        "ground truth",
    ]


def test_stages_that_were_not_run_are_left_out(image, prediction):
    bare = replace(prediction, fused=None, segmentation=None, strokes_only=None, labels=None)
    assert titles(draw_stages(image, bare)) == ["raw", "Random Forest", "enhanced"]


def test_each_class_of_the_strokes_has_its_colour(run, image, prediction):
    strokes = run.result.job.data.scribbles[0]
    shown = draw_stages(image, prediction, scribbles=strokes).axes[1].images[0].get_array()
    colours = {label: {tuple(pixel) for pixel in shown[strokes.values == label].tolist()} for label in (1, 2)}
    assert len(colours[1]) == len(colours[2]) == 1
    assert colours[1] != colours[2]


def test_page_and_json_have_every_score(run, page, facts):
    assert set(facts["scores"]) == {"training", "test"}
    for subset, methods in run.result.scores.items():
        assert set(facts["scores"][subset]) == set(methods)
        for method, score in methods.items():
            assert facts["scores"][subset][method] == {"iou": round(score.iou, 4), "dice": round(score.dice, 4)}
            assert method in page.text
            assert f"{round(score.iou, 4):.3f}" in page.text
            assert f"{round(score.dice, 4):.3f}" in page.text


def test_json_says_what_the_run_says(run, facts, page):
    result = run.result
    training = result.segmentors.training
    assert facts["good"] is True
    assert facts["problem"] is None
    assert facts["enhancer"] == "tiny-enhancer"
    assert facts["kept_fraction"] == round(result.kept, 4)
    assert facts["held_out_iou"]["start"] == training.start.iou
    assert facts["held_out_iou"]["segmentor"] == training.end.iou
    assert 0 <= facts["held_out_iou"]["pseudo_labels"] <= 1
    assert facts["strokes"] == {"training": 6, "held_out": 2}
    assert facts["seed"] == 4
    assert list(facts["seconds"]) == sorted(result.seconds)
    assert f"{100 * result.kept:.1f} %" in page.text
    assert "no worse than its start" in page.text


def test_every_package_and_every_check_is_listed(run, page, facts):
    assert [package["path"] for package in facts["packages"]] == [
        "packages/tiny-segmentor.zip",
        "packages/tiny-segmentor-fused.zip",
        "packages/enhancer.zip",
    ]
    for package, report in zip(facts["packages"], run.result.validation, strict=True):
        assert package["passed"]
        assert package["bytes"] == (run.output / package["path"]).stat().st_size
        assert package["path"] in page.text
        assert [check["id"] for check in package["checks"]] == [result.check.name for result in report.results]
        for check in package["checks"]:
            assert check["sentence"] in page.text


def test_the_verdict_on_every_program_is_told(run, page, facts):
    for package, report in zip(facts["packages"], run.result.validation, strict=True):
        assert package["verdicts"] == [
            {"program": one.consumer.value, "verdict": one.word, "reasons": list(one.reasons)}
            for one in report.verdicts
        ]
    for text in ("Fiji (deepImageJ)", "runs with limits", "T04: <seams>"):
        assert page.text.count(text) >= 3


def test_a_fused_package_is_not_missed(page, facts):
    assert facts["not_fused"] == ""
    assert "no fused package" not in page.text


@pytest.fixture
def elsewhere(run, tmp_path):
    """The result of the run, to be written to another folder."""
    return replace(run.result, job=replace(run.result.job, output=tmp_path), packages=(), validation=())


def test_a_missing_segmentor_is_said_first(elsewhere):
    result = replace(elsewhere, segmentors=replace(elsewhere.segmentors, problem="worse <than> its start"))
    page = Page(write_report(result).read_text(encoding="utf-8"))
    assert "There is no segmentor: worse <than> its start" in page.text
    facts = summarise(result)
    assert not facts["good"]


def test_a_missing_fused_package_is_said_and_is_no_failure(elsewhere):
    result = replace(elsewhere, fused=None, not_fused="it was <rescaled>")
    assert "There is no fused package: it was <rescaled>." in Page(write_report(result).read_text("utf-8")).text
    facts = summarise(result)
    assert facts["not_fused"] == "it was <rescaled>"
    assert facts["good"]


def test_a_failed_check_and_notes_on_the_contract_are_said(run, tmp_path):
    (failed, *_), (report, *others) = run.result.validation[0].results, run.result.validation
    broken = replace(report, results=(replace(failed, status="failed", message="broken & bad"),))
    packages = tuple(tmp_path / path.name for path in run.result.packages)
    for path in packages:
        path.write_bytes(b"")
    result = replace(
        run.result,
        job=replace(run.result.job, output=tmp_path),
        packages=packages,
        validation=(broken, *others),
        misfits=("pixel sizes differ",),
    )
    page = Page(write_report(result).read_text(encoding="utf-8"))
    assert "A package failed a check" in page.text
    assert "broken & bad" in page.text
    assert "Note on the RF contract: pixel sizes differ" in page.text


def test_names_of_files_are_text_and_nothing_else(elsewhere, tmp_path):
    data = replace(elsewhere.job.data, names=("<b>&.tif",))
    page = Page(write_report(replace(elsewhere, job=replace(elsewhere.job, data=data))).read_text(encoding="utf-8"))
    assert "<b>&.tif" in page.text


def test_large_images_are_shown_smaller(image, prediction):
    wide = {"y": (0, 1400)}
    large = replace(
        prediction,
        foreground=prediction.foreground.pad(wide),
        enhanced=prediction.enhanced.pad(wide),
        labels=None,
        segmentation=None,
        strokes_only=None,
    )
    figure = draw_stages(image.pad(wide, mode="edge"), large)
    assert all(max(axis.images[0].get_array().shape) <= 700 for axis in figure.axes if axis.images)
