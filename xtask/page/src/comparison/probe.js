// Asks the page, from inside, what a reader would see, and tells whoever
// shows it.
const errors = [];
addEventListener("error", (event) => errors.push(event.message));

function luminance([red, green, blue]) {
  const linear = (part) => {
    part /= 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  };
  return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
}

function parts(color) {
  return color.match(/[\d.]+/g).map(Number);
}

function behind(element) {
  for (; element; element = element.parentElement) {
    const color = parts(getComputedStyle(element).backgroundColor);
    if (color.length === 3) return color;
  }
  return [255, 255, 255];
}

function contrast(element) {
  const style = getComputedStyle(element);
  const drawn = element.namespaceURI.endsWith("svg");
  const text = luminance(parts(drawn ? style.fill : style.color));
  const paper = luminance(behind(element));
  return (Math.max(text, paper) + 0.05) / (Math.min(text, paper) + 0.05);
}

function hasText(element) {
  const own = [...element.childNodes].filter((node) => node.nodeType === 3);
  const shown = element.getClientRects().length > 0;
  return shown && own.some((node) => node.textContent.trim() !== "");
}

// Text that leaves its drawing, or lies on other text of it.
function misplaced(drawing) {
  const all = [...drawing.querySelectorAll("text")].filter(
    (text) => !text.hasAttribute("transform"),
  );
  const frame = drawing.getBoundingClientRect();
  const boxes = all.map((text) => text.getBoundingClientRect());
  return all
    .filter((_, at) => {
      const box = boxes[at];
      const inside = box.left >= frame.left - 1 && box.right <= frame.right + 1;
      // Lines have room above and below their letters.
      const on = (other) =>
        other !== box &&
        box.left < other.right - 1 && other.left < box.right - 1 &&
        box.top < other.bottom - 5 && other.top < box.bottom - 5;
      return !inside || boxes.some(on);
    })
    .map((text) => text.textContent);
}

addEventListener("load", () => {
  const drawings = [...document.querySelectorAll("svg")];
  const size = (drawing) => drawing.getBoundingClientRect();
  const empty = drawings.filter((d) => !size(d).width || !size(d).height);
  const texts = [...document.querySelectorAll("main *")].filter(hasText);
  const facts = {
    width: innerWidth,
    content: document.documentElement.scrollWidth,
    dark: matchMedia("(prefers-color-scheme: dark)").matches,
    requests: performance.getEntriesByType("resource").length,
    errors,
    drawings: drawings.length,
    empty: empty.length,
    misplaced: drawings.flatMap(misplaced),
    texts: texts.length,
    contrast: Math.min(...texts.map(contrast)),
  };
  parent.postMessage(JSON.stringify(facts), "*");
});
