// Live values by equipment. What there is comes from /api/points once, values from /api/monitoring/stream (MQTT).
(() => {
  "use strict";
  const AGE_EVERY = 1000; // ms
  const rows = new Map(); // topic → {point, value, age, row, at, interval}
  const make = (tag, name, text) => {
    const node = document.createElement(tag);
    if (name) node.className = name;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const say = (text, level) => {
    const state = document.querySelector(".live-state");
    if (state && state.textContent !== text) { state.textContent = text; state.className = `live-state ${level}`; }
  };
  const shown = (point, value) => {
    if (value === null || value === undefined) return "—";
    if (point.objectType.startsWith("binary")) return value ? "active" : "inactive";
    return `${Number(value.toPrecision(5))} ${point.units || ""}`.trim();
  };
  const age = (ms) => {
    const s = Math.max(0, Math.round(ms / 1000));
    return s < 120 ? `${s} s` : s < 7200 ? `${Math.round(s / 60)} min` : `${Math.round(s / 3600)} h`;
  };
  const show = (entry, value, quality, timestamp, reason) => {
    entry.at = Date.parse(timestamp);
    entry.value.textContent = shown(entry.point, value);
    entry.value.title = quality === "good" ? "" : `${quality}${reason ? ": " + reason : ""}`;
    entry.note.textContent = quality === "good" ? "" : `${quality}${reason ? ": " + reason : ""}`;
    entry.quality = quality;
    tick(entry);
  };
  const tick = (entry) => {
    if (!entry.at) { entry.age.textContent = "never"; return; }
    const old = Date.now() - entry.at;
    const stale = old > 3000 * entry.point.interval + 5000;
    entry.age.textContent = age(old);
    entry.age.classList.toggle("bad", stale);
    entry.value.classList.toggle("bad", entry.quality === "bad" || stale);
    entry.value.classList.toggle("warning", entry.quality === "uncertain");
  };
  const build = (points, mayWrite) => {
    const home = document.querySelector(".live-home");
    home.replaceChildren();
    rows.clear();
    const cards = new Map();
    for (const point of points.filter((one) => one.enabled && one.topic)) {
      const title = `${point.equipmentType} ${point.equipmentId}`;
      if (!cards.has(title)) {
        const card = make("section", "panel");
        card.append(make("h2", "", title));
        cards.set(title, card);
      }
      const row = make("div", "live");
      row.dataset.topic = point.topic;
      const name = make("div", "name");
      const link = make("a", "", point.dis || point.pointName || point.objectType + ":" + point.objectInstance);
      link.href = `/monitor?points=${point.id}`;
      link.title = point.haystackName || point.topic;
      name.append(link);
      if (mayWrite && point.isWritable && (point.haystackName || "").split(".")[3] === "sp") {
        const write = make("button", "write", "write");
        write.type = "button";
        write.setAttribute("aria-label", `Write ${link.textContent}`);
        write.addEventListener("click", () => emitEvent("bacpipes_write", point.id));
        name.append(" ", write);
      }
      const note = make("div", "muted small");
      name.append(note);
      const value = make("div", "value", "—");
      const old = make("div", "age", "never");
      row.append(name, value, old);
      cards.get(title).append(row);
      const entry = { point, value, age: old, row, note, at: 0, quality: "none" };
      rows.set(point.topic, entry);
      if (point.lastPollTime) show(entry, point.lastValue, point.quality, point.lastPollTime, point.reason);
    }
    home.append(...[...cards.entries()].sort((a, b) => a[0].localeCompare(b[0], undefined, { numeric: true })).map((one) => one[1]));
    if (!cards.size) home.append(make("p", "muted", "No point is enabled yet: import a list under Points, or find devices under Discovery."));
  };
  const filter = (text) => {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    for (const { point, row } of rows.values()) {
      const all = `${point.dis} ${point.pointName} ${point.haystackName} ${point.topic} ${point.deviceName}`.toLowerCase();
      row.hidden = !words.every((word) => all.includes(word));
    }
    for (const card of document.querySelectorAll(".live-home > section")) {
      card.hidden = !card.querySelector(".live:not([hidden])");
    }
  };
  const listen = () => {
    const source = new EventSource("/api/monitoring/stream");
    source.addEventListener("reading", (event) => {
      const reading = JSON.parse(event.data);
      const entry = rows.get(reading.topic);
      if (entry) show(entry, reading.value, reading.quality, reading.timestamp, reading.reason);
    });
    source.addEventListener("state", (event) => {
      const state = JSON.parse(event.data);
      say(state.connected ? "live" : `The broker does not deliver: ${state.reason}`, state.connected ? "good" : "bad");
    });
    source.onerror = () => say("The connection is lost; trying again …", "bad");
    window.addEventListener("pagehide", () => source.close());
  };
  const start = async () => {
    const home = document.querySelector(".live-home");
    if (!home) { setTimeout(start, 50); return; }
    try {
      const answer = await fetch("/api/points");
      if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
      build(await answer.json(), home.dataset.write === "yes");
    } catch (error) {
      say(`The points can't be loaded (${error.message}); trying again …`, "bad");
      setTimeout(start, 5000);
      return;
    }
    document.addEventListener("input", (event) => {
      if (event.target.closest(".live-filter")) filter(event.target.value);
    });
    listen();
    setInterval(() => rows.forEach(tick), AGE_EVERY);
  };
  start();
})();
