// Debian's Chromium, driven by playwright-core, which brings no browser of its own.
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";

/** A browser with a profile of its own, which asks nothing of the network by itself. */
export async function openBrowser(options = {}) {
  return chromium.launchPersistentContext(mkdtempSync(join(tmpdir(), "impetus-browser-")), {
    executablePath,
    headless: true,
    chromiumSandbox: false,
    viewport: { width: 1280, height: 820 },
    ...options,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}
