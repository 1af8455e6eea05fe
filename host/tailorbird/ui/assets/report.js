"use strict";
// Charts are complete without this script: it only lets pointer and arrow keys visit their points, and flips the theme.
const tip = document.getElementById("tip");

function show(plot, mark) {
  const svg = plot.querySelector("svg");
  const box = svg.getBoundingClientRect();
  const zoom = box.width / svg.viewBox.baseVal.width;
  const cursor = plot.querySelector(".cursor");
  cursor.setAttribute("cx", mark[0]);
  cursor.setAttribute("cy", mark[1]);
  plot.classList.add("active");
  tip.textContent = mark[2];
  const x = box.left + mark[0] * zoom;
  const left = Math.max(6, Math.min(x - tip.offsetWidth / 2, document.documentElement.clientWidth - tip.offsetWidth - 6));
  const above = box.top + mark[1] * zoom - tip.offsetHeight - 14;
  tip.style.left = left + window.scrollX + "px";
  tip.style.top = (above > 4 ? above : box.top + mark[1] * zoom + 16) + window.scrollY + "px";
}

function hide(plot) {
  plot.classList.remove("active");
  tip.textContent = "";
}

for (const plot of document.querySelectorAll(".plot")) {
  const svg = plot.querySelector("svg");
  const marks = JSON.parse(plot.querySelector("script").textContent);
  let place = -1;
  if (!marks.length) continue;
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const zoom = svg.viewBox.baseVal.width / box.width;
    const x = (event.clientX - box.left) * zoom;
    const y = (event.clientY - box.top) * zoom;
    let best = Infinity;
    marks.forEach((mark, i) => {
      const far = Math.hypot(mark[0] - x, mark[1] - y);
      if (far < best) [best, place] = [far, i];
    });
    if (best < 40) show(plot, marks[place]);
    else hide(plot);
  });
  svg.addEventListener("pointerleave", () => hide(plot));
  svg.addEventListener("blur", () => hide(plot));
  svg.addEventListener("keydown", (event) => {
    const moves = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: marks.length - 1 };
    if (event.key === "Escape") return hide(plot);
    if (!(event.key in moves)) return;
    event.preventDefault();
    place = Math.max(0, Math.min(moves[event.key], marks.length - 1));
    show(plot, marks[place]);
  });
}

document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  root.dataset.theme = (root.dataset.theme || system) === "dark" ? "light" : "dark";
});
