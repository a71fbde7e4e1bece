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

  // Every table as CSV, every picture as SVG: made here, so that the page holds nothing twice.
  const save = (name, type, text) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    URL.revokeObjectURL(link.href);
  };
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const csv = (table) => {
    const rows = [...table.rows].filter((row) => !row.classList.contains("away"));
    const noted = [...table.tHead.rows[0].cells].map((_, place) =>
      rows.some((row) => row.cells[place].querySelector("small")));
    return rows.map((row) => [...row.cells].flatMap((cell, place) => {
      const note = cell.querySelector("small")?.textContent ?? "";
      const head = row.parentElement === table.tHead;
      const copy = cell.cloneNode(true);
      copy.querySelectorAll("small").forEach((small) => small.remove());
      const shown = copy.textContent.trim();
      const exact = cell.classList.contains("number") && cell.dataset.sort ? cell.dataset.sort : shown;
      const found = [head ? shown : exact];
      if (noted[place]) found.push(head ? `${shown}: beside it` : note);
      return found.map(quoted);
    }).join(",")).join("\n") + "\n";
  };
  const svg = (picture) => {
    const copy = picture.cloneNode(true);
    const { width, height } = picture.viewBox.baseVal;
    copy.setAttribute("width", width);
    copy.setAttribute("height", height);
    copy.setAttribute("color", "#1b1f24");
    copy.setAttribute("font-family", "DejaVu Sans, sans-serif");
    return new XMLSerializer().serializeToString(copy);
  };
  const offer = (beside, text, label, make) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "save";
    button.textContent = text;
    button.setAttribute("aria-label", label);
    button.addEventListener("click", make);
    const caption = beside.parentElement.querySelector(":scope > figcaption");
    if (caption) caption.append(" ", button);
    else beside.after(button);
  };
  document.querySelectorAll(".scroll").forEach((frame, place) => {
    const table = frame.querySelector("table");
    const file = `${document.body.dataset.suite}-table-${place + 1}.csv`;
    offer(frame, "CSV", `Table ${place + 1} as CSV`, () => save(file, "text/csv", csv(table)));
  });
  document.querySelectorAll(".drawn").forEach((frame, place) => {
    const file = `${document.body.dataset.suite}-picture-${place + 1}.svg`;
    const picture = frame.querySelector("svg");
    offer(frame, "SVG", `Picture ${place + 1} as SVG`, () => save(file, "image/svg+xml", svg(picture)));
  });

  // What a mark in a picture shows is said under the pointer, and under the arrow keys.
  const tip = document.querySelector("#tip");
  const words = (mark) => mark.querySelector("title").textContent;
  const say = (mark) => {
    tip.hidden = !mark;
    if (!mark) return;
    tip.textContent = words(mark);
    const at = mark.getBoundingClientRect();
    const { width, height } = tip.getBoundingClientRect();
    const left = Math.min(Math.max(8, at.left + at.width / 2 - width / 2), innerWidth - width - 8);
    tip.style.left = `${left}px`;
    tip.style.top = `${at.top - height - 8 > 0 ? at.top - height - 8 : at.bottom + 8}px`;
  };
  for (const frame of document.querySelectorAll(".drawn")) {
    const marks = [...frame.querySelectorAll(".mark")];
    if (!marks.length) continue;
    // One stop of the Tab key a picture, or one would never get past it.
    marks[0].setAttribute("tabindex", "0");
    const of = (event) => event.target.closest?.(".mark");
    frame.addEventListener("pointerover", (event) => say(of(event)));
    frame.addEventListener("pointerout", () => say(null));
    frame.addEventListener("focusin", (event) => say(of(event)));
    frame.addEventListener("focusout", () => say(null));
    frame.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const place = marks.indexOf(document.activeElement);
      if (event.key === "Escape") say(null);
      if (!step || place < 0) return;
      event.preventDefault();
      // An interval and its point are one stop.
      const shown = marks.filter((mark, other) => mark === marks[place] ||
        (!mark.classList.contains("faint") && words(mark) !== words(marks[place]) &&
          (other === 0 || words(mark) !== words(marks[other - 1]))));
      const from = shown.indexOf(marks[place]);
      const next = shown[(from + step + shown.length) % shown.length];
      if (!next) return;
      marks[place].setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
    });
  }
  addEventListener("scroll", () => say(null), { passive: true });

  // A filter by name over the rows of all tables; the address keeps it beside the section.
  const field = document.querySelector("#filter");
  const pick = () => {
    const words = field.value.toLowerCase().split(/[\s,]+/).filter(Boolean);
    const chosen = new Set();
    for (const row of document.querySelectorAll("tr[data-method]")) {
      const text = row.textContent.toLowerCase();
      const away = words.length > 0 && !words.some((word) => text.includes(word));
      row.classList.toggle("away", away);
      if (!away) chosen.add(row.dataset.method);
    }
    for (const mark of document.querySelectorAll(".mark")) {
      mark.classList.toggle("faint", words.length > 0 && !chosen.has(mark.dataset.method));
    }
  };
  const restore = () => {
    const [, asked = ""] = location.hash.split("?");
    const wanted = new URLSearchParams(asked).get("methods");
    if (wanted !== null && wanted !== field.value) {
      field.value = wanted;
      pick();
    }
    const [section] = location.hash.slice(1).split("?");
    if (asked && section) document.getElementById(section)?.scrollIntoView();
  };
  field.addEventListener("input", () => {
    pick();
    const [section] = location.hash.slice(1).split("?");
    const kept = field.value ? `?${new URLSearchParams({ methods: field.value })}` : "";
    history.replaceState(null, "", `#${section || "leaderboard"}${kept}`);
  });
  field.closest("[hidden]").hidden = false;
  addEventListener("hashchange", restore);
  restore();
})();
