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

  function layerRow(texts) {
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
