// Show, for each network, the first row whose worst loss is allowed, as measured or surely. Rows
// stand the lowest precision first.
{
  const slider = document.getElementById("allowed");
  const answers = [...document.querySelectorAll("tr.answer")];
  const pairs = new Set(answers.map((row) => row.dataset.pair));

  const reading = document.getElementById("reading"); // only where losses have intervals
  const surely = () => reading?.value === "sure";
  const loss = (element) => (surely() ? element.dataset.sure : element.dataset.loss) ?? Infinity;
  const within = (element) => Number(loss(element)) <= Number(slider.value) + 1e-9;

  function answer() {
    const counts = new Map();
    for (const pair of pairs) {
      const rows = answers.filter((row) => row.dataset.pair === pair);
      const chosen = rows.find(within) ?? rows.at(-1);
      for (const row of rows) row.hidden = row !== chosen;
      const precision = chosen.dataset.precision ?? "none";
      counts.set(precision, (counts.get(precision) ?? 0) + 1);
    }
    for (const rung of document.querySelectorAll(".rung")) {
      rung.classList.toggle("within", within(rung));
    }
    const { digits, unit } = slider.dataset;
    const allowed = `${Number(slider.value).toFixed(digits)} ${unit}`.trim();
    document.getElementById("allowed-value").textContent = allowed;
    slider.setAttribute("aria-valuetext", allowed);
    const limit = surely() ? `Surely within ${allowed}` : `Within ${allowed}`;
    document.getElementById("summary").textContent = `${limit}: ${told(counts)}.`;
  }

  function told(counts) {
    const [[first]] = counts;
    if (counts.size === 1 && first === "none") return "none of the precisions";
    const all = pairs.size === 2 ? "both networks" : `all ${pairs.size} networks`;
    if (counts.size === 1) return pairs.size === 1 ? first : `${first} for ${all}`;
    const sorted = [...counts].sort((a, b) => (a[0] === "none") - (b[0] === "none") || b[1] - a[1]);
    return sorted.map(([precision, count]) => `${precision} for ${count}`).join(", ");
  }

  slider.addEventListener("input", answer);
  reading?.addEventListener("change", answer);
  answer();
}
