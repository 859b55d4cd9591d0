import { useState } from "react";
import { cx } from "../ui/classes";
import type { TokenProbability } from "./types";

/** Each token of an answer, the darker the less probable; one of them with what it was chosen from. */
export function Probabilities({ tokens }: { tokens: TokenProbability[] }) {
  const [at, setAt] = useState(0);
  const chosen = tokens[at];
  return (
    <div className="flex flex-col gap-3">
      <p className="leading-7 break-words whitespace-pre-wrap">
        {tokens.map((token, index) => (
          <button
            // Tokens have no names, and their order is fixed.
            key={`${index}`}
            type="button"
            aria-pressed={index === at}
            onClick={() => setAt(index)}
            className={cx("rounded-sm whitespace-pre-wrap", shade(Math.exp(token.logprob)), index === at && "outline-2 outline-accent")}
          >
            {token.token.replaceAll("\n", "⏎\n")}
          </button>
        ))}
      </p>
      {chosen && (
        <table className="w-full max-w-md text-[13.5px]">
          <caption className="label pb-1 text-left">Token {at + 1}: what it was chosen from</caption>
          <tbody>
            {chosen.top.map((other) => (
              <tr key={other.token} className={cx(other.token === chosen.token && "font-semibold text-accent")}>
                <td className="py-0.5 pr-3">
                  <code className="whitespace-pre">{JSON.stringify(other.token).slice(1, -1)}</code>
                </td>
                <td className="w-40 pr-3">
                  <svg viewBox="0 0 100 6" preserveAspectRatio="none" width="100%" height="6" aria-hidden className="text-accent">
                    <rect width="100" height="6" className="fill-sunken" />
                    <rect width={Math.exp(other.logprob) * 100} height="6" fill="currentColor" />
                  </svg>
                </td>
                <td className="figures text-right">{(Math.exp(other.logprob) * 100).toFixed(1)} %</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </div>
  );
}

function shade(probability: number): string {
  if (probability > 0.9) return "";
  if (probability > 0.5) return "bg-accent-soft";
  if (probability > 0.2) return "bg-warn-soft";
  return "bg-bad-soft";
}
