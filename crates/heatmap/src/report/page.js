"use strict";
{
  const data = JSON.parse(document.getElementById("data").textContent);
  const tip = document.getElementById("tip");
  const figures = document.getElementById("figures");

  // What can be switched. Those of a sheet go from the general to the particular: each offers what there is under
  // the choices before it.
  const OF_SHEET = ["workload", "rows", "backend", "device", "cache", "dtype", "adapters"];
  const SWITCHES = {
    metric: "Metric", workload: "Workload", rows: "Rows", backend: "Backend", device: "Device", cache: "Caches",
    dtype: "Type", adapters: "Adapters",
  };
  const METRICS = {
    "slowdown": "slow-down", "time": "time", "gflops": "GFLOP/s", "over-floor": "over the floor",
    "over-limit": "over the limit",
  };

  const views = data.views.map((view, number) => {
    const sheet = data.sheets[view.sheet];
    return {
      metric: view.metric, workload: sheet.workload, rows: sheet.rows.join(", "), backend: sheet.backend,
      device: sheet.device, cache: sheet.cache, dtype: sheet.dtype, adapters: sheet.adapters, sheet,
      element: document.getElementById(`view-${number}`),
    };
  });
  let current = views.find((view) => !view.element.hidden) ?? views[0];

  // ---- Numbers as texts.

  const fixed = (value, decimals) => {
    const text = value.toFixed(decimals);
    return /[1-9]/.test(text) ? text.replace("-", "−") : text.replace("-", "");
  };
  const UNITS = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"], [1, "ns"]];
  const unitOf = (ns) => UNITS.find(([unit]) => ns >= unit) ?? UNITS[3];
  const time = (record) => {
    const [unit, name] = unitOf(record.time_ns);
    const digits = (ns) => fixed(ns / unit, 3);
    return [digits(record.time_ns), interval(record.time_lo_ns, record.time_hi_ns, digits), name];
  };
  const interval = (low, high, text) => low === null || high === null ? "" : `${text(low)} to ${text(high)}`;
  const limit = (record) => {
    if (record.limit_ns === null) return "";
    const [unit, name] = unitOf(record.limit_ns);
    return `${fixed(record.limit_ns / unit, 3)} ${name}`;
  };
  const percent = (value) => fixed(value, 2);
  const slowdown = (record) => record.slowdown_pct === null ? ["", ""] : [
    percent(record.slowdown_pct), interval(record.slowdown_lo_pct, record.slowdown_hi_pct, percent),
  ];
  const bracketed = (text, note) => note === "" ? text : `${text} (${note})`;

  // ---- The record of a cell.

  const key = (method, seqLen, batch, rank) => [method, seqLen, batch, rank].join("\n");
  for (const sheet of data.sheets) {
    sheet.byCell = new Map(sheet.records.map((r) => [key(r.method, r.seq_len, r.batch, r.rank), r]));
  }
  const place = (cell) => {
    const { method, seqLen, batch, rank } = cell.dataset;
    return {
      title: `${method}, r = ${rank}`,
      where: `Seq Len ${seqLen} · Batch Size ${batch} · ${seqLen * batch} tokens`,
      record: current.sheet.byCell.get(key(method, seqLen, batch, rank)),
    };
  };

  /** What was measured, as pairs of a name and a text. */
  const facts = (record) => {
    const facts = [];
    const [median, range, unit] = time(record);
    facts.push(["Time", bracketed(`${median} ${unit}`, range && `95 %: ${range}`)]);
    const [slower, bounds] = slowdown(record);
    if (slower !== "") facts.push(["Slow-down", bracketed(`${slower} %`, bounds && `95 %: ${bounds}`)]);
    if (record.floor_pct !== null) {
      const padded = record.floor_pad_pct === null ? "" : `padded: ${percent(record.floor_pad_pct)}`;
      facts.push(["Floor", bracketed(`${percent(record.floor_pct)} %`, padded)]);
      if (slower !== "") facts.push(["Over the floor", `${percent(record.slowdown_pct - record.floor_pct)} points`]);
    }
    if (record.gflops !== null) facts.push(["Throughput", `${fixed(record.gflops, 1)} GFLOP/s`]);
    if (record.limit_ns !== null) facts.push(["Limit", limit(record)]);
    facts.push(["Samples", bracketed(String(record.samples), `repeated: ${record.repeated}`)]);
    if (slower !== "") facts.push(["Ratio by", `${record.ratio_by} times`]);
    facts.push(["Device", `${current.device} (${current.backend})`]);
    facts.push(["Measured", `${record.measured_at.slice(0, 10)}, commit ${record.commit.slice(0, 12)}`
      + (record.dirty ? " (dirty)" : "")]);
    return facts;
  };

  const element = (name, text, ...children) => {
    const element = document.createElement(name);
    if (text !== null) element.textContent = text;
    element.append(...children);
    return element;
  };

  let shown = null;

  const hide = () => {
    shown?.classList.remove("shown");
    shown = null;
    tip.hidden = true;
  };

  const show = (cell) => {
    if (cell === shown) return;
    hide();
    shown = cell;
    cell.classList.add("shown");
    const { title, where, record } = place(cell);
    const list = element("dl", null);
    for (const [name, text] of record ? facts(record) : []) list.append(element("dt", name), element("dd", text));
    tip.replaceChildren(element("strong", title), element("p", where), record ? list : element("p", "not measured"));
    tip.hidden = false;
    // Beside the cell, on its other side where the figure ends; up and down as far as figure and window reach.
    const [box, frame] = [cell.getBoundingClientRect(), figures.getBoundingClientRect()];
    const gap = 10;
    const right = box.right - frame.left + gap;
    const left = right + tip.offsetWidth <= frame.width ? right : box.left - frame.left - gap - tip.offsetWidth;
    const below = box.top - frame.top + box.height / 2 - tip.offsetHeight / 2;
    tip.style.left = `${Math.max(0, left)}px`;
    const lowest = Math.min(frame.height, window.innerHeight - frame.top) - tip.offsetHeight;
    tip.style.top = `${Math.max(0, -frame.top, Math.min(below, lowest))}px`;
  };

  const cellOf = (event) => event.target instanceof Element ? event.target.closest(".cell") : null;
  document.addEventListener("pointerover", (event) => {
    const cell = cellOf(event);
    if (cell) show(cell); else if (event.pointerType === "mouse") hide();
  });
  document.addEventListener("pointerdown", (event) => { if (!cellOf(event)) hide(); });
  figures.addEventListener("focusin", (event) => { const cell = cellOf(event); if (cell) show(cell); });
  figures.addEventListener("focusout", hide);

  // ---- Arrow keys. One cell of a figure is in the order of tabulator stops, so that the others do not fill it.

  const cellsOf = (view) => [...view.element.querySelectorAll(".cell")];
  const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const centre = (cell) => [cell.x.baseVal.value, cell.y.baseVal.value];

  /** The nearest cell in that direction, in the same line of cells. */
  const neighbour = (cell, [dx, dy]) => {
    const [x, y] = centre(cell);
    const ahead = cellsOf(current).map((other) => {
      const [toX, toY] = [centre(other)[0] - x, centre(other)[1] - y];
      const inLine = dx === 0 ? toX === 0 : toY === 0;
      return [other, inLine ? toX * dx + toY * dy : 0];
    }).filter(([, distance]) => distance > 0);
    return ahead.sort(([, a], [, b]) => a - b)[0]?.[0];
  };
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
    const cell = cellOf(event);
    if (!cell || !(event.key in STEPS)) return;
    event.preventDefault();
    const next = neighbour(cell, STEPS[event.key]);
    if (!next) return;
    cell.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
  for (const view of views) {
    const before = current;
    current = view;
    cellsOf(view).forEach((cell, i) => {
      const { title, where, record } = place(cell);
      const texts = record ? facts(record).map((fact) => fact.join(" ")) : ["not measured"];
      cell.setAttribute("role", "img");
      cell.setAttribute("aria-label", [title, where, ...texts].join("; "));
      cell.tabIndex = i === 0 ? 0 : -1;
    });
    current = before;
  }

  // ---- Switches.

  /** The views that a switch chooses among. */
  const offered = (name) => {
    const before = name === "metric" ? OF_SHEET : OF_SHEET.slice(0, OF_SHEET.indexOf(name));
    return views.filter((view) => before.every((other) => view[other] === current[other]));
  };

  /** The view that a switch turns to: of those with that value the one that has most in common with the current. */
  const closest = (name, value) => {
    const common = (view) => Object.keys(SWITCHES).filter((other) => view[other] === current[other]).length;
    return offered(name).filter((view) => view[name] === value).sort((a, b) => common(b) - common(a))[0];
  };

  const drawSwitches = () => {
    const focused = document.activeElement?.name;
    const fields = Object.entries(SWITCHES).map(([name, title]) => {
      const values = [...new Set(offered(name).map((view) => view[name]))];
      const field = element("fieldset", null, element("legend", title));
      const text = (value) => name === "metric" ? METRICS[value] ?? value : value;
      if (values.length === 1) {
        field.append(element("div", text(values[0])));
        field.lastChild.className = "only";
        return field;
      }
      const options = element("div", null);
      options.className = "options";
      for (const value of values) {
        const input = Object.assign(document.createElement("input"), {
          type: "radio", name, value, checked: value === current[name],
        });
        input.addEventListener("change", () => choose(closest(name, value)));
        options.append(element("label", text(value), input));
      }
      field.append(options);
      return field;
    });
    document.getElementById("switches").replaceChildren(...fields);
    if (focused) document.querySelector(`input[name="${focused}"]:checked`)?.focus();
  };

  const COLUMNS = [
    ["method", (r) => r.method], ["seq len", (r) => r.seq_len], ["batch", (r) => r.batch], ["r", (r) => r.rank],
    ["time", (r) => `${time(r)[0]} ${time(r)[2]}`], ["95 % interval", (r) => time(r)[1]],
    ["slow-down, %", (r) => slowdown(r)[0]], ["95 % interval", (r) => slowdown(r)[1]],
    ["floor, %", (r) => r.floor_pct === null ? "" : percent(r.floor_pct)],
    ["padded, %", (r) => r.floor_pad_pct === null ? "" : percent(r.floor_pad_pct)],
    ["GFLOP/s", (r) => r.gflops === null ? "" : fixed(r.gflops, 1)],
    ["limit", limit], ["samples", (r) => r.samples], ["repeated", (r) => r.repeated], ["ratio by", (r) => r.ratio_by],
  ];
  const drawTable = () => {
    const head = element("tr", null, ...COLUMNS.map(([name]) => {
      const cell = element("th", name);
      cell.scope = "col";
      return cell;
    }));
    const line = (record) => element("tr", null, ...COLUMNS.map(([, text]) => element("td", String(text(record)))));
    const body = element("tbody", null, ...current.sheet.records.map(line));
    document.querySelector("#numbers table").replaceChildren(element("thead", null, head), body);
  };

  const choose = (view) => {
    hide();
    for (const other of views) other.element.hidden = other !== view;
    current = view;
    drawSwitches();
    drawTable();
  };
  choose(current);
}
