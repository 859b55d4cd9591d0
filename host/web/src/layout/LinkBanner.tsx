import { useEffect, useState } from "react";
import { useLive } from "../api/live";
import { span } from "../lib/format";

/** Says that the server is gone, or refuses to tell what changes, for as long as that is so. */
export function LinkBanner() {
  const lostAt = useLive((state) => state.lostAt);
  const refusal = useLive((state) => state.refusal);
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    if (lostAt === null) return;
    const clock = window.setInterval(() => setNow(Date.now()), 1000);
    return () => window.clearInterval(clock);
  }, [lostAt]);
  if (lostAt === null) return null;
  const seconds = Math.max(0, (now - lostAt) / 1000);
  return (
    <div role="status" className="flex items-center justify-center gap-2 bg-bad px-4 py-1.5 text-center text-[14px] font-medium text-bg">
      {refusal === null
        ? `The server does not answer since ${span(seconds)}. What you see may be old; the page goes on by itself when it is back.`
        : `The server has refused to tell what changes for ${span(seconds)}: ${refusal}. What you see may be old; the page asks again by itself.`}
    </div>
  );
}
