import json
import re
from html.parser import HTMLParser

import pytest

from s2d_zoo.errors import ConfigError
from s2d_zoo.validate.checks import Check, Consumer
from s2d_zoo.validate.rendering import RENDERINGS, report_file, to_html, to_json, to_markdown, to_text
from s2d_zoo.validate.report import CheckResult, ValidationReport, Verdict

#: as a package from anywhere might quote itself into a message
HOSTILE = "a | b\nc <script>alert('x')</script> \x1b[31m & [x](http://y)"


@pytest.fixture
def report():
    return ValidationReport(
        package="model.zip",
        results=(
            CheckResult(check=Check.S01, status="passed", message="unpacks"),
            CheckResult(check=Check.F01, status="passed", message="format 0.5.9"),
            CheckResult(check=Check.W01, status="failed", message=HOSTILE, part="onnx"),
            CheckResult(
                check=Check.T04,
                status="limited",
                message="seams",
                consumers=frozenset({Consumer.qupath}),
                figures={"largest": float("nan"), "tiles": (512, 512)},
            ),
            CheckResult(check=Check.L02, status="limited", message="unknown", consumers=frozenset()),
            CheckResult(check=Check.T01, status="skipped", message="W01 failed"),
        ),
        verdicts=(
            Verdict(consumer=Consumer.core, word="runs", reasons=()),
            Verdict(consumer=Consumer.qupath, word="refused", reasons=("W01: a\nb", "T04: <b>seams</b>")),
        ),
    )


class Page(HTMLParser):
    """What a browser would make of a page: its tags, attributes and text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data):
        self.text += data


def test_text_has_one_line_for_each_result_in_groups(report):
    assert to_text(report).splitlines() == [
        "Format",
        "  passed   F01: format 0.5.9",
        "",
        "Weights",
        "  failed   W01 onnx: a | b c <script>alert('x')</script> [31m & [x](http://y)",
        "",
        "Tiles",
        "  skipped  T01: W01 failed",
        "  limited  T04: seams [QuPath]",
        "",
        "Lineage and licence",
        "  limited  L02: unknown [advice]",
        "",
        "Safety",
        "  passed   S01: unpacks",
        "",
        "bioimageio.core: runs",
        "QuPath: refused",
        "    W01: a b",
        "    T04: <b>seams</b>",
        "",
        "model.zip: 2 passed, 2 limited, 1 failed, 1 skipped",
    ]


def test_without_verdicts_nothing_is_said_about_programs(report):
    report = ValidationReport(package=report.package, results=report.results[:1])
    assert to_text(report).splitlines()[-2:] == ["", "model.zip: 1 passed, 0 limited, 0 failed, 0 skipped"]
    assert "QuPath" not in to_text(report) + to_markdown(report)
    assert "no verdict" in to_html(report)


def test_markdown_has_tables_that_messages_cannot_break(report):
    text = to_markdown(report)
    assert text.startswith("# Validation of model.zip\n\n| program | verdict | because |")
    assert "| QuPath | refused | W01: a b; T04: &lt;b>seams&lt;/b> |" in text
    assert f"| W01 | onnx | failed |  | {Check.W01.value} | a \\| b c &lt;script>" in text
    assert "\\[x\\](http://y)" in text
    assert text.endswith("2 passed, 2 limited, 1 failed, 1 skipped.\n")
    cells = {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")}
    assert cells == {4, 7}


def test_json_is_for_programs(report):
    content = json.loads(to_json(report), parse_constant=pytest.fail)
    assert (content["format"], content["format_version"]) == ("s2d-zoo validation report", 2)
    assert content["passed"] is False
    assert content["verdicts"][1] == {
        "consumer": "qupath",
        "verdict": "refused",
        "reasons": ["W01: a\nb", "T04: <b>seams</b>"],
    }
    assert content["results"][3] == {
        "check": "T04",
        "title": Check.T04.value,
        "part": "",
        "status": "limited",
        "message": "seams",
        "consumers": ["qupath"],
        "figures": {"largest": "nan", "tiles": [512, 512]},
    }
    assert content["results"][0]["consumers"] == ["core", "ilastik", "deepimagej", "qupath"]


def test_a_page_stands_alone_and_messages_stay_text(report):
    page = Page(to_html(report))
    assert not {"script", "link", "img", "iframe", "b"} & set(page.tags)
    assert not {"src", "href", "onload"} & set(page.attributes)
    assert "<script>alert('x')</script>" in page.text
    assert all(result.check.value in page.text for result in report.results)
    assert page.text.index("bioimageio.core") < page.text.index("Format")
    assert page.tags.count("details") == 1


def test_a_page_shows_the_worst_of_a_group_first(report):
    text = Page(to_html(report)).text
    assert text.index("T04") < text.index("T01")


@pytest.mark.parametrize("name", RENDERINGS)
def test_every_rendering_ends_with_a_newline_and_has_no_control_characters(report, name):
    text = RENDERINGS[name](report)
    assert text.endswith("\n")
    assert all(letter == "\n" or letter.isprintable() for letter in text)


# ---- files


def test_a_report_and_its_tensors_are_moved_into_place(tmp_path):
    path = tmp_path / "reports" / "model.html"
    with report_file(path, tmp_path / "model.zip") as (file, tensors):
        tensors.mkdir()
        (tensors / "difference.npy").write_text("1")
        file.write_text("report")
        assert not path.exists()
    assert path.read_text() == "report"
    assert (path.with_name("model-tensors") / "difference.npy").read_text() == "1"
    assert sorted(one.name for one in path.parent.iterdir()) == ["model-tensors", "model.html"]


def test_old_tensors_do_not_outlive_their_report(tmp_path):
    for name in ("a", "b"):
        with report_file(tmp_path / "r.txt", tmp_path / "model.zip", overwrite=True) as (file, tensors):
            tensors.mkdir()
            (tensors / name).write_text(name)
            file.write_text(name)
    assert [one.name for one in (tmp_path / "r-tensors").iterdir()] == ["b"]
    with report_file(tmp_path / "r.txt", tmp_path / "model.zip", overwrite=True) as (file, _):
        file.write_text("c")
    assert [one.name for one in tmp_path.iterdir()] == ["r.txt"]


@pytest.mark.parametrize("name", ["r.txt", "r-tensors"])
def test_what_is_there_is_kept(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match="--overwrite"), report_file(tmp_path / "r.txt", tmp_path / "model.zip"):
        pytest.fail("nothing may be computed")


@pytest.mark.parametrize("name", ["r.zip", "r-tensors"])
def test_the_package_is_never_replaced(tmp_path, name):
    (tmp_path / name).mkdir()
    opened = report_file(tmp_path / "r.zip", tmp_path / name, overwrite=True)
    with pytest.raises(ConfigError, match="the package itself"), opened:
        pytest.fail("nothing may be computed")


def test_a_report_that_is_not_finished_leaves_nothing(tmp_path):
    def interrupted():
        with report_file(tmp_path / "r.txt", tmp_path / "model.zip") as (_, tensors):
            tensors.mkdir()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_without_a_file_there_is_no_place_for_tensors(tmp_path):
    with report_file(None, tmp_path / "model.zip") as places:
        assert places == (None, None)
