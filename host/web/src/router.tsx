/**
 * The pages, each in a file of its own that is loaded when it is first opened. Addresses are behind a `#`: the server's
 * own paths, such as /models, are the API's.
 */
import { createHashHistory, createRootRoute, createRoute, createRouter, lazyRouteComponent, redirect } from "@tanstack/react-router";
import { Shell } from "./layout/Shell";

const root = createRootRoute({ component: Shell });

const start = createRoute({
  getParentRoute: () => root,
  path: "/",
  beforeLoad: () => {
    throw redirect({ to: "/chat" });
  },
});

const chat = createRoute({
  getParentRoute: () => root,
  path: "/chat",
  component: lazyRouteComponent(() => import("./chat/ChatPage"), "ChatPage"),
  validateSearch: (search: Record<string, unknown>): { id?: string; model?: string } => ({
    ...(typeof search.id === "string" ? { id: search.id } : {}),
    ...(typeof search.model === "string" ? { model: search.model } : {}),
  }),
});

const models = createRoute({
  getParentRoute: () => root,
  path: "/models",
  component: lazyRouteComponent(() => import("./models/ModelsPage"), "ModelsPage"),
  validateSearch: (search: Record<string, unknown>): { model?: string } =>
    typeof search.model === "string" ? { model: search.model } : {},
});

const plugins = createRoute({
  getParentRoute: () => root,
  path: "/plugins",
  component: lazyRouteComponent(() => import("./plugins/PluginsPage"), "PluginsPage"),
});

const bench = createRoute({
  getParentRoute: () => root,
  path: "/benchmarks",
  component: lazyRouteComponent(() => import("./bench/BenchPage"), "BenchPage"),
});

const server = createRoute({
  getParentRoute: () => root,
  path: "/server",
  component: lazyRouteComponent(() => import("./server/ServerPage"), "ServerPage"),
});

export const router = createRouter({
  routeTree: root.addChildren([start, chat, models, plugins, bench, server]),
  history: createHashHistory(),
  defaultPreload: "intent",
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
