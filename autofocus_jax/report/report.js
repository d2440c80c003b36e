"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const { categories, photographs, shown } = read("index");
  if (!photographs.length) return;
  const by = (id) => document.getElementById(id);
  const list = by("photographs"), dialog = by("large");
  const state = { score: +by("score").value, label: -1, differ: false, show: {} };
  const differs = (mark) => mark.kind !== "missed";
  const wanted = (label, score) => (state.label < 0 || label === state.label) && score >= state.score;
  const name = (label) => categories[label] ?? `class ${label}`;

  // Text enters the page as text nodes and attributes alone, never as HTML.
  function make(tag, attributes = {}, ...inside) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...inside);
    return node;
  }
  function draw(tag, attributes = {}, said = "") {
    const node = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (said) {
      const title = document.createElementNS(SVG, "title");
      title.textContent = said;
      node.append(title);
    }
    return node;
  }
  const corners = ([x1, y1, x2, y2]) => ({ x: x1, y: y1, width: Math.max(0, x2 - x1), height: Math.max(0, y2 - y1) });
  const outline = ([x1, y1, x2, y2]) => `M${x1} ${y1}H${x2}V${y2}H${x1}z`;
  const counted = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

  function boxesOf(found, kind) {
    return found.boxes.map((box, n) => ({ box, kind, label: found.labels[n], score: found.scores[n] }))
      .filter((one) => wanted(one.label, one.score));
  }

  // The boxes over one pane, as shapes of an SVG in px of the photograph, and what they say in words.
  function overlay(svg, photo, content, pane) {
    const [height, width] = photo.size, show = state.show, shapes = [];
    svg.replaceChildren();
    if (show.chips && pane.chips.length) {
      svg.append(draw("path", { class: "shade", d: outline([0, 0, width, height]) + pane.chips.map(outline).join("") }));
    }
    if (show.focus) {
      for (const one of pane.focus) {
        svg.append(draw("image", { ...corners(one.box), href: one.picture, preserveAspectRatio: "none", class: "focus" }));
      }
    }
    if (show.truth) content.truth.forEach((one) => state.label < 0 || one.label === state.label ? shapes.push({ ...one, kind: "truth" }) : 0);
    if (show.removed) shapes.push(...boxesOf(pane.removed, "removed"));
    const found = boxesOf(pane.found, "found");
    if (show.found) shapes.push(...found);
    if (pane.marked) {
      shapes.push(...photo.marks.filter((one) => wanted(one.label, one.score) && show[differs(one) ? "marks" : "missed"]));
    }
    svg.append(draw("path", { class: "halo", d: shapes.map((one) => outline(one.box)).join("") }));
    if (show.chips) pane.chips.forEach((box, n) => svg.append(draw("rect", { class: "chip", ...corners(box) }, `chip ${n + 1}`)));
    const size = Math.max(8, 12 * width / Math.max(1, svg.clientWidth || 400));
    const write = (x, y, text) => {
      const node = draw("text", { x, y, "font-size": size });
      node.textContent = text;
      svg.append(node);
    };
    for (const one of shapes) {
      const said = [one.kind, name(one.label), one.score === undefined || one.kind === "missed" ? "" : one.score.toFixed(2)].join(" ").trim();
      svg.append(draw("rect", { class: one.kind, ...corners(one.box) }, said));
      if (show.names) write(one.box[0], Math.max(size, one.box[1] - size / 4), said.replace(/^found /, ""));
    }
    if (show.chips && pane.chips.length > 1) pane.chips.forEach((box, n) => write(box[0] + size / 4, box[1] + size, n + 1));
    return shown.found ? counted(found.length, "detection") : counted(content.truth.length, "object");
  }

  function figure(photo, content, pane) {
    const [height, width] = photo.size;
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    const image = make("img", { src: content.picture, alt: `Photograph ${photo.name}`, width, height });
    const button = make("button", { type: "button", class: "picture" }, image, svg);
    const said = make("span");
    const caption = make("figcaption", {}, make("b", {}, pane.title), " ", said);
    const node = make("figure", { class: "pane" }, button, caption);
    const refresh = () => {
      const count = overlay(svg, photo, content, pane);
      said.textContent = [count, pane.note].filter(Boolean).join("; ");
      button.setAttribute("aria-label", `Enlarge ${photo.name}, ${pane.title}: ${said.textContent}`);
    };
    return { node, button, refresh };
  }

  function crop(photo, one) {
    const mark = photo.marks[one.mark], [x1, y1, x2, y2] = one.area;
    const svg = draw("svg", { viewBox: `${x1} ${y1} ${x2 - x1} ${y2 - y1}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    svg.append(draw("path", { class: "halo", d: outline(mark.box) }), draw("rect", { class: mark.kind, ...corners(mark.box) }));
    const words = `${mark.kind}: ${name(mark.label)}${differs(mark) ? ` ${mark.score.toFixed(2)}` : ""}`;
    const picture = make("div", { class: "picture" }, make("img", { src: one.picture, alt: `${words}, enlarged`, width: 168, height: 168 }), svg);
    return make("li", {}, make("figure", {}, picture, make("figcaption", {}, words)));
  }

  // What is shown of a photograph exists only while it is near the window.
  function open(entry) {
    if (entry.panes) return;
    const { photo } = entry, content = read(`photograph-${entry.number}`);
    entry.content = content;
    entry.panes = content.panes.map((pane) => {
      const made = figure(photo, content, pane);
      made.button.addEventListener("click", () => enlarge(photo, content, pane));
      return made;
    });
    entry.crops = make("ul", { class: "crops", "aria-label": "Lost and won, enlarged" });
    const grid = make("div", { class: "panes" }, ...entry.panes.map((made) => made.node));
    const many = entry.panes.length, columns = many === 4 || many > 5 ? (innerWidth > 1500 && many === 4 ? 4 : 2) : Math.min(3, many);
    grid.style.setProperty("--columns", columns);
    entry.node.append(grid, entry.crops);
    entry.node.style.minHeight = "";
    refresh(entry);
  }
  function close(entry) {
    if (!entry.panes || entry.node.contains(document.activeElement)) return;
    entry.node.style.minHeight = `${entry.node.offsetHeight}px`;
    entry.node.replaceChildren(entry.heading);
    entry.panes = entry.content = null;
  }
  function refresh(entry) {
    const marks = entry.photo.marks.filter((mark) => wanted(mark.label, mark.score));
    const badges = ["lost", "won"].map((kind) => [kind, marks.filter((mark) => mark.kind === kind).length])
      .filter(([, count]) => count).map(([kind, count]) => make("span", { class: `badge ${kind}` }, `${count} ${kind}`));
    entry.badges.replaceChildren(...badges);
    if (!entry.panes) return;
    entry.panes.forEach((made) => made.refresh());
    const crops = entry.content.crops.filter((one) => wanted(entry.photo.marks[one.mark].label, entry.photo.marks[one.mark].score));
    entry.crops.replaceChildren(...crops.map((one) => crop(entry.photo, one)));
    entry.crops.hidden = !crops.length;
  }

  function enlarge(photo, content, pane) {
    const made = figure(photo, content, pane), [height, width] = photo.size;
    const fitting = Math.min(innerWidth, innerHeight * width / height);
    let zoom = 1;
    made.button.style.setProperty("--width", `${fitting}px`);
    made.button.addEventListener("click", (event) => {
      const area = made.button.getBoundingClientRect(), stage = dialog.querySelector(".stage");
      const x = event.detail ? (event.clientX - area.left) / area.width : 0.5, y = event.detail ? (event.clientY - area.top) / area.height : 0.5;
      zoom = zoom >= 8 ? 1 : 2 * zoom;
      made.button.style.setProperty("--width", `${zoom * fitting}px`);
      stage.scrollTo(x * made.button.offsetWidth - innerWidth / 2, y * made.button.offsetHeight - innerHeight / 2);
      made.refresh();
    });
    dialog.querySelector(".stage").replaceChildren(made.node);
    dialog.showModal();
    made.button.focus();
    made.refresh();
  }

  const entries = photographs.map((photo, number) => {
    const badges = make("span");
    const heading = make("h2", {}, make("bdi", {}, photo.name), make("span", { class: "size" }, `${photo.size[1]} × ${photo.size[0]} px`), badges);
    const node = make("article", { class: "photo", tabindex: "-1", "aria-label": photo.name }, heading);
    const columns = innerWidth <= 700 ? 1 : Math.min(2, photo.panes), rows = Math.ceil(photo.panes / columns);
    node.style.minHeight = `${Math.round(90 + rows * (Math.min(innerWidth, 1680) / columns) * photo.size[0] / photo.size[1])}px`;
    return { photo, number, node, heading, badges, panes: null, content: null };
  });
  const known = new Map(entries.map((entry) => [entry.node, entry]));
  const watcher = new IntersectionObserver((seen) => {
    for (const one of seen) (one.isIntersecting ? open : close)(known.get(one.target));
  }, { rootMargin: "600px 0px" });

  const differences = ({ photo }) => photo.marks.filter((mark) => differs(mark) && wanted(mark.label, mark.score)).length;
  const detections = ({ photo }) => photo.labels.filter((label, n) => wanted(label, photo.scores[n])).length;
  const text = new Intl.Collator(undefined, { numeric: true });
  const orders = {
    "most different": (one, other) => differences(other) - differences(one),
    "most detections": (one, other) => detections(other) - detections(one),
    name: (one, other) => text.compare(one.photo.name, other.photo.name),
  };
  const comparable = shown.marks;
  if (!comparable) delete orders["most different"];
  if (!shown.found) delete orders["most detections"];
  by("order").append(...Object.keys(orders).map((key) => make("option", { value: key }, key)));
  if (!comparable) by("order").value = "name";
  by("label").append(...categories.map((category, n) => make("option", { value: n }, category)));
  document.querySelector(".differing").hidden = !comparable;
  for (const node of document.querySelectorAll("[data-needs]")) node.hidden = !shown[node.dataset.needs];

  let order = [];
  function apply(sort) {
    if (sort) {
      order = [...entries].sort(orders[by("order").value]);
      list.append(...order.map((entry) => entry.node));
    }
    let count = 0;
    for (const entry of order) {
      const { photo } = entry, of = (label) => state.label < 0 || label === state.label;
      const some = state.label < 0 || photo.labels.some(of) || photo.objects.some(of) || photo.marks.some((mark) => of(mark.label));
      entry.node.hidden = !some || (state.differ && !differences(entry));
      count += !entry.node.hidden;
      refresh(entry);
    }
    by("count").textContent = `${count} of ${counted(entries.length, "photograph")}`;
  }
  const input = (id, event, change) => by(id).addEventListener(event, () => { change(by(id)); });
  input("score", "input", (node) => { state.score = +node.value; by("score-value").value = (+node.value).toFixed(2); apply(false); });
  input("score", "change", () => apply(true));
  input("label", "change", (node) => { state.label = +node.value; apply(true); });
  input("order", "change", () => apply(true));
  input("differ", "change", (node) => { state.differ = node.checked; apply(false); });
  if (!shown.found) document.querySelector("[data-show=truth]").checked = true;
  for (const node of document.querySelectorAll("[data-show]")) {
    state.show[node.dataset.show] = node.checked;
    node.addEventListener("change", () => { state.show[node.dataset.show] = node.checked; apply(false); });
  }
  document.querySelector(".tools").addEventListener("submit", (event) => event.preventDefault());

  function move(step) {
    const seen = order.filter((entry) => !entry.node.hidden);
    const at = seen.findIndex((entry) => entry.node.contains(document.activeElement));
    const next = seen[Math.max(0, Math.min(seen.length - 1, at < 0 ? (step > 0 ? 0 : seen.length - 1) : at + step))];
    if (!next) return;
    open(next);
    next.node.focus({ preventScroll: true });
    next.node.scrollIntoView({ block: "start" });
  }
  document.addEventListener("keydown", (event) => {
    if (dialog.open || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select")) return;
    const steps = { j: 1, ArrowRight: 1, k: -1, ArrowLeft: -1 };
    if (event.key in steps) { move(steps[event.key]); event.preventDefault(); }
    const entry = known.get(event.target);
    if (event.key === "Enter" && entry?.panes) enlarge(entry.photo, entry.content, entry.content.panes.at(-1));
  });

  for (const node of document.querySelectorAll("[data-row]")) {
    const set = (on) => document.querySelectorAll("[data-row]").forEach((other) => other.classList.toggle("hot", on && other.dataset.row === node.dataset.row));
    for (const kind of ["pointerenter", "focus"]) node.addEventListener(kind, () => set(true));
    for (const kind of ["pointerleave", "blur"]) node.addEventListener(kind, () => set(false));
  }
  state.score = +by("score").value;
  by("score-value").value = state.score.toFixed(2);
  apply(true);
  entries.forEach((entry) => watcher.observe(entry.node));
})();
