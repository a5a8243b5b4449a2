"""Enhancers in order for an image without truth: from files to a ranking."""

import json
from dataclasses import replace

import pytest
from tests.rf_adapter.nuclei_projects import nuclei_project

from s2d_zoo.data.images import read_image, write_image
from s2d_zoo.enhancer.prediction import Enhancer
from s2d_zoo.errors import AxesError, ConfigError, PackageError
from s2d_zoo.pipeline import ranking, ranking_candidates
from s2d_zoo.pipeline.ranking import RankInputs, RankSettings, rank_enhancers
from s2d_zoo.pipeline.ranking_report import adapt_command, to_dict, to_text
from s2d_zoo.pipeline.ranking_rows import Agreement, Stability
from s2d_zoo.rf_adapter.classifier import ForestSettings
from s2d_zoo.rf_adapter.features import FeatureSelection


@pytest.fixture(autouse=True)
def few_features(tmp_path, monkeypatch):
    """Nothing in the catalogue, and forests that take no time."""
    monkeypatch.setenv("S2D_ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(ranking_candidates, "bundled_models", lambda: ())


@pytest.fixture
def files(inputs):
    return RankInputs(images=inputs.images, scribbles=inputs.scribbles)


@pytest.fixture
def settings(package):
    return RankSettings(enhancers=(str(package),), forest=ForestSettings(n_estimators=5))


@pytest.fixture(scope="module")
def ranked(inputs, package, tmp_path_factory):
    """A ranking of the tiny enhancer at three scales, and of a broken package. Not to be changed."""
    broken = tmp_path_factory.mktemp("broken") / "broken.zip"
    broken.write_bytes(b"no zip")
    settings = RankSettings(
        enhancers=(str(package), str(broken)), factors=(0.5, 2.0), forest=ForestSettings(n_estimators=5)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S2D_ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(ranking_candidates, "bundled_models", lambda: ())
        return rank_enhancers(RankInputs(images=inputs.images, scribbles=inputs.scribbles), settings, progress=False)


def test_each_scale_is_ranked_against_the_forests_alone(ranked, package):
    assert [row.name for row in ranked.rows] == [str(package)] * 3
    assert {row.rescale for row in ranked.rows} == {1.0, 0.5, 2.0}
    assert ranked.best is ranked.rows[0]
    assert ranked.n_folds == 3
    for row in (*ranked.rows, ranked.forest):
        assert 0 < row.agreement.iou <= 1
        assert len(row.agreement.overlaps) == 8  # every stroke once
        assert 0 < row.stability.value <= 1
        assert row.degenerate == ""
    assert len({row.stability.strokes for row in (*ranked.rows, ranked.forest)}) == 4


def test_what_cannot_be_opened_does_not_stop_the_ranking(ranked):
    assert [one.name.endswith("broken.zip") for one in ranked.unusable] == [True]


def test_the_same_seed_gives_the_same_ranking(files, settings, ranked):
    again = rank_enhancers(files, settings, progress=False)
    as_is = next(row for row in ranked.rows if row.rescale == 1)
    assert again.rows == (replace(as_is, ahead_by=""),)
    other = rank_enhancers(files, replace(settings, seed=1), progress=False)
    assert other.rows != again.rows


def test_where_nothing_fits_no_forest_is_fitted(files, package, monkeypatch):
    monkeypatch.setattr(ranking, "fit_members", None)
    monkeypatch.setattr(ranking, "_delivered", lambda data: data.delivered.model_copy(update={"ndim": 3}))
    found = rank_enhancers(files, RankSettings(enhancers=(str(package),)), progress=False)
    assert (found.rows, found.forest, found.best, found.n_folds) == ((), None, None, 0)
    assert "3D" in found.unusable[0].reason
    assert to_text(found).startswith("No enhancer can be used here.\n\nNot usable:\n")
    assert to_dict(found)["rf_alone"] is to_dict(found)["command"] is None


@pytest.mark.parametrize("error", [AxesError("too small"), RuntimeError("too small")], ids=["ours", "torch's"])
def test_an_enhancer_that_fails_is_listed_and_the_others_are_ranked(files, settings, monkeypatch, error):
    enhance = Enhancer.enhance

    def fail_if_small(*args, rescale, **changes):
        if rescale < 1:
            raise error
        return enhance(*args, rescale=rescale, **changes)

    monkeypatch.setattr(Enhancer, "enhance", fail_if_small)
    found = rank_enhancers(files, replace(settings, factors=(0.5,)), progress=False)
    assert [row.rescale for row in found.rows] == [1.0]
    assert [(one.name, one.reason) for one in found.unusable] == [
        (f"{settings.enhancers[0]}, rescaled by 0.5", "too small")
    ]


def test_an_enhancer_that_says_nothing_is_not_recommended(files, settings, monkeypatch):
    enhance = Enhancer.enhance
    monkeypatch.setattr(Enhancer, "enhance", lambda *args, **changes: 0 * enhance(*args, **changes))
    found = rank_enhancers(files, settings, progress=False)
    assert found.rows[0].stability.value == 1
    assert found.best is None
    text = to_text(found)
    assert "why: the maps are as good as empty: of the painted foreground it finds 0 %." in text
    assert "None of them is of use here" in text
    assert "s2d-zoo adapt" not in text


def test_an_enhancer_that_does_harm_is_said_to(files, settings, monkeypatch):
    enhance = Enhancer.enhance

    def leave_half(*args, **changes):
        enhanced = enhance(*args, **changes)
        enhanced[:, ::2] = 0
        return enhanced

    monkeypatch.setattr(Enhancer, "enhance", leave_half)
    found = rank_enhancers(files, settings, progress=False)
    assert 0 < found.best.agreement.iou < found.forest.agreement.iou
    assert "agrees with held-out strokes WORSE THAN RF alone" in to_text(found)
    assert "Even the best agrees less with the strokes than RF alone" in to_text(found)


def test_without_enough_strokes_agreement_does_not_count(files, settings, inputs, tmp_path):
    strokes = read_image(inputs.scribbles[0])
    few = strokes.copy(data=strokes.values * 0)
    for label in (1, 2):
        rows, columns = (strokes.values[0] == label).nonzero()
        few.values[0, rows[0], columns[0]] = label
    write_image(tmp_path / "few.tif", few)
    found = rank_enhancers(replace(files, scribbles=(tmp_path / "few.tif",)), settings, progress=False)
    assert found.n_folds == 0
    assert found.rows[0].agreement is None
    assert to_text(found).startswith("Too few strokes to hold any out")
    assert to_dict(found)["ranking"][0]["held_out"] is None
    assert "held-out strokes" not in to_text(found).partition("why: ")[2]


def test_a_project_has_strokes_and_features_of_its_own(settings, nuclei, scribbles, tmp_path, monkeypatch):
    computed = []
    compute = FeatureSelection.compute
    monkeypatch.setattr(FeatureSelection, "compute", lambda self, image: computed.append(self) or compute(self, image))
    path = nuclei_project(nuclei[0], scribbles, trained=False).write(tmp_path / "made.ilp")
    found = rank_enhancers(RankInputs(ilastik_project=path), settings, progress=False)
    assert found.n_folds == 3
    assert {len(selection.scales) for selection in computed} == {2}
    command = adapt_command(found, found.best)
    assert f"--ilastik-project {path} --retrain --enhancer" in command


def test_strokes_or_a_project_are_needed(files):
    with pytest.raises(ConfigError, match="compared on strokes: give --image and --scribbles, or --ilastik-project"):
        RankInputs(images=files.images)
    with pytest.raises(ConfigError, match="--scribbles was given 1 times and --image 2 times"):
        replace(files, images=files.images * 2)


def test_an_enhancer_that_is_nowhere_is_refused(files):
    with pytest.raises(PackageError, match="No model 'nowhere'"):
        rank_enhancers(files, RankSettings(enhancers=("nowhere",)), progress=False)


# ---- as text and JSON


def test_the_text_has_a_row_and_a_reason_for_each(ranked, package):
    lines = to_text(ranked).splitlines()
    assert lines[0].startswith("Each of 3 parts of the strokes, whole ones, is scored by a forest")
    assert lines[2].split() == ["enhancer", "rescale", "held-out", "IoU", "stability", "calibration", "error"]
    assert lines[3].startswith("-   RF alone")
    numbered = [line for line in lines if line[:2] in {"1.", "2.", "3."}]
    assert [line.split()[1] for line in numbered] == [str(package)] * 3
    assert [float(line.split()[2]) for line in numbered] == [row.rescale for row in ranked.rows]
    reasons = [line for line in lines if line.strip().startswith("why: ")]
    assert len(reasons) == 3
    assert all("RF alone; stable to 0." in line for line in reasons)
    by = ranked.rows[0].ahead_by
    assert reasons[0].endswith((f"; ahead of the next by {by}.", f"; ahead of the next by {by} only."))
    assert "ahead of" not in reasons[2]
    assert "Not usable:" in lines
    assert lines[-1].strip() == adapt_command(ranked, ranked.best)


def all_found(row, stability):
    """A row that has found every stroke, and is so stable."""
    agreement = Agreement(overlaps=(5, 5, 0, 0), unions=(5, 5, 0, 0), calibration_error=0.1)
    return replace(row, agreement=agreement, stability=Stability(strokes=stability, noise=stability))


@pytest.mark.parametrize(
    ("stability", "said"),
    [(0.9, "As far as these strokes tell, even the best is no better than RF alone."), (0.95, "and is more stable")],
)
def test_what_strokes_cannot_tell_is_said(ranked, stability, said):
    rows = tuple(all_found(row, 0.9) for row in ranked.rows)
    text = to_text(replace(ranked, rows=rows, forest=all_found(ranked.forest, stability)))
    assert "3 of 3 find every held-out stroke: agreement cannot tell them apart." in text
    assert said in text
    assert "1.000 ±" not in text
    assert "about as well as RF alone" in text


def test_one_further_down_that_is_clearly_better_is_not_passed_over(ranked):
    def hits(row, found):
        agreement = Agreement(overlaps=(found,) * 20, unions=(100,) * 20, calibration_error=0.1)
        return replace(row, agreement=agreement, stability=Stability(strokes=0.9, noise=0.9), degenerate="")

    first, second, third = ranked.rows
    rows = (hits(first, 91), hits(second, 93), replace(hits(third, 94), degenerate="the maps are as good as empty"))
    text = to_text(replace(ranked, rows=rows, forest=hits(ranked.forest, 90)))
    assert "Number 2 agrees with the strokes better than RF alone, the first about as well as it: look" in text
    assert "no better than RF alone" not in text
    assert text.splitlines()[-1].strip() == adapt_command(ranked, second)
    text = to_text(replace(ranked, rows=rows, forest=hits(ranked.forest, 94)))
    assert "Number 2 agrees with the strokes about as well as RF alone, the first WORSE THAN it: look" in text
    assert "may do harm" not in text


def test_a_place_by_what_hardly_matters_is_said_to_be(ranked):
    for criterion, slight in (("stability", False), ("calibration error", True)):
        rows = (replace(ranked.rows[0], ahead_by=criterion), *ranked.rows[1:])
        assert (f"ahead of the next by {criterion} only." in to_text(replace(ranked, rows=rows))) is slight


def test_notes_stand_below_their_row(ranked):
    noted = replace(ranked, rows=(replace(ranked.rows[0], notes=("pixel_size: too small",)), *ranked.rows[1:]))
    lines = to_text(noted).splitlines()
    position = next(number for number, line in enumerate(lines) if line.startswith("1."))
    assert lines[position + 2] == "    note: pixel_size: too small"


def test_json_has_all_figures(ranked, package):
    content = json.loads(json.dumps(to_dict(ranked), allow_nan=False))
    assert (content["format"], content["format_version"]) == ("s2d-zoo/ranking", 1)
    assert content["best"] == {"enhancer": str(package), "rescale": ranked.best.rescale}
    assert [row["rescale"] for row in content["ranking"]] == [row.rescale for row in ranked.rows]
    first, row = content["ranking"][0], ranked.rows[0]
    assert first["held_out"] == {
        "iou": row.agreement.iou,
        "standard_error": row.agreement.standard_error,
        "calibration_error": row.agreement.calibration_error,
    }
    assert first["stability"]["strokes"] == row.stability.strokes
    assert content["rf_alone"]["enhancer"] == "RF alone"
    assert {row["against_rf_alone"] for row in content["ranking"]} <= {"better", "equal", "worse"}
    assert content["unusable"][0]["reason"]


def test_the_command_repeats_what_was_chosen(ranked):
    inputs = replace(ranked.inputs, axes="yx")
    settings = replace(ranked.settings, foreground=2, trust_code=True)
    row = replace(ranked.rows[0], name="my enhancer", rescale=0.4, automatic=False)
    command = adapt_command(replace(ranked, inputs=inputs, settings=settings), row)
    image, scribbles = ranked.inputs.images[0], ranked.inputs.scribbles[0]
    assert command == (
        f"s2d-zoo adapt --image {image} --scribbles {scribbles} --enhancer 'my enhancer' --rescale 0.4 --foreground 2 "
        "--axes yx --trust-code --trees 5 --authors 'YOUR NAME' --license LICENCE --output FOLDER"
    )
    usual = replace(settings, forest=ForestSettings(), seed=3)
    command = adapt_command(replace(ranked, settings=usual), row)
    assert "--trees" not in command
    assert "--seed 3 --authors" in command
    assert "--rescale auto" in adapt_command(ranked, replace(row, automatic=True))
    assert "--rescale" not in adapt_command(ranked, replace(row, rescale=1.0))
