"use strict";
(() => {
  // Tables sort by a click on a column's head; the first puts the best on top.
  const compare = (a, b) => {
    const x = Number(a), y = Number(b);
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
  };

  const sortable = (table) => {
    const heads = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    const given = [...body.rows];
    let sorted = given;
    heads.forEach((head, place) => {
      head.querySelector("button").addEventListener("click", () => {
        const before = head.getAttribute("aria-sort");
        const down = before ? before === "ascending" : head.dataset.best === "high";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const keyed = given.map((row) => [row.cells[place].dataset.sort ?? "", row]);
        keyed.sort(([a], [b]) => {
          // What is undefined comes last in either direction.
          if (a === "" || b === "") return (a === "") - (b === "");
          return down ? compare(b, a) : compare(a, b);
        });
        sorted = keyed.map(([, row]) => row);
        body.append(...sorted);
      });
    });
    // Paper has the order of the ranking, whatever was clicked.
    addEventListener("beforeprint", () => body.append(...given));
    addEventListener("afterprint", () => body.append(...sorted));
  };
  document.querySelectorAll("table.sortable").forEach(sortable);

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
      mark();
    };
    group.prepend(bar);
    group.classList.add("live");
    show(panels[0]);
  }

  // What does not fit its frame says so; what fits takes no stop of the Tab key.
  function mark() {
    for (const frame of document.querySelectorAll(".scroll, .drawn")) {
      const wider = frame.scrollWidth > frame.clientWidth + 1;
      frame.classList.toggle("wider", wider);
      if (wider) frame.setAttribute("tabindex", "0");
      else frame.removeAttribute("tabindex");
    }
  }
  addEventListener("resize", mark);
  document.addEventListener("toggle", mark, true);
  mark();
})();
