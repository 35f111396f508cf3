// Show the answers of the slider's position. Every answer was worked out when the page was written;
// here rows are looked up.
{
  const slider = document.getElementById("allowed");
  const answers = [...document.querySelectorAll("tr.answer")];
  const reading = document.getElementById("reading"); // only where losses have intervals

  function answer() {
    const position = Math.round(Number(slider.value) / Number(slider.step));
    const [summary, rows] = run.answers[reading?.value ?? "loss"][position];
    const seen = new Set(rows);
    for (const row of answers) row.hidden = !seen.has(Number(row.dataset.row));
    const { digits, unit } = slider.dataset;
    const allowed = `${Number(slider.value).toFixed(digits)} ${unit}`.trim();
    document.getElementById("allowed-value").textContent = allowed;
    slider.setAttribute("aria-valuetext", allowed);
    document.getElementById("summary").textContent = summary;
  }

  slider.addEventListener("input", answer);
  reading?.addEventListener("change", answer);
  answer();
}
