// What all parts share: making elements, and showing what cannot be seen. Data reaches the page as text nodes alone.
const UNSEEN = new RegExp(
  "[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u061c\\u180e\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff" +
    "\\ufff9-\\ufffb\\ud800-\\udfff\\u{e0000}-\\u{e007f}]", "gu");

function seen(text) {
  return String(text).replace(UNSEEN, (found) => {
    return "\u27e8U+" + found.codePointAt(0).toString(16).toUpperCase().padStart(4, "0") + "\u27e9";
  });
}

const SVG = "http://www.w3.org/2000/svg";

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// An element; children are elements or texts, and a text stays a text.
function make(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function draw(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

// Somebody's text, apart from the direction of what stands around it.
function said(text, none = "nothing") {
  if (text === null || text === undefined) return make("em", {}, none);
  return make("bdi", { class: "text", dir: "ltr" }, seen(text));
}

function count(value) {
  return typeof value === "number" ? value.toLocaleString("en-US", { maximumFractionDigits: 4 }) : seen(value);
}

function one(id) {
  return document.getElementById(id);
}

// Give a select its options; the value that it had stays chosen if it is still among them.
function choices(select, options) {
  const before = select.value;
  select.replaceChildren(...options.map(([value, text]) => make("option", { value }, seen(text))));
  if (options.some(([value]) => value === before)) select.value = before;
  select.disabled = options.length < 2;
}
