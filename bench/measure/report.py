# SPDX-License-Identifier: Apache-2.0
"""The table and the chart."""

import os
import platform
import statistics
import time

from .common import SETUP


def table(bench):
    out = [f"Linux {platform.release()}, {os.cpu_count()} CPUs, {time.strftime('%Y-%m-%d')}, load {bench.load:.1f} at the start; medians"]
    lives = bench.part("lives")
    if lives:
        out += lives_table(bench, lives)
    for title, why in bench.missing.items():
        out += ["", f"**MISSING: {title}**: {why}: `{SETUP}`"]
    out += ["", "| davit | measured | goal | |", "|---|---:|---:|---|"]
    for what, measured, goal, met in bench.goals():
        out.append(f"| {what} | {measured} | {goal} | {'' if met is None else 'met' if met else '**not met**'} |")
    for part in bench.parts:
        for note in part.notes():
            out += ["", note]
    return "\n".join(out) + "\n"


def lives_table(bench, lives):
    j = bench.options.side_by_side
    out = ["", f"| runtime | whole life | to the floor | {j} side by side | |", "|---|---:|---:|---:|---|"]
    for subject in lives.subjects:
        life = lives.lives.get(subject.name)
        rate = lives.rates.get(subject.name)
        to_floor = lives.ratio(subject.name, "floor")
        out.append(f"| {subject.title} | {statistics.median(life):.2f} ms | {f'{to_floor:.2f} ×' if to_floor else ''} | "
                   f"{f'{statistics.median(rate):.0f} lives/s' if rate else ''} | {subject.note} |")
    return out


def chart(bench, lives):
    bars = [(s.title, statistics.median(lives.lives[s.name]), s.name) for s in lives.subjects if s.name in lives.lives]
    rates = [(s.title, statistics.median(lives.rates[s.name]), s.name) for s in lives.subjects if s.name in lives.rates]
    floor = statistics.median(lives.lives["floor"]) if "floor" in lives.lives else None
    top = "Whole life of a container: create, start /bin/true, exit seen, delete (ms, less is better)"
    bottom = f"{bench.options.side_by_side} side by side (lives a second, more is better)"
    parts, y = panel(top, bars, 40, "{:.1f} ms", floor and ("davit's goal: 1.5 × floor", floor * 1.5))
    more, y = panel(bottom, rates, y + 30, "{:.0f}", None)
    note = f"Linux {platform.release()}, {os.cpu_count()} CPUs. Same bundle for all, in turns, medians of {bench.options.rounds} rounds."
    if bench.missing:
        note += " Missing: " + ", ".join(bench.missing) + "."
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="860" height="{y + 40}" viewBox="0 0 860 {y + 40}" '
            f'font-family="sans-serif" font-size="13">\n<rect width="100%" height="100%" fill="white"/>\n'
            + parts + more + f'<text x="20" y="{y + 20}" fill="#666" font-size="11">{escape(note)}</text>\n</svg>\n')


def escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def panel(title, bars, y, form, line):
    """One group of bars; answers its SVG and the y below it."""
    left, width, height = 170, 580, 22
    most = max([v for _, v, _ in bars] + [line[1] if line else 0], default=0) or 1
    out = f'<text x="20" y="{y - 14}" font-weight="bold">{escape(title)}</text>\n'
    top = y
    for name, value, key in bars:
        w = max(1.0, width * value / most)
        color = {"davit": "#1b7f5c", "floor": "#b0b0b0"}.get(key, "#6a8fc0")
        out += (f'<text x="{left - 10}" y="{y + 16}" text-anchor="end">{escape(name)}</text>'
                f'<rect x="{left}" y="{y}" width="{w:.1f}" height="{height}" fill="{color}"/>'
                f'<text x="{left + w + 6:.1f}" y="{y + 16}">{form.format(value)}</text>\n')
        y += height + 8
    if line:
        x = left + width * line[1] / most
        out += (f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top - 4}" y2="{y}" stroke="#c03030" stroke-dasharray="4 3"/>'
                f'<text x="{x + 4:.1f}" y="{y + 12}" fill="#c03030" font-size="11">{escape(line[0])}</text>\n')
        y += 18
    return out, y + 10
