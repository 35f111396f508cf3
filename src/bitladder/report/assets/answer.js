// Show, for each network, the first row whose loss is allowed; rows stand the lowest precision first.
{
  const slider = document.getElementById("allowed");
  const answers = [...document.querySelectorAll("tr.answer")];
  const pairs = new Set(answers.map((row) => row.dataset.pair));

  const within = (element) => Number(element.dataset.loss) <= Number(slider.value) + 1e-9;

  function answer() {
    const counts = new Map();
    for (const pair of pairs) {
      const rows = answers.filter((row) => row.dataset.pair === pair);
      const chosen = rows.find((row) => "loss" in row.dataset && within(row)) ?? rows.at(-1);
      for (const row of rows) row.hidden = row !== chosen;
      const precision = chosen.dataset.precision ?? "none";
      counts.set(precision, (counts.get(precision) ?? 0) + 1);
    }
    for (const rung of document.querySelectorAll(".rung")) {
      rung.classList.toggle("within", "loss" in rung.dataset && within(rung));
    }
    const points = `${Number(slider.value).toFixed(1)} points`;
    document.getElementById("allowed-value").textContent = points;
    slider.setAttribute("aria-valuetext", points);
    document.getElementById("summary").textContent = `Within ${points}: ${told(counts)}.`;
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
  answer();
}
