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
    chooseReal(run.real[precision.value]);
    drawCharts(section);
  }

  function chooseReal(real) {
    document.getElementById("real").hidden = real.loss === "" && real.count === 0;
    document.getElementById("real-loss").textContent = real.loss;
    const shown = real.flips.length;
    document.getElementById("flip-count").textContent =
      real.count === 0
        ? "No image changes its answer, or this run did not keep them."
        : `${real.count} images change${shown < real.count ? `; here are ${shown}` : ""}. Below each: float → quantized.`;
    document.getElementById("flips").replaceChildren(...real.flips.map((one) => flip(real, one)));
    const rows = document.getElementById("label-rows"); // only of runs whose images have labels
    if (!rows) return;
    document.getElementById("labels").hidden = real.labels.length === 0;
    rows.replaceChildren(...real.labels.map(layerRow));
    document.getElementById("mistakes").hidden = real.mistakes.length === 0;
    document.getElementById("mistake-rows").replaceChildren(
      ...real.mistakes.map((text) => {
        const line = document.createElement("li");
        line.textContent = text;
        return line;
      }),
    );
  }

  function flip({ dataset }, [image, told, change]) {
    const figure = document.createElement("figure");
    figure.className = `flip ${change}`;
    const content = run.pictures[dataset]?.[image];
    if (content) {
      const picture = document.createElement("img");
      picture.src = `data:image/jpeg;base64,${content}`;
      picture.alt = `image ${image}`;
      figure.append(picture);
    }
    const caption = document.createElement("figcaption");
    caption.textContent = `${told}${content ? "" : `, image ${image}`}`;
    figure.append(caption);
    return figure;
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
