// What a model writes never becomes a script, a request or a page: its words are those of a stranger.
import assert from "node:assert/strict";
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

test("a script that gets into the page all the same does not run", async () => {
  const { page } = seen;
  const outcome = await page.evaluate(async () => {
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
    const answered = await fetch("http://127.0.0.1:9/", { mode: "no-cors" }).then(() => "sent", () => "refused");
    await new Promise((then) => setTimeout(then, 300));
    return [window.hacked, answered];
  });
  assert.deepEqual(outcome, [undefined, "refused"]);
});
