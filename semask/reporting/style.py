"""Style and script of a page: both are in it, and nothing is fetched."""

STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1b1d21; --soft: #565b63; --line: #c6cad1; --card: #f4f6f8;
 --link: #1d5ca8; --hit: #2b8a57; --miss: #c4382d; --c0: #1f5fbf; --c1: #b3470b; --c2: #1a7a4c;
 --c3: #8a3fa0; --c4: #a01f4f; --c5: #5f5a00 }
@media screen and (prefers-color-scheme: dark) { :root { --back: #15171a; --text: #e6e8eb; --soft: #a9b0ba;
 --line: #474d56; --card: #1f2226; --link: #8cbcf2; --hit: #1f7a49; --miss: #b03a30; --c0: #7fb2ff; --c1: #ffa266;
 --c2: #6fd6a0; --c3: #d9a5ee; --c4: #ff8fb3; --c5: #d8d46c } }
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 1180px; padding: 1.2em; background: var(--back);
 color: var(--text); overflow-wrap: anywhere }
h1 { font-size: 1.5em; line-height: 1.25 } h2 { margin-top: 2em; border-bottom: 1px solid var(--line) }
a { color: var(--link) } nav ul { padding: 0; display: flex; flex-wrap: wrap; gap: .2em 1.2em; list-style: none }
.skip { position: absolute; left: -99em } .skip:focus { position: static }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px }
.soft { color: var(--soft) }
.scroll { overflow-x: auto; margin: 1em 0; position: relative } table { border-collapse: collapse; font-size: 14px }
caption { text-align: left; font-weight: 600; padding: 4px 0 }
th, td { padding: 4px 10px; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top;
 font-variant-numeric: tabular-nums; overflow-wrap: normal; min-width: 3.2em }
td { white-space: nowrap } td.left { white-space: normal }
th[scope=row], td.left { text-align: left; overflow-wrap: break-word; min-width: 8.5em; max-width: 30em }
tbody th, tfoot th { position: sticky; left: 0; z-index: 1; background: var(--back) }
th[scope=row] { font-weight: 500 } thead th { vertical-align: bottom; max-width: 16em; overflow-wrap: break-word }
thead th:first-child { text-align: left } tfoot tr:first-child > * { border-top: 2px solid var(--soft) }
thead button { font: inherit; font-weight: 600; color: inherit; background: none; border: 0; padding: 0;
 cursor: pointer; text-align: inherit } thead button::after { content: "\\a0\\2195"; color: var(--soft) }
th[aria-sort=ascending] button::after { content: "\\a0\\2191" }
th[aria-sort=descending] button::after { content: "\\a0\\2193" }
.barred { display: flex; align-items: center; justify-content: flex-end; gap: 8px; white-space: nowrap }
.barred > :nth-child(2) { min-width: 2.4em }
.bar { position: relative; height: 10px; flex: 0 0 90px; background: var(--card) }
.bar i { position: absolute; top: 0; left: 0; height: 10px; background: var(--c0); opacity: .75 }
.bar .whisker { top: 4px; height: 2px; min-width: 2px; background: var(--text); opacity: 1;
 outline: 1px solid var(--back) }
.between { color: var(--soft); font-size: 12px; min-width: 6.8em } .sure { font-weight: 700 }
.each { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: 0 2em }
.each > div { min-width: 0 }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 440px), 1fr)); gap: 1em }
figure { margin: 0; break-inside: avoid } .charts figcaption { font-weight: 600 }
.charts svg { width: 100%; display: block }
.charts figure { background: var(--card); padding: .8em; border-radius: 6px } svg text { font-family: inherit }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 2px 1.2em; padding: 0; margin: .4em 0;
 font-size: 14px }
.charts .legend svg { width: 28px; height: 8px; display: inline-block; margin-right: 6px; vertical-align: middle }
.color { display: inline-block; width: 13px; height: 13px; margin-right: 6px; border: 1px solid var(--soft);
 vertical-align: -2px; print-color-adjust: exact }
.matrix td { text-align: center; padding: 3px 2px; min-width: 2.3em; border: 1px solid var(--back);
 print-color-adjust: exact } .matrix th[scope=row] { white-space: nowrap; padding-left: 0; min-width: 0 }
.matrix thead th span { writing-mode: vertical-rl; transform: rotate(180deg); font-weight: 500; white-space: nowrap }
.matrix thead th { text-align: center; padding: 3px; min-width: 0 } .matrix thead td { border: 0 }
td.hit { background: color-mix(in srgb, var(--hit) var(--s), transparent) }
td.miss { background: color-mix(in srgb, var(--miss) var(--s), transparent) }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); gap: .3em 1.5em }
dl div { border-bottom: 1px solid var(--line) } dt { color: var(--soft); font-size: 13px } dd { margin: 0 }
summary { cursor: pointer; padding: .4em 0; color: var(--link) }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); gap: 1.2em }
.layers { display: flex; flex-wrap: wrap; gap: 6px } .layer { flex: 1 1 150px; max-width: 100% }
.wide .layer { flex-basis: 100% }
.layer img { width: 100%; display: block; border: 1px solid var(--line) } .stack figcaption { font-size: 14px }
.live .layers { display: grid } .live .layer { grid-area: 1 / 1 } .live .layer small { display: none }
.slider { display: flex; gap: .6em; align-items: center; margin: .3em 0 } .slider input { flex: 1; min-width: 0 }
.slider output { min-width: 8.5em; font-size: 14px }
.stack:not(.live) .slider, .together { display: none }
.scripted .together { display: inline-block } .stack.wide { margin: 1em 0 }
@media (max-width: 480px) { .bar { flex-basis: 50px } th, td { padding: 4px 6px } body { padding: .9em } }
@page { margin: 14mm }
@media print { :root { color-scheme: light } body { max-width: none; font-size: 11pt; padding: 0 }
 nav, .slider, .skip, .together, .folded { display: none !important } h2, h3, caption, summary { break-after: avoid }
 section p { break-after: avoid; break-inside: avoid } dl div { break-inside: avoid } h2 { margin-top: 1em }
 .charts { grid-template-columns: 1fr 1fr } .pictures { display: block } .stack { margin-bottom: 1em }
 .layer { flex: 0 0 calc(25% - 6px) } .wide .layer { flex-basis: 100% }
 .columns .scroll { columns: 2; break-inside: auto } .columns caption { column-span: all }
 .scroll { overflow: visible; break-inside: avoid } tr { break-inside: avoid }
 .bar, .bar i { print-color-adjust: exact }
 .live .layers { display: flex } .live .layer { opacity: 1 !important } .live .layer small { display: inline }
 thead button::after { content: none } table { font-size: 9pt } th, td { padding: 2px 5px } }
"""
SCRIPT = """
"use strict";
document.body.classList.add("scripted");
for (const table of document.querySelectorAll("table[data-sorts]")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, place) => head.firstElementChild.addEventListener("click", () => {
    const first = place ? "descending" : "ascending", other = place ? "ascending" : "descending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    for (const one of heads) one.setAttribute("aria-sort", one === head ? order : "none");
    const sign = order === "ascending" ? 1 : -1, key = row => row.cells[place].dataset.v;
    const compare = (a, b) => {
      const x = key(a), y = key(b);
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      const numbers = Number(x) - Number(y);
      return sign * (Number.isNaN(numbers) ? x.localeCompare(y) : numbers);
    };
    body.append(...[...body.rows].sort(compare));
  }));
}
const together = document.querySelector(".together input");
const stacks = [];
for (const stack of document.querySelectorAll(".stack")) {
  const slider = stack.querySelector("input"), said = stack.querySelector("output");
  if (!slider) continue;
  const layers = [...stack.querySelectorAll(".layer")];
  const names = layers.map(layer => layer.querySelector("small").textContent);
  const show = () => {
    const at = Number(slider.value), near = Math.round(at);
    layers.forEach((layer, place) => {
      layer.style.opacity = place <= at ? 1 : Math.max(0, 1 - (place - at));
      layer.querySelector("img").setAttribute("aria-hidden", String(place !== near));
    });
    said.textContent = names[near];
    slider.setAttribute("aria-valuetext", names[near]);
  };
  const move = () => {
    const all = together && together.checked && !stack.classList.contains("wide");
    for (const one of all ? stacks : [{slider, show}]) {
      one.slider.value = slider.value;
      one.show();
    }
  };
  if (!stack.classList.contains("wide")) stacks.push({slider, show});
  slider.addEventListener("input", move);
  slider.addEventListener("keydown", event => {
    const by = {ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1}[event.key];
    if (!by) return;
    event.preventDefault();
    slider.value = (by > 0 ? Math.floor : Math.ceil)(slider.value) + by;
    move();
  });
  stack.classList.add("live");
  show();
}
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  for (const one of folded) one.open = true;
});
addEventListener("afterprint", () => { for (const one of folded) one.open = false; });
"""
