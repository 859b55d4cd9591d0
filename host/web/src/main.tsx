import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Refusal } from "./api/client";
import { listen } from "./api/live";
import { readTheme, showTheme } from "./lib/theme";
import { router } from "./router";
import "./styles.css";

showTheme(readTheme());

const client = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 2_000,
      // What was refused is refused again; a server that is gone is looked for by `live`.
      retry: (failures, error) => !(error instanceof Refusal) && failures < 2,
    },
  },
});

void listen(client);

const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <QueryClientProvider client={client}>
        <RouterProvider router={router} />
      </QueryClientProvider>
    </StrictMode>,
  );
}
