"use strict";
// Without this script the page shows every row of the sample; with it, some at once, and a search.
(() => {
  const sample = document.getElementById("sample");
  if (!sample) return;
  const words = document.getElementById("words");
  const kind = document.getElementById("kind");
  const found = document.getElementById("found");
  const more = document.getElementById("more");
  const atOnce = Number(sample.dataset.atOnce);
  const first = found.textContent;
  const rows = Array.from(sample.children, (row) => ({
    row,
    kind: row.dataset.kind,
    text: row.textContent.toLowerCase(),
  }));
  let shown = atOnce;
  const show = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let matches = 0;
    for (const item of rows) {
      const matching =
        (!kind.value || item.kind === kind.value) && wanted.every((word) => item.text.includes(word));
      if (matching) matches += 1;
      item.row.hidden = !matching || matches > shown;
    }
    found.textContent =
      wanted.length || kind.value ? `${matches} of ${rows.length} rows of the sample` : first;
    more.hidden = matches <= shown;
  };
  const search = () => {
    shown = atOnce;
    show();
  };
  words.addEventListener("input", search);
  kind.addEventListener("change", search);
  more.addEventListener("click", () => {
    shown += 5 * atOnce;
    show();
  });
  words.form.addEventListener("submit", (event) => event.preventDefault());
  show();
})();
