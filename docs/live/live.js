// Figures that move without a kernel. Where a page has <div class="live" data-figure="name">, the file name.js beside this
// one is loaded as soon as the figure comes near. It sets live.name, which tools/live.py describes.
"use strict";

const live = { folder: document.currentScript.src.replace(/[^/]*$/, ""), figures: {} };
document.documentElement.classList.add("live-on");

// ---- Numbers

live.half = (bits) => {
  const exponent = (bits >> 10) & 31, fraction = bits & 1023;
  return (bits >> 15 ? -1 : 1) * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction / 2 ** 24);
};

// Bytes written in base85, as Python's b85encode does: five letters for four bytes.
live.bytes = (text) => {
  const letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";
  const digit = Object.fromEntries([...letters].map((letter, i) => [letter, i]));
  const bytes = new Uint8Array(Math.floor((text.length * 4) / 5));
  for (let i = 0, at = 0; i < text.length; i += 5, at += 4) {
    let word = 0;
    for (let k = i; k < i + 5; k++) word = 85 * word + digit[text[k] ?? "~"];
    for (let k = 0; k < 4; k++) bytes[at + k] = Math.floor(word / 2 ** (24 - 8 * k));
  }
  return bytes;
};

// A stored tensor as an array of numbers, row after row; `pack` in tools/live.py wrote it.
live.tensor = ([kind, shape, text, scales]) => {
  const bytes = live.bytes(text);
  if (kind == "u1") return bytes;
  if (kind == "f4") return new Float32Array(bytes.buffer);
  if (kind == "f2") return Float32Array.from(new Uint16Array(bytes.buffer), live.half);
  const width = 11, scale = live.tensor(["f2", [], scales]);
  let bits = 0, held = 0, at = 0;
  return Float32Array.from({ length: shape[0] * shape[1] }, (_, i) => {
    for (; held < width; held += 8) bits = ((bits << 8) | bytes[at++]) & 0xffffff;
    held -= width;
    return (((bits >> held) & (2 ** width - 1)) - 2 ** (width - 1)) * scale[Math.floor(i / shape[1])];
  });
};

live.linear = (x, weight, bias) => {
  const n = x.length;
  return bias.map((start, i) => {
    let sum = start;
    for (let j = 0; j < n; j++) sum += weight[i * n + j] * x[j];
    return sum;
  });
};

// A transposed convolution of x (inputs, side, side) with weight (inputs, outputs, 4, 4).
live.spread = (x, weight, bias, side, stride, padding) => {
  const size = stride * (side - 1) + 4 - 2 * padding, outputs = bias.length;
  const spread = Float32Array.from({ length: outputs * size ** 2 }, (_, i) => bias[Math.floor(i / size ** 2)]);
  x.forEach((value, i) => {
    const input = Math.floor(i / side ** 2), top = (Math.floor(i / side) % side) * stride - padding, left = (i % side) * stride - padding;
    for (let output = 0; output < outputs; output++)
      for (let k = 0; k < 16; k++) {
        const row = top + (k >> 2), column = left + (k & 3);
        if (row >= 0 && row < size && column >= 0 && column < size)
          spread[(output * size + row) * size + column] += value * weight[(input * outputs + output) * 16 + k];
      }
  });
  return spread;
};

// The probability of ink in each pixel for a code z: linear layers with ReLUs between them, then the logistic function.
live.decode = (t, z) => {
  let x = live.linear(z, t.weight0, t.bias0);
  for (const layer of [1, 2]) x = live.linear(x.map((value) => Math.max(value, 0)), t[`weight${layer}`], t[`bias${layer}`]);
  return x.map((logit) => 1 / (1 + Math.exp(-logit)));
};

// ---- Panels

// Shows numbers in a canvas with a pixel for each: from 0, paper, to 1, ink, or red, green and blue one after the other.
live.image = (canvas) => {
  const context = canvas.getContext("2d"), picture = context.createImageData(canvas.width, canvas.height);
  const pixels = canvas.width * canvas.height;
  return (shown) => {
    const at = (i, color) => (shown.length > pixels ? shown[color * pixels + i] : 1 - shown[i]);
    for (let i = 0; i < pixels; i++) picture.data.set([255 * at(i, 0), 255 * at(i, 1), 255 * at(i, 2), 255], 4 * i);
    context.putImageData(picture, 0, 0);
  };
};

// Axes in a canvas: x and y turn data into its pixels, clear draws the empty axes.
live.plot = (canvas, { xlim, ylim, xlabel, ylabel, yticks = true, legend: words }) => {
  const context = canvas.getContext("2d"), left = 84, right = 16, top = 16, bottom = 78;
  const width = canvas.width - left - right, height = canvas.height - top - bottom;
  const x = (value) => left + (width * (value - xlim[0])) / (xlim[1] - xlim[0]);
  const y = (value) => top + (height * (ylim[1] - value)) / (ylim[1] - ylim[0]);
  const ticks = ([low, high]) => {
    const step = [0.2, 0.5, 1, 2, 4].find((size) => (high - low) / size <= 11) ?? 10, first = Math.ceil(low / step);
    return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => (first + i) * step);
  };
  const text = (words, across, down, color = "black") => {
    context.fillStyle = color;
    context.fillText(words, across, down);
  };
  const line = (points, color, dash = [], thick = 3) => {
    context.strokeStyle = color;
    context.lineWidth = thick;
    context.setLineDash(dash);
    context.beginPath();
    points.forEach(([a, b]) => context.lineTo(x(a), y(b)));
    context.stroke();
    context.setLineDash([]);
  };
  const clear = () => {
    context.fillStyle = "white";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.font = "28px sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (const value of ticks(xlim)) {
      line([[value, ylim[0]], [value, ylim[1]]], "#e4e4e4", [], 1);
      text(+value.toFixed(1), x(value), y(ylim[0]) + 22);
    }
    for (const value of yticks ? ticks(ylim) : []) {
      line([[xlim[0], value], [xlim[1], value]], "#e4e4e4", [], 1);
      text(+value.toFixed(1), left - 28, y(value));
    }
    line([[xlim[0], ylim[1]], [xlim[0], ylim[0]], [xlim[1], ylim[0]]], "black", [], 2);
    text(xlabel, left + width / 2, canvas.height - 18);
    context.save();
    context.rotate(-Math.PI / 2);
    text(ylabel, -(top + height / 2), 18);
    context.restore();
  };
  const dot = ([a, b], color, size = 8) => {
    context.fillStyle = color;
    context.beginPath();
    context.arc(x(a), y(b), size, 0, 7);
    context.fill();
  };
  const bar = (from, to, high, color, low = 0) => {
    context.fillStyle = color;
    context.fillRect(x(from), y(high), x(to) - x(from), y(low) - y(high));
  };
  // a white pattern that marks an area for readers who do not see its colour
  const hatch = (from, to, low, high) => {
    context.save();
    context.beginPath();
    context.rect(x(from), y(high), x(to) - x(from), y(low) - y(high));
    context.clip();
    context.strokeStyle = "white";
    context.lineWidth = 4;
    for (let at = x(from) - height; at < x(to); at += 24) {
      context.beginPath();
      context.moveTo(at, y(low));
      context.lineTo(at + height, y(low) - height);
      context.stroke();
    }
    context.restore();
  };
  // what the colours mean: each look is a colour and a dash, "dot" or "area"; below each other, or in columns
  const legend = (looks, from, columns = 1) => {
    const [low, high] = ylim, wide = (xlim[1] - xlim[0]) / 20;
    looks.forEach(([color, kind], i) => {
      const a = from + Math.floor(i % columns) * 8 * wide, b = high - (high - low) * (0.05 + 0.09 * Math.floor(i / columns));
      context.textAlign = "left";
      text(words[i], x(a + wide) + 12, y(b));
      if (kind == "dot") dot([a + wide / 2, b], color);
      else line([[a, b], [a + wide, b]], color, kind == "area" ? [] : kind, kind == "area" ? 16 : 3);
    });
    context.textAlign = "center";
  };
  // where a pointer is, in data
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    const across = ((event.clientX - box.left) / box.width) * canvas.width, down = ((event.clientY - box.top) / box.height) * canvas.height;
    return [xlim[0] + ((across - left) / width) * (xlim[1] - xlim[0]), ylim[1] - ((down - top) / height) * (ylim[1] - ylim[0])];
  };
  return { canvas, context, x, y, line, text, dot, bar, hatch, legend, clear, at };
};

// ---- Figures: each is given its tensors, panels and colours, and returns a function of the sliders' values. That one draws,
// and returns the numbers of the sentence.

live.figures.map = (t, [plane, picture], colors) => {
  const codes = Array.from(t.digits, (digit, i) => ({ digit, at: [t.codes[2 * i], t.codes[2 * i + 1]] }));
  return ({ z1, z2 }) => {
    const distance = ({ at }) => (at[0] - z1) ** 2 + (at[1] - z2) ** 2;
    const nearest = [...codes].sort((a, b) => distance(a) - distance(b)).slice(0, 5);
    const { context, x, y } = plane;
    plane.clear();
    context.font = "bold 22px sans-serif";
    for (const { digit, at } of codes)
      if (Math.max(Math.abs(at[0]), Math.abs(at[1])) < 3.2) plane.text(digit, x(at[0]), y(at[1]), colors.digits[digit]);
    context.strokeStyle = "black";
    context.lineWidth = 3;
    for (const { at } of nearest) {
      context.beginPath();
      context.arc(x(at[0]), y(at[1]), 17, 0, 7);
      context.stroke();
    }
    for (const [color, thick, half] of [["white", 16, 20], [colors.reconstruction, 10, 17]]) {
      context.fillStyle = color;
      context.fillRect(x(z1) - half, y(z2) - thick / 2, 2 * half, thick);
      context.fillRect(x(z1) - thick / 2, y(z2) - half, thick, 2 * half);
    }
    picture(live.decode(t, [z1, z2]));
    return [z1, z2, nearest.map(({ digit }) => digit).join(", ")];
  };
};
live.figures.map.drag = ["z1", "z2"]; // a pointer on the first panel moves these

live.figures.traversal = (t, [bars, ...pictures], colors) => {
  const ink = (image) => Array.from({ length: 784 }, (_, i) => (t.bits[98 * image + (i >> 3)] >> (7 - (i & 7))) & 1);
  return ({ image, dimension, value }) => {
    const mean = [...t.mu.slice(10 * image, 10 * image + 10)], changed = [...mean], kl = t.kl[dimension - 1];
    changed[dimension - 1] = value;
    bars.clear();
    t.kl.forEach((high, j) => bars.bar(j + 0.6, j + 1.4, high, colors.kl));
    bars.text("▼", bars.x(dimension), bars.y(kl + 0.25));
    [ink(image), live.decode(t, mean), live.decode(t, changed)].forEach((shown, i) => pictures[i](shown));
    return [image, dimension, value, mean[dimension - 1], kl];
  };
};

live.figures.trick = ({ eps }, [plot], colors, [{ xlim, ylim }]) => {
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const grid = Array.from({ length: 161 }, (_, i) => xlim[0] + ((xlim[1] - xlim[0]) * i) / 160);
  return ({ mu, sigma }) => {
    const z = [...eps].map((e) => mu + sigma * e), square = mean(z.map((value) => value ** 2)), exact = mu ** 2 + sigma ** 2;
    plot.clear();
    plot.line(grid.map((at) => [at, at ** 2]), "#bbbbbb");
    for (const at of z) if (at ** 2 < ylim[1]) plot.dot([at, at ** 2], colors.approximate);
    plot.line([[xlim[0], square], [xlim[1], square]], colors.approximate);
    plot.line([[xlim[0], exact], [xlim[1], exact]], "black", [12, 8]);
    plot.legend([["#bbbbbb", []], [colors.approximate, "dot"], [colors.approximate, []], ["black", [12, 8]]], -3, 2);
    return [square, exact, mean(z.map((at) => 2 * at)), 2 * mu, mean(z.map((at, i) => 2 * at * eps[i])), 2 * sigma];
  };
};

live.figures.posterior = ({ z, log_joint }, [curves, bar], colors, [{ xlim }, bars]) => {
  const step = z[1] - z[0], normal = (at, mean, log_width) => -0.5 * ((at - mean) / Math.exp(log_width)) ** 2 - log_width - 0.5 * Math.log(2 * Math.PI);
  const integral = (values) => values.reduce((sum, value) => sum + value, 0) * step;
  const log_px = Math.log(integral([...log_joint].map(Math.exp)));
  const shown = [...z.keys()].filter((i) => z[i] >= xlim[0] && z[i] <= xlim[1]);
  const curve = (density) => shown.map((i) => [z[i], density(i)]);
  return ({ mean, log_width }) => {
    const log_q = [...z].map((at) => normal(at, mean, log_width));
    const elbo = integral(log_q.map((value, i) => Math.exp(value) * (log_joint[i] - value)));
    const gap = integral(log_q.map((value, i) => Math.exp(value) * (value - log_joint[i] + log_px)));
    const low = bars.xlim[0], edge = Math.max(elbo, low);
    curves.clear();
    curves.context.globalAlpha = 0.3;
    for (const [at, high] of curve((i) => Math.exp(log_joint[i] - log_px))) curves.bar(at, at + 1.5 * step, high, colors.posterior);
    curves.context.globalAlpha = 1;
    curves.line(curve((i) => Math.exp(normal(z[i], 0, 0))), colors.prior, [12, 8], 5);
    curves.line(curve((i) => Math.exp(log_q[i])), colors.approximate, [], 5);
    curves.legend([[colors.prior, [12, 8]], [`${colors.posterior}4d`, "area"], [colors.approximate, []]], xlim[0] + 0.3);
    bar.clear();
    bar.bar(low, edge, 0.25, colors.approximate, -0.25);
    bar.bar(edge, log_px, 0.25, colors.kl, -0.25);
    bar.hatch(edge, log_px, -0.25, 0.25);
    bar.line([[log_px, -0.5], [log_px, 0.5]], "black", [12, 8]);
    bar.legend([[colors.approximate, "area"], [colors.kl, "area"]], low + 0.3, 2);
    return [elbo, gap, elbo + gap];
  };
};

live.figures.styles = (t, pictures) => {
  const leaky = (values) => values.map((value) => Math.max(value, value / 10)), last = t.styles.length / 10 - 1;
  const given = (i) => Array.from(t.given.subarray(i * 3072, (i + 1) * 3072), (level) => level / 255);
  return ({ style }) => {
    const first = Math.min(Math.floor(style), last - 1), share = style - first;
    const z = Array.from({ length: 10 }, (_, j) => (1 - share) * t.styles[10 * first + j] + share * t.styles[10 * (first + 1) + j]);
    pictures.forEach((show, i) => {
      if (i == 0 || i == pictures.length - 1) return show(given(i ? first + 1 : first));
      let x = [...z, ...pictures.slice(2).map((_, label) => +(label == i - 1))];
      for (const layer of [0, 1]) x = leaky(live.linear(x, t[`weight${layer}`], t[`bias${layer}`]));
      x = leaky(live.spread(x, t.weight2, t.bias2, 4, 2, 1));
      show(live.spread(x, t.weight3, t.bias3, 8, 4, 0).map((value) => value + 0.5));
    });
    return [1 - share, first, share, first + 1];
  };
};

// ---- Put together

live.start = (box) => {
  const { tensors, panels, colors, sentence } = live[box.dataset.figure], figure = live.figures[box.dataset.figure];
  const sliders = [...box.querySelectorAll("input")];
  const places = [...box.querySelectorAll("canvas")].map((canvas, i) => (panels[i].pixels ? live.image(canvas) : live.plot(canvas, panels[i])));
  const decoded = Object.fromEntries(Object.entries(tensors).map(([name, stored]) => [name, live.tensor(stored)]));
  const move = figure(decoded, places, colors, panels);
  const update = () => {
    const numbers = move(Object.fromEntries(sliders.map((slider) => [slider.name, slider.valueAsNumber])));
    const filled = sentence.replace(/\{(?:\.(\d)f)?\}/g, (_, digits) => {
      const number = numbers.shift();
      return digits ? number.toFixed(digits) : number;
    });
    box.querySelector(".sentence").textContent = filled;
    for (const slider of sliders)
      slider.closest("p").querySelector("output").value = slider.step == 1 ? slider.value : slider.valueAsNumber.toFixed(2);
  };
  for (const slider of sliders) slider.addEventListener("input", update);
  if (figure.drag) {
    const drag = (event) => {
      if (!event.buttons) return;
      places[0].at(event).forEach((value, i) => (box.querySelector(`[name=${figure.drag[i]}]`).value = value));
      update();
    };
    places[0].canvas.classList.add("drag");
    places[0].canvas.addEventListener("pointerdown", (event) => {
      event.target.setPointerCapture(event.pointerId);
      drag(event);
    });
    places[0].canvas.addEventListener("pointermove", drag);
  }
  update();
  box.dataset.ready = "";
};

addEventListener("DOMContentLoaded", () => {
  const near = new IntersectionObserver(
    (entries) => {
      for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
        near.unobserve(target);
        const script = document.createElement("script");
        script.src = `${live.folder}${target.dataset.figure}.js`;
        script.onload = () => live.start(target);
        script.onerror = () => target.remove(); // the still figure is there
        document.head.append(script);
      }
    },
    { rootMargin: "800px" },
  );
  document.querySelectorAll(".live").forEach((box) => near.observe(box));
});
