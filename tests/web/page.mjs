// The web page in a real Chromium. Usage: node page.mjs LINK SHOTS NAME [watch AGENT]
//
// LINK is what `hubctl dashboard` printed. Every page that can be reached is opened, light and dark, held against WCAG 2.2
// AA with axe-core, and photographed into the folder SHOTS. Nothing may be asked of another host, no script may fail, no
// policy be broken. With `watch`, it prints "watching" and waits for AGENT to be shown as failing, without a reload; then it
// prints "waiting for a command" and does.
// Prints `metric: value` lines; ends with 1 and what is wrong.
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const [link, shots, name, watch, agent] = process.argv.slice(2);
const origin = new URL(link).origin;
const axe = createRequire(import.meta.url).resolve("axe-core");
const problems = [];
const complain = (where, what) => problems.push(`${where}: ${what}`);

const browser = await chromium.launch({
  executablePath: process.env.SFDATA_CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

const open = async (options) => {
  // axe-core is brought into the page, which the page's own policy rightly forbids to others: bypassCSP is for that alone,
  // and `strict` is the context without it.
  const context = await browser.newContext({ viewport: { width: 1400, height: 900 }, ...options });
  if (open.state) await context.addCookies(open.state);
  const page = await context.newPage();
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && complain(page.url(), message.text()));
  page.on("pageerror", (error) => complain(page.url(), error));
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (url.protocol !== "data:" && url.origin !== origin) complain(page.url(), `asks ${url}`);
  });
  return { context, page };
};

const strict = await open({});
await strict.page.goto(link);
open.state = await strict.context.cookies();
if (new URL(strict.page.url()).pathname !== "/ui/") complain(link, `leads to ${strict.page.url()}`);

// Every page that a link leads to; of those that differ in a number alone a few.
const paths = ["/ui/"];
const kinds = new Map();
for (let at = 0; at < paths.length; at += 1) {
  const response = await strict.page.goto(origin + paths[at]);
  if (response.status() !== 200) complain(paths[at], `answers ${response.status()}`);
  if (response.headers()["content-type"]?.startsWith("text/html") !== true) continue;
  const links = await strict.page.$$eval("a[href]:not([download])", (all) => all.map((a) => a.getAttribute("href")));
  for (const href of links.filter((one) => one.startsWith("/ui/") && !paths.includes(one))) {
    const kind = href.replace(/^(\/ui\/(agents|commands)\/).*/, "$1").replace(/\?.*/, "?");
    kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
    if (kinds.get(kind) <= (kind.endsWith("?") ? 1 : 2)) paths.push(href);
  }
}

const file = (path) => `${shots}/${name}-${path.replace(/^\/ui\//, "").replace(/[^a-z0-9]+/gi, "-") || "fleet"}`;
for (const colorScheme of ["light", "dark"]) {
  const { context, page } = await open({ colorScheme, bypassCSP: true });
  for (const path of paths) {
    await page.goto(origin + path);
    await page.addScriptTag({ path: axe });
    const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
    const found = await page.evaluate((values) => window.axe.run(document, { runOnly: { type: "tag", values } }), tags);
    for (const violation of found.violations) {
      complain(`${path} (${colorScheme})`, `${violation.id}: ${violation.help}: ${violation.nodes[0].html} ${violation.nodes[0].failureSummary}`);
    }
    await page.screenshot({ path: `${file(path)}-${colorScheme}.png`, fullPage: path.includes("agents") });
  }
  await context.close();
}

// Narrow: the page itself does not scroll sideways (WCAG 1.4.10), and on paper everything is dark on light.
const narrow = await open({ viewport: { width: 320, height: 640 } });
for (const path of paths) {
  await narrow.page.goto(origin + path);
  const wide = await narrow.page.evaluate(() => document.documentElement.scrollWidth);
  if (wide > 320) complain(path, `is ${wide} pixels wide on a screen of 320`);
}
await narrow.page.goto(`${origin}/ui/`);
await narrow.page.screenshot({ path: `${file("/ui/")}-narrow.png` });
await narrow.page.emulateMedia({ media: "print", colorScheme: "dark" });
await narrow.page.screenshot({ path: `${file("/ui/")}-print.png` });
await narrow.context.close();

// Without JavaScript all of it is there.
const plain = await open({ javaScriptEnabled: false });
await plain.page.goto(`${origin}/ui/`);
const rows = await plain.page.locator("tbody tr").count();
await plain.page.getByRole("searchbox").fill("nobody-is-called-so");
await plain.page.getByRole("button", { name: "Show" }).click();
if (!plain.page.url().includes("q=nobody-is-called-so")) complain("/ui/", "the filter needs JavaScript");
if ((await plain.page.locator("tbody tr").count()) !== 0) complain("/ui/", "the filter shows what it should not");
await plain.context.close();

// By keyboard: the first stop skips to the content, and what has the focus is seen.
await strict.page.goto(`${origin}/ui/`);
await strict.page.keyboard.press("Tab");
const first = await strict.page.evaluate(() => document.activeElement.textContent);
if (!first.includes("Skip")) complain("/ui/", `the first stop of Tab is ${first}`);
await strict.page.keyboard.press("Enter");
if ((await strict.page.evaluate(() => document.activeElement.id)) !== "main") complain("/ui/", "Skip does not skip");

const paint = await strict.page.evaluate(
  () => new Promise((done) => new PerformanceObserver((seen) => {
    const first = seen.getEntriesByName("first-contentful-paint")[0];
    if (first) done(first.startTime);
  }).observe({ type: "paint", buffered: true })),
);
console.log(`rows: ${rows}`);
console.log(`pages: ${paths.length}`);
console.log(`first_paint_ms: ${Math.round(paint)}`);

if (watch) {
  await strict.page.locator("#live", { hasText: /^Live$/ }).waitFor();
  await strict.page.evaluate(() => (window.loadedOnce = true));
  const row = strict.page.locator(`#la-${agent}`);
  await row.getByRole("link").focus();
  console.log("watching");
  await row.locator(".badge.failing").waitFor({ timeout: 20_000 });
  if (!(await strict.page.evaluate(() => window.loadedOnce))) complain("/ui/", "was loaded again to show a change");
  const focused = await strict.page.evaluate(() => document.activeElement.getAttribute("href"));
  if (focused !== `/ui/agents/${agent}`) complain("/ui/", `the focus went from the row's link to ${focused}`);

  // A command that comes finds its place in the open list, above those that are there.
  await strict.page.goto(`${origin}/ui/commands`);
  await strict.page.locator("#live", { hasText: /^Live$/ }).waitFor();
  await strict.page.evaluate(() => (window.loadedOnce = true));
  const before = await strict.page.locator("#commands tr").count();
  console.log("waiting for a command");
  await strict.page.locator("#commands tr").nth(before).waitFor({ timeout: 20_000 });
  if (!(await strict.page.locator("#commands tr").first().textContent()).includes("agent.refresh")) complain("/ui/commands", "does not show the newest first");
  if (!(await strict.page.evaluate(() => window.loadedOnce))) complain("/ui/commands", "was loaded again to show a command");
}
await browser.close();

if (problems.length > 0) {
  console.error([...new Set(problems)].join("\n"));
  process.exit(1);
}
