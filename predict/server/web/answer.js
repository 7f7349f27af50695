// Shows what was read: the text, one digit's probabilities, what the network saw, the boxes.

const $ = (id) => document.getElementById(id);

export class Answer {
  /** `onCorrect` is called with a digit and its right label's name. */
  constructor(onCorrect) {
    this.onCorrect = onCorrect;
    this.classes = [];
    this.reading = null;
    this.selected = null;
    new ResizeObserver(() => this.placeBoxes()).observe($("stage"));
  }

  /** Prepares the bars and the labels for a model's classes. */
  setModel(model) {
    this.classes = model.classes;
    this.shape = model.image_shape;
    $("bars").replaceChildren(
      ...model.classes.map((name) => {
        const row = element("li");
        const track = element("span", "track");
        track.append(element("span", "fill"));
        row.append(element("span", "name", name), track, element("span", "value", "–"));
        return row;
      }),
    );
    $("labels").classList.toggle("words", model.classes.some((name) => name.length > 2));
    $("labels").replaceChildren(
      ...model.classes.map((name) => {
        const button = element("button", "", name);
        button.type = "button";
        button.setAttribute("aria-label", `That was ${name}`);
        button.addEventListener("click", () => this.onCorrect(this.selected, name));
        return button;
      }),
    );
    this.clear();
  }

  clear(verdict = "Nothing yet.") {
    this.reading = null;
    $("boxes").replaceChildren();
    $("text").className = "text empty";
    $("text").textContent = "–";
    this.select(null);
    $("verdict").textContent = verdict;
    $("verdict").className = "quiet";
  }

  /** Shows a reading; `isPicture` tells whether boxes are drawn for a single digit too. */
  show(reading, isPicture) {
    const kept = this.reading?.digits.indexOf(this.selected) ?? -1;
    this.reading = reading;
    this.isPicture = isPicture;
    this.showText();
    this.showBoxes();
    const accepted = reading.digits.filter((digit) => digit.is_digit);
    const same = reading.digits.length > 1 ? reading.digits[kept] : undefined;
    this.select(same ?? accepted.at(isPicture ? 0 : -1) ?? reading.digits[0]);
    this.announce();
  }

  showText() {
    const lines = new Map();
    for (const digit of this.reading.digits.filter((one) => one.is_digit)) {
      if (!lines.has(digit.line)) lines.set(digit.line, element("div", "line"));
      const button = element("button", "", digit.class_name);
      button.type = "button";
      button.setAttribute("aria-label", describe(digit));
      button.addEventListener("click", () => this.select(digit));
      button.digit = digit;
      lines.get(digit.line).append(button);
    }
    const longest = Math.max(0, ...this.reading.text.split("\n").map((line) => line.length));
    const isLong = lines.size > 1 || longest > 4;
    const isLonger = lines.size > 3 || longest > 12;
    $("text").className = "text";
    $("text").classList.toggle("empty", lines.size === 0);
    $("text").classList.toggle("single", this.reading.digits.length === 1);
    $("text").classList.toggle("long", isLong && !isLonger);
    $("text").classList.toggle("longer", isLonger);
    $("text").replaceChildren(...(lines.size ? lines.values() : ["–"]));
  }

  showBoxes() {
    const areBoxed = this.isPicture || this.reading.digits.length > 1;
    $("boxes").replaceChildren(
      ...(areBoxed ? this.reading.digits : []).map((digit) => {
        const box = element("button", digit.is_digit ? "box" : "box rejected");
        box.type = "button";
        box.tabIndex = this.isPicture ? 0 : -1;
        box.setAttribute("aria-label", describe(digit));
        box.classList.toggle("at-top", digit.box[1] < this.reading.height * 0.05);
        box.append(element("span", "", digit.class_name));
        box.addEventListener("click", () => this.select(digit));
        box.digit = digit;
        return box;
      }),
    );
    this.placeBoxes();
  }

  /** Lays the boxes over the picture, or the canvas, at the size that it has on the screen. */
  placeBoxes() {
    if (!this.reading) return;
    const below = this.isPicture ? $("picture") : $("canvas");
    const { width, height } = this.reading;
    const boxes = $("boxes");
    boxes.style.left = `${below.offsetLeft}px`;
    boxes.style.top = `${below.offsetTop}px`;
    boxes.style.width = `${below.offsetWidth}px`;
    boxes.style.height = `${below.offsetHeight}px`;
    for (const box of boxes.children) {
      const [x, y, w, h] = box.digit.box;
      box.style.left = `calc(${(100 * x) / width}% - 4px)`;
      box.style.top = `calc(${(100 * y) / height}% - 4px)`;
      box.style.width = `calc(${(100 * w) / width}% + 8px)`;
      box.style.height = `calc(${(100 * h) / height}% + 8px)`;
    }
  }

  /** Shows one digit's probabilities, and what the network saw of it. */
  select(digit) {
    this.selected = digit ?? null;
    for (const button of document.querySelectorAll("#text button, .box")) {
      button.setAttribute("aria-pressed", String(button.digit === digit));
    }
    $("correction").disabled = !digit;
    $("seen").hidden = !digit;
    $("seen-empty").hidden = Boolean(digit);
    if (digit) $("seen").src = digit.input;
    const [height, width] = this.shape ?? [];
    $("seen-size").textContent = digit ? `${width} × ${height}` : "";
    const isRejected = Boolean(digit && !digit.is_digit);
    $("bars").classList.toggle("rejected", isRejected);
    [...$("bars").children].forEach((row, label) => {
      const probability = digit?.probabilities[label] ?? 0;
      row.classList.toggle("best", Boolean(digit) && label === digit.digit);
      row.querySelector(".fill").style.transform = `translateX(${101 * probability - 101}%)`;
      row.querySelector(".value").textContent = digit ? percent(probability) : "–";
    });
    if (digit) {
      $("verdict").textContent = isRejected
        ? "This does not look like a digit."
        : `Probability ${percent(digit.probabilities[digit.digit])}`;
      $("verdict").className = isRejected ? "quiet rejected" : "quiet";
    }
  }

  /** Tells a screen reader, once the drawing rests. */
  announce() {
    clearTimeout(this.announcement);
    this.announcement = setTimeout(() => {
      const { digits, text } = this.reading ?? { digits: [] };
      const said = digits.length === 1 ? describe(digits[0]) : `Read ${text || "no digit"}`;
      $("live").textContent = this.reading ? said : "";
    }, 600);
  }
}

function describe(digit) {
  if (!digit.is_digit) return "Not a digit";
  return `${digit.class_name}, ${percent(digit.probabilities[digit.digit])}`;
}

function percent(probability) {
  if (probability > 0.9995 && probability < 1) return "> 99.9 %";
  return `${(100 * probability).toFixed(1)} %`;
}

function element(kind, className = "", text = "") {
  const made = document.createElement(kind);
  if (className) made.className = className;
  made.textContent = text;
  return made;
}
