import { type RefObject, useEffect, useRef, useState, useSyncExternalStore } from "react";

/** An element's width: charts are drawn to it, so that their letters keep their size. */
export function useWidth<T extends HTMLElement>(): [RefObject<T | null>, number] {
  const element = useRef<T>(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const here = element.current;
    if (!here) return;
    const watch = new ResizeObserver(() => setWidth(Math.round(here.getBoundingClientRect().width)));
    watch.observe(here);
    return () => watch.disconnect();
  }, []);
  return [element, width];
}

const PHONE = "(max-width: 639px)";

/** Whether the window is as narrow as a phone. */
export function useNarrow(): boolean {
  return useSyncExternalStore(
    (listener) => {
      const query = window.matchMedia(PHONE);
      query.addEventListener("change", listener);
      return () => query.removeEventListener("change", listener);
    },
    () => window.matchMedia(PHONE).matches,
  );
}
