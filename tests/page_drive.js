// Uses every control of the report page, and leaves what it saw in the page as JSON. Part of tests/test_page.py.
addEventListener("load", async () => {
  const wait = () => new Promise((done) => setTimeout(done, 150));
  const at = (selector, from = document) => from.querySelector(selector);
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const texts = (found) => found.map((element) => element.textContent);
  const seen = { tables: [], runs: [], errors: window.errors };
  const choose = async (select, value) => {
    select.value = value;
    select.dispatchEvent(new Event("change"));
    await wait();
  };
  const looked = () => ({
    titles: texts(all(".panel h3")), texts: texts(all(".panel dd .text")), marks: texts(all(".panel .mark")),
    cells: texts(all(".trace .cell")), groups: texts(all(".trace .group > .hidden")), titles_of_cells: all(".trace .cell").map((c) => c.title),
    shades: all(".trace .cell").map((cell) => cell.style.getPropertyValue("--a")), chips: texts(all(".trace .thought, .trace .pause, .trace .special")),
    boxes: texts(all(".drawing text")), chosen: all(".drawing .chosen").length, status: at("#status").textContent, rows: texts(all(".trace .row")),
    ledger: texts(all(".ledger td")), number: at("#number").value, paragraphs: texts(all(".panel p")),
  });

  await wait();
  for (const block of all("div.table")) {
    const table = { columns: {}, filtered: {} };
    const rows = () => all("tbody tr", block).filter((row) => !row.hidden);
    all("th", block).forEach((head, column) => {
      const button = at("button", head);
      const sorts = [0, 1].map(() => {
        button.click();
        return [head.getAttribute("aria-sort"), texts(rows().map((row) => row.cells[column]))];
      });
      table.columns[button.textContent] = sorts;
    });
    const [words, arm] = [at("input", block), at("select", block)];
    words.value = "second arm";
    words.dispatchEvent(new Event("input"));
    table.filtered.words = [rows().length, at("output", block).textContent];
    words.value = "";
    words.dispatchEvent(new Event("input"));
    if (arm) {
      for (const option of arm.options) {
        arm.value = option.value;
        arm.dispatchEvent(new Event("change"));
        table.filtered[option.value] = rows().length;
      }
    }
    seen.tables.push(table);
  }

  for (const id of ["comparison", "budget", "seed", "second", "first"]) {
    for (const option of [...at("#" + id).options]) {
      await choose(at("#" + id), option.value);
      for (const details of all(".panel details")) details.open = true;
      await wait();
      seen.runs.push({ id, option: option.textContent, ...looked() });
    }
    await choose(at("#" + id), at("#" + id).options[0].value);
  }
  seen.start = looked();
  at("#next").click();
  seen.next = looked();
  at("#previous").click();
  seen.previous = looked();
  for (const key of ["n", "ArrowRight", "p", "ArrowLeft"]) {
    document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    seen["key " + key] = at("#number").value;
  }
  await choose(at("#number"), "999999");
  seen.last = looked();
  for (const outcome of ["right", "wrong", "all"]) {
    await choose(at("#outcome"), outcome);
    seen[outcome] = looked();
  }
  for (const option of [...at("#difficulty").options].slice(1)) {
    await choose(at("#difficulty"), option.value);
    seen["difficulty " + option.value] = at("#status").textContent;
  }
  await choose(at("#difficulty"), "");
  await choose(at("#second"), at("#second").options[2].value);
  seen.both = looked();
  at(".trace .cell").click();
  seen.told = at(".panel .told").textContent;
  seen.hacked = window.hacked ?? null;
  seen.unlabelled = all("select, input").filter((control) => !control.closest("label") && !control.ariaLabel).length;
  seen.wide = document.documentElement.scrollWidth > innerWidth + 1;
  const out = document.createElement("pre");
  out.id = "seen";
  out.textContent = JSON.stringify(seen);
  document.body.append(out);
});
