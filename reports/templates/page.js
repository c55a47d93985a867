const made = (tag, properties, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

// Sort by a column, inside each group of rows.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, index) => {
    const button = made("button", { type: "button" }, ...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      for (const body of table.tBodies) {
        const key = (row) => row.cells[index].dataset.sort;
        const rows = [...body.rows].filter((row) => row.cells.length === heads.length);
        rows.sort((a, b) => {
          const [x, y] = [key(a), key(b)];
          if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
          const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
          return down ? -order : order;
        });
        body.append(...rows);
      }
    });
  });
}

// Filter the rows of a long table; copy the visible rows as tab-separated text.
const words = (cell) => {
  const note = cell.querySelector("small")?.textContent ?? "";
  const text = cell.textContent.trim();
  const told = note && text.endsWith(note) ? `${text.slice(0, -note.length).trim()} (${note})` : text;
  return told.replace(/\s+/g, " ");
};
for (const table of document.querySelectorAll("table")) {
  const rows = [...table.tBodies].flatMap((body) => [...body.rows]).filter((row) => row.cells.length > 1);
  const tools = made("div", { className: "tools" });
  if (rows.length >= 12) {
    const shown = made("output", { textContent: "" });
    const input = made("input", { type: "search", autocomplete: "off", spellcheck: false });
    input.addEventListener("input", () => {
      const wanted = input.value.toLowerCase();
      for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
      shown.textContent = wanted ? `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows` : "";
    });
    tools.append(made("label", {}, "Filter ", input), shown);
  }
  if (navigator.clipboard) {
    const button = made("button", { type: "button", textContent: "Copy" });
    button.setAttribute("aria-label", `Copy table: ${table.caption.textContent}`);
    button.addEventListener("click", async () => {
      const lines = [table.tHead.rows[0], ...rows.filter((row) => !row.hidden)];
      const text = lines.map((row) => [...row.cells].map(words).join("\t")).join("\n");
      const done = await navigator.clipboard.writeText(text).then(() => true, () => false);
      button.textContent = done ? "Copied" : "The browser forbids it";
      setTimeout(() => (button.textContent = "Copy"), 2000);
    });
    tools.append(button);
  }
  table.closest(".scroll").before(tools);
}

// Show the tooltip of an en dash without delay, also on touch screens.
const tip = made("div", { className: "tip", hidden: true });
tip.setAttribute("aria-hidden", "true"); // screen readers have the hidden reasons of dashes
document.body.append(tip);
for (const dash of document.querySelectorAll(".missing[title]")) {
  dash.dataset.tip = dash.title;
  dash.removeAttribute("title");
}
document.addEventListener("pointerover", (event) => {
  const dash = event.target.closest?.("[data-tip]");
  tip.hidden = !dash;
  if (!dash) return;
  tip.textContent = dash.dataset.tip;
  const place = dash.getBoundingClientRect();
  const left = place.left + place.width / 2 - tip.offsetWidth / 2;
  tip.style.left = `${Math.max(8, Math.min(left, innerWidth - tip.offsetWidth - 8))}px`;
  const above = place.top - tip.offsetHeight - 6;
  tip.style.top = `${above > 0 ? above : place.bottom + 6}px`;
});
document.addEventListener("scroll", () => (tip.hidden = true), true);
