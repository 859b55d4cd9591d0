// What a model writes never becomes a script, a request or a page: its words are those of a stranger.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { House } from "./house.mjs";
import { say, visit } from "./visit.mjs";

const HOSTILE = [
  "<script>window.hacked=1</script>",
  "<img src=x onerror=window.hacked=2>",
  "<iframe srcdoc='<script>parent.hacked=3</script>'></iframe>",
  "<svg onload=window.hacked=4>",
  "<style>body{display:none}</style>",
  "[click](javascript:window.hacked=5)",
  "[data](data:text/html,<script>window.hacked=6</script>)",
  "![picture](http://evil.example/track.png)",
  "![](https://evil.example/`x`)",
  "<a href='javascript:window.hacked=7'>x</a>",
  "<base href='http://evil.example/'>",
  "<meta http-equiv=refresh content='0;url=http://evil.example/'>",
  "[fine](https://example.org/page)",
].join("\n\n");

let house;
let seen;

before(async () => {
  house = await new House(["fake"]).model("m.fake", "say = hello").serve();
  seen = await visit(house.url);
});

after(async () => {
  await seen?.close();
  await house?.close();
});

test("hostile Markdown is text", async () => {
  const { page } = seen;
  const answers = [];
  await page.route("**/v1/chat/completions", async (route) => {
    // The words come from here, byte for byte, in pieces as a stream has them; everything else is the real server.
    const piece = (content) => `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content }, finish_reason: null }] })}\n\n`;
    const pieces = HOSTILE.match(/.{1,7}/gs) ?? [];
    answers.push(pieces.length);
    const end = `data: ${JSON.stringify({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] })}\n\ndata: [DONE]\n\n`;
    await route.fulfill({ contentType: "text/event-stream", body: pieces.map(piece).join("") + end });
  });
  await seen.goTo("/chat");
  await say(page, "Be hostile.");
  const answer = page.getByRole("article", { name: "Answer of m" });
  await answer.getByRole("link", { name: "fine" }).waitFor();
  await page.waitForTimeout(500);
  assert.equal(answers.length, 1);
  assert.equal(await page.evaluate(() => window.hacked), undefined);
  assert.equal(await answer.locator("script, iframe, img, style, base, meta, object, embed").count(), 0);
  const links = await answer.locator("a").evaluateAll((links) => links.map((link) => [link.getAttribute("href"), link.rel]));
  assert.deepEqual(links.filter(([href]) => !href.startsWith("https://")), []);
  assert.ok(links.some(([href, rel]) => href === "https://example.org/page" && rel.includes("noopener")));
  assert.ok((await answer.innerText()).includes("<script>window.hacked=1</script>"), "HTML is shown as it was written");
  seen.check();
});

test("a script that gets into the page all the same does not run, and reaches nobody", async () => {
  const { page } = seen;
  // Somebody who listens: only the policy keeps the page from asking.
  let asked = 0;
  const stranger = createServer((_, response) => {
    asked += 1;
    response.setHeader("access-control-allow-origin", "*");
    response.end("hello");
  });
  await new Promise((then) => stranger.listen(0, "127.0.0.1", then));
  const address = `http://127.0.0.1:${stranger.address().port}/`;
  assert.equal(await (await fetch(address)).text(), "hello");
  const [hacked, answered, violations] = await page.evaluate(async (address) => {
    const violations = [];
    document.addEventListener("securitypolicyviolation", ({ effectiveDirective, blockedURI }) => violations.push(`${effectiveDirective} ${blockedURI}`));
    const script = document.createElement("script");
    try {
      script.textContent = "window.hacked = 8";
      document.body.append(script);
    } catch {
      // Trusted types refuse the text of a script by themselves.
    }
    try {
      document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='window.hacked=9'>");
    } catch {
      // And so they do with HTML.
    }
    const picture = new Image();
    picture.src = `${address}picture.png`;
    const answered = await fetch(address, { mode: "no-cors" }).then(() => "sent", () => "refused");
    await new Promise((then) => setTimeout(then, 300));
    return [window.hacked, answered, violations];
  }, address);
  stranger.close();
  assert.deepEqual([hacked, answered, asked], [undefined, "refused", 1]);
  for (const expected of [`connect-src ${address}`, `img-src ${address}picture.png`]) assert.ok(violations.includes(expected), `${expected}: ${JSON.stringify(violations)}`);
  assert.ok(violations.some((one) => one.startsWith("require-trusted-types-for")), JSON.stringify(violations));
});
