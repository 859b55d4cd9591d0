import { type RefObject, useLayoutEffect, useState } from "react";

/** The element that scrolls around a list, and how far below its beginning the list stands. */
export function useScroller(list: RefObject<HTMLElement | null>): { element: () => HTMLElement | null; margin: number } {
  const [margin, setMargin] = useState(0);
  const element = () => list.current?.closest<HTMLElement>("main") ?? null;
  useLayoutEffect(() => {
    const here = list.current;
    const around = here?.closest<HTMLElement>("main");
    if (!here || !around) return;
    const measure = () => setMargin(Math.round(here.getBoundingClientRect().top - around.getBoundingClientRect().top + around.scrollTop));
    measure();
    const watch = new ResizeObserver(measure);
    // Whatever comes or goes above the list changes the height of what scrolls.
    if (around.firstElementChild) watch.observe(around.firstElementChild);
    return () => watch.disconnect();
  }, [list]);
  return { element, margin };
}
