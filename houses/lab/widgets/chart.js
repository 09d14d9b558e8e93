// The live part of the panel. It asks for each frame and draws the answer; when the page goes away, so do the questions.

const PERIOD_MS = 100;
const SILENCE_MS = 700;   // the first question may be stuck behind a busy cell: ask again
const PATIENCE_MS = 3000; // so long without an answer is worth a word
const WINDOW_MS = 60_000;
const GAP_MS = 1_000;     // no line across a time without a consumer
const MARGIN = { left: 62, right: 64, top: 22, between: 30, bottom: 24 };
const HEIGHT = 300;

// Blue, vermilion and orange of Okabe-Ito; p50 is its bluish green, darker on white and lighter on black for contrast.
// Dashes besides, and a name at the end of each line.
const SERIES = [
  { name: "houses/s", at: 1, plot: 0, light: "#0072B2", dark: "#56B4E9", dash: [] },
  { name: "p50", at: 2, plot: 1, light: "#007A5A", dark: "#2FC79A", dash: [6, 3] },
  { name: "p99", at: 3, plot: 1, light: "#D55E00", dark: "#E69F00", dash: [2, 2] },
];
const TITLES = ["houses per second", "latency, last part sent → on the disk (ms)"];

export default { render };

function render({ model, el }) {
  const view = crypto.randomUUID ? crypto.randomUUID() : String(Math.random());
  const parts = layout(el);
  const state = { series: "", points: [], now_ms: 0, newest_ms: 0, live: true };
  let asked_ms = 0, waiting_since_ms = 0, timer = 0, gone = false;

  const complain = (text) => {
    show_text(parts.error, text);
    el.classList.add("houses-stale");
  };

  const ask = () => {
    if (gone) return;
    asked_ms = performance.now();
    waiting_since_ms ||= asked_ms;
    const waited_ms = asked_ms - waiting_since_ms;
    if (waited_ms > PATIENCE_MS) complain(`no answer from the kernel for ${Math.round(waited_ms / 1000)} s`);
    try {
      model.send({ view, newest_ms: state.newest_ms });
    } catch {
      complain("The kernel was restarted: run the notebook again from its top");
      return;
    }
    timer = setTimeout(ask, SILENCE_MS);
  };
  const take = (frame) => {
    if (gone || frame.view !== view) return;
    clearTimeout(timer);
    timer = setTimeout(ask, Math.max(0, PERIOD_MS - (performance.now() - asked_ms)));
    waiting_since_ms = 0;
    if (!frame.status) return complain(frame.error);
    el.classList.remove("houses-stale");
    add_points(state, frame);
    show(parts, frame);
    draw(parts.canvas, state);
    el.dataset.frames = Number(el.dataset.frames || 0) + 1;
  };
  const redraw = () => draw(parts.canvas, state);
  const theme = new MutationObserver(redraw);
  theme.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-name"] });
  const size = new ResizeObserver(redraw);
  size.observe(parts.canvas);
  model.on("msg:custom", take);
  ask();
  return () => {
    gone = true;
    clearTimeout(timer);
    theme.disconnect();
    size.disconnect();
    model.off("msg:custom", take);
  };
}

// --- text: always textContent, never HTML ---

function layout(el) {
  el.classList.add("houses-live");
  const make = (tag, name) => {
    const made = document.createElement(tag);
    made.className = name;
    el.append(made);
    return made;
  };
  const status = make("div", "houses-rows houses-status");
  const error = make("div", "houses-error");
  error.setAttribute("role", "status");
  const canvas = make("canvas", "houses-canvas");
  canvas.setAttribute("role", "img");
  return { status, error, canvas, counters: make("div", "houses-rows houses-counters") };
}

function show(parts, frame) {
  show_rows(parts.status, frame.status);
  show_rows(parts.counters, frame.counters);
  show_text(parts.error, frame.error);
}

function show_text(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function show_rows(box, rows) {
  while (box.children.length < rows.length) {
    const row = document.createElement("span");
    row.append(document.createElement("b"), document.createElement("span"));
    box.append(row);
  }
  rows.forEach(([name, text], i) => {
    const [label, value] = box.children[i].children;
    box.children[i].dataset.name = name;
    show_text(label, name);
    show_text(value, text);
  });
}

// --- the chart ---

function add_points(state, frame) {
  if (state.series !== frame.series) Object.assign(state, { series: frame.series, points: [], newest_ms: 0 });
  Object.assign(state, { now_ms: frame.now_ms, live: frame.live });
  state.points.push(...frame.points.filter((point) => point[0] > state.newest_ms));
  if (state.points.length) state.newest_ms = state.points.at(-1)[0];
  state.points = state.points.filter((point) => point[0] > frame.now_ms - WINDOW_MS - GAP_MS);
}

function draw(canvas, state) {
  const width = canvas.clientWidth, scale = window.devicePixelRatio || 1;
  if (!width) return;
  const pixels = { width: Math.round(width * scale), height: Math.round(HEIGHT * scale) };
  if (canvas.width !== pixels.width || canvas.height !== pixels.height) Object.assign(canvas, pixels);
  const style = getComputedStyle(canvas);
  const colour = (name, otherwise) => style.getPropertyValue(name).trim() || otherwise;
  const look = {
    back: colour("--jp-layout-color0", "white"),
    text: colour("--jp-ui-font-color1", "black"),
    grid: colour("--jp-border-color2", "#ccc"),
    font: `12px ${colour("--jp-ui-font-family", "sans-serif")}`,
    dark: document.body.dataset.jpThemeLight === "false",
  };
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.fillStyle = look.back;
  pen.fillRect(0, 0, width, HEIGHT);
  const high = (HEIGHT - MARGIN.top - MARGIN.between - MARGIN.bottom) / 2;
  TITLES.forEach((title, plot) => {
    const area = { x: MARGIN.left, y: MARGIN.top + plot * (high + MARGIN.between),
                   w: width - MARGIN.left - MARGIN.right, h: high };
    draw_plot(pen, area, title, SERIES.filter((series) => series.plot === plot), state, look);
  });
  const last = state.points.at(-1);
  canvas.setAttribute("aria-label", last
    ? `Last minute. ${state.live ? "Now" : "At its end"} ${Math.round(last[1])} houses per second, latency p50 ${last[2] ?? "unknown"} ms, p99 ${last[3] ?? "unknown"} ms.`
    : "Nothing measured yet.");
}

function draw_plot(pen, area, title, all, state, look) {
  const values = state.points.flatMap((point) => all.map((series) => point[series.at])).filter((v) => v !== null);
  const top = nice(Math.max(1, ...values));
  const x = (ms) => area.x + area.w * (1 - (state.now_ms - ms) / WINDOW_MS);
  const y = (value) => area.y + area.h * (1 - value / top);
  draw_axes(pen, area, title, top, y, look, all[0].plot === TITLES.length - 1, state.live);
  pen.save();
  pen.beginPath();
  pen.rect(area.x, area.y - 2, area.w + 2, area.h + 4);
  pen.clip();
  all.forEach((series) => draw_line(pen, series, state.points, x, y, look));
  pen.restore();
  draw_names(pen, area, all, state, x, y, look);
}

function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}

function draw_axes(pen, area, title, top, y, look, labelled, live) {
  Object.assign(pen, { font: look.font, fillStyle: look.text, strokeStyle: look.grid, lineWidth: 1, textBaseline: "middle" });
  pen.setLineDash([]);
  pen.textAlign = "left";
  pen.fillText(title, area.x, area.y - 11);
  pen.textAlign = "right";
  for (const value of [0, top / 2, top]) {
    pen.beginPath();
    pen.moveTo(area.x, y(value));
    pen.lineTo(area.x + area.w, y(value));
    pen.stroke();
    pen.fillText(value.toLocaleString("en"), area.x - 6, y(value));
  }
  if (!labelled) return;
  pen.textAlign = "center";
  for (const seconds of [60, 40, 20, 0]) {
    const at = area.x + area.w * (1 - (seconds * 1000) / WINDOW_MS);
    pen.fillText(seconds ? `${seconds} s ${live ? "ago" : "before"}` : live ? "now" : "end of the run", at, area.y + area.h + 12);
  }
}

function draw_line(pen, series, points, x, y, look) {
  pen.strokeStyle = look.dark ? series.dark : series.light;
  pen.lineWidth = 1.8;
  pen.setLineDash(series.dash);
  pen.beginPath();
  let before_ms = 0;
  for (const point of points) {
    if (point[series.at] === null) { before_ms = 0; continue; }
    const joined = before_ms && point[0] - before_ms < GAP_MS;
    pen[joined ? "lineTo" : "moveTo"](x(point[0]), y(point[series.at]));
    before_ms = point[0];
  }
  pen.stroke();
}

// At the end of the line, which leaves to the left when nothing is measured any more.
function draw_names(pen, area, all, state, x, y, look) {
  const last = state.points.at(-1);
  if (!last || x(last[0]) < area.x) return;
  pen.setLineDash([]);
  pen.textAlign = "left";
  let below = Infinity;
  for (const series of all) {
    const value = last[series.at];
    if (value === null) continue;
    const at = Math.min(y(value), below - 13);
    below = at;
    pen.fillStyle = look.dark ? series.dark : series.light;
    pen.fillText(`${series.name === "houses/s" ? "" : series.name + " "}${short(value)}`, Math.min(x(last[0]), area.x + area.w) + 5, at);
  }
}

function short(value) {
  return value >= 10 ? Math.round(value).toLocaleString("en") : value.toPrecision(2);
}
