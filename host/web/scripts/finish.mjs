// After Vite: the licences of what is in the page, and each file once more as browsers take it over the network.
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const DIST = "dist";

/** Every package that is part of the page, by the lock file: those for development are not. */
function licences() {
  const { packages } = JSON.parse(readFileSync("package-lock.json", "utf8"));
  const texts = [];
  for (const [path, { dev, optional, version, license }] of Object.entries(packages)) {
    if (path === "" || dev || optional || !existsSync(path)) continue;
    const file = readdirSync(path).find((name) => /^(licen[cs]e|copying)/i.test(name));
    const text = file ? readFileSync(join(path, file), "utf8").trim() : `Licence: ${license ?? "see the package"}`;
    texts.push(`${path.replace(/^.*node_modules\//, "")} ${version}\n\n${text}\n`);
  }
  return texts.sort().join(`\n${"-".repeat(72)}\n\n`);
}

writeFileSync(join(DIST, "assets/licences.txt"), licences());

for (const folder of [DIST, join(DIST, "assets")]) {
  for (const name of readdirSync(folder).filter((name) => /\.(html|js|css|svg|txt)$/.test(name))) {
    const bytes = readFileSync(join(folder, name));
    const params = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length };
    for (const [ending, packed] of [
      [".br", brotliCompressSync(bytes, { params })],
      [".gz", gzipSync(bytes, { level: 9 })],
    ]) {
      // What does not get smaller is sent as it is.
      if (packed.length < bytes.length) writeFileSync(join(folder, name + ending), packed);
    }
  }
}
