"""`effkeras data check DIR`: lists all problems of a data set, and what is in it."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from effkeras.commands.data.anchors import as_json, check_anchors, detector, print_anchors
from effkeras.commands.data.convert import hint_to_train
from effkeras.data.checking import Finding, Kind, Report, check, repaired
from effkeras.data.records import DetectionData, ReadOptions
from effkeras.data.rewriting import check_target, format_to_write, write_whole
from effkeras.data.statistics import ClassRow, class_rows
from effkeras.support.console import result, run_command, say, table
from effkeras.support.errors import printable, printable_lines
from effkeras.support.options import MODEL_HELP, Verb, add_json, add_one_based, help_width, parser

VERB = Verb("data check", "list all problems of a data set; write a repaired copy")
FOUND = 1  # the exit code when there are problems
_SHOWN, _SHOWN_REMARKS, _SHOWN_CLASSES = 10, 3, 30


def main(argv: Sequence[str] | None = None) -> int:
    """Checks a data set; returns 1 when there are problems."""
    return run_command(lambda: _run(argv), resumes=True)


def _run(argv: Sequence[str] | None) -> int:
    chosen = _parser().parse_args(argv)
    spec = detector(chosen.model) if chosen.model else None
    if chosen.fix:
        check_target(chosen.fix, chosen.dir)
    options = ReadOptions(skip_bad=True, masks=not chosen.no_decode, one_based=chosen.one_based)
    report = check(chosen.dir, options, decode=not chosen.no_decode)
    rows = class_rows(report.splits)
    fit = check_anchors(chosen.model, spec, report.splits) if spec else None
    result(lambda: _as_json(report, rows) | ({"anchors": as_json(fit)} if fit else {}))
    _print_contents(report, rows)
    if fit:
        print_anchors(fit)
    _print_findings(report)
    if chosen.fix:
        splits = repaired(report)
        write_whole(chosen.fix, splits, format_to_write(chosen.dir, splits))
    say(_ending(report, chosen.fix))
    if not report.has_problems:
        hint_to_train(chosen.dir, report.splits)
    return FOUND if report.has_problems else 0


def _parser() -> argparse.ArgumentParser:
    options = parser(
        VERB.name, "Lists all problems of a data set at once. Exit code 0: no problems; 1: there are some."
    )
    options.add_argument("dir", type=Path, metavar="DIR", help="the data set: a folder or file of any format")
    options.add_argument("--model", help=f"a detector whose anchors to check: {MODEL_HELP}")
    options.add_argument(
        "--no-decode",
        action="store_true",
        help="read only the headers of image files: faster, but finds no damaged images and no duplicates",
    )
    options.add_argument(
        "--fix",
        type=Path,
        metavar="DIR",
        help="write a copy without bad items, with boxes clipped and sizes corrected",
    )
    add_json(options)
    add_one_based(options)
    return options


def _print_contents(report: Report, rows: Sequence[ClassRow]) -> None:
    splits = report.splits
    images = ", ".join(f"{data.split} {len(data.records):,}" for data in splits)
    boxes = [len(one.boxes) for data in splits if isinstance(data, DetectionData) for one in data.records]
    counts = [_count(sum(len(data.records) for data in splits), "image") + f" ({images})"]
    counts += [_count(sum(boxes), "box")] if sum(boxes) else []
    say(_wrapped(f"{report.root}: {report.format}; {', '.join(counts)}, {_count(len(rows), 'class')}"))
    if not any(sum(row.counts) for row in rows):  # label maps
        say(_wrapped(f"classes: {', '.join(row.label for row in rows)}") + "\n")
        return
    shown = sorted(rows, key=lambda row: sum(row.counts))[:_SHOWN_CLASSES]
    shown = [row for row in rows if row in shown]
    is_all = len(shown) == len(rows)
    columns = ["class", *(data.split for data in splits)]
    if boxes:
        columns += ["small", "medium", "large", "of image"]
    table(
        "" if is_all else f"the {len(shown)} rarest of {len(rows)} classes (--json has all)",
        columns,
        [_cells(row, has_boxes=bool(boxes)) for row in shown],
    )
    if boxes:
        say("small, medium, large: boxes below 32 x 32, 96 x 96 pixels, above (COCO)")
        say("of image: the share of its image that a box covers (median)\n")


def _count(count: int, noun: str) -> str:
    """A count with its noun: 1 box, 2 boxes."""
    plural = "es" if noun[-1] in "sx" else "s"
    return f"{count:,} {noun}{'' if count == 1 else plural}"


def _cells(row: ClassRow, *, has_boxes: bool) -> list[str]:
    cells = [printable(row.label, 24), *(f"{count:,}" for count in row.counts)]
    if has_boxes:
        total = sum(row.sizes)
        cells += [f"{count / total:.0%}" if total else "-" for count in row.sizes]
        cells.append(f"{row.share:.2%}" if total else "-")
    return cells


def _print_findings(report: Report) -> None:
    for kind, found in report.by_kind().items():
        say(f"{kind.title}: {len(found):,}")
        most = _SHOWN if kind.is_problem else _SHOWN_REMARKS
        for one in found[:most]:
            say(_wrapped(f"  {_text(one)}", indent="    "))
        if len(found) > most:
            say(f"  and {len(found) - most:,} more")
        say("")


def _text(one: Finding) -> str:
    parts = [part for part in (one.split if one.split != one.where else "", one.where, one.why) if part]
    return printable(": ".join(parts))


def _wrapped(text: str, indent: str = "  ") -> str:
    text = printable_lines(text)
    start = text[: len(text) - len(text.lstrip())]
    return textwrap.fill(
        text.strip(), help_width(), initial_indent=start, subsequent_indent=indent, break_on_hyphens=False
    )


def _ending(report: Report, fixed: Path | None) -> str:
    problems = sum(1 for one in report.findings if one.kind.is_problem)
    if not problems:
        return "no problems found"
    found = f"{_count(problems, 'problem')} found"
    return f"{found}; the repaired copy is {fixed}" if fixed else f"{found}; --fix OUT writes a repaired copy"


def _as_json(report: Report, rows: Sequence[ClassRow]) -> dict[str, Any]:
    splits = [data.split for data in report.splits]
    return {
        "data": str(report.root),
        "format": report.format,
        "images": {data.split: len(data.records) for data in report.splits},
        "classes": [_class_table(row, splits) for row in rows],
        "problems": dict(_kinds(report, are_problems=True)),
        "remarks": dict(_kinds(report, are_problems=False)),
    }


def _class_table(row: ClassRow, splits: Sequence[str]) -> dict[str, Any]:
    sizes = dict(zip(("small", "medium", "large"), row.sizes, strict=True))
    return {
        "name": row.label,
        "counts": dict(zip(splits, row.counts, strict=True)),
        **sizes,
        "share": row.share,
    }


def _kinds(report: Report, *, are_problems: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    for kind, found in report.by_kind().items():
        if kind.is_problem == are_problems:
            yield kind.key, _kind_table(kind, found)


def _kind_table(kind: Kind, found: Sequence[Finding]) -> dict[str, Any]:
    items = [{"split": one.split, "where": one.where, "why": one.why} for one in found]
    return {"title": kind.title, "count": len(found), "items": items}
