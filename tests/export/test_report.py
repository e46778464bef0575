"""Reports: their figures come from the rows, and what was not measured is said so."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from support.fake_adb import FakePhones, benchmark
from support.handmade import flatbuffer
from support.op_cases import unary
from support.report_runs import (
    Row,
    detector_metrics,
    epoch_rows,
    eval_row,
    export_row,
    full_rows,
    latency_row,
    write_run,
)

from effkeras.definitions import zoo
from effkeras.litert.latency import Plan
from effkeras.support import results
from effkeras.support.drawing import DARK, LIGHT
from effkeras.support.errors import EffkerasError
from effkeras.support.measurements import Delegation, Latency
from effkeras.support.pages import escaped
from export.bench import Timed
from export.delegates.android import time_on_phone
from export.delegates.delegate import BenchmarkCase, PhoneOptions
from export.export_report import ExportReport
from export.report import ReportOptions, main, write_report
from export.reporting.charts import Curve, Panel, Point, Series, trade_off, training
from export.reporting.panels import draw_charts
from quantize.accuracy import Accuracy
from quantize.runs.reading import read_run
from quantize.runs.records import Setting as Shown

ONE_THREAD = Shown("XNNPACK", 1)


def written(run: Path) -> tuple[str, str]:
    """The report's Markdown and HTML."""
    page = write_report([run]).file
    return page.with_name("report.md").read_text(), page.read_text()


def cells(report: str, artifact: str) -> list[str]:
    """The cells of an artifact's first line in the Markdown."""
    line = next(line for line in report.splitlines() if line.startswith(f"| {artifact} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A run with everything measured, its Markdown and its HTML."""
    run = write_run(tmp_path_factory.mktemp("runs") / "digits", full_rows())
    (run / "samples").mkdir()
    for name in ("first", "second <b>", "third"):
        Image.new("RGB", (8, 6), "teal").save(run / "samples" / f"{name}.png")
    write_report([run], options=ReportOptions(samples=2))
    folder = run / "report"
    return run, (folder / "report.md").read_text(), (folder / "report.html").read_text()


def test_artifact_table_has_the_rows_figures(full):
    _, markdown, _ = full
    expected = [
        "int8",
        "0.8391",
        "0.0029",
        "498.8 kB",
        "3.32x",
        "1.21 / 1.43",
        "0.73 / 0.95",
    ]
    assert cells(markdown, "int8") == [*expected, "100 %, 1 partition", "size, latency"]
    assert cells(markdown, "Keras float model")[:4] == ["Keras float model", "0.8420", "-", "2,104.3 kB"]
    assert cells(markdown, "fp16")[2] == "-0.0001"


@pytest.mark.parametrize("figure", ["0.8391", "0.0029", "498.8 kB", "1.21 / 1.43", "0.7001", "500 of test"])
def test_both_pages_show_the_same_figures(figure, full):
    _, markdown, html = full
    assert figure in markdown
    assert figure in html


def test_a_latency_comes_with_all_that_belongs_to_it(full):
    _, markdown, html = full
    taken = "182 of 182: 100 %, 1 partition"
    assert f"| int8 | XNNPACK | 1 | 1.10 | 1.21 | 1.43 | 1.21 | 50 | {taken} | not reported | 1 |" in markdown
    assert (
        "| int8 | plain | 1 | 10.78 | 10.89 | 11.11 | 10.89 | 50 | none of 182 | not reported | 1 |"
        in markdown
    )
    for tool, version in results.environment()["versions"].items():
        assert f"| {tool} | {version} |" in markdown
        assert version in html


def test_full_run_lacks_nothing(full):
    _, markdown, html = full
    assert "not measured" not in markdown
    assert "not measured" not in html.split("<body>")[1]


def test_html_is_one_file(full):
    _, _, html = full
    links = re.findall(r' (?:src|srcset|href|action|data)="([^"#]+)"', html)
    assert len(links) == 3 * 2 + 2  # three charts for light and dark pages, two samples
    assert all(link.startswith("data:image/png;base64,") for link in links)
    assert html.count('class="on-light"') == html.count('class="on-dark"') == 3
    text = re.sub(r"data:image/png;base64,[\w+/=]+", "", html)
    assert not re.search(r"https?:|url\(|@import|<script[^>]* src|<link", text)


def test_samples_are_shown_with_their_names(full):
    run, markdown, html = full
    assert "](../samples/second%20%3Cb%3E.png)" in markdown
    assert "<figcaption>second &lt;b&gt;</figcaption>" in html
    assert "third" not in html
    assert (run / "report" / "../samples/first.png").is_file()


@pytest.mark.parametrize("name", ["accuracy-size", "accuracy-latency", "training"])
def test_charts_are_images(full, name):
    run, markdown, _ = full
    assert f"]({name}.png)" in markdown
    with Image.open(run / "report" / f"{name}.png") as image:
        image.load()
        assert image.format == "PNG"
        assert image.width == 1160
        assert 600 <= image.height <= 1600
        assert len(image.convert("RGB").getcolors(1 << 24)) > 20


def test_what_is_missing_is_named_with_its_command(tmp_path):
    rows = [export_row("int8", 498_765, 0.8391), latency_row("int8", 1.21)]
    run = write_run(tmp_path / "a run", rows)
    markdown, html = written(run)
    assert cells(markdown, "int8")[4:] == ["1.21 / 1.43", "100 %, 1 partition", "size, latency"]
    assert "| float32 |" not in markdown
    assert f"    effkeras export tflite '{run}' --recipe float32 --data DIR\n" in markdown
    benched = " ".join(f"'{run}/artifacts/{name}.tflite'" for name in ("float32", "int8"))
    assert f"    effkeras export bench {benched}\n" in markdown
    assert "What is not measured yet" in html
    assert "| 0.0000 |" not in markdown


def test_artifact_without_accuracy(tmp_path):
    row = export_row("int8", 498_765, 0.0)
    for key in ("split", "images", "float_metrics", "artifact_metrics", "drop", "metric"):
        del row[key]
    run = write_run(tmp_path / "run", [row])
    markdown, _ = written(run)
    assert cells(markdown, "int8")[1:3] == ["not measured", "498.8 kB"]
    assert f"effkeras eval {run} --data DIR\n" in markdown
    assert f"effkeras eval {run}/artifacts/int8.tflite --data DIR\n" in markdown
    assert not (run / "report" / "accuracy-size.png").exists()


def test_the_newest_row_counts(tmp_path):
    rows = [
        export_row("int8", 498_765, 0.8391),
        latency_row("int8", 5.55),
        latency_row("int8", 1.21),
        eval_row("int8.tflite", 0.8380),
        eval_row("model.keras", 0.8450),
    ]
    markdown, _ = written(write_run(tmp_path / "run", rows))
    assert cells(markdown, "int8")[1:3] == ["0.8380", "0.0070"]
    assert cells(markdown, "Keras float model")[1] == "0.8450"
    assert "5.55" not in markdown


def test_a_new_export_outdates_what_was_measured_of_the_old_file(tmp_path):
    rows = [export_row("int8", 1, 0.1), latency_row("int8", 5.55), export_row("int8", 498_765, 0.8391)]
    (int8,) = [
        one for one in read_run(write_run(tmp_path / "run", rows), 0).artifacts if one.recipe == "int8"
    ]
    assert int8.size == 498_765
    assert int8.measured == ()


def test_an_export_that_was_not_written_leaves_the_old_file_in_place(tmp_path):
    failed = export_row("int8", 400_000, 0.7420, passed=False)
    markdown, html = written(write_run(tmp_path / "run", [export_row("int8", 498_765, 0.8391), failed]))
    assert cells(markdown, "int8")[1:4] == ["0.8391", "0.0029", "498.8 kB"]
    assert "The newest export of int8 lost 0.1000 AP" in markdown
    assert "The newest export of int8 lost 0.1000 AP" in html


@pytest.mark.parametrize(
    ("told", "said"), [({"validated_drop": 0.25}, "lost 0.2500 AP"), ({"drop": None}, "")]
)
def test_a_refusal_is_told_by_what_decided(told, said, tmp_path):
    failed = export_row("int8", 400_000, 0.7420, passed=False, **told)
    markdown, _ = written(write_run(tmp_path / "run", [export_row("int8", 498_765, 0.8391), failed]))
    assert cells(markdown, "int8")[1] == "0.8391"
    assert said in markdown
    assert ("The newest export" in markdown) == (said != "")


def test_a_drop_compares_the_same_images_only(tmp_path):
    rows = [export_row("int8", 498_765, 0.8391), eval_row("int8.tflite", 0.9, images=10)]
    run = write_run(tmp_path / "run", rows)
    markdown, _ = written(run)
    assert cells(markdown, "int8")[1:3] == ["0.9000", "498.8 kB"]
    assert "Not all accuracies come from the same images" in markdown
    assert f"effkeras eval {run} --data DIR --split test --limit 10\n" in markdown


def test_rows_of_the_other_commands_are_understood(tmp_path):
    taken = Delegation(182, 180, 3)
    metrics = (detector_metrics(0.8420), detector_metrics(0.8391))
    report = ExportReport(
        file=Path("int8.tflite"),
        spec=zoo.spec("efficientdet-digits"),
        recipe="int8",
        io="float32",
        size=498_765,
        tensors=(),
        left_in_float=(),
        operators=182,
        delegated=taken,
        samples=128,
        seed=0,
        accuracy=Accuracy("AP", "test", 500, *metrics),
    )
    timed = Latency("xnnpack", "XNNPACK", 1, 50, 10, 1.1, 1.25, 1.21, 1.43, taken)
    own = {"kind": "latency", "artifact": "int8.tflite"}
    run = write_run(tmp_path / "run", [report.to_row(), own | timed.to_row()])
    markdown, _ = written(run)
    expected = ["int8", "0.8391", "0.0029", "498.8 kB", "1.21 / 1.43", "99 %, 3 partitions"]
    assert cells(markdown, "int8")[:6] == expected


def benched_row(latency: Latency, recipe: str, folder: Path) -> Row:
    """A row as `export.bench` writes it."""
    file = folder / f"{recipe}.tflite"
    file.write_bytes(bytes(498_765))
    return results.stamped(Timed(file, "efficientdet-digits", latency).to_row())


def on_host(delegate: str, title: str, taken: Delegation, peak: int | None = 11_534_336) -> Latency:
    return Latency(delegate, title, 1, 50, 10, 0.51, 0.62, 0.6, 0.83, taken, peak)


@pytest.fixture(scope="module")
def on_phone(tmp_path_factory: pytest.TempPathFactory) -> list[Latency]:
    """A CPU and a GPU that tell all, and an old NNAPI whose tool prints no median, no p95 and no memory."""
    folder = tmp_path_factory.mktemp("bench")
    phones = FakePhones(folder / "phones")
    logs = {"xnnpack": "2.17-xnnpack-profile", "gpu": "2.18-gpu", "nnapi": "2.15-nnapi"}
    options = PhoneOptions(binary=benchmark(folder / "host" / "benchmark_model", **logs))
    content = flatbuffer(unary("RELU"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(phones.home / "path"), prepend=os.pathsep)
        patch.delenv("ANDROID_SERIAL", raising=False)
        timed = time_on_phone([BenchmarkCase(content, name) for name in logs], Plan(50, 3), options)
    return [one for one in timed if isinstance(one, Latency)]


PIXEL = "Pixel 6, Android 14, Tensor"


@pytest.mark.parametrize("kind", ["latency", "delegate-latency"])
def test_delegates_of_this_machine_stand_among_the_latencies(kind, tmp_path):
    timings = [
        on_host("compiled-gpu", "compiled GPU", Delegation(182, None, None, False)),
        on_host("compiled-cpu", "compiled CPU", Delegation(182, 182, 1, True), peak=None),
        on_host("edgetpu", "Edge TPU", Delegation(4, 1, 1, False)),
    ]
    rows = [{**benched_row(one, "int8", tmp_path), "kind": kind} for one in timings]
    run = write_run(tmp_path / "run", [export_row("int8", 498_765, 0.8391), latency_row("int8", 1.21), *rows])
    markdown, html = written(run)
    times = "1 | 0.51 | 0.60 | 0.83 | 0.62 | 50"
    assert f"| int8 | compiled GPU | {times} | not all 182 | 11.53 MB | 1 |" in markdown
    assert (
        f"| int8 | compiled CPU | {times} | 182 of 182: 100 %, 1 partition | not reported | 1 |" in markdown
    )
    assert f"| int8 | Edge TPU | {times} | 1 of 4: 25 %, 1 partition | 11.53 MB | 1 |" in markdown
    assert "Latencies on phones" not in markdown
    assert "not all 182" in html
    assert cells(markdown, "int8")[4:6] == ["1.21 / 1.43", "100 %, 1 partition"]
    order = [line.split(" | ")[1] for line in markdown.splitlines() if line.startswith("| int8 | ")]
    assert order[2:6] == ["XNNPACK", "Edge TPU", "compiled CPU", "compiled GPU"]


def test_a_phones_latencies_come_with_the_phone_and_what_is_not_told(tmp_path, on_phone):
    rows = [benched_row(one, "int8", tmp_path) for one in on_phone]
    run = write_run(tmp_path / "run", [export_row("int8", 498_765, 0.8391), *rows])
    markdown, html = written(run)
    gpu = "1 | 111.84 | 115.35 | 116.62 | 115.25 | 50 | 1 of 1: 100 %, 1 partition | 97.77 MB"
    assert f"| int8 | phone GPU | {gpu} | {PIXEL} | 2.18.0 | 1 |" in markdown
    (nnapi,) = [line for line in markdown.splitlines() if line.startswith("| int8 | phone NNAPI |")]
    figures = [cell.strip() for cell in nnapi.strip("|").split("|")][3:7]
    assert figures == ["1.17", "not reported", "not reported", "1.89"]
    assert '<td class="missing">not reported</td>' in html
    for page in (markdown, html):
        assert "Latencies on phones" in page
        assert PIXEL in page
    assert "threads (ms)" not in markdown  # that would be this machine's processor


def test_the_same_accelerator_on_two_phones_is_two_settings(tmp_path, on_phone):
    row = benched_row(on_phone[1], "int8", tmp_path)
    other = {**row, "phone": {"model": "Galaxy S24", "android": "15", "chip": "", "platform": "pineapple"}}
    nameless = {**row, "phone": {"model": "", "android": ""}, "serial": "A1"}
    rows = [row, row, other, nameless]
    run = read_run(write_run(tmp_path / "run", [export_row("int8", 498_765, 0.8391), *rows]), 0)
    (int8,) = [one for one in run.artifacts if one.recipe == "int8"]
    assert [one.setting.phone for one in int8.measured] == [PIXEL, "Galaxy S24, Android 15, pineapple", "A1"]


def test_delegates_with_medians_have_panels_of_their_own(tmp_path, on_phone):
    timings = [on_host("compiled-cpu", "compiled CPU", Delegation(182, 182, 1, True)), *on_phone]
    rows = [benched_row(one, "int8", tmp_path) for one in timings]
    more = {**rows[0], "threads": 2}
    run = write_run(tmp_path / "run", [export_row("int8", 498_765, 0.8391), more, *rows])
    charts = {one.name: one for one in draw_charts([read_run(run, 0)])}
    assert set(charts) == {"accuracy-size", "accuracy-delegates"}
    assert charts["accuracy-delegates"].about == (
        "AP of every artifact against its latency: Accuracy against latency: compiled CPU, 1 thread; "
        f"phone GPU, 1 thread on {PIXEL}; phone XNNPACK, 1 thread on {PIXEL}"
    )


def test_pareto(tmp_path):
    run = read_run(write_run(tmp_path / "run", full_rows()), 0)
    assert run.best_by_size() == {"fp16.tflite", "int8.tflite"}
    assert run.best_by_latency(ONE_THREAD) == {"float32.tflite", "fp16.tflite", "int8.tflite"}
    assert run.best_by_latency(Shown("XNNPACK", 8)) == frozenset()


def test_pareto_keeps_equals(tmp_path):
    rows = [export_row("dynamic", 500, 0.8), export_row("int8", 500, 0.8), export_row("fp16", 900, 0.8)]
    assert read_run(write_run(tmp_path / "run", rows), 0).best_by_size() == {"dynamic.tflite", "int8.tflite"}


def test_hostile_names_are_text(tmp_path):
    hostile = "<script>alert(1)</script>|`x`\n# y $z$ "
    row = export_row("int8", 498_765, 0.8391, artifact=f"{hostile}.tflite", split="<img src=x>")
    rows = [row, {**latency_row("int8", 1.0), "artifact": row["artifact"], "kernels": "<i>"}]
    markdown, html = written(write_run(tmp_path / "<b>run &amp; $x$", rows))
    shown = "".join(line for line in markdown.splitlines(True) if not line.startswith("    "))
    for page in (shown, html):
        assert not re.search(r"<(script|img src=x|i|b)>", page)
    assert "\n# y" not in markdown
    assert r"&lt;script&gt;alert(1)&lt;/script&gt;\|\`x\` # y" in markdown
    assert ">Run &lt;b&gt;run &amp;amp; $x$</h2>" in html


def test_recipe_shows_when_the_file_name_does_not(tmp_path):
    rows = [export_row("int8", 1000, 0.8, artifact="phone.tflite"), export_row("int8", 900, 0.8, io="uint8")]
    names = [one.name for one in read_run(write_run(tmp_path / "run", rows), 0).artifacts]
    assert names == ["float32", "phone (int8)", "int8"]


def test_several_runs_share_the_charts(tmp_path, full):
    other = write_run(tmp_path / "digits", [export_row("int8", 12_345_678, 0.91)])
    page = write_report([full[0], other, other], tmp_path / "out").file
    markdown = page.with_name("report.md").read_text()
    assert page == tmp_path / "out" / "report.html"
    assert markdown.count("## Run ") == 2
    assert f"## Run {other}".replace("_", r"\_") in markdown
    assert "12.35 MB" in markdown


def test_validations_are_told_apart_by_their_steps(tmp_path):
    rows = [row | {"epoch": 1, "step": 10 * row["epoch"]} for row in epoch_rows(3)]
    markdown, _ = written(write_run(tmp_path / "run", rows))
    assert "30 steps, 1 epoch" in markdown
    run = read_run(tmp_path / "run", 0)
    assert [(one.number, one.step) for one in run.epochs] == [(1, 10), (1, 20), (1, 30)]


def test_training_that_diverged_is_still_reported(tmp_path):
    rows = [*epoch_rows(2), {"kind": "epoch", "epoch": 2, "loss": float("nan"), "metrics": {}}]
    run = read_run(write_run(tmp_path / "run", rows), 0)
    assert [(one.number, one.loss, dict(one.metrics)) for one in run.epochs] == [
        (1, 3.0, {"AP": 0.0}),
        (2, None, {}),
    ]
    write_report([run.folder])
    assert (run.folder / "report" / "training.png").is_file()


def test_classifier(tmp_path):
    metrics = {"top1": 0.9712, "top5": 0.9991}
    row = eval_row("model.keras", 0.0) | {"metrics": metrics}
    markdown, html = written(write_run(tmp_path / "run", [row], "efficientnet-digits"))
    assert cells(markdown, "Keras float model")[1] == "0.9712"
    assert "top1 is the share of images" in html


def test_rows_without_environment(tmp_path):
    rows = [export_row("int8", 498_765, 0.8391), latency_row("int8", 1.21)]
    for row in rows:
        del row["environment"]
    markdown, _ = written(write_run(tmp_path / "run", rows))
    assert "| unknown |" in markdown


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("not json", "line 1 is not JSON"),
        ("[1, 2]", "is not a table"),
        ('{"kind": "export", "artifact": "a.tflite"}', "no 'recipe'"),
        ('{"kind": "eval", "artifact": "a.tflite", "metrics": {"AP": "x"}}', "not a table of numbers"),
        ('{"kind": "eval", "artifact": "model.keras", "metrics": {"AP": NaN}}', "not a table of numbers"),
        ('{"kind": "latency", "artifact": "a", "kernels": "plain", "threads": 1.5}', "not a whole number"),
        ('{"kind": "latency", "artifact": 3}', "artifact = 3, not a text"),
        ('{"kind": "epoch", "epoch": "one"}', "not a whole number"),
        ("", "is empty"),
    ],
)
def test_broken_results(line, said, tmp_path, capsys):
    run = write_run(tmp_path / "run", [])
    (run / "results.jsonl").write_text(line)
    assert main([str(run)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert str(run / "results.jsonl") in error
    assert said in error
    assert not (run / "report").exists()


def test_results_that_are_not_text(tmp_path, capsys):
    run = write_run(tmp_path / "run", [])
    (run / "results.jsonl").write_bytes(b"\xff\xfe\x00")
    assert main([str(run)]) == 2
    assert "one JSON table a line" in capsys.readouterr().err


def test_folders_that_are_no_runs(tmp_path, capsys):
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "is no run folder" in capsys.readouterr().err
    run = write_run(tmp_path / "run", [])
    (run / "results.jsonl").unlink()
    assert main([str(run)]) == 2
    assert "has no results yet; `effkeras eval" in capsys.readouterr().err
    (run / "model.keras").unlink()
    assert main([str(run)]) == 2
    assert "ended before the first validation; the `effkeras train` that" in capsys.readouterr().err


def test_detector_beside_classifier(tmp_path, full):
    other = write_run(tmp_path / "other", [eval_row("model.keras", 0.5)], "efficientnet-digits")
    with pytest.raises(EffkerasError, match=r"judged by AP .* by top1"):
        write_report([full[0], other])


def test_no_run_at_all():
    with pytest.raises(EffkerasError, match="at least one run"):
        write_report([])


def test_sample_that_is_no_image(tmp_path):
    run = write_run(tmp_path / "run", [eval_row("model.keras", 0.5)])
    (run / "samples").mkdir()
    (run / "samples" / "broken.png").write_bytes(b"GIF89a")
    with pytest.raises(EffkerasError, match="is no PNG image"):
        write_report([run])
    assert write_report([run], options=ReportOptions(samples=0)).file.is_file()


@pytest.mark.parametrize(
    "arguments", [[], ["run", "--images", "-1"], ["run", "--images", "x"], ["run", "--nonsense"]]
)
def test_bad_options(arguments, capsys):
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
def test_missing_package_names_the_extra(package, tmp_path, monkeypatch, capsys):
    run = write_run(tmp_path / "run", [export_row("int8", 498_765, 0.8391)])
    for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    assert main([str(run)]) == 2
    assert 'pip install "effkeras[report]"' in capsys.readouterr().err


def test_help_loads_no_plotting():
    code = (
        "import sys; from export.report import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'matplotlib', 'jinja2', 'numpy', 'tensorflow'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--images" in done.stdout


def test_markdown_escapes_what_markdown_reads():
    assert escaped("a_b*c|<d>\n`e`") == r"a\_b\*c\|&lt;d&gt; \`e\`"


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_a_chart_of_far_apart_and_coinciding_points(theme):
    points = [Point(f"artifact {n}", cost, 0.5, True) for n, cost in enumerate((10, 10, 11, 900, 90_000))]
    panel = Panel("a $title$ 题", "size", "kB", (Series("_run $1$", tuple(points), 0.5), Series("none", ())))
    with Image.open(io.BytesIO(trade_off([panel], "AP", theme))) as image:
        assert image.convert("RGB").getpixel((2, 2)) == tuple(bytes.fromhex(theme.paper[1:]))


def test_a_training_of_one_epoch():
    curves = [Curve("one", (1,), (0.5,)), Curve("two", (), ())]
    with Image.open(io.BytesIO(training([], curves, "AP"))) as image:
        assert image.width == 1160


def test_csv_has_unrounded_figures(full):
    run, _, _ = full
    with (run / "report" / "report.csv").open() as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["model.keras", "float32.tflite", "fp16.tflite", "dynamic.tflite", "int8.tflite"]
    int8 = rows["int8.tflite"]
    assert (int8["bytes"], float(int8["AP"]), int8["xnnpack_ops"]) == ("498765", 0.8391, "182")
    assert float(int8["median ms, XNNPACK, 1 thread"]) == 1.21
    assert (int8["on_size_front"], rows["dynamic.tflite"]["on_size_front"]) == ("True", "False")


def test_what_moved_against_an_earlier_run(tmp_path, full, capsys):
    rows = [
        export_row("int8", 498_765 + 100, 0.8400),
        latency_row("int8", 1.21 * 1.5),
        export_row("fp16", 842_112, 0.8211),
        export_row("dynamic", 521_000, 0.7, images=10),
    ]
    new = write_run(tmp_path / "new", rows)
    assert main([str(new), "--against", str(full[0])]) == 1
    said = capsys.readouterr().err
    assert "past the limit: fp16: AP 0.8421 -> 0.8211 (-0.0210)" in said
    assert "past the limit: int8: latency, XNNPACK, 1 thread 1.21 ms -> 1.81 ms (+50.0 %)" in said
    assert "dynamic: AP" not in said  # other images
    markdown = (new / "report" / "report.md").read_text()
    assert "| int8 | AP | 0.8391 | 0.8400 | +0.0009 | within |" in markdown
    assert "Gone: float32.tflite." in markdown
    limits = ["--max-drop", "0.03", "--max-slowdown", "0.6", "--images", "0"]
    assert main([str(new), "--against", str(full[0]), *limits]) == 0
    assert main([str(new), str(full[0]), "--against", str(full[0])]) == 2
    assert "give a single RUN" in capsys.readouterr().err


def test_a_training_that_was_stopped_says_so(tmp_path):
    run = write_run(tmp_path / "run", [row | {"step": 10 * row["epoch"]} for row in epoch_rows(3)])
    (run / "train.toml").write_text("steps = 1000\n")
    markdown, html = written(run)
    for page in (markdown, html):
        assert "The training stopped after 30 of 1,000 steps" in page


def test_layers_with_the_largest_errors(tmp_path):
    run = write_run(tmp_path / "run", [export_row("int8", 498_765, 0.8391)])
    (run / "artifacts").mkdir()
    layers = [{"layer": f"block{n}", "op": "ADD", "error": n / 100, "place": n + 1} for n in range(30)]
    (run / "artifacts" / "int8.json").write_text(json.dumps({"layers": layers}))
    markdown, html = written(run)
    assert "### Quantization error by layer: int8" in markdown
    assert "| block29 | ADD | 0.2900 |\n| block28 |" in markdown
    assert "block9 " not in markdown
    assert "<summary><h3>Quantization error by layer: int8</h3></summary>" in html
    assert (
        "![Quantization errors of the layers of int8, and the largest by name](layer-errors.png)" in markdown
    )
    with Image.open(run / "report" / "layer-errors.png") as chart:
        whole = chart.height
    for one in layers:
        del one["place"]  # as earlier versions wrote them
    (run / "artifacts" / "int8.json").write_text(json.dumps({"layers": layers}))
    written(run)
    with Image.open(run / "report" / "layer-errors.png") as chart:
        assert chart.height < whole


def test_multiply_adds_and_delegated_share_have_charts_where_they_differ(tmp_path):
    rows = [export_row("float32", 1_654_320, 0.84), export_row("int8", 498_765, 0.83, delegated_ops=91)]
    run = read_run(write_run(tmp_path / "run", rows), 0)
    assert [one.name for one in draw_charts([run])] == ["accuracy-size", "accuracy-delegated"]
    assert run.best_by_delegation() == {"float32.tflite"}
    pruned = replace(run, artifacts=tuple(replace(one, macs=one.size) for one in run.artifacts if one.size))
    assert "accuracy-macs" in [one.name for one in draw_charts([pruned])]
    assert pruned.best_by_macs() == {"float32.tflite", "int8.tflite"}


def test_what_quantize_leaves_is_an_artifact(tmp_path):
    row = {
        "kind": "compression",
        "artifact": "prune50-int8.tflite",
        "recipe": {"name": "prune50-int8"},
        "split": "test",
        "images": 500,
        "metric": "AP",
        "before": 0.842,
        "after": 0.832,
        "interval": [0.004, 0.016],
        "bytes": 498_765,
        "total_ops": 182,
        "delegated_ops": 182,
        "partitions": 1,
        "passed": True,
        "beside": [{"artifact": "float32", "bytes": 997_530}],
    }
    older = {name: value for name, value in row.items() if name != "artifact"}
    markdown, _ = written(write_run(tmp_path / "run", [older, row]))
    expected = ["prune50-int8", "0.8320", "0.0100", "498.8 kB", "2.00x", "0.0040 to 0.0160"]
    assert cells(markdown, "prune50-int8")[:6] == expected
    assert cells(markdown, "Keras float model")[1] == "0.8420"
