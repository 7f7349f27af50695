// The canvas: strokes of finger, pen, mouse or keyboard, with undo and clear.

const SENT_SIDE = 320; // pixels of the picture that is sent
const PEN = 0.058; // width of a stroke, of the canvas's side
const KEY_STEP = 0.04; // of the side, for each press of an arrow key
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Drawing {
  /** `onChange` is called after each change of what is drawn. */
  constructor(canvas, onChange) {
    this.canvas = canvas;
    this.onChange = onChange;
    this.strokes = []; // each a list of points [x, y], 0 to 1
    this.active = null; // the pointer that draws
    this.cursor = null; // where the keyboard's pen is
    canvas.addEventListener("pointerdown", (event) => this.begin(event));
    canvas.addEventListener("pointermove", (event) => this.extend(event));
    for (const kind of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(kind, (event) => this.end(event));
    }
    canvas.addEventListener("keydown", (event) => this.moveByKey(event));
    canvas.addEventListener("keyup", (event) => event.key === "Shift" && this.liftPen());
    canvas.addEventListener("blur", () => this.hideCursor());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.paint());
    new ResizeObserver(() => this.fitToScreen()).observe(canvas);
  }

  get isEmpty() {
    return this.strokes.length === 0;
  }

  undo() {
    this.strokes.pop();
    this.changed();
  }

  clear() {
    this.strokes = [];
    this.changed();
  }

  /** Returns what is drawn, black on white, as a PNG Blob. */
  toBlob() {
    const copy = document.createElement("canvas");
    copy.width = copy.height = SENT_SIDE;
    const context = copy.getContext("2d");
    context.fillStyle = "#fff";
    context.fillRect(0, 0, SENT_SIDE, SENT_SIDE);
    drawStrokes(context, this.strokes, SENT_SIDE, "#000");
    return new Promise((resolve) => copy.toBlob(resolve, "image/png"));
  }

  begin(event) {
    if (this.active !== null || event.button > 0) return;
    this.cursor = null;
    this.active = event.pointerId;
    this.canvas.setPointerCapture(event.pointerId);
    this.strokes.push([this.place(event)]);
    this.changed();
  }

  extend(event) {
    if (event.pointerId !== this.active) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const one of events.length ? events : [event]) this.strokes.at(-1)?.push(this.place(one));
    this.changed();
  }

  end(event) {
    if (event.pointerId === this.active) this.active = null;
  }

  moveByKey(event) {
    const arrow = ARROWS[event.key];
    if (!arrow) return;
    event.preventDefault();
    const from = this.cursor ?? [0.5, 0.3];
    const isFirst = this.cursor === null && !event.shiftKey;
    this.cursor = isFirst ? from : from.map((v, i) => clamp(v + KEY_STEP * arrow[i]));
    if (!event.shiftKey) {
      this.liftPen();
    } else {
      if (!this.isDrawingByKey) this.strokes.push([from]);
      this.isDrawingByKey = true;
      this.strokes.at(-1).push(this.cursor);
      this.changed();
    }
    this.paint();
  }

  liftPen() {
    this.isDrawingByKey = false;
  }

  hideCursor() {
    this.cursor = null;
    this.liftPen();
    this.paint();
  }

  place(event) {
    const area = this.canvas.getBoundingClientRect();
    return [
      clamp((event.clientX - area.left) / area.width),
      clamp((event.clientY - area.top) / area.height),
    ];
  }

  changed() {
    this.paint();
    this.onChange();
  }

  /** Gives the canvas as many pixels as the screen shows of it. */
  fitToScreen() {
    const side = Math.round(this.canvas.clientWidth * devicePixelRatio);
    if (side && side !== this.canvas.width) {
      this.canvas.width = this.canvas.height = side;
      this.paint();
    }
  }

  paint() {
    const side = this.canvas.width;
    const context = this.canvas.getContext("2d");
    const style = getComputedStyle(this.canvas);
    context.clearRect(0, 0, side, side);
    drawStrokes(context, this.strokes, side, style.color);
    if (this.cursor) {
      context.beginPath();
      context.arc(this.cursor[0] * side, this.cursor[1] * side, (PEN * side) / 2, 0, 7);
      context.lineWidth = side / 250;
      context.strokeStyle = style.outlineColor;
      context.stroke();
    }
  }
}

/** Draws strokes as smooth curves through the middles between their points. */
function drawStrokes(context, strokes, side, colour) {
  context.strokeStyle = colour;
  context.lineWidth = PEN * side;
  context.lineCap = context.lineJoin = "round";
  for (const stroke of strokes) {
    const points = stroke.map(([x, y]) => [x * side, y * side]);
    const last = points.at(-1);
    context.beginPath();
    context.moveTo(...points[0]);
    for (let i = 1; i < points.length - 1; i++) {
      const middle = points[i].map((v, axis) => (v + points[i + 1][axis]) / 2);
      context.quadraticCurveTo(...points[i], ...middle);
    }
    context.lineTo(...last); // of one point alone: a dot
    context.stroke();
  }
}

function clamp(value) {
  return Math.min(1, Math.max(0, value));
}
