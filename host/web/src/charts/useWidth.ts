import { type RefObject, useEffect, useRef, useState } from "react";

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
