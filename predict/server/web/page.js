// Brings the parts together: what is drawn or given goes to the server, its answer on the screen.

import { listModels, readBlob, readUrl, sendFeedback } from "./api.js";
import { Answer } from "./answer.js";
import { Drawing } from "./drawing.js";

const $ = (id) => document.getElementById(id);
const SENT_TYPES = ["image/png", "image/jpeg"]; // any other that the browser knows is converted
const BUSY_MS = 300; // before a busy server is asked again

const answer = new Answer(correct);
const drawing = new Drawing($("canvas"), drawingChanged);
let models = [];
let readAgain = null; // reads what is on the stage once more
let picture = null; // the object URL of the picture on the stage

// At most one drawing is being read; when the answer comes, the newest is read next.
let isReading = false;
let isDirty = false;

async function readDrawing() {
  isDirty = true;
  if (isReading) return;
  isReading = true;
  $("text").setAttribute("aria-busy", "true");
  while (isDirty) {
    isDirty = false;
    if (drawing.isEmpty) {
      answer.clear();
      break;
    }
    try {
      const reading = await readBlob(model().name, await drawing.toBlob());
      if (!drawing.isEmpty && !picture) answer.show(reading, false);
      hideError();
    } catch (error) {
      if (error.status === 503) {
        isDirty = true;
        answer.clear("The server is busy…");
        await new Promise((resolve) => setTimeout(resolve, BUSY_MS));
      } else if (!picture) {
        showFailure(error);
      }
    }
  }
  isReading = false;
  $("text").setAttribute("aria-busy", "false");
}

function drawingChanged() {
  $("stage").classList.toggle("is-drawn", !drawing.isEmpty);
  $("undo").disabled = drawing.isEmpty;
  $("clear").disabled = drawing.isEmpty && !picture;
  $("kept").textContent = "";
  readAgain = readDrawing;
  readDrawing();
}

// Pictures

let pending = new AbortController(); // of the picture that is being read

async function readPicture(read) {
  pending.abort();
  pending = new AbortController();
  const { signal } = pending;
  hideError();
  $("kept").textContent = "";
  answer.clear("Reading…");
  try {
    const { reading, url } = await read(signal);
    if (signal.aborted) return;
    await showPicture(url);
    answer.show(reading, true);
  } catch (error) {
    if (error.name !== "AbortError" && !signal.aborted) showFailure(error);
  }
}

function readFile(file) {
  readAgain = () =>
    readPicture(async (signal) => {
      const blob = SENT_TYPES.includes(file.type) ? file : await convert(file);
      const url = URL.createObjectURL(blob);
      await showPicture(url);
      return { reading: await readBlob(model().name, blob, signal), url };
    });
  readAgain();
}

function readAddress(url) {
  readAgain = () =>
    readPicture(async (signal) => {
      const reading = await readUrl(model().name, url, signal);
      return { reading, url: reading.picture };
    });
  readAgain();
}

async function convert(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error(`${file.name || "This"} is no image that the browser can open.`);
  }
  const canvas = document.createElement("canvas");
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

async function showPicture(url) {
  if (picture === url) return;
  if (picture) URL.revokeObjectURL(picture);
  picture = url;
  $("stage").classList.toggle("has-picture", Boolean(url));
  $("picture").hidden = !url;
  $("clear").disabled = !url && drawing.isEmpty;
  $("undo").disabled = Boolean(url) || drawing.isEmpty;
  if (!url) return;
  $("picture").src = url;
  $("picture").alt = "The picture that is read";
  await $("picture").decode().catch(() => {}); // The server has the last word on it.
}

// Corrections

async function correct(digit, label) {
  try {
    const kept = await sendFeedback(model().name, digit.input, label);
    // A second click corrects the first: of one image, the last correction counts.
    $("kept").textContent =
      kept.answer === kept.label
        ? `Kept: it is ${kept.label}, as read.`
        : `Kept: that was ${kept.label}, not ${kept.answer}. Thank you.`;
  } catch (error) {
    showError(error.message);
  }
}

// What the user does

function clearAll() {
  pending.abort();
  showPicture(null);
  hideError();
  drawing.clear();
  answer.clear();
}

$("undo").addEventListener("click", () => drawing.undo());
$("clear").addEventListener("click", () => {
  clearAll();
  $("canvas").focus();
});
for (const [button, input] of [["open", "file"], ["photograph", "camera"]]) {
  $(button).addEventListener("click", () => $(input).click());
  $(input).addEventListener("change", () => {
    if ($(input).files.length) readFile($(input).files[0]);
    $(input).value = ""; // So that the same file can be chosen again.
  });
}
$("url-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if ($("url").value.trim()) readAddress($("url").value.trim());
});
$("model").addEventListener("change", () => {
  answer.setModel(model());
  readAgain?.();
});
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select")) return;
  if (event.key === "Escape") clearAll();
  if ((event.ctrlKey || event.metaKey) && event.key === "z" && !$("undo").disabled) {
    event.preventDefault();
    drawing.undo();
  }
});
document.addEventListener("paste", (event) => {
  const file = event.clipboardData.files[0];
  if (file) {
    event.preventDefault();
    readFile(file);
    return;
  }
  const text = event.clipboardData.getData("text").trim();
  if (/^https?:\/\/\S+$/.test(text) && !event.target.matches("input")) {
    $("url").value = text;
    readAddress(text);
  }
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("is-dropping");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("is-dropping");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("is-dropping");
  const file = event.dataTransfer.files[0];
  const url = event.dataTransfer.getData("text/uri-list").split("\n")[0];
  if (file) readFile(file);
  else if (url) readAddress(url);
});

// Errors

function showFailure(error) {
  answer.clear("");
  if (error.status === 422) $("verdict").textContent = "There is nothing to read yet.";
  if (error.status !== 422 || picture) showError(error.message);
}

function showError(message) {
  $("error").textContent = message.charAt(0).toUpperCase() + message.slice(1);
  $("error").hidden = false;
}

function hideError() {
  $("error").hidden = true;
}

function model() {
  return models.find((one) => one.name === $("model").value) ?? models[0];
}

async function start() {
  models = await listModels();
  $("model").replaceChildren(...models.map(({ name }) => new Option(name, name)));
  $("model").disabled = models.length === 1;
  answer.setModel(model());
  if (!drawing.isEmpty) readDrawing();
}

start().catch((error) => showError(error.message));
