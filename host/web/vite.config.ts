import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import type { ProxyOptions } from "vite";
import { defineConfig } from "vitest/config";

/** Where `npm run dev` finds a running server. */
const server = process.env.IMPETUS_URL ?? "http://127.0.0.1:8484";

/** The server takes orders from its own page alone: what comes through here is to look as if it came from a program. */
const toServer: ProxyOptions = {
  target: server,
  changeOrigin: true,
  configure: (proxy) => {
    proxy.on("proxyReq", (request) => request.removeHeader("origin"));
  },
};

export default defineConfig({
  plugins: [react(), tailwindcss()],
  build: {
    target: "es2022",
    // Nothing is inlined as a data: address, so that the Content-Security-Policy stays short.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  server: {
    proxy: Object.fromEntries(["/api", "/v1"].map((path) => [path, toServer])),
  },
  test: { environment: "node", include: ["src/**/*.test.ts"] },
});
