// What `fronts_plot` has drawn, made to answer: the cost on the axis, the bit widths shown, what a point is.
// A point is chosen by hover, tap or key; a click or Enter pins it, Escape lets it go.
(() => {
  "use strict";

  const number = v => v.toLocaleString("en", Number.isInteger(v) ? {} : {maximumSignificantDigits: 4});

  function element(name, className, ...content) {
    const made = document.createElement(name);
    if (className) made.className = className;
    made.append(...content);
    return made;
  }

  class Plot {
    constructor(figure) {
      this.figure = figure;
      this.frame = figure.querySelector(".frame");
      this.svg = figure.querySelector(".plot");
      this.data = JSON.parse(document.getElementById(`${figure.id}-data`).textContent);
      this.cost = Object.keys(this.data.costs)[0];
      this.hidden = new Set();
      this.chosen = this.pinned = null;
      this.byKey = new Map();
      this.data.points.forEach((p, i) => this.byKey.set(p.key, [...(this.byKey.get(p.key) || []), i]));
      this.dots = [];
      for (const dot of this.svg.querySelectorAll(".dots [data-i]")) this.dots[dot.dataset.i] = dot;
      this.rings = document.createElementNS(this.svg.namespaceURI, "g");
      this.rings.setAttribute("class", "rings");
      this.svg.append(this.rings);
      this.tip = element("div", "tip");
      this.tip.hidden = true;
      this.tip.setAttribute("role", "status");
      this.frame.append(this.tip);
      this.figure.querySelector(".choices").hidden = false;
      this.figure.classList.add("live");
      for (const mark of this.svg.querySelectorAll(".mark")) this.nameMark(mark);
      this.place();
      this.listen();
    }

    listen() {
      const {figure, frame} = this;
      figure.querySelector(".choices").addEventListener("change", e => this.switchTo(e.target.value));
      for (const button of figure.querySelectorAll(".legend button"))
        button.addEventListener("click", () => this.toggle(button));
      frame.addEventListener("pointermove", e => this.hover(e));
      frame.addEventListener("pointerleave", () => this.pinned === null && this.choose(null));
      frame.addEventListener("click", e => this.click(e));
      // On the frame: an SVG element that listens to the focus becomes a stop of Tab itself.
      frame.addEventListener("focusin", ({target}) => this.focused(target));
      frame.addEventListener("focusout", () => this.pinned === null && this.choose(null));
      frame.addEventListener("keydown", e => this.key(e));
      document.addEventListener("keydown", e => e.key === "Escape" && this.release());
      window.addEventListener("resize", () => this.chosen !== null && this.choose(this.chosen));
    }

    // -- what is shown

    share(cost, value) {
      const {low, high, log} = this.data.costs[cost];
      return log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
    }

    // Shares of the plot's width and height from its upper left corner, for every point.
    place() {
      const {low, high} = this.data.y;
      this.places = this.data.points.map(p =>
        [this.share(this.cost, p.costs[this.cost]), Math.min(1, (high - 100 * p.accuracy) / (high - low))]);
      this.rove();
    }

    switchTo(cost) {
      this.cost = cost;
      this.place();
      this.dots.forEach((dot, i) => dot.setAttribute("cx", `${(100 * this.places[i][0]).toFixed(4)}%`));
      this.update();
    }

    toggle(button) {
      const group = +button.dataset.group;
      const shown = this.hidden.has(group);
      button.setAttribute("aria-pressed", shown);
      shown ? this.hidden.delete(group) : this.hidden.add(group);
      this.update();
    }

    update() {
      for (const part of this.svg.querySelectorAll("[data-group], [data-cost]")) {
        const {group, cost} = part.dataset;
        part.toggleAttribute("hidden", (cost !== undefined && cost !== this.cost) || this.hidden.has(+group));
      }
      if (this.chosen !== null && this.hidden.has(this.data.points[this.chosen].group)) this.release();
      else if (this.chosen !== null) this.choose(this.chosen);
      this.rove();
    }

    // -- choosing a point

    nearest(event) {
      const box = this.svg.getBoundingClientRect();
      const reach = event.pointerType === "touch" ? 32 : 18;
      let best = null, least = reach;
      this.places.forEach(([x, y], i) => {
        if (this.hidden.has(this.data.points[i].group)) return;
        const away = Math.hypot(box.left + x * box.width - event.clientX, box.top + y * box.height - event.clientY);
        const distance = away - (this.marks.has(i) ? 5 : 0);  // points of the fronts lie among the others
        if (away < reach && distance < least) [best, least] = [i, distance];
      });
      return best;
    }

    hover(event) {
      if (event.pointerType === "touch" || this.tip.contains(event.target)) return;
      const near = this.nearest(event);
      this.frame.classList.toggle("near", near !== null);
      if (this.pinned === null) this.choose(near);
    }

    click(event) {
      if (this.tip.contains(event.target)) return;
      const near = this.nearest(event);
      this.pinned = near === this.pinned ? null : near;
      this.choose(near);
    }

    focused(target) {
      if (target.dataset.i && this.pinned === null) this.choose(+target.dataset.i);
    }

    release() {
      this.pinned = null;
      this.choose(null);
    }

    choose(i) {
      this.chosen = i;
      this.tip.hidden = i === null;
      this.rings.replaceChildren();
      if (i === null) return;
      this.ring(i, 9, "chosen");
      const {key, group} = this.data.points[i];
      for (const other of this.byKey.get(key))
        if (!this.hidden.has(this.data.points[other].group) && other !== i) this.ring(other, 7, "same");
      this.tip.replaceChildren(...this.describe(i));
      this.tip.classList.toggle("pinned", this.pinned === i);
      this.tip.style.borderTopColor = this.dots[i].parentNode.getAttribute("fill");
      this.beside(i);
    }

    ring(i, radius, className) {
      const made = document.createElementNS(this.svg.namespaceURI, "circle");
      const [x, y] = this.places[i];
      for (const [name, value] of Object.entries({cx: `${100 * x}%`, cy: `${100 * y}%`, r: radius, class: className}))
        made.setAttribute(name, value);
      this.rings.append(made);
    }

    // To the right of the point, or to the left where the room ends. On narrow screens it stands below the plot.
    beside(i) {
      this.tip.style.left = this.tip.style.top = "";
      if (getComputedStyle(this.tip).position !== "absolute") return;
      const frame = this.frame.getBoundingClientRect(), plot = this.svg.getBoundingClientRect();
      const [x, y] = this.places[i].map((share, axis) =>
        axis ? plot.top - frame.top + share * plot.height : plot.left - frame.left + share * plot.width);
      const {offsetWidth: width, offsetHeight: height} = this.tip;
      const left = x + 18 + width <= frame.width ? x + 18 : Math.max(0, x - 18 - width);
      this.tip.style.left = `${left}px`;
      this.tip.style.top = `${Math.max(-40, Math.min(y - height / 3, plot.bottom - frame.top - height))}px`;
    }

    // -- keys: the front's points are one stop of Tab, arrows go along a front and to the next one

    rove() {
      const marks = [...this.svg.querySelectorAll(`.front[data-cost="${CSS.escape(this.cost)}"] .mark`)];
      this.marks = new Map(marks.map(mark => [+mark.dataset.i, mark]));
      const shown = marks.filter(mark => !this.hidden.has(+mark.parentNode.dataset.group));
      shown.forEach((mark, i) => mark.setAttribute("tabindex", i ? -1 : 0));
    }

    key(event) {
      const i = +event.target.dataset.i;
      if (!this.marks.has(i)) return;
      const target = this.neighbour(i, event.key);
      if (target !== undefined) {
        this.pinned = null;
        for (const mark of this.marks.values()) mark.setAttribute("tabindex", -1);
        this.marks.get(target).setAttribute("tabindex", 0);
        this.marks.get(target).focus();
      } else if (event.key === "Enter" || event.key === " ") {
        this.pinned = this.pinned === i ? null : i;
        this.choose(i);
      } else return;
      event.preventDefault();
    }

    neighbour(i, key) {
      const groups = this.data.groups.map(() => []);
      for (const j of this.marks.keys()) groups[this.data.points[j].group].push(j);
      const shown = groups.filter((line, g) => line.length && !this.hidden.has(g));
      const row = shown.findIndex(line => line.includes(i)), line = shown[row];
      const closest = other => other && other.reduce((a, b) =>
        Math.abs(this.places[a][0] - this.places[i][0]) <= Math.abs(this.places[b][0] - this.places[i][0]) ? a : b);
      switch (key) {
        case "ArrowRight": return line[line.indexOf(i) + 1];
        case "ArrowLeft": return line[line.indexOf(i) - 1];
        case "ArrowDown": return closest(shown[row + 1]);
        case "ArrowUp": return closest(shown[row - 1]);
        case "Home": return line[0];
        case "End": return line[line.length - 1];
      }
    }

    // -- words

    percent(i) {
      return `${(100 * this.data.points[i].accuracy).toFixed(2)}%`;
    }

    nameMark(mark) {
      const p = this.data.points[mark.dataset.i], cost = mark.parentNode.dataset.cost;
      mark.setAttribute("role", "button");
      mark.setAttribute("tabindex", -1);
      mark.setAttribute("aria-label", `${this.data.groups[p.group]}, ${this.percent(mark.dataset.i)}, ` +
        `${number(p.costs[cost])} ${this.data.costs[cost].label}`);
    }

    describe(i) {
      const p = this.data.points[i], {groups, costs} = this.data;
      const head = element("p", "head", element("b", "", groups[p.group]), element("b", "", this.percent(i)));
      const parts = [head, element("p", "note", this.certainty(i))];
      const list = element("dl");
      for (const [name, value] of Object.entries(p.costs)) {
        const label = costs[name] ? costs[name].label : name;
        list.append(element("dt", name === this.cost ? "axis" : "", label), element("dd", "", number(value)));
      }
      parts.push(list, this.architecture(p.arch));
      const same = this.byKey.get(p.key).filter(other => other !== i);
      if (same.length) parts.push(element("p", "note", "The same architecture: " +
        same.map(other => `${groups[this.data.points[other].group]} ${this.percent(other)}`).join(", ")));
      parts.push(element("p", "key", p.key));
      if (this.pinned === i) {
        const close = element("button", "close", "\u00d7");
        close.type = "button";
        close.setAttribute("aria-label", "close");
        close.addEventListener("click", () => this.release());
        parts.push(close);
      }
      return parts;
    }

    certainty(i) {
      const p = this.data.points[i];
      const front = this.marks.has(i) ? "on the front" : p.on_front ? "on the search's front" : "not on the front";
      if (!p.images) return front;
      const half = 196 * Math.sqrt(p.accuracy * (1 - p.accuracy) / p.images);
      return `\u00b1 ${half.toFixed(2)} points (95%), ${number(p.images)} images; ${front}`;
    }

    // A row a stage, a chip a block: kernel size and expand ratio.
    architecture(arch) {
      const box = element("div", "arch", element("span", "", "image"),
        element("span", "", `${arch.resolution} \u00d7 ${arch.resolution}`));
      let block = 0;
      arch.depths.forEach((depth, s) => {
        const row = element("span", "blocks");
        for (const end = block + depth; block < end; block++) {
          const kernel = arch.kernels[block];
          const chip = element("span", "chip", `${kernel}\u00d7${kernel} e${arch.expands[block]}`);
          chip.style.borderLeftColor = this.data.kernels[kernel];
          row.append(chip, " ");
        }
        box.append(element("span", "", `stage ${this.data.stages[s]}`), row);
      });
      return box;
    }
  }

  for (const figure of document.querySelectorAll("figure.fronts")) new Plot(figure);
})();
