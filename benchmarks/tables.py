"""The measured figures as Markdown, for the documents: `python -m benchmarks.tables`."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.facts import KINDS
from benchmarks.summary import folder

MODES = {
    "single": "each fact alone, from the original weights",
    "batch": "all facts at once",
    "sequence": "one after another on the same model, all scored at the end",
}


def speed_table(found: dict[str, Any]) -> list[str]:
    """Return one line per run: ours, the peer's, their ratio."""
    lines = [
        "| method | run | ours, s per edit | peer, s per edit | ratio | ours, MB | peer, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, measured in found.items():
        for part in measured.get("parts", []) if isinstance(measured, dict) else []:
            ours, peer = part["ours"], part.get("peer", {})
            against = f" beside {peer['method']}" if peer.get("method", name) != name else ""
            cells = [
                f"{name}{against}",
                f"{part['facts']}, {part['mode']}{_parts(part)}",
                _per_edit(ours),
                _per_edit(peer),
                f"**{part['ratio']:.1f}**" if "ratio" in part else "-",
                _megabytes(ours),
                _megabytes(peer),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def answers_table(found: dict[str, Any]) -> list[str]:
    """Return the quality of the runs whose speed was measured, ours and the peer's."""
    lines = [f"| method | run | ours: {' / '.join(KINDS)} | peer |", "|---|---|---|---|"]
    for name, measured in found.items():
        for part in measured.get("parts", []) if isinstance(measured, dict) else []:
            run = f"{part['facts']}, {part['mode']}{_parts(part)}"
            both = (_shares(part["ours"]), _shares(part.get("peer", {})))
            lines.append(f"| {' | '.join([name, run, *both])} |")
    return lines


def quality_table(mode: str, rows: dict[str, Any]) -> list[str]:
    """Return one line per method of one mode."""
    lines = [
        f"50 facts, {MODES[mode]}:",
        "",
        "| method | efficacy | paraphrase | other people | same person | general | MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        if "quality" not in row:
            lines.append(f"| {name} | failed: {row.get('failed', 'no answers')} | | | | | |")
            continue
        cells = [name, _shares(row, " | "), _megabytes(row)]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def growth_table(found: dict[str, Any]) -> list[str]:
    """Return the cost per edit at the start and at the end of thousands of edits."""
    lines = [
        "| method | edits | first, s per edit | last, s per edit | last / first |",
        "|---|---|---|---|---|",
    ]
    for name, row in found.items():
        lines.append(
            f"| {name} | {row['edits']:,} | {row['first_seconds_per_edit']:.3f} |"
            f" {row['last_seconds_per_edit']:.3f} | {row['last_over_first']:.2f} |"
        )
    return lines


def _shares(row: dict[str, Any], between: str = " / ") -> str:
    found = row.get("quality")
    return between.join(f"{found[kind]:.3f}" for kind in KINDS) if found else "-"


def _parts(part: dict[str, Any]) -> str:
    size = part["batch_size"]
    return f" of batches of {size}" if 1 < size < part["facts"] else ""


def _per_edit(row: dict[str, Any]) -> str:
    return f"{row['total_seconds'] / row['edits']:.3g}" if "total_seconds" in row else "-"


def _megabytes(row: dict[str, Any]) -> str:
    return f"{row['peak_rss_mb']:.0f}" if "peak_rss_mb" in row else "-"


def main() -> None:
    """Print every table that the summary has figures for."""
    found = json.loads((folder() / "summary.json").read_text(encoding="utf-8"))["editing"]
    lines = [*speed_table(found), "", *answers_table(found)]
    for mode in MODES:
        if mode in found.get("quality", {}):
            lines += ["", *quality_table(mode, found["quality"][mode])]
    for name in ("growth", "growth-fixed"):
        if name in found:
            lines += ["", *growth_table(found[name])]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
