"""How a table and its page look: light, dark, narrow and printed. States differ by letter and border, not by colour."""

TABLE_CSS = """\
.table-scroll { overflow-x: auto; container-type: inline-size; }
.mixgrid-table {
  --ink: #1a1a1a; --muted: #595959; --rule: #1a1a1a; --hair: #c8c8c8; --paper: #ffffff; --link: #0b57a4;
  border-collapse: separate; border-spacing: 0; color: var(--ink); background: var(--paper);
  font-variant-numeric: tabular-nums lining-nums; line-height: 1.35;
}
.mixgrid-table caption { caption-side: top; text-align: left; padding-bottom: 0.75rem; }
.mixgrid-table caption > div {
  position: sticky; left: 0; max-width: min(48rem, 100cqi); color: var(--muted); font-size: 0.9em; white-space: normal;
}
.mixgrid-table caption strong { color: var(--ink); display: block; }
.mixgrid-table thead th { border-top: 2px solid var(--rule); border-bottom: 1px solid var(--rule); }
.mixgrid-table tbody + tbody tr:first-child > * { border-top: 1px solid var(--hair); }
.mixgrid-table tbody:last-of-type tr:last-child > * { border-bottom: 2px solid var(--rule); }
.mixgrid-table th, .mixgrid-table td {
  padding: 0.3rem 0.7rem; text-align: right; vertical-align: top; font-weight: normal; white-space: nowrap;
}
.mixgrid-table th:first-child {
  text-align: left; white-space: normal; min-width: 7rem; max-width: 16rem; overflow-wrap: anywhere;
  position: sticky; left: 0; background: var(--paper);
}
.mixgrid-table tbody tr:not(.ours) > * { padding-top: 0; color: var(--muted); }
.mixgrid-table tbody tr:not(.ours) > th { padding-left: 1.7rem; }
.mixgrid-table .std { display: inline-block; min-width: var(--std); text-align: left; }
.mixgrid-table .leader strong { font-weight: 700; }
.mixgrid-table .incomplete .mean, .mixgrid-table .incomplete .std { color: var(--muted); }
.mixgrid-table .stale .mean, .mixgrid-table .stale .std { font-style: italic; }
.mixgrid-table .note { display: block; font-size: 0.8em; color: var(--muted); }
.mixgrid-table abbr {
  display: inline-block; min-width: 1em; padding: 0 0.25em; margin-left: 0.35em; text-align: center;
  border: 1px solid currentColor; border-radius: 0.3em; text-decoration: none; color: var(--ink); cursor: help;
}
.mixgrid-table .mark-missing { border-color: transparent; }
.mixgrid-table .mark-running { border-style: dotted; border-width: 2px; }
.mixgrid-table .mark-partial { border-style: dashed; }
.mixgrid-table .mark-failed { background: var(--ink); color: var(--paper); }
.mixgrid-table .mark-stale { border-style: double; border-width: 3px; }
.mixgrid-table a { color: var(--link); text-underline-offset: 0.2em; }
.mixgrid-table a:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
.mixgrid-table .unseen {
  position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap;
}
@media (prefers-color-scheme: dark) {
  .mixgrid-table {
    --ink: #ececec; --muted: #b3b3b3; --rule: #d0d0d0; --hair: #4a4a4a; --paper: #161616; --link: #8ec5ff;
  }
}
@media (max-width: 40rem) {
  .mixgrid-table th, .mixgrid-table td { padding: 0.3rem 0.45rem; }
  .mixgrid-table th:first-child { max-width: 8.5rem; }
  .mixgrid-table caption > div { font-size: 0.8em; }
}
@media print {
  .table-scroll { overflow: visible; container-type: normal; }
  .mixgrid-table {
    --ink: #000000; --muted: #333333; --rule: #000000; --hair: #888888; --paper: #ffffff; --link: #000000;
    font-size: 9pt;
  }
  .mixgrid-table caption > div, .mixgrid-table th:first-child { position: static; max-width: none; }
  .mixgrid-table tr, .mixgrid-table caption { break-inside: avoid; }
}
"""
PAGE_CSS = """\
:root { color-scheme: light dark; }
body {
  margin: 0; padding: 1.5rem; background: #ffffff; color: #1a1a1a;
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
}
main { max-width: 75rem; margin: 0 auto; }
h2 { font-size: 1.1rem; }
section, details { max-width: 46rem; margin-top: 1.5rem; font-size: 0.9rem; overflow-wrap: anywhere; }
ul { padding-left: 1.2rem; }
:focus-visible { outline: 3px solid #0b57a4; outline-offset: 2px; }
@media (prefers-color-scheme: dark) {
  body { background: #161616; color: #ececec; }
  :focus-visible { outline-color: #8ec5ff; }
}
@media (max-width: 40rem) { body { padding: 1rem; } }
@media print { body { padding: 0; background: #ffffff; color: #000000; } }
"""
