import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

/** Where `npm run dev` finds a running server. */
const server = process.env.IMPETUS_URL ?? "http://127.0.0.1:8484";

export default defineConfig({
  plugins: [react(), tailwindcss()],
  build: {
    target: "es2022",
    // Nothing is inlined as a data: address, so that the Content-Security-Policy stays short.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    manifest: true,
  },
  server: {
    proxy: Object.fromEntries(["/api", "/v1", "/tokenize", "/health"].map((path) => [path, { target: server, changeOrigin: true }])),
  },
  test: { environment: "node", include: ["src/**/*.test.ts"] },
});
