// The results: sorted by a click on a heading, filtered, and downloaded as they are shown.
{
  const table = document.getElementById("table");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const buttons = [...table.querySelectorAll("thead button")];
  const filter = document.getElementById("filter");
  const choices = [...document.querySelectorAll(".choice")];
  const [names, ...records] = run.table;

  function sort(button) {
    const heading = button.parentElement;
    const column = heading.cellIndex;
    const ascending = heading.getAttribute("aria-sort") !== "ascending";
    for (const other of buttons) other.parentElement.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
    const number = button.dataset.kind === "number";
    const compare = (a, b) => {
      const [first, second] = [key(a), key(b)];
      if (!number) return first.localeCompare(second) * (ascending ? 1 : -1);
      const [x, y] = [Number(first), Number(second)];
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
      return (x - y) * (ascending ? 1 : -1);
    };
    body.append(...[...body.rows].sort(compare));
  }

  function show() {
    const words = filter.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const chosen = choices.every(
        (choice) =>
          choice.value === "" || row.cells[choice.dataset.column].textContent === choice.value,
      );
      row.hidden = !chosen || !words.every((word) => text.includes(word));
    }
    const left = rows.filter((row) => !row.hidden).length;
    document.getElementById("shown").textContent = `${left} of ${rows.length} cells`;
  }

  function download() {
    const shown = [...body.rows].filter((row) => !row.hidden);
    const content = [names, ...shown.map((row) => records[row.dataset.row - 1])];
    const text = content.map((record) => `${record.map(quoted).join(",")}\n`).join("");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = `${run.name}.csv`;
    link.click();
    URL.revokeObjectURL(link.href);
  }

  const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

  for (const button of buttons) button.addEventListener("click", () => sort(button));
  filter.addEventListener("input", show);
  for (const choice of choices) choice.addEventListener("change", show);
  document.getElementById("download").addEventListener("click", download);
}
