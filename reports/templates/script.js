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
    for (const frame of document.querySelectorAll(".scroll, .drawn, pre")) {
      const wider = frame.scrollWidth > frame.clientWidth + 1;
      if (!frame.matches("pre")) frame.classList.toggle("wider", wider);
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
    const all = () => [...frame.querySelectorAll(".mark")];
    // One stop of the Tab key a picture, or one would never get past it.
    all()[0]?.setAttribute("tabindex", "0");
    const of = (event) => event.target.closest?.(".mark");
    frame.addEventListener("pointerover", (event) => say(of(event)));
    frame.addEventListener("pointerout", () => say(null));
    frame.addEventListener("focusin", (event) => say(of(event)));
    frame.addEventListener("focusout", () => say(null));
    frame.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const marks = all();
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
    const known = new Set(), chosen = new Set();
    for (const row of document.querySelectorAll("tr[data-method]")) {
      const text = row.textContent.toLowerCase();
      const away = words.length > 0 && !words.some((word) => text.includes(word));
      row.classList.toggle("away", away);
      known.add(row.dataset.method);
      if (!away) chosen.add(row.dataset.method);
    }
    for (const mark of document.querySelectorAll(".mark")) {
      const { method } = mark.dataset;
      // A map's row may be a data set, which no filter by methods is about.
      mark.classList.toggle("faint", words.length > 0 && known.has(method) && !chosen.has(method));
    }
  };
  const state = () => new URLSearchParams(location.hash.split("?")[1] ?? "");
  const keep = (section, changes) => {
    const kept = state();
    for (const [name, value] of Object.entries(changes)) {
      if (value) kept.set(name, value);
      else kept.delete(name);
    }
    history.replaceState(null, "", `#${section}${kept.size ? `?${kept}` : ""}`);
  };

  // What is picked of the numbers, as a table and a picture.
  const asking = document.querySelector("#ask");
  const boards = JSON.parse(document.querySelector("#numbers")?.textContent ?? '{"boards":[]}').boards;
  const picks = Object.fromEntries([...(asking?.querySelectorAll("select") ?? [])].map((one) => [one.name, one]));
  const fill = (select, pairs) => {
    const before = select.value;
    select.replaceChildren(...pairs.map(([key, said]) => new Option(said, key)));
    if (pairs.some(([key]) => key === before)) select.value = before;
    select.closest("label").hidden = pairs.length < 2;
  };
  // Each choice is among the boards that those before it have left.
  const chosen = () => {
    let left = boards;
    for (const [name, of] of [["tier", (one) => [one.tier, one.tier]], ["track", (one) => [one.track, one.track]], ["metric", (one) => one.metric]]) {
      fill(picks[name], [...new Map(left.map(of)).entries()]);
      left = left.filter((one) => of(one)[0] === picks[name].value);
    }
    return left[0];
  };
  const made = (name, attributes = {}, text = null) => {
    const element = document.createElementNS(document.querySelector("#asked-picture").namespaceURI, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== null) element.textContent = text;
    return element;
  };
  const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;
  const row = (one, place) => {
    const line = document.createElement("tr");
    line.dataset.method = one.method;
    const cells = [place + 1, one.method + (one.reference ? " (reference)" : ""), ...one.skill];
    cells.forEach((value, at) => {
      const cell = document.createElement(at === 1 ? "th" : "td");
      if (at === 1) cell.scope = "row";
      cell.className = at === 1 ? "word" : "number";
      cell.dataset.sort = value;
      cell.textContent = at > 1 ? signed(value) : value;
      line.append(cell);
    });
    return line;
  };
  const forest = (rows, title) => {
    const [left, right, high, low] = [190, 740, 22, -1];
    const from = Math.max(low, Math.min(0, ...rows.map((one) => one.skill[1])) - 0.03);
    const to = Math.max(0.1, ...rows.map((one) => one.skill[2])) + 0.03;
    const x = (value) => left + ((Math.min(Math.max(value, from), to) - from) / (to - from)) * (right - left);
    const picture = document.querySelector("#asked-picture");
    const height = high * rows.length + 46;
    picture.setAttribute("viewBox", `0 0 760 ${height}`);
    picture.setAttribute("aria-label", title);
    const step = [0.02, 0.05, 0.1, 0.2, 0.5].find((size) => (to - from) / size <= 9) ?? 1;
    const parts = [];
    for (let tick = Math.ceil(from / step) * step; tick <= to; tick += step) {
      parts.push(made("line", { x1: x(tick), x2: x(tick), y1: 4, y2: height - 40, stroke: "currentColor", "stroke-opacity": Math.abs(tick) < 1e-9 ? 0.9 : 0.15 }));
      parts.push(made("text", { x: x(tick), y: height - 24, "text-anchor": "middle", fill: "currentColor" }, (Math.abs(tick) < 1e-9 ? 0 : tick).toFixed(2).replace("-", "−")));
    }
    parts.push(made("text", { x: (left + right) / 2, y: height - 6, "text-anchor": "middle", fill: "currentColor" }, "skill; below −1 at the edge"));
    rows.forEach((one, place) => {
      const y = 16 + high * place;
      const [value, lower, upper] = one.skill;
      const mark = made("g", { class: "mark", "data-method": one.method, tabindex: place ? -1 : 0, role: "img" });
      mark.append(
        made("title", {}, `${one.method}: skill ${signed(value)} [${signed(lower)}, ${signed(upper)}]`),
        made("rect", { x: left, y: y - high / 2, width: right - left, height: high, fill: "transparent" }),
        made("line", { x1: x(lower), x2: x(upper), y1: y, y2: y, stroke: one.colour, "stroke-width": 2.2 }),
        made("circle", { cx: x(value), cy: y, r: 4, fill: one.colour }),
      );
      parts.push(made("text", { x: left - 10, y: y + 4, "text-anchor": "end", fill: "currentColor" }, one.method.length > 28 ? `${one.method.slice(0, 27)}…` : one.method), mark);
    });
    picture.replaceChildren(...parts);
  };
  // The same picks at each horizon: lines through skills, with their intervals.
  const curves = (board, set, rows) => {
    const places = board.at.map(([key], place) => [key, place]).filter(([key]) => key && key !== "length");
    const figure = document.querySelector("#asked-horizons");
    figure.hidden = places.length < 2;
    if (figure.hidden) return;
    const [left, right, top, bottom] = [60, 560, 12, 250];
    const drawn = rows.map((one) => ({ ...one, at: places.map(([, place]) => board.skills[set][place][board.methods.indexOf(one.method)]) }));
    const known = drawn.flatMap((one) => one.at.filter(Boolean));
    const from = Math.max(-1, Math.min(0, ...known.map((skill) => skill[1])) - 0.03);
    const to = Math.max(0.1, ...known.map((skill) => skill[2])) + 0.03;
    const y = (value) => bottom - ((Math.min(Math.max(value, from), to) - from) / (to - from)) * (bottom - top);
    const x = (place) => left + ((place + 0.5) / places.length) * (right - left);
    const picture = document.querySelector("#asked-curves");
    const height = Math.max(300, 20 * drawn.length + 30);
    const said = "The same picks at each horizon: skills with their intervals, below −1 at the edge";
    picture.setAttribute("viewBox", `0 0 760 ${height}`);
    picture.setAttribute("aria-label", said);
    figure.querySelector("figcaption").firstChild.textContent = `${said}. `;
    const parts = [];
    const step = [0.05, 0.1, 0.2, 0.5].find((size) => (to - from) / size <= 8) ?? 1;
    for (let tick = Math.ceil(from / step) * step; tick <= to; tick += step) {
      const zero = Math.abs(tick) < 1e-9;
      parts.push(made("line", { x1: left, x2: right, y1: y(tick), y2: y(tick), stroke: "currentColor", "stroke-opacity": zero ? 0.9 : 0.15 }));
      parts.push(made("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end", fill: "currentColor" }, (zero ? 0 : tick).toFixed(2).replace("-", "−")));
    }
    places.forEach(([key], place) => parts.push(made("text", { x: x(place), y: bottom + 18, "text-anchor": "middle", fill: "currentColor" }, key.replace(/^h/, ""))));
    parts.push(made("text", { x: (left + right) / 2, y: bottom + 36, "text-anchor": "middle", fill: "currentColor" }, "snapshots ahead"));
    drawn.forEach((one, place) => {
      const beside = ((place + 0.5) / drawn.length - 0.5) * 0.5 * ((right - left) / places.length);
      const dash = place % 3 === 1 ? "6 3" : place % 3 === 2 ? "2 3" : "none";
      const mark = made("g", { class: "mark", "data-method": one.method, tabindex: place ? -1 : 0, role: "img" });
      const each = one.at.map((skill, at) => (skill ? `${places[at][0].replace(/^h/, "")}: ${signed(skill[0])} [${signed(skill[1])}, ${signed(skill[2])}]` : null)).filter(Boolean);
      mark.append(made("title", {}, `${one.method}: ${each.join("; ")}`));
      const line = one.at.map((skill, at) => (skill ? `${x(at) + beside},${y(skill[0])}` : null)).filter(Boolean);
      mark.append(made("polyline", { points: line.join(" "), fill: "none", stroke: one.colour, "stroke-width": 1.6, "stroke-dasharray": dash }));
      one.at.forEach((skill, at) => {
        if (!skill) return;
        mark.append(
          made("line", { x1: x(at) + beside, x2: x(at) + beside, y1: y(skill[1]), y2: y(skill[2]), stroke: one.colour, "stroke-width": 1.2 }),
          made("circle", { cx: x(at) + beside, cy: y(skill[0]), r: 3, fill: one.colour }),
        );
      });
      const row = 18 + 20 * place;
      mark.append(
        made("line", { x1: right + 16, x2: right + 40, y1: row - 4, y2: row - 4, stroke: one.colour, "stroke-width": 2, "stroke-dasharray": dash }),
        made("text", { x: right + 46, y: row, fill: "currentColor" }, one.method.length > 20 ? `${one.method.slice(0, 19)}…` : one.method),
      );
      parts.push(mark);
    });
    picture.replaceChildren(...parts);
  };
  const answer = () => {
    const board = chosen();
    fill(picks.set, board.sets);
    fill(picks.at, board.at);
    const set = Math.max(0, board.sets.findIndex(([key]) => key === picks.set.value));
    const at = Math.max(0, board.at.findIndex(([key]) => key === picks.at.value));
    const rows = board.methods
      .map((method, place) => ({ method, colour: board.colours[place], reference: board.references[place], skill: board.skills[set][at][place] }))
      .filter((one) => one.skill)
      .sort((a, b) => b.skill[0] - a.skill[0]);
    const track = board.track === "main" ? "" : `track ${board.track}, `;
    const said = `Skill in ${board.tier} by ${board.metric[1]} against ${board.baseline}: ${track}${board.at[at][1]}, ${board.sets[set][1]}`;
    document.querySelector("#asked caption span").textContent = said;
    asking.querySelector("figcaption").firstChild.textContent = `${said}. `;
    document.querySelector("#asked tbody").replaceChildren(...rows.map(row));
    forest(rows, said);
    curves(board, set, rows);
    pick();
    mark();
  };
  if (asking && boards.length) {
    for (const hidden of [asking, document.querySelector("#to-ask")]) hidden.hidden = false;
    asking.querySelectorAll("figcaption").forEach((caption) => caption.prepend(""));
    asking.addEventListener("change", () => {
      answer();
      keep("ask", Object.fromEntries(Object.values(picks).map((one) => [one.name, one.value])));
    });
    answer();
  }

  const restore = () => {
    const asked = state();
    const wanted = asked.get("methods");
    if (asking && boards.length && asked.has("tier")) {
      for (const name of ["tier", "track", "metric", "set", "at"]) {
        // An address from before a pick was there, or of another page, leaves the first choice.
        if (!asked.has(name) && !["set", "at"].includes(name)) continue;
        const known = [...picks[name].options].some((option) => option.value === asked.get(name));
        if (known) picks[name].value = asked.get(name);
        else picks[name].selectedIndex = 0;
        answer();
      }
    }
    if (wanted !== null && wanted !== field.value) {
      field.value = wanted;
      pick();
    }
    const [section] = location.hash.slice(1).split("?");
    if (asked.size && section) document.getElementById(section)?.scrollIntoView();
  };
  field.addEventListener("input", () => {
    pick();
    const [section] = location.hash.slice(1).split("?");
    keep(section || "leaderboard", { methods: field.value });
  });
  field.closest("[hidden]").hidden = false;
  addEventListener("hashchange", restore);
  restore();
})();
