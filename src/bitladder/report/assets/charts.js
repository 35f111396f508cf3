// Draw the charts that are to be seen; `drawCharts` is called again when others are shown.
const run = JSON.parse(document.getElementById("run-data").textContent);

function drawCharts(place) {
  for (const figure of place.querySelectorAll("figure[data-chart]")) {
    if (figure.dataset.drawn || figure.closest("[hidden]")) continue;
    figure.dataset.drawn = "yes";
    const spec = run.specs[figure.dataset.chart];
    spec.config = structuredClone(run.config);
    spec.config.legend.columns = Math.max(1, Math.floor((figure.clientWidth - 150) / 120));
    window.vegaEmbed(figure.querySelector(".plot"), spec, {
      mode: "vega-lite",
      renderer: "svg", // its colours are the page's variables, so that they follow the theme
      actions: false,
      ast: true, // interprets expressions: the page allows no script to make scripts
      tooltip: { theme: "custom" },
    });
  }
}

drawCharts(document);
