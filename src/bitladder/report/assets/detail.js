// One network in detail: its charts, and of one of its precisions the facts and the layers.
{
  const pair = document.getElementById("pair");
  const precision = document.getElementById("precision");
  const choices = [...precision.options];
  const section = document.getElementById("detail");
  const layers = document.getElementById("layers");

  function choosePair() {
    const before = precision.selectedOptions[0]?.textContent;
    const mine = choices.filter((choice) => choice.dataset.pair === pair.value);
    precision.replaceChildren(...mine);
    (mine.find((choice) => choice.textContent === before) ?? mine[0]).selected = true;
    chooseCell();
  }

  function chooseCell() {
    for (const part of section.querySelectorAll(".detail")) {
      const { pair: ofPair, cell } = part.dataset;
      part.hidden = ofPair === undefined ? cell !== precision.value : ofPair !== pair.value;
    }
    const rows = run.layers[precision.value];
    layers.hidden = rows.length === 0;
    document.getElementById("layers-of").textContent =
      `${pair.selectedOptions[0].textContent}, ${precision.selectedOptions[0].textContent}`;
    document.getElementById("layer-rows").replaceChildren(...rows.map(layerRow));
    drawCharts(section);
  }

  function layerRow([layer, kind, bits, sqnr, accuracy, low, high, own]) {
    const interval = `${percent(accuracy, 2)} (${percent(low, 1)}–${percent(high, 1)})`;
    const texts = [layer, kind, bits, fixed(sqnr, 1), interval, fixed(own, 1)];
    const row = document.createElement("tr");
    row.append(
      ...texts.map((text, index) => {
        const cell = document.createElement(index ? "td" : "th");
        if (!index) cell.scope = "row";
        cell.textContent = text;
        return cell;
      }),
    );
    return row;
  }

  const fixed = (value, digits) => (value === null ? "-" : value.toFixed(digits));
  const percent = (value, digits) => (value === null ? "-" : (100 * value).toFixed(digits));

  pair.addEventListener("change", choosePair);
  precision.addEventListener("change", chooseCell);
  for (const link of document.querySelectorAll("[data-open]")) {
    link.addEventListener("click", () => {
      pair.value = link.dataset.open;
      choosePair();
      precision.value = link.dataset.cell;
      chooseCell();
    });
  }
  choosePair();
}
