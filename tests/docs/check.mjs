// Opens BASE/docs in headless Chromium as a person would and fails on anything unclean.
// NODE_PATH=FOLDER/node_modules node check.mjs BASE [OPERATION_ID]
// FOLDER holds playwright-core; CHROMIUM names another browser than /usr/bin/chromium.
import { createRequire } from "node:module";

// Unlike `import`, `require` looks into NODE_PATH.
const { chromium } = createRequire(import.meta.url)("playwright-core");

const HEADERS = {
  "x-content-type-options": "nosniff",
  "cross-origin-embedder-policy": "require-corp",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
};
const VERBS = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];
const FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];

function ensure(holds, reason) {
  if (!holds) throw new Error(reason);
}

function checkHeaders(headers) {
  for (const [name, value] of Object.entries(HEADERS)) {
    ensure(headers[name] === value, `${name} is ${headers[name]}, not ${value}`);
  }
  ensure(headers["permissions-policy"], "no Permissions-Policy");
  const csp = headers["content-security-policy"] ?? "";
  ensure(csp.includes("default-src 'none'"), `the CSP does not start from nothing: ${csp}`);
  ensure(!/unsafe-|\*|https?:/.test(csp), `the CSP is not strict: ${csp}`);
}

function operationsOf(document) {
  return Object.entries(document.paths).flatMap(([path, item]) =>
    VERBS.filter((verb) => item[verb]).map((verb) => ({ path, verb, ...item[verb] })));
}

// Without an operation named: the first that can be asked as it stands, and answers JSON.
function choose(operations, id) {
  return operations.find((operation) => id
    ? operation.operationId === id
    : operation.verb === "get"
      && !operation.parameters?.some((parameter) => parameter.required)
      && operation.responses["200"]?.content?.["application/json"]);
}

// Collects whatever a clean page does not do.
async function watch(page, base, unclean) {
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) unclean.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => unclean.push(`uncaught: ${error.message}`));
  page.on("requestfailed", (request) => unclean.push(`failed: ${request.url()}`));
  page.on("response", (response) => {
    if (response.status() >= 400) unclean.push(`${response.status()}: ${response.url()}`);
  });
  page.on("request", (request) => {
    const { protocol, origin } = new URL(request.url());
    if (protocol !== "data:" && origin !== new URL(base).origin) unclean.push(`asks elsewhere: ${request.url()}`);
  });
  await page.exposeFunction("noteViolation", (text) => unclean.push(`CSP: ${text}`));
  await page.addInitScript(() => addEventListener("securitypolicyviolation", (event) =>
    window.noteViolation(`${event.effectiveDirective} refused ${event.blockedURI}`)));
}

async function check(page, base, id, unclean) {
  await watch(page, base, unclean);
  const answer = await page.goto(`${base}/docs`);
  ensure(answer.status() === 200, `GET /docs answers ${answer.status()}`);
  checkHeaders(await answer.allHeaders());
  const document = await page.request.get(`${base}/api/openapi.json`);
  const operations = operationsOf(await document.json());

  const blocks = page.locator(".opblock");
  await blocks.first().waitFor();
  const shown = await blocks.count();
  ensure(shown === operations.length, `${shown} of ${operations.length} operations shown`);
  // What only shows when opened may be unclean too. One at a time: many open ones make the page slow.
  for (const block of await blocks.all()) {
    const control = block.locator(".opblock-summary-control");
    await control.dispatchEvent("click");
    await block.locator(".responses-wrapper").waitFor();
    await control.dispatchEvent("click");
  }

  const operation = choose(operations, id);
  ensure(operation, "no operation to try");
  const name = `${operation.verb.toUpperCase()} ${operation.path}`;
  const block = blocks
    .filter({ has: page.locator(`[data-path="${operation.path}"]`) })
    .filter({ has: page.getByText(operation.verb.toUpperCase(), { exact: true }) });
  await block.locator(".opblock-summary-control").click();
  await block.locator("button.execute").click();
  const live = block.locator(".live-responses-table tbody");
  const status = await live.locator(".response-col_status").first().innerText();
  ensure(status.startsWith("200"), `${name} shows ${status}`);
  JSON.parse(await live.locator("code.language-json").innerText());

  // Reports come after what they report on.
  await page.waitForTimeout(500);
  ensure(unclean.length === 0, "the page is not clean");
  return `${shown} operations shown, ${name} tried, console clean`;
}

const [base, id] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: FLAGS,
});
const unclean = [];
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(20_000);
  console.log(await check(page, base.replace(/\/$/, ""), id, unclean));
} catch (error) {
  console.error([`docs: ${error.message}`, ...new Set(unclean)].join("\n"));
  process.exitCode = 1;
} finally {
  await browser.close();
}
