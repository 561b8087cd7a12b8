// Live charts, drawn by uPlot (vendor/). What they show is said in words as well, for who cannot see them.
import { fill, h } from "./dom.js";
import { clock } from "./words.js";

const LEAST_S = 60;

/** The times between which a chart is drawn: a minute at least, also before there is anything to draw. */
export function span(low, high, now) {
  const end = high ?? now;
  return [Math.min(low ?? end, end - LEAST_S), end];
}

/** A chart of `series`: [{label, of(sample), text(value)}], its axis up to `least` at least. Returns {element,
 * update(samples), destroy()}. */
export function chart(title, series, axis, least) {
  const place = h("div", { class: "chart", "aria-hidden": "true" });
  const legend = h("ul", { class: "legend" });
  const element = h("section", { class: "card" }, h("h2", {}, title), place, legend);
  let plot = null;

  function colours() {
    const style = getComputedStyle(document.documentElement);
    return (name) => style.getPropertyValue(name).trim();
  }

  function draw(data) {
    const colour = colours();
    const lines = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    const options = {
      width: place.clientWidth || 300,
      height: 170,
      legend: { show: false },
      cursor: { show: false },
      scales: { x: { range: (_, low, high) => span(low, high, Date.now() / 1000) }, y: { range: (_, low, high) => [0, Math.max((high || 0) * 1.1, least)] } },
      axes: [{ ...lines, space: 80, size: 30, values: (_, ticks) => ticks.map(clock) }, { ...lines, size: 62, values: (_, ticks) => ticks.map(axis) }],
      series: [{}, ...series.map((one, at) => ({ stroke: colour(`--series-${at + 1}`), width: 2, spanGaps: true, points: { show: false } }))],
    };
    plot = new uPlot(options, data, place);
  }

  const resized = new ResizeObserver(() => { if (plot) plot.setSize({ width: place.clientWidth, height: 170 }); });
  resized.observe(place);
  const recoloured = () => { if (plot) { const { data } = plot; plot.destroy(); draw(data); } };
  document.addEventListener("recoloured", recoloured);

  return {
    element,
    update(samples) {
      const clean = (value) => (value === Infinity ? 30 : value);
      const data = [samples.map((one) => one.at), ...series.map((one) => samples.map((sample) => clean(one.of(sample))))];
      if (plot) plot.setData(data);
      else if (place.isConnected) draw(data);
      const last = samples.at(-1);
      fill(legend, series.map((one) => h("li", {}, `${one.label} ${last ? one.text(one.of(last)) : "–"}`)));
    },
    destroy() {
      resized.disconnect();
      document.removeEventListener("recoloured", recoloured);
      if (plot) plot.destroy();
    },
  };
}
