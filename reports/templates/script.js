"use strict";
(() => {
  const compare = (a, b) => {
    const x = Number(a), y = Number(b);
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    heads.forEach((head, place) => {
      head.querySelector("button").addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const keyed = [...body.rows].map((row) => [row.cells[place].dataset.sort, row]);
        keyed.sort(([a], [b]) => {
          // What is undefined comes last in either direction.
          if (a === "" || b === "") return (a === "") - (b === "");
          return down ? compare(b, a) : compare(a, b);
        });
        body.append(...keyed.map(([, row]) => row));
      });
    });
  }

  for (const group of document.querySelectorAll(".panels")) {
    const panels = [...group.querySelectorAll(":scope > .panel")];
    if (panels.length < 2) continue;
    const bar = document.createElement("div");
    bar.className = "choice";
    bar.setAttribute("role", "group");
    bar.setAttribute("aria-label", group.getAttribute("aria-label"));
    const buttons = panels.map((panel) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = panel.dataset.title;
      button.addEventListener("click", () => show(panel));
      bar.append(button);
      return button;
    });
    const show = (chosen) => {
      panels.forEach((panel, place) => {
        panel.classList.toggle("away", panel !== chosen);
        buttons[place].setAttribute("aria-pressed", String(panel === chosen));
      });
    };
    group.prepend(bar);
    group.classList.add("live");
    show(panels[0]);
  }
})();
